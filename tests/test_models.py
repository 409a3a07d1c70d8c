import numpy as np
import pytest

from masslib import models


@pytest.mark.parametrize(
    ("build", "weights"), [(models.small_cnn, 3_221_898), (models.lenet5, 431_080), (models.mlp, 266_610)]
)
def test_networks_have_the_published_size_and_give_probabilities(build, weights):
    model = build((28, 28, 1), 10)
    assert model.count_params() == weights
    answers = np.asarray(model(np.random.default_rng(0).random((3, 28, 28, 1), "float32")))
    np.testing.assert_allclose(answers.sum(1), 1, rtol=1e-6)


def test_the_seed_decides_the_weights():
    first, again, other = (models.mlp((4,), 3, seed=seed).get_weights() for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first[0] != other[0]).any()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: models.small_cnn((28, 28), 10), r"input_shape=\(28, 28\): expected \(height, width, chan"),
        (lambda: models.mlp((), 3), r"input_shape=\(\): expected a shape such as \(columns,\)"),
        (lambda: models.mlp((0,), 3), "positive integers"),
        (lambda: models.mlp((4,), 1), "num_classes=1: a classifier needs at least 2"),
        (lambda: models.lenet5((8, 8, 1), 10), "at least 16 x 16.*resize"),
    ],
)
def test_impossible_networks_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
