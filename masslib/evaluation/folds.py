"""`cross_validate`: how much the figures of a model depend on the rows it is trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from masslib._util.mapping import called
from masslib._util.progress import bar
from masslib.data.passed import as_subset
from masslib.data.subset import class_numbers
from masslib.evaluation.scores import evaluate

if TYPE_CHECKING:
    import keras
    import pandas as pd

    from masslib.data import Subset


def cross_validate(
    build: Callable[[], keras.Model],
    data: Subset | tuple[np.ndarray, np.ndarray],
    *,
    folds: int = 5,
    epochs: int = 1,
    batch_size: int = 32,
    seed: int = 0,
    task: str = "auto",
    verbose: bool = True,
    on: Any = None,
) -> pd.DataFrame:
    """Train a fresh model on all folds but one, judge it on that one, and so for every fold.

    The folds are those of scikit-learn's `StratifiedKFold`, shuffled: each holds every class in proportion.
    Standard deviations are of the folds (divided by `folds - 1`). As the training sets overlap, they do not give the
    error of the mean; see Bengio & Grandvalet (2004), No unbiased estimator of the variance of k-fold cross-validation.

    Args:
        build: Returns a new compiled Keras 3 model at every call.
        data: A `Subset`, or a pair `(x, y)` of arrays, taken as they are; the labels are classes.
        folds: Number of folds, at least 2.
        epochs: Passes over the training rows of each fold.
        batch_size: Rows per training step.
        seed: Seed of the folds and of the order of the rows in training; not of `build`.
        task: As in `evaluate`.
        verbose: Whether to show progress, where the folds are trained in turn.
        on: Where the folds are trained: None for this process, one after another; or side by side by a
            `concurrent.futures.Executor`, a `SparkSession`, `"ray"` or the address of a Ray cluster, or anything that
            maps, `on(fn, jobs)`. `build` and the data travel there. The figures are the same if `build` seeds its
            random numbers (`keras.utils.set_random_seed`) and as many threads compute.

    Returns:
        A table of the metrics of `evaluate`: rows `"1"` to `str(folds)`, `"mean"` and `"std"`.

    Raises:
        TypeError: If `data` is neither, or `on` cannot map.
        ValueError: If the labels are no classes, there are fewer than 2 folds or fewer rows of every class than
            folds, or `build` returns a model that has been trained.

    Example:
        >>> import masslib
        >>> def build():
        ...     model = masslib.models.mlp((8, 8, 1), 10)
        ...     model.compile(loss="sparse_categorical_crossentropy")
        ...     return model
        >>> table = cross_validate(build, masslib.data.load("digits").train, folds=2, verbose=False)
        >>> table.index.to_list(), table.columns.to_list()
        (['1', '2', 'mean', 'std'], ['accuracy', 'macro_f1', 'auc'])
    """
    import pandas as pd
    from sklearn.model_selection import StratifiedKFold

    data = as_subset(data)
    classes = class_numbers(data.y)
    if classes is None:
        raise ValueError(f"{data!r} has no class numbers (integers, one per row), which stratified folds need")
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(data)), classes)
    training = {"epochs": epochs, "batch_size": batch_size, "seed": seed}
    calls = [partial(_fold, build, data, train, test, training, task) for train, test in splits]
    if on is None:
        rows = [call() for call in bar(calls, title="cross-validate", unit="fold", visible=verbose, total=folds)]
    else:
        rows = called(calls, on)
    table = pd.DataFrame(rows, index=pd.Index(map(str, range(1, folds + 1)), name="fold"))
    # Without skipna a figure that one fold lacks would be averaged over the others.
    table.loc["mean"], table.loc["std"] = table.mean(skipna=False), table.std(skipna=False)
    return table


def _fold(
    build: Callable[[], keras.Model],
    data: Subset,
    train: np.ndarray,
    test: np.ndarray,
    training: Mapping[str, int],
    task: str,
) -> dict[str, float]:
    """The figures of one fold."""
    from masslib.train import fit

    model = _fresh(build)
    fit(model, data.select(train), **training, verbose=0)
    return evaluate(model, data.select(test), task=task).metrics


def _fresh(build: Callable[[], keras.Model]) -> keras.Model:
    model = build()
    steps = int(model.optimizer.iterations) if getattr(model, "optimizer", None) else 0
    if steps:
        raise ValueError(f"build() returned a model trained for {steps} steps; expected a new one at every call")
    return model
