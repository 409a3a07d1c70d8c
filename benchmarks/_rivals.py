"""The rivals of `serving.py`: the same TFLite file behind other servers, each as its own documentation has it.

    python benchmarks/_rivals.py fastapi|litserve|bentoml|mlserver|ray FILE PORT

Each answers a tensor of numbers as JSON and a photo as PNG, with one process and one thread for the model. Run it with
the Python of an environment that holds the server.
"""

import io
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image


class Model:
    """LiteRT without anything around it."""

    def __init__(self, path: str):
        self._interpreter = Interpreter(model_path=path, num_threads=1)
        self._interpreter.allocate_tensors()
        (entry,), (answer,) = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self.shape = tuple(entry["shape"])
        self._input, self._output = entry["index"], answer["index"]

    def predict(self, x: np.ndarray) -> np.ndarray:
        if x.shape != self.shape:
            self._interpreter.resize_tensor_input(self._input, x.shape)
            self._interpreter.allocate_tensors()
            self.shape = x.shape
        self._interpreter.set_tensor(self._input, x)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)

    def photo(self, data: bytes) -> np.ndarray:
        height, width, channels = self.shape[1:]
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB").resize((width, height)))
        return self.predict(pixels.reshape(1, height, width, channels).astype(np.float32) / np.float32(255))


def fastapi(path: str, port: int) -> None:
    import uvicorn
    from fastapi import FastAPI, Request

    app, model = FastAPI(), Model(path)

    @app.post("/predict")
    async def predict(request: Request):
        rows = np.asarray((await request.json())["instances"], np.float32)
        return {"predictions": model.predict(rows).tolist()}

    @app.post("/photo")
    async def photo(request: Request):
        return {"predictions": model.photo(await request.body()).tolist()}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


def litserve(path: str, port: int) -> None:
    # Its workers are spawned, so the classes have to stand in a module.
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
import os, litserve, numpy as np
from fastapi import UploadFile
from _rivals import Model

class Tensors(litserve.LitAPI):
    def setup(self, device): self.model = Model({path!r})
    def decode_request(self, request): return np.asarray(request["instances"], np.float32)
    def predict(self, x): return self.model.predict(x)
    def encode_response(self, output): return {{"predictions": output.tolist()}}

class Photos(Tensors):
    def decode_request(self, request: UploadFile): return request.file.read()
    def predict(self, data): return self.model.photo(data)

if __name__ == "__main__":
    api = Photos(api_path="/photo") if os.environ.get("PHOTOS") else Tensors(api_path="/predict")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port={port}, num_api_servers=1, generate_client_file=False, log_level="warning")
"""
    file = Path(tempfile.mkdtemp(), "rival.py")
    file.write_text(code, encoding="utf-8")
    os.execv(sys.executable, [sys.executable, str(file)])


def bentoml(path: str, port: int) -> None:
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
import bentoml, numpy as np
from pathlib import Path
from _rivals import Model

@bentoml.service(workers=1)
class Service:
    def __init__(self): self.model = Model({path!r})

    @bentoml.api
    def predict(self, instances: list) -> list:
        return self.model.predict(np.asarray(instances, np.float32)).tolist()

    @bentoml.api
    def photo(self, photo: Path) -> list:
        return self.model.photo(photo.read_bytes()).tolist()
"""
    folder = tempfile.mkdtemp()
    Path(folder, "rival.py").write_text(code, encoding="utf-8")
    os.chdir(folder)
    command = [sys.executable, "-m", "bentoml", "serve", "rival:Service", "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, command)


def mlserver(path: str, port: int) -> None:
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
import base64, mlserver, numpy as np
from mlserver import types
from _rivals import Model

class Runtime(mlserver.MLModel):
    async def load(self) -> bool:
        self.model = Model({path!r})
        return True

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        entry = payload.inputs[0]
        if entry.datatype == "BYTES":
            y = self.model.photo(base64.b64decode(entry.data.root[0]))
        else:
            y = self.model.predict(np.asarray(entry.data.root, np.float32).reshape(entry.shape))
        data = types.TensorData(root=y.ravel().tolist())
        output = types.ResponseOutput(name="output", shape=list(y.shape), datatype="FP32", data=data)
        return types.InferenceResponse(model_name=self.name, outputs=[output])
"""
    folder = Path(tempfile.mkdtemp())
    (folder / "rival.py").write_text(code, encoding="utf-8")
    ports = f'"http_port": {port}, "grpc_port": {port + 1}, "metrics_port": {port + 2}'
    (folder / "settings.json").write_text(f'{{"host": "127.0.0.1", {ports}, "parallel_workers": 0, "debug": false}}')
    (folder / "model-settings.json").write_text('{"name": "rival", "implementation": "rival.Runtime"}')
    command = Path(sys.executable).with_name("mlserver")
    os.environ["PYTHONPATH"] = str(folder)
    os.execv(command, [str(command), "start", str(folder)])


def ray(path: str, port: int) -> None:
    import signal

    from ray import serve

    @serve.deployment
    class Service:
        def __init__(self):
            self.model = Model(path)

        async def __call__(self, request):
            if request.url.path == "/photo":
                return {"predictions": self.model.photo(await request.body()).tolist()}
            rows = np.asarray((await request.json())["instances"], np.float32)
            return {"predictions": self.model.predict(rows).tolist()}

    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Service.bind(), route_prefix="/")
    signal.pause()


if __name__ == "__main__":
    name, file, number = sys.argv[1:]
    {"fastapi": fastapi, "litserve": litserve, "bentoml": bentoml, "mlserver": mlserver, "ray": ray}[name](
        file, int(number)
    )
