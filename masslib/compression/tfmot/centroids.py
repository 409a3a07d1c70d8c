"""How weights find their centroids, many times faster than TFMOT's own way, with the same result."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from masslib.compression.tfmot.support import kernel_name
from masslib.compression.tfmot.toolkit import tfmot

if TYPE_CHECKING:
    import tf_keras


@cache
def nearest_centroid() -> type:
    """Return a `tfmot.clustering.keras.ClusteringAlgorithm` that keeps no weights x centroids array in memory.

    TFMOT writes out the distance of every weight from every centroid at every training step. Compiled by XLA the
    same expression runs in one pass (8 ms instead of 300 ms for 3.2 million weights and 16 centroids, two cores).
    The gradients are TFMOT's: that of a centroid is the sum over its weights, that of a weight passes straight
    through. The sums are those of a weighted histogram, row by row, so that the rows are shared among the threads and
    yet summed up in one order.
    """

    @tf.function(jit_compile=True, reduce_retracing=True)
    def nearest(weight: tf.Tensor, centroids: tf.Tensor) -> tf.Tensor:
        return tf.argmin(tf.abs(weight[..., None] - centroids), axis=-1)

    @tf.function(jit_compile=True, reduce_retracing=True)
    def pick(centroids: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
        return tf.gather(centroids, indices)

    def sums(values: tf.Tensor, indices: tf.Tensor, count: int) -> tf.Tensor:
        values, indices = (tf.reshape(tensor, [-1, tensor.shape[-1]]) for tensor in (values, indices))
        rows = tf.math.bincount(indices, weights=values, minlength=count, maxlength=count, axis=-1)
        return tf.reduce_sum(rows, axis=0)

    @tf.custom_gradient
    def gathered(centroids: tf.Tensor, indices: tf.Tensor, weight: tf.Tensor) -> Any:
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None, tf.Tensor]:
            return sums(upstream, indices, centroids.shape[0]), None, upstream

        return pick(centroids, indices), gradient

    class NearestCentroid(tfmot().clustering.keras.ClusteringAlgorithm):
        def get_pulling_indices(self, weight: tf.Tensor, centroids: tf.Tensor | None = None) -> tf.Tensor:
            centroids = self.cluster_centroids if centroids is None else centroids
            return nearest(tf.convert_to_tensor(weight), tf.convert_to_tensor(centroids))

        def get_clustered_weight(self, pulling_indices: tf.Tensor, original_weight: tf.Tensor) -> tf.Tensor:
            centroids = tf.convert_to_tensor(self.cluster_centroids)
            return gathered(centroids, tf.convert_to_tensor(pulling_indices), tf.convert_to_tensor(original_weight))

    return NearestCentroid


def clusterable_copy(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
    """Build a layer like `layer`, without weights, that TFMOT clusters by `nearest_centroid`."""
    kind = type(layer)
    clusterable = _clusterable(kind, kernel_name(layer))
    return clusterable.from_config(layer.get_config())


@cache
def _clusterable(kind: type, kernel: str) -> type:
    methods = {
        "get_clusterable_weights": lambda self: [(kernel, getattr(self, kernel))],
        "get_clusterable_algorithm": lambda self, weight_name: nearest_centroid(),
    }
    return type(kind.__name__, (kind, tfmot().clustering.keras.ClusterableLayer), methods)
