"""What earlier steps of a recipe won in layers that a later one does not treat."""

from __future__ import annotations

from collections.abc import Collection

import tf_keras

from masslib.compression.tfmot.support import is_clustered, is_sparse, kernel_name


def freeze_untreated(model: tf_keras.Model, treated: Collection[str]) -> None:
    """Freeze the layers with pruned or clustered kernels that a step leaves alone: training would undo both."""
    for layer in model.layers:
        if layer.name not in treated and (name := kernel_name(layer)):
            kernel = getattr(layer, name).numpy()
            if is_sparse(kernel) or is_clustered(kernel):
                layer.trainable = False
