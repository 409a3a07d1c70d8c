"""One member of an ensemble: whatever it is, it answers rows with an array."""

from __future__ import annotations

import inspect
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from masslib import runtime
from masslib.runtime.ensembles import failed, suited


@dataclass(frozen=True)
class Member:
    """A model with its name.

    Attributes:
        name: What messages and files call it.
        model: A Keras model, a loaded file, or an estimator with `predict_proba`.
    """

    name: str
    model: Any

    @property
    def kind(self) -> str:
        """What it is, in a word: its class, of a file its name."""
        path = getattr(self.model, "path", None)
        return path.name if isinstance(path, Path) else type(self.model).__name__

    @property
    def is_estimator(self) -> bool:
        """Whether it is one of scikit-learn's kind."""
        return callable(getattr(self.model, "predict_proba", None))

    def answers(self, x: Any, batch_size: int) -> np.ndarray:
        """Its answers `(n, k)` to rows.

        Raises:
            ValueError: If it fails.
        """
        try:
            answer = self._asked(x, batch_size)
        except MemoryError:
            raise
        except Exception as error:  # every kind has its own
            raise failed(self.name, self.kind, error) from error
        if isinstance(answer, Mapping | list | tuple):
            raise failed(self.name, self.kind, ValueError("it has several outputs, and members have one"))
        answer = np.asarray(answer)
        if not np.isfinite(answer).all():
            raise failed(self.name, self.kind, ValueError("it answers NaN or infinity"))
        return answer

    def _asked(self, x: Any, batch_size: int) -> Any:
        if self.is_estimator:
            return self.model.predict_proba(_columns(x))
        known = inspect.signature(self.model.predict).parameters
        options = {"batch_size": batch_size, "verbose": 0}
        shape = getattr(self.model, "input_shape", None)
        shape = shape[1:] if hasattr(self.model, "fit") and isinstance(shape, tuple) else shape
        return self.model.predict(suited(x, shape), **{name: value for name, value in options.items() if name in known})


def members_of(models: Sequence[Any] | Mapping[str, Any]) -> list[Member]:
    """Members of what was passed; files are loaded.

    Raises:
        FileNotFoundError: If a file is missing; it is named.
        TypeError: If something cannot predict probabilities.
        ValueError: If there are fewer than two, or a file is damaged.
    """
    if not isinstance(models, Mapping | list | tuple):
        raise TypeError(f"members is a {type(models).__name__}; expected a list of models, or a dict of them by name")
    named = dict(models) if isinstance(models, Mapping) else _numbered(models)
    if len(named) < 2:
        raise ValueError(f"expected at least two members, got {len(named)}")
    return [Member(str(name), _loaded(str(name), model)) for name, model in named.items()]


def _numbered(models: Sequence[Any]) -> dict[str, Any]:
    """Names of what has none: that of the file or of the class, with a number where it occurs again."""
    named: dict[str, Any] = {}
    for model in models:
        name = Path(model).stem if isinstance(model, str | os.PathLike) else getattr(model, "name", "")
        name = name if isinstance(name, str) and name else type(model).__name__.lower()
        numbered = (f"{name} {number}" for number in itertools.count(2))
        named[next(it for it in itertools.chain([name], numbered) if it not in named)] = model
    return named


def _loaded(name: str, model: Any) -> Any:
    if isinstance(model, str | os.PathLike):
        try:
            return runtime.load(model)
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(f"member {name!r}: {error}") from error
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"member {name!r}: {error}", name=error.name) from error
    if callable(getattr(model, "predict_proba", None)):
        classes = getattr(model, "classes_", None)
        if classes is None:
            raise ValueError(f"member {name!r} ({type(model).__name__}) is not trained; fit it first")
        if not np.array_equal(classes, np.arange(len(classes))):
            raise ValueError(
                f"member {name!r} ({type(model).__name__}) knows the classes {list(classes)[:12]}; expected the "
                "numbers from 0, all of which occur in its training rows"
            )
        return model
    if not callable(getattr(model, "predict", None)) or hasattr(model, "classes_"):
        raise TypeError(
            f"member {name!r} is a {type(model).__name__}, which does not tell probabilities; expected a Keras model, "
            "the path of an exported file, or an estimator with predict_proba (others become one by "
            "sklearn.calibration.CalibratedClassifierCV)"
        )
    return model


def _columns(x: Any) -> Any:
    """Rows as estimators take them."""
    if isinstance(x, Mapping | list | tuple):
        raise ValueError("it takes one table of columns, and the rows have several inputs")
    return x.reshape(len(x), -1) if getattr(x, "ndim", 2) > 2 else x
