"""A Keras network rebuilt in PyTorch with the same weights, to be timed beside the exported files."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import torch
from torch import nn
from torch.nn import functional


def twin(model: keras.Model) -> nn.Module:
    """Rebuild a Sequential or functional model of convolutions; raise for a layer that is not known here."""
    nodes: list[tuple[str, str, list[str]]] = []
    modules: dict[str, nn.Module] = {}
    # clone_model sees every call of a layer with the tensors that it takes.
    names: dict[int, str] = {id(model.inputs[0]): "input"}

    def visit(layer: Any, *args: Any, **kwargs: Any) -> Any:
        output = layer(*args, **kwargs)
        inputs = args[0] if isinstance(args[0], list | tuple) else [args[0]]
        if not names.keys() & {id(tensor) for tensor in inputs}:
            names.update({id(tensor): "input" for tensor in inputs})  # the clone has an input of its own
        modules[layer.name] = _module(layer)
        nodes.append((layer.name, type(layer).__name__, [names[id(tensor)] for tensor in inputs]))
        names[id(output)] = layer.name
        kept.append((inputs, output))  # or their ids would be given to others
        return output

    kept: list[Any] = []
    functional_form = keras.Model(model.inputs, model.outputs)
    keras.models.clone_model(functional_form, call_function=visit, clone_function=lambda layer: layer)
    return _Network(modules, nodes).eval()


class _Network(nn.Module):
    def __init__(self, modules: dict[str, nn.Module], nodes: list[tuple[str, str, list[str]]]):
        super().__init__()
        self.layers = nn.ModuleDict(modules)
        self._nodes = nodes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = {"input": x}
        for name, kind, inputs in self._nodes:
            tensors = [values[one] for one in inputs]
            x = tensors[0] + tensors[1] if kind == "Add" else self.layers[name](*tensors)
            values[name] = x
        return x


class _Padded(nn.Module):
    """TensorFlow pads more at the end than at the start where the strides ask for it."""

    def __init__(self, inner: nn.Module, size: tuple[int, int], kernel: tuple[int, int], strides: tuple[int, int]):
        super().__init__()
        total = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, kernel, strides, strict=True)]
        self.inner = inner
        self.pad = (total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(functional.pad(x, self.pad))


class _Flatten(nn.Module):
    """In the order of Keras, channels last."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


def _module(layer: Any) -> nn.Module:
    kind = type(layer).__name__
    weights = [torch.from_numpy(np.asarray(value)) for value in layer.get_weights()]
    if kind in ("Conv2D", "DepthwiseConv2D"):
        return nn.Sequential(_convolution(layer, weights, kind == "DepthwiseConv2D"), _activation(layer))
    if kind == "Dense":
        dense = nn.Linear(*weights[0].shape)
        _fill(dense, weight=weights[0].T, bias=weights[1])
        return nn.Sequential(dense, _activation(layer))
    if kind == "BatchNormalization":
        norm = nn.BatchNorm2d(len(weights[0]), eps=layer.epsilon)
        _fill(norm, weight=weights[0], bias=weights[1], running_mean=weights[2], running_var=weights[3])
        return norm
    if kind == "ReLU":
        return nn.ReLU6() if layer.max_value == 6 else nn.ReLU()
    if kind == "Activation":
        return _activation(layer)
    if kind == "MaxPooling2D":
        return nn.MaxPool2d(layer.pool_size, layer.strides)
    if kind == "ZeroPadding2D":
        (top, bottom), (left, right) = layer.padding
        return nn.ZeroPad2d((left, right, top, bottom))
    if kind == "GlobalAveragePooling2D":
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if kind == "Flatten":
        return _Flatten()
    if kind in ("Dropout", "Add", "InputLayer"):
        return nn.Identity()
    raise TypeError(f"layer {layer.name!r} is a {kind}, which this benchmark does not rebuild")


def _convolution(layer: Any, weights: list[torch.Tensor], depthwise: bool) -> nn.Module:
    kernel = weights[0].permute((2, 3, 0, 1) if depthwise else (3, 2, 0, 1)).contiguous()
    channels = layer.input.shape[-1]
    convolution = nn.Conv2d(
        channels,
        kernel.shape[0],
        layer.kernel_size,
        layer.strides,
        groups=channels if depthwise else 1,
        bias=layer.use_bias,
    )
    _fill(convolution, weight=kernel, **({"bias": weights[1]} if layer.use_bias else {}))
    if layer.padding == "valid":
        return convolution
    return _Padded(convolution, layer.input.shape[1:3], layer.kernel_size, layer.strides)


def _activation(layer: Any) -> nn.Module:
    known = {"linear": nn.Identity(), "relu": nn.ReLU(), "relu6": nn.ReLU6(), "softmax": nn.Softmax(dim=1)}
    return known[layer.activation.__name__]


def _fill(module: nn.Module, **values: torch.Tensor) -> None:
    with torch.no_grad():
        for name, value in values.items():
            getattr(module, name).copy_(value)
