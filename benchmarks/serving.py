"""The service beside LitServe, BentoML, MLServer, FastAPI and Ray Serve: the same TFLite file, in turns, in one run.

The server runs on the first core, the load on the second. Requests are a tensor and a PNG photo, on 1, 8 and 64
connections; tensors are JSON, for masslib and MLServer those of the Open Inference Protocol. The column CPU is what all
processes of the server took per request, in us. Rivals run where their Python is named: RIVALS=/path/to/python for the
first, MLSERVER=/path/to/python, which needs packages of its own.

    python benchmarks/serving.py [FOLDER] [--seconds 3] [--rounds 3] [--only fastapi,mlserver]
    python benchmarks/serving.py --resnet50

FOLDER holds one package, `name/version/`; without it LeNet-5 is trained on Fashion-MNIST for an epoch. Targets: 1.5
times the best rival at 8 and 64 connections, p99 at 64 connections at most 150 ms and below theirs, no errors; at one
connection at most 0.6 ms above the bare predictor at the median. --resnet50 asks for something else: whether the
service answers at least 0.95 times as many tensors as the bare predictor on the same core, with a file of 100 MB.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import masslib
from masslib.packaging import golden
from masslib.serving import store

import numpy as np
from _load import Measured, load, request

HERE = Path(__file__).parent
CONNECTIONS = (1, 8, 64)
RIVALS = ("fastapi", "litserve", "bentoml", "mlserver", "ray")
START_SECONDS = 120


def main() -> int:
    options = _options()
    folder = Path(options.folder or (_resnet50() if options.resnet50 else _trained()))
    (name,) = store.models(folder)
    version = max(store.versions(folder, name))
    package = folder / name / str(version)
    facts = json.loads((package / "manifest.json").read_bytes())
    file = package / facts["models"]["tflite"]["file"]
    x = np.asarray(golden(package).inputs)[:1]
    if options.resnet50:
        return _beside_bare(options, folder, name, file, x)
    photo = _png(x[0])
    os.sched_setaffinity(0, {1})
    bare = _bare(file, x)
    print(f"{name}: {file.stat().st_size / 1e6:.1f} MB, bare predictor {bare * 1000:.3f} ms")
    found: dict[tuple[str, str, int], list[Measured]] = defaultdict(list)
    names = ["masslib", *(rival for rival in RIVALS if rival in options.only.split(",") and _python(rival))]
    for round_ in range(options.rounds):
        for server in names if round_ % 2 == 0 else names[::-1]:
            for kind in ("tensor", "photo"):
                try:
                    with _server(server, kind, folder, file) as (port, pid):
                        data = _request(server, kind, name, x, photo)
                        load(port, data, 8, 0.5)
                        for connections in CONNECTIONS:
                            before = _cpu(pid)
                            measured = load(port, data, connections, options.seconds)
                            measured.cpu = (_cpu(pid) - before) / max(1, measured.rate * options.seconds) * 1e6
                            found[server, kind, connections].append(measured)
                except (OSError, TimeoutError) as error:
                    print(f"{server} {kind}: {error}")
    return _verdict(found, names, bare)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--resnet50", action="store_true")
    parser.add_argument("--only", default=",".join(RIVALS))
    return parser.parse_args()


def _trained() -> str:
    """A package of LeNet-5."""
    splits, folder = masslib.data.load("fashion_mnist"), tempfile.mkdtemp()
    model = masslib.models.lenet5(splits.input_shape, splits.num_classes)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    masslib.fit(model, splits.train, batch_size=128, epochs=1, verbose=0)
    masslib.package(model, f"{folder}/lenet5/1", splits, formats=["tflite"], verbose=False)
    return folder


def _resnet50() -> str:
    """A package of ResNet-50 with the weights it starts with, and a few photos of noise: they cost the same."""
    import keras

    random, folder = np.random.default_rng(0), tempfile.mkdtemp()
    x, y = random.random((24, 224, 224, 3), np.float32), np.arange(24) % 1000
    splits = masslib.data.Splits.from_arrays((x[:8], y[:8]), (x[8:16], y[8:16]), (x[16:], y[16:]))
    model = keras.applications.ResNet50(weights=None)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    masslib.package(model, f"{folder}/resnet50/1", splits, formats=["tflite"], scale=1 / 255, verbose=False)
    return folder


def _beside_bare(options: argparse.Namespace, folder: Path, name: str, file: Path, x: np.ndarray) -> int:
    """In turns on the first core: the bare predictor, and the service with 1 and 8 connections."""
    head = {"name": "input", "shape": list(x.shape), "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
    with masslib.runtime.load(file) as predictor:
        (head["name"],) = predictor.input_names
    told = json.dumps({"inputs": [head], "parameters": {"binary_data_output": True}}).encode()
    data = request(
        f"/v2/models/{name}/infer", told + x.tobytes(), "application/octet-stream",
        Inference_Header_Content_Length=str(len(told)),
    )  # fmt: skip
    shares: dict[int, list[float]] = defaultdict(list)
    with _server("masslib", "tensor", folder, file) as (port, _):
        for _ in range(options.rounds):
            os.sched_setaffinity(0, {0})
            bare = _bare(file, x)
            os.sched_setaffinity(0, {1})
            for connections in (1, 8):
                found = load(port, data, connections, options.seconds)
                shares[connections].append(0 if found.errors else found.rate * bare)
                print(f"bare {1 / bare:.2f}/s, service c={connections}: {found.rate:.2f}/s, p99 {found.p99:.0f} ms")
    medians = {connections: statistics.median(share) for connections, share in shares.items()}
    for connections, share in medians.items():
        print(f"{file.stat().st_size / 1e6:.0f} MB, c={connections}: {share:.3f} of the bare predictor")
    return min(medians.values()) < 0.95


def _png(row: np.ndarray) -> bytes:
    import io

    from PIL import Image

    pixels, stream = np.rint(row * 255).astype(np.uint8), io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(stream, "PNG")
    return stream.getvalue()


def _bare(file: Path, x: np.ndarray) -> float:
    with masslib.runtime.load(file) as predictor:
        predictor.predict(x)
        times = []
        while len(times) < 200 and sum(times) < 3:
            start = time.perf_counter()
            predictor.predict(x)
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def _python(rival: str) -> str | None:
    return os.environ.get("MLSERVER" if rival == "mlserver" else "RIVALS")


@contextmanager
def _server(server: str, kind: str, folder: Path, file: Path) -> Iterator[tuple[int, int]]:
    """A server on the first core; ends with the block, with all that it started."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    if server == "masslib":
        command = [sys.executable, "-m", "masslib", "serve", str(folder), "--port", str(port), "--workers", "1"]
    else:
        command = [_python(server) or "", str(HERE / "_rivals.py"), server, str(file), str(port)]
    environment = {**os.environ, "PHOTOS": "1" if kind == "photo" else "", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        ["taskset", "-c", "0", *command], env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait(process, port)
        yield port, process.pid
    finally:
        for number, seconds in ((signal.SIGTERM, 20), (signal.SIGKILL, 10)):
            try:
                os.killpg(process.pid, number)
                process.wait(seconds)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue


def _cpu(session: int) -> float:
    """Seconds of CPU that the processes of a session have taken so far."""
    total = 0.0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session:
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def _wait(process: subprocess.Popen, port: int) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise OSError(f"ended with status {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
            continue
        time.sleep(3)  # some listen before they can answer
        return
    raise TimeoutError("did not listen")


def _request(server: str, kind: str, name: str, x: np.ndarray, photo: bytes) -> bytes:
    tensor = {"name": "input", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
    rows, form = json.dumps({"instances": x.tolist()}).encode(), "multipart/form-data; boundary=b"
    if server == "masslib" and kind == "tensor":
        return request(f"/v2/models/{name}/infer", json.dumps({"inputs": [tensor]}).encode(), "application/json")
    if server == "masslib":
        return request("/classify", photo, "image/png")
    if server == "mlserver":
        if kind == "photo":
            data = [base64.b64encode(photo).decode()]
            tensor = {"name": "input", "shape": [1], "datatype": "BYTES", "data": data}
        return request("/v2/models/rival/infer", json.dumps({"inputs": [tensor]}).encode(), "application/json")
    if kind == "tensor":
        return request("/predict", rows, "application/json")
    if server in ("litserve", "bentoml"):
        field = "request" if server == "litserve" else "photo"
        about = f'Content-Disposition: form-data; name="{field}"; filename="p.png"'
        head = f"--b\r\n{about}\r\nContent-Type: image/png\r\n\r\n".encode()
        return request("/photo", head + photo + b"\r\n--b--\r\n", form)
    return request("/photo", photo, "image/png")


def _verdict(found: dict[tuple[str, str, int], list[Measured]], names: list[str], bare: float) -> int:
    """Print the table (medians of the rounds) and whether the targets were met."""
    print(f"{'server':10} {'':7} " + " ".join(f"{f'c={c}: req/s p50 p99 err CPU':>34}" for c in CONNECTIONS))
    median = {
        key: [statistics.median(getattr(run, what) for run in runs) for what in ("rate", "p50", "p99", "errors", "cpu")]
        for key, runs in found.items()
    }
    for server in names:
        for kind in ("tensor", "photo"):
            cells = [median.get((server, kind, c), [0] * 5) for c in CONNECTIONS]
            row = " ".join(f"{r:>7.0f} {p:>6.1f} {q:>7.1f} {e:>4.0f} {u:>6.0f}" for r, p, q, e, u in cells)
            print(f"{server:10} {kind:7} {row}")
    missed = []
    for kind in ("tensor", "photo"):
        over = median["masslib", kind, 1][1] - bare * 1000
        print(f"{kind}: {over:.2f} ms over the bare predictor at one connection")
        if kind == "tensor" and over > 0.6:
            missed.append("overhead")
        for c in CONNECTIONS[1:]:
            rate, _, p99, errors, _ = median["masslib", kind, c]
            # Who answers with errors is no rival.
            others = [median[s, kind, c] for s in names[1:] if (s, kind, c) in median and not median[s, kind, c][3]]
            best, slowest = max((o[0] for o in others), default=0), min((o[2] for o in others), default=float("inf"))
            print(f"{kind} c={c}: {rate / best if best else float('nan'):.2f} times the best rival, p99 {p99:.1f} ms")
            if rate < 1.5 * best or errors or (c == 64 and (p99 > 150 or p99 > slowest)):
                missed.append(f"{kind} c={c}")
    print(f"missed: {', '.join(missed)}" if missed else "all targets met")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
