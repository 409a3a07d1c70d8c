"""The stream of a packed file can be read without the package that wrote it, by what docs/packed.md says."""

import numpy as np
import pytest

from masslib.runtime.packed.coder import Cost, Decoder, Encoder

ONE = 1 << 24


class Reader:
    """The range decoder of docs/packed.md, symbol by symbol."""

    def __init__(self, stream):
        self.words = np.frombuffer(stream, "<u4").tolist()
        self.lower, self.range = 0, 2**64 - 1
        self.point = 0
        for _ in range(2):
            self._shift_in()

    def _shift_in(self):
        self.point = (self.point << 32 | (self.words.pop(0) if self.words else 0)) % 2**64

    def symbol(self, probabilities):
        free, total = ONE - len(probabilities), sum(probabilities)
        sums = np.cumsum([0.0, *probabilities])
        edges = [int(free / total * value) + place for place, value in enumerate(sums[:-1])] + [ONE]
        scale = self.range >> 24
        place = (self.point - self.lower) % 2**64 // scale
        symbol = next(i for i in range(len(probabilities)) if edges[i] <= place < edges[i + 1])
        self.lower = (self.lower + scale * edges[symbol]) % 2**64
        self.range = scale * (edges[symbol + 1] - edges[symbol])
        if self.range < 2**32:
            self.lower, self.range = (self.lower << 32) % 2**64, self.range << 32
            self._shift_in()
        return symbol


@pytest.fixture(scope="module")
def coded():
    rng = np.random.default_rng(0)
    ones = rng.integers(16, 65536 - 16, 400)
    bits = (rng.random(400) < ones / 65536).astype(np.int64)
    counts = rng.random(17) * 30 + 0.1
    symbols = rng.choice(17, 300, p=counts / counts.sum())
    encoder = Encoder()
    for code in (encoder, cost := Cost()):
        code.bits(ones, bits)
        code.symbols(counts, 300, symbols)
    return ones, bits, counts, symbols, encoder.finish(), cost


def test_both_directions_agree(coded):
    ones, bits, counts, symbols, stream, _ = coded
    decoder = Decoder(stream)
    assert np.array_equal(decoder.bits(ones), bits)
    assert np.array_equal(decoder.symbols(counts, 300), symbols)


def test_the_document_tells_how_to_read_it(coded):
    ones, bits, counts, symbols, stream, _ = coded
    reader = Reader(stream)
    assert [reader.symbol([1 - one / 65536, one / 65536]) for one in ones.tolist()] == bits.tolist()
    assert [reader.symbol(counts.tolist()) for _ in range(300)] == symbols.tolist()


def test_the_cost_is_the_length_of_the_stream(coded):
    *_, stream, cost = coded
    assert 8 * len(stream) == pytest.approx(cost.bits_spent, abs=64)
