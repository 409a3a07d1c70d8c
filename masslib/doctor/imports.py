"""Whether the packages can be imported, tried in a child process, which a broken library may end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

from packaging.requirements import Requirement

from masslib.doctor.findings import Finding, pip
from masslib.doctor.packages import installed, module

_LIMIT = 180  # seconds for all imports; they take about ten

# Prints a line before and a line after every import, and what TensorFlow sees at the end.
_CHILD = """
import importlib, json, sys
def say(**words):
    print(json.dumps(words), flush=True)
for name in sys.argv[1:]:
    say(trying=name)
    try:
        importlib.import_module(name)
    except BaseException as error:
        say(error=f"{type(error).__name__}: {error}")
if "tensorflow" in sys.modules:
    import tensorflow as tf
    threads = tf.config.threading
    say(
        devices=[device.name.removeprefix("/physical_device:") for device in tf.config.list_physical_devices()],
        intra=threads.get_intra_op_parallelism_threads(),
        inter=threads.get_inter_op_parallelism_threads(),
    )
say(done=True)
"""


def import_findings(entries: Sequence[Requirement], limit: float = _LIMIT) -> tuple[list[Finding], dict]:
    """Import the packages in one child process.

    Args:
        entries: The packages, all of them installed.
        limit: Seconds for all of them together.

    Returns:
        What failed, each with the error; and what TensorFlow sees: `devices`, and the threads `intra` and `inter`
        (0: as many as there are cores). It is empty when TensorFlow is not among the packages or failed.
    """
    by_module = {module(entry): entry for entry in entries}
    command = [sys.executable, "-c", _CHILD, *by_module]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        out, err, end = child.stdout, child.stderr, f"ended with status {child.returncode}"
    except subprocess.TimeoutExpired as expired:
        out, err, end = _text(expired.stdout), _text(expired.stderr), f"had no end within {limit:g} s"
    said, found, trying = [json.loads(line) for line in out.splitlines() if line.startswith("{")], [], ""
    for words in said:
        trying = words.get("trying", trying)
        if "error" in words:
            found.append(_broken(by_module[trying], words["error"]))
    if trying and not said[-1].get("done"):
        last = err.strip().splitlines()[-1:]
        found.append(_broken(by_module[trying], f"the process {': '.join([end, *last])}"))
    return found, next((words for words in said if "devices" in words), {})


def _broken(entry: Requirement, error: str) -> Finding:
    mend = pip("install --force-reinstall --no-deps", f"{entry.name}=={installed(entry.name)}")
    return Finding(f"{module(entry)} cannot be imported: {error}", mend)


def _text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""
