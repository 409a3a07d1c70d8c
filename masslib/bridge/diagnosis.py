"""What each technique can do for a model, told before any training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from masslib.bridge import support
from masslib.bridge.equality import leaves
from masslib.bridge.graph import to_tf_keras, unsupported_layers

if TYPE_CHECKING:
    import keras
    import pandas as pd


def diagnose(model: keras.Model, *, min_share: float = support.MIN_SHARE) -> pd.DataFrame:
    """Tell for every layer whether it can be bridged, pruned, clustered and quantized, and why not.

    The steps of a recipe decide by the same rules, so what this table says is what `compress` will do.

    Args:
        model: A built Sequential or functional Keras 3 model. It is not changed, nor trained.
        min_share: As in `Prune` and `Cluster`.

    Returns:
        One row per layer, indexed by its name (`outer/inner` inside of nested models). Columns: `type`; `weights`
        (a count) and `share` (a fraction of the model's); `bridges`, `prunes`, `clusters`, `quantizes` (booleans);
        `why_not` (text). A layer that does not bridge keeps the whole model from TFMOT; a layer that does not
        quantize stays in float under `QuantizeAware`.

    Raises:
        TypeError: If `model` is not a Keras 3 model whose graph can be read.

    Example:
        >>> import masslib
        >>> table = masslib.diagnose(masslib.models.small_cnn((28, 28, 1), 10))
        >>> table.loc["conv1", ["prunes", "quantizes"]].to_list()
        [False, True]
        >>> table.loc["conv1", "why_not"]
        'prune, cluster: holds 0.00% of the weights, less than min_share=1.00%'
    """
    import pandas as pd

    problems = unsupported_layers(model)
    reasons: dict[str, dict[str, str]] = {"bridge": problems}
    if problems:
        others = f"the model does not bridge, because of {', '.join(problems)}"
        for technique in ("prune", "cluster", "quantize"):
            reasons[technique] = dict.fromkeys(leaves(model), others)
    else:
        twin = to_tf_keras(model)
        reasons["prune"] = support.prunable(twin, min_share)
        reasons["cluster"] = support.clusterable(twin, min_share)
        reasons["quantize"] = support.quantizable(twin)
    rows = {
        name: _row(name, layer, model.count_params(), reasons)
        for name, layer in leaves(model).items()
        if type(layer).__name__ != "InputLayer"
    }
    return pd.DataFrame.from_dict(rows, orient="index")


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
        "why_not": "; ".join(f"{', '.join(techniques)}: {reason}" for reason, techniques in why.items()),
    }
