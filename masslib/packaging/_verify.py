"""`verify`: is a folder that `package` wrote whole, and does it answer as it did?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from masslib import runtime
from masslib._util import manifest
from masslib._util.extras import needed_by
from masslib.packaging._golden import Golden, check_format, golden

if TYPE_CHECKING:
    import pandas as pd


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
    check_format(facts, folder)
    known = {folder / name for name in (*facts["files"], "manifest.json")}
    strange = [
        str(file.relative_to(folder)) for file in sorted(folder.rglob("*")) if file.is_file() and file not in known
    ]
    if strange:
        raise ValueError(f"{folder} holds files that its manifest does not name: {', '.join(strange)}; remove them")
    models, rows = facts["models"], golden(folder)
    answers = [_answer(folder / entry["file"], name, rows) for name, entry in models.items()]
    return pd.DataFrame({"file": [entry["file"] for entry in models.values()], "answers": answers}, index=list(models))


def _answer(path: Path, name: str, rows: Golden) -> str:
    try:
        with runtime.load(path) as predictor:
            rows.check(name, predictor)
    except ModuleNotFoundError as error:
        return f"not tried: {error.name} is not installed"
    return "as when it was packaged"
