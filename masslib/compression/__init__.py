"""Make trained models small: a recipe is a list of steps, each step a value."""

from masslib.compression.channel_pruning import PruneChannels
from masslib.compression.clustering import Cluster
from masslib.compression.distillation import Distill
from masslib.compression.low_rank import LowRank
from masslib.compression.pruning import Prune
from masslib.compression.quantization import Quantize
from masslib.compression.quantization_aware import QuantizeAware
from masslib.compression.recipe import compress
from masslib.compression.result import Compressed
from masslib.compression.searching import Search, search
from masslib.compression.sensitivities import Sensitivity, sensitivity

__all__ = [
    "Cluster",
    "Compressed",
    "Distill",
    "LowRank",
    "Prune",
    "PruneChannels",
    "Quantize",
    "QuantizeAware",
    "Search",
    "Sensitivity",
    "compress",
    "search",
    "sensitivity",
]
