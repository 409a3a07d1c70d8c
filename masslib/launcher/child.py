"""What runs in a worker process."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

import cloudpickle

from masslib._util.files import replacing
from masslib.launcher.tasks import CORES

PAYLOAD, RESULT, ERROR, BEAT, ECHO = "payload.pkl", "result.pkl", "error.json", "beat", "echo"
LIFELINE, SERVES = "MASSLIB_LIFELINE", "MASSLIB_SERVES"

_BEAT_SECONDS = 0.5


def main(folder: Path) -> int:
    """Run the function that was shipped, and leave its result or its error in the folder."""
    lifeline = int(os.environ[LIFELINE])
    threading.Thread(target=_beat, args=(folder / BEAT,), daemon=True).start()
    ending = threading.Event()
    threading.Thread(target=_follow, args=(lifeline, ending, folder.parent), daemon=True).start()
    if os.environ.get(CORES):
        os.sched_setaffinity(0, {int(core) for core in os.environ[CORES].split(",")})
    if (folder / ECHO).exists():
        echo = open(folder / ECHO, "a", buffering=1)  # noqa: SIM115 - it stays open to the end of the process
        sys.stdout, sys.stderr = _Tee(sys.stdout, echo), _Tee(sys.stderr, echo)
    try:
        result = cloudpickle.dumps(_run(folder))
    except Exception as error:
        traceback.print_exc(file=sys.__stderr__)  # into the log; who launched it gets it with the error
        told = {
            "type": type(error).__name__,
            "message": str(error),
            "traceback": traceback.format_exc(),
            "time": time.time(),
        }
        with replacing(folder / ERROR) as path:
            path.write_text(json.dumps(told))
        return 1
    with replacing(folder / RESULT) as path:
        path.write_bytes(result)
    # A worker that ended before the others would look to them as if it had died.
    ending.wait()
    return 0


def _run(folder: Path) -> Any:
    if os.environ.get(SERVES):
        from masslib.distribute import strategy

        return strategy("parameter_server")  # it does not return
    function, args = cloudpickle.loads((folder / PAYLOAD).read_bytes())
    return function(*args)


def _beat(path: Path) -> None:
    """Show that the process is alive."""
    while True:
        path.touch()
        time.sleep(_BEAT_SECONDS)


def _follow(lifeline: int, ending: threading.Event, scratch: Path) -> None:
    """End with the process that started this one: the lifeline breaks then, however that one ended.

    It would have deleted the folder of all processes that it started, but it ends them first, so it was lost itself.
    """
    if os.read(lifeline, 1):
        ending.set()
        os.read(lifeline, 1)
    shutil.rmtree(scratch, ignore_errors=True)  # the others do so at the same time
    os._exit(1)


class _Tee:
    """A text stream that also goes to the launching process."""

    def __init__(self, stream: TextIO, echo: TextIO):
        self._stream, self._echo = stream, echo

    def write(self, text: str) -> int:
        self._echo.write(text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._echo.flush()
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
