"""Files of unknown origin are run in a child process first, because they can end the process that loads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from masslib._util.files import SEAL_MARK, sealed

# A damaged length can make a runtime ask for any amount of memory, and other damage can make it abort.
_LIMITED = """
import sys
try:
    import resource
    wanted, (_, hard) = int(sys.argv[2]), resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
except ImportError:  # not on Windows
    pass
"""
_LITERT = """
import numpy as np
from ai_edge_litert.interpreter import Interpreter
model = {"model_path": sys.argv[1]} if sys.argv[1] else {"model_content": sys.stdin.buffer.read()}
interpreter = Interpreter(**model)
# Not every model runs with open sizes at 1, where they stand so far.
def closed(entries):
    return not any((entry["shape_signature"][1:] < 0).any() for entry in entries)
if closed(interpreter.get_input_details()):
    interpreter.allocate_tensors()
    interpreter.invoke()
names = interpreter.get_signature_list()
for name in names if len(names) > 1 else ():
    run = interpreter.get_signature_runner(name)
    entries = run.get_input_details()
    if closed(entries.values()):
        run(**{key: np.zeros(entry["shape"], entry["dtype"]) for key, entry in entries.items()})
"""
_TRIAL_SECONDS = 120
_TRIAL_BYTES = 4 * 2**30


def check_tflite(path: Path) -> None:
    """Raise `ValueError` unless a TFLite file is intact, by its seal, or at least runs.

    A file without a seal, written by another program, is loaded and run once in a child process.
    """
    head = b""
    if path.is_file():
        with open(path, "rb") as file:
            head = file.read(8)
    if head[4:8] != b"TFL3":
        raise ValueError(f"{path} is not a TFLite file: it does not carry the identifier 'TFL3' at byte 4")
    check(path, _LITERT, "LiteRT")


def check(path: Path, code: str, runtime: str) -> None:
    """Raise `ValueError` unless a file is intact, by its seal, or else can be loaded in a child process.

    Args:
        path: The file; it is not empty.
        code: Python that loads `sys.argv[1]`.
        runtime: What runs it, for the message.
    """
    if not path.stat().st_size:
        raise ValueError(f"{path} is damaged: it is empty")
    if not sealed(path):
        _try(path, code, runtime, path.stat().st_size, None)


def check_bytes(content: bytes, path: Path) -> None:
    """Raise `ValueError` unless the bytes of a TFLite file carry a seal, or can be loaded in a child process.

    Args:
        content: What was unpacked; its checksum was compared.
        path: Where it comes from.
    """
    if content[4:8] != b"TFL3":
        raise ValueError(f"{path} does not hold a TFLite file: what it unpacks to has no identifier 'TFL3' at byte 4")
    if SEAL_MARK not in content:
        _try(path, _LITERT, "LiteRT", len(content), content)


def _try(path: Path, code: str, runtime: str, size: int, content: bytes | None) -> None:
    """Load a file, or the bytes that the child process reads from its standard input."""
    limit = _TRIAL_BYTES + 8 * size
    command = [sys.executable, "-c", _LIMITED + code, str(path) if content is None else "", str(limit)]
    try:
        trial = subprocess.run(command, input=content, capture_output=True, timeout=_TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{path} did not run within {_TRIAL_SECONDS} s in a trial process") from None
    if trial.returncode:
        reason = (trial.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {trial.returncode}"])[-1]
        raise ValueError(f"{path} is damaged or needs operators that {runtime} lacks: {reason}")
