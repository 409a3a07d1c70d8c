"""Figures of outputs of any shape are those of scikit-learn and Keras over all of them, whatever the pieces."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from sklearn import metrics

import masslib
from masslib.data import from_arrays
from masslib.evaluation import Evaluations, evaluate
from masslib.evaluation.tasks import compiled_options

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(50, 6, 5, 4)).astype("float32")
PIXELS = np.where(RNG.random((50, 6, 5)) < 0.6, LOGITS.argmax(-1), RNG.integers(0, 4, (50, 6, 5)))
VOID = np.where(RNG.random(PIXELS.shape) < 0.2, 255, PIXELS)


class Echo:
    """A model whose outputs are its inputs."""

    def predict(self, x):
        return x


@pytest.fixture(params=[64 * 2**20, 1], ids=["whole", "in pieces"])
def piecewise(request, monkeypatch):
    monkeypatch.setattr("masslib.evaluation.outputs._CHUNK_BYTES", request.param)
    return {"batch_size": 7}


def test_segmentation_is_what_scikit_learn_says_of_the_labelled_pixels(piecewise):
    result = evaluate(Echo(), (LOGITS, VOID), ignore_class=255, **piecewise)
    kept = VOID != 255
    truth, predicted = VOID[kept], LOGITS.argmax(-1)[kept]
    assert (result.task, result.n, result.counted) == ("segmentation", 50, kept.sum())
    assert result.metrics == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(truth, predicted),
            "mean_iou": metrics.jaccard_score(truth, predicted, average="macro"),
        }
    )
    np.testing.assert_array_equal(result.confusion, metrics.confusion_matrix(truth, predicted))
    np.testing.assert_allclose(result.per_class["iou"], metrics.jaccard_score(truth, predicted, average=None))
    keras_iou = keras.metrics.MeanIoU(4, ignore_class=255, sparse_y_pred=False)
    keras_iou.update_state(VOID, LOGITS)
    assert result.mean_iou == pytest.approx(float(keras_iou.result()), abs=1e-6)


def test_one_output_tells_two_classes_of_pixels():
    y = RNG.integers(0, 2, (30, 8, 8, 1))
    scores = np.clip(y * 0.3 + RNG.random(y.shape) * 0.7, 0, 1)
    for outputs in (scores, np.log(scores / (1 - scores + 1e-9) + 1e-9)):
        result = evaluate(Echo(), (outputs, y[..., 0]), task="segmentation")
        assert result.accuracy == pytest.approx((y == (scores > 0.5)).mean(), abs=1e-3)
    assert result.mean_iou == pytest.approx(
        metrics.jaccard_score(y.ravel(), scores.ravel() > 0.5, average="macro"), abs=1e-3
    )


@pytest.mark.parametrize("masked_by", ["ignore_class", "weights"])
def test_perplexity_is_that_of_keras_cross_entropy_over_the_tokens_that_count(piecewise, masked_by):
    logits, y = LOGITS[:, :, 0], np.where(VOID[:, :, 0] == 255, 3, VOID[:, :, 0])
    mask = VOID[:, :, 0] != 255
    if masked_by == "weights":
        data, options = (logits, y, mask.astype("float32")), {}
    else:
        data, options = (logits, np.where(mask, y, -1)), {"ignore_class": -1}
    result = evaluate(Echo(), data, **options, **piecewise)
    loss = keras.losses.sparse_categorical_crossentropy(y[mask], logits[mask], from_logits=True)
    assert result.perplexity == pytest.approx(float(np.exp(np.mean(loss))), rel=1e-5)
    assert result.accuracy == pytest.approx((logits.argmax(-1) == y)[mask].mean())
    assert (result.task, result.counted) == ("tokens", mask.sum())
    probable = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    again = evaluate(Echo(), (probable, *data[1:]), task="tokens", **options, **piecewise)
    assert again.perplexity == pytest.approx(result.perplexity, rel=1e-5)
    low, high = result.intervals["perplexity"]
    assert low < result.perplexity < high


def test_regression_of_any_shape_is_what_scikit_learn_says(piecewise):
    y = RNG.normal(2000, 3, (50, 6, 5))
    outputs, weights = y + RNG.normal(size=y.shape), RNG.random(50)
    for data, shares in (((outputs, y), None), ((outputs, y, weights), weights)):
        result = evaluate(Echo(), data, **piecewise)
        pair = y.reshape(50, -1), outputs.reshape(50, -1)
        assert result.metrics == pytest.approx(
            {
                "mae": metrics.mean_absolute_error(*pair, sample_weight=shares),
                "rmse": np.sqrt(metrics.mean_squared_error(*pair, sample_weight=shares)),
                "r2": metrics.r2_score(*pair, sample_weight=shares),
            }
        )
        assert all(
            result.intervals[name][0] < value < result.intervals[name][1] for name, value in result.metrics.items()
        )
    constant = np.full((9, 1), 3.0)
    assert evaluate(Echo(), (constant, constant), task="regression").r2 == metrics.r2_score(constant, constant) == 1


def test_dense_outputs_are_never_held_at_once(monkeypatch):
    """400 masks of 128 x 128 pixels and 16 classes are 420 MB; the sums of them are kept."""
    import tracemalloc

    class Seen:
        def predict(self, x, batch_size=None):
            return np.repeat(x[..., None], 16, axis=-1) + np.arange(16, dtype="float32")

    x, y = np.zeros((400, 128, 128), "float32"), np.full((400, 128, 128), 15, "uint8")
    monkeypatch.setattr("masslib.evaluation.outputs._CHUNK_BYTES", 2**23)
    tracemalloc.start()
    try:
        assert evaluate(Seen(), (x, y), task="segmentation", batch_size=4).accuracy == 1
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_the_compiled_loss_tells_the_task_and_the_void_class():
    entry = keras.Input((6, 5, 3))
    model = keras.Model(entry, keras.layers.Conv2D(4, 1, activation="softmax")(entry))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(ignore_class=255))
    x = RNG.normal(size=(50, 6, 5, 3)).astype("float32")
    result = evaluate(model, from_arrays(x, VOID.astype("int32")))
    assert (result.task, result.counted) == ("segmentation", (VOID != 255).sum())
    entry = keras.Input((6,))
    tokens = keras.Model(entry, keras.layers.Embedding(9, 4)(entry))
    tokens.compile("sgd", "sparse_categorical_crossentropy")
    assert evaluate(tokens, (RNG.integers(0, 9, (50, 6)), PIXELS[:, :, 0])).task == "tokens"


@pytest.mark.filterwarnings("ignore:AUC is undefined")
def test_a_label_that_one_loss_ignores_counts_in_the_other_outputs():
    entry = keras.Input((3,))
    ends = {name: keras.layers.Dense(4, activation="softmax", name=name)(entry) for name in ("tags", "kind")}
    model = keras.Model(entry, ends)
    ignoring = keras.losses.SparseCategoricalCrossentropy(ignore_class=0)
    model.compile("sgd", {"tags": ignoring, "kind": "sparse_categorical_crossentropy"})
    x, y = RNG.normal(size=(90, 3)).astype("float32"), RNG.integers(0, 4, 90)
    found, answers = evaluate(model, (x, {"tags": y, "kind": y})), model.predict(x, verbose=0)
    right = {name: it.argmax(1) == y for name, it in answers.items()}
    assert found["kind"].accuracy == pytest.approx(right["kind"].mean())
    assert found["tags"].accuracy == pytest.approx(right["tags"][y > 0].mean())
    assert evaluate(model, (x, {"tags": y, "kind": y}), ignore_class={"kind": 1})["tags"].n == 90
    small = masslib.compress(model, masslib.Quantize("float16"))
    assert evaluate(small, (x, {"tags": y, "kind": y}))["tags"].n == (y > 0).sum()


def test_structures_go_in_and_each_output_is_judged_by_itself():
    inputs = {"a": keras.Input((3,), name="a"), "b": keras.Input((2,), name="b")}
    joined = keras.layers.Concatenate()(list(inputs.values()))
    outputs = {
        "kind": keras.layers.Dense(3, activation="softmax", name="one")(joined),
        "price": keras.layers.Dense(1, name="two")(joined),
        "extra": keras.layers.Dense(2, name="three")(joined),
    }
    x = {"a": RNG.normal(size=(40, 3)).astype("float32"), "b": RNG.normal(size=(40, 2)).astype("float32")}
    y = {"price": RNG.normal(size=(40, 1)), "kind": np.arange(40) % 3}
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"kind": "sparse_categorical_crossentropy", "price": "mse"})
    found, answers = evaluate(model, (x, y)), model.predict(x, verbose=0)
    assert isinstance(found, Evaluations) and list(found) == ["kind", "price"]
    assert found["kind"].accuracy == np.mean(answers["kind"].argmax(1) == y["kind"])
    assert found.metrics["price/mae"] == pytest.approx(np.abs(answers["price"] - y["price"]).mean())
    assert found.table["task"].to_dict() == {"kind": "multiclass", "price": "regression"}
    assert "multiclass" in repr(found) and "<table" in found._repr_html_()
    listed = keras.Model(list(inputs.values()), list(outputs.values()))
    listed.compile("sgd", ["sparse_categorical_crossentropy", "mse", "mse"])
    weights = RNG.random(40)
    again = evaluate(listed, ([x["a"], x["b"]], (y["kind"], y["price"], None), weights))
    assert list(again) == ["one", "two"]
    assert again["one"].accuracy == pytest.approx(np.average(answers["kind"].argmax(1) == y["kind"], weights=weights))
    named = evaluate(listed, (list(x.values()), {"one": y["kind"], "two": y["price"]}))
    assert named["one"] == found["kind"]


@pytest.mark.parametrize(
    ("outputs", "y", "options", "words"),
    [
        (LOGITS, VOID, {"task": "segmentation"}, "y has the label 255; expected class indices from 0 to 3. Pass"),
        (
            LOGITS,
            PIXELS[:, 1:],
            {"task": "segmentation"},
            r"y has shape \(50, 5, 5\); expected class indices \(50, 6, 5\)",
        ),
        (LOGITS, PIXELS, {"task": "multiclass"}, "Classes of pixels are task='segmentation', those of tokens"),
        (LOGITS[:, 0, 0], PIXELS[:, 0, 0], {"task": "tokens"}, r"expected \(..., k\)"),
        (LOGITS, PIXELS * 0 + 9, {"task": "segmentation", "ignore_class": 9}, "no label is left to judge"),
        (LOGITS, LOGITS[:, 1:], {"task": "regression"}, r"gives \(6, 5, 4\) per row, but y has \(5, 5, 4\)"),
        (LOGITS[:, 0], np.zeros((50, 5, 4)), {"task": "tokens"}, "neither class indices nor one-hot"),
    ],
)
def test_errors_say_what_is_wrong(outputs, y, options, words):
    with pytest.raises(ValueError, match=words):
        evaluate(Echo(), (outputs, y), **options)
    if "task" not in options:
        return
    with pytest.raises(ValueError, match="sample_weight has shape"):
        evaluate(Echo(), (LOGITS, PIXELS, np.ones((50, 3))), task="segmentation")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["dict", pytest.param("list", marks=pytest.mark.exhaustive)])
def test_files_of_several_outputs_are_judged_as_their_model(tmp_path, form):
    """The names of the outputs are those of the model, whatever their order in the file."""
    entry = {"b": keras.Input((3,), name="b"), "a": keras.Input((2,), name="a")}
    joined = keras.layers.Concatenate()(list(entry.values()))
    outputs = {
        "zebra": keras.layers.Dense(3, activation="softmax", name="zebra")(joined),
        "ape": keras.layers.Dense(3, activation="softmax", name="ape")(joined),
    }
    x = {"b": RNG.normal(size=(60, 3)).astype("float32"), "a": RNG.normal(size=(60, 2)).astype("float32")}
    y = {"zebra": np.arange(60) % 3, "ape": RNG.integers(0, 3, 60)}
    if form == "list":
        model = keras.Model(list(entry.values()), list(outputs.values()))
        x, labels = list(x.values()), list(y.values())
        model.compile("sgd", ["sparse_categorical_crossentropy"] * 2)
    else:
        model, labels = keras.Model(entry, outputs), y
        model.compile("sgd", dict.fromkeys(outputs, "sparse_categorical_crossentropy"))
    expected = evaluate(model, (x, labels))
    assert expected.metrics == evaluate(model, (x, y)).metrics and list(expected) == ["zebra", "ape"]
    for path in (
        masslib.export.tflite(model, tmp_path / "model.tflite"),
        masslib.export.saved_model(model, tmp_path / "saved"),
        masslib.export.tflite(masslib.compress(model, masslib.Quantize("dynamic")), tmp_path / "dynamic.tflite"),
    ):
        for data in ((x, labels), (x, y)):
            found = evaluate(path, data, **compiled_options(model))
            assert found.metrics == pytest.approx(expected.metrics, abs=0.05), path
    splits = masslib.data.Splits.from_arrays(*(masslib.data.from_arrays(x, labels) for _ in range(3)))
    table = masslib.compare(
        model,
        {"dynamic": masslib.Quantize("dynamic")},
        splits,
        metric={"ape/accuracy": 1, "zebra/auc": 0.5},
        verbose=False,
    ).table
    wanted = expected["ape"].accuracy + 0.5 * expected["zebra"].auc
    assert table.iloc[:, 0]["float"] == pytest.approx(wanted, abs=1e-3)
    falling = masslib.sensitivity(model, splits.valid, levels=[0.5], metric="zebra/accuracy", verbose=False)
    assert falling.baseline == expected["zebra"].accuracy
