"""What a TFLite file computes and what it holds: floating-point operations and weights that are not zero."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from masslib import runtime
from masslib.formats import schema
from masslib.formats.tflite import read, sparsity


def flops(path: str | os.PathLike[str], *, example_inputs: Any = None, signature: str | None = None) -> int:
    """Count the operations of the convolutions, dense layers and matrix products that one example takes.

    A multiply-add counts as two, zeros count like other weights (LiteRT does not skip them), integer operations like
    those of floats. Activations, pooling and normalization are left out: they hardly matter, and the latter is folded
    into the convolutions anyway. What stands inside of a loop is not counted.

    Args:
        path: A `.tflite` file, or a `.packed` one.
        example_inputs: Rows of your data in the structure that the model takes, of which the first is counted for.
            Files with open sizes, such as texts of any length, need them, because their work varies.
        signature: Of several signatures, which one; the default one if None.

    Returns:
        The number of operations.

    Raises:
        FileNotFoundError: If nothing lies at `path`.
        ValueError: If it is not a TFLite file, damaged, or takes examples of an open shape and there are no
            `example_inputs`; or has no such signature.

    References:
        The formulas of the operators: the schema of TFLite, by `ai_edge_litert.schema_py_generated`.

    Example:
        >>> import masslib, tempfile
        >>> path = masslib.export.tflite(masslib.models.mlp((4,), 3, hidden=(5,)), tempfile.mkdtemp() + "/mlp.tflite")
        >>> masslib.measure.flops(path) == 2 * (4 * 5 + 5 * 3)
        True
    """
    model, content = read(path)
    graph, shapes = _run(path, model, content, example_inputs, signature)
    total = 0
    for operator in model.subgraphs[graph].operators:
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


def _run(
    path: str | os.PathLike[str], model: Any, content: bytes, example_inputs: Any, signature: str | None
) -> tuple[int, dict[int, tuple[int, ...]]]:
    """The graph of a signature, and the shapes of its tensors for one example; run, for some are known only then."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with runtime.load(path) as predictor:
        if signature is not None and signature not in predictor.signatures:
            raise ValueError(f"{path} has no signature {signature!r}; it has {', '.join(predictor.signatures)}")
        predictor = predictor.signatures[signature or predictor.signature]
        arrays = _one(predictor, example_inputs, path)
    # The fast kernels hide tensors.
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=plain)
    graphs = {entry.signatureKey.decode(): int(entry.subgraphIndex) for entry in model.signatureDefs or ()}
    if predictor.signature in graphs:
        run = interpreter.get_signature_runner(predictor.signature)
        run(**{name: _as(array, run.get_input_details()[name]["dtype"]) for name, array in arrays.items()})
    else:  # a file without signatures
        details = {detail["name"]: detail for detail in interpreter.get_input_details()}
        for name, array in arrays.items():
            interpreter.resize_tensor_input(details[name]["index"], array.shape)
        interpreter.allocate_tensors()
        for name, array in arrays.items():
            interpreter.set_tensor(details[name]["index"], _as(array, details[name]["dtype"]))
        interpreter.invoke()
    graph = graphs.get(predictor.signature, 0)
    return graph, {detail["index"]: tuple(detail["shape"].tolist()) for detail in interpreter.get_tensor_details(graph)}


def _one(predictor: runtime.Predictor, example_inputs: Any, path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """One example of the user, or zeros."""
    rows = predictor.batch or 1
    if example_inputs is not None:
        arrays = predictor.by_name(example_inputs)
        return {name: np.resize(x[:1], (rows, *x.shape[1:])) if predictor.by_rows else x for name, x in arrays.items()}
    shapes = {
        name: (rows, *tensor.shape[1:]) if predictor.by_rows else tensor.shape
        for name, tensor in predictor.inputs.items()
    }
    for name, shape in shapes.items():
        if None in shape:
            raise ValueError(
                f"{path} takes examples of open shape {predictor.inputs[name].shape}, so its work varies; pass "
                "example_inputs, a row of your data"
            )
    return {name: np.zeros(shape, predictor.inputs[name].dtype) for name, shape in shapes.items()}


def _as(array: np.ndarray, dtype: Any) -> np.ndarray:
    """An array of the type of an input; of a quantized one only the shape counts."""
    return array if array.dtype == dtype or array.dtype.kind == "O" else np.zeros(array.shape, dtype)


# Operator -> its multiply-adds for one example, of the shapes of its inputs and its output
_COUNTS: dict[str, Callable[[list[tuple[int, ...]], tuple[int, ...]], int]] = {
    "CONV_2D": lambda inputs, output: np.prod(output) * np.prod(inputs[1][1:]),
    "DEPTHWISE_CONV_2D": lambda inputs, output: np.prod(output) * np.prod(inputs[1][1:3]),
    "CONV_3D": lambda inputs, output: np.prod(output) * np.prod(inputs[1][:-1]),
    "TRANSPOSE_CONV": lambda inputs, output: np.prod(inputs[2]) * np.prod(inputs[1][:3]),
    "FULLY_CONNECTED": lambda inputs, output: np.prod(output) * inputs[1][-1],
    "BATCH_MATMUL": lambda inputs, output: np.prod(output) * np.prod(inputs[0]) // np.prod(output[:-1]),
}
