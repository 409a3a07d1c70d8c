"""`fit`: Keras' training loop, under every strategy."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import tensorflow as tf

from masslib._util import kernels
from masslib.data import Subset
from masslib.graph.nodes import named_layers
from masslib.train.feed import feed
from masslib.train.given import default_batch_size, given, parted
from masslib.train.held_out import validation
from masslib.train.replicas import Replicas
from masslib.train.settings import Settings
from masslib.train.training import check_strategy, train, watching


def fit(
    model: keras.Model,
    x: Subset | tf.data.Dataset | keras.utils.PyDataset | Any,
    y: Any = None,
    *,
    sample_weight: Any = None,
    batch_size: int | None = None,
    epochs: int = 1,
    verbose: str | int = "auto",
    callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.Callback | None = None,
    validation_split: float = 0.0,
    validation_data: Subset | tf.data.Dataset | tuple | Any = None,
    shuffle: bool = True,
    class_weight: Mapping[int, float] | None = None,
    initial_epoch: int = 0,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
    validation_batch_size: int | None = None,
    validation_freq: int | Collection[int] = 1,
    seed: int = 0,
    augment: keras.layers.Layer | None = None,
    accumulate: int = 1,
    wire: str = "auto",
    fused: bool = True,
    on_nan: str = "stop",
    checkpoint: str | os.PathLike[str] | None = None,
    save_every: int | None = None,
    keep: int = 3,
    resume: bool = True,
) -> keras.callbacks.History:
    """Train a compiled Keras 3 model; the arguments mean what they mean in `model.fit`.

    It runs the model's own `train_step`, so models that override it train too. `fused=False` gives the weights of
    `model.fit`, bit for bit.

    Under a strategy with several replicas each computes its part of the global batch; the gradients are summed once,
    and clipped after that, so that the result is the one of a single device.

    Several workers call it alike, each in its own process (see `masslib.launch`), and all get the same History. Each
    reads its rows of a `Subset`; of a `tf.data.Dataset` each reads every batch and takes its rows of it, so the
    dataset must give the same batches on all. Only rank 0 shows progress and writes files. SIGTERM to any of them makes
    one common checkpoint and ends all. With a parameter server, steps run asynchronously, see `masslib.strategy`.

    Several steps run inside one call of a `tf.function`, unless a callback looks at every batch (`ModelCheckpoint` with
    a number as `save_freq` and `TensorBoard` with one as `update_freq` included) or the model was compiled with
    `run_eagerly=True`. Callbacks see the batch numbers and logs that they see in `model.fit`.

    As in Keras, what a step computes is traced once for each `compile`, not for each `fit`: after a change of a layer's
    settings compile again. Changes of what is trainable and of the optimizer's settings are noticed.

    Args:
        model: A compiled Keras 3 model, made in the scope of the strategy it is to be trained under.
        x: A `Subset`; an array `(n, ...)`, or a dict, list or tuple of arrays, handed over as Keras does; or batches of
            `x`, `(x, y)` or `(x, y, sample_weight)`: a `tf.data.Dataset`, ragged and sparse tensors included, a
            `keras.utils.PyDataset`, a generator, or another object that can be iterated over once per epoch, such as a
            PyTorch `DataLoader`. Several replicas leave out the rows of such batches that they cannot divide evenly; a
            batch with fewer rows than replicas is computed by each of them. Generators and loaders cannot be begun in
            their middle, and need not give the same batches in every process, so they train on one worker only and
            without `checkpoint`. A generator that ends before the last epoch ends the training.
        y: Labels `(n, ...)` when `x` is arrays, or a dict, list or tuple of them; None for a model that needs none.
        sample_weight: Weights of the rows `(n,)`, or of their time steps `(n, t)`, when `x` is arrays. For several
            outputs the same for all of them, or one array for each.
        batch_size: The global batch: rows per training step, over all replicas; it must be divisible by them. It never
            changes the learning rate. 32 by default, or what `steps_per_epoch` makes of the rows. Ignored for batches.
        epochs: Passes over the data, counted from the first, so that `epochs - initial_epoch` are made.
        verbose: 0 is silent, 1 (and `"auto"`) a progress bar, 2 one line per epoch.
        callbacks: A Keras callback, or a list of them.
        validation_split: Part of the rows, the last ones, to evaluate on in place of `validation_data`.
        validation_data: What to evaluate on after each epoch: a tuple of arrays, `(x, y)` or `(x, y, sample_weight)`, a
            `Subset`, or batches as for `x`. Of a generator the first `validation_steps` batches are kept in memory.
        shuffle: Whether each epoch has its own order of the rows, drawn from `seed`; of a `PyDataset`, of the batches.
        class_weight: Class -> weight of its rows in the loss; 1 for those it does not name. For one output; `y` has the
            numbers of the classes, or is one-hot in its last axis.
        initial_epoch: The epoch to begin with; that of a checkpoint comes first.
        steps_per_epoch: Batches per epoch; the next one goes on where it ended. Where the data ends, the epoch ends as
            well. Data without an end needs it.
        validation_steps: Batches to evaluate on, the first ones each time; all by default.
        validation_batch_size: Rows per step of the evaluation; `batch_size` by default.
        validation_freq: Evaluate after every so many epochs, or after those listed, counted from 1.
        seed: Seed of the order and of `augment`; the same seed gives the same batches on any number of replicas.
        augment: A Keras preprocessing layer applied to the training images, see `Subset.batches`.
        accumulate: Compute every global batch in so many parts, one after another: the same result in less memory,
            unless masks or weights let rows count differently in the mean of each part.
        wire: How the gradients of several replicas meet. `"float32"` and `"float16"` send them through TensorFlow's
            collectives, the latter with half of the bytes, which is faster where the network is the limit; the sums
            then have three digits. `"auto"` lets workers on one machine without GPUs add them up in shared memory,
            and is `"float32"` elsewhere.
        fused: Let one kernel compute batch normalizations of float32 images, and XLA compile the weight update of
            models with 200,000 weights or more. Both are faster and round differently: losses agree with those of
            `model.fit` to about 1e-5 at first, and drift apart as they do after any other change of the rounding.
        on_nan: What to do when loss or trained weights are no longer finite: `"stop"` the training with a warning,
            `"restore"` the newest checkpoint and stop, or `"ignore"` it. What is not finite is kept in a checkpoint by
            `"ignore"` only, so after `"stop"` the next call goes on from the last good one.
        checkpoint: Folder for checkpoints. Resumes bit-exactly from the newest checkpoint there; a finished run returns
            its History. Not kept are the counters of callbacks, such as the patience of EarlyStopping, and the state of
            `tf.random`; that of `keras.random` and `Dropout` is.
        save_every: Steps between checkpoints; one more is written after every epoch. A killed process loses nothing
            that was saved, a power cut at most what was saved in the last 30 s.
        keep: How many of the newest checkpoints are kept, plus the last one flushed to disk.
        resume: `False` refuses a folder that holds checkpoints.

    Returns:
        The Keras `History`: `.history` maps the names of loss and metrics to one value per epoch.

    Raises:
        TypeError: If `model` is not a Keras 3 model, or the data is of another type.
        ValueError: If the model is not compiled, a number is out of range or not divisible by the replicas, the data
            gives no batch, a loss to accumulate is a sum, or the checkpoint belongs to another training or cannot hold
            this one.
        RuntimeError: If another run uses the checkpoint folder, or another worker has gone.

    Example:
        >>> import masslib, numpy as np
        >>> model = masslib.models.mlp((4,), 3)
        >>> model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        >>> x, y = np.zeros((60, 4), "float32"), np.arange(60) % 3
        >>> history = masslib.fit(model, x, y, epochs=2, verbose=0)
        >>> sorted(history.history), len(history.history["loss"])
        (['accuracy', 'loss'], 2)
    """
    settings = Settings(
        batch_size=batch_size,
        epochs=epochs,
        verbose=verbose,
        shuffle=shuffle,
        initial_epoch=initial_epoch,
        steps_per_epoch=steps_per_epoch,
        validation_split=validation_split,
        validation_steps=validation_steps,
        validation_batch_size=validation_batch_size,
        validation_freq=validation_freq,
        seed=seed,
        accumulate=accumulate,
        wire=wire,
        fused=fused,
        on_nan=on_nan,
        checkpoint=checkpoint,
        save_every=save_every,
        keep=keep,
        resume=resume,
    )
    settings.check(model)
    kernels.warn_if_off()
    kernels.warn_if_fragile(named_layers(model))
    replicas = Replicas(model.distribute_strategy)
    check_strategy(model, replicas, settings)
    settings = settings.capped()
    data = given(x, y, sample_weight, batch_size=batch_size, shuffle=shuffle, seed=seed)
    if validation_split and validation_data is None:
        data, validation_data = parted(data, validation_split)
    settings = replace(settings, batch_size=batch_size or default_batch_size(data, settings, replicas))
    source = feed(data, settings, replicas, class_weight=class_weight, augment=augment)
    valid = validation(validation_data, settings, replicas)
    watchers = watching(model, callbacks, settings, replicas, steps=source.steps)
    told = {"class_weight": class_weight, "augment": augment, "sample_weight": sample_weight is not None}
    told |= {"validation_data": valid is not None}
    train(model, source, valid, watchers, settings, replicas, told)
    return model.history
