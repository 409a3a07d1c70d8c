"""Which devices train, and which processes: one door to the strategies of tf.distribute."""

from masslib.distribute.choice import strategy

__all__ = ["strategy"]
