"""Learning rates for global batches that grow with the number of devices."""

from __future__ import annotations

import keras


def scaled_schedule(
    learning_rate: float, *, scale: float, steps: int, warmup_steps: int | None = None
) -> keras.optimizers.schedules.CosineDecay:
    """Scale a learning rate with the global batch, warm it up, and let it fall along a cosine to zero.

    A batch `scale` times as large takes `scale` times fewer steps; the linear scaling rule makes each of them as
    many times longer. At the start such steps are too long, hence the warm-up (Goyal et al., "Accurate, large
    minibatch SGD: training ImageNet in 1 hour", 2017). `masslib.fit` never changes a learning rate by itself.

    Args:
        learning_rate: What works for the small batch on one device.
        scale: Global batch divided by the batch that `learning_rate` was found for.
        steps: Steps of the whole training, warm-up included: epochs x `subset.steps(batch_size)`.
        warmup_steps: Steps in which the rate rises linearly; by default a tenth of `steps` if `scale` is above
            1, else none.

    Returns:
        A Keras schedule, to be passed to an optimizer.

    Raises:
        ValueError: If a number is not positive, or the warm-up leaves no step to train.

    Example:
        >>> schedule = scaled_schedule(0.1, scale=4, steps=100)
        >>> [round(float(schedule(step)), 2) for step in (0, 5, 10, 100)]
        [0.1, 0.25, 0.4, 0.0]
    """
    if not (learning_rate > 0 and scale > 0 and steps > 0):
        raise ValueError(
            f"learning_rate={learning_rate!r}, scale={scale!r}, steps={steps!r}: expected positive numbers"
        )
    if warmup_steps is None:
        warmup_steps = steps // 10 if scale > 1 else 0
    if not 0 <= warmup_steps < steps:
        raise ValueError(f"warmup_steps={warmup_steps!r}: expected fewer than the {steps} steps of the training")
    if not warmup_steps:
        return keras.optimizers.schedules.CosineDecay(learning_rate * scale, steps)
    return keras.optimizers.schedules.CosineDecay(
        learning_rate, steps - warmup_steps, warmup_target=learning_rate * scale, warmup_steps=warmup_steps
    )
