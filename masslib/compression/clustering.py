"""Clustering: the weights of a kernel share a few values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from masslib.bridge import support
from masslib.bridge.equality import copy_weights
from masslib.bridge.toolkit import tfmot
from masslib.compression.centroids import clusterable_copy
from masslib.compression.finetune import Tuner
from masslib.compression.step import Training, check_min_share, split

if TYPE_CHECKING:
    import tf_keras

_STARTS = {"kmeans++": "KMEANS_PLUS_PLUS", "linear": "LINEAR"}


@dataclass(frozen=True, repr=False)
class Cluster(Training):
    """Let all weights of a kernel share a few values, the centroids, while fine-tuning.

    A file with few distinct values gets smaller when it is compressed: 16 of them need 4 bits and less. The method
    is that of Han et al., "Deep Compression", 2016, by way of TFMOT. What was pruned before stays zero: zero is
    one of the centroids then.

    Layers with next to none of the weights are left alone, as in `Prune`, and so are depthwise kernels.

    Args:
        clusters: Distinct values per kernel, zero included, at least 3. A kernel with fewer distinct weights gets
            as many centroids as it has.
        start: Where the centroids start: `"kmeans++"`, or `"linear"` for even distances.
        min_share: Kernels with a smaller share of the model's weights are skipped, and reported as such; 0
            clusters all of them.
        epochs: Passes over the data.
        max_steps: Upper limit of the training steps (batches), whatever the epochs.
        learning_rate: Of the fine-tuning; that of the model's own optimizer if absent.

    Raises:
        ValueError: If there are fewer than 3 clusters or the start is unknown.

    Example:
        >>> Cluster(16, max_steps=200)
        Cluster(16, max_steps=200)
    """

    order = 1

    clusters: int = 16
    start: str = "kmeans++"
    min_share: float = support.MIN_SHARE

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.clusters, int) or isinstance(self.clusters, bool) or self.clusters < 3:
            raise ValueError(f"Cluster(clusters={self.clusters!r}): expected a whole number of at least 3, such as 16")
        if self.start not in _STARTS:
            raise ValueError(f"Cluster(start={self.start!r}): expected one of {', '.join(map(repr, _STARTS))}")
        check_min_share(self)

    def apply(self, twin: tf_keras.Model, tuner: Tuner) -> tuple[tf_keras.Model, dict[str, str]]:
        """Return a clustered and fine-tuned tf_keras model, and the layers left alone with the reason."""
        import tf_keras

        chosen, skipped = split(self, self._reasons(twin))

        def wrapped(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
            return self._wrapped(layer) if layer.name in chosen else layer.__class__.from_config(layer.get_config())

        clustered = tf_keras.models.clone_model(twin, clone_function=wrapped)
        for layer in twin.layers:
            if layer.weights and layer.name not in chosen:
                clustered.get_layer(layer.name).set_weights(layer.get_weights())
        tuner.fit(clustered, self)
        result = tf_keras.models.clone_model(twin)
        copy_weights(tfmot().clustering.keras.strip_clustering(clustered), result)
        return result, skipped

    def _reasons(self, twin: tf_keras.Model) -> dict[str, str]:
        reasons = support.clusterable(twin, self.min_share)
        for name, reason in reasons.items():
            found = len(np.unique(_kernel(twin.get_layer(name))))
            if not reason and found < 4:
                reasons[name] = f"has no more than {found} distinct weights already"
        return reasons

    def _wrapped(self, layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        clustering = tfmot().clustering.keras
        kernel = _kernel(layer)
        copy = clusterable_copy(layer)
        copy.build(layer.input_shape)
        copy.set_weights(layer.get_weights())
        return clustering.cluster_weights(
            copy,
            number_of_clusters=min(self.clusters, len(np.unique(kernel))),
            cluster_centroids_init=getattr(clustering.CentroidInitialization, _STARTS[self.start]),
            preserve_sparsity=support.is_sparse(kernel),
        )


def _kernel(layer: tf_keras.layers.Layer) -> np.ndarray:
    return getattr(layer, support.kernel_name(layer)).numpy()
