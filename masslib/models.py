"""The few networks that the notebooks train.

All of them take images in [0, 1] (no Rescaling inside: quantization-aware training refuses it) and end in
a softmax. They are plain Keras models; masslib works as well with your own.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

from masslib._util.extras import needed_by

with needed_by(__name__):
    import keras
    from keras import layers


def small_cnn(input_shape: Sequence[int], num_classes: int, *, dropout: float = 0.5, seed: int = 0) -> keras.Sequential:
    """Build two convolutions with batch normalization and one wide dense layer.

    With `(28, 28, 1)` and ten classes it has 3.2 million weights, nearly all of them in the dense layer: a
    small stand-in for the large models that compression is for.

    Args:
        input_shape: `(height, width, channels)` of one image.
        num_classes: Number of classes, at least 2.
        dropout: Fraction of the 512 dense units dropped while training, 0 up to 1.
        seed: Seed of the initial weights and of the dropout; the same seed gives the same model.

    Returns:
        An uncompiled model `(batch, height, width, channels) -> (batch, num_classes)` probabilities.

    Raises:
        ValueError: If the shape is not that of an image or there are fewer than two classes.

    Example:
        >>> import masslib
        >>> masslib.models.small_cnn((28, 28, 1), 10).count_params()
        3221898
    """
    _check(input_shape, num_classes, rank=3)
    return _build(
        "small_cnn",
        input_shape,
        seed,
        [
            layers.Conv2D(16, 3, padding="same", name="conv1"),
            layers.BatchNormalization(name="norm1"),
            layers.ReLU(name="relu1"),
            layers.MaxPooling2D(name="pool1"),
            layers.Conv2D(32, 3, padding="same", name="conv2"),
            layers.BatchNormalization(name="norm2"),
            layers.ReLU(name="relu2"),
            layers.Flatten(name="flatten"),
            layers.Dense(512, activation="relu", name="dense1"),
            layers.Dropout(dropout, seed=seed, name="dropout"),
            layers.Dense(num_classes, activation="softmax", name="dense2"),
        ],
    )


def lenet5(input_shape: Sequence[int], num_classes: int, *, seed: int = 0) -> keras.Sequential:
    """Build LeNet-5 in the form that the compression literature measures (Caffe's, 431 thousand weights).

    LeCun et al., "Gradient-based learning applied to document recognition", 1998; the widths 20-50-500 are
    those of Han et al., "Deep Compression", 2016.

    Args:
        input_shape: `(height, width, channels)` of one image; at least 16 x 16.
        num_classes: Number of classes, at least 2.
        seed: Seed of the initial weights.

    Returns:
        An uncompiled model `(batch, height, width, channels) -> (batch, num_classes)` probabilities.

    Raises:
        ValueError: If the image is too small or there are fewer than two classes.

    Example:
        >>> import masslib
        >>> masslib.models.lenet5((28, 28, 1), 10).count_params()
        431080
    """
    _check(input_shape, num_classes, rank=3)
    if min(input_shape[:2]) < 16:
        raise ValueError(
            f"lenet5 needs images of at least 16 x 16, got input_shape={tuple(input_shape)}; resize them first"
        )
    return _build(
        "lenet5",
        input_shape,
        seed,
        [
            layers.Conv2D(20, 5, name="conv1"),
            layers.MaxPooling2D(name="pool1"),
            layers.Conv2D(50, 5, name="conv2"),
            layers.MaxPooling2D(name="pool2"),
            layers.Flatten(name="flatten"),
            layers.Dense(500, activation="relu", name="dense1"),
            layers.Dense(num_classes, activation="softmax", name="dense2"),
        ],
    )


def mlp(
    input_shape: Sequence[int], num_classes: int, *, hidden: Sequence[int] = (300, 100), seed: int = 0
) -> keras.Sequential:
    """Build a multi-layer perceptron; with the default widths it is LeNet-300-100.

    Args:
        input_shape: Shape of one example, `(columns,)` or an image, which is flattened.
        num_classes: Number of classes, at least 2.
        hidden: Width of each hidden layer.
        seed: Seed of the initial weights.

    Returns:
        An uncompiled model `(batch, *input_shape) -> (batch, num_classes)` probabilities.

    Raises:
        ValueError: If the shape is empty or there are fewer than two classes.

    Example:
        >>> import masslib
        >>> masslib.models.mlp((28, 28, 1), 10).count_params()
        266610
    """
    _check(input_shape, num_classes, rank=None)
    stack = [layers.Flatten(name="flatten")] if len(input_shape) > 1 else []
    for number, units in enumerate(hidden, start=1):
        stack.append(layers.Dense(units, activation="relu", name=f"dense{number}"))
    stack.append(layers.Dense(num_classes, activation="softmax", name=f"dense{len(hidden) + 1}"))
    return _build("mlp", input_shape, seed, stack)


def _build(name: str, input_shape: Sequence[int], seed: int, stack: list[keras.layers.Layer]) -> keras.Sequential:
    for index, layer in enumerate(stack):
        if hasattr(layer, "kernel_initializer"):
            layer.kernel_initializer = keras.initializers.GlorotUniform(seed=seed * 1000 + index)
    return keras.Sequential([keras.Input(tuple(input_shape), name="input"), *stack], name=name)


def _check(input_shape: Sequence[int], num_classes: int, rank: int | None) -> None:
    shape = tuple(input_shape)
    expected = "(height, width, channels)" if rank else "a shape such as (columns,)"
    whole = all(isinstance(size, Integral) and not isinstance(size, bool) and size > 0 for size in shape)
    if not shape or (rank and len(shape) != rank) or not whole:
        raise ValueError(f"input_shape={shape}: expected {expected} of positive integers, without the batch")
    if num_classes < 2:
        raise ValueError(f"num_classes={num_classes}: a classifier needs at least 2 classes")
