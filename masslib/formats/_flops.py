"""What a TFLite file computes and what it holds: floating-point operations and weights that are not zero."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from masslib.formats import schema
from masslib.formats.tflite import read, sparsity


def flops(path: str | os.PathLike[str]) -> int:
    """Count the operations of the convolutions, dense layers and matrix products that one example takes.

    A multiply-add counts as two, zeros count like other weights (LiteRT does not skip them), integer operations like
    those of floats. Activations, pooling and normalization are left out: they hardly matter, and the latter is folded
    into the convolutions anyway. What stands inside of a loop is not counted.

    Args:
        path: A `.tflite` file, or a `.packed` one.

    Returns:
        The number of operations.

    Raises:
        FileNotFoundError: If nothing lies at `path`.
        ValueError: If it is not a TFLite file, damaged, or takes examples of an open shape.

    References:
        The formulas of the operators: the schema of TFLite, by `ai_edge_litert.schema_py_generated`.

    Example:
        >>> import masslib, tempfile
        >>> path = masslib.export.tflite(masslib.models.mlp((4,), 3, hidden=(5,)), tempfile.mkdtemp() + "/mlp.tflite")
        >>> masslib.measure.flops(path) == 2 * (4 * 5 + 5 * 3)
        True
    """
    model, content = read(path)
    shapes, total = _shapes(path, content), 0
    for operator in model.subgraphs[0].operators:
        count = _COUNTS.get(schema.operator_name(model, operator))
        if count is not None:
            total += 2 * int(count([shapes.get(i, ()) for i in operator.inputs], shapes[operator.outputs[0]]))
    return total


def nonzero(path: str | os.PathLike[str]) -> int:
    """Count the stored weights and biases of a TFLite file that are not zero.

    Args:
        path: A `.tflite` file, or a `.packed` one.

    Returns:
        The number of weights.

    Raises:
        FileNotFoundError: If nothing lies at `path`.
        ValueError: If it is not a TFLite file, or damaged.

    Example:
        >>> import masslib, tempfile
        >>> path = masslib.export.tflite(masslib.models.mlp((4,), 3, hidden=(5,)), tempfile.mkdtemp() + "/mlp.tflite")
        >>> masslib.measure.nonzero(path)                                 # fresh biases are zero
        35
    """
    table = sparsity(path)
    sizes = table["shape"].map(lambda shape: int(np.prod(shape)))
    return int((sizes * (1 - table["zeros"])).round().sum())


def _shapes(path: str | os.PathLike[str], content: bytes) -> dict[int, tuple[int, ...]]:
    """The shape of every tensor for one example; run, because some are known only then."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # The fast kernels hide tensors.
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=plain)
    for entry in interpreter.get_input_details():
        if (entry["shape_signature"][1:] < 0).any():
            raise ValueError(
                f"{path} takes examples of open shape {tuple(entry['shape_signature'].tolist())}, so its work varies"
            )
    interpreter.allocate_tensors()
    for entry in interpreter.get_input_details():
        interpreter.set_tensor(entry["index"], np.zeros(entry["shape"], entry["dtype"]))
    interpreter.invoke()
    return {detail["index"]: tuple(detail["shape"].tolist()) for detail in interpreter.get_tensor_details()}


# Operator -> its multiply-adds for one example, of the shapes of its inputs and its output
_COUNTS: dict[str, Callable[[list[tuple[int, ...]], tuple[int, ...]], int]] = {
    "CONV_2D": lambda inputs, output: np.prod(output) * np.prod(inputs[1][1:]),
    "DEPTHWISE_CONV_2D": lambda inputs, output: np.prod(output) * np.prod(inputs[1][1:3]),
    "CONV_3D": lambda inputs, output: np.prod(output) * np.prod(inputs[1][:-1]),
    "TRANSPOSE_CONV": lambda inputs, output: np.prod(inputs[2]) * np.prod(inputs[1][:3]),
    "FULLY_CONNECTED": lambda inputs, output: np.prod(output) * inputs[1][-1],
    "BATCH_MATMUL": lambda inputs, output: np.prod(output) * np.prod(inputs[0]) // np.prod(output[:-1]),
}
