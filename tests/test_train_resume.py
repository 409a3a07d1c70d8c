"""A training that was interrupted ends with the bits of one that was not."""

import json
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import masslib
from masslib import models

_TRAIN = """
import sys, json
import numpy as np, tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
import keras, masslib
folder, replicas = sys.argv[1], int(sys.argv[2])
strategy = masslib.strategy("mirrored", devices=replicas) if replicas > 1 else masslib.strategy("default")
digits = masslib.data.load("digits")
with strategy.scope():
    model = masslib.models.small_cnn((8, 8, 1), 10)      # BatchNormalization and Dropout inside
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
history = masslib.fit(model, digits.train.take(1240), batch_size=40, epochs=4, validation_data=digits.valid,
                      checkpoint=folder, save_every=7, verbose=0)
np.savez(folder + "/result.npz", *model.get_weights())
with open(folder + "/history.json", "w") as file:
    json.dump(history.history, file)
"""


def _start(folder, replicas):
    folder.mkdir(exist_ok=True)
    return subprocess.Popen([sys.executable, "-c", _TRAIN, str(folder), str(replicas)], stdout=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_killed_and_resumed_the_weights_differ_by_exactly_zero(tmp_path, replicas):
    assert _start(tmp_path / "undisturbed", replicas).wait(120) == 0
    process = _start(tmp_path / "killed", replicas)
    deadline = time.monotonic() + 120
    # In the middle of the second epoch (31 steps each), whenever that is.
    while not list((tmp_path / "killed").glob("step-*42.npz")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "result.npz").exists(), "it ended before it was killed"
    assert _start(tmp_path / "killed", replicas).wait(120) == 0
    results = [np.load(tmp_path / name / "result.npz") for name in ("undisturbed", "killed")]
    for name in results[0].files:
        np.testing.assert_array_equal(results[0][name], results[1][name])
    histories = [json.loads((tmp_path / name / "history.json").read_text()) for name in ("undisturbed", "killed")]
    assert histories[0] == histories[1]
    assert len(histories[0]["val_loss"]) == 4


def _compiled(optimizer="adam", hidden=(16,)):
    model = models.mlp((8, 8, 1), 10, hidden=hidden)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _fit(model, digits, folder, **options):
    options = {"batch_size": 60, "epochs": 2, "verbose": 0} | options
    return masslib.fit(model, digits.test, checkpoint=folder, **options)


class Interrupt(keras.callbacks.Callback):
    """Ends the training as a user does, after some steps."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("steps", [5, *(pytest.param(steps, marks=pytest.mark.slow) for steps in (1, 2, 6, 7, 11))])
def test_it_resumes_from_any_save_point(digits, tmp_path, steps):
    whole = _compiled()
    expected = _fit(whole, digits, tmp_path / "whole", save_every=1).history
    with pytest.raises(KeyboardInterrupt):
        _fit(_compiled(), digits, tmp_path / "cut", save_every=1, callbacks=[Interrupt(steps)])
    resumed = _compiled()
    found = _fit(resumed, digits, tmp_path / "cut", save_every=1).history
    assert found == expected
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [(2, 1), (1, 2)])
def test_what_other_replicas_have_counted_of_an_epoch_is_in_its_metrics(digits, tmp_path, replicas):
    def compiled(count):
        with masslib.strategy("mirrored", devices=count).scope():
            return _compiled("sgd")

    before, after = replicas
    keras.utils.set_random_seed(0)
    whole = _fit(compiled(after), digits, tmp_path / "whole").history
    keras.utils.set_random_seed(0)
    with pytest.raises(KeyboardInterrupt):
        _fit(compiled(before), digits, tmp_path / "cut", save_every=1, callbacks=[Interrupt(4)])
    found = _fit(compiled(after), digits, tmp_path / "cut", save_every=1).history
    for name, values in whole.items():  # sums of other parts are rounded otherwise
        np.testing.assert_allclose(found[name], values, rtol=1e-4)


@pytest.mark.slow
def test_a_finished_run_returns_its_history_and_more_epochs_go_on(digits, tmp_path):
    first = _fit(_compiled(), digits, tmp_path).history
    again = _compiled()
    assert _fit(again, digits, tmp_path).history == first
    more, whole = _compiled(), _compiled()
    _fit(more, digits, tmp_path, epochs=3)
    _fit(whole, digits, tmp_path / "whole", epochs=3)
    for a, b in zip(more.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_that_stopped_early_stays_stopped(digits, tmp_path):
    stopping = keras.callbacks.EarlyStopping("loss", patience=0, min_delta=10, restore_best_weights=True)
    model = _compiled()
    history = _fit(model, digits, tmp_path, epochs=9, callbacks=[stopping]).history
    again = _compiled()
    assert _fit(again, digits, tmp_path, epochs=9).history == history
    assert len(history["loss"]) == 2
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_does_not_fit_is_refused(digits, tmp_path):
    _fit(_compiled(), digits, tmp_path)
    with pytest.raises(ValueError, match="holds checkpoints and resume=False; delete them or name another"):
        _fit(_compiled(), digits, tmp_path, resume=False)
    with pytest.raises(ValueError, match="had other settings: batch_size=90, in the checkpoint 60"):
        _fit(_compiled(), digits, tmp_path, batch_size=90)
    with pytest.raises(ValueError, match="another model or optimizer; ") as caught:
        _fit(_compiled(hidden=(17,)), digits, tmp_path)
    assert "dense1/kernel: the checkpoint has float32 (64, 16), this training no such variable" in str(
        caught.value
    ) or "the checkpoint has float32 (64, 16), this training float32 (64, 17)" in str(caught.value)
    with pytest.raises(ValueError, match="momentum: the checkpoint has .*, this training no such variable"):
        _fit(_compiled(optimizer="sgd"), digits, tmp_path)
    with pytest.raises(ValueError, match="save_every=0: expected a whole number of at least 1"):
        _fit(_compiled(), digits, tmp_path, save_every=0)


class Poison(keras.callbacks.Callback):
    """Puts a NaN into the weights in the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            weights = self.model.get_weights()
            weights[0][:] = np.nan
            self.model.set_weights(weights)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_restores_or_is_ignored(digits, tmp_path):
    with pytest.warns(
        RuntimeWarning, match="loss or weights are not finite in epoch 2 .*the training stops; a lower learning rate"
    ):
        history = _fit(_compiled(), digits, tmp_path / "stop", epochs=3, callbacks=[Poison()]).history
    assert len(history["loss"]) == 2
    resumed = _compiled()  # goes on from the last weights that were finite
    assert len(_fit(resumed, digits, tmp_path / "stop", epochs=3).history["loss"]) == 3
    assert all(np.isfinite(weight).all() for weight in resumed.get_weights())
    model = _compiled()
    with pytest.warns(RuntimeWarning, match="the model is as it was after step 6;"):
        _fit(model, digits, tmp_path / "restore", epochs=3, callbacks=[Poison()], on_nan="restore")
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    history = _fit(_compiled(), digits, tmp_path / "ignore", epochs=3, callbacks=[Poison()], on_nan="ignore").history
    assert len(history["loss"]) == 3
    with pytest.raises(ValueError, match="on_nan='restore' needs checkpoints; pass checkpoint=folder"):
        masslib.fit(_compiled(), digits.test, on_nan="restore")
    with pytest.raises(ValueError, match="on_nan='panic': expected 'stop', 'restore' or 'ignore'"):
        masslib.fit(_compiled(), digits.test, on_nan="panic")


def test_a_folder_that_cannot_be_written_does_not_end_the_training(digits, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere; test_checkpoint covers a write that fails")
    os.chmod(tmp_path, 0o500)
    with pytest.warns(RuntimeWarning, match="the training goes on"):
        assert len(_fit(_compiled(), digits, tmp_path).history["loss"]) == 2


def test_layers_that_keras_has_numbered_otherwise_resume(digits, tmp_path):
    """As when a cell of a notebook is executed again."""

    def unnamed():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
        model.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy")
        return model

    first, second = unnamed(), unnamed()
    _fit(first, digits, tmp_path, epochs=1)
    assert len(_fit(second, digits, tmp_path, epochs=2).history["loss"]) == 2


def test_weights_in_bfloat16_resume(digits, tmp_path):
    def small():
        keras.utils.set_random_seed(0)
        policy = keras.dtype_policies.DTypePolicy("bfloat16")
        layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax", dtype=policy)]
        model = keras.Sequential(layers)
        model.compile("adam", "sparse_categorical_crossentropy")
        return model

    whole, resumed = small(), small()
    expected = _fit(whole, digits, tmp_path / "whole").history
    _fit(small(), digits, tmp_path / "cut", epochs=1)
    assert _fit(resumed, digits, tmp_path / "cut").history == expected
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        assert a.tobytes() == b.tobytes()


def test_what_a_checkpoint_cannot_hold_is_refused(digits, tmp_path):
    model = _compiled()
    model.others = [keras.optimizers.SGD()]
    with pytest.raises(ValueError, match=r"has optimizers besides the one it is compiled with \(others\), whose state"):
        _fit(model, digits, tmp_path)
    with pytest.raises(ValueError, match="BackupAndRestore works with Keras' own loop only; pass checkpoint=folder"):
        masslib.fit(_compiled(), digits.test, callbacks=keras.callbacks.BackupAndRestore(tmp_path), verbose=0)
