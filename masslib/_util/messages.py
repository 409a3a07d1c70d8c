"""What errors of others say, in a line."""

from __future__ import annotations

import re

# Keras wraps every error of a call in two lines of its own, and colours the middle.
_KERAS = re.compile(r"^(Exception|Error) (was )?encountered when calling .*$")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def first_line(error: BaseException) -> str:
    """The first line of an error that says something, or the name of its class."""
    lines = (_COLOUR.sub("", line).strip() for line in str(error).splitlines())
    return next((line for line in lines if line and not _KERAS.match(line)), type(error).__name__)


def first_paragraph(error: BaseException | str) -> str:
    """Return the first paragraph of a message that may fill a page, in one line."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in str(error).split("\n\n"))
    return next(filter(None, paragraphs), type(error).__name__)
