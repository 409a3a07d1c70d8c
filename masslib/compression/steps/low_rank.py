"""Low rank: one large layer becomes two thin ones, by truncated singular value decomposition."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

import keras
import numpy as np

from masslib.compression.finetune import Rebuilding, Tuner
from masslib.compression.step import check_min_share, split
from masslib.compression.steps.per_layer import narrowed, value_of, values_of
from masslib.compression.tfmot import support
from masslib.graph.layers import settings
from masslib.graph.nodes import named_layers
from masslib.graph.rebuilding import rebuilt
from masslib.graph.unfolding import unfolded

_OF_SINGLE_WEIGHTS = (keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2)


@dataclass(frozen=True, repr=False)
class LowRank(Rebuilding):
    """Replace dense layers and convolutions by two thin ones each, and fine-tune them.

    The kernel is cut to its largest singular values, which is the nearest matrix of that rank (Eckart and Young,
    1936). A dense layer `(inputs, units)` becomes a linear one `(inputs, rank)` without bias and one `(rank, units)`
    that keeps bias, activation and name. Of a convolution the kernel is unfolded to
    `(height * width * channels, filters)`: it becomes one of the same size with `rank` filters, and a 1 x 1
    convolution (Denton et al., "Exploiting linear structure within convolutional networks", 2014; Zhang et al.,
    "Accelerating very deep convolutional networks", 2016). The file and the multiplications shrink alike.

    PCA is the centred form of the same decomposition: the singular vectors of data whose mean was taken away. The
    rows of a kernel are no data, so they are not centred.

    Exactly one of `rank`, `energy` and `error` says how much is kept; each may be a dict from names of layers to
    their values, and then the layers that it does not name are left alone.

    Args:
        rank: Singular values to keep in every layer.
        energy: Fraction of the sum of the squared singular values to keep, above 0 and below 1.
        error: Largest relative error of a kernel, `|W - W_rank| / |W|` in the Frobenius norm, above 0 and below 1; it
            is the same as `energy=1 - error**2`.
        min_share: Layers with a smaller share of the model's weights are skipped, and reported as such, as are those
            in which two thin layers would have no fewer weights than the one.
        epochs: Passes over the data.
        max_steps: Upper limit of the training steps (batches), whatever the epochs.
        learning_rate: Of the fine-tuning; that of the model's own optimizer if absent.

    Raises:
        ValueError: If there is not exactly one of rank, energy and error, or it is out of range.

    Example:
        >>> LowRank(16, max_steps=200), LowRank(energy=0.9)
        (LowRank(16, max_steps=200), LowRank(energy=0.9))
    """

    order = 2

    rank: int | Mapping[str, int] | None = None
    _: KW_ONLY
    energy: float | Mapping[str, float] | None = None
    error: float | Mapping[str, float] | None = None
    min_share: float = support.MIN_SHARE

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [name for name in ("rank", "energy", "error") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"LowRank got {' and '.join(given) or 'none'} of rank, energy and error; expected exactly one of them, "
                "such as LowRank(energy=0.9)"
            )
        for rank in values_of(self.rank) if self.rank is not None else []:
            if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
                raise ValueError(
                    f"LowRank(rank={self.rank!r}): expected a positive integer, or a dict of them by layer"
                )
        for name in ("energy", "error"):
            setting = getattr(self, name)
            for value in values_of(setting) if setting is not None else []:
                if not isinstance(value, int | float) or not 0 < value < 1:
                    raise ValueError(
                        f"LowRank({name}={setting!r}): expected a fraction above 0 and below 1, or a dict of them by "
                        "layer"
                    )
        check_min_share(self)

    def rebuild(self, model: keras.Model, tuner: Tuner) -> tuple[keras.Model, dict[str, str]]:
        """Return a factorized and fine-tuned model, and the layers left alone with the reason."""
        view = unfolded(model)
        reasons = narrowed(self, self._setting, self._reasons(view))
        chosen, skipped = split(self, reasons)

        def replace(layer: keras.layers.Layer, name: str) -> Any:
            return self._factorized(layer, name) if name in chosen else None

        with model.distribute_strategy.scope():
            # Layers that are made of layers stay what they are, unless one of theirs becomes two.
            result = rebuilt(model if chosen <= named_layers(model).keys() else view, replace)
        tuner.fit_rebuilt(result, self)
        return result, skipped

    @property
    def _setting(self) -> Any:
        return next(value for value in (self.rank, self.energy, self.error) if value is not None)

    def _reasons(self, model: keras.Model) -> dict[str, str]:
        """Tell of every layer with a kernel whether it can be factorized."""
        total = model.count_params()
        return {
            name: self._why_not(layer, name, layer.count_params() / total)
            for name, layer in named_layers(model).items()
            if support.kernel_name(layer)
        }

    def _why_not(self, layer: keras.layers.Layer, name: str, share: float) -> str:
        reason = support.why_not_factorized(layer, share, self.min_share)
        if reason:
            return reason
        regularizer = layer.kernel.regularizer
        if layer.kernel.constraint is not None or (regularizer and type(regularizer) not in _OF_SINGLE_WEIGHTS):
            kind = "constraint" if layer.kernel.constraint is not None else type(regularizer).__name__
            return f"its {kind} holds for one kernel, not for two whose product it is; make the layer without it"
        if getattr(layer, "lora_enabled", False):
            return "it has LoRA weights beside its kernel; save and load the model, which merges them"
        if isinstance(self._setting, Mapping) and name not in self._setting:
            return ""
        matrix = _unfolded(layer)
        rank = self._rank_of(matrix, name)
        needed = rank * sum(matrix.shape)
        if needed >= matrix.size:
            return f"at rank {rank} two layers would have {needed:,} weights, the one has {matrix.size:,}"
        return ""

    def _rank_of(self, matrix: np.ndarray, name: str) -> int:
        value = value_of(self._setting, name)
        if self.rank is not None:
            return value
        squares = np.linalg.svd(matrix, compute_uv=False) ** 2
        kept = np.cumsum(squares) / max(squares.sum(), np.finfo(float).tiny)
        wanted = value if self.energy is not None else 1 - value**2
        return min(int(np.searchsorted(kept, wanted)) + 1, len(kept))

    def _factorized(self, layer: keras.layers.Layer, name: str) -> list[tuple[keras.layers.Layer, list[np.ndarray]]]:
        matrix = _unfolded(layer)
        rank = self._rank_of(matrix, name)
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
        # The values are shared out evenly, or one of the two would learn much faster than the other.
        root = np.sqrt(values[:rank])
        first, second = _thin(layer, rank)
        kernels, size = (left[:, :rank] * root, root[:, None] * right[:rank]), layer.kernel.shape
        going_in = support.axes_going_in(layer)
        shapes = (*size[:going_in], rank), (rank, *size[going_in:])
        if hasattr(layer, "kernel_size"):
            shapes = shapes[0], (1,) * (len(size) - 2) + shapes[1]
        kernels = [kernel.reshape(shape) for kernel, shape in zip(kernels, shapes, strict=True)]
        return [(first, [kernels[0]]), (second, [kernels[1], *layer.get_weights()[1:]])]


def _unfolded(layer: keras.layers.Layer) -> np.ndarray:
    kernel = np.asarray(layer.get_weights()[0], "float64")
    return kernel.reshape(int(np.prod(kernel.shape[: support.axes_going_in(layer)])), -1)


def _thin(layer: keras.layers.Layer, rank: int) -> tuple[keras.layers.Layer, keras.layers.Layer]:
    """Return the two layers; the second keeps the name, so that outputs and losses are found by it."""
    kind, config = type(layer), settings(layer)
    linear = {
        "name": f"{layer.name}_rank{rank}",
        "use_bias": False,
        "activation": "linear",
        "activity_regularizer": None,
    }
    if kind.__name__ == "Dense":
        return kind.from_config(config | linear | {"units": rank}), kind.from_config(config)
    if kind.__name__ == "EinsumDense":
        before, (contracted, coming_out), after = support.einsum_axes(layer.equation)
        free = next(letter for letter in string.ascii_letters if letter not in layer.equation)
        kept = "".join(letter for letter in before if letter not in contracted)
        linear |= {"equation": f"{before},{contracted}{free}->{kept}{free}", "bias_axes": None}
        linear |= {"output_shape": (*(None,) * (len(kept) - 1), rank)}
        del linear["use_bias"]
        again = {"equation": f"{kept}{free},{free}{coming_out}->{after}"}
        return kind.from_config(config | linear), kind.from_config(config | again)
    ones = (1,) * len(layer.kernel_size)
    point = {"kernel_size": ones, "strides": ones, "dilation_rate": ones, "padding": "valid"}
    return kind.from_config(config | linear | {"filters": rank}), kind.from_config(config | point)
