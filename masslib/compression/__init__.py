"""Make trained models small: a recipe is a list of steps, each step a value."""

from masslib.compression.clustering import Cluster
from masslib.compression.pruning import Prune
from masslib.compression.quantization import Quantize
from masslib.compression.quantization_aware import QuantizeAware
from masslib.compression.recipe import compress
from masslib.compression.result import Compressed

__all__ = ["Cluster", "Compressed", "Prune", "Quantize", "QuantizeAware", "compress"]
