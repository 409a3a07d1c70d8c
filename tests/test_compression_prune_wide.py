"""Pruning by layer, by one threshold, in patterns, and by importance, judged by the exported file."""

import keras
import numpy as np
import pytest

import masslib
from masslib import Cluster, Compressed, Prune, QuantizeAware, compress, export, measure, models
from masslib.compression.tfmot.importance import lamp, shares_below

QUICK = {"max_steps": 20, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def pruned(trained, digits):
    return lambda *steps: compress(trained, list(steps), digits.train, batch_size=32, verbose=False)


def _kernel(small, name):
    return small.model.get_layer(name).get_weights()[0]


def _zeros(small):
    return {
        layer.name: float(np.mean(layer.get_weights()[0] == 0))
        for layer in small.model.layers
        if hasattr(layer, "kernel")
    }


def _accuracy(model, data):
    x, y = data[:]
    return np.mean(np.argmax(model(x, training=False), 1) == y)


@pytest.mark.slow
def test_each_layer_gets_its_own_sparsity_also_in_the_file(pruned, tmp_path):
    wanted = {"conv1": 0.25, "dense1": 0.9}
    small = pruned(Prune(wanted, **QUICK))
    assert small.skipped.keys() == {"conv2", "dense2"}
    assert small.skipped["conv2"].endswith("is not named")
    zeros = _zeros(small)
    assert {name: zeros[name] for name in wanted} == pytest.approx(wanted, abs=0.005)
    assert zeros["conv2"] < 0.01 and zeros["dense2"] < 0.01
    table = measure.sparsity(export.tflite(small, tmp_path / "layers.tflite"))
    largest = table.loc[table["bytes"].idxmax()]
    assert largest["zeros"] == pytest.approx(0.9, abs=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("importance", [pytest.param("magnitude", marks=pytest.mark.exhaustive), "taylor"])
def test_one_threshold_for_all_kernels_reaches_the_sparsity_together(trained, digits, pruned, importance):
    small = pruned(Prune(0.8, scope="global", importance=importance, min_share=0, max_steps=60, learning_rate=1e-3))
    zeros = _zeros(small)
    sizes = {name: _kernel(small, name).size for name in zeros}
    assert sum(zeros[name] * size for name, size in sizes.items()) / sum(sizes.values()) == pytest.approx(0.8, abs=0.01)
    assert max(zeros.values()) - min(zeros.values()) > 0.1  # not the same for all
    assert max(zeros.values()) < 1
    assert zeros["conv1"] < zeros["dense1"]
    assert _accuracy(small.model, digits.test) > _accuracy(trained, digits.test) - 0.15


@pytest.mark.slow
def test_taylor_prunes_what_does_not_change_the_loss(digits):
    """Large weights on inputs that are always zero go first; by magnitude they would stay."""
    model = models.mlp((8,), 2, hidden=())
    model.compile(optimizer=keras.optimizers.SGD(1e-6), loss="sparse_categorical_crossentropy")
    name = next(layer.name for layer in model.layers if layer.weights)
    kernel = np.full((8, 2), 0.1, "float32") * np.linspace(1, 2, 16).reshape(8, 2)
    kernel[4:] += 5
    model.get_layer(name).set_weights([kernel, np.zeros(2)])
    x = np.random.default_rng(0).random((128, 8), "float32")
    x[:, 4:] = 0
    data = x, np.arange(128) % 2
    for schedule in ("polynomial", "constant"):
        small = compress(
            model, Prune(0.5, schedule, importance="taylor", max_steps=8), data, batch_size=32, verbose=False
        )
        found = _kernel(small, name) == 0
        assert found[4:].all() and not found[:4].any()
    by_size = compress(model, Prune(0.5, max_steps=8), data, batch_size=32, verbose=False)
    assert (_kernel(by_size, name) == 0)[:4].all()


@pytest.mark.slow
def test_two_in_four_consecutive_inputs_are_zero(pruned, tmp_path):
    small = pruned(Prune(0.5, pattern="2:4", **QUICK))
    assert "conv1" in small.skipped
    for kernel in (_kernel(small, "conv2"), _kernel(small, "dense1")):
        inputs_last = np.moveaxis(kernel, -2, -1)
        groups = inputs_last.reshape(-1, 4)
        assert (np.count_nonzero(groups, axis=1) <= 2).all()
        assert np.mean(kernel == 0) == pytest.approx(0.5, abs=0.01)
    weights = measure.weights(export.tflite(small, tmp_path / "pattern.tflite"))
    dense = max((w for w in weights.values() if w.ndim == 2), key=np.size)  # (units, inputs) in the file
    assert (np.count_nonzero(dense.reshape(-1, 4), axis=1) <= 2).all()
    with pytest.raises(ValueError, match=r"of which 2:4 would prune none"):
        pruned(Prune({"conv1": 0.5}, pattern="2:4"))


@pytest.mark.slow
def test_whole_blocks_of_dense_kernels_are_zero(pruned):
    small = pruned(Prune(0.75, pattern=(4, 1), **QUICK))
    assert small.skipped["conv2"].endswith("TFMOT prunes blocks of dense kernels only")
    kernel = _kernel(small, "dense1")
    blocks = np.count_nonzero(kernel.reshape(-1, 4, kernel.shape[1]), axis=1)
    assert set(np.unique(blocks)) <= {0, 4}
    assert np.mean(blocks == 0) == pytest.approx(0.75, abs=0.01)


@pytest.mark.slow
def test_each_layer_gets_its_own_number_of_clusters(pruned):
    small = pruned(Cluster({"conv2": 32, "dense1": 8}, **QUICK))
    assert small.skipped.keys() == {"conv1", "dense2"}
    assert 16 < len(np.unique(_kernel(small, "conv2"))) <= 32
    assert len(np.unique(_kernel(small, "dense1"))) <= 8


@pytest.mark.parametrize(
    "constraint", [pytest.param("max_norm", marks=pytest.mark.exhaustive), keras.constraints.MaxNorm(0.5)]
)
def test_constrained_kernels_stay_within_bounds(pruned, constraint):
    limit = 2 if constraint == "max_norm" else 0.5
    small = pruned(Prune({"dense1": 0.5}, constraint=constraint, **QUICK))
    norms = np.linalg.norm(_kernel(small, "dense1"), axis=0)
    assert norms.max() <= limit * 1.001
    assert _zeros(small)["dense1"] == pytest.approx(0.5, abs=0.001)
    assert small.model.get_layer("dense1").kernel_constraint is None


@pytest.mark.exhaustive
def test_other_steps_obey_constraints_too(pruned):
    aware = pruned(QuantizeAware(constraint="non_neg", **QUICK))
    (kernel,) = [w.numpy() for w in aware.model.weights if "dense1/kernel:" in w.name]
    assert kernel.min() >= 0 and kernel.max() > 0
    clustered = pruned(Cluster(8, constraint=keras.constraints.MaxNorm(0.5), **QUICK))
    assert np.linalg.norm(_kernel(clustered, "dense1"), axis=0).max() < 1


def test_the_wide_settings_are_kept_in_a_folder(trained, tmp_path):
    steps = (
        Prune({"dense1": 0.9}, constraint=keras.constraints.MaxNorm(3, axis=(0,))),
        Prune(0.5, pattern=(4, 1)),
        Cluster({"dense1": 8}),
    )
    Compressed(trained, steps).save(tmp_path / "kept")
    assert Compressed.load(tmp_path / "kept").steps == steps


def test_scores_of_kernels_can_be_compared():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(40, 5))
    np.testing.assert_allclose(lamp(kernel), lamp(1000 * kernel))
    assert (np.argsort(lamp(kernel), axis=None) == np.argsort(np.abs(kernel), axis=None)).all()
    shares = shares_below({"flat": np.ones(100), "steep": np.arange(100.0) + 2}, 0.6)
    assert shares == {"flat": 0.99, "steep": 0.2}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Prune({}), "expected a fraction above 0 .* or a dict from names of layers"),
        (lambda: Prune({"a": 1.0}), r"sparsity=\{'a': 1.0\}"),
        (lambda: Prune(0.5, scope="all"), "scope='all'.: expected one of 'layer', 'global'"),
        (lambda: Prune(0.5, importance="l1"), "importance='l1'.: expected one of 'magnitude', 'taylor'"),
        (lambda: Prune({"a": 0.5}, scope="global"), "pass one fraction for all"),
        (lambda: Prune(0.6, pattern="2:4"), "two zeros in four weights are a sparsity of 0.5"),
        (lambda: Prune(0.6, pattern="1:4"), "expected None, '2:4', or the rows and columns of a block"),
        (lambda: Prune(0.6, pattern=(0, 4)), r"pattern=\(0, 4\)"),
        (lambda: Prune(0.5, pattern=(2, 2), importance="taylor"), "goes with scope='layer' and importance='magnitude'"),
        (lambda: Prune(0.5, pattern="2:4", scope="global"), "goes with scope='layer'"),
        (lambda: Cluster({"a": 2}), "whole number of at least 3, such as 16, or a dict"),
        (lambda: Prune(0.5, constraint="small"), "constraint='small'.: expected a name such as 'max_norm'"),
        (lambda: QuantizeAware(constraint=3), "constraint=3.: expected a name"),
    ],
)
def test_impossible_settings_are_refused_when_made(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_unknown_layers_are_refused_with_those_there_are(pruned):
    with pytest.raises(ValueError, match="names fc1; the layers to choose from are conv1, conv2, dense1, dense2"):
        pruned(Prune({"fc1": 0.5}))
    with pytest.raises(ValueError, match="names conv9"):
        pruned(Cluster({"conv9": 8}))


@pytest.mark.exhaustive
def test_two_replicas_prune_by_taylor_and_obey_constraints(digits):
    with masslib.strategy("mirrored").scope():
        model = models.mlp(digits.input_shape, digits.num_classes, hidden=(32,))
        model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    step = Prune(0.7, scope="global", importance="taylor", constraint=keras.constraints.MaxNorm(0.8), **QUICK)
    small = compress(model, step, digits.train, batch_size=32, verbose=False)
    kernels = [layer.get_weights()[0] for layer in small.model.layers if layer.weights]
    assert sum((kernel == 0).sum() for kernel in kernels) / sum(map(np.size, kernels)) == pytest.approx(0.7, abs=0.01)
    assert max(np.linalg.norm(kernel, axis=0).max() for kernel in kernels) < 0.801
