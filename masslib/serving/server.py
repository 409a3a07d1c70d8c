"""`serve`: a service in processes of its own, for as long as a `with` block, a notebook cell or a kernel lives."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from masslib.serving.settings import ENVIRONMENT, Settings, tokens

_START_SECONDS = 120


class Server:
    """A running service; `serve` makes it.

    Attributes:
        url: Where it listens, such as `http://127.0.0.1:40123`.
        port: The port in it.
        pids: The processes that answer, as they were at the start.
    """

    def __init__(self, process: subprocess.Popen, log: Path, facts: dict[str, Any], told: Settings):
        self._process, self._log, self._drain = process, log, told.drain
        weakref.finalize(self, log.unlink, missing_ok=True)
        self._tokens = tokens(told.token_file)
        self._tls: ssl.SSLContext | None = None
        if told.ssl_certfile is not None:  # its own certificate and no other, whatever name it was made for
            self._tls = ssl.create_default_context(cafile=told.ssl_certfile)
            self._tls.check_hostname = False
            self._tls.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        self.url: str = facts["url"]
        self.port: int = facts["port"]
        self.pids: list[int] = facts["workers"]
        self.pid = process.pid

    def classify(self, photo: bytes | str | os.PathLike[str], **options: Any) -> dict[str, Any]:
        """Ask for the labels of a photo.

        Args:
            photo: A file, or its bytes: PNG, JPEG or WebP.
            **options: `model`, `version`, `label` and `top`, as in the query of `POST /classify`.

        Returns:
            `labels`, best first, each with `label` and `probability`; `model` and `version`; `request_id`;
            `milliseconds` by stage.

        Raises:
            ValueError: If the service refuses; the message is its own.
        """
        data = photo if isinstance(photo, bytes) else Path(photo).read_bytes()
        return self._ask("POST", f"/classify?{urlencode(options)}", data, "application/octet-stream")

    def predict(
        self,
        instances: Any,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str | None = None,
    ) -> Any:
        """Ask for the answers to rows of numbers, by TensorFlow Serving's REST.

        Args:
            instances: Rows, as lists or arrays; of a model with several inputs a dict of them, one array
                `(n, ...)` for each name.
            model: Its name.
            version: A version, else the one that answers at present.
            label: A label instead of it.
            signature: Which of several signatures of the file, else the default one.

        Returns:
            The `predictions`, a list; after a dict the `outputs`, a list for each name, or the list of the only one.

        Raises:
            ValueError: If the service refuses; the message is its own.
        """
        asked: dict[str, Any] = {} if signature is None else {"signature_name": signature}
        if isinstance(instances, Mapping):
            asked["inputs"], told = {name: _plain(column) for name, column in instances.items()}, "outputs"
        else:
            asked["instances"], told = _plain(instances), "predictions"
        which = f"/versions/{version}" if version is not None else f"/labels/{quote(label)}" if label else ""
        return self._ask("POST", f"/v1/models/{quote(model)}{which}:predict", json.dumps(asked).encode())[told]

    def status(self) -> dict[str, Any]:
        """What the page shows: models, versions, labels, drift, and what was refused."""
        return self._ask("GET", "/status", None)

    def metrics(self) -> str:
        """The text of `/metrics`."""
        return self._raw("GET", "/metrics", None, "").decode()

    def log(self) -> list[dict[str, Any]]:
        """The lines of the log so far."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def wait(self, model: str, version: int, seconds: float = 30) -> None:
        """Wait until a version answers.

        Raises:
            ValueError: If it was refused; the message says why.
            TimeoutError: If it is not there in time.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            told = self.status()["models"].get(model, {"versions": {}, "refused": {}})
            if str(version) in told["refused"]:
                raise ValueError(f"{model} {version} was refused: {told['refused'][str(version)]}")
            if str(version) in told["versions"]:
                return
            time.sleep(0.05)
        raise TimeoutError(f"{model} {version} was not served within {seconds:g} s; see server.log()")

    def _ask(self, method: str, path: str, body: bytes | None, kind: str = "application/json") -> Any:
        return json.loads(self._raw(method, path, body, kind))

    def _raw(self, method: str, path: str, body: bytes | None, kind: str) -> bytes:
        if self._tls is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        else:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=self._tls)
        headers = {"content-type": kind} if body is not None else {}
        if self._tokens:
            headers["authorization"] = f"Bearer {self._tokens[0].decode()}"
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            data = response.read()
        if response.status != 200:
            raise ValueError(f"{response.status}: {_message(data)}")
        return data

    def stop(self) -> None:
        """Let running requests end, then end the processes."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(self._drain + 15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Server({self.url!r})"


def _plain(rows: Any) -> Any:
    return rows.tolist() if hasattr(rows, "tolist") else rows


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["error"])
    except (ValueError, LookupError, TypeError):
        return data[:200].decode(errors="replace")


def serve(folder: str | os.PathLike[str], *, port: int = 0, workers: int = 1, **options: Any) -> Server:
    """Start a service for the packages in a folder, in processes of its own; it ends with the block or the program.

    Args:
        folder: `folder/name/version/` are packages of `masslib.package`. One that appears later is checked and takes
            over; `python -m masslib versions` gives labels.
        port: 0 takes a free one.
        workers: Processes that answer; 0 for one per core.
        **options: Any other of `python -m masslib serve`, such as `max_batch`, `record` or `drift_window`.

    Returns:
        A `Server`, also a context manager.

    Raises:
        ValueError: If an option is wrong.
        RuntimeError: If the service does not start; the message holds the end of its log.

    Example:
        >>> import masslib, pathlib, tempfile
        >>> splits = masslib.data.load("digits")
        >>> model = masslib.models.mlp(splits.input_shape, splits.num_classes)
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = masslib.package(model, folder / "digits" / "1", splits, formats=["tflite"], verbose=False)
        >>> with masslib.serve(folder) as server:
        ...     len(server.predict(splits.test[:3][0], "digits"))
        3
    """
    try:
        settings = Settings(str(Path(folder).absolute()), port=port, workers=workers, stop_with_stdin=True, **options)
    except TypeError as error:
        raise ValueError(f"serve: {error}") from None
    settings = settings.checked()
    handle, name = tempfile.mkstemp(prefix="masslib-serve-", suffix=".log")
    log = Path(name)
    with os.fdopen(handle, "wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "masslib.serving.supervisor"],
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=stream,
            env={**os.environ, ENVIRONMENT: settings.dumps()},
            start_new_session=True,  # an interrupt of the notebook is not meant for it
        )
    end = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("{") and '"event":"ready"' in line and line.endswith("}"):
                return Server(process, log, json.loads(line), settings)
        time.sleep(0.02)
    process.kill()
    process.wait()
    process.stdin.close()  # type: ignore[union-attr]
    told = log.read_text(encoding="utf-8", errors="replace")[-2000:]
    log.unlink()
    raise RuntimeError(f"the service did not start: {told}")
