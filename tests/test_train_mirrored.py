"""Two replicas give what one gives."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import masslib
from masslib import models


@pytest.fixture(scope="module")
def mirrored():
    return masslib.strategy("mirrored", devices=2)


def _network(dtype, normalized):
    policy = keras.dtype_policies.DTypePolicy(dtype)
    norm = [layers.BatchNormalization(synchronized=True, dtype=policy)] if normalized else []
    init = keras.initializers.GlorotUniform(seed=1)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), dtype=dtype),
            layers.Conv2D(8, 3, kernel_initializer=init, dtype=policy),
            *norm,
            layers.ReLU(dtype=policy),
            layers.Flatten(dtype=policy),
            layers.Dense(10, activation="softmax", kernel_initializer=init, dtype=policy),
        ]
    )


def _trained(strategy, digits, optimizer, dtype="float64", normalized=True, **options):
    with strategy.scope():
        model = _network(dtype, normalized)
        loss = keras.losses.SparseCategoricalCrossentropy(dtype=dtype)
        model.compile(optimizer=optimizer(), loss=loss, metrics=["accuracy"])
    history = masslib.fit(model, digits.train.take(1240), batch_size=128, verbose=0, **options)
    return model, history.history


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.1, momentum=0.9, clipnorm=0.5),
        pytest.param(lambda: keras.optimizers.Adam(global_clipnorm=0.5), marks=pytest.mark.slow),
        pytest.param(lambda: keras.optimizers.AdamW(weight_decay=0.01), marks=pytest.mark.exhaustive),
    ],
    ids=["sgd", "adam", "adamw"],
)
@pytest.mark.parametrize("accumulate", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_two_replicas_equal_one_in_float64(digits, mirrored, optimizer, accumulate):
    """Two x 64 rows against one x 128, an epoch long, clipping included."""
    results = [
        _trained(strategy, digits, optimizer, accumulate=accumulate, validation_data=digits.valid)
        for strategy in (tf.distribute.get_strategy(), mirrored)
    ]
    (one, expected), (two, found) = results
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)
    for name, values in expected.items():
        np.testing.assert_allclose(values, found[name], rtol=1e-6, err_msg=name)


@pytest.mark.slow
def test_two_replicas_equal_one_in_float32(digits, mirrored):
    """After 20 SGD steps, without BatchNormalization."""
    options = {"dtype": "float32", "normalized": False, "epochs": 2}
    models_ = [
        _trained(strategy, digits, lambda: keras.optimizers.SGD(0.1), **options)[0]
        for strategy in (tf.distribute.get_strategy(), mirrored)
    ]
    assert int(models_[0].optimizer.iterations.numpy()) == 20
    for a, b in zip(*(model.get_weights() for model in models_), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def test_accumulating_gives_the_result_of_the_whole_batch(digits):
    """Without BatchNormalization, whose statistics are those of a part, the parts add up to the batch."""
    strategy = tf.distribute.get_strategy()
    whole, parts = (
        _trained(strategy, digits, lambda: keras.optimizers.SGD(0.1), normalized=False, accumulate=n)[0] for n in (1, 4)
    )
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_replicas_draw_different_dropout_masks_and_agree_on_statistics(digits, mirrored):
    with mirrored.scope():
        model = models.small_cnn((8, 8, 1), 10)
        model.compile("adam", "sparse_categorical_crossentropy")
    masslib.fit(model, digits.test, batch_size=60, verbose=0)
    copies = {v.path: mirrored.experimental_local_results(v.value) for v in model.variables}
    for path, (first, second) in copies.items():
        if path.endswith("seed_generator_state"):
            assert first.numpy()[0] != second.numpy()[0]
            assert first.numpy()[1] == second.numpy()[1] > 0
        else:
            np.testing.assert_array_equal(first.numpy(), second.numpy(), err_msg=path)


def test_leftover_rows_are_reported_and_odd_batches_refused(digits, mirrored):
    with mirrored.scope():
        model = models.mlp((8, 8, 1), 10)
        model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="batch_size is 31, which does not divide by 2 replicas.* Use 30 or 32"):
        masslib.fit(model, digits.test, batch_size=31, verbose=0)
    with pytest.warns(UserWarning, match="1 of 359 rows are left out of every epoch"):
        masslib.fit(model, digits.test.take(359), batch_size=64, verbose=0)


class TwoOptimizers(keras.Model):
    """A model whose train_step has an optimizer of its own, as adversarial networks do."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1)
        self.other = keras.optimizers.SGD(0.02)

    def call(self, x):
        return self.dense(layers.Flatten()(x))

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x)[:, 0] - tf.cast(y, "float32")) ** 2) / 2  # two replicas
        self.other.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"loss": loss * 2}


def test_models_with_optimizers_of_their_own_train_too(digits, mirrored):
    keras.utils.set_random_seed(0)
    with mirrored.scope():
        model = TwoOptimizers()
        model(np.zeros((1, 8, 8, 1), "float32"))
        model.compile(optimizer="sgd")
        model.other.build(model.trainable_variables)
    history = masslib.fit(model, digits.train.take(1240), batch_size=128, epochs=9, verbose=0).history
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    for variable in model.variables:
        first, second = mirrored.experimental_local_results(variable.value)
        np.testing.assert_array_equal(first.numpy(), second.numpy())
    with pytest.raises(ValueError, match="accumulate=2 needs a train_step that updates the weights once"):
        masslib.fit(model, digits.train.take(1240), batch_size=128, accumulate=2, verbose=0)


@pytest.mark.slow
def test_datasets_are_cut_to_whole_parts(digits, mirrored):
    """A user's dataset with batches of 75 rows trains as one of 74 on two replicas."""
    x, y = digits.test[:300]
    losses = []
    for size in (75, 74):
        with mirrored.scope():
            model = models.mlp((8, 8, 1), 10, seed=4)
            model.compile("sgd", "sparse_categorical_crossentropy")
        rows = np.concatenate([np.arange(start, start + size) for start in range(0, 300, 75)])
        dataset = tf.data.Dataset.from_tensor_slices((x[rows], y[rows])).batch(size)
        losses.append(masslib.fit(model, dataset, verbose=0).history["loss"])
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_the_bits_do_not_depend_on_how_many_steps_a_call_runs(digits, mirrored):
    """A callback that looks at every batch makes each step a call of its own."""
    weights = []
    for callbacks in ([], [keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)]):
        with mirrored.scope():
            model = models.small_cnn((8, 8, 1), 10)
            model.compile("adam", "sparse_categorical_crossentropy")
        masslib.fit(model, digits.test, batch_size=40, verbose=0, callbacks=callbacks)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_inside_of_the_scope_is_refused(digits, mirrored):
    with mirrored.scope():
        model = models.mlp((8, 8, 1), 10)
        model.compile("sgd", "sparse_categorical_crossentropy")
        with pytest.raises(
            ValueError, match=r"inside of strategy.scope\(\); build and compile the model there, and fit"
        ):
            masslib.fit(model, digits.test, batch_size=40, verbose=0)


def test_an_optimizer_made_outside_of_the_scope_is_refused(digits):
    optimizer = keras.optimizers.SGD()
    strategy = masslib.strategy("mirrored", devices=2)
    with strategy.scope():
        model = masslib.models.mlp((8, 8, 1), 10, hidden=(4,))
        model.compile(optimizer, "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=r"the SGD optimizer was made outside of strategy.scope\(\); make it there"):
        masslib.fit(model, digits.test, batch_size=20, verbose=0)
