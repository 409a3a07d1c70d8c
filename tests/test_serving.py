import base64
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection

import numpy as np
import pytest
from PIL import Image
from serving_packages import NAME, put

import masslib
from masslib._util import manifest
from masslib.packaging import golden

pytest.importorskip("httptools", reason="the extra serve is not installed")
pytestmark = [pytest.mark.alone, pytest.mark.slow]


@pytest.fixture
def root(packages, tmp_path):
    put(packages[1], tmp_path / "models", 1)
    return tmp_path / "models"


@pytest.fixture(scope="module")
def service(packages, tmp_path_factory):
    """One service for the tests that change nothing."""
    folder = tmp_path_factory.mktemp("models")
    for version in (1, 2):
        put(packages[version], folder, version)
    with masslib.serve(folder, max_body=2**20, max_pixels=100_000, read_timeout=1.0) as server:
        yield server


def rows(packages, version=1):
    """Golden rows and the answers of a version to those of version 1."""
    x = golden(packages[1]).inputs
    with masslib.runtime.load(packages[version] / "float32.tflite") as predictor:
        return x, predictor.predict(x)


def ask(server, method, path, body=None, **headers):
    connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def png(row) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.rint(row[..., 0] * 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def infer_body(x) -> bytes:
    tensor = {"name": "input", "shape": list(x.shape), "datatype": "FP32", "data": x.reshape(-1).tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


class Load:
    """Clients that ask without pause, and check each answer against the version that it names."""

    def __init__(self, server, answers: dict[int, np.ndarray], x: np.ndarray, kind: Callable[[int], int], clients=8):
        self._port, self._answers, self._x, self._kind = server.port, answers, x, kind
        self.failed: list[str] = []
        self.ended: list[str] = []
        self.done, self.versions, self._stop = 0, set(), threading.Event()
        self._threads = [threading.Thread(target=self._client, args=(k,)) for k in range(clients)]

    def _client(self, k):
        bodies = [infer_body(row[None]) for row in self._x]
        connection, i = None, k
        while not self._stop.is_set():
            i = (i + 1) % len(bodies)
            try:
                if connection is None:
                    connection = HTTPConnection("127.0.0.1", self._port, timeout=20)
                    connection.connect()
            except ConnectionError as error:  # nobody listens: nothing was lost
                self.ended.append(repr(error))
                connection.close()
                return
            try:
                connection.request("POST", f"/v2/models/{NAME}/infer", bodies[i])
                response = connection.getresponse()
                told = json.loads(response.read())
                if response.status != 200:
                    self.failed.append(str(told))
                    continue
                version = int(told["model_version"])
                found, expected = told["outputs"][0]["data"], self._answers[self._kind(version)][i]
                if not np.allclose(found, expected, atol=1e-4):
                    self.failed.append(f"wrong: {version}")
                self.versions.add(version)
                self.done += 1
                if response.will_close:
                    connection.close()
                    connection = None
            except Exception as error:
                self.failed.append(repr(error))
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_three_protocols_give_the_answers_of_the_predictor(service, packages):
    x, expected = rows(packages, 2)
    status, _, body = ask(service, "POST", f"/v2/models/{NAME}/infer", infer_body(x))
    told = json.loads(body)
    assert (status, told["model_version"], told["outputs"][0]["shape"]) == (200, "2", list(expected.shape))
    np.testing.assert_allclose(np.reshape(told["outputs"][0]["data"], expected.shape), expected, atol=1e-5)
    np.testing.assert_allclose(service.predict(x, NAME), expected, atol=1e-5)
    columns = json.dumps({"inputs": x.tolist()}).encode()
    _, _, body = ask(service, "POST", f"/v1/models/{NAME}/versions/2:predict", columns)
    np.testing.assert_allclose(json.loads(body)["outputs"], expected, atol=1e-5)
    for row, answer in zip(x[:4], expected[:4], strict=True):
        told = service.classify(png(row), top=3)
        assert [entry["label"] for entry in told["labels"]] == [str(k) for k in np.argsort(-answer)[:3]]
        np.testing.assert_allclose(
            [entry["probability"] for entry in told["labels"]], np.sort(answer)[:-4:-1], atol=0.02
        )


def test_an_older_version_is_asked_by_its_number_and_photos_come_in_base64(service, packages):
    x, expected = rows(packages, 1)
    np.testing.assert_allclose(service.predict(x, NAME, version=1), expected, atol=1e-5)
    assert service.classify(png(x[0]), version=1)["version"] == 1
    photo = {"b64": base64.b64encode(png(x[0])).decode()}
    body = json.dumps({"examples": [photo]}).encode()
    _, _, body = ask(service, "POST", f"/v1/models/{NAME}/versions/1:classify", body)
    (result,) = json.loads(body)["results"]
    assert result[0][0] == str(expected[0].argmax())


def test_a_photo_in_a_form_is_answered(service, packages):
    x, _ = rows(packages)
    data = png(x[0])
    form = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    form += data + b"\r\n--b--\r\n"
    status, _, body = ask(service, "POST", "/classify", form, content_type="multipart/form-data; boundary=b")
    assert status == 200
    assert json.loads(body)["labels"] == service.classify(data)["labels"]


def test_photos_are_decoded_as_in_training(service, packages, tmp_path):
    from masslib._util.photos import Decoder

    pixels = np.random.default_rng(0).integers(0, 256, (61, 47, 3), np.uint8)
    expected_input = None
    for kind in ("PNG", "JPEG", "WEBP"):
        path = tmp_path / f"photo.{kind.lower()}"
        Image.fromarray(pixels).save(path)
        decoder = Decoder((8, 8), 1, "stretch", 10**6, ("PNG", "JPEG", "WEBP"))
        expected_input = decoder(path)[None] * np.float32(manifest.read(packages[2])["preprocessing"]["scale"])
        with masslib.runtime.load(packages[2] / "float32.tflite") as predictor:
            expected = predictor.predict(expected_input)[0]
        told = service.classify(path, top=10)
        found = {entry["label"]: entry["probability"] for entry in told["labels"]}
        np.testing.assert_allclose([found[str(k)] for k in range(10)], expected, atol=1e-5)


def test_tritonclient_and_kserve_are_answered(service, packages):
    client = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
    x, expected = rows(packages, 2)
    with client.InferenceServerClient(f"127.0.0.1:{service.port}") as triton:
        assert triton.is_server_live() and triton.is_server_ready() and triton.is_model_ready(NAME)
        assert triton.get_model_metadata(NAME)["inputs"][0]["shape"] == [-1, 8, 8, 1]
        output = triton.get_model_metadata(NAME)["outputs"][0]["name"]
        for binary in (True, False):
            entry = client.InferInput("input", list(x.shape), "FP32")
            entry.set_data_from_numpy(x, binary_data=binary)
            wanted = [client.InferRequestedOutput(output, binary_data=binary)]
            result = triton.infer(NAME, [entry], outputs=wanted, model_version="2", request_id="mine")
            np.testing.assert_allclose(result.as_numpy(output), expected, atol=1e-5)
            assert result.get_response()["id"] == "mine"
        with pytest.raises(client.InferenceServerException, match="expected input"):
            triton.infer(NAME, [client.InferInput("other", [1], "FP32").set_data_from_numpy(np.ones(1, "float32"))])


@pytest.mark.parametrize(
    "method, path, body, status, words",
    [
        ("GET", "/nothing", None, 404, "openapi"),
        ("GET", "/v2/models/../../etc/passwd", None, 404, "no model"),
        ("GET", f"/v2/models/{NAME}/versions/9", None, 404, "no version"),
        ("GET", f"/v1/models/{NAME}/labels/blue", None, 404, "no label"),
        ("PUT", "/classify", b"", 405, "POST"),
        ("POST", "/classify", b"\x89PNG\r\n\x1a\n", 400, "no PNG"),
        ("POST", "/classify?top=0", b"x", 400, "top"),
        ("POST", f"/v2/models/{NAME}/infer", b"{", 400, "JSON"),
        ("POST", f"/v2/models/{NAME}/infer", b"[]", 400, "object"),
        ("POST", f"/v2/models/{NAME}/infer", infer_body(np.ones((1, 3))), 400, "expected"),
        ("POST", f"/v2/models/{NAME}/infer", b'{"inputs": [{"name": "input"}]}', 400, "shape"),
        ("POST", f"/v1/models/{NAME}:predict", b'{"instances": [["a"]]}', 400, "numbers"),
        ("POST", f"/v1/models/{NAME}:predict", b'{"instances": [[1], [1, 2]]}', 400, "lengths"),
        ("POST", f"/v1/models/{NAME}:predict", b'{"instances": []}', 400, "at least one"),
        ("POST", f"/v1/models/{NAME}:predict", b'{"instances": [NaN]}', 400, "JSON"),
        ("POST", f"/v1/models/{NAME}:predict", b'{"instances": [1e999]}', 400, ""),
        ("POST", "/feedback", b"{}", 409, "record"),
        ("POST", "/classify", b"x" * (2**20 + 1), 413, "bytes"),
    ],
)
def test_what_is_wrong_is_said(service, method, path, body, status, words):
    found, _, answer = ask(service, method, path, body)
    assert found == status
    assert words in json.loads(answer)["error"]
    assert str(os.getcwd()) not in answer.decode() and "Traceback" not in answer.decode()


def test_nan_in_binary_and_a_bomb_are_refused(service):
    bad = np.full((1, 8, 8, 1), np.nan, np.float32)
    tensor = {
        "name": "input",
        "shape": [1, 8, 8, 1],
        "datatype": "FP32",
        "parameters": {"binary_data_size": bad.nbytes},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    path, length = f"/v2/models/{NAME}/infer", str(len(head))
    status, _, body = ask(service, "POST", path, head + bad.tobytes(), inference_header_content_length=length)
    assert status == 400 and "NaN" in json.loads(body)["error"]
    stream = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(stream, "PNG")
    status, _, body = ask(service, "POST", "/classify", stream.getvalue())
    assert status == 400 and "too large" in json.loads(body)["error"]


def test_slow_and_endless_clients_are_cut_off(service):
    def talk(*parts: bytes, pause: float = 0.0) -> bytes:
        with socket.create_connection(("127.0.0.1", service.port), timeout=10) as sock:
            for part in parts:
                try:
                    sock.sendall(part)
                except (BrokenPipeError, ConnectionResetError):
                    break
                time.sleep(pause)
            return sock.recv(1000)

    assert b" 408 " in talk(b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx")
    assert b" 431 " in talk(b"GET / HTTP/1.1\r\n" + b"a: " + b"b" * 100_000)
    assert b" 431 " in talk(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000)
    assert b" 414 " in talk(b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n")
    assert b" 400 " in talk(b"\x16\x03\x01nonsense\r\n\r\n")
    chunk = b"fffff\r\n" + b"x" * 0xFFFFF + b"\r\n"
    assert b" 413 " in talk(
        b"POST /classify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", chunk, chunk
    )
    assert service.status()["ready"]


def test_requests_in_one_packet_are_answered_in_order(service):
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as sock:
        ids = [f"request-{k}" for k in range(8)]
        sock.sendall(
            b"".join(f"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: {name}\r\n\r\n".encode() for name in ids)
        )
        found = b""
        while found.count(b"HTTP/1.1 200") < len(ids) or not found.endswith(b"}"):
            found += sock.recv(65536)
    assert re.findall(rb"x-request-id: (\S+)", found) == [name.encode() for name in ids]


def test_other_names_are_refused_on_loopback(service):
    assert ask(service, "GET", "/status", host="evil.example")[0] == 421
    assert ask(service, "GET", "/status", host=f"localhost:{service.port}")[0] == 200


def test_the_page_may_run_its_own_script_only(service):
    status, headers, body = ask(service, "GET", "/")
    assert status == 200 and "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert b"http://" not in body.replace(b"http://www.w3.org/2000/svg", b"") and b"https://" not in body


def test_tensorflow_is_not_imported_and_little_memory_is_taken(service):
    for pid in (service.pid, *service.pids):
        with open(f"/proc/{pid}/maps") as maps:
            assert "tensorflow/python" not in maps.read() and service.pids
    with open(f"/proc/{service.pids[0]}/smaps_rollup") as rollup:
        kilobytes = int(re.search(r"Pss:\s+(\d+)", rollup.read())[1])
    assert kilobytes < 150_000


def test_metrics_and_log_tell_what_happened(service, packages):
    x, _ = rows(packages)
    service.classify(png(x[0]))
    text = service.metrics()
    for name in (
        "masslib_stage_seconds_bucket",
        "masslib_batch_rows_sum",
        "masslib_predicted_total",
        "masslib_errors_total",
    ):
        assert name in text
    ready = [line for line in service.log() if line["event"] == "ready"]
    assert ready[0]["port"] == service.port


@pytest.mark.parametrize("swaps, rollbacks", [(10, 1), pytest.param(50, 5, marks=pytest.mark.exhaustive)])
def test_swaps_and_rollbacks_under_load_lose_and_mix_nothing(packages, root, swaps, rollbacks):
    x = golden(packages[1]).inputs
    answers = {version: rows(packages, version)[1] for version in packages}
    kind = lambda version: 1 + (version - 1) % 3  # noqa: E731
    with masslib.serve(root, workers=2) as server, Load(server, answers, x, kind) as load:
        for version in range(2, swaps + 2):
            put(packages[kind(version)], root, version)
            server.wait(NAME, version)
        for _ in range(rollbacks):
            _versions(root, "--rollback")
            _until(lambda: server.classify(png(x[0]))["version"] == swaps)
            _versions(root, "--remove", "stable")
            _until(lambda: server.classify(png(x[0]))["version"] == swaps + 1)
        time.sleep(0.5)
    assert not load.failed
    assert load.done > 100 and load.versions >= {swaps, swaps + 1}


def _versions(root, *arguments):
    subprocess.run(
        [sys.executable, "-m", "masslib", "versions", str(root), NAME, *arguments], check=True, capture_output=True
    )


def _until(true: Callable[[], bool], seconds: float = 10):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def _flip(folder):
    path = folder / "float32.tflite"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _wrong_rows(folder):
    with np.load(folder / "golden.npz") as arrays:
        changed = {name: array if name.startswith("inputs") else array + 1 for name, array in arrays.items()}
    np.savez(folder / "golden.npz", **changed)
    facts = json.loads((folder / "manifest.json").read_bytes())
    facts = {key: value for key, value in facts.items() if key not in ("seal", "files")}
    (folder / "manifest.json").unlink()
    manifest.write(folder, **facts)


def _nonsense(folder):
    """A file whose checksum is right and which is none."""
    (folder / "float32.tflite").write_bytes(b"\x1c\0\0\0TFL3" + os.urandom(4000))
    facts = json.loads((folder / "manifest.json").read_bytes())
    facts = {key: value for key, value in facts.items() if key not in ("seal", "files")}
    (folder / "manifest.json").unlink()
    manifest.write(folder, **facts)


@pytest.mark.parametrize(
    "spoil, words",
    [
        (_flip, "changed"),
        (_wrong_rows, "otherwise"),
        (lambda folder: (folder / "golden.npz").unlink(), "missing"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"{}"), "manifest"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest"),
        (_nonsense, ""),
    ],
    ids=["flipped bit", "wrong rows", "missing file", "empty manifest", "no manifest", "nonsense"],
)
def test_a_spoilt_version_never_serves_and_says_why(packages, root, tmp_path, spoil, words):
    spoilt = shutil.copytree(packages[2], tmp_path / "spoilt")
    spoil(spoilt)
    with masslib.serve(root) as server:
        put(spoilt, root, 2)
        with pytest.raises(ValueError, match=f"refused: .*{words}"):
            server.wait(NAME, 2)
        assert server.predict(golden(packages[1]).inputs[:1], NAME)
        assert list(server.status()["models"][NAME]["versions"]) == ["1"]
        shutil.rmtree(root / NAME / "2")
        put(packages[2], root, 2)
        _until(lambda: "2" in server.status()["models"][NAME]["versions"])


def test_canary_shadow_and_labels(packages, root):
    x, _ = rows(packages)
    put(packages[2], root, 2)
    put(packages[3], root, 3)
    with masslib.serve(root, keep=3) as server:
        _versions(root, "--set", "canary", "3", "--share", "0.5")
        _versions(root, "--set", "shadow", "1")
        _until(lambda: set(server.status()["models"][NAME]["labels"]) == {"stable", "canary", "shadow"})
        assert server.status()["models"][NAME]["labels"]["stable"] == 2
        found = [server.classify(png(x[0]))["version"] for _ in range(100)]
        assert set(found) == {2, 3} and 20 < found.count(3) < 80
        assert server.predict(x[:1], NAME, label="canary") == server.predict(x[:1], NAME, version=3)
        _until(lambda: "masslib_shadow_total" in server.metrics())
        same = re.findall(r'masslib_shadow_total\{.*version="1"\} (\S+)', server.metrics())
        assert sum(map(float, same)) >= 90


def test_a_killed_worker_costs_its_own_requests_and_comes_back(packages, root):
    x, answers = rows(packages)
    with masslib.serve(root, workers=2) as server, Load(server, {1: answers}, x, lambda version: 1) as load:
        time.sleep(1)
        os.kill(server.pids[0], signal.SIGKILL)
        killed = time.monotonic()
        _until(lambda: server.status()["restarts"] == 1)
        assert time.monotonic() - killed < 5
        time.sleep(1)
        before = load.done
        time.sleep(1)
        assert load.done > before
    assert len(load.failed) <= 8 and not any("wrong" in what for what in load.failed)


def test_sigterm_under_load_loses_nothing(packages, root):
    x, answers = rows(packages)
    server = masslib.serve(root, workers=2)
    with Load(server, {1: answers}, x, lambda version: 1) as load:
        time.sleep(1)
        server.stop()
    assert not load.failed
    assert load.done > 100 and load.ended
    assert "ended" in [line["event"] for line in server.log()]
    for pid in server.pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_full_queue_says_when_to_come_back(packages, root):
    x, _ = rows(packages)
    with masslib.serve(root, queue=4, max_wait=0.5) as server:
        results: list = []
        threads = [
            threading.Thread(
                target=lambda: results.append(ask(server, "POST", f"/v2/models/{NAME}/infer", infer_body(x[:1])))
            )
            for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    statuses = [status for status, _, _ in results]
    assert set(statuses) == {200, 503}
    assert all(int(headers["retry-after"]) >= 1 for status, headers, _ in results if status == 503)


def test_tokens_let_in(packages, root, tmp_path):
    (tmp_path / "tokens").write_text("a" * 32 + "\n")
    with masslib.serve(root, token_file=str(tmp_path / "tokens")) as server:
        assert ask(server, "GET", "/v2/health/ready")[0] == 200
        assert ask(server, "GET", "/status")[0] == 401
        assert ask(server, "GET", "/status", authorization="Bearer " + "b" * 32)[0] == 401
        assert ask(server, "GET", "/status", authorization="Bearer " + "a" * 32)[0] == 200


def test_drift_that_is_planted_is_noticed(packages, root):
    splits = masslib.data.load("digits")
    x = splits.valid[:][0]
    with masslib.serve(root, drift_window=60.0) as server:
        for _ in range(400 // len(x) + 1):
            server.predict(x, NAME)
            time.sleep(0.01)
        drift = server.status()["models"][NAME]["versions"]["1"]["drift"]
        assert max(entry["psi"] for entry in drift.values()) < 0.1
        for _ in range(800 // len(x) + 1):
            server.predict(np.clip(x * 0.5 + 0.4, 0, 1), NAME)
            time.sleep(0.01)
        drift = server.status()["models"][NAME]["versions"]["1"]["drift"]
        assert drift["input mean"]["psi"] > 0.25
        assert 'masslib_drift{feature="input mean",measure="psi"' in server.metrics()


def test_answers_are_recorded_corrected_and_trained_from(packages, root, tmp_path):
    x, answers = rows(packages)
    path = tmp_path / "answers.sqlite"
    with masslib.serve(root, workers=2, record=str(path)) as server:
        told = [server.classify(png(row)) for row in x[:5]]
        server.predict(x[5:8], NAME)
        body = json.dumps({"request_id": told[0]["request_id"], "label": "7"}).encode()
        assert ask(server, "POST", "/feedback", body, content_type="application/json")[0] == 200
        wrong = json.dumps({"request_id": told[0]["request_id"], "label": "cat"}).encode()
        assert ask(server, "POST", "/feedback", wrong, content_type="application/json")[0] == 400
        assert ask(server, "POST", "/feedback", body, content_type="text/plain")[0] == 415
        unknown = json.dumps({"request_id": "nobody", "label": "7"}).encode()
        assert ask(server, "POST", "/feedback", unknown, content_type="application/json")[0] == 404
    corrected = masslib.data.from_records(path, model=NAME)
    assert len(corrected) == 1 and corrected.y.tolist() == [7] and corrected.classes == [str(k) for k in range(10)]
    np.testing.assert_allclose(corrected[:][0], x[:1], atol=1 / 255)
    everything = masslib.data.from_records(path, unlabelled="answer")
    assert len(everything) == 8
    assert sorted(everything.y.tolist()) == sorted([7, *answers[1:8].argmax(axis=1).tolist()])


def test_wrong_settings_are_refused_before_anything_starts(tmp_path):
    with pytest.raises(ValueError, match="no folder"):
        masslib.serve(tmp_path / "nothing")
    with pytest.raises(ValueError, match="record_share=2"):
        masslib.serve(tmp_path, record_share=2)
    with pytest.raises(ValueError, match="unexpected keyword"):
        masslib.serve(tmp_path, colour="blue")
    (tmp_path / "tokens").write_text("short")
    with pytest.raises(ValueError, match="16 characters"):
        masslib.serve(tmp_path, token_file=str(tmp_path / "tokens"))


def test_several_named_inputs_and_outputs_are_asked_by_name(packages, root, tmp_path):
    import keras

    one, two = keras.Input((3,), name="one"), keras.Input((2,), name="two")
    joined = keras.layers.Concatenate()([one, two])
    outputs = {"sum": keras.layers.Dense(1, name="sum")(joined), "parts": keras.layers.Dense(4, name="parts")(joined)}
    model = keras.Model({"one": one, "two": two}, outputs)
    rng = np.random.default_rng(0)
    x = {"one": rng.random((6, 3), np.float32), "two": rng.random((6, 2), np.float32)}
    folder = root / "pair" / "1"
    _package(model, x, folder)
    expected = {name: np.asarray(answer) for name, answer in model(x).items()}
    with masslib.serve(root) as server:
        tensors = [
            {"name": name, "shape": list(array.shape), "datatype": "FP32", "data": array.tolist()}
            for name, array in x.items()
        ]
        status, _, body = ask(server, "POST", "/v2/models/pair/infer", json.dumps({"inputs": tensors}).encode())
        assert status == 200, body
        found = {entry["name"]: np.reshape(entry["data"], entry["shape"]) for entry in json.loads(body)["outputs"]}
        rows_ = [{name: array[k].tolist() for name, array in x.items()} for k in range(6)]
        by_row, by_column = server.predict(rows_, "pair"), server.predict(x, "pair")
        for name, answer in expected.items():
            np.testing.assert_allclose(by_column[name], answer, atol=1e-5)
            np.testing.assert_allclose(found[name], answer, atol=1e-5)
            np.testing.assert_allclose([row[name] for row in by_row], answer, atol=1e-5)
        wrong = json.dumps({"inputs": tensors[:1]}).encode()
        status, _, body = ask(server, "POST", "/v2/models/pair/infer", wrong)
        assert status == 400 and "expected" in json.loads(body)["error"]


def test_an_encoder_and_a_decoder_write_through_the_service_what_they_write_in_keras(root):
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    letters = keras.Input((8,), dtype="int32", name="letters")
    memory, known = layers.GRU(16, return_sequences=True, return_state=True)(layers.Embedding(9, 16)(letters))
    given = {name: keras.Input(shape, name=name) for name, shape in (("memory", (8, 16)), ("state", (16,)))}
    given["before"] = keras.Input((1,), dtype="int32", name="before")
    sequence = {"return_sequences": True, "return_state": True}
    heard, state = layers.GRU(16, **sequence)(layers.Embedding(9, 16)(given["before"]), initial_state=given["state"])
    scores = layers.Dense(9)(heard + layers.Attention()([heard, given["memory"]]))
    parts = {
        "encode": keras.Model({"letters": letters}, {"memory": memory, "state": known}),
        "decode": keras.Model(given, {"scores": scores, "state": state}),
    }

    def written(ask_one, words, steps=6):
        known, said = ask_one("encode", {"letters": words}), np.zeros((len(words), 1), "int32")
        while said.shape[1] <= steps:
            answer = ask_one("decode", {**known, "before": said[:, -1:]})
            known["state"] = answer["state"]
            said = np.append(said, np.argmax(answer["scores"], axis=2).astype("int32"), axis=1)
        return said

    words = np.random.default_rng(0).integers(1, 9, (4, 8)).astype("int32")
    in_keras = written(lambda name, x: parts[name].predict(x, verbose=0), words)
    encoded = parts["encode"].predict({"letters": words}, verbose=0)
    for name, x in (("encode", {"letters": words}), ("decode", {**encoded, "before": words[:, :1]})):
        _package(parts[name], x, root / name / "1", batch_size=1)
    with masslib.serve(root) as server:
        by_service = written(lambda name, x: server.predict(x, name), words)
    np.testing.assert_array_equal(by_service, in_keras)
    assert len(np.unique(in_keras)) > 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["packed", "packed-int8", "packed-dynamic"])
def test_packed_files_are_served(name, tmp_path):
    splits = masslib.data.load("digits")
    model = masslib.models.mlp(splits.input_shape, splits.num_classes)
    model.compile("adam", "sparse_categorical_crossentropy")
    folder = masslib.package(model, tmp_path / "models" / NAME / "1", splits, formats=[name], verbose=False)
    x = splits.test[:20][0]
    with masslib.runtime.load(next(folder.glob("*.packed"))) as predictor:
        expected = predictor.predict(x)
    with masslib.serve(tmp_path / "models") as server:
        np.testing.assert_allclose(server.predict(x, NAME), expected, atol=1e-6)


def _package(model, x, folder, batch_size=None):
    """What `package` writes, for a model with several inputs."""
    from masslib.packaging import _golden, reference

    folder.mkdir(parents=True)
    masslib.export.tflite(model, folder / "float32.tflite", batch_size=batch_size)
    with masslib.runtime.load(folder / "float32.tflite") as predictor:
        answers = predictor.predict(x)
    (folder / "MODEL_CARD.md").write_text("# pair\n")
    manifest.write(
        folder,
        format=_golden.FORMAT,
        models={"tflite": {"file": "float32.tflite"}},
        data={"classes": None},
        model={"name": "pair"},
        golden=_golden.write(folder, _golden.Golden(x, {"tflite": answers})),
        reference=reference.describe(list(x.values()), list(answers.values())),
    )
