"""Recordings of the catalog: spoken digits, as published in WAV files or end to end in one array."""

from __future__ import annotations

import csv
import io
import lzma
import re
import wave
import zipfile
from pathlib import Path

import numpy as np

from masslib.data.arrays import from_arrays
from masslib.data.ragged import RaggedRows
from masslib.data.sources import Columns, Entry, File, Form
from masslib.data.subset import Subset

_RATE = 8000
_NAME = re.compile(r"(?:.*/)?recordings/((\d)_([a-z]+)_(\d+)\.wav)")


def read_joined(paths: list[Path]) -> Columns:
    """Reads the compact form: an array of all samples, packed by xz, and the table of where each recording lies."""
    with lzma.open(paths[0]) as stream:
        samples = np.lib.format.read_array(stream, allow_pickle=False)
    with paths[1].open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    begins = np.array([int(line["start"]) for line in lines])
    lengths = np.array([int(line["length"]) for line in lines])
    if not np.array_equal(begins, np.cumsum(lengths) - lengths) or lengths.sum() != len(samples):
        raise ValueError(f"{paths[1]} does not describe the {len(samples)} samples of {paths[0]}.")
    return _columns([(line["digit"], line["speaker"], int(line["take"])) for line in lines], samples, lengths)


def read_wav(paths: list[Path]) -> Columns:
    """Reads the original: a zip with `recordings/digit_speaker_take.wav`, 8 kHz, 16 bit, mono.

    Raises:
        ValueError: a recording of another kind.
    """
    takes, sounds = [], []
    with zipfile.ZipFile(paths[0]) as archive:
        found = [match for name in archive.namelist() if (match := _NAME.fullmatch(name))]
        for match in sorted(found, key=lambda match: (match[2], match[3], int(match[4]))):
            with wave.open(io.BytesIO(archive.read(match[0]))) as sound:
                kind = sound.getnchannels(), sound.getsampwidth(), sound.getframerate()
                if kind != (1, 2, _RATE):
                    raise ValueError(
                        f"{match[0]} in {paths[0]} has (channels, bytes, Hz) {kind}, expected (1, 2, {_RATE})."
                    )
                sounds.append(np.frombuffer(sound.readframes(sound.getnframes()), "<i2"))
            takes.append((match[2], match[3], int(match[4])))
    return _columns(takes, np.concatenate(sounds), np.array([len(sound) for sound in sounds]))


def _columns(takes: list[tuple[str, str, int]], samples: np.ndarray, lengths: np.ndarray) -> Columns:
    return {
        "digit": [digit for digit, _, _ in takes],
        "speaker": [speaker for _, speaker, _ in takes],
        "take": np.array([take for _, _, take in takes], np.int64),
        "length": lengths.astype(np.int64),
        "samples": samples.astype(np.int16, copy=False),
    }


def waveforms(columns: Columns, classes: tuple[str, ...]) -> tuple[Subset, Subset]:
    """Train and test waveforms in [-1, 1), of varying length; takes 0 to 4 are the official test set."""
    samples = columns["samples"].astype(np.float32) / 32768
    sounds = RaggedRows(samples, np.concatenate([[0], np.cumsum(columns["length"])]))
    labels, speakers = np.array(columns["digit"]).astype(np.int32), np.array(columns["speaker"])

    def part(chosen: np.ndarray) -> Subset:
        rows = np.flatnonzero(chosen)
        return from_arrays(sounds.select(rows), labels[rows], classes=list(classes)).with_groups(speakers[rows])

    return part(columns["take"] > 4), part(columns["take"] <= 4)


_ZIP = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/26eb9aaf76e81b692f806f9140c2d2777410d7a1.zip"

ENTRIES = (
    Entry(
        "spoken_digits",
        tuple("0123456789"),
        (),
        "datasets",
        waveforms,
        0.1,
        forms=(
            Form(
                (File("speech_digits/fsdd_8khz_int16.npy.xz", None), File("speech_digits/index.csv", None)), read_joined
            ),
            Form((File("speech_digits/26eb9aaf76e81b692f806f9140c2d2777410d7a1.zip", _ZIP),), read_wav),
        ),
        sha256="18f03916f2b8cae9890c7e4cfc03f3dd0cc7a63472cedbe60e71de1e4f468ac9",
    ),
)
