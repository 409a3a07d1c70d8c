"""Labels and a description inside a TFLite file, where phone libraries look for them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from masslib.formats import schema

if TYPE_CHECKING:
    from flatbuffers import Builder

LABELS = "labels.txt"
_METADATA = "TFLITE_METADATA"
_AXIS_LABELS = 2  # AssociatedFileType.TENSOR_AXIS_LABELS


def describe(model: Any, name: str, description: str | None, labels: Sequence[str] | None) -> None:
    """Add the metadata of the TFLite Metadata schema: name, description, and where the labels are.

    References:
        metadata_schema.fbs of TFLite Support (identifier M001); the package with its writer is no longer maintained,
        so the few tables that are needed are written with flatbuffers itself.
    """
    from flatbuffers import Builder

    builder = Builder(256)
    inputs = [{0: builder.CreateString(end)} for end in _ends(model, "inputs", "input")]
    outputs = [{0: builder.CreateString(end)} for end in _ends(model, "outputs", "output")]
    if labels is not None:
        label_file = _table(builder, 5, {0: builder.CreateString(LABELS)}, {2: _AXIS_LABELS})
        outputs[0][6] = _vector(builder, [label_file])
    subgraph = {
        2: _vector(builder, [_table(builder, 8, fields) for fields in inputs]),
        3: _vector(builder, [_table(builder, 8, fields) for fields in outputs]),
    }
    fields = {3: _vector(builder, [_table(builder, 9, subgraph)]), 0: builder.CreateString(name)}
    if description is not None:
        fields[1] = builder.CreateString(description)
    builder.Finish(_table(builder, 8, fields), b"M001")
    schema.add_metadata(model, _METADATA, bytes(builder.Output()))


def with_files(content: bytes, files: Mapping[str, str]) -> bytes:
    """Append texts as a zip archive, which TFLite readers find at the end of the file."""
    if not files:
        return content
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        for name, text in files.items():
            # A fixed date, so that the same model gives the same bytes.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text)
    return stream.getvalue()


def description_of(model: Any) -> str | None:
    """Read the description back from an unpacked TFLite model."""
    from flatbuffers import encode, number_types, table

    for entry in model.metadata or []:
        if entry.name == _METADATA.encode():
            content = bytes(model.buffers[entry.buffer].data)
            root = table.Table(content, encode.Get(number_types.UOffsetTFlags.packer_type, content, 0))
            at = root.Offset(6)  # field 1: its place in the vtable is 4 + 2 * 1
            return root.String(root.Pos + at).decode() if at else None
    return None


def check_labels(labels: Sequence[str] | None, outputs: int | None) -> list[str] | None:
    """Return the labels as a list, or raise when they do not name the outputs one by one."""
    if labels is None:
        return None
    if isinstance(labels, str | bytes) or not all(isinstance(label, str) for label in labels):
        raise TypeError(f"labels={labels!r}: expected a list of strings, such as splits.classes")
    labels = list(labels)
    if outputs not in (None, len(labels)):
        raise ValueError(f"there are {len(labels)} labels, but the model has {outputs} outputs; name each of them once")
    wrong = [label for label in labels if not label.strip() or label.splitlines() != [label]]
    if wrong:
        raise ValueError(f"the labels {wrong} are empty or longer than a line; the file holds one per line")
    return labels


def _ends(model: Any, which: str, alone: str) -> list[str]:
    """The names of the inputs or outputs of the first graph, in their order."""
    indices = getattr(model.subgraphs[0], which)
    names = {
        end.tensorIndex: end.name.decode()
        for entry in model.signatureDefs or ()
        if entry.subgraphIndex == 0
        for end in getattr(entry, which)
    }
    return [alone] if len(indices) == 1 else [names.get(index, f"{alone} {index}") for index in indices]


def _table(builder: Builder, size: int, offsets: dict[int, int], numbers: dict[int, int] | None = None) -> int:
    builder.StartObject(size)
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    for slot, number in (numbers or {}).items():
        builder.PrependInt8Slot(slot, number, 0)
    return builder.EndObject()


def _vector(builder: Builder, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()
