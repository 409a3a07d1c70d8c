"""Is a package fit to serve? Asked in a child process, because a damaged file can end the process that loads it.

`python -m masslib.serving.checker`: a line of JSON per package on standard input, one per verdict on standard output.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from masslib import runtime
from masslib._util import manifest
from masslib._util.messages import first_line
from masslib.packaging import golden
from masslib.packaging.reference import Bins
from masslib.serving.settings import CHECK_SECONDS

_BYTES = 16 * 2**30
_NEEDS = {".onnx": "onnxruntime", ".xml": "openvino"}


def check(folder: Path, prefer: Sequence[str]) -> dict[str, Any]:
    """Verify checksums, load the file that is to serve, and ask it for the golden rows.

    Returns:
        `file`, its name in the manifest, and `sha256` of the manifest.

    Raises:
        ValueError: If anything is wrong.
    """
    sha256 = manifest.checksum(folder / "manifest.json") if (folder / "manifest.json").is_file() else ""
    facts = manifest.read(folder)
    rows = golden(folder)
    models = facts.get("models")
    if not isinstance(models, dict):
        raise ValueError("the manifest names no models")
    for needed in ("data", "model"):
        if not isinstance(facts.get(needed), dict):
            raise ValueError(f"the manifest says nothing of the {needed}")
    for name in prefer:
        if name not in models:
            continue
        path = folder / str(models[name].get("file"))
        if path.resolve().parent != folder.resolve() or path.name not in facts["files"]:
            raise ValueError(f"{name} is no file that the manifest names")
        if (module := _NEEDS.get(path.suffix)) and find_spec(module) is None:
            continue
        with runtime.load(path) as predictor:
            rows.check(name, predictor)
        if facts.get("reference"):
            Bins(facts["reference"])
        return {"file": name, "sha256": sha256}
    raise ValueError(f"the package holds no file that is served: {', '.join(models)}; wanted is {', '.join(prefer)}")


def ask(folder: Path, prefer: Sequence[str]) -> dict[str, Any]:
    """The verdict of a child of its own: what `check` returns, or `why` the package is not fit."""
    line = json.dumps({"folder": str(folder), "prefer": list(prefer)})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "masslib.serving.checker"],
            input=line,
            capture_output=True,
            text=True,
            timeout=CHECK_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return {"why": f"the check did not end within {CHECK_SECONDS} s"}
    if not done.stdout:
        return {"why": f"the process that loaded it died (exit status {done.returncode})"}
    return json.loads(done.stdout)


def main() -> None:
    """Answer until the input ends."""
    if importlib.util.find_spec("resource"):  # Windows has no such limits
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_BYTES if hard == resource.RLIM_INFINITY else hard, hard))
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            verdict = check(Path(asked["folder"]), asked["prefer"])
        except Exception as error:  # every runtime has its own
            verdict = {"why": first_line(error).replace(f"{asked['folder']}/", "").replace(asked["folder"], "it")[:500]}
        print(json.dumps(verdict), flush=True)


if __name__ == "__main__":
    main()
