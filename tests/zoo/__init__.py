"""Small networks after the examples of keras.io, with random rows of the right shapes."""

from zoo import generative, hub, images, series, several, text  # noqa: F401  their networks
from zoo.network import NETWORKS, Network

__all__ = ["NETWORKS", "Network"]
