"""Ratings of the catalog: who rated what when, as published or as gzipped CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from masslib.data.arrays import from_arrays
from masslib.data.sources import Columns, Entry, File, Form
from masslib.data.subset import Subset
from masslib.data.text_sets import read_csv


def read_table(paths: list[Path]) -> Columns:
    """Reads the compact form: columns user, movie, rating and time, and the genres of each film."""
    ratings, films = read_csv(paths[:1]), read_csv(paths[1:])
    return _sorted(ratings, films)


def read_dat(paths: list[Path]) -> Columns:
    """Reads the original: values of a rating, and of a film, between `::`."""
    ratings, films = ([line.split("::") for line in path.read_text("utf-8").split("\n") if line] for path in paths)
    rated = dict(zip(("user", "movie", "rating", "time"), map(list, zip(*ratings, strict=True)), strict=True))
    return _sorted(rated, {"movie": [film[0] for film in films], "genres": [film[2] for film in films]})


def _sorted(ratings: dict[str, list[str]], films: dict[str, list[str]]) -> Columns:
    """The ratings in the order of time, user and film, and the genres of the films in the order of their numbers."""
    numbers = {name: np.array(ratings[name]).astype(np.int64) for name in ("user", "rating", "time")}
    movies = np.array(ratings["movie"])
    order = np.lexsort((movies, numbers["user"], numbers["time"]))
    genres = dict(sorted(zip(films["movie"], films["genres"], strict=True)))
    return {
        **{name: values[order] for name, values in numbers.items()},
        "movie": movies[order].tolist(),
        "film": list(genres),
        "genres": list(genres.values()),
    }


def ratings(columns: Columns, classes: tuple[str, ...]) -> tuple[Subset, None]:
    """All ratings 0 to 10 (float32) of users and films, both numbered from 0 in the order of their names.

    `genres` is 1 for each of the film's genres, which are those of `GENRES`.
    """
    films, film = np.unique(columns["movie"], return_inverse=True)
    of = {name: number for number, name in enumerate(GENRES)}
    kinds = np.zeros((len(films), len(GENRES)), np.float32)
    known = dict(zip(columns["film"], columns["genres"], strict=True))
    for row, name in enumerate(films.tolist()):
        kinds[row, [of[genre] for genre in known[name].split("|") if genre]] = 1
    x = {
        "user": np.unique(columns["user"], return_inverse=True)[1].astype(np.int32),
        "movie": film.astype(np.int32),
        "time": columns["time"],
        "genres": kinds[film],
    }
    return from_arrays(x, columns["rating"].astype(np.float32)), None


_GENRES = (
    "Action,Adult,Adventure,Animation,Biography,Comedy,Crime,Documentary,Drama,Family,Fantasy,Film-Noir,History,Horror,"
    "Music,Musical,Mystery,News,Romance,Sci-Fi,Short,Sport,Thriller,War,Western"
)
GENRES = tuple(_GENRES.split(","))
"""The genres of "movietweetings", in the order of the columns of its input `genres`."""

_REPOSITORY = "https://raw.githubusercontent.com/RodolfoViana/MovieTweetings/004a80f1b271e900eea5a5e4b8b7ac6111db8095/"
_FOLDER = "ratings_movietweetings"

ENTRIES = (
    Entry(
        "movietweetings",
        (),
        (),
        "datasets",
        ratings,
        0.1,
        0.2,
        forms=(
            Form(tuple(File(f"{_FOLDER}/{name}.csv.gz", None) for name in ("ratings", "movies")), read_table),
            Form(
                tuple(
                    File(f"{_FOLDER}/{name}.dat", f"{_REPOSITORY}snapshots/100K/{name}.dat")
                    for name in ("ratings", "movies")
                ),
                read_dat,
            ),
        ),
        sha256="b44e0dbd65116b40a655b84a9c4a554f4c8ee6441e3116370754e448e2453888",
        by="time",
    ),
)
