"""Pruning sets its own masks: they must be those of TFMOT."""

import numpy as np
import pytest

from masslib import Prune, bridge, compress, fit, models
from masslib.compression.tfmot.toolkit import tfmot


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["polynomial", "constant"])
def test_the_weights_are_those_that_tfmot_alone_leaves(digits, schedule):
    model = models.mlp(digits.input_shape, digits.num_classes)
    model.compile("adam", "sparse_categorical_crossentropy")
    fit(model, digits.train, batch_size=32, epochs=1, verbose=0)
    small = compress(model, Prune(0.9, schedule, max_steps=20, min_share=0), digits.train, batch_size=32, verbose=False)

    sparsity = tfmot().sparsity.keras
    schedules = {
        "polynomial": sparsity.PolynomialDecay(0.0, 0.9, begin_step=0, end_step=12, frequency=1),
        "constant": sparsity.ConstantSparsity(0.9, begin_step=1, frequency=2),
    }
    wrapped = sparsity.prune_low_magnitude(bridge.to_tf_keras(model), schedules[schedule])
    bridge.compile_like(wrapped, model)
    wrapped.fit(digits.train.batches(32).take(20), verbose=0, callbacks=[sparsity.UpdatePruningStep()])
    theirs = sparsity.strip_pruning(wrapped).get_weights()

    assert np.mean(theirs[0] == 0) == pytest.approx(0.9, abs=1e-3)
    for a, b in zip(small.model.get_weights(), theirs, strict=True):
        np.testing.assert_array_equal(a == 0, b == 0)
        np.testing.assert_allclose(a, b, atol=1e-5)
