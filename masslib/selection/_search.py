"""`search`: try, judge, go on until the budget is used, and return the best."""

from __future__ import annotations

import math
import operator
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from masslib._util.checks import check_count
from masslib._util.lock import lock
from masslib._util.progress import bar
from masslib.compression import diagnose
from masslib.compression.result import Compressed
from masslib.compression.step import Training
from masslib.evaluation.tasks import compiled_options
from masslib.graph.compiled import compile_config
from masslib.graph.copying import copied
from masslib.packaging import provenance
from masslib.selection._sensitivity import Sensitivity, sensitivity
from masslib.selection.ahead import Ahead
from masslib.selection.candidates import Family, families_for, next_candidate
from masslib.selection.judging import quality, scored
from masslib.selection.metric import Metric
from masslib.selection.search_result import Search, table_of
from masslib.selection.trials import Folder, Judge, Trial, fingerprint

if TYPE_CHECKING:
    from masslib.data import Splits

_OBJECTIVES = ("size", "packed", "latency", "flops")
_LEVELS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
_SENSITIVITY_ROWS = 2000


def search(
    model: keras.Model,
    splits: Splits,
    max_drop: float = 0.005,
    objective: str = "size",
    *,
    metric: Any = "accuracy",
    budget: int = 12,
    max_seconds: float | None = None,
    folder: str | os.PathLike[str] | None = None,
    epochs: int = 1,
    max_steps: int | None = None,
    learning_rate: float | None = None,
    batch_size: int = 128,
    seed: int = 0,
    verbose: bool = True,
    custom_layers: Mapping[type, Any] | None = None,
    on: Any = None,
) -> Search:
    """Find the recipe that makes a model smallest or fastest without losing more of a metric than allowed.

    Recipes are tried from gentle to strong: quantization alone, then recipes whose strength can be chosen. For the
    size these prune, cluster and quantize, and for that of the packed file they prune and squeeze; how much each layer
    is pruned follows from one threshold for all layers, or from what each may lose by itself (see
    `masslib.sensitivity`). For time and operations they remove channels or factorize. The recipe that leads is bisected
    between what was accepted and what was not. Every trial is judged by its TFLite file, on the validation split; the
    test split is looked at once, at the end.

    It can be interrupted at any time (Ctrl-C, or the stop button of a notebook), and returns the best so far. With a
    folder it goes on there the next time, with the trials that are done. The same call makes the same trials, except
    that with `objective="latency"` their order depends on what the machine measured.

    Args:
        model: A trained and compiled Keras 3 model. It is not changed.
        splits: `splits.train` fine-tunes and calibrates, `splits.valid` judges, `splits.test` is for the end.
        max_drop: The accepted loss of the metric on the validation split: a fraction, 0.005 being half a percentage
            point, or in the unit of the metric.
        objective: What becomes small: `"size"` (bytes of the gzipped file), `"packed"` (bytes of the file of
            `masslib.export.packed`), `"latency"` (median time of one row on
            one thread, against the float file in the same turn), or `"flops"` (operations, then bytes).
        metric: What is judged by: the name of a figure of `masslib.evaluate`, a weighted sum, a function, or a
            `masslib.selection.Metric`.
        budget: How many trials to make at most, those that lie in the folder included.
        max_seconds: Time limit, in s, after which no trial starts.
        folder: Where to keep the trials, each with its file and its model; thrown away if absent.
        epochs: As in every step that fine-tunes.
        max_steps: As in every step that fine-tunes.
        learning_rate: As in every step that fine-tunes.
        batch_size: Rows per training step.
        seed: Seed of the fine-tuning, the calibration and the rows that sensitivity is measured on.
        verbose: Whether to show progress.
        custom_layers: As in `masslib.compress`.
        on: Where the trials are made: None for this process, one after another; or side by side by a
            `concurrent.futures.Executor`, a `SparkSession`, `"ray"` or the address of a Ray cluster, or anything that
            maps, `on(fn, jobs)`. As many at once as the cluster has cores (otherwise this machine): the next one, and
            those that come after it if it is accepted or refused, of which some are thrown away. The search takes them
            in its own order, so trials and best are those of a search in turn; where another number of threads
            computes, to rounding. Times are measured while others compute: `"latency"` is better searched in turn. The
            model and the data travel, and the files come back.

    Returns:
        A `Search`, whose `.best` is ready for `masslib.export.tflite`, or `masslib.export.packed`.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If an argument is out of range, the model is not compiled or not judged by the metric, or
            the folder holds
            another search or a damaged file.
        RuntimeError: If another search is going on in the folder.

    Example:
        >>> import masslib
        >>> splits = masslib.data.load("digits")
        >>> model = masslib.models.mlp(splits.input_shape, splits.num_classes)
        >>> model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
        >>> _ = masslib.fit(model, splits.train, epochs=4, verbose=0)
        >>> found = masslib.search(model, splits, max_drop=0.05, budget=2, verbose=False)
        >>> list(found.table.index), len(found.best.steps)
        (['float', 'dynamic', 'int8'], 1)
    """
    tuning = {"epochs": epochs, "max_steps": max_steps, "learning_rate": learning_rate}
    metric = Metric.of(metric)
    _check(model, metric, max_drop, objective, budget, max_seconds, tuning)
    budget, max_drop = operator.index(budget), float(max_drop)
    options = {"batch_size": check_count("batch_size", batch_size), "seed": operator.index(seed)}
    goal = {"objective": objective, "max_drop": max_drop}
    judged_by = {} if repr(metric) == repr(Metric()) else {"metric": repr(metric)}
    searched = {"model": fingerprint(model), "data": provenance.data(splits)}
    deadline = None if max_seconds is None else time.monotonic() + max_seconds
    with nullcontext(folder) if folder else tempfile.TemporaryDirectory() as place, lock(place):
        store = Folder(Path(place), {**searched, **goal, **judged_by, **tuning, **options})
        judge = Judge(
            model,
            splits,
            store.baseline,
            **goal,
            metric=metric,
            options=options | {"verbose": verbose, "custom_layers": custom_layers},
        )
        trials: list[Trial] = []
        found, stopped = None, "interrupted"
        with suppress(KeyboardInterrupt):  # the best so far is what was asked for
            families = families_for(objective, None, tuning)
            if any(family.by_layer for family in families[:budget]):  # each family is tried once, in this order
                found = store.sensitivity() or _measured(model, metric, splits, store, seed, verbose, custom_layers, on)
                families = families_for(objective, found, tuning)
            ahead = None if on is None else Ahead(store, judge, families, on)
            stopped = _run(families, store, judge, ahead, trials, budget, deadline, verbose)
        best = min((t for t in trials if t.accepted), key=lambda trial: trial.score, default=None)
        file = store.baseline if best is None else store.file(trials.index(best))
        judged = {"float": store.baseline, "best": file}
        test = scored(judged, splits.test, metric, compiled_options(model))
        return Search(
            best=Compressed(copied(model), ()) if best is None else store.model(trials.index(best)),
            name="float" if best is None else best.name,
            table=table_of(judge.figures(store.baseline), trials),
            test={name: score.evaluation for name, score in test.items()},
            sensitivity=found,
            file=judge.kept(file) if folder else None,
            stopped=stopped,
            max_drop=max_drop,
            metric=metric,
            quality={name: quality(metric, score, test["float"]) for name, score in test.items()},
        )


def _run(
    families: list[Family],
    store: Folder,
    judge: Judge,
    ahead: Ahead | None,
    trials: list[Trial],
    budget: int,
    deadline: float | None,
    verbose: bool,
) -> str:
    """Make trials, or read those that were made before, and append them to `trials`; return why it ended."""
    with bar(title="search", unit="trial", visible=verbose, total=budget) as shown:
        while len(trials) < budget:
            candidate = next_candidate(families, trials)
            if candidate is None:
                return "nothing stronger is left to try"
            shown.set_postfix_str(candidate.name)
            trial = store.trial(len(trials), candidate.name)
            if trial is None and deadline is not None and time.monotonic() > deadline:
                return "the time is up"
            if trial is None and ahead is not None:
                trial = ahead.make(trials, candidate, budget - len(trials))
            trials.append(trial or store.make(len(trials), judge, candidate))
            shown.update()
    return "the budget of trials is used"


def _measured(
    model: keras.Model,
    metric: Metric,
    splits: Splits,
    store: Folder,
    seed: int,
    verbose: bool,
    custom_layers: Mapping[type, Any] | None,
    on: Any,
) -> Sensitivity:
    """Measure the sensitivity of what can be pruned."""
    prunable = diagnose(model, min_share=0, custom_layers=custom_layers)["prunes"]
    rows = splits.valid.sample(min(_SENSITIVITY_ROWS, len(splits.valid)), seed=seed)
    layers = list(prunable.index[prunable])
    if not layers:
        raise ValueError(f"model {model.name!r} has no layer that can be pruned; masslib.diagnose(model) tells why")
    found = sensitivity(model, rows, levels=_LEVELS, layers=layers, metric=metric, verbose=verbose, on=on)
    store.keep_sensitivity(found)
    return found


def _check(
    model: Any,
    metric: Metric,
    max_drop: float,
    objective: str,
    budget: int,
    max_seconds: float | None,
    tuning: dict[str, Any],
) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(f"expected a Keras 3 model, got {type(model).__name__}")
    compile_config(model)  # refuses one that is not compiled
    if objective not in _OBJECTIVES:
        raise ValueError(f"objective={objective!r}: expected one of {', '.join(map(repr, _OBJECTIVES))}")
    if not isinstance(max_drop, Real) or not 0 <= max_drop < (1 if metric.is_fraction else math.inf):
        raise ValueError(f"max_drop={max_drop!r}: expected a fraction from 0 up to 1, such as 0.005 for half a point")
    check_count("budget", budget)
    if max_seconds is not None and not max_seconds > 0:
        raise ValueError(f"max_seconds={max_seconds!r}: expected a positive number of seconds, or None")
    Training(**tuning)  # refuses what no step takes
