"""load: the sets of texts; the published form and the compact one give the same rows."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import hashlib
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from masslib.data import catalog, load, sources

real = pytest.mark.skipif(
    not os.environ.get("MASSLIB_DATA"),
    reason="MASSLIB_DATA does not name the folder of the data sets, see docs/datasets.md",
)
MESSAGES = [("spam" if k % 5 == 0 else "ham", f'number {k // 2 * 2}, "é"\tand more') for k in range(60)]
PLAY = "ROMEO:\nBut soft, what light?\n\n" * 20


def packed(path, header, rows) -> None:
    with gzip.open(path, "wt", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def both(tmp_path, name, original):
    """The entry for a miniature: its compact form in one folder, made of `original`, which lies in another."""
    entry = catalog.CATALOG[name]
    form = next(
        form for form in entry.forms if all((original / file.name.split("/")[1]).is_file() for file in form.files)
    )
    columns = form.read([original / file.name.split("/")[1] for file in form.files])
    compact = tmp_path / "compact"
    compact.mkdir()
    path = compact / entry.forms[0].files[0].name.split("/")[1]
    if name == "shakespeare":
        path.write_bytes(gzip.compress(columns["text"][0].encode()))
    else:
        packed(path, list(columns), zip(*columns.values(), strict=True))
    return dataclasses.replace(entry, sha256=sources.fingerprint(columns)), compact


def equal(a, b) -> None:
    assert repr(a) == repr(b) and a.classes == b.classes
    for one, other in ((a.train, b.train), (a.valid, b.valid), (a.test, b.test)):
        for left, right in zip(one[:], other[:], strict=True):
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("zipped", [False, True])
def test_messages_of_both_forms_are_split_by_text(tmp_path, zipped):
    data = "".join(f"{label}\t{text}\n" for label, text in MESSAGES).encode()
    if zipped:
        with zipfile.ZipFile(tmp_path / "sms+spam+collection.zip", "w") as archive:
            archive.writestr("SMSSpamCollection", data)
            archive.writestr("readme", "about")
    else:
        (tmp_path / "SMSSpamCollection").write_bytes(data)
    entry, compact = both(tmp_path, "sms_spam", tmp_path)
    splits = load(entry, folder=tmp_path)
    equal(splits, load(entry, folder=compact))
    texts = [part[:][0].tolist() for part in (splits.train, splits.valid, splits.test)]
    assert sorted(sum(texts, [])) == sorted(text for _, text in MESSAGES)
    assert len(texts[2]) == 12 and not set(texts[0]) & set(texts[2]) and not set(texts[0]) & set(texts[1])
    labels = {}
    for label, text in MESSAGES:
        labels.setdefault(text, set()).add(label == "spam")
    assert all(bool(y) in labels[str(x)] for x, y in zip(*splits.train[:], strict=True))


def test_requests_of_both_forms_and_those_out_of_scope(tmp_path):
    parts = {
        f"{oos}{part}": [[f"{part} {intent} {k}", intent] for intent in intents for k in range(3)]
        for part in ("val", "train", "test")
        for oos, intents in (("oos_", ["oos"]), ("", ["pay", "gas"]))
    }
    (tmp_path / "data_full.json").write_text(json.dumps(parts))
    (tmp_path / "domains.json").write_text(json.dumps({"banking": ["pay"], "auto": ["gas"]}))
    entry, compact = both(tmp_path, "intents", tmp_path)
    splits = load(entry, folder=tmp_path)
    equal(splits, load(entry, folder=compact))
    assert splits.classes == ["gas", "pay"]
    for part, name in ((splits.train, "train"), (splits.valid, "val"), (splits.test, "test")):
        x, y = part[:]
        assert x.tolist() == [f"{name} {intent} {k}" for intent in ("pay", "gas") for k in range(3)]
        assert y.tolist() == [1, 1, 1, 0, 0, 0]
    entry = dataclasses.replace(catalog.CATALOG["intents_out_of_scope"], sha256=entry.sha256)
    strange = load(entry, folder=compact)
    assert strange.test[:][0].tolist() == [f"test oos {k}" for k in range(3)] and len(strange.train) == 3
    with pytest.raises(ValueError, match="valid is 0.1, but intents has an official validation set. Leave it out"):
        load("intents", valid=0.1)


def test_each_character_comes_with_the_next(tmp_path):
    (tmp_path / "input.txt").write_text(PLAY)
    entry, compact = both(tmp_path, "shakespeare", tmp_path)
    splits = load(entry, folder=tmp_path)
    equal(splits, load(entry, folder=compact))
    cut = int(0.9 * len(PLAY))
    for part, text in ((splits.train, PLAY[:cut]), (splits.valid, PLAY[cut:]), (splits.test, PLAY[cut:])):
        x, y = part[:]
        assert "".join(splits.classes[k] for k in x) == text[:-1]
        assert "".join(splits.classes[k] for k in y) == text[1:]


def test_other_rows_are_refused(tmp_path):
    (tmp_path / "input.txt").write_text(PLAY)
    with pytest.raises(ValueError, match="the rows of shakespeare are damaged or another edition: their SHA-256 is"):
        load("shakespeare", folder=tmp_path)


def test_offline_both_forms_are_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        load("sms_spam", folder=tmp_path)
    message = str(caught.value)
    assert "sms+spam+collection.zip from https://archive.ics.uci.edu/" in message
    assert f"Put into {tmp_path}" in message and "Instead of them it can be text_sms_spam/sms_spam.csv.gz" in message


def test_words_have_their_pronunciations_on_one_side():
    splits = load("cmudict")
    sides = splits.train, splits.valid, splits.test
    assert [len(side) for side in sides] == [112_430, 6_614, 13_227] and splits.num_classes == 40
    groups = [set(side.groups) for side in sides]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 123_874
    for side in sides:
        words, spoken = side[:]
        np.testing.assert_array_equal(words, side.groups)
        assert spoken.shape == (len(side), 32) and spoken.dtype == np.int32
        assert (spoken[:, 0] > 0).all() and not ((spoken[:, :-1] == 0) & (spoken[:, 1:] > 0)).any()  # padded behind
        assert len(set(zip(words.tolist(), map(tuple, spoken.tolist()), strict=True))) == len(side)
    words, spoken = (np.concatenate(parts) for parts in zip(*(side[:] for side in sides), strict=True))
    said = {" ".join(splits.classes[k] for k in row if k) for row in spoken[words == "tomato"]}
    assert said == {"T AH M EY T OW", "T AH M AA T OW"}


def test_the_dictionary_is_what_the_readme_says():
    folder = Path(__file__).resolve().parents[1] / "data"
    data, text = (folder / "cmudict" / "cmudict.csv.gz").read_bytes(), (folder / "README.md").read_text("utf-8")
    assert f"`cmudict.csv.gz` | {len(data):,} | `{hashlib.sha256(data).hexdigest()}`" in text
    lines = gzip.decompress(data).decode("ascii").splitlines()
    assert len(lines) == 1 + 132_271 and len({line.split(",")[0] for line in lines[1:]}) == 123_874
    assert "132,271" in text and "123,874" in text
    assert "Carnegie Mellon University" in (folder / "cmudict" / "LICENSE").read_text("ascii")


@real
@pytest.mark.parametrize(
    "name, counts, classes",
    [
        ("sms_spam", (4011, 446, 1117), 2),
        ("intents", (15_000, 3_000, 4_500), 150),
        ("intents_out_of_scope", (100, 100, 1_000), 1),
        ("shakespeare", (1_003_853, 111_539, 111_539), 65),
    ],
)
def test_the_real_texts_are_whole(name, counts, classes):
    splits = load(name)
    assert (len(splits.train), len(splits.valid), len(splits.test)) == counts
    assert splits.num_classes == classes
