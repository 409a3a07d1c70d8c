"""What processes tell each other arrives whole, whatever its size."""

import os
from unittest import mock

import psutil
import pytest

import masslib
from masslib.train.replicas import Replicas

pytestmark = pytest.mark.alone

CONTENTS = [(b"", b""), (b"x", b""), (b"", b"one" * 7), (bytes(range(256)) * 3, b"short"), (b"a" * 64, b"b" * 63)]


def _told(piece):
    replicas = Replicas(masslib.strategy("multi_worker"))
    with mock.patch("masslib.train.replicas._PIECE_BYTES", piece):
        gathered = [replicas.gather(pair[replicas.rank]) for pair in CONTENTS]
        return gathered, [replicas.broadcast(pair[replicas.rank]) for pair in CONTENTS]


@pytest.mark.parametrize("piece", [24, pytest.param(1 << 26, marks=pytest.mark.slow)])
def test_what_is_told_arrives_in_pieces_of_any_size(piece):
    for gathered, received in masslib.launch(_told, [piece], workers=2, threads=1):
        assert gathered == [list(pair) for pair in CONTENTS]
        assert received == [pair[0] for pair in CONTENTS]


def _told_much():
    replicas = Replicas(masslib.strategy("multi_worker"))
    content = os.urandom(1 << 20) * 2100
    received = replicas.broadcast(content if replicas.is_chief else b"")
    return len(received), received[: 1 << 20] == received[-(1 << 20) :]


@pytest.mark.exhaustive
def test_more_than_two_gib_arrive():
    if psutil.virtual_memory().available < 20e9:
        pytest.skip("it takes 20 GB of memory")
    assert masslib.launch(_told_much, workers=2, threads=1) == [(2100 << 20, True)] * 2
