"""Figures of training, predictions and trade-offs: one message each, ready for print.

Every function returns a closed `matplotlib.figure.Figure`, which Jupyter shows once when it is the last
expression of a cell, and leaves matplotlib's settings as they were. No other part of masslib imports matplotlib.
"""

from masslib.plot.curves import history
from masslib.plot.falling import sensitivity
from masslib.plot.grid import images
from masslib.plot.histogram import weights
from masslib.plot.matrix import confusion
from masslib.plot.network import communication
from masslib.plot.points import tradeoff

__all__ = ["communication", "confusion", "history", "images", "sensitivity", "tradeoff", "weights"]
