"""From the start of a process to its first prediction: a TFLite file through masslib, and through TensorFlow.

Each run is a fresh Python that loads LeNet-5, classifies one image and ends. The ways take turns. TensorFlow runs what
its users would: the `.keras` file in Keras, the SavedModel, and the same TFLite file in `tf.lite.Interpreter`. Compared
are, round by round, the time from the start to the end of the process, and the peak of its resident memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import masslib

from _rounds import ROUNDS, verdict

# Every program prints its answer, to be compared, and its peak of memory in kB: Linux' VmHWM, since ru_maxrss counts
# what the parent had before the program was started.
_END = "print(*y.ravel(), *(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
_IMAGE = "import sys, numpy as np; x = np.full((1, 28, 28, 1), 0.5, 'float32')"
PROGRAMS = {
    "masslib": "import masslib; y = masslib.export.load(sys.argv[1] + '/lenet5.tflite').predict(x)",
    "Keras": "import keras; y = keras.models.load_model(sys.argv[1] + '/lenet5.keras').predict(x, verbose=0)",
    "SavedModel": (
        "import tensorflow as tf; model = tf.saved_model.load(sys.argv[1] + '/saved_model'); "
        "(y,) = model.signatures['serving_default'](tf.constant(x)).values(); y = y.numpy()"
    ),
    "tf.lite": (
        "import tensorflow as tf; model = tf.lite.Interpreter(sys.argv[1] + '/lenet5.tflite'); "
        "model.allocate_tensors(); model.set_tensor(model.get_input_details()[0]['index'], x); model.invoke(); "
        "y = model.get_tensor(model.get_output_details()[0]['index'])"
    ),
}


def run(program: str, folder: str) -> tuple[float, float, list[float]]:
    """Seconds, MB at the peak, and the probabilities."""
    start = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-c", f"{_IMAGE}; {program}; {_END}", folder],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    seconds = time.perf_counter() - start
    *answer, memory = map(float, result.stdout.splitlines()[-1].split())
    return seconds, memory / 1000, answer


def main() -> int:
    model = masslib.models.lenet5((28, 28, 1), 10)
    times = {name: [] for name in PROGRAMS}
    memory = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as folder:
        masslib.export.tflite(model, Path(folder, "lenet5.tflite"))
        masslib.export.saved_model(model, Path(folder, "saved_model"))
        model.save(Path(folder, "lenet5.keras"))
        for number in range(ROUNDS + 1):
            answers = {}
            for name, program in PROGRAMS.items():
                seconds, peak, answers[name] = run(program, folder)
                if number:  # the first round fills the disk cache
                    times[name].append(seconds)
                    memory[name].append(peak)
            for name, answer in answers.items():
                if max(abs(a - b) for a, b in zip(answer, answers["Keras"], strict=True)) > 1e-5:
                    raise RuntimeError(f"{name} answers otherwise than Keras")
    for name in PROGRAMS:
        print(f"{name:<12} {min(times[name]):6.3f} s at best, {max(memory[name]):7.1f} MB at most")
    met = True
    for name in list(PROGRAMS)[1:]:
        for what, figures in {"time": times, "memory": memory}.items():
            ratios = [theirs / ours for theirs, ours in zip(figures[name], figures["masslib"], strict=True)]
            met &= verdict(f"{what} to the first prediction: TensorFlow, {name} / masslib", ratios, at_least=10)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
