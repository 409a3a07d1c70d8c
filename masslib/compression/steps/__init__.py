"""The steps of a recipe, one technique each."""

from masslib.compression.steps.cluster import Cluster
from masslib.compression.steps.distill import Distill
from masslib.compression.steps.low_rank import LowRank
from masslib.compression.steps.prune import Prune
from masslib.compression.steps.prune_channels import PruneChannels
from masslib.compression.steps.quantize import Quantize
from masslib.compression.steps.quantize_aware import QuantizeAware
from masslib.compression.steps.squeeze import Squeeze

__all__ = ["Cluster", "Distill", "LowRank", "Prune", "PruneChannels", "Quantize", "QuantizeAware", "Squeeze"]
