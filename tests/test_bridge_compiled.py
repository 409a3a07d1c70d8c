"""What a Keras 3 model was compiled with does the same in tf_keras, or is named in an error."""

import inspect

import keras
import numpy as np
import pytest
from keras import layers

from masslib import bridge, models

_CLASSES = 3
# What tf_keras has no counterpart for
_LACKING = {
    "losses": {"CTC", "CategoricalGeneralizedCrossEntropy", "Circle", "Dice", "Tversky"},
    "metrics": {"ConcordanceCorrelation", "PearsonCorrelation"},
    "optimizers": {"Lamb", "Muon", "ScheduleFreeAdamW"},
}
_ARGUMENTS = {
    "IoU": {"num_classes": _CLASSES, "target_class_ids": [0]},
    "OneHotIoU": {"num_classes": _CLASSES, "target_class_ids": [0]},
    "OneHotMeanIoU": {"num_classes": _CLASSES},
    "MeanIoU": {"num_classes": _CLASSES},
    "MeanMetricWrapper": None,
    "LossScaleOptimizer": None,
    "MultiOptimizer": None,
    "PrecisionAtRecall": {"recall": 0.5},
    "RecallAtPrecision": {"precision": 0.5},
    "SensitivityAtSpecificity": {"specificity": 0.5},
    "SpecificityAtSensitivity": {"sensitivity": 0.5},
}


def _all(module: str) -> dict[str, object]:
    """Make one of every class of a Keras 3 module, with its defaults where it has some."""
    bases = {"losses": keras.Loss, "metrics": keras.Metric, "optimizers": keras.Optimizer}
    classes = inspect.getmembers(getattr(keras, module), inspect.isclass)
    return {
        kind.__name__: kind(**_ARGUMENTS.get(name, {}))
        for name, kind in classes
        if issubclass(kind, bases[module])
        and kind is not bases[module]
        and kind.__name__ == name
        and _ARGUMENTS.get(name, {}) is not None
    }


def _model(outputs: int = 1) -> keras.Model:
    row = keras.Input((4,), name="row")
    heads = [layers.Dense(_CLASSES, activation="softmax", name=f"head{index}")(row) for index in range(outputs)]
    model = keras.Model(row, heads if outputs > 1 else heads[0], name="heads")
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=weight.shape) for weight in model.weights])
    return model


def _data(rows: int = 32) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.random((rows, 4), "float32"), rng.integers(0, _CLASSES, rows)


def _both(model: keras.Model, x: np.ndarray, y: object) -> tuple[dict, dict]:
    twin = bridge.to_tf_keras(model)
    bridge.compile_like(twin, model)
    options = {"verbose": 0, "return_dict": True, "batch_size": len(x)}
    return model.evaluate(x, y, **options), twin.evaluate(x, y, **options)


def _sparse(name: str) -> bool:
    return name.startswith("Sparse") or name in ("IoU", "MeanIoU")


@pytest.mark.slow
def test_every_loss_gives_the_same_number_or_is_named():
    losses = {name: loss for name, loss in _all("losses").items() if name not in _LACKING["losses"]}
    assert len(losses) > 15
    model = _model(len(losses))
    heads = {f"head{index}": name for index, name in enumerate(losses)}
    model.compile(loss={head: losses[name] for head, name in heads.items()})
    x, y = _data()
    targets = {head: y if _sparse(name) else np.eye(_CLASSES)[y].astype("float32") for head, name in heads.items()}
    ours, theirs = _both(model, x, targets)
    for head, name in heads.items():
        assert theirs[f"{head}_loss"] == pytest.approx(ours[f"{head}_loss"], rel=1e-4), name


@pytest.mark.slow
@pytest.mark.parametrize("sparse", [True, False])
def test_every_metric_gives_the_same_number_or_is_named(sparse):
    metrics = {name: metric for name, metric in _all("metrics").items() if name not in _LACKING["metrics"]}
    metrics = {name: metric for name, metric in metrics.items() if _sparse(name) == sparse}
    model = _model()
    loss = "sparse_categorical_crossentropy" if sparse else "categorical_crossentropy"
    skipped = {"IoU", "MeanIoU", "Mean", "Sum"}  # of class numbers, and of values, not of a target and an output
    metrics = [metric for name, metric in metrics.items() if name not in skipped]
    model.compile(loss=loss, metrics=metrics)
    x, y = _data()
    ours, theirs = _both(model, x, y if sparse else np.eye(_CLASSES)[y].astype("float32"))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(theirs[name], value, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("name", sorted(_all("optimizers").keys() - _LACKING["optimizers"]))
def test_every_optimizer_takes_the_same_steps(name):
    x, y = _data()
    kind = getattr(keras.optimizers, name)
    model = _model()
    model.compile(kind(learning_rate=0.01, clipnorm=0.5), loss="sparse_categorical_crossentropy")
    twin = bridge.to_tf_keras(model)
    bridge.compile_like(twin, model)
    before = model.get_weights()
    for _ in range(3):
        model.train_on_batch(x, y)
        twin.train_on_batch(x, y)
    for a, b, old in zip(model.get_weights(), twin.get_weights(), before, strict=True):
        assert np.abs(a - old).max() > 1e-5
        # tf_keras multiplies the momentum of Nadam once for every variable, Keras 3 once for every step.
        tolerance = 0.3 if name == "Nadam" else 2e-4
        np.testing.assert_allclose(a, b, atol=tolerance * np.abs(a - old).max(), rtol=0)


@pytest.mark.parametrize("module", ["losses", "metrics", "optimizers"])
def test_what_is_lacking_is_named(module):
    made = {name: one for name, one in _all(module).items() if name in _LACKING[module]}
    assert made
    for name, one in made.items():
        model = _model()
        model.compile(
            **{"losses": {"loss": one}, "metrics": {"metrics": [one]}, "optimizers": {"optimizer": one}}[module]
        )
        with pytest.raises(
            ValueError, match=f"heads' was compiled with have no tf_keras .*\n  tf_keras has no {name}\n"
        ):
            bridge.compile_like(bridge.to_tf_keras(model), model)


def half_squared(y, p):
    return keras.ops.mean(keras.ops.square(y - p), axis=-1) / 2


def test_functions_cross_by_name_or_as_they_are():
    x, y = _data()
    model = _model(2)
    model.compile(
        loss={"head0": half_squared, "head1": keras.losses.tversky},
        metrics={"head0": ["mae", keras.losses.huber], "head1": [keras.losses.tversky]},
        loss_weights={"head0": 2.0, "head1": 1.0},
    )
    targets = dict.fromkeys(("head0", "head1"), np.eye(_CLASSES)[y].astype("float32"))
    ours, theirs = _both(model, x, targets)
    assert ours["head0_loss"] == pytest.approx(theirs["head0_loss"], rel=1e-5)
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
    assert {ours[name] == pytest.approx(theirs[name], rel=1e-5) for name in ours if name.startswith("head0")} == {True}
    back = bridge.from_tf_keras(bridge.to_tf_keras(model), like=model)
    assert np.abs(back(x)[0] - model(x)[0]).max() == 0


def test_everything_that_does_not_cross_is_listed_at_once():
    model = _model()
    model.compile(
        optimizer=keras.optimizers.Adam(gradient_accumulation_steps=4),
        loss=keras.losses.Dice(),
        metrics=["mae", half_squared, keras.metrics.PearsonCorrelation()],
    )
    with pytest.raises(ValueError, match=r"4 thing\(s\) that 'heads' was compiled with") as caught:
        bridge.compile_like(bridge.to_tf_keras(model), model)
    lines = str(caught.value).splitlines()
    assert "  tf_keras has no Adam(gradient_accumulation_steps=4)" in lines
    assert "  tf_keras has no Dice" in lines
    assert "  tf_keras has no PearsonCorrelation" in lines
    assert "  the function 'half_squared'; decorate it with @keras.saving.register_keras_serializable()" in lines
    assert "before it is compressed" in lines[-1]


def test_a_loss_scale_crosses():
    model = models.mlp((4,), 3)
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5), initial_scale=8.0), loss="mse")
    twin = bridge.to_tf_keras(model)
    bridge.compile_like(twin, model, learning_rate=0.25)
    assert float(twin.optimizer.inner_optimizer.learning_rate) == 0.25
    assert twin.optimizer.initial_scale == 8
