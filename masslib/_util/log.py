"""The logger of masslib, `logging.getLogger("masslib")`, and where its messages go by default."""

from __future__ import annotations

import logging
import sys


class _DefaultHandler(logging.Handler):
    """Writes as TensorFlow's logger does: to stdout in a notebook or a shell, to stderr elsewhere.

    Once the root logger has handlers, the application decides what to show, and this handler writes nothing.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if logging.getLogger().handlers:
            return
        try:
            # Looked up here, since notebooks, tests and worker processes replace the streams.
            stream = sys.stdout if hasattr(sys, "ps1") else sys.stderr
            stream.write(f"masslib: {self.format(record)}\n")
            stream.flush()
        except Exception:
            self.handleError(record)


logger = logging.getLogger("masslib")
logger.addHandler(_DefaultHandler())
if logger.level == logging.NOTSET:
    logger.setLevel(logging.INFO)
