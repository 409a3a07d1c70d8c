"""load: spoken digits; WAV files and the array of all samples give the same rows."""

from __future__ import annotations

import csv
import dataclasses
import io
import lzma
import os
import wave
import zipfile

import numpy as np
import pytest

from masslib.data import catalog, load, sources, split

real = pytest.mark.skipif(
    not os.environ.get("MASSLIB_DATA"),
    reason="MASSLIB_DATA does not name the folder of the data sets, see docs/datasets.md",
)
ENTRY = catalog.CATALOG["spoken_digits"]
SPEAKERS = ("ann", "bob", "cem")


def recordings() -> dict[tuple[int, str, int], np.ndarray]:
    """Noise of 20 to 60 samples: 10 digits, 3 speakers, 11 takes."""
    random = np.random.default_rng(0)
    keys = [(digit, speaker, take) for digit in range(10) for speaker in SPEAKERS for take in range(11)]
    return {key: random.integers(-32768, 32768, random.integers(20, 60)).astype(np.int16) for key in keys}


def sound(samples: np.ndarray, rate: int = 8000) -> bytes:
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return data.getvalue()


@pytest.fixture
def forms(tmp_path):
    """The entry, and the folders of the published and the compact form of the same recordings."""
    sounds = recordings()
    published, compact = tmp_path / "published", tmp_path / "compact"
    for folder in (published, compact):
        folder.mkdir()
    with zipfile.ZipFile(published / ENTRY.forms[1].files[0].name.split("/")[1], "w") as archive:
        archive.writestr("digits-26eb/README.md", "about")
        for (digit, speaker, take), samples in reversed(sounds.items()):
            archive.writestr(f"digits-26eb/recordings/{digit}_{speaker}_{take}.wav", sound(samples))
    with lzma.open(compact / "fsdd_8khz_int16.npy.xz", "wb") as stream:
        np.save(stream, np.concatenate(list(sounds.values())))
    with (compact / "index.csv").open("w", newline="") as stream:
        table, start = csv.writer(stream), 0
        table.writerow(["digit", "speaker", "take", "start", "length"])
        for key, samples in sounds.items():
            table.writerow([*key, start, len(samples)])
            start += len(samples)
    columns = ENTRY.forms[1].read([published / ENTRY.forms[1].files[0].name.split("/")[1]])
    return dataclasses.replace(ENTRY, sha256=sources.fingerprint(columns)), published, compact


def test_both_forms_give_the_waveforms(forms):
    entry, *folders = forms
    parts = [load(entry, folder=folder) for folder in folders]
    sounds = list(recordings().items())
    for splits in parts:
        assert repr(splits) == "Splits(train=162, valid=18, test=150, classes=['0', ...])"
        test = [(key, samples) for key, samples in sounds if key[2] < 5]
        for k, ((digit, speaker, _), samples) in enumerate(test):
            x, y = splits.test[k]
            np.testing.assert_array_equal(x, samples.astype(np.float32) / 32768)
            assert (int(y), splits.test.groups[k]) == (digit, speaker)
    np.testing.assert_array_equal(parts[0].train[:][0], parts[1].train[:][0])
    whole = split(parts[0].train, valid=0.3, test=0.3, groups=parts[0].train.groups)
    assert {len(set(part.groups)) for part in (whole.train, whole.valid, whole.test)} == {1}


def test_recordings_of_another_rate_and_torn_tables_are_refused(forms):
    entry, published, compact = forms
    (archive,) = published.iterdir()
    with zipfile.ZipFile(archive, "a") as more:
        more.writestr("digits-26eb/recordings/9_zoe_0.wav", sound(np.zeros(9), rate=16000))
    with pytest.raises(ValueError, match=r"9_zoe_0.wav in .* has \(channels, bytes, Hz\) \(1, 2, 16000\), expected"):
        load(entry, folder=published)
    table = compact / "index.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ValueError, match=r"index.csv does not describe the \d+ samples"):
        load(entry, folder=compact)


@real
@pytest.mark.slow
def test_the_real_recordings_are_whole():
    splits = load("spoken_digits")
    assert repr(splits) == "Splits(train=2430, valid=270, test=300, classes=['0', ...])"
    assert np.bincount(splits.test.y).tolist() == [30] * 10 and len(set(splits.test.groups)) == 6
    assert sum(part.rows.lengths.sum() for part in (splits.train, splits.valid, splits.test)) == 10_498_424
