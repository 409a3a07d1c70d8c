"""What may come next in a search holds what does come next, and no more than it was asked for."""

import numpy as np
import pytest

from masslib.selection.ahead import may_come_next
from masslib.selection.candidates import Family, next_candidate
from masslib.selection.trials import Trial

FAMILIES = [Family("one", list, single=True), Family("weak", list), Family("strong", list)]


def tried(candidate, accepted, score):
    return Trial(candidate.name, candidate.family.name, candidate.strength, "", bool(accepted), (float(score),), {})


def test_at_the_beginning_every_family_is_sure_to_come():
    wave = may_come_next(FAMILIES, [], 3, 12)
    assert [candidate.name for candidate in wave] == ["one", "weak @ 50 %", "strong @ 50 %"]


@pytest.mark.parametrize("seed", range(5))
def test_the_next_turns_are_among_what_may_come_whatever_becomes_of_them(seed):
    """Accepted trials lead, as the stronger one of a family does; then two turns never need more than three trials."""
    rng, trials = np.random.default_rng(seed), []
    while (candidate := next_candidate(FAMILIES, trials)) is not None:
        wave = [each.name for each in may_come_next(FAMILIES, trials, 3, 2)]
        assert wave[0] == candidate.name
        assert len(set(wave)) == len(wave) <= 3
        trials.append(tried(candidate, rng.random() < 0.5, -len(trials)))
        following = next_candidate(FAMILIES, trials)
        assert following is None or following.name in wave
    assert len(trials) > 5
    assert may_come_next(FAMILIES, trials, 3, 2) == []


def test_no_more_is_made_than_there_are_turns_and_places():
    assert len(may_come_next(FAMILIES, [], 8, 1)) == 1
    assert len(may_come_next(FAMILIES, [], 2, 8)) == 2
