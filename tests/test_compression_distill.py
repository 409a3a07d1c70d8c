"""A student that learns from a teacher, and how far that goes."""

import keras
import numpy as np
import pytest
from keras import layers

import masslib
from masslib import Compressed, Distill, PruneChannels, Quantize, compress, export, measure, models
from masslib.compression.steps.distillation_losses import Features, SoftTargets


@pytest.fixture(scope="module")
def teacher(digits):
    model = models.mlp(digits.input_shape, digits.num_classes)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    masslib.fit(model, digits.train, batch_size=32, epochs=6, verbose=0)
    return model


@pytest.fixture
def student(digits):
    return models.mlp(digits.input_shape, digits.num_classes, hidden=(48,), seed=1)


def _kl(teacher, student, temperature):
    """As Hinton wrote it, in NumPy, from logits."""

    def soft(logits):
        powers = np.exp(logits / temperature)
        return powers / powers.sum(-1, keepdims=True)

    p, q = soft(teacher), soft(student)
    return temperature**2 * np.mean(np.sum(p * np.log(p / q), -1))


@pytest.mark.parametrize("temperature", [1, 4.0, 20])
def test_the_temperature_divides_logits_whatever_the_models_end_in(temperature):
    rng = np.random.default_rng(0)
    logits = [rng.normal(0, 3, (5, 7)).astype("float32") for _ in "ab"]
    expected = _kl(*(one.astype("float64") for one in logits), temperature)
    for activation in ("linear", "softmax"):
        outputs = [keras.activations.get(activation)(keras.ops.convert_to_tensor(one)) for one in logits]
        found = SoftTargets(activation, temperature).compute_loss(*outputs)
        assert float(found) == pytest.approx(expected, rel=1e-3)
    # One sigmoid is a softmax of two logits, of which the first is 0.
    single = [one[:, :1] for one in logits]
    two = [np.stack([np.zeros_like(one), one], -1).astype("float64") for one in single]
    outputs = [keras.ops.sigmoid(keras.ops.convert_to_tensor(one)) for one in single]
    found = SoftTargets("sigmoid", temperature).compute_loss(*outputs)
    assert float(found) == pytest.approx(_kl(*two, temperature), rel=1e-3)


def test_a_student_learns_from_its_teacher_alone(teacher, student, digits, tmp_path):
    """The labels are wrong, and have no weight."""
    x, y = digits.train[:]
    before = [one.get_weights() for one in (teacher, student)]
    step = Distill(student, alpha=1, epochs=12)
    small = compress(teacher, [step, Quantize("dynamic")], (x, (y + 1) % 10), batch_size=32, verbose=False)
    for weights, one in zip(before, (teacher, student), strict=True):
        for a, b in zip(weights, one.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    assert teacher.trainable_variables
    assert small.skipped == {}
    path = export.tflite(small, tmp_path / "student.tflite")
    kernels = [shape for shape in measure.sparsity(path)["shape"] if len(shape) == 2]
    assert sorted(kernels) == [(10, 48), (48, 64)]
    images, labels = digits.test[:]
    answers = np.argmax(export.load(path).predict(images), 1)
    assert np.mean(answers == np.argmax(teacher(images), 1)) > 0.85
    assert np.mean(answers == labels) > 0.85
    small.save(tmp_path / "kept")
    again = Compressed.load(tmp_path / "kept")
    np.testing.assert_array_equal(again.model(images), small.model(images))
    assert again.steps[0].student.count_params() == student.count_params()
    assert (again.steps[0].alpha, again.steps[0].epochs, again.steps[1]) == (1, 12, small.steps[1])


@pytest.mark.slow
def test_labels_have_the_rest_of_the_weight(teacher, digits):
    """Of a teacher that knows nothing only the labels can teach."""
    ignorant = keras.models.clone_model(teacher)
    ignorant.set_weights([np.zeros_like(weight) for weight in teacher.get_weights()])

    def build():
        return models.mlp(digits.input_shape, digits.num_classes, hidden=(48,), seed=1)

    x, y = digits.test[:]
    found = {}
    for alpha in (0.1, 1.0):
        step = Distill(build, alpha=alpha, temperature=1, epochs=6)
        small = compress(ignorant, step, digits.train, batch_size=32, verbose=False)
        found[alpha] = np.mean(np.argmax(small.model(x), 1) == y)
    assert found[0.1] > 0.8 > 0.4 > found[1.0]


def _images(channels):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(channels, 3, activation="relu", name="conv"),
            layers.Flatten(name="flat"),
            layers.Dense(channels, name=f"dense{channels}"),
            layers.Dense(10, activation="softmax", name="top"),
        ],
        name=f"images{channels}",
    )


@pytest.mark.slow
def test_layers_of_the_student_become_like_those_of_the_teacher(digits):
    keras.utils.set_random_seed(0)
    model, student = _images(16), _images(8)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    masslib.fit(model, digits.train, batch_size=32, epochs=3, verbose=0)
    x = keras.ops.convert_to_tensor(digits.test[:][0])
    distance = Features("conv", "conv")

    def apart(one):
        conv = keras.Model(one.inputs, one.get_layer("conv").output)(x)
        return float(distance.compute_loss(keras.Model(model.inputs, model.get_layer("conv").output)(x), conv))

    step = Distill(student, alpha=1, features={"conv": "conv"}, epochs=6, learning_rate=3e-3)
    small = compress(model, step, digits.train, batch_size=32, verbose=False)
    plain = compress(
        model, Distill(student, alpha=1, epochs=6, learning_rate=3e-3), digits.train, batch_size=32, verbose=False
    )
    assert apart(model) == 0
    assert apart(small.model) < 0.7 * apart(plain.model)
    with pytest.raises(
        ValueError, match=r"'dense8' of the student has the shape \(None, 8\), .* \(None, 16\); only the"
    ):
        compress(model, Distill(student, features={"dense16": "dense8"}), digits.train, verbose=False)
    with pytest.raises(ValueError, match="In student model: No such layer: other"):
        compress(model, Distill(student, features={"conv": "other"}), digits.train, verbose=False)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Distill("small"), r"Distill\(student='small'\): expected a Keras 3 model, or a function"),
        (lambda: Distill(_images, temperature=0), r"Distill\(temperature=0\): expected a positive number"),
        (lambda: Distill(_images, temperature=float("nan")), "temperature=nan"),
        (lambda: Distill(_images, alpha=0), r"Distill\(alpha=0\): expected a number above 0 and up to 1"),
        (lambda: Distill(_images, alpha=1.5), "alpha=1.5"),
        (lambda: Distill(_images, features="conv"), "features='conv'.: expected a dict from names of layers of the mo"),
        (lambda: Distill(_images, epochs=0), r"Distill\(epochs=0\): expected a positive integer"),
    ],
)
def test_impossible_settings_are_refused_when_made(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_students_that_do_not_fit_are_refused(teacher, digits):
    def end(units=10, activation="softmax", shape=(8, 8, 1)):
        body = [keras.Input(shape), layers.Flatten(), layers.Dense(units, activation=activation)]
        return keras.Sequential(body)

    def refused(model, student, words, kind=ValueError):
        with pytest.raises(kind, match=words):
            compress(model, Distill(student), digits.train, verbose=False)

    refused(teacher, end(5), r"the student maps \(None, 8, 8, 1\) to \(None, 5\), the model .* to \(None, 10\)")
    refused(teacher, end(shape=(8, 8, 3)), r"the student maps \(None, 8, 8, 3\) to")
    refused(teacher, end(activation="linear"), "student ends in the activation 'linear', the model in 'softmax'")
    refused(teacher, lambda: 3, "the function returned 3, expected a Keras 3 model", TypeError)
    linear = end(activation="linear")
    linear.compile(loss="mse")
    refused(linear, end(activation="linear"), "from_logits=True, got 1 with the activation 'linear'")
    with pytest.raises(ValueError, match=r"use \[Distill\(.*\), PruneChannels\(0.5\)\]"):
        compress(teacher, [PruneChannels(0.5), Distill(end())], digits.train)


@pytest.mark.slow
def test_models_that_return_logits_can_be_distilled(digits):
    keras.utils.set_random_seed(0)
    model, student = (
        keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(width, "relu"), layers.Dense(10)])
        for width in (64, 16)
    )
    model.compile(optimizer="adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    masslib.fit(model, digits.train, batch_size=32, epochs=5, verbose=0)
    small = compress(model, Distill(student, epochs=12), digits.train, batch_size=32, verbose=False)
    x, y = digits.test[:]
    assert np.mean(np.argmax(small.model(x), 1) == y) > 0.8
