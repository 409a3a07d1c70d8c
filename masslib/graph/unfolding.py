"""Layers that are made of layers, such as attention or a block of a transformer, seen as small models.

`layer.call`, given symbolic tensors, leaves the same trace of layers and operations as a functional model, whoever
wrote it. So each step that looks for kernels finds the four of a `MultiHeadAttention`, too, as `attention/query` and so
on, and TFMOT meets nothing but plain layers.
"""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import keras

from masslib.graph.nodes import functional, is_nested, nodes, parts

# Their `call` loops, trains, or moves weights about.
_CLOSED = (keras.layers.RNN, keras.layers.TimeDistributed, keras.layers.SpectralNormalization)


def unfolded(model: keras.Model, closed: Collection[type] = ()) -> keras.Model:
    """View a model with a nested model in the place of every layer that is made of layers.

    The view has the layers of the model itself, and so its weights. A layer stays as it is if its `call` cannot be
    traced, depends on `training` by more than what its own layers do, or has weights or losses of its own.

    Args:
        model: A built Sequential or functional model; it is not changed.
        closed: Classes of layers to leave as they are.

    Returns:
        An uncompiled functional model, or the model itself if there is no such layer.

    Example:
        >>> inputs = keras.Input((6, 8))
        >>> attention = keras.layers.MultiHeadAttention(2, 4, name="attention")
        >>> view = unfolded(keras.Model(inputs, attention(inputs, inputs)))
        >>> [layer.name for layer in view.get_layer("attention").layers if layer.weights]
        ['query', 'key', 'value', 'attention_output']
    """
    if not _has_parts(model, closed):
        return model
    unfolder = _Unfolder(closed)
    with warnings.catch_warnings():
        # Of masks that layers inside do not hand on; those that count are named.
        warnings.filterwarnings("ignore", ".*destroy the mask", UserWarning)
        view = unfolder.run(functional(model))
    _rename_operations(view, nodes(model))
    return view if unfolder.found else model


def _has_parts(model: keras.Model, closed: Collection[type]) -> bool:
    return any(
        _has_parts(layer, closed) if is_nested(layer) else _is_composite(layer, closed) for layer in nodes(model)
    )


def _is_composite(layer: Any, closed: Collection[type]) -> bool:
    if not isinstance(layer, keras.layers.Layer) or isinstance(layer, _CLOSED) or type(layer) in closed:
        return False
    return bool(parts(layer))


class _Unfolder:
    def __init__(self, closed: Collection[type]) -> None:
        self.found = False
        self._closed = closed
        self._made: dict[tuple[Any, ...], keras.Model | None] = {}
        self._kept: list[Any] = []  # an id is only unique while its object is alive

    def run(self, model: keras.Model, masks: dict[int, int] | None = None) -> keras.Model:
        """View a functional model; `masks` tells for some of its inputs which other one is the mask of it."""
        inputs = keras.tree.map_structure(lambda tensor: _like(tensor, tensor.name), model.input)
        flat = keras.tree.flatten(inputs)
        for number, mask in (masks or {}).items():
            flat[number]._keras_mask = flat[mask]
        view = keras.models.clone_model(
            model, input_tensors=inputs, clone_function=lambda it: it, call_function=self._call
        )
        view.supports_masking = model.supports_masking
        return view

    def _call(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        tensors = [value for value in keras.tree.flatten((args, kwargs)) if isinstance(value, keras.KerasTensor)]
        masked = any(_mask(tensor) is not None for tensor in tensors)
        if is_nested(layer) and not masked:
            if ("model", id(layer)) not in self._made:
                inside = self.run(functional(layer)) if _has_parts(layer, self._closed) else layer
                self._made["model", id(layer)] = inside
            return self._made["model", id(layer)](*args, **kwargs)
        if is_nested(layer) or _is_composite(layer, self._closed):
            return self._opened(layer, args, _with_masks(layer, args, kwargs))
        return layer(*args, **_with_masks(layer, args, kwargs))

    def _opened(self, layer: Any, args: Any, kwargs: Any) -> Any:
        """Call the inside of a layer, if it can be seen."""
        flat = [value for value in keras.tree.flatten((args, kwargs)) if isinstance(value, keras.KerasTensor)]
        flat += [_mask(tensor) for tensor in flat if _mask(tensor) is not None]
        tensors = list({id(tensor): tensor for tensor in flat}.values())
        numbers = {id(tensor): number for number, tensor in enumerate(tensors)}
        masks = {number: numbers[id(_mask(it))] for number, it in enumerate(tensors) if _mask(it) is not None}
        pattern = keras.tree.map_structure(lambda value: f"tensor {numbers.get(id(value), value)}", (args, kwargs))
        key = id(layer), repr(pattern), repr(masks)
        if key not in self._made:
            inner = _inside(layer, args, kwargs, tensors, masks)
            self._kept.append(inner)
            # Attention takes the masks off its inputs.
            left = {number: mask for number, mask in masks.items() if inner and _mask(inner.inputs[number]) is not None}
            self._made[key] = self.run(inner, left) if inner and (left or _has_parts(inner, self._closed)) else inner
        inner = self._made[key]
        self._kept.append((layer, args, kwargs))
        if inner is None:
            return layer(*args, **kwargs)
        self.found = True
        # An operation forgets the mask that a tensor carries along; inside of the layer it is an input of its own.
        plain = [keras.ops.copy(it) if _mask(it) is not None else it for it in tensors]
        outputs = inner(plain if len(plain) > 1 else plain[0])
        for tensor, mask in zip(keras.tree.flatten(outputs), _output_masks(layer, args, kwargs), strict=False):
            if mask is not None:
                tensor._keras_mask = mask
        return outputs


def _inside(layer: Any, args: Any, kwargs: Any, tensors: list[Any], masks: dict[int, int]) -> keras.Model | None:
    """Return the inside of a layer as a model of the tensors that it is called with, or None if it cannot be seen."""
    if layer.activity_regularizer is not None:
        return None
    trains = "training" in inspect.signature(layer.call).parameters
    settings = [{"training": value} for value in (None, True, False)] if trains else [{}]
    inner, *others = [_traced(layer, args, kwargs | setting, tensors, masks) for setting in settings]
    if inner is None or any(other is None or _kinds(other) != _kinds(inner) for other in others):
        return None
    held = {id(variable) for variable in inner.variables}
    if any(id(variable) not in held for variable in layer.variables):  # used in other ways than by its layers
        return None
    _rename_operations(inner)
    return inner


def _traced(layer: Any, args: Any, kwargs: Any, tensors: list[Any], masks: dict[int, int]) -> keras.Model | None:
    flat = [_like(tensor, f"tensor_{number}") for number, tensor in enumerate(tensors)]
    for number, mask in masks.items():
        flat[number]._keras_mask = flat[mask]
    inputs = {id(tensor): new for tensor, new in zip(tensors, flat, strict=True)}
    args, kwargs = keras.tree.map_structure(lambda value: inputs.get(id(value), value), (args, kwargs))
    losses = len(layer.losses)
    try:
        with _unfused(layer):
            outputs = layer.call(*args, **kwargs, **_spelled_out(layer, kwargs))
        if _spelled_out(layer, kwargs):
            outputs = outputs[0]
        outputs = _of_known_shape(layer, args, kwargs, outputs)
        inner = keras.Model(flat if len(flat) > 1 else flat[0], outputs, name=layer.name)
    except Exception:  # whatever code that was written for numbers raises
        return None
    return inner if len(layer.losses) == losses else None


def _of_known_shape(layer: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    """Reshape outputs to what the layer tells of them, where the layers inside tell less.

    An EinsumDense knows no length that `output_shape` leaves open, and so the dense layers behind an attention would
    not know theirs.
    """
    if all(None not in tensor.shape[1:] for tensor in keras.tree.flatten(outputs)):
        return outputs
    told = keras.tree.flatten(layer.compute_output_spec(*args, **kwargs))

    def known(tensor: Any) -> Any:
        shape = told.pop(0).shape
        if shape == tensor.shape or shape.count(None) > 1:
            return tensor
        return keras.ops.reshape(tensor, [-1 if size is None else size for size in shape])

    return keras.tree.map_structure(known, outputs)


def _spelled_out(layer: keras.layers.Layer, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Let attention compute its scores by operations that int8 has, and not by one that does all."""
    attends = isinstance(layer, keras.layers.MultiHeadAttention | keras.layers.GroupQueryAttention)
    return {"return_attention_scores": True} if attends and "return_attention_scores" not in kwargs else {}


@contextmanager
def _unfused(layer: keras.layers.Layer) -> Iterator[None]:
    """Let Bidirectional call its two layers, instead of one kernel for both."""
    both = (layer.forward_layer, layer.backward_layer) if isinstance(layer, keras.layers.Bidirectional) else ()
    before = [(part, part.use_cudnn) for part in both if hasattr(part, "use_cudnn")]
    for part, _ in before:
        part.use_cudnn = False
    try:
        yield
    finally:
        for part, setting in before:
            part.use_cudnn = setting


def _kinds(model: keras.Model) -> Counter[str]:
    return Counter(type(node).__name__ for node in nodes(model))


def _rename_operations(model: keras.Model, known: Collection[Any] = ()) -> None:
    """Name operations by their place in the model; Keras counts all of a process."""
    new = [node for node in nodes(model) if not isinstance(node, keras.layers.Layer) and node not in known]
    taken = {node.name for node in nodes(model) if node not in new}
    for node in new:
        kind = node.name.rstrip("_0123456789")
        names = (f"{kind}_{count}" if count else kind for count in itertools.count())
        node.name = next(name for name in names if name not in taken)
        taken.add(node.name)


def _like(tensor: Any, name: str) -> Any:
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)


def _mask(tensor: Any) -> Any:
    """The mask that travels as an attribute of a tensor.

    Keras has no public name for it, and a functional model does not hand it on (tensorflow/tensorflow issue 47069;
    keras-team/keras issue 18413).
    """
    return getattr(tensor, "_keras_mask", None)


def _with_masks(layer: Any, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Name the masks that Keras passes to a layer unseen, for inside of a view they would be lost."""
    if not isinstance(layer, keras.layers.Layer):
        return kwargs
    parameters = inspect.signature(layer.call).parameters
    bound = inspect.signature(layer.call).bind(*args, **kwargs).arguments
    found = {}
    for number, (name, value) in enumerate(bound.items()):
        masks = keras.tree.map_structure(_mask, value)
        if all(mask is None for mask in keras.tree.flatten(masks)):
            continue
        for key in (f"{name}_mask", "mask") if number == 0 else (f"{name}_mask",):
            if key in parameters and bound.get(key) is None:
                found[key] = masks
                break
    return kwargs | found


def _output_masks(layer: Any, args: Any, kwargs: Any) -> list[Any]:
    if not layer.supports_masking:
        return []
    previous = kwargs.get("mask")
    first = next(iter(inspect.signature(layer.call).bind(*args, **kwargs).arguments.values()))
    masks = layer.compute_mask(first, keras.tree.map_structure(_mask, first) if previous is None else previous)
    return [] if masks is None else keras.tree.flatten(masks)
