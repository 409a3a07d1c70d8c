import io
import json
import os
import random
import re
import socket
import threading
from http.client import HTTPConnection, HTTPException

import numpy as np
import pytest
from PIL import Image
from serving_packages import NAME

import masslib

pytest.importorskip("httptools", reason="the extra serve is not installed")
hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

pytestmark = [pytest.mark.alone, pytest.mark.slow]


@pytest.fixture(scope="module")
def service(served):
    with masslib.serve(served, read_timeout=0.5, max_body=2**20) as server:
        yield server
        assert server.status()["restarts"] == 0
        errors = [line for line in server.log() if line["event"] == "error"]
        assert not errors


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_shape = st.lists(st.integers(-2, 9) | st.just(2**40), max_size=5) | _json
_tensor = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("input") | _json,
        "shape": st.just([1, 8, 8, 1]) | _shape,
        "datatype": st.sampled_from(["FP32", "FP64", "INT8", "UINT64", "BOOL", "BYTES", "FP16"]) | _json,
        "data": st.lists(st.floats() | st.integers() | st.booleans(), max_size=70) | _json,
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-5, 300) | _json}) | _json,
    },
)
_infer = st.fixed_dictionaries(
    {"inputs": st.lists(_tensor, max_size=3) | _json},
    optional={
        "id": _json,
        "outputs": st.lists(st.fixed_dictionaries({"name": st.just("output") | _json})) | _json,
        "parameters": _json,
    },
)
_rows = st.dictionaries(
    st.sampled_from(["instances", "inputs", "examples", "context", "signature_name"]),
    st.lists(st.dictionaries(st.sampled_from(["input", "b64"]), _json, max_size=2), max_size=3) | _json,
)
_PATHS = [
    f"/v2/models/{NAME}/infer",
    f"/v2/models/{NAME}/versions/1/infer",
    f"/v1/models/{NAME}:predict",
    f"/v1/models/{NAME}/versions/1:predict",
    f"/v1/models/{NAME}/labels/stable:classify",
    "/classify",
    "/feedback",
]
_words = st.text(st.characters(codec="ascii", min_codepoint=33, exclude_characters="\x7f"), max_size=12)


def _ask(server, method, path, body, headers) -> int:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        return connection.getresponse().status
    except (ConnectionError, HTTPException):  # cut off, which is an answer, too
        return 0
    finally:
        connection.close()


def _check(status: int) -> None:
    assert status < 500 or status == 503


def _bodies() -> st.SearchStrategy[bytes]:
    dumped = (_infer | _rows | _json).map(lambda value: json.dumps(value).encode())
    cut = st.tuples(dumped, st.integers(0, 60)).map(lambda pair: pair[0][: pair[1]])
    return dumped | cut | st.binary(max_size=200)


def _run(examples: int):
    options = settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    return lambda test: options(test)


def _requests(service, examples):
    @_run(examples)
    @given(
        st.sampled_from(_PATHS) | _words.map("/".__add__),
        st.sampled_from(["POST", "GET", "PUT", "DELETE", "HEAD", "OPTIONS"]),
        _bodies(),
        st.dictionaries(
            st.sampled_from(
                [
                    "inference-header-content-length",
                    "content-type",
                    "x-request-id",
                    "expect",
                    "content-encoding",
                    "host",
                ]
            ),
            _words
            | st.sampled_from(["100-continue", "multipart/form-data; boundary=b", "0", "10", "application/json"]),
            max_size=3,
        ),
    )
    def ask(path, method, body, headers):
        _check(_ask(service, method, path, body, headers))

    ask()


def test_malformed_requests_are_the_clients_fault(service):
    _requests(service, 300)


def _photos(generator: random.Random) -> bytes:
    """A photo that is damaged: cut, with flipped bytes, or with another size in its head."""
    stream = io.BytesIO()
    mode = generator.choice(["L", "RGB", "RGBA", "1", "P", "LA"])
    kind = generator.choice(["PNG", "WEBP", "JPEG"] if mode in ("L", "RGB") else ["PNG"])
    Image.new(mode, (generator.randrange(1, 80), generator.randrange(1, 80))).save(stream, kind)
    data = bytearray(stream.getvalue())
    for _ in range(generator.randrange(6)):
        data[generator.randrange(len(data))] = generator.randrange(256)
    if generator.random() < 0.3:
        del data[generator.randrange(len(data)) :]
    if kind == "PNG" and generator.random() < 0.2 and len(data) > 24:
        data[16:24] = os.urandom(8)
    return bytes(data)


def _damaged_photos(service, count):
    generator = random.Random(0)
    for _ in range(count):
        _check(_ask(service, "POST", "/classify", _photos(generator), {"content-type": "image/png"}))


def test_damaged_photos_are_refused(service):
    _damaged_photos(service, 200)


def _raw_bytes(service, count):
    """What is no HTTP, or no whole request, or comes in drops."""
    generator = random.Random(1)
    whole = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(generator.randrange(1, 5)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        if generator.random() < 0.1:
            data = data.replace(b"Host", b"X: " + b"y" * generator.randrange(60_000) + b"\r\nHost")
        with socket.create_connection(("127.0.0.1", service.port), timeout=20) as sock:
            try:
                sock.sendall(bytes(data))
                sock.shutdown(socket.SHUT_WR)
                answer = sock.recv(100)
            except ConnectionError:
                answer = b""
        found = re.match(rb"HTTP/1.1 (\d+)", answer)
        _check(int(found[1]) if found else 0)


def test_what_is_no_http_is_refused(service):
    _raw_bytes(service, 200)


def test_the_description_holds(service):
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    _by_description(schemathesis, service, 5)


def _by_description(schemathesis, service, examples):
    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    for operation in schema.get_all_operations():

        @_run(examples)
        @given(case=operation.ok().as_strategy())
        def ask(case):
            response = case.call()
            _check(response.status_code)

        ask()


@pytest.mark.exhaustive
def test_twenty_thousand_malformed_requests(service):
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    _requests(service, 10_000)
    _damaged_photos(service, 5_000)
    _raw_bytes(service, 4_000)
    _by_description(schemathesis, service, 60)


@pytest.mark.exhaustive
def test_memory_stays_over_two_hundred_thousand_requests(service):
    body = json.dumps(
        {"inputs": [{"name": "input", "shape": [1, 8, 8, 1], "datatype": "FP32", "data": np.ones(64).tolist()}]}
    ).encode()

    def ask(count):
        connection = HTTPConnection("127.0.0.1", service.port, timeout=20)
        for _ in range(count):
            connection.request("POST", f"/v2/models/{NAME}/infer", body)
            assert connection.getresponse().read()
        connection.close()

    def memory() -> int:
        with open(f"/proc/{service.pids[0]}/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])

    ask(2_000)
    before = memory()
    threads = [threading.Thread(target=ask, args=(33_000,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert memory() <= 1.05 * before
