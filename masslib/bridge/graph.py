"""The graph of a model, rebuilt in the other Keras and verified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from masslib.bridge.equality import check_answers, copy_weights, randomize
from masslib.bridge.translate import twin_layer

if TYPE_CHECKING:
    import keras
    import tf_keras

_WHAT_TO_DO = "Replace these layers by built-in ones, or leave the parts of the model that hold them out of it."


def to_tf_keras(model: keras.Model) -> tf_keras.Model:
    """Rebuild a Keras 3 model in tf_keras (Keras 2), weights included.

    The result is one flat functional model whatever `model` was, because TFMOT does not look into nested models:
    their layers get names such as `outer/inner`. Both models are run on random input, with random
    batch-normalization statistics, before it is returned.

    Args:
        model: A built Sequential or functional Keras 3 model. It is not changed.

    Returns:
        An uncompiled `tf_keras.Model` with the same layers, weights and outputs.

    Raises:
        TypeError: If `model` is not a Keras 3 model, or is a subclassed one whose graph cannot be read.
        ValueError: If layers have no counterpart (all of them are listed, with the reason), or the outputs
            of the two models differ by more than `bridge.TOLERANCE`.

    Example:
        >>> import masslib
        >>> twin = masslib.bridge.to_tf_keras(masslib.models.mlp((4,), 3))
        >>> [layer.name for layer in twin.layers]
        ['input', 'dense1', 'dense2', 'dense3']
    """
    _check_type(model)
    problems = unsupported_layers(model)
    if problems:
        listed = "\n".join(f"  {name}: {reason}" for name, reason in problems.items())
        raise ValueError(
            f"{len(problems)} layer(s) of {model.name!r} have no tf_keras counterpart:\n{listed}\n{_WHAT_TO_DO}"
        )
    reference, twin = _Replay().run(model)
    randomize(reference)
    copy_weights(reference, twin)
    check_answers(reference, twin)
    copy_weights(model, twin)
    return twin


def from_tf_keras(model: tf_keras.Model, like: keras.Model) -> keras.Model:
    """Bring the weights of a tf_keras model back into a new Keras 3 model.

    Args:
        model: A tf_keras model made by `to_tf_keras`, perhaps trained since. TFMOT wrappers must have been
            stripped.
        like: The Keras 3 model it came from. It is not changed; optimizer and loss are not copied.

    Returns:
        A new Keras 3 model with the architecture of `like` and the weights of `model`, verified as in
        `to_tf_keras`.

    Raises:
        ValueError: If a layer is missing or has other shapes, or the outputs differ.

    Example:
        >>> import masslib
        >>> model = masslib.models.mlp((4,), 3)
        >>> again = masslib.bridge.from_tf_keras(masslib.bridge.to_tf_keras(model), like=model)
        >>> bool((again.get_weights()[0] == model.get_weights()[0]).all())
        True
    """
    import keras

    _check_type(like)
    with like.distribute_strategy.scope():
        result = keras.models.clone_model(like)
    copy_weights(model, result)
    check_answers(_functional(result), model)
    return result


def unsupported_layers(model: keras.Model) -> dict[str, str]:
    """Name the layers of a Keras 3 model that cannot be rebuilt in tf_keras, each with the reason."""
    _check_type(model)
    return _problems(model, "", {})


def _problems(model: keras.Model, prefix: str, seen: dict[int, str]) -> dict[str, str]:
    import keras

    problems: dict[str, str] = {}
    for layer in getattr(model, "operations", None) or model.layers:
        name = prefix + layer.name
        if seen.setdefault(id(layer), name) != name:
            problems[name] = f"it is the layer {seen[id(layer)]!r} as well; share layers inside of one model only"
        elif isinstance(layer, keras.Model):
            problems |= _problems(layer, f"{name}/", seen)
        elif not isinstance(layer, keras.layers.Layer):
            problems[name] = f"{type(layer).__name__}: an operation, not a layer; use a layer such as keras.layers.Add"
        else:
            try:
                twin_layer(layer, name)
            except (TypeError, ValueError) as error:
                problems[name] = f"{type(layer).__name__}: {str(error).splitlines()[0]}"
    return problems


def _check_type(model: Any) -> None:
    import keras

    if not isinstance(model, keras.Model):
        raise TypeError(
            f"expected a Keras 3 model, got {type(model).__module__}.{type(model).__name__}; "
            "build it with `import keras`, not with tf.keras or tf_keras"
        )
    if not model.built:
        raise ValueError(f"model {model.name!r} has no weights yet; start it with keras.Input(...) or call it once")
    graph = isinstance(model, keras.Sequential) or hasattr(model, "operations")
    if not graph:
        raise TypeError(
            f"model {model.name!r} is a subclass ({type(model).__name__}) whose graph cannot be read; "
            "build the same network as a Sequential or functional model"
        )


class _Replay:
    """Calls a Keras 3 copy of a model and the tf_keras twins of its layers side by side, node by node."""

    def __init__(self) -> None:
        self._layers: dict[str, Any] = {}
        self._tensors: dict[int, Any] = {}
        self._kept: list[Any] = []  # an id is only unique while its tensor is alive

    def run(self, model: keras.Model) -> tuple[keras.Model, tf_keras.Model]:
        """Return the copy, which has fresh weights, and the twin."""
        import keras
        import tf_keras

        twin_inputs = keras.tree.map_structure(
            lambda tensor: tf_keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name),
            _functional(model).input,
        )
        reference, outputs = self._walk(model, keras.tree.flatten(twin_inputs), prefix="")
        return reference, tf_keras.Model(twin_inputs, outputs, name=model.name)

    def _walk(self, model: keras.Model, twin_inputs: list[Any], prefix: str) -> tuple[keras.Model, Any]:
        import keras

        model = _functional(model)
        inputs = keras.tree.map_structure(
            lambda tensor: keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name), model.input
        )
        self._pair(inputs, twin_inputs)

        def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
            outputs = layer(*args, **kwargs)
            self._pair(outputs, self._call_twin(layer, prefix + layer.name, args, kwargs))
            return outputs

        reference = keras.models.clone_model(model, input_tensors=inputs, call_function=call)
        return reference, keras.tree.map_structure(lambda tensor: self._tensors[id(tensor)], reference.output)

    def _call_twin(self, layer: keras.layers.Layer, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        import keras

        args, kwargs = keras.tree.map_structure(lambda value: self._tensors.get(id(value), value), (args, kwargs))
        if isinstance(layer, keras.Model):
            return self._walk(layer, keras.tree.flatten(args), f"{name}/")[1]
        if name not in self._layers:
            self._layers[name] = twin_layer(layer, name)
        return self._layers[name](*args, **{key: value for key, value in kwargs.items() if value is not None})

    def _pair(self, tensors: Any, twins: Any) -> None:
        import keras

        for tensor, twin in zip(keras.tree.flatten(tensors), keras.tree.flatten(twins), strict=True):
            self._tensors[id(tensor)] = twin
            self._kept.append(tensor)


def _functional(model: keras.Model) -> keras.Model:
    """View a Sequential model as a functional one, with the same layers."""
    import keras

    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return model
