"""The graph of a model, rebuilt in the other Keras and verified."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import keras

from masslib._util.quiet import quiet
from masslib.bridge.equality import check_answers, randomize
from masslib.bridge.replay import Replay
from masslib.bridge.translate import CustomLayers
from masslib.graph.activations import separated
from masslib.graph.checks import check_model
from masslib.graph.copying import copied
from masslib.graph.encodings import plainly_encoded
from masslib.graph.layers import is_own
from masslib.graph.nodes import functional, named_layers, parts
from masslib.graph.precision import unmixed
from masslib.graph.unfolding import unfolded
from masslib.graph.weights import copy_weights

if TYPE_CHECKING:
    import tf_keras


_WHAT_TO_DO = (
    "Replace these layers by built-in ones, name theirs in custom_layers, or leave their part of the model out."
)


class UnsupportedLayers(ValueError):
    """Layers of a model cannot be rebuilt in tf_keras.

    Attributes:
        problems: Name of a layer -> the reason.
    """

    def __init__(self, model: keras.Model, problems: dict[str, str]):
        listed = "".join(f"\n  {name}: {reason}" for name, reason in problems.items())
        super().__init__(
            f"{len(problems)} layer(s) of {model.name!r} have no tf_keras counterpart:{listed}\n{_WHAT_TO_DO}"
        )
        self.problems = problems

    def __reduce__(self) -> tuple[Any, ...]:
        """A worker sends its errors to another process."""
        return _unsupported, (str(self), self.problems)


def _unsupported(message: str, problems: dict[str, str]) -> UnsupportedLayers:
    error = UnsupportedLayers.__new__(UnsupportedLayers, message)
    error.args, error.problems = (message,), problems
    return error


def to_tf_keras(model: keras.Model, custom_layers: CustomLayers | None = None) -> tf_keras.Model:
    """Rebuild a Keras 3 model in tf_keras (Keras 2), weights included.

    The result is one flat functional model whatever `model` was, because TFMOT does not look into nested models:
    their layers get names such as `outer/inner`. Both models are run on random input, with random
    batch-normalization statistics, before it is returned.

    Args:
        model: A built Sequential or functional Keras 3 model. It is not changed. What computes in mixed precision
            crosses in float32, the precision of its weights.
        custom_layers: How layers cross that are not part of Keras: Keras 3 layer class -> a tf_keras layer class
            that takes the settings of its `get_config()`, or a function that makes the tf_keras layer of a Keras 3
            layer. Weights must have the same order and shapes. Other layers of your own are carried (`bridge.carry`),
            as are layers of Keras that tf_keras lacks, such as the LayerScale of ConvNeXt.

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
    check_model(model)
    with contextlib.suppress(TypeError, ValueError, NotImplementedError):  # from layers that the replay will list
        model = plainly_encoded(separated(unmixed(model)))
    model = unfolded(model, tuple(custom_layers or ()))
    replay = Replay(custom_layers)
    with quiet():
        reference, twin = replay.run(model) or (None, None)
    if replay.problems:
        raise UnsupportedLayers(model, replay.problems)
    _check_trainable(model, twin)
    _check_weights(model, reference)
    randomize(reference)
    copy_weights(reference, twin)
    check_answers(reference, twin)
    copy_weights(model, twin)
    if any(map(is_own, named_layers(model).values())):  # the copy may have lost what their settings lack
        check_answers(model, twin)
    return twin


def from_tf_keras(model: tf_keras.Model, like: keras.Model) -> keras.Model:
    """Bring the weights of a tf_keras model back into a new Keras 3 model.

    Args:
        model: A tf_keras model made by `to_tf_keras`, perhaps trained since. TFMOT wrappers must have been
            stripped.
        like: The Keras 3 model it came from. It is not changed. If it is compiled, the new one is compiled alike; the
            state of its optimizer is not copied.

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
    check_model(like)
    with like.distribute_strategy.scope():
        result = copied(like, float32=False)
    twins = named_layers(model)
    closed = {type(layer) for name, layer in named_layers(like).items() if name in twins and parts(layer)}
    copy_weights(model, unfolded(result, tuple(closed)))
    check_answers(functional(unmixed(result)), model)
    return result


def _check_trainable(model: keras.Model, twin: tf_keras.Model) -> None:
    """Raise where a layer trains some of its weights, which the layer of tf_keras does not know."""
    trained = {id(weight) for weight in twin.trainable_weights}
    twins = named_layers(twin)
    for name, layer in named_layers(model).items():
        if not layer.weights:
            continue
        if not model.trainable and layer.trainable:
            raise ValueError(
                f"model {model.name!r} has trainable=False and its layer {name!r} has trainable=True, so Keras trains "
                "neither and tf_keras would train the layer; set layer.trainable=False as well"
            )
        ours = [bool(weight.trainable) for weight in layer.weights]
        if ours != [id(weight) in trained for weight in twins[name].weights]:
            raise ValueError(
                f"layer {name!r} trains {sum(ours)} of its {len(ours)} weights, which tf_keras cannot; set "
                "layer.trainable for the whole of it"
            )


def _check_weights(model: keras.Model, reference: keras.Model) -> None:
    """Raise where a weight has a regularizer or constraint that the settings of its layer cannot express."""
    copies = named_layers(reference)
    for name, layer in named_layers(model).items():
        for weight, copy in zip(layer.weights, copies[name].weights if layer.weights else (), strict=True):
            for kind in ("regularizer", "constraint"):
                written = [keras.saving.serialize_keras_object(getattr(one, kind)) for one in (weight, copy)]
                if written[0] != written[1]:
                    raise ValueError(
                        f"the {kind} of {weight.path!r} was set on the weight, and {type(layer).__name__} has no "
                        f"setting for it; pass {kind}s when the layers are made"
                    )
