"""Rows of varying length: padded per batch, grouped by length without losing what batches promise."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import masslib
from masslib.data import from_arrays, ragged

RNG = np.random.default_rng(0)
LENGTHS = RNG.integers(1, 40, 230)
WORDS = [RNG.integers(1, 9, length) for length in LENGTHS]
SOUNDS = [RNG.normal(size=(length, 2)) for length in LENGTHS]


@pytest.fixture(scope="module")
def subset():
    return from_arrays({"words": ragged(WORDS), "sound": ragged(SOUNDS, pad=-1)}, np.arange(230))


def test_batches_are_as_long_as_their_longest_row(subset):
    for x, y in subset.batches(16, seed=3):
        rows = y.numpy()
        assert x["words"].shape == (len(rows), LENGTHS[rows].max())
        for words, sound, row in zip(x["words"].numpy(), x["sound"].numpy(), rows, strict=True):
            np.testing.assert_array_equal(words[: LENGTHS[row]], WORDS[row])
            assert not words[LENGTHS[row] :].any()
            np.testing.assert_array_equal(sound[: LENGTHS[row]], SOUNDS[row].astype("float32"))
            assert (sound[LENGTHS[row] :] == -1).all()
        again = subset[rows][0]
        np.testing.assert_array_equal(again["words"], x["words"])
        np.testing.assert_array_equal(again["sound"], x["sound"])
    assert subset.input_shape == {"words": (None,), "sound": (None, 2)}
    assert subset.select(np.array([5, 2]))[0][0]["words"].tolist() == WORDS[5].tolist()


def test_rows_of_similar_length_meet_and_each_comes_once(subset):
    grouped = subset.group_by_length()
    batches = [y.numpy() for _, y in grouped.batches(8, seed=1, epochs=2)]
    for epoch in (batches[:29], batches[29:]):
        assert sorted(np.concatenate(epoch)) == list(range(230))
        assert np.mean([np.ptp(LENGTHS[rows]) for rows in epoch]) < 3
        first = [LENGTHS[rows].max() for rows in epoch[:-1]]
        assert first != sorted(first)  # the short ones do not come first
    assert [rows.tolist() for rows in batches[:29]] != [rows.tolist() for rows in batches[29:]]


def test_grouped_batches_go_on_and_are_shared_out_as_others(subset):
    grouped = subset.group_by_length()
    whole = [y.numpy() for _, y in grouped.batches(8, seed=1, epochs=2)]
    later = [y.numpy() for _, y in grouped.batches(8, seed=1, epoch=1, start=3)]
    for found, expected in zip(later, whole[32:], strict=True):
        np.testing.assert_array_equal(found, expected)
    parts = [[y.numpy() for _, y in grouped.batches(8, seed=1, replicas=2, shard=(rank, 2))] for rank in (0, 1)]
    together = [np.concatenate(pair) for pair in zip(*parts, strict=True)]
    for found, expected in zip(together, [y.numpy() for _, y in grouped.batches(8, seed=1, replicas=2)], strict=True):
        np.testing.assert_array_equal(found, expected)
    plain = [y.numpy() for _, y in grouped.batches(8, shuffle=False)]
    assert np.concatenate(plain).tolist() == list(range(230))


def test_a_masked_network_trains_as_on_rows_padded_to_the_longest_of_all(subset):
    def model():
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Embedding(9, 4, mask_zero=True), keras.layers.LSTM(3), keras.layers.Dense(1)]
        made = keras.Sequential([keras.Input((None,), dtype="int64"), *layers])
        made.compile("sgd", "mse")
        return made

    y = (LENGTHS % 2).astype("float32")[:, None]
    whole = ragged(WORDS).raw(slice(None))  # padded to the longest of all; the mask makes no difference of it
    expected = model().fit(whole, y, batch_size=32, epochs=2, shuffle=False, verbose=0).history["loss"]
    found = masslib.fit(model(), from_arrays(ragged(WORDS), y), batch_size=32, epochs=2, shuffle=False, verbose=0)
    assert found.history["loss"] == pytest.approx(expected, rel=1e-5)


def test_ragged_tensors_and_lists_are_the_same():
    tensor = tf.ragged.constant([[7, 2], [5], [3, 1, 4]])
    np.testing.assert_array_equal(ragged(tensor).raw([0, 2]), ragged([[7, 2], [5], [3, 1, 4]]).raw([0, 2]))


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([], {}, "rows is empty"),
        ([[1], []], {}, r"row 1 has shape \(0,\)"),
        ([np.zeros((2, 3)), np.zeros((2, 4))], {}, "2 shapes of one step"),
        ([3, 4], {}, r"row 0 has shape \(\)"),
        ([["a"], ["b", "c"]], {}, "dtype <U1"),
        ([[1.0], [np.nan, 2]], {}, "NaN or infinity"),
        ([[1], [2, 3]], {"pad": 0.5}, "pad is 0.5, which int64 cannot hold"),
    ],
)
def test_what_is_not_ragged_is_refused(rows, options, words):
    with pytest.raises(ValueError, match=words):
        ragged(rows, **options)


def test_grouping_needs_lengths():
    plain = from_arrays(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="has no ragged field; pass the lengths"):
        plain.group_by_length()
    with pytest.raises(ValueError, match=r"lengths has shape \(2,\), expected \(4,\)"):
        plain.group_by_length([1, 2])
    assert len(list(plain.group_by_length([1, 2, 3, 4]).batches(2))) == 2
