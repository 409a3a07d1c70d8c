"""Spelling to sound: a GRU with attention and a Transformer, trained on the CMU dictionary and made small.

`gru` is to be wrong in at most 8 % of the phonemes of words that it has not seen. `small` is a narrower GRU, the rival
of the compressed files, trained for as many epochs as `gru` and its squeezing together. `judge` tells phoneme and word
errors of all test words: the edit distance to the nearest pronunciation that the dictionary has of a word, per phoneme
of the first one that it has; and the words that are like none of their pronunciations. `shrink` writes files with the
signatures `encode` and `decode`, and compares those that are compressed with float on the same words: at most half a
point of phoneme error more, at least 6 times fewer bytes, both packed by `masslib.export.packed`.

    python benchmarks/spelling.py [gru small transformer judge squeeze shrink] [--seed 0] [--folder build/spelling]

Weights, squeezed ones too, are kept in the folder. On one core `gru` takes half an hour, `small` and `transformer` a
quarter of an hour each, `squeeze` eight minutes for each of its rates, `judge` and `shrink` about six minutes each.
Nothing is chosen by the test words: both rates are reported.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import masslib
from masslib import Compressed, Quantize, Squeeze

import keras
import numpy as np
from _rounds import pin, verdict
from _speller import Recurrent, Transformer, by_keras, distances, examples, network, parts, said_by, train
from scipy.stats import bootstrap

SPLITS = masslib.data.load("cmudict")
KINDS = {"gru": (Recurrent, 256, 14), "small": (Recurrent, 128, 17), "transformer": (Transformer, 64, 7)}
RATES = (0.01, 0.03)
BEAMS = 4
MOST_ERRORS, MOST_LOST, LEAST_TIMES = 8.0, 0.5, 6.0


def trained(name: str, folder: Path, seed: int) -> None:
    """Train on all words and save the weights."""
    make, width, epochs = KINDS[name]
    keras.utils.set_random_seed(seed)
    model = network(make(width))
    begin = time.perf_counter()
    train(model, examples(SPLITS.train), epochs)
    print(f"{name}: {model.count_params():,} weights, {epochs} epochs in {time.perf_counter() - begin:.0f} s")
    folder.mkdir(parents=True, exist_ok=True)
    model.save_weights(folder / f"{name}.weights.h5")


def loaded(name: str, folder: Path) -> tuple[Recurrent | Transformer, keras.Model]:
    make, width, _ = KINDS[name]
    path = folder / f"{name}.weights.h5"
    if not path.exists():
        raise SystemExit(f"{path} is not there: run `{name}` first")
    kind = make(width)
    model = network(kind)
    model.load_weights(path)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0))
    return kind, model


def judge(folder: Path) -> bool:
    """Phoneme and word errors of the test words, greedy and by beam search, of the networks that are there."""
    words, found = np.unique(SPLITS.test[:][0]), {}
    for name in KINDS:
        if name != "gru" and not (folder / f"{name}.weights.h5").exists():
            continue
        kind, _ = loaded(name, folder)
        run = by_keras(kind, kind.layer)
        for beams in (1, BEAMS):
            found[name, beams] = told(
                f"{name}, {beams} beam(s)", *distances(said_by(run, words, beams), words, SPLITS.test)
            )
    return verdict("% of phonemes wrong, GRU, beam search", [found["gru", BEAMS]], at_most=MOST_ERRORS)


def told(name: str, wrong: np.ndarray, phonemes: np.ndarray) -> float:
    """Print the errors, and give back those per phoneme in %."""
    rate = 100 * float(_per_phoneme(wrong, phonemes))
    print(f"{name:<24} {rate:6.2f} % of phonemes, {100 * (wrong > 0).mean():6.2f} % of words wrong", flush=True)
    return rate


def squeeze(folder: Path) -> None:
    """Train for few bits, by each rate, and save the weights."""
    for rate in RATES:
        _, model = loaded("gru", folder)
        begin, step = time.perf_counter(), Squeeze(rate, epochs=3, learning_rate=1e-3)
        small = masslib.compress(model, step, examples(SPLITS.train), batch_size=256, verbose=False)
        print(f"{step}: {time.perf_counter() - begin:.0f} s", flush=True)
        small.model.save_weights(folder / f"squeezed_{rate}.weights.h5")


def shrink(folder: Path) -> bool:
    """Errors and bytes of files, on the same test words."""
    kind, model = loaded("gru", folder)
    narrow, narrow_model = loaded("small", folder)
    bits = Quantize("dynamic")
    recipes: dict[str, tuple[Recurrent | Transformer, keras.Model, list]] = {
        "float32": (kind, model, []),
        "8 bits": (kind, model, [bits]),
        "trained small, 8 bits": (narrow, narrow_model, [bits]),
    }
    for rate in RATES:
        kind, squeezed = loaded("gru", folder)
        squeezed.load_weights(folder / f"squeezed_{rate}.weights.h5")
        recipes[f"squeezed, {rate}"] = (kind, squeezed, [])
    words = np.unique(SPLITS.test[:][0])
    wrong, sizes = {}, {}
    for name, (of, network_, steps) in recipes.items():
        small = masslib.compress(network_, steps, verbose=False) if steps else None
        both = parts(of, (small.model if small else network_).get_layer)
        precision = small.precision if small else "float32"
        files = {key: Compressed(part, (), precision=precision) for key, part in both.items()}
        path = masslib.export.tflite(files, folder / f"{name}.tflite", batch_size=1)
        packed = masslib.export.packed(path, folder / f"{name}.packed")
        with masslib.export.load(packed, threads=1) as file:
            run = {key: file.signatures[key].predict for key in both}
            wrong[name], phonemes = distances(said_by(run, words, rows=1), words, SPLITS.test)
        sizes[name] = packed.stat().st_size / 1e3
        told(f"{name}, {sizes[name]:.0f} kB", wrong[name], phonemes)
    met = [_compared(f"squeezed, {rate}", wrong, phonemes, sizes) for rate in RATES]
    return all(met)


def _compared(name: str, wrong: Mapping[str, np.ndarray], phonemes: np.ndarray, sizes: Mapping[str, float]) -> bool:
    met = []
    for rival, most in (("float32", MOST_LOST), ("8 bits", None), ("trained small, 8 bits", None)):
        lost = 100 * (wrong[name] - wrong[rival])
        settings = {"n_resamples": 2000, "batch": 100, "paired": True, "method": "percentile", "rng": 0}
        low, high = bootstrap((lost, phonemes), _per_phoneme, **settings).confidence_interval
        gap = [low, _per_phoneme(lost, phonemes), high]
        met.append(verdict(f"points more than {rival}: {name}", gap, at_most=most))
    met.append(verdict("times smaller than float32", [sizes["float32"] / sizes[name]], at_least=LEAST_TIMES))
    return all(met)


def _per_phoneme(wrong: np.ndarray, phonemes: np.ndarray, axis: int = -1) -> np.ndarray:
    return wrong.sum(axis=axis) / phonemes.sum(axis=axis)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everything = [*KINDS, "judge", "squeeze", "shrink"]
    parser.add_argument("what", nargs="*", choices=[*everything, []], default=everything)
    parser.add_argument("--seed", type=int, default=0, help="of what is trained; pass another folder, too")
    parser.add_argument("--folder", type=Path, default=Path("build/spelling"))
    given = parser.parse_args()
    pin(1)
    met = []
    for name in given.what:
        if name in KINDS:
            trained(name, given.folder, given.seed)
        else:
            met.append({"judge": judge, "squeeze": squeeze, "shrink": shrink}[name](given.folder) is not False)
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
