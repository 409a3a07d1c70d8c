"""What the service is told when it starts, handed from the command to the supervisor and from there to the workers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from masslib._util.checks import check_counts
from masslib._util.cores import available_cores

ENVIRONMENT = "MASSLIB_SERVING"
"""Variable in which a process gets the settings as JSON."""
CHECK_SECONDS = 300
"""That the check of a package may take."""

# Preferred first: the same numbers as the model, then what loses little, then other runtimes.
FILES = (
    "tflite",
    "tflite-sparse",
    "packed",
    "tflite-float16",
    "tflite-int8",
    "packed-int8",
    "tflite-dynamic",
    "packed-dynamic",
    "onnx",
    "onnx-int8",
    "openvino",
    "openvino-int8",
    "ensemble",
)


@dataclass(frozen=True)
class Settings:
    """Limits and places of a service.

    Attributes:
        folder: `folder/name/version/` are packages.
        host: Address to listen at.
        port: 0 takes a free one.
        workers: Processes that answer; 0 for one per core.
        threads: Of each interpreter.
        prefer: Which files of a package are served, the first that is there and whose runtime is installed.
        keep: Newest versions of a model that stay loaded besides those with a label.
        max_batch: Most rows in one call of the model.
        max_wait: Seconds that a request may wait for others of its batch; 0 batches what arrives at one moment.
        queue: Most rows that wait for a version; more are told to come back.
        timeout: Seconds after which a waiting request is given up.
        max_body: Bytes of a request.
        max_pixels: Of a photo.
        read_timeout: Seconds within which a request has to arrive whole.
        idle_timeout: Seconds after which an idle connection is closed.
        drain: Most seconds that running requests get when the service ends.
        token_file: Tokens that are let in, one a line; None lets everybody in.
        ssl_certfile: Certificate in PEM, and its key; None speaks HTTP.
        ssl_keyfile: See `ssl_certfile`.
        record: SQLite file or URL of SQLAlchemy where answers are kept; None keeps none.
        record_share: Share of the answers that are kept.
        drift_window: Seconds of traffic that are compared with the reference.
        access_log: Whether every request gets a line in the log.
        stop_with_stdin: Whether the service ends with its standard input, thus with the process that started it.
    """

    folder: str
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 0
    threads: int = 1
    prefer: tuple[str, ...] = FILES
    keep: int = 2
    max_batch: int = 32
    max_wait: float = 0.0
    queue: int = 256
    timeout: float = 30.0
    max_body: int = 16 * 2**20
    max_pixels: int = 50_000_000
    read_timeout: float = 10.0
    idle_timeout: float = 75.0
    drain: float = 30.0
    token_file: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    record: str | None = None
    record_share: float = 1.0
    drift_window: float = 600.0
    access_log: bool = False
    stop_with_stdin: bool = False

    def checked(self) -> Settings:
        """Return them with `workers` filled in.

        Raises:
            ValueError: If one is out of range, or a file that they name is missing.
        """
        check_counts(
            port=(self.port, 0), workers=(self.workers, 0), threads=(self.threads, 1), keep=(self.keep, 1),
            max_batch=(self.max_batch, 1), queue=(self.queue, 1), max_body=(self.max_body, 1),
            max_pixels=(self.max_pixels, 1),
        )  # fmt: skip
        for name in ("timeout", "read_timeout", "idle_timeout", "drain", "drift_window"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name}={getattr(self, name)!r}: expected a number of seconds above 0")
        if not 0 <= self.max_wait <= 1:
            raise ValueError(f"max_wait={self.max_wait!r}: expected seconds from 0 to 1")
        if not 0 <= self.record_share <= 1:
            raise ValueError(f"record_share={self.record_share!r}: expected a share from 0 to 1")
        unknown = [name for name in self.prefer if name not in FILES]
        if unknown or not self.prefer:
            raise ValueError(f"prefer={list(self.prefer)}: expected some of {', '.join(FILES)}")
        if not Path(self.folder).is_dir():
            raise ValueError(f"{self.folder} is no folder; make one with packages in it: folder/name/version/")
        if (self.ssl_certfile is None) != (self.ssl_keyfile is None):
            raise ValueError("ssl_certfile and ssl_keyfile go together; pass both")
        for name in ("token_file", "ssl_certfile", "ssl_keyfile"):
            if (path := getattr(self, name)) and not Path(path).is_file():
                raise ValueError(f"{name}={path!r} is no file")
        tokens(self.token_file)
        values = asdict(self) | {"workers": self.workers or available_cores(), "prefer": tuple(self.prefer)}
        return Settings(**values)

    def dumps(self) -> str:
        """As JSON, for a worker."""
        return json.dumps(asdict(self))


def loads(text: str) -> Settings:
    """What `Settings.dumps` wrote."""
    values = json.loads(text)
    return Settings(**{field.name: values[field.name] for field in fields(Settings)})


def tokens(path: str | None) -> tuple[bytes, ...]:
    """Read the tokens that are let in; none if there is no such file to ask.

    Raises:
        ValueError: If the file holds no token, or a short one.
    """
    if path is None:
        return ()
    found = tuple(line.strip() for line in Path(path).read_bytes().splitlines() if line.strip())
    if not found or min(map(len, found)) < 16:
        raise ValueError(f"{path}: expected one token of at least 16 characters per line")
    return found
