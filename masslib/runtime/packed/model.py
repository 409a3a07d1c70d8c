"""How probable each weight is, given those before it: the model that the range coder is driven by.

Everything here runs alike in both directions. Probabilities adapt after each block of weights, never within one, so
that NumPy works on whole blocks.
"""

from __future__ import annotations

import numpy as np

from masslib.runtime.packed.coder import Code

# Odds from 1 : 256 to 256 : 1, by factors of two, as shares of 65536
_ODDS = np.array([(65536 << i) // ((1 << i) + 256) for i in range(17)])
_ODDS_CLASSES = len(_ODDS) + 1
_LEAST, _MOST = 16, 65536 - 16
# Relative magnitudes of columns, by factors of about the square root of two
_MAGNITUDES = np.array([0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8])
_FIRST_BLOCK, _LARGEST_BLOCK = 64, 16384
_PRIOR_COUNTS = 16
_SMEAR = (1 / 9, 2 / 9, 3 / 9, 2 / 9, 1 / 9)


def zero_map(code: Code, shape: tuple[int, int], lag: int, by_row: bool, nonzero: np.ndarray | None) -> np.ndarray:
    """Code which entries of a matrix are not zero, row by row.

    The probability of an entry is counted among the entries before it that are alike in how often their column was
    not zero, in the entries one row and `lag` rows above, and, `by_row`, in how many entries of their row are not zero,
    a number that is coded first (to within a half).

    Args:
        code: Encoder or decoder.
        shape: Rows and columns.
        lag: Distance of the second row that is looked at, such as the width of an image whose pixels are the rows.
        by_row: Whether the numbers of the rows are coded.
        nonzero: The matrix of zeros and ones; None to decode.
    """
    rows, columns = shape
    found = np.zeros(shape, np.uint8)
    in_column = np.zeros(columns, np.int64)
    seen = np.zeros((2, 4 * _ODDS_CLASSES * _ODDS_CLASSES), np.int64)  # entries, and those that are not zero
    totals = np.ones(2 * columns.bit_length() + 2)
    ones = 0
    for row in range(rows):
        entries = None if nonzero is None else nonzero[row]
        overall = ((ones << 16) + 32768) // (row * columns + 1)
        if by_row:
            overall = (_row_total(code, totals, entries) << 16) // (2 * columns)
        overall = min(max(overall, _LEAST), _MOST)
        context = np.searchsorted(_ODDS, ((in_column << 16) + 2 * overall) // (row + 2)) * (4 * _ODDS_CLASSES)
        context += 4 * int(np.searchsorted(_ODDS, overall))
        if row >= 1:
            context += found[row - 1]
        if row >= lag:
            context += 2 * found[row - lag]
        probability = ((seen[1][context] << 16) + 2 * overall) // (seen[0][context] + 2)
        found[row] = code.bits(np.minimum(np.maximum(probability, _LEAST), _MOST), entries)
        seen[0] += np.bincount(context, minlength=seen.shape[1])
        seen[1] += np.bincount(context[found[row] != 0], minlength=seen.shape[1])
        in_column += found[row]
        ones += int(found[row].sum())
    return found


def _row_total(code: Code, totals: np.ndarray, entries: np.ndarray | None) -> int:
    """Code how many entries of a row are not zero, as one of two steps per octave; twice the middle of the step."""
    step = None if entries is None else np.array([_step(int(entries.sum()))])
    found = int(code.symbols(totals, 1, step)[0])
    totals[found] += 2
    for near in (found - 1, found + 1):
        if 0 <= near < len(totals):
            totals[near] += 0.5
    if found < 2:
        return 2 * found
    low = (2 + (found & 1)) << (found // 2 - 1)
    return 2 * low + (1 << (found // 2 - 1)) - 1


def _step(number: int) -> int:
    if number < 2:
        return number
    bits = number.bit_length()
    return 2 * (bits - 1) + (number >> (bits - 2) & 1)


def numbers(
    code: Code,
    places: np.ndarray,
    columns: int,
    limits: tuple[int, int],
    scale: float,
    *,
    smear: bool,
    by_column: bool,
    zeros: bool,
    values: np.ndarray | None,
) -> np.ndarray:
    """Code whole numbers within limits, in blocks that grow, by how often each of them came before.

    What came before counts besides a Student's t distribution (7 degrees of freedom), so that little has to be learned
    about numbers that behave like weights.

    Args:
        code: Encoder or decoder.
        places: The column of every number.
        columns: How many columns there are.
        limits: The least and the largest number.
        scale: That of the distribution.
        smear: Whether a number makes its neighbours more probable, too: for weights on a line, not for centroids.
        by_column: Whether to count apart in columns of different mean magnitude.
        zeros: Whether there can be zeros among them.
        values: The numbers; None to decode.
    """
    low, high = limits
    prior = _student(np.arange(low, high + 1), scale)
    if not zeros and low <= 0 <= high:
        prior[-low] = 1e-9
    counts = np.tile(prior * (_PRIOR_COUNTS / prior.sum()), (len(_MAGNITUDES) + 1 if by_column else 1, 1))
    found = np.zeros(len(places), np.int64)
    magnitudes, sizes = np.zeros(columns), np.zeros(columns)
    start, length = 0, _FIRST_BLOCK
    while start < len(places):
        block = slice(start, min(start + length, len(places)))
        given = None if values is None else values[block] - low
        if by_column:
            here = places[block]
            mean = (magnitudes.sum() + 1) / (sizes.sum() + 1)
            relative = (magnitudes + 4 * mean) / (sizes + 4) / mean
            found[block] = _by_class(code, counts, np.searchsorted(_MAGNITUDES, relative)[here], given, smear)
            magnitudes += np.bincount(here, np.abs(found[block] + low), columns)
            sizes += np.bincount(here, minlength=columns)
        else:
            found[block] = code.symbols(counts[0], block.stop - start, given)
            _learn(counts[0], found[block], smear)
        start, length = block.stop, min(length * 5 // 4, _LARGEST_BLOCK)
    return found + low


def _by_class(
    code: Code, counts: np.ndarray, classes: np.ndarray, values: np.ndarray | None, smear: bool
) -> np.ndarray:
    found = np.zeros(len(classes), np.int64)
    for kind in np.flatnonzero(np.bincount(classes)):
        members = np.flatnonzero(classes == kind)
        found[members] = code.symbols(counts[kind], len(members), None if values is None else values[members])
        _learn(counts[kind], found[members], smear)
    return found


def _learn(counts: np.ndarray, found: np.ndarray, smear: bool) -> None:
    new = np.bincount(found, minlength=len(counts)).astype("float64")
    if not smear or len(counts) < len(_SMEAR):
        counts += new
        return
    padded = np.pad(new, 2)
    for offset, share in enumerate(_SMEAR):  # in this order on every machine
        counts += share * padded[offset : offset + len(counts)]


def _student(values: np.ndarray, scale: float) -> np.ndarray:
    density = 1 / (1 + values * values / (7 * scale * scale))
    return density * density * density * density
