"""What an engine costs: photos per second, seconds until the first step, and each step of `fit`.

1. Photos are checked and written as shards (`from_directory(on=)`, `write_shards(on=)`) by one and two processes of a
   `ProcessPoolExecutor`, of Spark `local[n]` and of Ray with n CPUs. TensorFlow is imported before the clock runs.
2. `launch(on=)`: the start of the engine itself, then the seconds from the call until the first step has ended, then
   the time of a step on two workers, of one core each. Local, Spark and Ray take turns. In every launch the same two
   processes also train each for itself at the same time, which gives the efficiency.
3. From these steps, and from what a TCP connection of this machine takes, the efficiency on up to 64 hosts is simulated
   and drawn to build/engines.png, with the assumptions in it.

What is not installed is left out with a sentence. Exit code 1 if a target is missed.

    python benchmarks/engines.py [--photos 100000] [--rounds 7]
"""

from __future__ import annotations

import argparse
import importlib.util
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import masslib
from masslib._util.extras import command
from masslib.data import from_directory, write_shards

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
STEPS, EPOCHS, ROWS = 40, 6, 64
LEAST_SPEED, MOST_COST = 0.8, 1.03
WORKERS = (1, 2, 4, 8, 16, 32, 64)
MEGABYTE = 1 << 20


@contextmanager
def processes(count: int) -> Iterator[Any]:
    with ProcessPoolExecutor(count, get_context("spawn")) as pool:
        yield pool


@contextmanager
def spark(count: int) -> Iterator[Any]:
    with tempfile.TemporaryDirectory() as folder:
        session = helpers().spark_session(Path(folder) / "java", f"local[{count},4]")
        yield session
        session.stop()


@contextmanager
def ray(count: int) -> Iterator[str]:
    engine = helpers().ray_cluster(count)
    yield "ray"
    engine.shutdown()


def helpers() -> Any:
    """The engines of the tests, which know how to start without root."""
    spec = importlib.util.spec_from_file_location("engines_of_tests", ROOT / "tests" / "engines.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def installed() -> dict[str, Callable]:
    """The engines that are there."""
    found: dict[str, Callable] = {"processes": processes}
    for name, module, start in (("Spark", "pyspark", spark), ("Ray", "ray", ray)):
        if importlib.util.find_spec(module):
            found[name] = start
        else:
            print(f"{name} is left out: {command(module)}")
    return found


def make_photos(folder: Path, count: int) -> None:
    """Write small photos of two classes, one in a thousand broken."""
    from PIL import Image

    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (64, 32, 32, 3), np.uint8)
    for number in range(count):
        place = folder / ("cat", "dog")[number % 2] / f"{number:06}.jpg"
        place.parent.mkdir(exist_ok=True)
        if number % 1000 == 7:
            place.write_bytes(b"no photo")
        else:
            Image.fromarray(np.roll(noise[number % 64], number, 0)).save(place)


def prepare(folder: Path, target: Path, on: Any) -> tuple[float, dict[str, str]]:
    """Check and write all photos; return photos per second, and what was skipped."""
    import warnings

    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        splits = from_directory(folder, image_size=(32, 32), valid=0.1, test=0.1, on=on)
    write_shards(splits.train, target, shards=16, on=on)
    seconds = time.perf_counter() - start
    return sum(1 for _ in folder.rglob("*.jpg")) / seconds, splits.skipped


def photos(engines: dict[str, Callable], count: int, place: Path) -> bool:
    few, many = place / "few", place / "many"
    for folder, number in ((few, 3000), (many, count)):
        folder.mkdir()
        make_photos(folder, number)
    rates, skipped = {}, {}
    for size in (1, 2):
        for name, start in engines.items():
            with start(size) as on:
                prepare(few, place / "shards", on)  # imports TensorFlow in every process
                rates[name, size], skipped[name, size] = prepare(many, place / "shards", on)
            print(f"{name}, {size} at once: {rates[name, size]:,.0f} photos/s", flush=True)
    alike = all(found == skipped["processes", 1] for found in skipped.values())
    print(f"{len(skipped['processes', 1])} broken photos, reported alike by all: {alike}")
    met = alike
    for name in engines:
        if name != "processes":
            ratio = rates[name, 2] / rates["processes", 2]
            target = LEAST_SPEED if name == "Spark" else 0.0
            met &= ratio >= target
            print(f"{name} / processes, 2 at once: {ratio:.2f}" + f", target at least {target}" * bool(target))
    return met


def train() -> dict[str, Any]:
    """Run in every worker: the moment of the first step, and the seconds of steps, together and each for itself."""
    import keras
    import tensorflow as tf

    pair = masslib.strategy("multi_worker")
    data = masslib.data.load("fashion_mnist").train

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            ends.append(time.time())

    found: dict[str, Any] = {}
    for name, strategy, rows in (("together", pair, 2 * ROWS), ("alone", tf.distribute.get_strategy(), ROWS)):
        ends: list[float] = []
        with strategy.scope():
            model = masslib.models.small_cnn((28, 28, 1), 10)
            model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
        masslib.fit(model, data.take(rows * STEPS), epochs=EPOCHS, batch_size=rows, verbose=0, callbacks=[Clock()])
        found[name] = np.diff(np.reshape(ends, (EPOCHS, STEPS)))[1:].ravel().tolist()  # the first epoch traces
        found.setdefault("first", ends[0])
        found["bytes"] = 4 * sum(int(np.prod(w.shape)) for w in model.trainable_variables)
    return found


def launches(engines: dict[str, Callable], rounds: int) -> tuple[bool, dict[str, Any]]:
    """Train on every engine in turn; print start and steps, and return what local workers took."""
    notes: dict[str, list[dict[str, Any]]] = {}
    for _ in range(rounds):
        for name, start in engines.items():
            begin = time.perf_counter()
            with start(2) as on:
                up = time.perf_counter() - begin
                called = time.time()
                (found, _) = masslib.launch(train, workers=2, threads=1, on="local" if name == "processes" else on)
            name = "local" if name == "processes" else name
            notes.setdefault(name, []).append(found | {"engine": up, "start": found["first"] - called})
    met = True
    steps = {
        name: {key: [statistics.median(note[key]) for note in each] for key in ("together", "alone")}
        for name, each in notes.items()
    }
    for name, each in notes.items():
        engine, start = (statistics.median(note[key] for note in each) for key in ("engine", "start"))
        mine, local, alone = steps[name]["together"], steps["local"]["together"], steps[name]["alone"]
        ratios = [a / b for a, b in zip(mine, local, strict=True)]  # of one round: one after the other
        met &= statistics.median(ratios) <= MOST_COST
        print(
            f"{name}: {0 if name == 'local' else engine:.1f} s until the engine runs, {start:.1f} s from launch to the "
            f"first step; a step {1e3 * statistics.median(mine):.2f} ms, {statistics.median(ratios):.3f} of local "
            f"(rounds: {', '.join(f'{ratio:.3f}' for ratio in ratios)}; target at most {MOST_COST}); "
            f"efficiency {statistics.median(a / b for a, b in zip(alone, mine, strict=True)):.3f}"
        )
    return met, notes["local"][0]


def wire(size: int = 4 * MEGABYTE, times: int = 40) -> tuple[float, float]:
    """Seconds of the latency and bytes per second of a TCP connection of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            other, _ = server.accept()
            with other:
                for count in [1] * times + [size] * times:
                    while count:
                        count -= len(other.recv(count))
                    other.sendall(b"!")

        thread = threading.Thread(target=answer)
        thread.start()
        with socket.create_connection(server.getsockname()) as mine:
            mine.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            took: dict[int, list[float]] = {1: [], size: []}
            for count in [1] * times + [size] * times:
                start = time.perf_counter()
                mine.sendall(bytes(count))
                mine.recv(1)
                took[count].append(time.perf_counter() - start)
        thread.join()
    there_and_back, bulk = (statistics.median(took[count]) for count in (1, size))
    return there_and_back / 2, size / (bulk - there_and_back / 2)


def efficiency(steps: np.ndarray, size: int, latency: float, rate: float, workers: int) -> float:
    """Of synchronous training: each step waits for the slowest of as many draws, then sends around a ring."""
    draws = np.random.default_rng(0).choice(steps, (4000, workers)).max(axis=1)
    ring = 2 * (workers - 1) * (latency + size / workers / rate)
    return float(steps.mean() / (draws + ring).mean())


def simulate(local: dict[str, Any]) -> None:
    from masslib.plot.style import BLUE, GREY, ORANGE, STYLE

    from matplotlib import pyplot as plt

    steps, size = np.array(local["alone"]), local["bytes"]
    latency, rate = wire()
    lines = {
        f"TCP as measured here: {1e6 * latency:.0f} us, {rate / 1e9:.1f} GB/s": (latency, rate, BLUE),
        "10 Gbit/s, 50 us": (50e-6, 1.25e9, ORANGE),
    }
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
        for name, (alpha, speed, color) in lines.items():
            found = [efficiency(steps, size, alpha, speed, n) for n in WORKERS]
            print(f"simulated, {name}: " + ", ".join(f"{n}: {e:.2f}" for n, e in zip(WORKERS, found, strict=True)))
            ax.plot(WORKERS, found, ".-", color=color, label=name)
        ax.set_xscale("log", base=2)
        ax.set(
            xlabel="workers, each on a host of its own", ylabel="efficiency", ylim=(0, 1.05), title="Simulated, not run"
        )
        ax.set_xticks(WORKERS, WORKERS)
        ax.legend(loc="lower left")
        assumed = (
            f"Assumed: steps drawn from {len(steps)} that were measured, with two workers on this machine (mean "
            f"{1e3 * steps.mean():.1f} ms),\na ring after the backward pass, {size / 1e6:.1f} MB of gradients, "
            "no other traffic, no failures"
        )
        figure.text(0.01, -0.02, assumed, color=GREY, va="top", fontsize=8)
        (ROOT / "build").mkdir(exist_ok=True)
        figure.savefig(ROOT / "build" / "engines.png", dpi=150, bbox_inches="tight")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    engines = installed()
    with tempfile.TemporaryDirectory() as place:
        met = photos(engines, options.photos, Path(place)) if options.photos else True
    fast, local = launches(engines, options.rounds)
    simulate(local)
    return 0 if met and fast else 1


if __name__ == "__main__":
    sys.exit(main())
