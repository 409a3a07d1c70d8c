"""load: ratings of films; the published form and the compact one give the same rows, split by time."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import os

import numpy as np
import pytest

from masslib.data import catalog, load, rating_sets, sources

real = pytest.mark.skipif(
    not os.environ.get("MASSLIB_DATA"),
    reason="MASSLIB_DATA does not name the folder of the data sets, see docs/datasets.md",
)
ENTRY = catalog.CATALOG["movietweetings"]
FILMS = [("0007", "Ivan (1915)", "Drama|War"), ("0010", "Zoo: A (B) (2000)", ""), ("1234567", "É (2013)", "Comedy")]


@pytest.fixture
def forms(tmp_path):
    """The entry, the folders of the published and the compact form, and the ratings in the order of time."""
    random = np.random.default_rng(0)
    rows = [(str(random.integers(5, 30)), FILMS[k % 3][0], str(random.integers(11)), str(9000 - k)) for k in range(100)]
    published, compact = tmp_path / "published", tmp_path / "compact"
    for folder in (published, compact):
        folder.mkdir()
    (published / "ratings.dat").write_text("".join("::".join(row) + "\n" for row in rows), "utf-8")
    (published / "movies.dat").write_text("".join("::".join(film) + "\n" for film in FILMS), "utf-8")
    rows = rows[::-1]
    tables = {
        "ratings": [("user", "movie", "rating", "time"), *rows],
        "movies": [("movie", "title", "year", "genres"), *((film, "t", "y", kinds) for film, _, kinds in FILMS)],
    }
    for name, lines in tables.items():
        with gzip.open(compact / f"{name}.csv.gz", "wt", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows(lines)
    columns = ENTRY.forms[1].read([published / "ratings.dat", published / "movies.dat"])
    return dataclasses.replace(ENTRY, sha256=sources.fingerprint(columns)), published, compact, rows


def test_both_forms_give_the_ratings_in_the_order_of_time(forms):
    entry, published, compact, rows = forms
    users = sorted({int(user) for user, *_ in rows})
    films = [film for film, *_ in FILMS]
    for folder in (published, compact):
        splits = load(entry, folder=folder)
        assert repr(splits) == "Splits(train=70, valid=10, test=20, classes=None)"
        parts = [part[:] for part in (splits.train, splits.valid, splits.test)]
        x = {name: np.concatenate([part[0][name] for part in parts]) for name in parts[0][0]}
        assert x["user"].tolist() == [users.index(int(user)) for user, *_ in rows]
        assert x["movie"].tolist() == [films.index(movie) for _, movie, *_ in rows]
        assert x["time"].tolist() == [int(time) for *_, time in rows]
        assert np.concatenate([part[1] for part in parts]).tolist() == [float(rating) for *_, rating, _ in rows]
        for movie, genres in zip(x["movie"], x["genres"], strict=True):
            found = [rating_sets.GENRES[k] for k in np.flatnonzero(genres)]
            assert found == [kind for kind in FILMS[movie][2].split("|") if kind]


@real
def test_the_real_ratings_are_whole():
    splits = load("movietweetings")
    assert repr(splits) == "Splits(train=70000, valid=10000, test=20000, classes=None)"
    parts = [part[:] for part in (splits.train, splits.valid, splits.test)]
    assert len({user for x, _ in parts for user in x["user"]}) == 16_554
    assert len({movie for x, _ in parts for movie in x["movie"]}) == 10_506
    assert (
        parts[0][0]["time"].max() < parts[1][0]["time"].min() <= parts[1][0]["time"].max() < parts[2][0]["time"].min()
    )
