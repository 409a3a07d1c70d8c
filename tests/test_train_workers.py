"""Several worker processes give what one gives, and survive what happens to them."""

import contextlib
import os
import random
import signal
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import psutil
import pytest
import tensorflow as tf
from keras import layers

import masslib
from masslib.launcher import WorkerError
from masslib.train.workers import Termination

pytestmark = pytest.mark.alone

EXACT = {"batch_size": 40, "epochs": 4, "save_every": 7, "verbose": 0}
STEPS = 4 * 31


def _network(dtype):
    policy = keras.dtype_policies.DTypePolicy(dtype)
    init = keras.initializers.GlorotUniform(seed=1)
    norm = [layers.BatchNormalization(synchronized=True, dtype=policy)] if dtype == "float64" else []
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


def _trained(strategy, optimizer, dtype="float64", data=None, **options):
    digits = masslib.data.load("digits")
    with strategy.scope():
        model = _network(dtype)
        loss = keras.losses.SparseCategoricalCrossentropy(dtype=dtype)
        model.compile(optimizer=optimizer(), loss=loss, metrics=["accuracy"])
    options = {"batch_size": 128, "verbose": 0, "validation_data": digits.valid} | options
    history = masslib.fit(model, data or digits.train.take(1240), **options).history
    return model, history


def _equality(folder):
    """Everything that has to be the same on any number of workers."""
    strategy = masslib.strategy("multi_worker")
    digits = masslib.data.load("digits")
    found = {}
    adam, history = _trained(strategy, lambda: keras.optimizers.Adam(global_clipnorm=0.5), epochs=2)
    found["adam"] = (*adam.get_weights(), *history.values())
    predicted = adam.predict(digits.test[:][0], verbose=0)
    found["answers"] = (predicted, masslib.evaluate(adam, digits.test).accuracy)
    sent, history = _trained(strategy, lambda: keras.optimizers.Adam(global_clipnorm=0.5), wire="float32")
    found["through the network"] = (*sent.get_weights(), *history.values())
    sgd, history = _trained(strategy, lambda: keras.optimizers.SGD(0.1, momentum=0.9, clipnorm=0.5), accumulate=2)
    found["sgd, accumulated"] = (*sgd.get_weights(), *history.values())
    x, y = digits.train[:1240]
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(1240, seed=1).batch(128)
    written = [keras.callbacks.ModelCheckpoint(f"{folder}/epoch.keras"), keras.callbacks.CSVLogger(f"{folder}/log.csv")]
    own, history = _trained(strategy, lambda: keras.optimizers.SGD(0.1), data=dataset, callbacks=written)
    found["dataset of the user"] = (*own.get_weights(), *history.values())
    return found


@pytest.fixture(scope="module")
def one_worker(tmp_path_factory):
    return masslib.launch(_equality, [str(tmp_path_factory.mktemp("one"))], workers=1, threads=1)[0]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.exhaustive)])
def test_several_workers_equal_one_in_float64(tmp_path, one_worker, workers):
    expected = one_worker
    ranks = masslib.launch(_equality, [str(tmp_path)], workers=workers, threads=1)
    for found in ranks:
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            for a, b in zip(values, found[name], strict=True):
                tolerance = {"rtol": 1e-6} if isinstance(a, list) else {"rtol": 0, "atol": 1e-10}
                np.testing.assert_allclose(a, b, err_msg=name, **tolerance)
            for mine, theirs in zip(found[name], ranks[0][name], strict=True):
                np.testing.assert_array_equal(mine, theirs, err_msg=f"{name} differs between ranks")
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 2


def _in_float32():
    strategy = masslib.strategy("multi_worker")
    options = {"dtype": "float32", "epochs": 2, "validation_data": None}
    plain, _ = _trained(strategy, lambda: keras.optimizers.SGD(0.1), **options)
    half, history = _trained(strategy, lambda: keras.optimizers.SGD(0.1), wire="float16", **options)
    return plain.get_weights(), half.get_weights(), history, int(plain.optimizer.iterations.numpy())


@pytest.mark.exhaustive
def test_float32_agrees_after_20_steps_and_a_float16_wire_stays_near():
    one = masslib.launch(_in_float32, workers=1, threads=1)[0]
    two = masslib.launch(_in_float32, workers=2, threads=1)
    assert one[3] == two[0][3] == 20
    for a, b in zip(one[0], two[0][0], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    differences = [np.abs(a - b).max() for a, b in zip(two[0][0], two[0][1], strict=True)]
    assert 0 < max(differences) < 5e-3, "half of the digits must show, and not more"
    assert two[0][2] == two[1][2]


def _exactly(folder, pids):
    """A training with dropout and batch normalization inside, which leaves its process number."""
    strategy = masslib.strategy("multi_worker")
    Path(pids, f"pid-{strategy.cluster_resolver.task_id}").write_text(str(os.getpid()))
    digits = masslib.data.load("digits")
    with strategy.scope():
        model = masslib.models.small_cnn((8, 8, 1), 10)
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = masslib.fit(
        model, digits.train.take(1240), validation_data=digits.valid, checkpoint=folder, **EXACT
    ).history
    return model.get_weights(), history


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return masslib.launch(_exactly, [str(folder / "ckpt"), str(folder)], workers=2, threads=1)


def _check_exact(found, expected):
    for weights, history in found:
        assert history == expected[0][1]
        for a, b in zip(weights, expected[0][0], strict=True):
            np.testing.assert_array_equal(a, b)


def _when_saved(folder, step, action):
    """Do something to the workers as soon as a checkpoint of that step or a later one is there."""

    def watch():
        end = time.monotonic() + 120
        while time.monotonic() < end:
            steps = [int(path.stem[5:]) for path in (folder / "ckpt").glob("step-*.npz")]
            if steps and max(steps) >= step:
                action({int(path.name[4:]): int(path.read_text()) for path in folder.glob("pid-*")})
                return
            time.sleep(0.005)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def _runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _send(rank, number):
    return lambda pids: os.kill(pids[rank], number)


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.exhaustive), 1])
def test_killed_and_started_again_the_weights_differ_by_exactly_zero(tmp_path, undisturbed, caplog, rank):
    thread = _when_saved(tmp_path, 42, _send(rank, signal.SIGKILL))
    found = masslib.launch(_exactly, [str(tmp_path / "ckpt"), str(tmp_path)], workers=2, threads=1, max_restarts=1)
    thread.join()
    assert f"worker {rank} was killed by SIGKILL; all start again in 1 s (restart 1 of 1)" in caplog.messages
    _check_exact(found, undisturbed)


@pytest.mark.slow
def test_sigterm_makes_one_common_checkpoint_and_ends_all(tmp_path, undisturbed):
    moments = []

    def terminate(pids):
        os.kill(pids[1], signal.SIGTERM)
        start = time.monotonic()
        while any(_runs(pid) for pid in pids.values()) and time.monotonic() < start + 20:
            time.sleep(0.01)
        moments.append(time.monotonic() - start)

    thread = _when_saved(tmp_path, 42, terminate)
    arguments = [str(tmp_path / "ckpt"), str(tmp_path)]
    with pytest.raises(WorkerError, match="was terminated by SIGTERM"):
        masslib.launch(_exactly, arguments, workers=2, threads=1)
    thread.join()
    assert moments[0] < 5
    newest = max(int(path.stem[5:]) for path in (tmp_path / "ckpt").glob("step-*.npz"))
    assert 42 <= newest < STEPS
    _check_exact(masslib.launch(_exactly, arguments, workers=2, threads=1), undisturbed)


def _terminated(folder):
    """SIGTERM to rank 1, which has a handler of its own, in the second epoch."""
    called = []
    signal.signal(signal.SIGTERM, handler := lambda number, frame: called.append(sorted(os.listdir(folder))))
    strategy = masslib.strategy("multi_worker")
    assert signal.getsignal(signal.SIGTERM) is handler
    with strategy.scope():
        model = masslib.models.mlp((8, 8, 1), 10, hidden=(16,))
        model.compile("sgd", "sparse_categorical_crossentropy")
    digits, rank = masslib.data.load("digits"), strategy.cluster_resolver.task_id
    masslib.fit(model, digits.test, batch_size=60, verbose=0)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert not called

    def terminate(epoch, logs=None):
        if (epoch, rank) == (1, 1):
            signal.raise_signal(signal.SIGTERM)

    watching = keras.callbacks.LambdaCallback(on_epoch_begin=terminate)
    with pytest.raises(SystemExit, match="143"):
        masslib.fit(model, digits.test, batch_size=60, epochs=9, checkpoint=folder, callbacks=watching, verbose=0)
    assert signal.getsignal(signal.SIGTERM) is handler
    return called


@pytest.mark.slow
def test_a_handler_of_the_users_is_called_after_the_common_checkpoint(tmp_path):
    first, second = masslib.launch(_terminated, [str(tmp_path)], workers=2, threads=1)
    assert not first, "rank 0 was sent nothing"
    assert [[name for name in names if name.endswith(".npz")][-1] for names in second] == ["step-0000000012.npz"]


@pytest.fixture
def handled():
    """Signals that came to a handler of the user's."""
    called = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: called.append(number))
    yield called
    signal.signal(signal.SIGTERM, before)


def test_a_signal_after_the_last_step_is_not_lost(handled):
    with Termination(SimpleNamespace(clustered=True)):
        signal.raise_signal(signal.SIGTERM)
        assert not handled
    assert handled == [signal.SIGTERM]
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with pytest.raises(SystemExit, match="143"), Termination(SimpleNamespace(clustered=True)):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_that_is_ignored_is_ignored(handled):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with Termination(SimpleNamespace(clustered=True)) as termination:
        signal.raise_signal(signal.SIGTERM)
        assert not termination.asked
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["SIGKILL", "SIGSTOP"])
@pytest.mark.parametrize("chance", range(10))
def test_whatever_happens_whenever_the_weights_differ_by_exactly_zero(tmp_path, undisturbed, number, chance):
    """Twenty random moments; at most one save interval is repeated."""
    rng = random.Random(f"{number} {chance}")
    step, rank, delay = rng.randrange(0, STEPS - 14), rng.randrange(2), rng.random() * 0.3
    thread = _when_saved(tmp_path, step, lambda pids: (time.sleep(delay), os.kill(pids[rank], number)))
    arguments = [str(tmp_path / "ckpt"), str(tmp_path)]
    with pytest.warns() if number == signal.SIGSTOP else contextlib.nullcontext():
        found = masslib.launch(_exactly, arguments, workers=2, threads=1, max_restarts=1)
    thread.join()
    _check_exact(found, undisturbed)


@pytest.mark.exhaustive
def test_a_pause_of_some_seconds_is_survived(tmp_path, undisturbed):
    def pause(pids):
        os.kill(pids[1], signal.SIGSTOP)
        time.sleep(4)
        os.kill(pids[1], signal.SIGCONT)

    thread = _when_saved(tmp_path, 42, pause)
    with pytest.warns(RuntimeWarning, match="worker 1 has not answered for 3 s; the limit is 6 s"):
        found = masslib.launch(_exactly, [str(tmp_path / "ckpt"), str(tmp_path)], workers=2, threads=1)
    thread.join()
    _check_exact(found, undisturbed)


class Constant(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule as many people write it: without get_config."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, step):
        return self.rate


class NoConfigLoss(keras.losses.Loss):
    """A loss that says nothing of its factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, y_true, y_pred):
        return self.factor * keras.losses.sparse_categorical_crossentropy(y_true, y_pred)

    def get_config(self):
        raise NotImplementedError


def _compiled(strategy, **options):
    loss = "sparse_categorical_crossentropy"
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = masslib.models.mlp((8, 8, 1), 10, hidden=(16,))
        made = {name: value() if callable(value) else value for name, value in options.items()}
        model.compile(**{"optimizer": "sgd", "loss": loss, **made})
    return model


def _unlike(folder):
    """Rank 1 differs in one thing after another; each rank returns what it was told."""
    strategy = masslib.strategy("multi_worker")
    rank = strategy.cluster_resolver.task_id
    digits = masslib.data.load("digits")
    sgd = keras.optimizers.SGD
    compiled = [
        {"optimizer": lambda: sgd(0.1, momentum=0.9 * rank)},
        {"optimizer": lambda: sgd(Constant(0.1 + rank))},
        {"optimizer": lambda: sgd(keras.optimizers.schedules.CosineDecay(0.1, 100 + rank))},
        {"loss": lambda: NoConfigLoss(1 + rank)},
        {"metrics": ["accuracy"] * rank},
        {"run_eagerly": rank == 1},
    ]
    stopping = [keras.callbacks.EarlyStopping("loss")]
    passed = [
        {"x": digits.train.take(1240 - 40 * rank)},
        {"x": tf.data.Dataset.from_tensor_slices(digits.test[:]).batch(40).take(3 + rank)},
        {"epochs": 1 + rank},
        {"batch_size": 40 + 20 * rank},
        {"validation_data": digits.valid if rank else None},
        {"checkpoint": folder if rank else None},
        {"save_every": 5 if rank else None},
        {"accumulate": 1 + rank},
        {"wire": "float16" if rank else "auto"},
        {"on_nan": "ignore" if rank else "stop"},
        {"class_weight": {1: 2.0} if rank else None},
        {"augment": keras.layers.RandomFlip() if rank else None},
        {"callbacks": stopping * rank},
        {"callbacks": [keras.callbacks.EarlyStopping("loss", patience=rank)]},
    ]
    problems = []
    for options, arguments in [*((options, {}) for options in compiled), *(({}, arguments) for arguments in passed)]:
        model = _compiled(strategy, **options)
        with pytest.raises(ValueError, match="the workers do not train the same: worker 1 has ") as caught:
            masslib.fit(model, **{"x": digits.test, "batch_size": 40, "verbose": 0, **arguments})
        problems.append(str(caught.value).partition(": ")[2])
    with pytest.raises(ValueError, match="BackupAndRestore works with Keras' own loop only; pass checkpoint=folder"):
        masslib.fit(model, digits.test, callbacks=[keras.callbacks.BackupAndRestore("nowhere")], verbose=0)
    drop = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: setattr(model.optimizer, "learning_rate", 0.5))
    model = _compiled(strategy, optimizer=lambda: sgd(0.25))
    with pytest.raises(ValueError, match="a callback changed .* worker 1 has learning_rate=0.5, worker 0 0.25"):
        masslib.fit(model, digits.test, epochs=2, verbose=0, callbacks=[drop] * rank)
    return problems


UNLIKE = [
    "optimizer.momentum=0.9, worker 0 0.0",
    "learning_rate=1.1",
    "optimizer.learning_rate.config.decay_steps=101, worker 0 100",
    "loss.factor=2, worker 0 1",
    "metrics.0.0=accuracy, worker 0 nothing",
    "run_eagerly=True, worker 0 False",
    "rows=1200, worker 0 1240",
    "steps=4, worker 0 3",
    "epochs=2, worker 0 1",
    "batch_size=60, worker 0 40",
    "validation_data=True, worker 0 False",
    "checkpoint=True, worker 0 False",
    "save_every=5, worker 0 nothing",
    "accumulate=2, worker 0 1",
    "wire=float16, worker 0 auto",
    "on_nan=ignore, worker 0 stop",
    "class_weight.1=2.0, worker 0 nothing",
    "augment=RandomFlip, worker 0 nothing",
    "callbacks.0=EarlyStopping, worker 0 nothing",
    "callbacks.0.patience=1, worker 0 0",
]


@pytest.mark.slow
def test_workers_that_train_something_else_are_refused(tmp_path):
    first, second = masslib.launch(_unlike, [str(tmp_path)], workers=2, threads=1)
    assert first == second
    for found, expected in zip(first, UNLIKE, strict=True):
        assert found.startswith(f"worker 1 has {expected}")


class EveryBatch(keras.callbacks.Callback):
    """Lets every step be a call of its own."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(batch)


def _alike_enough(folder):
    """What may differ, and what has no config at all."""
    strategy = masslib.strategy("multi_worker")
    rank = strategy.cluster_resolver.task_id
    digits = masslib.data.load("digits")
    results = []
    for _ in range(rank):  # lets Keras number everything of rank 1 otherwise
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.Flatten()])
        keras.optimizers.SGD()
    for rate in (0.1, lambda: 0.1, Constant(0.1)):
        model = _compiled(
            strategy, optimizer=lambda rate=rate: keras.optimizers.SGD(rate), loss=lambda: NoConfigLoss(1)
        )
        watching = EveryBatch()
        options = {
            "batch_size": 60,
            "epochs": 2,
            "checkpoint": f"{folder}/{len(results)}",
            "save_every": 4,
            "verbose": rank,
        }
        masslib.fit(model, digits.test, callbacks=[watching] * rank, **options)
        assert watching.steps == [*range(6), *range(6)] * rank
        results.append(model.get_weights())
    late = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: setattr(model, "stop_training", epoch == 1)
    )
    history = masslib.fit(model, digits.test, batch_size=60, epochs=5, verbose=0, callbacks=[late] * rank).history
    return results, len(history["loss"])


@pytest.mark.slow
def test_a_callback_and_names_of_one_worker_alone_do_no_harm(tmp_path):
    found = masslib.launch(_alike_enough, [str(tmp_path)], workers=2, threads=1)
    for results, epochs in found:
        assert epochs == 2
        for weights in results:
            for mine, first in zip(weights, found[0][0][0], strict=True):
                np.testing.assert_array_equal(mine, first)


def _chief_fails(folder):
    strategy = masslib.strategy("multi_worker")
    options = {"checkpoint": folder, "verbose": 0}
    data = masslib.data.load("digits").test
    masslib.fit(_compiled(strategy), data, **options)
    words = []
    for broken in (False, True):
        if broken and strategy.cluster_resolver.task_id == 0:
            for path in Path(folder).glob("step-*.npz"):
                path.write_bytes(b"damaged")
        with pytest.raises((ValueError, RuntimeError)) as caught, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            masslib.fit(_compiled(strategy), data, resume=broken, **options)
        words.append(f"{type(caught.value).__name__}: {caught.value}")
    return words


@pytest.mark.slow
def test_what_fails_on_the_chief_alone_ends_all(tmp_path):
    first, second = masslib.launch(_chief_fails, [str(tmp_path)], workers=2, threads=1)
    for mine, theirs, words in zip(first, second, ("and resume=False; delete", "can be read:"), strict=True):
        assert mine.startswith("ValueError: ")
        assert words in mine
        assert theirs == f"WorkerGoneError: worker 0 cannot go on: {mine.removeprefix('ValueError: ')}"


def _poisoned():
    """Only the rows of rank 1 hold a NaN, in the second of three batches."""
    strategy = masslib.strategy("multi_worker")
    x, y = masslib.data.load("digits").train[:120]
    with strategy.scope():
        model = masslib.models.mlp((8, 8, 1), 10, hidden=(16,))
        model.compile("sgd", "sparse_categorical_crossentropy")
    dataset = tf.data.Dataset.from_tensor_slices((np.where(np.arange(120) == 79, np.nan, x.T).T, y)).batch(40)
    with pytest.warns(RuntimeWarning, match="not finite in epoch 1 at step 2 or shortly before; the training stops"):
        masslib.fit(model, dataset, batch_size=40, epochs=3, verbose=0, callbacks=[EveryBatch()])
    return int(model.optimizer.iterations.numpy())


def _stopped():
    strategy = masslib.strategy("multi_worker")
    with strategy.scope():
        model = masslib.models.mlp((8, 8, 1), 10, hidden=(16,))
        model.compile("sgd", "sparse_categorical_crossentropy")
    data = masslib.data.load("digits").test
    return masslib.fit(model, data, batch_size=60, epochs=5, verbose=0, callbacks=[StopOnRank1()]).history


class StopOnRank1(keras.callbacks.Callback):
    """A callback that only one worker has an interest in."""

    def on_epoch_end(self, epoch, logs=None):
        if self.model.distribute_strategy.cluster_resolver.task_id == 1 and epoch == 1:
            self.model.stop_training = True


@pytest.mark.slow
def test_a_nan_on_one_worker_is_seen_by_all():
    assert masslib.launch(_poisoned, workers=2, threads=1) == [2, 2]


@pytest.mark.exhaustive
def test_one_worker_that_stops_stops_all():
    first, second = masslib.launch(_stopped, workers=2, threads=1)
    assert first == second
    assert len(first["loss"]) == 2


def _other_shapes():
    strategy = masslib.strategy("multi_worker")
    with strategy.scope():
        masslib.models.mlp((8, 8, 1), 10, hidden=(16 + strategy.cluster_resolver.task_id,))


@pytest.mark.exhaustive
def test_workers_with_other_weights_are_refused_by_tensorflow():
    with pytest.raises(WorkerError, match=r"Shape mismatch .* expected shape \[64,17\] .* expected shape \[64,16\]"):
        masslib.launch(_other_shapes, workers=2, threads=1)


def _served(folder):
    strategy = masslib.strategy("parameter_server")
    digits = masslib.data.load("digits")
    with strategy.scope():
        model = masslib.models.mlp((8, 8, 1), 10, hidden=(32,))
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    options = {"batch_size": 32, "validation_data": digits.valid, "checkpoint": folder, "verbose": 0}
    history = masslib.fit(model, digits.train, epochs=6, **options).history
    with pytest.raises(ValueError, match="accumulate=2: a step of a parameter-server training is one batch"):
        masslib.fit(model, digits.train, accumulate=2)
    with pytest.raises(ValueError, match="wire='float16': a parameter server is sent the gradients as they are"):
        masslib.fit(model, digits.train, wire="float16")
    x, y = digits.valid[:]
    right = np.mean(np.argmax(model(x, training=False), 1) == y)
    return history, right


@pytest.mark.slow
def test_a_parameter_server_trains_asynchronously(tmp_path):
    ((history, right),) = masslib.launch(_served, [str(tmp_path)], workers=2, servers=1)
    assert {name: len(values) for name, values in history.items()} == dict.fromkeys(
        ("accuracy", "loss", "val_accuracy", "val_loss"), 6
    )
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert right == pytest.approx(history["val_accuracy"][-1], abs=1e-6)
    assert right > 0.8


@pytest.mark.exhaustive
def test_a_parameter_server_training_that_has_ended_is_not_repeated(tmp_path):
    (first, _), (again, _) = (masslib.launch(_served, [str(tmp_path)], workers=1, servers=1)[0] for _ in "ab")
    assert first == again


def _compressed():
    strategy = masslib.strategy("multi_worker")
    digits = masslib.data.load("digits")
    with strategy.scope():
        model = masslib.models.mlp((8, 8, 1), 10, hidden=(32,))
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    masslib.fit(model, digits.train, batch_size=32, epochs=5, verbose=0)
    recipe = [masslib.Prune(0.5, max_steps=40), masslib.QuantizeAware(max_steps=10)]
    small = masslib.compress(model, recipe, digits.train, batch_size=32, verbose=False)
    return small.model.get_weights(), masslib.evaluate(small.model, digits.test).accuracy


@pytest.mark.exhaustive
def test_compression_fine_tunes_on_all_workers():
    (weights, accuracy), (others, _) = masslib.launch(_compressed, workers=2, threads=1)
    for a, b in zip(weights, others, strict=True):
        np.testing.assert_array_equal(a, b)
    kernels = [w for w in weights if w.ndim == 2]
    assert all(np.mean(kernel == 0) >= 0.49 for kernel in kernels)
    assert accuracy > 0.8
