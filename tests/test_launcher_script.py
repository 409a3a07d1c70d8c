"""`python -m masslib launch`: the same script on one machine and on two hosts."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from namespaces import two_hosts

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parent.parent

TRAIN = """
import sys
import numpy as np
import masslib

strategy = masslib.strategy("multi_worker")
digits = masslib.data.load("digits")
with strategy.scope():
    model = masslib.models.small_cnn(digits.input_shape, digits.num_classes)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
folder, epochs = sys.argv[1], int(sys.argv[2])
history = masslib.fit(model, digits.train.take(1240), batch_size=40, epochs=epochs, checkpoint=folder, save_every=7)
if strategy.cluster_resolver.task_id == 0:
    np.savez(folder + "/result.npz", *model.get_weights())
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(TRAIN)
    return path


def _launch(*arguments, within=(), **options):
    command = [*within, sys.executable, "-m", "masslib", "launch", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
    )


def _results(folder):
    with np.load(folder / "result.npz") as file:
        return [file[name] for name in file.files]


@pytest.mark.slow
def test_the_command_trains_and_streams_what_rank_0_prints(script, tmp_path):
    process = _launch("--workers", 2, "--threads", 1, "--logs", tmp_path / "logs", script, tmp_path / "ckpt", 1)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.startswith("masslib: multi_worker strategy, 2 replicas on CPU, worker 0\n")
    assert "accuracy: " in out
    assert "worker 1" in (tmp_path / "logs" / "worker-1.log").read_text()
    assert all(np.isfinite(weights).all() for weights in _results(tmp_path / "ckpt"))


def test_what_goes_wrong_is_said_and_counts(tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("import sys\nprint('args', sys.argv[1:])\nraise OSError('no more')\n")
    process = _launch("--workers", 1, broken, "--rate", "0.1")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out.startswith("args ['--rate', '0.1']\n")
    assert "masslib: worker 0 raised OSError; Traceback" in err
    for arguments, words in [
        (("nowhere.py",), "nowhere.py is not a file; expected a Python script"),
        (("--hosts", "a:1,b:1", broken), "--index None: expected which of the 2 hosts this is, from 0"),
        (("--index", 1, broken), "--index 1 without --hosts; name the addresses of all workers"),
        (
            ("--hosts", "a:1,b:1", "--index", 0, "--servers", 1, broken),
            "--servers 1 with --hosts: expected workers only",
        ),
        (("--workers", 0, broken), "workers=0: expected a whole number of at least 1"),
        (("--workers", "two", broken), "'two': expected a number, or the least and the most, as in 2:4"),
        (("--workers", "1:2", broken), "workers=(1, 2) on this machine: it loses none of its cores"),
    ]:
        process = _launch(*arguments)
        assert words in process.communicate(timeout=60)[1]
        assert process.returncode in (1, 2)


@pytest.fixture
def hosts():
    """Two hosts with a cable between them; yields the names of their network namespaces."""
    with two_hosts("10.77.0.1", "10.77.0.2") as names:
        yield names


def _on(hosts, number, script, *arguments, restarts=0):
    addresses = "10.77.0.1:5000,10.77.0.2:5000"
    return _launch(
        *("--hosts", addresses, "--index", number, "--threads", 1, "--max-restarts", restarts, script, *arguments),
        within=("ip", "netns", "exec", hosts[number]),
    )


@pytest.mark.exhaustive
def test_the_same_script_runs_on_two_hosts_and_survives_a_pulled_cable(hosts, script, tmp_path):
    """The checkpoints of one host are not seen by the other, as without a common file system."""
    calm = [_on(hosts, number, script, tmp_path / f"calm{number}", 4) for number in (0, 1)]
    for process in calm:
        _, err = process.communicate(timeout=180)
        assert process.returncode == 0, err
    assert not list((tmp_path / "calm1").glob("*")), "only the chief writes"
    torn = [_on(hosts, number, script, tmp_path / f"torn{number}", 4, restarts=3) for number in (0, 1)]
    end = time.monotonic() + 120
    while not list((tmp_path / "torn0").glob("step-*35.npz")) and time.monotonic() < end:
        time.sleep(0.005)
    pull = ["ip", "-n", hosts[0], "link", "set", "va"]
    subprocess.run([*pull, "down"], check=True)
    time.sleep(25)
    subprocess.run([*pull, "up"], check=True)
    start = time.monotonic()
    outputs = [process.communicate(timeout=180) for process in torn]
    assert [process.returncode for process in torn] == [0, 0], outputs
    assert time.monotonic() - start < 90
    assert "all start again in 1 s (restart 1 of 3)" in outputs[0][1]
    for a, b in zip(_results(tmp_path / "calm0"), _results(tmp_path / "torn0"), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.exhaustive
def test_sigterm_to_one_host_ends_both_with_a_checkpoint(hosts, script, tmp_path):
    both = [_on(hosts, number, script, tmp_path / f"host{number}", 40) for number in (0, 1)]
    end = time.monotonic() + 120
    while not list((tmp_path / "host0").glob("step-*35.npz")) and time.monotonic() < end:
        time.sleep(0.005)
    both[1].send_signal(signal.SIGTERM)
    start = time.monotonic()
    errors = [process.communicate(timeout=30)[1] for process in both]
    assert time.monotonic() - start < 8
    assert [process.returncode for process in both] == [1, 143], errors
    assert "worker 0 was terminated by SIGTERM" in errors[0]
    assert list((tmp_path / "host0").glob("step-*.npz"))
