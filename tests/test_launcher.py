"""Worker processes are started, watched, ended and started again; none is left behind."""

import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import psutil
import pytest

import masslib
from masslib.launcher import WorkerError

pytestmark = pytest.mark.alone


def _rank():
    import json

    return json.loads(os.environ["TF_CONFIG"])["task"]["index"]


def _gone(pids, seconds=5.0):
    """Whether all of these processes end within some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
            return True
        time.sleep(0.05)
    return False


def _pids(folder, count, seconds=20.0):
    """Wait until so many workers have left their process numbers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        files = [file for file in folder.glob("pid-*") if file.read_text()]
        if len(files) == count:
            return {int(file.name[4:]): int(file.read_text()) for file in files}
        time.sleep(0.05)
    raise TimeoutError(f"only {len(files)} of {count} workers came")


def _sign_in(folder):
    (folder / f"pid-{_rank()}").write_text(str(os.getpid()))


def test_every_rank_returns_its_result_and_has_its_own_environment(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("TF_CONFIG", "that of the parent")
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    before = dict(os.environ)

    def work(factor):
        print(f"rank {_rank()} speaks")
        names = ("TF_CONFIG", "TF_USE_LEGACY_KERAS", "MASSLIB_THREADS", "EXTRA")
        return (
            _rank() * factor,
            [os.environ.get(name) for name in names],
            os.sched_getaffinity(0),
            os.environ["MASSLIB_SECRET"],
        )

    results = masslib.launch(work, [10], workers=2, threads=1, env={"EXTRA": "yes"}, logs=tmp_path)
    assert [result[0] for result in results] == [0, 10]
    for _, (config, legacy, threads, extra), *_ in results:
        assert config.startswith('{"cluster": {"worker": ["127.0.0.1:')
        assert (legacy, threads, extra) == (None, "1", "yes")
    assert len({secret for *_, secret in results}) == 1
    assert len(results[0][-1]) == 64
    if len(os.sched_getaffinity(0)) > 1:
        assert results[0][2].isdisjoint(results[1][2])
    assert dict(os.environ) == before
    assert capsys.readouterr().out == "rank 0 speaks\n"
    assert (tmp_path / "worker-1.log").read_text() == "rank 1 speaks\n"


def test_the_one_that_raises_is_told_first_and_the_others_are_ended(tmp_path):
    def work():
        _sign_in(tmp_path)
        if _rank() == 1:
            raise KeyError("the cause")
        time.sleep(60)

    start = time.monotonic()
    with pytest.raises(WorkerError, match=r"^worker 1 raised KeyError; Traceback \(most recent call last\)") as caught:
        masslib.launch(work, workers=3, logs=tmp_path)
    assert "KeyError: 'the cause'" in str(caught.value)
    assert f"The logs of all workers are in {tmp_path}" in str(caught.value)
    assert (caught.value.worker, caught.value.exitcode, caught.value.log.name) == ("worker 1", 1, "worker-1.log")
    assert time.monotonic() - start < 30
    assert _gone(_pids(tmp_path, 3).values())


def test_an_error_survives_pickling_and_copying(tmp_path):
    error = WorkerError("it failed", worker="worker 1", exitcode=-9, log=tmp_path / "worker-1.log")
    error.add_note("in the second attempt")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert (type(again), str(again), vars(again)) == (WorkerError, "it failed", vars(error))
        assert again.__notes__ == ["in the second attempt"]


def test_a_training_may_take_as_long_as_it_goes_on(monkeypatch):
    """Days pass between two looks at a worker that shows signs of life."""
    leaps = iter(range(0, 10**12, 10**6))
    monkeypatch.setattr("masslib.launcher.group.time", SimpleNamespace(monotonic=lambda: next(leaps), sleep=time.sleep))
    assert masslib.launch(lambda: time.sleep(1), workers=1) == [None]


def _in_background(action):
    thread = threading.Thread(target=action)
    thread.start()
    return thread


def test_a_killed_worker_ends_the_group_at_once(tmp_path):
    def work():
        print("last words", flush=True)
        _sign_in(tmp_path)
        time.sleep(60)

    killed = []

    def kill():
        os.kill(_pids(tmp_path, 2)[1], signal.SIGKILL)
        killed.append(time.monotonic())

    thread = _in_background(kill)
    with pytest.raises(WorkerError, match="worker 1 was killed by SIGKILL; the end of its log:\n    last words"):
        masslib.launch(work, workers=2)
    assert time.monotonic() - killed[0] < 3
    thread.join()
    assert _gone(_pids(tmp_path, 2).values())


@pytest.mark.slow
def test_a_frozen_worker_is_warned_of_and_then_given_up(tmp_path):
    def work():
        _sign_in(tmp_path)
        time.sleep(60)

    thread = _in_background(lambda: os.kill(_pids(tmp_path, 2)[0], signal.SIGSTOP))
    with (
        pytest.warns(RuntimeWarning, match="worker 0 has not answered for 3 s; the limit is 6 s"),
        pytest.raises(WorkerError, match="worker 0 has not answered for 6 s"),
    ):
        masslib.launch(work, workers=2)
    thread.join()
    assert _gone(_pids(tmp_path, 2).values())


@pytest.mark.slow
def test_it_starts_again_and_gives_up_with_a_summary(tmp_path, caplog):
    def work(successes_from):
        attempts = len(list(tmp_path.glob("attempt-*")))
        if _rank() == 0:
            (tmp_path / f"attempt-{attempts}").touch()
            if attempts < successes_from:
                os._exit(7)
        return attempts

    assert masslib.launch(work, [1], workers=1, max_restarts=1) == [1]
    assert "worker 0 ended with exit code 7; all start again in 1 s (restart 1 of 1)" in caplog.messages
    with pytest.raises(WorkerError, match="ended with exit code 7; (?s:.*)It was tried 3 times:\n  1: worker 0 ended"):
        masslib.launch(work, [99], workers=1, max_restarts=2)


def test_time_runs_out_with_a_name():
    with pytest.raises(WorkerError, match="worker 0 has not ended within the timeout of 1 s"):
        masslib.launch(lambda: time.sleep(30), workers=1, timeout=1)


def test_an_interrupt_ends_all_and_the_next_launch_works(tmp_path):
    def work():
        _sign_in(tmp_path)
        time.sleep(60)

    def interrupt():
        _pids(tmp_path, 2)
        os.kill(os.getpid(), signal.SIGINT)

    # A shell starts what it puts into the background with interrupts ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = _in_background(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            masslib.launch(work, workers=2)
    finally:
        thread.join()
        signal.signal(signal.SIGINT, handler)
    assert _gone(_pids(tmp_path, 2).values())
    assert masslib.launch(_rank, workers=2) == [0, 1]


def _launching_script(folder, handler=""):
    return f"""
import os, pathlib, signal, time, masslib
def work():
    import json
    rank = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    (pathlib.Path({str(folder)!r}) / f"pid-{{rank}}").write_text(str(os.getpid()))
    time.sleep(60)
{handler}
masslib.launch(work, workers=2)
"""


@pytest.mark.parametrize(("number", "exitcode"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_no_worker_outlives_the_launching_process(tmp_path, number, exitcode):
    process = subprocess.Popen([sys.executable, "-c", _launching_script(tmp_path)])
    workers = _pids(tmp_path, 2).values()
    process.send_signal(number)
    assert process.wait(20) == exitcode
    assert _gone(workers)


def test_a_handler_of_the_users_is_called_when_the_workers_have_ended(tmp_path):
    handler = "signal.signal(signal.SIGTERM, lambda number, frame: os._exit(5))"
    process = subprocess.Popen([sys.executable, "-c", _launching_script(tmp_path, handler)])
    workers = _pids(tmp_path, 2).values()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 5
    assert _gone(workers)


def test_what_cannot_be_shipped_or_counted_is_refused():
    lock = threading.Lock()
    with pytest.raises(TypeError, match="'work' cannot be shipped to another process: .*; build datasets, models and"):

        def work():
            return lock

        masslib.launch(work)
    with pytest.raises(TypeError, match="fn is a int; expected a function, which every worker will call"):
        masslib.launch(3)
    for options, words in [
        ({"workers": 0}, "workers=0: expected a whole number of at least 1"),
        ({"servers": -1}, "servers=-1: expected a whole number of at least 0"),
        ({"threads": 0}, "threads=0"),
        ({"max_restarts": 1.5}, "max_restarts=1.5"),
        ({"timeout": 0}, "timeout=0: expected a positive number of seconds, or None"),
    ]:
        with pytest.raises(ValueError, match=words):
            masslib.launch(_rank, **options)
