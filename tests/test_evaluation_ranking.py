from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from masslib.evaluation import evaluate

RNG = np.random.default_rng(0)


class Echo:
    """A model whose outputs are its inputs."""

    def predict(self, x):
        return x


def rank(outputs, y, **options):
    return evaluate(Echo(), (outputs, y), task="ranking", **options)


@pytest.mark.parametrize("levels", [1000, 4], ids=["distinct", "many ties"])
@pytest.mark.parametrize("k", [1, 5, 100])
def test_ndcg_is_what_scikit_learn_says_ties_included(levels, k):
    scores, relevance = RNG.integers(0, levels, (200, 30)).astype(float), RNG.integers(0, 3, (200, 30))
    assert rank(scores, relevance, k=k).ndcg_at_k == pytest.approx(metrics.ndcg_score(relevance, scores, k=k))


def test_recall_counts_the_items_among_the_first_k_and_ties_are_no_gift():
    scores = np.array([[0.9, 0.8, 0.1, 0.0], [0.1, 0.2, 0.3, 0.4]])
    result = rank(scores, np.array([[1, 0, 1, 0], [0, 0, 0, 1]]), k=2)
    assert (result.recall_at_k, result.counted) == (0.75, 2)
    assert repr(result).startswith("Evaluation(ranking, n=2: recall@2 0.75 [")
    item = RNG.integers(0, 20, 300)
    assert rank(np.zeros((300, 20)), item, k=5).recall_at_k == pytest.approx(5 / 20)
    found = rank(np.log(RNG.random((300, 20))), item, k=3)
    expected = metrics.top_k_accuracy_score
    shown = np.log(RNG.random((300, 20)))
    assert rank(shown, item, k=3).recall_at_k == pytest.approx(expected(item, shown, k=3, labels=np.arange(20)))
    assert found.intervals["recall_at_k"][0] < found.recall_at_k < found.intervals["recall_at_k"][1]


def test_rows_are_grouped_by_user_and_users_who_want_nothing_are_left_out():
    users = RNG.permutation(np.repeat([f"user {i}" for i in range(60)], RNG.integers(1, 9, 60)))
    scores, relevance = RNG.normal(size=len(users)), RNG.random(len(users)) < 0.3
    result = rank(scores[:, None], relevance, groups=users, k=3)
    gains, recalls = [], []
    for user in np.unique(users):
        mine = users == user
        if mine.sum() > 1 and relevance[mine].any():
            gains.append(metrics.ndcg_score([relevance[mine]], [scores[mine]], k=3))
            best = np.argsort(-scores[mine])[:3]
            recalls.append(relevance[mine][best].sum() / relevance[mine].sum())
    assert (result.counted, result.n) == (len(gains), len(users))
    assert result.metrics == pytest.approx({"recall_at_k": np.mean(recalls), "ndcg_at_k": np.mean(gains)})


def test_errors_say_what_is_wrong():
    scores = RNG.normal(size=(8, 1))
    for y, options, words in (
        (np.ones(8), {}, "one score per row; pass groups="),
        (np.ones(8), {"groups": np.zeros(7)}, r"groups has shape \(7,\); expected the user of each row, \(8,\)"),
        (np.zeros(8), {"groups": np.zeros(8)}, "no user has a relevant item"),
        (-np.ones(8), {"groups": np.zeros(8)}, "expected relevance of at least 0"),
    ):
        with pytest.raises(ValueError, match=words):
            rank(scores, y, **options)
    with pytest.raises(ValueError, match="items from 3 to 3; expected indices below 3"):
        rank(np.zeros((4, 3)), np.full(4, 3))
    with pytest.raises(ValueError, match="sample_weight is not used in rankings"):
        evaluate(Echo(), (np.zeros((4, 3)), np.arange(4) % 3, np.ones(4)), task="ranking")


def test_users_may_stand_in_an_input():
    class Scores:
        def predict(self, x):
            return x["score"]

    users = np.repeat(np.arange(40), 5)
    x = {"user": users[:, None], "score": RNG.normal(size=(200, 1))}
    y = RNG.random(200) < 0.4
    named = evaluate(Scores(), (x, y), task="ranking", groups="user", k=2, batch_size=32)
    assert named == rank(x["score"], y, groups=users, k=2)
    with pytest.raises(ValueError, match="groups='who': expected the name of an input .*; the inputs have user, score"):
        evaluate(Scores(), (x, y), task="ranking", groups="who")
