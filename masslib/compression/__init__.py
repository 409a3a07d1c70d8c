"""Make trained models small: a recipe is a list of steps, each step a value."""

from masslib._util.extras import needed_by

with needed_by(__name__):
    from masslib.compression.diagnosis import diagnose
    from masslib.compression.recipe import compress
    from masslib.compression.result import Compressed
    from masslib.compression.steps import (
        Cluster,
        Distill,
        LowRank,
        Prune,
        PruneChannels,
        Quantize,
        QuantizeAware,
        Squeeze,
    )

__all__ = [
    "Cluster",
    "Compressed",
    "Distill",
    "LowRank",
    "Prune",
    "PruneChannels",
    "Quantize",
    "QuantizeAware",
    "Squeeze",
    "compress",
    "diagnose",
]
