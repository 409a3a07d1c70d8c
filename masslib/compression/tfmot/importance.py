"""Which weights matter: scores to prune by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from masslib.compression.tfmot import support

if TYPE_CHECKING:
    import tf_keras


def kernel_of(layer: tf_keras.layers.Layer) -> Any:
    """Return the variable that holds most of the weights of a layer."""
    return getattr(layer, support.kernel_name(layer))


def lamp(kernel: np.ndarray) -> np.ndarray:
    """Score the weights of a kernel by magnitude, so that scores of different kernels can be compared.

    A square is divided by the sum of all squares that are at least as large: the score is what removing the weight
    would cost of what is left. The largest weight of every kernel scores 1, so that no layer is lost.

    References:
        Lee et al., "Layer-adaptive sparsity for the magnitude-based pruning", 2021 (LAMP).

    Example:
        >>> lamp(np.array([[3.0, 1.0], [2.0, -2.0]])).round(3).tolist()
        [[1.0, 0.056], [0.308, 0.235]]
    """
    squares = np.square(kernel, dtype="float64").ravel()
    order = np.argsort(-squares, kind="stable")
    scores = np.empty_like(squares)
    scores[order] = squares[order] / np.maximum(np.cumsum(squares[order]), 1e-300)
    return scores.reshape(kernel.shape)


def taylor(
    model: tf_keras.Model, kernels: Mapping[str, Any], batches: Iterable[tuple[Any, ...]]
) -> dict[str, np.ndarray]:
    """Score weights by what removing each would change the loss, to first order: |w * dL/dw|, summed over batches.

    Args:
        model: A compiled tf_keras model.
        kernels: Name -> variable of the model.
        batches: `(x, y)` or `(x, y, sample_weight)` each, of arrays or tuples of them.

    References:
        Molchanov et al., "Pruning convolutional neural networks for resource efficient inference", 2017, and
        "Importance estimation for neural network pruning", 2019.
    """
    strategy, variables = model.distribute_strategy, list(kernels.values())

    def gradients(x: Any, y: Any, weights: Any = None) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=False), weights)
        return [
            tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, variables)
        ]  # of a table not all rows

    # Every replica gets all rows, so the answer of the first is that of all.
    run = tf.function(lambda *batch: strategy.run(gradients, batch), reduce_retracing=True)
    scores = dict.fromkeys(kernels, 0.0)
    for batch in batches:
        found = run(*tf.nest.map_structure(tf.convert_to_tensor, batch))
        for (name, kernel), gradient in zip(kernels.items(), found, strict=True):
            first = strategy.experimental_local_results(gradient)[0]
            scores[name] = scores[name] + np.abs(kernel.numpy() * np.asarray(first))
    return scores


def shares_below(scores: Mapping[str, np.ndarray], share: float) -> dict[str, float]:
    """Return the share of each kernel's weights among those that score lowest of all, which are `share` of all.

    Example:
        >>> shares_below({"a": np.array([1, 2]), "b": np.array([3, 4])}, 0.5)
        {'a': 0.5, 'b': 0.0}
    """
    sizes = [score.size for score in scores.values()]
    owners = np.repeat(np.arange(len(sizes)), sizes)
    order = np.argsort(np.concatenate([score.ravel() for score in scores.values()]), kind="stable")
    counts = np.bincount(owners[order[: round(share * len(order))]], minlength=len(sizes))
    # One weight of each kernel stays, or the layers behind it would see nothing but biases.
    kept = [min(count, size - 1) / size for count, size in zip(counts.tolist(), sizes, strict=True)]
    return dict(zip(scores, kept, strict=True))
