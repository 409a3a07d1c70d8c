"""What `launch` does on this machine it does on an engine: same weights, same errors, nothing left behind."""

import contextlib
import hashlib
import os
import signal
import socket
import time

import keras
import numpy as np
import psutil
import pytest
from engines import Processes

import masslib
from masslib.launcher import WorkerError
from masslib.launcher.group import first_of
from masslib.launcher.hub import Hub, Link
from masslib.launcher.process import Failure
from masslib.launcher.remote import run_on

pytestmark = [
    pytest.mark.alone,
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning:ray"),
]


@pytest.fixture(
    params=["processes", pytest.param("spark", marks=pytest.mark.slow), pytest.param("ray", marks=pytest.mark.slow)]
)
def launch(request):
    """`launch` on one of the engines."""
    common = {"threads": 1, "timeout": 240, "env": {"MASSLIB_TEST": str(os.getpid())}}
    if request.param == "processes":
        defaults = {**common, "gpus": 0, "max_restarts": 0, "logs": None}
        return lambda fn, args=(), **options: run_on(Processes(), fn, args, **{**defaults, **options})
    on = request.getfixturevalue(request.param)
    on = on if request.param == "spark" else "ray"
    return lambda fn, args=(), **options: masslib.launch(fn, args, on=on, **{**common, **options})


def _training(checkpoint, killed):
    """Train two epochs; of the first attempt kill a process after the first, the worker or the task that holds it."""
    import json

    strategy = masslib.strategy("multi_worker")
    rank = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = masslib.models.mlp((8,), 3)
        model.compile("adam", "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")

    class Killer(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1 and rank == 1 and os.environ["MASSLIB_ATTEMPT"] == "0" and killed:
                os.kill(os.getpid() if killed == "worker" else os.getppid(), signal.SIGKILL)

    masslib.fit(
        model, x, np.arange(256) % 3, epochs=2, batch_size=32, verbose=0, checkpoint=checkpoint, callbacks=[Killer()]
    )
    print(f"rank {rank} of {strategy.num_replicas_in_sync} has trained")
    return (
        rank,
        os.environ["MASSLIB_ATTEMPT"],
        hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest(),
    )


def _children():
    """The workers of these tests that still run."""
    mine = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        environment = process.info["environ"] or {}
        if "masslib.launcher" in (process.info["cmdline"] or []) and environment.get("MASSLIB_TEST") == str(
            os.getpid()
        ):
            mine.append(process.pid)
    return mine


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The weights of a training on this machine that nothing disturbs."""
    (_, _, weights), (*_, other) = masslib.launch(
        _training, [tmp_path_factory.mktemp("local"), ""], workers=2, threads=1, timeout=120
    )
    assert weights == other
    return weights


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["", "worker", "task"])
def test_the_weights_are_those_of_this_machine_to_the_bit(launch, expected, killed, tmp_path, capfd, caplog):
    results = launch(_training, [tmp_path / "checkpoint", killed], workers=2, max_restarts=1, logs=tmp_path / "logs")
    attempt = "1" if killed else "0"
    assert results == [(0, attempt, expected), (1, attempt, expected)]
    assert "rank 0 of 2 has trained" in capfd.readouterr().out
    assert "rank 1 of 2 has trained" in (tmp_path / "logs" / "worker-1.log").read_text()
    if killed:
        assert "worker 1 " in caplog.text
        assert ("was killed by SIGKILL" if killed == "worker" else "its task or its host was lost") in caplog.text
    assert not _children()


def _bound():
    return sorted(os.sched_getaffinity(0))


@pytest.mark.slow
def test_workers_that_take_the_whole_host_have_cores_of_their_own(tmp_path):
    cores = _bound()
    half = len(cores) // 2
    if len(cores) != 2 * half:
        pytest.skip(f"{len(cores)} cores cannot be shared out between two workers")
    common = {"gpus": 0, "max_restarts": 0, "timeout": 240, "env": None, "logs": tmp_path}
    assert run_on(Processes(), _bound, (), workers=2, threads=half, **common) == [cores[:half], cores[half:]]
    # Half of them is somebody else's.
    assert run_on(Processes(), _bound, (), workers=1, threads=half, **common) == [cores]


def _one_fails():
    if '"index": 1' in os.environ["TF_CONFIG"]:
        raise OverflowError("much too much")
    time.sleep(600)  # nobody waits for it


@pytest.mark.slow
def test_the_worker_that_failed_is_named_with_its_traceback(launch, tmp_path):
    with pytest.raises(WorkerError, match=r"(?s)worker 1 raised OverflowError; .*much too much") as caught:
        launch(_one_fails, workers=2, logs=tmp_path)
    assert caught.value.worker == "worker 1"
    assert "much too much" in caught.value.log.read_text()
    assert not _children()


@pytest.mark.parametrize(
    ("failures", "waited", "ended", "expected"),
    [
        ([("worker 0", 1, True)], 5, False, None),  # worker 1 is what it follows, and may be heard yet
        ([("worker 0", 1, True)], 11, False, "worker 0"),
        ([("worker 0", 1, True)], 0, True, "worker 0"),
        ([("worker 0", 1, True), ("worker 1", 2, False)], 0.5, False, None),
        ([("worker 0", 1, True), ("worker 1", 2, False)], 1.5, False, "worker 1"),
        ([("worker 0", 1, False), ("worker 1", 2, False)], 0, True, "worker 0"),
    ],
)
def test_the_failure_that_began_it_is_told(failures, waited, ended, expected):
    seen = [Failure(worker, "", "", time, follows, None, "") for worker, time, follows in failures]
    first = first_of(seen, waited, ended)
    assert (first and first.worker) == expected


def _sleep():
    time.sleep(600)


@pytest.mark.slow
def test_a_timeout_ends_all_workers(launch):
    with pytest.raises(WorkerError, match="has not ended within the timeout of"):
        launch(_sleep, workers=2, timeout=6)
    assert not _children()


class _Elastic(Processes):
    """It has room for two, for one after the first failure, and for two again once that one has trained an epoch."""

    def __init__(self, trained):
        self._rooms, self._trained = [2, 1, 2], trained

    def room(self, most, threads, gpus, seconds):
        assert (most, seconds) in ((2, 7), (2, 5))  # it waits less for what grows
        return self._rooms.pop(0)

    def looking(self, workers, threads, gpus):
        assert workers == 1
        return contextlib.nullcontext(self._trained.exists)


def _long_training(checkpoint, trained):
    """Train until both workers are killed, one alone has trained an epoch and is told to end, and two end it."""
    strategy = masslib.strategy("multi_worker")
    workers, attempt = strategy.num_replicas_in_sync, os.environ["MASSLIB_ATTEMPT"]
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = masslib.models.mlp((8,), 3)
        model.compile("sgd", "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
    seen = []

    class Killer(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append(epoch)
            if trained and attempt == "0" and epoch == 1:
                # It is written in the background, under another name until it is whole.
                while not list(checkpoint.glob("step-*.npz")):
                    time.sleep(0.1)
                os.kill(os.getpid(), signal.SIGKILL)
            if workers == 1 and epoch == 2:
                trained.touch()
                while signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
                    time.sleep(0.1)  # a second SIGTERM would end it, so the first has come

    masslib.fit(
        model, x, np.arange(256) % 3, epochs=4, batch_size=32, verbose=0, checkpoint=checkpoint, callbacks=[Killer()]
    )
    return workers, attempt, seen[0], model.get_weights()


@pytest.mark.slow
def test_fewer_workers_go_on_and_grow_again(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("masslib.launcher.remote._LOOK_SECONDS", 0.1)
    common = {"threads": 1, "timeout": 400}
    calm, _ = masslib.launch(_long_training, [tmp_path / "calm", None], workers=2, **common)
    common |= {"gpus": 0, "env": None, "logs": tmp_path / "logs", "max_restarts": 1, "elastic_timeout": 7}
    trained = tmp_path / "trained"
    arguments = [tmp_path / "checkpoint", trained]
    first, second = run_on(_Elastic(trained), _long_training, arguments, workers=(1, 2), **common)
    assert first[:2] == second[:2] == (2, "1")  # growing is no restart
    assert first[2] == second[2] == 2, "it went on where the one worker was told to save"
    assert "Processes has room for more than 1 workers" in caplog.text
    for a, b, c in zip(calm[3], first[3], second[3], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # sums of one worker are rounded otherwise
        np.testing.assert_array_equal(b, c)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": (1, 2)}, r"workers=\(1, 2\) on this machine"),
        ({"workers": (2, 1), "on": "ray"}, "workers=1: expected a whole number of at least 2"),
        ({"workers": (1, 2), "on": "ray", "elastic_timeout": -1}, "elastic_timeout=-1: expected"),
    ],
)
def test_numbers_that_no_engine_can_follow_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        masslib.launch(_sleep, **options)


def test_strangers_and_second_workers_are_refused():
    hub = Hub("127.0.0.1", 2)
    stranger = socket.create_connection((hub.invitation.host, hub.invitation.port))
    stranger.sendall(b'0 {"rank": 0}\n')
    first = Link.to(hub.invitation, 0)
    first.send({"address": "a"})
    assert hub.events.get(timeout=60) == (0, {"address": "a"})
    for rank in (0, 7):
        with contextlib.closing(Link.to(hub.invitation, rank)) as link, pytest.raises(OSError):
            link.receive()
    hub.tell({"release": True})
    assert first.receive() == {"release": True}
    first.close()
    stranger.close()
    assert hub.events.get(timeout=60) == (0, None)
    hub.close()
    with pytest.raises(OSError):
        Link.to(hub.invitation, 1)


@pytest.mark.slow
def test_more_workers_than_slots_are_refused_at_once(spark):
    with pytest.raises(ValueError, match="workers=3, but Spark has slots for 2 tasks at once"):
        masslib.launch(_sleep, workers=3, on=spark)


@pytest.mark.slow
def test_ray_gets_its_resources_back(ray):
    from ray.util import placement_group_table

    assert masslib.launch(os.getpid, workers=2, threads=1, on="ray", timeout=120)
    assert {group["state"] for group in placement_group_table().values()} == {"REMOVED"}
    end = time.monotonic() + 60
    while ray.available_resources().get("CPU") != 2 and time.monotonic() < end:
        time.sleep(0.2)
    assert ray.available_resources()["CPU"] == 2


@pytest.mark.slow
def test_looking_for_room_on_ray_takes_none_from_what_is_to_start(ray):
    from masslib.launcher.on_ray import Ray

    engine, end = Ray(), time.monotonic() + 120
    with engine.looking(1, 1, 0) as more:
        assert engine.room(2, 1, 0, 60) == 2
        while not more():
            assert time.monotonic() < end
    assert engine.room(2, 1, 0, 60) == 2


def test_what_is_no_engine_is_refused():
    with pytest.raises(TypeError, match="on=3: expected 'local', 'spark', a SparkSession, 'ray'"):
        masslib.launch(_sleep, on=3)
