"""Minutes of training instead of seconds: the accuracy that the notebooks promise, with room to spare."""

import keras
import pytest

import masslib
from masslib.train import scaled_schedule


@pytest.mark.exhaustive
def test_small_cnn_learns_fashion_mnist():
    splits = masslib.data.load("fashion_mnist")
    epochs, batch_size = 5, 128
    model = masslib.models.small_cnn(splits.input_shape, splits.num_classes)
    falling = scaled_schedule(1e-3, scale=1, steps=epochs * splits.train.steps(batch_size))
    model.compile(keras.optimizers.Adam(falling), "sparse_categorical_crossentropy", metrics=["accuracy"])
    masslib.fit(model, splits.train, validation_data=splits.valid, epochs=epochs, batch_size=batch_size, verbose=0)
    assert masslib.evaluate(model, splits.test).accuracy >= 0.905
