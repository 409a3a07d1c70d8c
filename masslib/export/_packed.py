"""Export to a packed file: a TFLite file whose weights went through a range coder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masslib._util.files import replacing
from masslib.export import preflight
from masslib.export._tflite import Exportable, tflite
from masslib.formats.tflite import read
from masslib.runtime.packed import pack, unpack
from masslib.runtime.unpacking import SUFFIX

if TYPE_CHECKING:
    import keras


def packed(
    model: keras.Model | Exportable | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    batch_size: int | str | None = None,
    labels: Sequence[str] | None = None,
    description: str | None = None,
    example_inputs: Any = None,
) -> Path:
    """Write a model as a packed file: a TFLite file in fewer bytes than gzip or xz make of it.

    `masslib.runtime.load` unpacks it into memory, to the same bytes, and runs it with LiteRT, without TensorFlow. The
    numbers of a tensor are coded one after another by an adaptive model of what weights are like: which of them are
    zero, given their row, their column and their neighbours; and how large the others are, given those before. So
    zeros, clusters and multiples of a step need next to nothing, and float32 weights a tenth less. Nothing is lost:
    what makes the file small is what was done to the model before (see `masslib.Squeeze`). docs/packed.md describes
    the format.

    Args:
        model: What `masslib.export.tflite` takes; or the path of a TFLite file.
        path: The file to write, ending in `.packed`.
        batch_size: As in `masslib.export.tflite`, like all that follows; none goes with a path.
        labels: Names of the outputs, stored inside the file.
        description: What the model is, for people; stored inside the file, too.
        example_inputs: Rows `(n, *input_shape)` of your data to check the file on.

    Returns:
        The path of the file.

    Raises:
        FileNotFoundError: If nothing lies at the path of the TFLite file.
        TypeError: If `model` is nothing of these.
        ValueError: If the name does not end in `.packed`, or as `masslib.export.tflite`.

    References:
        Wiedemann et al., "DeepCABAC: a universal compression algorithm for deep neural networks", 2020: contexts and
        adaptive probabilities for weights. The range coder is that of the package constriction.

    Example:
        >>> import masslib, tempfile, numpy as np
        >>> path = packed(masslib.models.mlp((4,), 3), tempfile.mkdtemp() + "/mlp.packed")
        >>> masslib.export.load(path).predict(np.zeros((2, 4))).shape
        (2, 3)
    """
    path = Path(path)
    preflight.check_suffix(path, SUFFIX, "a packed file")
    about = {"batch_size": batch_size, "labels": labels, "description": description, "example_inputs": example_inputs}
    if isinstance(model, str | os.PathLike):
        given = [name for name, value in about.items() if value is not None]
        if given:
            raise ValueError(f"{', '.join(given)}: a file is packed as it is; pass the model to say more about it")
        _, content = read(model)
    else:
        with tempfile.TemporaryDirectory() as folder:
            content = tflite(model, Path(folder, "model.tflite"), **about).read_bytes()
    with replacing(path) as temporary:
        small = pack(content)
        if unpack(small) != content:
            raise RuntimeError(f"{path} would not unpack to the file that it is made from; please report this")
        temporary.write_bytes(small)
    return path
