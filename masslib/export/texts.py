"""Texts in a TensorFlow graph: the layer that makes token ids of them, checked and described."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras

from masslib.export.endpoints import Endpoint

VOCABULARY = "vocabulary.json"


def check(vectorizer: Any, labels: list[str] | None, several: list[Endpoint]) -> None:
    """Raise if a model cannot take what a vectorizer makes of texts.

    Raises:
        TypeError: If it is no `TextVectorization`.
        ValueError: If labels are missing, it has no vocabulary, or the ids do not fit the only input.
    """
    if not isinstance(vectorizer, keras.layers.TextVectorization):
        raise TypeError(f"vectorizer={vectorizer!r}: expected a keras.layers.TextVectorization")
    if labels is None:
        raise ValueError("vectorizer: `classify` answers labels of texts, so pass labels, too")
    if len(several) > 1 or len(several[0].specs) > 1 or not isinstance(several[0].model, keras.Model):
        raise ValueError("vectorizer: expected one model with one input, token ids")
    config = vectorizer.get_config()
    if config["output_mode"] != "int":
        raise ValueError(f"vectorizer has output_mode={config['output_mode']!r}; expected 'int', which makes token ids")
    if vectorizer.vocabulary_size() <= 2:
        raise ValueError("vectorizer has no vocabulary; call its adapt(texts), or pass vocabulary=")
    (spec,) = several[0].specs.values()
    made = vectorizer(["a text"])
    if not spec.shape.is_compatible_with((None, *made.shape[1:])):
        raise ValueError(
            f"vectorizer makes {tuple(made.shape[1:])} of a text, but {several[0].title} takes {tuple(spec.shape[1:])};"
            " set its output_sequence_length"
        )


def describe(vectorizer: keras.layers.TextVectorization, folder: Path) -> dict[str, Any]:
    """Write the vocabulary, a list of tokens in the order of their ids, and tell how a text is divided into tokens.

    Raises:
        ValueError: If it divides texts by a function of its own, which cannot be told.
    """
    config = vectorizer.get_config()
    told = {key: config[key] for key in ("standardize", "split", "ngrams", "output_sequence_length")}
    functions = [key for key in ("standardize", "split") if not isinstance(told[key], str | None)]
    if functions:
        raise ValueError(f"vectorizer: {' and '.join(functions)} are functions; use Keras' names, which can be told")
    tokens = json.dumps([str(token) for token in vectorizer.get_vocabulary()], ensure_ascii=False)
    (folder / VOCABULARY).write_text(tokens + "\n", encoding="utf-8")
    return {"vocabulary": VOCABULARY, **told}
