"""Files of unknown origin are run in a child process first, because they can end the process that loads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from masslib.files import sealed

# LiteRT can abort the whole process on damaged bytes, so a file without a seal is tried in a child first.
_TRIAL = (
    "import sys; from ai_edge_litert.interpreter import Interpreter; "
    "interpreter = Interpreter(model_path=sys.argv[1]); "
    "interpreter.allocate_tensors(); interpreter.invoke()"
)
_TRIAL_SECONDS = 120


def check_tflite(path: Path) -> None:
    with open(path, "rb") as file:
        head = file.read(8)
    if head[4:8] != b"TFL3":
        raise ValueError(f"{path} is not a TFLite file: it does not carry the identifier 'TFL3' at byte 4")
    if sealed(path):
        return
    try:
        trial = subprocess.run(
            [sys.executable, "-c", _TRIAL, str(path)], capture_output=True, text=True, timeout=_TRIAL_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"{path} did not run within {_TRIAL_SECONDS} s in a trial process") from None
    if trial.returncode:
        reason = (trial.stderr.strip().splitlines() or [f"exit code {trial.returncode}"])[-1]
        raise ValueError(f"{path} is damaged or needs operators that LiteRT lacks: {reason}")
