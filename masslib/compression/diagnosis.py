"""What each technique can do for a model, told before any training."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from masslib import export
from masslib._util.messages import first_line
from masslib.bridge.conversion import UnsupportedLayers, to_tf_keras
from masslib.bridge.translate import CustomLayers
from masslib.compression.tfmot import support
from masslib.export.inference import MissingOperatorsError
from masslib.graph.checks import check_model
from masslib.graph.nodes import named_nodes
from masslib.graph.unfolding import unfolded

if TYPE_CHECKING:
    import keras
    import pandas as pd


_TECHNIQUES = {
    "prune": support.prunable,
    "cluster": support.clusterable,
    "quantize": lambda twin, min_share: support.quantizable(twin),
}


def diagnose(
    model: keras.Model,
    *,
    custom_layers: CustomLayers | None = None,
    min_share: float = support.MIN_SHARE,
    tflite: bool = False,
) -> pd.DataFrame:
    """Tell for every layer whether it can be bridged, pruned, clustered, quantized and factorized, and why not.

    The steps of a recipe decide by the same rules, so what this table says is what `compress` will do.

    Args:
        model: A built Sequential or functional Keras 3 model. It is not changed, nor trained.
        custom_layers: As in `compress`.
        min_share: As in `Prune`, `Cluster` and `LowRank`.
        tflite: Whether to try, too, whether the model can be written as a float32 TFLite file for one row at a time,
            which takes a few seconds: better now than after hours of `QuantizeAware`.

    Returns:
        One row per layer, or operation between layers, indexed by its name (`outer/inner` inside of nested models).
        Columns: `type`; `weights` (a count) and `share` (a fraction of the model's); `bridges`, `prunes`,
        `clusters`, `quantizes`, `factorizes` (booleans); `why_not` (text). A layer that does not bridge keeps the
        whole model from TFMOT; a layer that does not quantize stays in float under `QuantizeAware`; `LowRank` works
        without the bridge. With `tflite=True` also `converts`, False for layers that TFLite has no operator for.

    Raises:
        TypeError: If `model` is not a Keras 3 model whose graph can be read.

    Example:
        >>> import masslib
        >>> table = masslib.diagnose(masslib.models.small_cnn((28, 28, 1), 10))
        >>> table.loc["conv1", ["prunes", "quantizes"]].to_list()
        [False, True]
        >>> table.loc["conv1", "why_not"]
        'prune, cluster, factorize: holds 0.00% of the weights, less than min_share=1.00%'
    """
    import pandas as pd

    check_model(model)
    obstacles = _obstacles(model) if tflite else {}
    model = unfolded(model, tuple(custom_layers or ()))
    try:
        twin = to_tf_keras(model, custom_layers)
    except UnsupportedLayers as error:
        others = f"the model does not bridge, because of {', '.join(error.problems)}"
        reasons = {"bridge": error.problems}
        reasons |= {technique: dict.fromkeys(named_nodes(model), others) for technique in _TECHNIQUES}
    else:
        reasons = {"bridge": {}}
        reasons |= {technique: supported(twin, min_share) for technique, supported in _TECHNIQUES.items()}
    reasons["factorize"] = support.factorizable(model, min_share)
    rows = {
        name: _row(name, layer, model.count_params(), reasons)
        for name, layer in named_nodes(model).items()
        # What only tells Keras 3 a shape has no twin.
        if type(layer).__name__ != "InputLayer" and name in reasons["quantize"]
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    return _with_files(table, obstacles) if tflite else table


def _obstacles(model: keras.Model) -> dict[str, str]:
    """Name of a layer, "" for no layer in particular -> why a TFLite file cannot be written."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            export.tflite(model, Path(folder) / "model.tflite", batch_size=1)
        except MissingOperatorsError as error:
            found: dict[str, list[str]] = {}
            for operator, layer in error.layers.items():
                found.setdefault(layer or "", []).append(operator)
            return {layer: f"TFLite has no operator for {', '.join(names)}" for layer, names in found.items()}
        except ValueError as error:
            return {"": first_line(error)}
    return {}


def _with_files(table: pd.DataFrame, obstacles: dict[str, str]) -> pd.DataFrame:
    """Add to a table which layers cannot be written as TFLite."""
    table.insert(table.columns.get_loc("why_not"), "converts", True)
    for layer, reason in obstacles.items():
        # A layer that is seen as those inside of it has a row for each; one that has none is told of in all.
        named = [row for row in table.index if layer and f"{row}/".startswith(f"{layer}/")] or list(table.index)
        table.loc[named, "converts"] = False
        before = table.loc[named, "why_not"]
        table.loc[named, "why_not"] = before.where(before == "", before + "; ") + f"tflite: {reason}"
    return table


def _row(name: str, layer: keras.layers.Layer, total: int, reasons: dict[str, dict[str, str]]) -> dict:
    weights = layer.count_params() if hasattr(layer, "count_params") else 0
    why: dict[str, list[str]] = {}
    for technique, layers in reasons.items():
        if layers.get(name):
            why.setdefault(layers[name], []).append(technique)
    return {
        "type": type(layer).__name__,
        "weights": weights,
        "share": weights / max(total, 1),
        "bridges": name not in reasons["bridge"],
        "prunes": reasons["prune"].get(name) == "",
        "clusters": reasons["cluster"].get(name) == "",
        "quantizes": reasons["quantize"].get(name) == "",
        "factorizes": reasons["factorize"].get(name) == "",
        "why_not": "; ".join(f"{', '.join(techniques)}: {reason}" for reason, techniques in why.items()),
    }
