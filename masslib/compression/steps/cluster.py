"""Clustering: the weights of a kernel share a few values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tf_keras

from masslib.compression.finetune import Tuner
from masslib.compression.step import check_min_share, split
from masslib.compression.steps.constraints import Constrained, constrained
from masslib.compression.steps.per_layer import narrowed, value_of, values_of
from masslib.compression.tfmot import support
from masslib.compression.tfmot.centroids import clusterable_copy
from masslib.compression.tfmot.importance import kernel_of
from masslib.compression.tfmot.keeping import freeze_untreated
from masslib.compression.tfmot.toolkit import tfmot
from masslib.graph.weights import copy_weights

_STARTS = {"kmeans++": "KMEANS_PLUS_PLUS", "linear": "LINEAR"}


@dataclass(frozen=True, repr=False)
class Cluster(Constrained):
    """Let all weights of a kernel share a few values, the centroids, while fine-tuning.

    A file with few distinct values gets smaller when it is compressed: 16 of them need 4 bits and less. The method
    is that of Han et al., "Deep Compression", 2016, by way of TFMOT. What was pruned before stays zero: zero is
    one of the centroids then.

    Layers with next to none of the weights are left alone, as in `Prune`, and so are depthwise kernels.

    Args:
        clusters: Distinct values per kernel, zero included, at least 3; or a dict from the names of layers to their
            numbers, which leaves all other layers alone. A kernel with fewer distinct weights gets as many centroids
            as it has.
        start: Where the centroids start: `"kmeans++"`, or `"linear"` for even distances.
        min_share: Kernels with a smaller share of the model's weights are skipped, and reported as such; 0
            clusters all of them. Layers that `clusters` names are clustered however small they are.
        epochs: Passes over the data.
        max_steps: Upper limit of the training steps (batches), whatever the epochs.
        learning_rate: Of the fine-tuning; that of the model's own optimizer if absent.
        constraint: What the weights are projected on after every batch, as in `Prune`; those behind the centroids,
            that is, so the centroids may exceed it slightly.

    Raises:
        ValueError: If there are fewer than 3 clusters or the start is unknown.

    Example:
        >>> Cluster(16, max_steps=200)
        Cluster(16, max_steps=200)
    """

    order = 4

    clusters: int | Mapping[str, int] = 16
    start: str = "kmeans++"
    min_share: float = support.MIN_SHARE

    def __post_init__(self) -> None:
        super().__post_init__()
        for value in values_of(self.clusters):
            if not isinstance(value, int) or isinstance(value, bool) or value < 3:
                raise ValueError(
                    f"Cluster(clusters={self.clusters!r}): expected a whole number of at least 3, such as 16, "
                    "or a dict from names of layers to numbers"
                )
        if self.start not in _STARTS:
            raise ValueError(f"Cluster(start={self.start!r}): expected one of {', '.join(map(repr, _STARTS))}")
        check_min_share(self)

    def apply(self, twin: tf_keras.Model, tuner: Tuner) -> tuple[tf_keras.Model, dict[str, str]]:
        """Return a clustered and fine-tuned tf_keras model, and the layers left alone with the reason."""
        chosen, skipped = split(self, self._reasons(twin))
        model = constrained(twin, self.constraint, chosen)
        freeze_untreated(model, chosen)

        def wrapped(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
            return self._wrapped(layer) if layer.name in chosen else layer.__class__.from_config(layer.get_config())

        clustered = tf_keras.models.clone_model(model, clone_function=wrapped)
        for layer in model.layers:
            if layer.weights and layer.name not in chosen:
                clustered.get_layer(layer.name).set_weights(layer.get_weights())
        tuner.fit(clustered, self)
        result = tf_keras.models.clone_model(twin)
        copy_weights(tfmot().clustering.keras.strip_clustering(clustered), result)
        return result, skipped

    def _reasons(self, twin: tf_keras.Model) -> dict[str, str]:
        reasons = support.clusterable(twin, 0 if isinstance(self.clusters, Mapping) else self.min_share)
        for name in [name for name, reason in reasons.items() if not reason]:
            found = len(np.unique(kernel_of(twin.get_layer(name))))
            if found < 4:
                reasons[name] = f"has no more than {found} distinct weights already"
        return narrowed(self, self.clusters, reasons)

    def _wrapped(self, layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        clustering = tfmot().clustering.keras
        kernel = kernel_of(layer).numpy()
        copy = clusterable_copy(layer)
        copy.build(layer.input_shape)
        copy.set_weights(layer.get_weights())
        return clustering.cluster_weights(
            copy,
            number_of_clusters=min(value_of(self.clusters, layer.name), len(np.unique(kernel))),
            cluster_centroids_init=getattr(clustering.CentroidInitialization, _STARTS[self.start]),
            preserve_sparsity=support.is_sparse(kernel),
        )
