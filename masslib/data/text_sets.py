"""Texts of the catalog: messages, requests, plays and words that are spoken, as published or as gzipped CSV."""

from __future__ import annotations

import csv
import gzip
import json
import random
import zipfile
from pathlib import Path

import numpy as np

from masslib.data.arrays import from_arrays
from masslib.data.sources import Columns, Entry, File, Form
from masslib.data.subset import Subset

_SMS = "SMSSpamCollection"


def read_csv(paths: list[Path]) -> Columns:
    """Reads the one gzipped CSV file into columns of strings."""
    with gzip.open(paths[0], "rt", encoding="utf-8", newline="") as stream:
        names, *lines = csv.reader(stream)
    return dict(zip(names, map(list, zip(*lines, strict=True)), strict=True))


def read_sms(paths: list[Path]) -> Columns:
    """Reads the original: a zip that holds `SMSSpamCollection`, or that file itself, a label and a text per line.

    The original has no split. A fifth of the distinct texts is for the test, so that no message that was sent
    repeatedly is on both sides.
    """
    data = paths[0].read_bytes()
    if zipfile.is_zipfile(paths[0]):
        with zipfile.ZipFile(paths[0]) as archive:
            data = archive.read(_SMS)
    lines = [line.split("\t", 1) for line in data.decode("utf-8").split("\n") if line]
    texts = sorted({text for _, text in lines})
    random.Random(0).shuffle(texts)
    test = set(texts[: len(texts) // 5])
    return {
        "label": [label for label, _ in lines],
        "split": ["test" if text in test else "train" for _, text in lines],
        "text": [text for _, text in lines],
    }


def read_intents(paths: list[Path]) -> Columns:
    """Reads the original: requests and intents by part, and intents by domain, both JSON."""
    parts, domains = (json.loads(path.read_text(encoding="utf-8")) for path in paths)
    domain = {intent: name for name, intents in domains.items() for intent in intents}
    rows = [
        (part.removeprefix("oos_"), domain.get(intent, "oos"), intent, text)
        for part, pairs in parts.items()
        for text, intent in pairs
    ]
    return dict(zip(("split", "domain", "intent", "text"), map(list, zip(*rows, strict=True)), strict=True))


def read_plays(paths: list[Path]) -> Columns:
    """Reads a text, gzipped or not."""
    data = paths[0].read_bytes()
    return {"text": [(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("ascii")]}


def messages(columns: Columns, classes: tuple[str, ...]) -> tuple[Subset, Subset]:
    """Train and test messages; equal texts are one group."""
    split, texts = np.array(columns["split"]), np.array(columns["text"])
    labels = _numbered(columns["label"], classes)

    def part(name: str) -> Subset:
        rows = np.flatnonzero(split == name)
        return from_arrays(texts[rows], labels[rows], classes=list(classes)).with_groups(texts[rows])

    return part("train"), part("test")


def requests(columns: Columns, classes: tuple[str, ...]) -> tuple[Subset, ...]:
    """Train, validation and test requests of some intents, by default of all but "oos", those out of scope."""
    classes = classes or tuple(sorted({*columns["intent"]} - {"oos"}))
    wanted = np.isin(columns["intent"], classes)
    split, texts = np.array(columns["split"]), np.array(columns["text"])
    rows = [np.flatnonzero(wanted & (split == name)) for name in ("train", "val", "test")]
    labels = [_numbered([columns["intent"][row] for row in part], classes) for part in rows]
    return tuple(from_arrays(texts[part], y, classes=list(classes)) for part, y in zip(rows, labels, strict=True))


def characters(columns: Columns, classes: tuple[str, ...]) -> tuple[Subset, Subset, Subset]:
    """Each character and the one behind it: of the first 90 % to train; of the rest for validation and test alike."""
    text = columns["text"][0]
    classes = classes or tuple(sorted(set(text)))
    numbers, cut = _numbered(list(text), classes), int(0.9 * len(text))
    train, rest = (from_arrays(part[:-1], part[1:], classes=list(classes)) for part in (numbers[:cut], numbers[cut:]))
    return train, rest, rest


def pronunciations(paths: list[Path], classes: tuple[str, ...]) -> tuple[Subset, None]:
    """Words, and the numbers of their phonemes `(n, phonemes)`, padded with 0; what one word may sound like is a group.

    The phonemes are those of ARPAbet without their stress, numbered from 1.
    """
    columns = read_csv(paths)
    words, spoken = np.array(columns["word"]), [_numbered(it.split(), classes) for it in columns["phonemes"]]
    labels = np.zeros((len(words), max(map(len, spoken))), np.int32)
    for row, phonemes in zip(labels, spoken, strict=True):
        row[: len(phonemes)] = phonemes
    return from_arrays(words, labels, classes=list(classes)).with_groups(words), None


def _numbered(values: list[str], classes: tuple[str, ...]) -> np.ndarray:
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers[value] for value in values], np.int32)


_CLINC = "https://raw.githubusercontent.com/clinc/oos-eval/828f8093932c8fe6ca7936c3d2e52903b1c523de/data/"
_UCI = "https://archive.ics.uci.edu/static/public/228/sms+spam+collection.zip"
_RNN = "https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/"
_CACHE = "datasets"
_REQUESTS = (
    Form((File("text_clinc150/clinc150.csv.gz", None),), read_csv),
    Form(
        tuple(File(f"text_clinc150/{name}", _CLINC + name) for name in ("data_full.json", "domains.json")), read_intents
    ),
)
_PHONEMES = "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
_SPOKEN = File("cmudict.csv.gz", None, "1de864d3a721f75333bda14aa8a89ef7cd6cebf1545efa2c67599894e0fa206e")
_REQUESTS_SHA256 = "b6690382dc0fdba7b688eb9cd040f0bbfdc6f0fcc3f0f68287a28ce4533bc06b"

ENTRIES = (
    Entry(
        "sms_spam",
        ("ham", "spam"),
        (),
        _CACHE,
        messages,
        0.1,
        forms=(
            Form((File("text_sms_spam/sms_spam.csv.gz", None),), read_csv),
            Form((File(f"text_sms_spam/{_SMS}", None),), read_sms),
            Form((File("text_sms_spam/sms+spam+collection.zip", _UCI),), read_sms),
        ),
        sha256="65b5ca6a9a53e43de4db2083292d3672b37f45281686cc64213d5560d6c88545",
        by="groups",
    ),
    Entry("intents", (), (), _CACHE, requests, None, forms=_REQUESTS, sha256=_REQUESTS_SHA256),
    Entry("intents_out_of_scope", ("oos",), (), _CACHE, requests, None, forms=_REQUESTS, sha256=_REQUESTS_SHA256),
    Entry("cmudict", ("", *_PHONEMES.split()), (_SPOKEN,), "datasets/cmudict", pronunciations, 0.05, 0.1, by="groups"),
    Entry(
        "shakespeare",
        (),
        (),
        _CACHE,
        characters,
        None,
        forms=(
            Form((File("text_tinyshakespeare/tinyshakespeare.txt.gz", None),), read_plays),
            Form((File("text_tinyshakespeare/input.txt", _RNN + "tinyshakespeare/input.txt"),), read_plays),
        ),
        sha256="a286fff7a81c61997479253d7372e93ca5e261610bac382b313d4e57d7ab30f1",
    ),
)
