import keras
import numpy as np
import pytest
import tensorflow as tf

import masslib
from masslib import models


def _compiled(seed=0, **settings):
    model = models.mlp((8, 8, 1), 10, hidden=(32,), seed=seed)
    model.compile(
        **{"optimizer": "adam", "loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]} | settings
    )
    return model


def _weights(model):
    return np.concatenate([weight.ravel() for weight in model.get_weights()])


def test_it_is_model_fit_on_the_same_batches(digits):
    """On the default strategy nothing but speed may differ from Keras' own loop."""
    ours, keras_own = _compiled(), _compiled()
    history = masslib.fit(ours, digits.train, batch_size=50, epochs=3, validation_data=digits.valid, seed=5, verbose=0)
    for epoch in range(3):
        batches = digits.train.batches(50, seed=5, epoch=epoch)
        expected = keras_own.fit(
            batches, validation_data=digits.valid.batches(50, shuffle=False), shuffle=False, verbose=0
        ).history
        for name, (value,) in expected.items():
            assert history.history[name][epoch] == pytest.approx(value, rel=1e-5), name
    np.testing.assert_allclose(_weights(ours), _weights(keras_own), atol=1e-6)


def test_it_learns(digits):
    model = _compiled()
    masslib.fit(model, digits.train, epochs=20, verbose=0)
    assert masslib.evaluate(model, digits.test).accuracy > 0.93


def test_the_same_call_gives_the_same_bits_and_another_seed_does_not(digits):
    def trained(seed):
        model = _compiled()
        masslib.fit(model, digits.train, batch_size=64, seed=seed, verbose=0)
        return _weights(model)

    first, again, other = trained(1), trained(1), trained(2)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_arrays_subsets_and_datasets_train_alike(digits):
    x, y = digits.train[:]
    results = []
    for arguments in ((digits.train,), (x, y), (digits.train.batches(64, shuffle=False),)):
        model = _compiled()
        masslib.fit(model, *arguments, batch_size=64, shuffle=False, verbose=0)
        results.append(_weights(model))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_a_dataset_of_unknown_length_trains_to_its_end(digits):
    batches = digits.train.batches(64, shuffle=False)
    unknown = batches.filter(lambda x, y: True)
    assert unknown.cardinality() == tf.data.UNKNOWN_CARDINALITY
    results = []
    for dataset in (batches, unknown):
        model = _compiled()
        history = masslib.fit(model, dataset, epochs=2, verbose=0)
        results.append((_weights(model), history.history["loss"]))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


class Watcher(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append(("epoch", epoch))

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(("batch", batch, sorted(logs)))

    def on_train_end(self, logs=None):
        self.seen.append(("end", sorted(logs)))


def test_callbacks_that_look_at_batches_see_every_batch(digits):
    watcher = Watcher()
    masslib.fit(_compiled(), digits.test, batch_size=100, verbose=0, callbacks=[watcher])
    steps = digits.test.steps(100)
    batches = [("batch", step, ["accuracy", "loss"]) for step in range(steps)]
    assert watcher.seen == [("epoch", 0), *batches, ("end", ["accuracy", "loss"])]


def test_a_lambda_callback_sees_every_batch_too(digits):
    seen = []
    watcher = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    masslib.fit(_compiled(), digits.test, batch_size=100, verbose=0, callbacks=[watcher])
    assert seen == [0, 1, 2, 3]


def test_early_stopping_stops_and_restores(digits):
    model = _compiled()
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=0, min_delta=10, restore_best_weights=True)
    history = masslib.fit(model, digits.train, epochs=9, validation_data=digits.valid, callbacks=[stopping], verbose=0)
    assert len(history.history["loss"]) == len(history.history["val_loss"]) == 2
    once = _compiled()
    masslib.fit(once, digits.train, epochs=1, verbose=0)
    np.testing.assert_array_equal(_weights(model), _weights(once))


class OwnStep(keras.Model):
    """A model with a train_step of its own, and logs of its own."""

    def __init__(self):
        super().__init__()
        self.scale = self.add_weight(shape=(), initializer="zeros", name="scale")

    def call(self, x):
        return x * self.scale

    def train_step(self, data):
        x, _ = data
        self.scale.assign_add(1)
        return {"rows": tf.cast(tf.shape(x)[0], "float32"), "scale": self.scale + 0.0}


def test_models_that_override_train_step_train_with_their_own_step(digits):
    model = OwnStep()
    model.compile(optimizer="sgd")
    history = masslib.fit(model, digits.test, batch_size=50, epochs=2, verbose=0)
    steps = digits.test.steps(50)
    assert float(model.scale) == 2 * steps
    assert history.history["scale"] == [steps, 2 * steps]
    assert history.history["rows"] == [len(digits.test) - 50 * (steps - 1)] * 2


def test_a_step_is_traced_once_until_the_model_is_compiled_or_changed(digits):
    traced = []

    class Tracer(keras.layers.Layer):
        def call(self, x, training=False):
            traced.extend([None] * bool(training))
            return x

    def train(traces, **options):
        before = len(traced)
        masslib.fit(model, digits.test, verbose=0, **options)
        assert len(traced) - before == traces

    model = keras.Sequential([Tracer(), _compiled()])
    model.build((None, *digits.input_shape))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    train(1)
    train(0)
    train(0, epochs=2, validation_data=digits.valid)
    model.optimizer.learning_rate = 0.01
    train(0)
    model.optimizer.learning_rate = keras.optimizers.schedules.CosineDecay(0.0, 1)
    train(1)
    train(2, accumulate=2)
    model.layers[1].layers[-1].trainable = False
    kernel = model.layers[1].layers[-1].kernel.numpy()
    train(1)
    assert np.array_equal(model.layers[1].layers[-1].kernel, kernel)
    model.compile(model.optimizer, "sparse_categorical_crossentropy", loss_weights=[0.0])
    train(1)
    assert model.get_metrics_result()["loss"] == 0


def test_training_again_with_what_was_traced_is_training_again_traced_anew(digits):
    weights = {}
    for again in ("kept", "compiled"):
        keras.utils.set_random_seed(0)
        model = models.mlp(digits.input_shape, 10, hidden=(16,))
        model.add(keras.layers.Dropout(0.2))
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
        for seed in range(3):
            masslib.fit(model, digits.test, batch_size=50, seed=seed, verbose=0)
            if again == "compiled":
                model.compile(model.optimizer, "sparse_categorical_crossentropy")
        weights[again] = model.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(*weights.values(), strict=True))


def test_augmentation_may_change_the_shape(digits):
    model = models.mlp((5, 5, 1), 10, hidden=(16,))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    masslib.fit(model, digits.test, augment=keras.layers.RandomCrop(5, 5), verbose=0)
    assert int(model.optimizer.iterations) == digits.test.steps(32)


def test_a_model_for_batches_of_one_size_trains(digits):
    model = keras.Sequential([keras.Input(batch_shape=(64, 8, 8, 1)), keras.layers.Reshape((8, 8))])
    model.add(keras.layers.GRU(12, stateful=True))
    model.add(keras.layers.Dense(10, activation="softmax"))
    model.compile("adam", "sparse_categorical_crossentropy")
    masslib.fit(model, digits.train.take(128), batch_size=64, shuffle=False, verbose=0)
    assert np.isfinite(_weights(model)).all()


def test_run_eagerly_gives_the_same_result(digits):
    results = []
    for eager in (False, True):
        model = _compiled(run_eagerly=eager)
        masslib.fit(model, digits.test, batch_size=100, verbose=0)
        results.append(_weights(model))
    np.testing.assert_allclose(*results, atol=1e-6)


def test_progress_is_shown(digits, capsys):
    masslib.fit(_compiled(), digits.test, batch_size=100, epochs=1)
    assert "4/4" in capsys.readouterr().out
    masslib.fit(_compiled(), digits.test, batch_size=100, epochs=1, verbose=0)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"epochs": 0}, ValueError, "epochs=0: expected a whole number of at least 1"),
        ({"verbose": 3}, ValueError, "verbose=3: expected 'auto', 0, 1 or 2"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"x": "photos"}, TypeError, "x holds a str; expected a Subset, a tf.data.Dataset or arrays"),
        ({"y": [1]}, ValueError, "y was passed beside a Subset"),
        ({"validation_split": 1.0}, ValueError, "validation_split=1.0: expected a part from 0 to below 1"),
        ({"validation_data": (1, 2, 3)}, TypeError, "x holds a int; expected a Subset, a tf.data.Dataset or arrays"),
    ],
)
def test_wrong_arguments_are_refused(digits, arguments, error, words):
    with pytest.raises(error, match=words):
        masslib.fit(_compiled(), **{"x": digits.train, "verbose": 0} | arguments)


def test_wrong_models_are_refused(digits):
    with pytest.raises(TypeError, match="expected a Keras 3 model, got builtins.str"):
        masslib.fit("model", digits.train)
    with pytest.raises(ValueError, match="'mlp' is not compiled; call model.compile"):
        masslib.fit(models.mlp((8, 8, 1), 10), digits.train)
    endless = digits.train.batches(32).repeat()
    with pytest.raises(ValueError, match=r"never ends; pass steps_per_epoch"):
        masslib.fit(_compiled(), endless)
    with pytest.raises(ValueError, match="y was passed beside a tf.data.Dataset"):
        masslib.fit(_compiled(), digits.train.batches(32), [1])


@pytest.mark.slow
def test_class_weights_and_augmentation_take_part(digits):
    """As in Keras: the weight of a row is that of its class, times its own."""
    x, y = digits.test[:]
    weights = {label: 1.0 + label for label in range(10)}
    ours, keras_own = _compiled(), _compiled()
    masslib.fit(ours, x, y, class_weight=weights, batch_size=60, shuffle=False, verbose=0)
    keras_own.fit(x, y, class_weight=weights, batch_size=60, shuffle=False, verbose=0)
    np.testing.assert_allclose(_weights(ours), _weights(keras_own), atol=1e-6)
    one_hot = _compiled(loss="categorical_crossentropy")
    classes = keras.utils.to_categorical(y, 10)
    masslib.fit(one_hot, x, classes, class_weight=weights, batch_size=60, shuffle=False, verbose=0)
    np.testing.assert_allclose(_weights(one_hot), _weights(ours), atol=1e-6)
    flipped = _compiled()
    masslib.fit(flipped, x, y, augment=keras.layers.RandomFlip(), batch_size=60, shuffle=False, verbose=0)
    assert (_weights(flipped) != _weights(ours)).any()
    some, keras_some = _compiled(), _compiled()
    masslib.fit(some, x, y, class_weight={3: 5.0}, batch_size=60, shuffle=False, verbose=0)
    keras_some.fit(x, y, class_weight={3: 5.0}, batch_size=60, shuffle=False, verbose=0)
    np.testing.assert_allclose(_weights(some), _weights(keras_some), atol=1e-6)
    with pytest.raises(ValueError, match=r"has the classes \[0, 0.5\]; expected numbers of classes"):
        masslib.fit(_compiled(), x, y, class_weight={0: 1, 0.5: 1})


@pytest.mark.slow
def test_mixed_precision_trains(digits):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu", dtype="mixed_float16"),
            keras.layers.Dense(10, activation="softmax", dtype="float32"),
        ]
    )
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.003))
    model.compile(optimizer, "sparse_categorical_crossentropy")
    masslib.fit(model, digits.train.take(1240), batch_size=40, epochs=6, accumulate=2, verbose=0)
    assert masslib.evaluate(model, digits.test).accuracy > 0.9


def test_tensorboard_is_fed(digits, tmp_path):
    masslib.fit(_compiled(), digits.test, verbose=0, callbacks=[keras.callbacks.TensorBoard(tmp_path)])
    assert list(tmp_path.rglob("events.out.tfevents*"))


@pytest.mark.slow
def test_a_large_model_with_a_compiled_update_trains_as_keras_does():
    """From 200,000 weights on XLA compiles the update; what it computes stays the same."""
    rng = np.random.default_rng(0)
    x, y = rng.random((96, 40, 40, 1), "float32"), rng.integers(0, 10, 96)
    results = []
    for train in (masslib.fit, keras.Model.fit):
        model = models.mlp((40, 40, 1), 10, hidden=(700,))
        assert model.count_params() > 1_000_000
        schedule = keras.optimizers.schedules.CosineDecay(1e-3, 12)
        model.compile(keras.optimizers.Adam(schedule, clipnorm=1.0), "sparse_categorical_crossentropy")
        train(model, x, y, batch_size=32, epochs=4, shuffle=False, verbose=0)
        assert int(model.optimizer.iterations.numpy()) == 12
        results.append(_weights(model))
    np.testing.assert_allclose(*results, atol=2e-5)


def test_an_embedding_of_a_million_weights_trains(digits):
    """Its gradients are sparse, and stay so."""
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Embedding(40_000, 32), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = model.get_weights()[0].copy()
    masslib.fit(model, np.arange(120).reshape(40, 3), np.arange(40) % 2, verbose=0)
    changed = (model.get_weights()[0] != before).any(axis=1)
    assert changed[:120].all()
    assert not changed[120:].any()


def test_data_without_a_batch_are_an_error(digits):
    x, y = digits.test[:]
    once = iter([(x[:50], y[:50])])
    signature = (tf.TensorSpec((None, 8, 8, 1)), tf.TensorSpec((None,), tf.int64))
    used_up = tf.data.Dataset.from_generator(lambda: once, output_signature=signature)
    with pytest.raises(ValueError, match=r"the data gave no batch in epoch 2, expected at least one; a generator"):
        masslib.fit(_compiled(), used_up, epochs=2, verbose=0)
    with pytest.raises(ValueError, match="the data gave no batch in epoch 1"):
        masslib.fit(_compiled(), tf.data.Dataset.from_tensor_slices((x, y)).batch(50).take(0), verbose=0)


def test_uint8_averages_vectors_and_models_without_weights_are_as_in_keras(digits):
    x, y = digits.test[:]
    x, y = (16 * x).astype("uint8")[:300], keras.utils.to_categorical(y, 10)[:300]
    results = []
    for train in (masslib.fit, keras.Model.fit):
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Rescaling(1 / 16), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")]
        model = keras.Sequential(layers)  # built at the first batch
        optimizer = keras.optimizers.SGD(0.1, use_ema=True)
        model.compile(optimizer, "categorical_crossentropy", metrics=[keras.metrics.F1Score()])
        history = train(model, x, y, batch_size=50, epochs=2, shuffle=False, verbose=0).history
        results.append((_weights(model), np.stack(history["f1_score"])))
    for ours, keras_own in zip(*results, strict=True):
        np.testing.assert_allclose(ours, keras_own, atol=1e-6)


def test_parts_of_a_sum_are_refused(digits):
    model = _compiled(loss=keras.losses.SparseCategoricalCrossentropy(reduction="sum"))
    with pytest.raises(ValueError, match="accumulate=2 takes the mean over its parts, and a loss of 'mlp' is a sum"):
        masslib.fit(model, digits.test, accumulate=2, verbose=0)


def test_a_model_without_a_call_makes_its_weights_in_its_train_step(digits):
    class Pair(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = models.mlp((8, 8, 1), 10)

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, self.inner(x, training=True)))
            self.optimizer.apply(tape.gradient(loss, self.inner.trainable_variables), self.inner.trainable_variables)
            return {"loss": loss}

    model = Pair()
    model.compile("adam")
    assert np.isfinite(masslib.fit(model, digits.test, verbose=0).history["loss"]).all()
