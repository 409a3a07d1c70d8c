"""Figures of training, predictions and trade-offs: one message each, ready for print.

Every function returns a closed `matplotlib.figure.Figure`, which Jupyter shows once when it is the last
expression of a cell, and leaves matplotlib's settings as they were. No other part of masslib imports matplotlib.
"""

from masslib._util.extras import needed_by

with needed_by(__name__):
    from masslib.plot._communication import communication
    from masslib.plot._confusion import confusion
    from masslib.plot._history import history
    from masslib.plot._images import images
    from masslib.plot._reliability import reliability
    from masslib.plot._sensitivity import sensitivity
    from masslib.plot._tradeoff import tradeoff
    from masslib.plot._weights import weights

__all__ = ["communication", "confusion", "history", "images", "reliability", "sensitivity", "tradeoff", "weights"]
