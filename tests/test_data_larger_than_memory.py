"""Shards larger than memory: written, trained from and read, in a process whose peak of resident memory is told.

`MASSLIB_SHARDS_GB` sets their size; without it they are of 8 GB, which must be free where pytest has its folders.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

GIGABYTES = float(os.environ.get("MASSLIB_SHARDS_GB", "8"))
LIMIT = 1.5 * 2**30

PROGRAM = '''
import json, sys
import numpy as np, keras
import masslib
from masslib.data import Subset, from_arrays, read_shards, write_shards
from masslib.data.rows import Rows

SHAPE, BATCH = (64, 64, 3), 256


class Generated(Rows):
    """Rows that are made of their numbers when they are read, all of them different."""

    noise = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)

    def __init__(self, numbers):
        super().__init__(SHAPE, np.uint8, 1 / 255)
        self.numbers = numbers

    def __len__(self):
        return len(self.numbers)

    def raw(self, rows):
        numbers = np.ascontiguousarray(self.numbers[rows], np.int64)
        x = self.noise * (2 * numbers + 1).astype(np.uint8)[:, None, None, None]
        x.reshape(len(numbers), -1)[:, :8] = numbers.view(np.uint8).reshape(-1, 8)
        return x

    def select(self, rows):
        return Generated(self.numbers[rows])


folder, size = sys.argv[1], float(sys.argv[2])
rows = int(size * 2**30 / np.prod(SHAPE))
write_shards(Subset(Generated(np.arange(rows)), np.arange(rows)), folder, shards=8)
subset = read_shards(folder)

labels = np.arange(rows) % 2  # what is learnt
layers = keras.layers.MaxPooling2D(8), keras.layers.Flatten(), keras.layers.Dense(1)
model = keras.Sequential([keras.Input(SHAPE), *layers])
model.compile(keras.optimizers.SGD(1e-3), "mse")
history = masslib.fit(model, Subset(subset.rows, labels), epochs=1, batch_size=BATCH, verbose=0)

# The same numbers in memory have the same order; each row is then what its number says.
in_memory = from_arrays(np.arange(rows), np.arange(rows)).batches(BATCH, seed=3)
seen = 0
for (x, y), (_, expected) in zip(subset.batches(BATCH, seed=3), in_memory, strict=True):
    y = y.numpy()
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(x, Generated(y).read(slice(None)))
    seen += len(y)
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"rows": seen, "peak": int(peak) * 1024, "loss": float(history.history["loss"][0])}))
'''


def train(folder, gigabytes: float) -> dict:
    command = [sys.executable, "-c", PROGRAM, str(folder), str(gigabytes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600 + 900 * gigabytes, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
def test_shards_larger_than_memory_train_within_it(tmp_path):
    told = train(tmp_path / "shards", GIGABYTES)
    print(told)  # seen with pytest -s
    size = sum(path.stat().st_size for path in (tmp_path / "shards").glob("*.tfrecord"))
    assert size > (GIGABYTES - 0.01) * 2**30 and told["rows"] == int(GIGABYTES * 2**30 / (64 * 64 * 3))
    assert told["peak"] < LIMIT, f"{told['peak'] / 2**30:.2f} GB resident for shards of {size / 2**30:.2f} GB"
    assert 0 <= told["loss"] < 1e3
