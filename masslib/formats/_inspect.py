"""`inspect`: what is inside a TFLite file, operator by operator, without TensorFlow."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masslib._util.extras import needed_by
from masslib.formats import metadata, schema
from masslib.formats import tflite as stored
from masslib.runtime.litert import LABELS, STRUCTURES, archived
from masslib.runtime.signature import DEFAULT, ordered
from masslib.runtime.signature import stored as stored_signatures

if TYPE_CHECKING:
    import pandas as pd

# Operators that only unpack a stored weight; their bytes belong to the operator that uses it.
_UNPACKING = ("DEQUANTIZE", "DENSIFY")


@dataclass(frozen=True, repr=False)
class Inspection:
    """What `inspect` returns; the last value of a notebook cell shows its table.

    Attributes:
        table: One row per operator in the order in which they run, indexed by layer, as the converter names it.
            Columns: `op`; `output` (its shape; None: any); `activations` (the number type of the output); `weights`
            (the number type of the largest stored tensor, empty without one); `values` (how many numbers it has);
            `zeros` (which fraction of them is zero); `bytes` (of all stored tensors of the operator).
        inputs: Name -> shape and number type, as in the default signature.
        outputs: The same of the outputs.
        signatures: Name of each signature -> its inputs and outputs, the default one first. Of several, the table has
            a column `signature`, and weights that they share stand with each.
        description: What the file says about itself, or None.
        labels: Names of the outputs, or None.
        file_bytes: Size of the file.
    """

    table: pd.DataFrame
    inputs: dict[str, str]
    outputs: dict[str, str]
    signatures: dict[str, tuple[dict[str, str], dict[str, str]]]
    description: str | None
    labels: list[str] | None
    file_bytes: int

    def __repr__(self) -> str:
        return f"{self._caption()}\n{self.table.to_string(formatters=_FORMATS, na_rep='')}"

    def _repr_html_(self) -> str:
        import html

        return f"<p>{html.escape(self._caption())}</p>{self.table.to_html(formatters=_FORMATS, na_rep='', border=0)}"

    def _caption(self) -> str:
        ends = (", ".join(f"{name} {kind}" for name, kind in side.items()) for side in (self.inputs, self.outputs))
        about = f"; {self.description}" if self.description else ""
        labels = f"; {len(self.labels)} labels" if self.labels else ""
        return f"{' -> '.join(ends)}; {self.file_bytes:,} bytes{labels}{about}"


_FORMATS = {
    "values": lambda number: f"{number:,}" if number else "",
    "zeros": lambda share: "" if share != share else f"{share:.1%}",
    "bytes": lambda number: f"{number:,}" if number else "",
}


def inspect(path: str | os.PathLike[str]) -> Inspection:
    """Look inside a TFLite file, whoever wrote it: operators, precision, bytes and sparsity by layer.

    Args:
        path: A `.tflite` file, or a `.packed` one.

    Returns:
        An `Inspection`.

    Raises:
        FileNotFoundError: If nothing lies at `path`.
        ValueError: If it is not a TFLite file, or damaged.

    References:
        The schema of TFLite, by `ai_edge_litert.schema_py_generated`.

    Example:
        >>> import masslib, tempfile
        >>> path = masslib.export.tflite(masslib.models.mlp((4,), 3), tempfile.mkdtemp() + "/mlp.tflite")
        >>> masslib.export.inspect(path).table[["op", "weights", "bytes"]].to_numpy().tolist()[0]
        ['FULLY_CONNECTED', 'float32', 4800]
    """
    model, content = stored.read(path)
    try:
        return _inspection(Path(path), model, content)
    except (AttributeError, LookupError, TypeError, ValueError, struct.error) as error:
        raise ValueError(
            f"{path} is damaged: {type(error).__name__} ({error}) while its operators were read"
        ) from error


def _inspection(path: Path, model: Any, content: bytes) -> Inspection:
    with needed_by("masslib.export.inspect"):
        import pandas as pd

    texts = archived(path, content)
    entries = {entry.signatureKey.decode(): entry for entry in model.signatureDefs or ()}
    names = ordered(entries, stored_signatures(texts.get(STRUCTURES), path), path) if entries else [DEFAULT]
    columns = ["layer", "op", "output", "activations", "weights", "values", "zeros", "bytes"]
    tables, ends = [], {}
    for name in names:
        entry = entries.get(name)
        graph = model.subgraphs[entry.subgraphIndex if entry else 0]
        reader = _Reader(model, graph, content)
        rows = [row for operator in graph.operators if (row := reader.row(operator))]
        tables.append(pd.DataFrame(rows, columns=columns).set_index("layer"))
        ends[name] = reader.ends(graph.inputs, entry, "inputs"), reader.ends(graph.outputs, entry, "outputs")
    several = [table.assign(signature=name) for name, table in zip(names, tables, strict=True)]
    return Inspection(
        table=tables[0] if len(tables) == 1 else pd.concat(several),
        inputs=ends[names[0]][0],
        outputs=ends[names[0]][1],
        signatures=ends,
        description=metadata.description_of(model),
        labels=texts[LABELS].splitlines() if LABELS in texts else None,
        file_bytes=path.stat().st_size,
    )


class _Reader:
    """The operators of one graph and the tensors that they refer to."""

    def __init__(self, model: Any, graph: Any, content: bytes):
        self._model, self._tensors, self._content = model, graph.tensors, content
        self._source = {  # unpacked weight -> the stored tensor it comes from
            operator.outputs[0]: operator.inputs[0]
            for operator in graph.operators
            if schema.operator_name(self._model, operator) in _UNPACKING and self._data(operator.inputs[0]).size
        }

    def row(self, operator: Any) -> tuple[Any, ...] | None:
        output = operator.outputs[0]
        if output in self._source:
            return None
        sources = [self._source.get(i, i) for i in operator.inputs if i >= 0]
        constants = {i: data for i in sources if (data := self._data(i)).size}
        tensor = self._tensors[output]
        weight = max(constants, key=lambda i: constants[i].size, default=None)
        dtype = schema.type_name(tensor)
        kind, values, zeros = "", 0, float("nan")
        if weight is not None and self._is_weight(weight):
            kind = schema.type_name(self._tensors[weight])
            shape, _, zeros, *_ = stored.summary(self._tensors[weight], kind, constants[weight])
            values = 1
            for size in shape:
                values *= size
        name = stored.name_of(self._tensors[weight] if kind else tensor)
        stored_bytes = sum(data.size for data in constants.values())
        return (
            _layer(name),
            schema.operator_name(self._model, operator),
            _shape(tensor),
            dtype,
            kind,
            values,
            zeros,
            stored_bytes,
        )

    def ends(self, indices: Any, signature: Any, which: str) -> dict[str, str]:
        """Name -> shape and type of inputs or outputs, under the names of the signature if there is one."""
        names = {i: stored.name_of(self._tensors[i]) for i in indices}
        if signature is not None:
            names |= {end.tensorIndex: end.name.decode(errors="replace") for end in getattr(signature, which)}
        return {names[i]: f"{_shape(self._tensors[i])} {schema.type_name(self._tensors[i])}" for i in indices}

    def _data(self, index: int) -> Any:
        return stored.stored_bytes(self._model.buffers[self._tensors[index].buffer], self._content)

    def _is_weight(self, index: int) -> bool:
        tensor = self._tensors[index]
        return stored.is_weight(tensor, schema.type_name(tensor))


def _layer(name: str) -> str:
    """The layer in a name such as `model/dense1/MatMul`."""
    parts = name.split("/")
    return "/".join(parts[1:-1]) if len(parts) > 2 else name


def _shape(tensor: Any) -> tuple[int | None, ...]:
    sizes = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
    return () if sizes is None else tuple(None if size < 0 else int(size) for size in sizes)
