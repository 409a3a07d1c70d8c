"""What the steps promise, checked on the model that `compress` returns, and the words of every error."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import masslib
from masslib import Cluster, Distill, LowRank, Prune, PruneChannels, Quantize, QuantizeAware, compress, models


@pytest.fixture
def accuracy(digits):
    x, y = digits.test[:]
    return lambda model: np.mean(np.argmax(model(x, training=False), 1) == y)


def _kernels(model):
    return {layer.name: layer.get_weights()[0] for layer in model.layers if hasattr(layer, "kernel")}


@pytest.mark.parametrize("schedule", ["polynomial", pytest.param("constant", marks=pytest.mark.slow)])
def test_pruning_reaches_the_sparsity_in_every_kernel_and_keeps_the_accuracy(trained, digits, accuracy, schedule):
    before = trained.get_weights()
    small = compress(
        trained, Prune(0.75, schedule, epochs=2, learning_rate=3e-4), digits.train, batch_size=32, verbose=False
    )
    assert small.skipped.keys() == {"conv1"}
    assert small.skipped["conv1"].endswith("holds 0.06% of the weights, less than min_share=1.00%")
    for name, kernel in _kernels(small.model).items():
        expected = 0 if name == "conv1" else 0.75
        assert np.mean(kernel == 0) == pytest.approx(expected, abs=0.5 / kernel.size + 1e-9), name
    assert accuracy(trained) > 0.9
    assert accuracy(small.model) > accuracy(trained) - 0.1
    assert isinstance(small.model, keras.Model)
    assert all((a == b).all() for a, b in zip(before, trained.get_weights(), strict=True))


@pytest.mark.parametrize("start", ["kmeans++", pytest.param("linear", marks=pytest.mark.slow)])
def test_clustering_leaves_that_many_values_and_keeps_the_accuracy(trained, digits, accuracy, start):
    before = trained.get_weights()
    small = compress(
        trained, Cluster(8, start, max_steps=60, learning_rate=3e-4), digits.train, batch_size=32, verbose=False
    )
    kernels = _kernels(small.model)
    assert small.skipped.keys() == {"conv1"}
    assert len(np.unique(kernels.pop("conv1"))) > 100
    assert {len(np.unique(kernel)) for kernel in kernels.values()} <= set(range(4, 9))
    assert accuracy(small.model) > accuracy(trained) - 0.1
    assert all((a == b).all() for a, b in zip(before, trained.get_weights(), strict=True))


def test_kernels_with_few_distinct_weights_get_fewer_clusters_or_none(digits):
    model = models.mlp((4,), 3, hidden=(2,))
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    kernel = np.array([[1, 1], [1, 2], [2, 2], [3, 3]], "float32")
    model.get_layer("dense1").set_weights([kernel, np.zeros(2)])
    data = np.random.default_rng(0).random((64, 4), "float32"), np.arange(64) % 3
    small = compress(model, Cluster(16, max_steps=2), data, batch_size=32, verbose=False)
    assert small.skipped["dense1"] == "Cluster(16, max_steps=2): has no more than 3 distinct weights already"
    assert len(np.unique(small.model.get_layer("dense2").get_weights()[0])) <= 6
    assert small.model.get_layer("dense2").get_weights()[0].size == 6


@pytest.mark.parametrize("shape", [(40, 30), (3, 3, 4, 8)])
def test_the_fast_centroids_are_those_of_tfmot(shape):
    import tensorflow as tf

    from masslib.compression.tfmot.centroids import nearest_centroid
    from masslib.compression.tfmot.toolkit import tfmot

    rng = np.random.default_rng(0)
    weight, upstream = (tf.Variable(rng.normal(size=shape).astype("float32")) for _ in "ab")
    answers = []
    for kind in (tfmot().clustering.keras.ClusteringAlgorithm, nearest_centroid()):
        centroids = tf.Variable(np.linspace(-2, 2, 7, dtype="float32"))
        algorithm = kind(clusters_centroids=centroids)
        with tf.GradientTape() as tape:
            indices = algorithm.get_pulling_indices(weight)
            clustered = algorithm.get_clustered_weight(indices, weight)
            loss = tf.reduce_sum(clustered * upstream)
        gradients = tape.gradient(loss, [centroids, weight])
        answers.append([indices, clustered, *map(tf.convert_to_tensor, gradients)])
    for theirs, ours in zip(*answers, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_quantizing_alone_neither_trains_nor_shares_weights(trained):
    small = compress(trained, Quantize("dynamic"))
    assert small.precision == "dynamic"
    assert small.calibration is None
    assert small.model is not trained
    for a, b in zip(trained.get_weights(), small.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_steps_are_values_and_show_what_was_typed():
    assert Prune(0.5) == Prune(0.5) != Prune(0.6)
    assert repr(Prune(0.5, epochs=2)) == "Prune(0.5, epochs=2)"
    recipe = "[Prune(0.5), Cluster(16), Cluster(8, 'linear'), QuantizeAware(max_steps=9), Quantize('int8')]"
    assert repr([Prune(0.5), Cluster(), Cluster(8, "linear"), QuantizeAware(max_steps=9), Quantize("int8")]) == (
        recipe.replace("'linear'", "start='linear'")
    )
    with pytest.raises(AttributeError):
        Prune(0.5).sparsity = 0.6


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Prune(1), r"Prune\(sparsity=1\): expected a fraction above 0 and below 1"),
        (lambda: Prune(-0.1), "sparsity=-0.1"),
        (lambda: Prune(float("nan")), "sparsity=nan"),
        (lambda: Prune("high"), "sparsity='high'"),
        (lambda: Prune(0.5, "linear"), "schedule='linear'.: expected one of 'polynomial', 'constant'"),
        (lambda: Prune(0.5, min_share=1), "min_share=1.: expected a fraction from 0 up to 1"),
        (lambda: Prune(0.5, epochs=0), r"Prune\(epochs=0\): expected a positive integer"),
        (lambda: Prune(0.5, max_steps=1.5), "max_steps=1.5"),
        (lambda: Prune(0.5, learning_rate=-1), "learning_rate=-1.: expected a positive number, or None"),
        (lambda: Cluster(2), r"Cluster\(clusters=2\): expected a whole number of at least 3"),
        (lambda: Cluster(16.0), "clusters=16.0"),
        (lambda: Cluster(16, "random"), r"Cluster\(start='random'\): expected one of 'kmeans\+\+', 'linear'"),
        (lambda: Cluster(16, min_share=-1), r"Cluster\(min_share=-1\): expected a fraction"),
        (lambda: QuantizeAware(epochs=-1), r"QuantizeAware\(epochs=-1\): expected a positive integer"),
        (lambda: Quantize("int2"), r"Quantize\('int2'\): expected one of 'dynamic', 'float16'"),
        (lambda: Quantize("int8", calibration_rows=0), "calibration_rows=0.: expected a positive integer"),
    ],
)
def test_impossible_steps_are_refused_when_made(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ([], "the recipe is empty"),
        ([Quantize("int8"), Prune(0.5)], r"must stand once and last; .* use \[Prune\(0.5\), Quantize\('int8'\)\]"),
        ([QuantizeAware(), Prune(0.5)], r"use \[Prune\(0.5\), QuantizeAware\(\)\]"),
        ([Cluster(), Prune(0.5)], r"the order is Distill, .* Squeeze, and last.* use \[Prune\(0.5\), Cluster\(16\)\]"),
        ([Prune(0.5), Quantize("int8"), QuantizeAware()], r"quantized once.* use \[Prune\(0.5\), QuantizeAware\(\)\]"),
        ([QuantizeAware(), QuantizeAware()], r"quantized once.* use \[QuantizeAware\(\)\]"),
    ],
)
def test_senseless_recipes_are_refused_with_the_order_that_works(trained, digits, recipe, words):
    with pytest.raises(ValueError, match=words):
        compress(trained, recipe, digits.train)


def test_data_and_models_that_do_not_fit_are_refused(trained, digits):
    with pytest.raises(TypeError, match="expected steps such as .*, got 0.8"):
        compress(trained, [0.8], digits.train)
    with pytest.raises(ValueError, match=r"Prune\(0.5\) needs data; pass the training data as the third"):
        compress(trained, Prune(0.5))
    with pytest.raises(ValueError, match=r"rows of shape \(3,\), the model takes \(8, 8, 1\)"):
        compress(trained, Prune(0.5), (np.zeros((4, 3), "float32"), np.zeros(4, int)))
    with pytest.raises(
        ValueError, match=r"finds no layer to work on:\n  conv1: holds 0.06% .*\n.*\n  dense1: holds 96"
    ):
        compress(trained, Prune(0.5, min_share=0.99), digits.train, verbose=False)
    with pytest.raises(TypeError, match="expected a Keras 3 model, got builtins.str"):
        compress("model", Quantize("dynamic"))
    with pytest.raises(TypeError, match="expected steps such as Prune"):
        compress(trained, Prune)
    with pytest.raises(TypeError, match="data is a _BatchDataset; expected a Subset or a pair"):
        compress(trained, Prune(0.5), tf.data.Dataset.from_tensor_slices(digits.test[:]).batch(50))
    first, second = keras.Input((4,), name="first"), keras.Input((4,), name="second")
    two = keras.Model([first, second], keras.layers.Dense(2)(keras.layers.Add()([first, second])), name="two")
    for asked in (lambda: compress(two, Prune(0.5), digits.train), lambda: masslib.sensitivity(two, digits.valid)):
        with pytest.raises(ValueError, match=r"inputs for model 'two': got 1; expected 2 \(first, second\)"):
            asked()
    with pytest.raises(ValueError, match="is not compiled, so its loss is unknown"):
        compress(models.mlp((8, 8, 1), 10), Prune(0.5), digits.train, verbose=False)


@pytest.mark.slow
def test_every_training_step_is_traced_once(digits):
    eager = []

    @keras.saving.register_keras_serializable("tests")
    def loss(labels, answers):
        eager.append(tf.executing_eagerly())
        return tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, answers))

    model = models.mlp(digits.input_shape, digits.num_classes, hidden=(32,))
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
    recipe = [LowRank(8, max_steps=2), Prune(0.5, max_steps=2), Cluster(8, max_steps=2), QuantizeAware(max_steps=2)]
    compress(model, recipe, digits.train, batch_size=32, verbose=False)
    assert eager.count(False) == len(recipe)


@pytest.mark.slow
def test_every_step_takes_a_loss_of_the_users_own(digits):
    def own_loss(labels, answers):
        return keras.losses.sparse_categorical_crossentropy(labels, answers)

    class OwnLoss(keras.losses.Loss):
        def call(self, labels, answers):
            return own_loss(labels, answers)

    small = models.mlp(digits.input_shape, digits.num_classes, hidden=(16,))
    for student, loss in ((None, own_loss), (small, own_loss), (None, OwnLoss())):
        image = keras.Input(digits.input_shape)
        x = keras.layers.Dense(32, activation="relu")(keras.layers.Flatten()(image))
        model = keras.Model(image, keras.layers.Dense(digits.num_classes, activation="softmax")(x))
        model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()), loss)
        steps = [PruneChannels(0.25, max_steps=2, learning_rate=1e-3), LowRank(4, max_steps=2, learning_rate=1e-3)]
        recipe = [Distill(student, max_steps=2)] if student else [*steps, Prune(0.5, max_steps=2, learning_rate=1e-3)]
        small = compress(model, recipe, digits.train, batch_size=32, verbose=False)
        assert small.model.compiled
        assert small.model.loss is loss if loss is own_loss else isinstance(small.model.loss, OwnLoss)
        assert masslib.sensitivity(model, digits.valid, levels=[0.5], verbose=False).table.shape[1] == 1


def test_a_loss_of_ones_own_trains_as_the_one_that_it_is(digits):
    class Same(keras.losses.Loss):
        def call(self, labels, answers):
            return keras.losses.sparse_categorical_crossentropy(labels, answers)

    weights = []
    for loss in ("sparse_categorical_crossentropy", Same()):
        model = models.mlp(digits.input_shape, digits.num_classes, hidden=(16,))
        model.compile(keras.optimizers.SGD(0.1), loss)
        weights.append(compress(model, Prune(0.5, max_steps=4), digits.train, verbose=False).model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    model.compile("sgd", Same(reduction="sum"))
    with pytest.raises(ValueError, match="no tf_keras counterpart:\n  Same with reduction='sum', and not"):
        compress(model, Prune(0.5), digits.train, verbose=False)


def test_averaged_weights_names_of_outputs_and_metrics_as_strings_are_taken(digits):
    image = keras.Input(digits.input_shape)
    answer = keras.layers.Dense(digits.num_classes, activation="softmax", name="answer")(keras.layers.Flatten()(image))
    model = keras.Model(image, answer)
    optimizer = keras.optimizers.Adam(use_ema=True)
    loss = {"answer": "categorical_crossentropy"}
    model.compile(optimizer, loss, metrics={"answer": ["auc", "f1_score"]})
    x, y = digits.train.take(320)[:]
    data = x, keras.utils.to_categorical(y).astype("float32")
    small = compress(model, [Prune(0.5, max_steps=4), Cluster(16, max_steps=2)], data, batch_size=32, verbose=False)
    kernel = small.model.get_layer("answer").get_weights()[0]
    assert (kernel == 0).mean() >= 0.5 and len(np.unique(kernel)) <= 16


def test_settings_may_be_numbers_of_numpy():
    numbers = np.array([3, 8]), np.array([0.5, 0.25], "float32")
    steps = [
        Prune(numbers[1][0], max_steps=numbers[0][0], learning_rate=numbers[1][1]),
        Prune({"dense1": numbers[1][1]}, pattern=(numbers[0][0], numbers[0][0]), min_share=np.float64(0.1)),
        Cluster(numbers[0][1], epochs=np.uint8(2)),
        Cluster({"dense1": numbers[0][1]}),
        LowRank(numbers[0][0]),
        PruneChannels(numbers[1][0]),
        Quantize("int8", calibration_rows=numbers[0][0]),
        QuantizeAware(max_steps=np.int64(4)),
    ]
    plain = [
        Prune(0.5, max_steps=3, learning_rate=0.25),
        Prune({"dense1": 0.25}, pattern=(3, 3), min_share=0.1),
        Cluster(8, epochs=2),
        Cluster({"dense1": 8}),
        LowRank(3),
        PruneChannels(0.5),
        Quantize("int8", calibration_rows=3),
        QuantizeAware(max_steps=4),
    ]
    assert steps == plain
    assert repr(steps) == repr(plain)
    assert json.dumps([step.settings() for step in steps]) == json.dumps([step.settings() for step in plain])


@pytest.mark.parametrize("precision", ["int8", "int16x8"])
def test_loops_that_tensorflow_cannot_calibrate_are_refused(precision):
    """They crash the process."""
    for layer in (
        keras.layers.GRU(3, name="memory"),
        keras.layers.Bidirectional(keras.layers.LSTM(3), name="memory"),
    ):
        model = keras.Sequential([keras.Input((4, 4)), layer, keras.layers.Dense(2)])
        with pytest.raises(ValueError, match=r"the loops of the recurrent layers memory; use Quantize\('dynamic'\)"):
            compress(model, Quantize(precision), (np.zeros((4, 4, 4)), [0, 1, 0, 1]))
        assert compress(model, Quantize("dynamic")).precision == "dynamic"
    Quantize(precision).check(keras.Sequential([keras.Input((4, 4)), keras.layers.LSTM(3, unroll=True)]))
