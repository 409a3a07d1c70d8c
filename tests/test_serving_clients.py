"""The service beside what is not ours: a client of KServe, TLS, PostgreSQL."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from http.client import HTTPSConnection

import numpy as np
import pytest
from serving_packages import NAME, put

import masslib
from masslib.packaging import golden

pytest.importorskip("httptools", reason="the extra serve is not installed")
pytestmark = [pytest.mark.alone, pytest.mark.slow]


@pytest.fixture(scope="module")
def known(served):
    rows = golden(served / NAME / "1")
    return rows.inputs, rows.outputs["tflite"]


_KSERVE = """
import asyncio, json, sys
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

async def main(url, name, file):
    x, found = np.load(file), []
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(url) and await client.is_server_ready(url)
    assert await client.is_model_ready(url, name)
    for binary in (True, False):
        entry = InferInput("input", list(x.shape), "FP32")
        entry.set_data_from_numpy(x, binary_data=binary)
        answer = await client.infer(url, InferRequest(name, [entry], request_id="mine"), model_name=name)
        assert answer.id == "mine" and answer.model_name == name
        found.append(answer.outputs[0].as_numpy().tolist())
    first = InferenceRESTClient(RESTConfig(protocol="v1"))
    answer = await first.infer(url, {"instances": x.tolist()}, model_name=name)
    print(json.dumps([*found, answer["predictions"]]))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.skipif(
    "KSERVE" not in os.environ, reason="KSERVE names no Python with kserve, which wants an older pandas"
)
def test_the_client_of_kserve_is_answered(served, known, tmp_path):
    x, expected = known
    np.save(tmp_path / "x.npy", x)
    with masslib.serve(served) as server:
        done = subprocess.run(
            [os.environ["KSERVE"], "-c", _KSERVE, server.url, NAME, str(tmp_path / "x.npy")],
            capture_output=True, text=True, timeout=120, env={"PATH": os.environ["PATH"]}, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    for found in json.loads(done.stdout.splitlines()[-1]):
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes the certificate, is not installed")
def test_tls_and_a_token_go_together(served, known, tmp_path):
    x, expected = known
    certificate, key, tokens = (tmp_path / name for name in ("cert.pem", "key.pem", "tokens"))
    tokens.write_text("a" * 32)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    files = {"ssl_certfile": str(certificate), "ssl_keyfile": str(key), "token_file": str(tokens)}
    with masslib.serve(served, workers=2, **files) as server:
        assert server.url.startswith("https://")
        np.testing.assert_allclose(server.predict(x, NAME), expected, atol=1e-5)
        context = ssl.create_default_context(cafile=certificate)
        connection = HTTPSConnection("localhost", server.port, timeout=20, context=context)
        connection.request("GET", "/v2/health/ready")
        assert connection.getresponse().status == 200
        connection.close()
        stranger = HTTPSConnection("localhost", server.port, timeout=20, context=ssl.create_default_context())
        with pytest.raises(ssl.SSLCertVerificationError):
            stranger.connect()
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as plain:
            plain.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert not _received(plain).startswith(b"HTTP")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.load_verify_locations(certificate)
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError):
            HTTPSConnection("localhost", server.port, timeout=20, context=old).connect()
        assert server.status()["restarts"] == 0


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(100)
    except ConnectionError:
        return b""


@pytest.fixture
def postgres(tmp_path_factory):
    """A PostgreSQL of our own that ends with the test; it refuses to run as root."""
    pytest.importorskip("psycopg", reason="the extra postgres is not installed")
    places = [shutil.which("initdb"), *sorted(map(str, _debian()))]
    initdb = next((place for place in places if place), None)
    if initdb is None:
        pytest.skip("PostgreSQL is not installed")
    server = os.path.join(os.path.dirname(os.path.realpath(initdb)), "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Not below pytest's folders, which only their owner may enter.
    place = subprocess.run(["mktemp", "-d"], check=True, capture_output=True, text=True).stdout.strip()
    user = {}
    if os.getuid() == 0:
        user = {"user": "nobody"}
        shutil.chown(place, "nobody")
    folder = os.path.join(place, "data")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": place, **user}
    process = None
    try:
        subprocess.run([initdb, "-D", folder, "-U", "tester", "-A", "trust", "--no-sync"], check=True, **quiet)
        command = [server, "-D", folder, "-p", str(port), "-k", place, "-h", "127.0.0.1", "-F"]
        process = subprocess.Popen(command, **quiet)
        _wait(port, process)
        yield f"postgresql+psycopg://tester@127.0.0.1:{port}/postgres"
    finally:
        if process is not None:
            process.terminate()
            process.wait(30)
        shutil.rmtree(place)


def _debian():
    from pathlib import Path

    return Path("/usr/lib/postgresql").glob("*/bin/initdb")


def _wait(port, process):
    import psycopg

    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="tester", dbname="postgres").close()
        except psycopg.OperationalError:
            time.sleep(0.1)
            continue
        return
    raise TimeoutError("PostgreSQL did not start")


def test_answers_are_kept_in_postgresql(served, known, postgres):
    x, expected = known
    with masslib.serve(served, workers=2, record=postgres) as server:
        for row in x[:6]:
            server.predict(row[None], NAME)
        assert server.status()["restarts"] == 0
    kept = masslib.data.from_records(postgres, unlabelled="answer")
    assert sorted(kept.y.tolist()) == sorted(expected[:6].argmax(axis=1).tolist())
    found = sorted(kept[:][0].reshape(6, -1).tolist())
    np.testing.assert_array_equal(found, sorted(x[:6].reshape(6, -1).tolist()))


def test_a_database_that_cannot_be_reached_is_told_before_anything_starts(served):
    pytest.importorskip("psycopg", reason="the extra postgres is not installed")
    url = "postgresql+psycopg://tester:secret@127.0.0.1:1/nothing"
    with pytest.raises(RuntimeError, match="the database postgresql") as caught:
        masslib.serve(served, record=url)
    assert "secret" not in str(caught.value)


def test_a_driver_that_is_missing_is_named(served):
    with pytest.raises(RuntimeError, match="the URL of the database|No module named"):
        masslib.serve(served, record="nonsense://here")


def test_three_models_are_ready_soon_and_small(served, tmp_path):
    for name in ("one", "two", "three"):
        put(served / NAME / "1", tmp_path, 1, name=name)
    with masslib.serve(tmp_path) as server:
        spent, memory = _cpu(server.pids[0]), _memory(server.pids[0])
        with open(f"/proc/{server.pids[0]}/maps") as maps:
            mapped = maps.read()
    # Of the time that a quiet machine takes from start to ready, 1.5 s at most, this is the largest part.
    assert spent < 1.5 and memory < 150e6
    assert "/tensorflow/" not in mapped and "litert" in mapped
    code = "import sys, masslib.serving.supervisor; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def _cpu(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as status:
        fields = status.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        (line,) = (line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024
