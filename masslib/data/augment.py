"""Keras augmentation without state: what happens to a row depends on (seed, epoch, row) and nothing else.

A Keras preprocessing layer draws from a seed that moves on with every call, so its result depends on the
batch size, the order and the number of workers. Here every row is a call of its own, with seeds of its own,
in a `keras.StatelessScope`, which leaves the layer itself as it was.

That costs what a loop in the graph costs, about 30 us per row. `tf.vectorized_map` is not faster where random numbers
are most of the work, and changes the bits of some layers (`RandomRotation`), which then are not surely the row's own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from masslib.data.rows import NestedRows, Rows

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# A seed generator counts its calls in the second number of its state: room for a million calls each, and in each field
# for a thousand generators.
_CALLS, _GENERATORS = 1 << 20, 1 << 10


def of_rows(augment: Any, rows: Rows, seed: int) -> Callable[[Any, tf.Tensor, tf.Tensor], Any]:
    """Makes a graph function that changes the rows of an input, or the fields that are named.

    Args:
        augment: a layer as `stateless` takes it; for rows of several fields a dict of such, or a list with None for
            the others; None changes nothing.
        rows: the inputs.
        seed: see `stateless`.

    Returns:
        A function of rows as `rows.reader()` gives them, their numbers and the epoch, giving the same structure.

    Raises:
        TypeError: see `stateless`.
        ValueError: a field that there is not, or one of text; and see `stateless`.

    Example:
        >>> import keras, numpy as np
        >>> from masslib.data import from_arrays
        >>> subset = from_arrays({"image": np.ones((2, 4, 4, 1)), "age": [30, 50]})
        >>> x = next(iter(subset.batches(2, augment={"image": keras.layers.RandomBrightness(0.5)})))
        >>> float(x["image"][0, 0, 0, 0]) != 1, sorted(x["age"].numpy().tolist())
        (True, [30, 50])
    """
    return _of_fields(augment, rows, seed, itertools.count())


def _of_fields(augment: Any, rows: Rows, seed: int, fields: Iterator[int]) -> Callable:
    if not isinstance(rows, NestedRows):
        return _of_field(augment, rows, seed, next(fields))
    parts = rows.parts if isinstance(rows.parts, dict) else dict(enumerate(rows.parts))
    named = isinstance(rows.parts, dict)
    if augment is not None and not (
        isinstance(augment, dict)
        and named
        and set(augment) <= set(parts)
        or isinstance(augment, list | tuple)
        and not named
        and len(augment) == len(parts)
    ):
        example = f"{{{next(iter(parts))!r}: layer}}" if named else f"[layer{', None' * (len(parts) - 1)}]"
        raise ValueError(f"augment is {augment!r}, and the inputs are {list(parts)}; expected such as {example}.")
    layers = augment if isinstance(augment, dict) else dict(enumerate(augment or ()))
    changes = {key: _of_fields(layers.get(key), part, seed, fields) for key, part in parts.items() if part is not None}

    def change(x: Any, numbers: tf.Tensor, epoch: tf.Tensor) -> Any:
        pairs = x.items() if named else enumerate(x)
        changed = {key: changes[key](part, numbers, epoch) if key in changes else part for key, part in pairs}
        return changed if named else tuple(changed.values())

    return change


def _of_field(augment: Any, rows: Rows, seed: int, field: int) -> Callable:
    import tensorflow as tf

    if augment is None:
        return lambda x, numbers, epoch: x
    x = rows.read(slice(0, 8))
    if x.dtype.kind not in "biuf":
        raise ValueError(
            f"augment changes rows of numbers, and these are {rows!r}; map the dataset of batches() instead."
        )
    apply = stateless(augment, x.astype(np.float32), seed, field)
    return lambda x, numbers, epoch: apply(tf.cast(x, tf.float32), numbers, epoch)


def stateless(
    layer: keras.layers.Layer, examples: np.ndarray, seed: int, field: int = 0
) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
    """Makes a graph function of a Keras layer whose randomness is the row's own.

    Args:
        layer: a preprocessing layer, or a Sequential of such; it is called with `training=True`.
        examples: a few float32 rows `(k, ...)` on which the layer is tried first.
        seed: with epoch, row and field all that the result depends on.
        field: number of the field, from 0.

    Returns:
        A function of float32 rows `(b, ...)`, int row numbers `(b,)` and a scalar int64 epoch, giving float32
        rows `(b, ...)`.

    Raises:
        TypeError: `layer` is no Keras layer.
        ValueError: the layer mixes rows, or does not repeat itself from the same seeds.

    Example:
        >>> import keras, numpy as np, tensorflow as tf
        >>> x = np.ones((2, 4, 4, 1), "float32")
        >>> flip = stateless(keras.layers.RandomFlip(), x, seed=0)
        >>> flip(x, tf.constant([0, 1]), tf.constant(0, tf.int64)).shape
        TensorShape([2, 4, 4, 1])
    """
    import keras
    import tensorflow as tf

    _check(layer)
    with tf.init_scope(), keras.StatelessScope():
        layer(tf.constant(examples[:1]), training=True)  # builds it
    weights = {id(variable) for variable in layer.weights}
    seeds = [variable for variable in layer.variables if id(variable) not in weights]
    generators = range(field * _GENERATORS, field * _GENERATORS + len(seeds))

    def one_row(row: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        x, states = row
        given = [(variable, states[k]) for k, variable in enumerate(seeds)]
        with keras.StatelessScope(given) as scope:
            changed = layer(x[tf.newaxis], training=True)
        if len(scope.state_mapping) > len(seeds):  # it wrote to a variable that is no seed of its own
            raise ValueError(
                f"augment layer '{layer.name}' changes state other than its own seeds (a moving average, or "
                "Keras' global seed generator), so its result would depend on the order of the batches. "
                "Give the layer a keras.random.SeedGenerator attribute and draw from that."
            )
        return tf.cast(changed[0], tf.float32)

    with tf.init_scope():  # eager, where errors are short
        shape = one_row((tf.constant(examples[0]), _states(seed, 0, tf.range(1), generators)[0])).shape

    def apply(x: tf.Tensor, rows: tf.Tensor, epoch: tf.Tensor) -> tf.Tensor:
        inputs = (x, _states(seed, epoch, rows, generators))
        return tf.map_fn(one_row, inputs, fn_output_signature=tf.TensorSpec(shape, tf.float32))

    _try(layer, apply, examples)
    return apply


def _states(seed: int, epoch: tf.Tensor | int, rows: tf.Tensor, generators: range) -> tf.Tensor:
    """Seed states `(b, len(generators), 2)`: a random number of (seed, epoch) plus the row; each generator's range."""
    import tensorflow as tf

    pair = tf.stack([tf.constant(seed, tf.int64), tf.cast(epoch, tf.int64)])
    base = tf.random.stateless_uniform([], pair, minval=None, maxval=None, dtype=tf.int64, alg="philox")
    first = tf.repeat((base + tf.cast(rows, tf.int64))[:, tf.newaxis], len(generators), axis=1)
    calls = tf.constant(list(generators), tf.int64) * _CALLS
    return tf.stack([first, tf.zeros_like(first) + calls], axis=-1)


def _check(layer: keras.layers.Layer) -> None:
    import keras

    if not isinstance(layer, keras.layers.Layer):
        raise TypeError(
            f"augment is {layer!r}, expected a Keras layer such as keras.layers.RandomFlip('horizontal'), or "
            "a keras.Sequential of such layers."
        )
    for part in [layer, *getattr(layer, "layers", [])]:
        if isinstance(part, keras.layers.MixUp | keras.layers.CutMix):
            raise ValueError(
                f"augment layer '{part.name}' ({type(part).__name__}) mixes the rows of a batch, so a row "
                "would depend on its neighbours; expected a layer that changes each row alone. Map it over "
                "batches() yourself."
            )


def _try(layer: keras.layers.Layer, apply: Callable, examples: np.ndarray) -> None:
    """Traces and runs the function twice: Python's random numbers change by trace, TensorFlow's by run.

    After `tf.random.set_seed` those of TensorFlow change by the second run of one trace only.
    """
    import tensorflow as tf

    with tf.init_scope():
        inputs = (tf.constant(examples), tf.range(len(examples)), tf.constant(0, tf.int64))
        # As concrete functions, because TensorFlow warns of functions that are traced often.
        graphs = [tf.function(apply).get_concrete_function(*inputs) for _ in range(2)]
        first, *others = (graph(*inputs).numpy() for graph in (*graphs, graphs[0]))
    if not all(np.array_equal(first, other, equal_nan=True) for other in others):
        raise ValueError(
            f"augment layer '{layer.name}' ({type(layer).__name__}) gives two results from the same seeds, "
            "so runs could not be repeated: it draws from Python's, NumPy's or TensorFlow's global "
            "generator. Use a layer that draws from a keras.random.SeedGenerator attribute."
        )
