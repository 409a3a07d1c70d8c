"""`verify`: is a folder that `package` wrote whole, and does it answer as it did?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from masslib import runtime
from masslib._util import manifest
from masslib._util.extras import needed_by

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "masslib package 1"
PROBE = "probe.npz"
"""Inputs, and the answers of every file to them."""


def verify(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Check a folder that `package` wrote: every checksum, and that the files still answer as they did.

    Args:
        path: The folder.

    Returns:
        One row per model file. Columns: `file`, and `answers`: "as when it was packaged", or why that was not tried.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If another function or a newer masslib wrote it; a file is missing or was changed, is not named in
            the manifest, or answers differently on this machine.
    """
    with needed_by("masslib.verify"):
        import pandas as pd

    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder that masslib.package has written")
    facts = manifest.read(folder)
    if facts.get("format") != FORMAT:
        raise ValueError(
            f"{folder} has the format {facts.get('format')!r}, and verify of this masslib reads {FORMAT!r}"
        )
    known = {folder / name for name in (*facts["files"], "manifest.json")}
    strange = [
        str(file.relative_to(folder)) for file in sorted(folder.rglob("*")) if file.is_file() and file not in known
    ]
    if strange:
        raise ValueError(f"{folder} holds files that its manifest does not name: {', '.join(strange)}; remove them")
    models = facts["models"]
    with np.load(folder / PROBE, allow_pickle=False) as probe:
        answers = [_answer(folder / models[name]["file"], probe["x"], probe[name]) for name in models]
    return pd.DataFrame({"file": [entry["file"] for entry in models.values()], "answers": answers}, index=list(models))


def _answer(path: Path, x: np.ndarray, expected: np.ndarray) -> str:
    try:
        with runtime.load(path) as predictor:
            found = predictor.predict(x)
    except ModuleNotFoundError as error:
        return f"not tried: {error.name} is not installed"
    # Another processor rounds otherwise, most of all in integers.
    difference = float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-30))
    if not difference <= 0.05:
        raise ValueError(
            f"{path} is intact, but answers otherwise than when it was packaged: relative difference {difference:.3g}; "
            "compare the versions of the packages in manifest.json with yours"
        )
    return "as when it was packaged"
