"""Checkpoints: whole or not at all, never silently wrong."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from masslib.checkpoint import Checkpoints, read

ARRAYS = {"weights": np.arange(1000.0), "seed": np.array([1, 2], "uint32")}


def _filled(folder, steps=(10, 20, 30), keep=3):
    with Checkpoints(folder, keep=keep) as checkpoints:
        for step in steps:
            checkpoints.save(step, {**ARRAYS, "step": np.array(step)}, {"step": step})
    return folder


def test_what_is_saved_is_read_back_and_only_the_newest_are_kept(tmp_path):
    _filled(tmp_path, steps=(10, 20, 30, 40), keep=2)
    with Checkpoints(tmp_path) as checkpoints:
        assert [path.name for path in checkpoints.paths()] == ["step-0000000030.npz", "step-0000000040.npz"]
        arrays, about = checkpoints.newest()
    assert about == {"step": 40}
    assert arrays.keys() == {*ARRAYS, "step"}
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


def test_dtypes_that_numpy_does_not_know_are_read_back(tmp_path):
    arrays = {"kernel": tf.constant([[1.5, -2.0]], tf.bfloat16).numpy(), "count": np.array(3)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, arrays, {})
        checkpoints.wait()
        found, _ = checkpoints.newest()
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].tobytes()) == (array.dtype, array.tobytes())


def test_where_a_thread_may_not_lower_its_priority_a_checkpoint_is_written(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setpriority", refuse)
    with Checkpoints(_filled(tmp_path, steps=[10])) as checkpoints:
        assert checkpoints.newest()[1] == {"step": 10}


def test_whatever_fails_while_one_is_written_is_told(tmp_path, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("a fault of the library")

    with Checkpoints(tmp_path) as checkpoints:
        monkeypatch.setattr(os, "setpriority", fail)
        checkpoints.save(1, ARRAYS, {})
        with pytest.warns(RuntimeWarning, match="could not be written to .*: a fault of the library; the training"):
            checkpoints.wait()


def test_what_it_is_told_may_hold_numpy_scalars_but_nothing_unwritable(tmp_path):
    history = {"loss": [np.float32(0.5)]}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, ARRAYS, {"seed": np.int64(3), "history": history})
        history["loss"].append(0.25)  # the training goes on while the file is written
        checkpoints.wait()
        assert checkpoints.newest()[1] == {"seed": 3, "history": {"loss": [0.5]}}
        with pytest.raises(TypeError, match="the history has a object, which no checkpoint can hold"):
            checkpoints.save(2, ARRAYS, {"seed": object()})


def test_what_is_on_the_disk_stays_until_something_newer_is(tmp_path, monkeypatch):
    flushed, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: flushed.append(os.readlink(f"/proc/self/fd/{file}")) or fsync(file))

    def steps():
        return [int(path.stem.split("-")[1]) for path in checkpoints.paths()]

    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in range(1, 6):
            checkpoints.save(step, ARRAYS, {"step": step})
        checkpoints.wait()
        assert steps() == [1, 4, 5]
        assert len(flushed) == 2 and flushed[0].endswith("-step-0000000001.npz") and flushed[1] == str(tmp_path)
    assert steps() == [4, 5]
    assert flushed[2:] == [str(tmp_path / "step-0000000005.npz"), str(tmp_path)]
    with Checkpoints(tmp_path, keep=2, flush_seconds=0) as checkpoints:
        for step in range(6, 9):
            checkpoints.save(step, ARRAYS, {"step": step})
        checkpoints.wait()
        assert steps() == [7, 8]
        assert len(flushed) == 4 + 3 * 2


def test_a_last_flush_that_fails_warns(tmp_path, monkeypatch):
    def broken(_):
        raise OSError(5, "Input/output error")

    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, ARRAYS, {"step": step})
    checkpoints.wait()
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.warns(RuntimeWarning, match="0002.npz may not survive a power cut: .*Input/output error"):
        checkpoints.__exit__()


def _truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def _empty(path):
    os.truncate(path, 0)


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _replace(path):
    path.write_text("no checkpoint at all")


@pytest.mark.parametrize("damage", [_truncate, _empty, _flip, _replace])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(tmp_path, damage):
    _filled(tmp_path)
    damage(tmp_path / "step-0000000030.npz")
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.warns(RuntimeWarning, match="30.npz is .*; the checkpoint before it is used"),
    ):
        _, about = checkpoints.newest()
    assert about == {"step": 20}


def test_a_run_that_goes_on_before_damaged_checkpoints_leaves_whole_ones(tmp_path):
    for path in [_filled(tmp_path, steps=(10, 20, 30)) / f"step-00000000{step}.npz" for step in (20, 30)]:
        _truncate(path)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        with pytest.warns(RuntimeWarning, match="the checkpoint before it is used"):
            checkpoints.newest()
        for step in (11, 12, 13):
            checkpoints.save(step, ARRAYS, {"step": step})
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.newest()[1] == {"step": 13}
        assert len(checkpoints.paths()) == 2


def test_a_deleted_checkpoint_leaves_the_one_before(tmp_path):
    _filled(tmp_path)
    (tmp_path / "step-0000000030.npz").unlink()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.newest()[1] == {"step": 20}


def test_every_flipped_byte_is_found(tmp_path):
    path = _filled(tmp_path, steps=(1,)) / "step-0000000001.npz"
    content = path.read_bytes()
    for at in np.random.default_rng(0).integers(0, len(content), 200):
        damaged = bytearray(content)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged|is no checkpoint"):
            read(path)


@pytest.mark.filterwarnings("ignore:.*the checkpoint before it is used:RuntimeWarning")
def test_when_all_are_damaged_there_is_no_silent_fresh_start(tmp_path):
    _filled(tmp_path)
    for path in tmp_path.glob("step-*"):
        _truncate(path)
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(ValueError, match="none of the 3 checkpoints") as caught:
        checkpoints.newest()
    assert "Delete them to start afresh" in str(caught.value)
    with Checkpoints(tmp_path / "empty") as checkpoints:
        assert checkpoints.newest() is None


def test_a_second_run_is_refused(tmp_path):
    with Checkpoints(tmp_path), pytest.raises(RuntimeError, match=f"is in use by process {os.getpid()}; wait for it"):
        Checkpoints(tmp_path)
    with Checkpoints(tmp_path):
        pass  # the lock ended with the run


def test_keep_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="keep=0: expected a whole number of at least 1"):
        Checkpoints(tmp_path, keep=0)


def test_a_full_disk_warns_and_keeps_the_older_checkpoint(tmp_path, monkeypatch):
    _filled(tmp_path)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with Checkpoints(tmp_path) as checkpoints:
        monkeypatch.setattr(os, "fsync", full)
        checkpoints.save(40, ARRAYS, {"step": 40})
        with pytest.warns(RuntimeWarning, match="No space left on device; the training goes on, .*0030.npz"):
            checkpoints.wait()
        monkeypatch.undo()
        assert checkpoints.newest()[1] == {"step": 30}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".") and path.name != ".lock"]


_SAVER = """
import sys
import numpy as np
from masslib.checkpoint import Checkpoints
with Checkpoints(sys.argv[1], keep=2) as checkpoints:
    step = len(checkpoints.paths()) and int(checkpoints.newest()[1]["step"])
    print("go", flush=True)
    while True:
        step += 1
        checkpoints.save(step, {"weights": np.full(2_000_000, step)}, {"step": step})
"""


def test_killed_at_any_moment_of_a_save_the_newest_checkpoint_loads(tmp_path):
    rng, last, kills = np.random.default_rng(0), 0, 0
    while kills < 8 or last <= 3:  # a busy machine saves less between two kills
        kills += 1
        assert kills < 60
        process = subprocess.Popen([sys.executable, "-c", _SAVER, str(tmp_path)], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(rng.uniform(0.02, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with Checkpoints(tmp_path) as checkpoints:
            found = checkpoints.newest()
        if found is None:
            continue
        arrays, about = found
        assert (arrays["weights"] == about["step"]).all()
        assert about["step"] >= last
        last = about["step"]
