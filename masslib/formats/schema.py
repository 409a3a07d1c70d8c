"""The schema of TFLite: the one place that reads and writes its tables."""

from __future__ import annotations

from functools import cache
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as generated

_IDENTIFIER = b"TFL3"


def unpacked(content: bytes) -> Any:
    """The tables of a file as objects (`schema_py_generated.ModelT`)."""
    return generated.ModelT.InitFromPackedBuf(content, 0)


def packed(model: Any, size: int) -> bytes:
    """The bytes of a file, of about so many."""
    builder = flatbuffers.Builder(size)
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def add_metadata(model: Any, name: str, content: bytes) -> None:
    """Append a metadata entry to an unpacked model."""
    buffer, entry = generated.BufferT(), generated.MetadataT()
    buffer.data = np.frombuffer(content, "uint8")
    entry.name, entry.buffer = name, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]


def operator_name(model: Any, operator: Any) -> str:
    """What an operator of an unpacked model does, such as `CONV_2D`, or the name of a custom one."""
    code = model.operatorCodes[operator.opcodeIndex]
    if code.customCode:
        return code.customCode.decode(errors="replace")
    return _names(generated.BuiltinOperator)[max(code.builtinCode, code.deprecatedBuiltinCode)]


def type_name(tensor: Any) -> str:
    """The number type of a tensor in small letters, such as `float32`."""
    return _names(generated.TensorType)[tensor.type].lower()


@cache
def _names(kind: Any) -> dict[int, str]:
    return {value: name for name, value in vars(kind).items() if name.isupper()}
