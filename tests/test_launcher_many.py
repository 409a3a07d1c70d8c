"""Several trainings side by side: each alone in what it does and in what it loses."""

import functools
import os
import signal

import numpy as np
import pytest

import masslib
from masslib.launcher import WorkerError


def _train(splits, seed, checkpoint=None, dies=False):
    import keras

    import masslib

    model = masslib.models.mlp(splits.input_shape, 10, hidden=(16,), seed=seed)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    callbacks = []
    if dies and not os.path.exists(f"{checkpoint}.died"):

        class Kill(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                if epoch == 1:
                    open(f"{checkpoint}.died", "w").close()
                    os.kill(os.getpid(), signal.SIGKILL)

        callbacks = [Kill()]
    masslib.fit(
        model, splits.train, batch_size=32, epochs=3, seed=seed, callbacks=callbacks, checkpoint=checkpoint, verbose=0
    )
    return model


@pytest.mark.alone
@pytest.mark.slow
def test_a_killed_training_is_lost_alone_and_can_be_resumed_and_the_order_changes_nothing(digits, tmp_path):
    builders = {f"net {seed}": functools.partial(_train, seed=seed, dies=seed == 1) for seed in (0, 1, 2)}
    first = {it.name: it for it in masslib.train_many(builders, digits, checkpoint=tmp_path, verbose=False)}
    assert {name: it.error is None for name, it in first.items()} == {"net 0": True, "net 1": False, "net 2": True}
    with pytest.raises(WorkerError, match="net 1 was killed by SIGKILL"):
        _ = first["net 1"].model
    again = {it.name: it for it in masslib.train_many(builders, digits, checkpoint=tmp_path, verbose=False)}
    backwards = {name: functools.partial(_train, seed=int(name[-1])) for name in reversed(builders)}
    alone = {it.name: it for it in masslib.train_many(backwards, digits, workers=1, verbose=False)}
    for name in builders:
        for one, other in zip(again[name].model.get_weights(), alone[name].model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.alone
@pytest.mark.slow
def test_results_come_as_they_end_and_errors_name_theirs():
    def sleep(splits, seconds):
        import time

        time.sleep(seconds)
        if seconds == 0:
            raise ValueError("no sleep")
        return seconds

    builders = {name: functools.partial(sleep, seconds=it) for name, it in {"long": 5, "none": 0, "short": 0.1}.items()}
    found = list(masslib.train_many(builders, None, workers=3, verbose=False))
    assert found[-1].name == "long" and found[-1].model == 5 and found[-1].seconds > 4
    with pytest.raises(WorkerError, match=r"none raised ValueError; .*"):
        _ = next(it for it in found if it.name == "none").model


def test_elsewhere_they_fail_alone_too():
    def divide(splits):
        return splits["one"] / splits["zero"]

    fine, bad = masslib.train_many([lambda splits: 7, divide], {"one": 1, "zero": 0}, on=map)
    assert fine.model == 7 and bad.name == "1"
    with pytest.raises(WorkerError, match="(?s)1 failed.*ZeroDivisionError"):
        _ = bad.model


@pytest.mark.parametrize(
    ("builders", "words"),
    [({}, "expected at least one"), ({"a b": len, "a-b": len}, "differ in letters or digits")],
)
def test_names_make_folders(builders, words):
    with pytest.raises(ValueError, match=words):
        masslib.train_many(builders, None)
