"""`Subset`: inputs and labels that turn into reproducible batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from masslib._util.extras import needed_by
from masslib._util.structures import flat
from masslib.data import batches as _batches
from masslib.data.rows import ArrayRows, Rows

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class Subset:
    """Inputs, labels and weights; NumPy until `batches()`. Made by `from_arrays`, `read_shards`, `load` and others.

    Inputs and labels are structures as Keras takes them: an array, or a dict or tuple of arrays at any depth.
    Inputs with a scale, such as images in bytes, are read as float32; all others as they are stored.

    Attributes:
        rows: where the inputs lie: `rows.raw(numbers)` gives them as they are stored, unscaled.
        targets: where the labels lie, or None.
        weights: where the weights of the rows lie, or None.
        classes: names of the classes, or None; of several labels in their structure.
        lengths: `(n,)` by which batches group the rows, or None; see `group_by_length`.
        groups: `(n,)` to whom each row belongs, for `split(subset, groups=subset.groups)`, or None; `load` sets it.

    Example:
        >>> from masslib.data import from_arrays
        >>> subset = from_arrays(np.zeros((6, 8, 8, 1), np.uint8), [0, 1, 0, 1, 0, 1])
        >>> subset
        Subset(6 rows of (8, 8, 1), uint8 x 0.003922, labels int64)
        >>> x, y = subset[:2]
        >>> x.shape, x.dtype, y
        ((2, 8, 8, 1), dtype('float32'), array([0, 1]))
        >>> x, y, weights = from_arrays({"age": [30, 50], "job": ["cook", "judge"]}, [0, 1], [0.5, 2])[:]
        >>> x["job"], weights
        (array(['cook', 'judge'], dtype='<U5'), array([0.5, 2. ], dtype=float32))
    """

    def __init__(
        self,
        rows: Rows,
        y: Rows | np.ndarray | None,
        classes: Any = None,
        sample_weight: Rows | None = None,
        lengths: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> None:
        self.rows, self.classes, self.weights, self.lengths = rows, classes, sample_weight, lengths
        self.groups = groups
        self.targets = ArrayRows(y) if isinstance(y, np.ndarray) else y

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def y(self) -> Any:
        """Labels `(n, ...)`, or a structure of such, or None; `load` and `from_directory` number classes by int32."""
        return None if self.targets is None else self.targets.whole()

    @property
    def sample_weight(self) -> Any:
        """Weights `(n, ...)` of the rows in the loss, or one array for each label, or None."""
        return None if self.weights is None else self.weights.whole()

    @property
    def input_shape(self) -> Any:
        """Shape of one input, without the batch; of several inputs a structure of shapes."""
        return self.rows.shape

    def __getitem__(self, rows: int | slice | np.ndarray | Sequence[int]) -> tuple[Any, ...]:
        """Inputs (scaled) and labels (None if there are none) of some rows, and their weights if there are any.

        Raises:
            TypeError: `rows` is no int, slice, int array or boolean mask.
            IndexError: a row outside the subset.
        """
        if not isinstance(rows, slice):
            rows = np.asarray(rows)
            if (rows.dtype.kind, rows.ndim) not in {("i", 0), ("i", 1), ("u", 0), ("u", 1), ("b", 1)}:
                raise TypeError(
                    f"rows are {rows.dtype} of shape {rows.shape}, expected an int, a slice, a 1-D array of "
                    "ints or a mask."
                )
        x, y = self.rows.read(rows), None if self.targets is None else self.targets.read(rows)
        return (x, y) if self.weights is None else (x, y, self.weights.read(rows))

    def take(self, n: int) -> Subset:
        """The first `n` rows; they share the memory.

        Raises:
            ValueError: `n` is below 1 or above `len(self)`.

        Example:
            >>> from masslib.data import from_arrays
            >>> len(from_arrays(np.zeros((6, 2)), range(6)).take(4))
            4
        """
        return self.select(slice(0, _batches.whole("n", n, 1, len(self))))

    def sample(self, n: int, seed: int = 0) -> Subset:
        """`n` random rows without replacement, each class in proportion (`sklearn.utils.resample`).

        Labels are taken for classes if they are whole numbers or booleans, one per row.

        Raises:
            ValueError: `n` is below 1 or above `len(self)`.

        Example:
            >>> from masslib.data import from_arrays
            >>> np.bincount(from_arrays(np.zeros((9, 2)), [0, 0, 0, 0, 0, 0, 1, 1, 1]).sample(6).y)
            array([4, 2])
        """
        with needed_by("masslib.data.Subset.sample"):
            from sklearn.utils import resample

        n = _batches.whole("n", n, 1, len(self))
        rows = np.arange(len(self))
        rows = resample(rows, replace=False, n_samples=n, stratify=class_numbers(self.y), random_state=seed)
        return self.select(rows)

    def select(self, rows: slice | np.ndarray) -> Subset:
        """A subset of some rows, in the given order; of rows in memory an int array makes a copy.

        Example:
            >>> from masslib.data import from_arrays
            >>> from_arrays(np.zeros((6, 2)), range(6)).select(np.array([5, 0])).y
            array([5, 0])
        """
        targets, weights = (None if part is None else part.select(rows) for part in (self.targets, self.weights))
        lengths, groups = (None if part is None else part[rows] for part in (self.lengths, self.groups))
        return Subset(self.rows.select(rows), targets, self.classes, weights, lengths, groups)

    def group_by_length(self, lengths: Sequence[int] | None = None) -> Subset:
        """The same rows, of which every batch holds such of similar length, so that little is padded.

        An epoch is shuffled as before, cut into windows of 50 batches, each of which is sorted, and the order of the
        batches is shuffled again: (seed, epoch, batch size) decide. Without shuffling the order stays.

        Args:
            lengths: `(n,)` by which to group; by default the steps of the longest `ragged` field of each row.

        Raises:
            ValueError: no lengths and no ragged field; or not as many lengths as rows.

        Source:
            `group_by_length` of the Hugging Face Trainer.

        Example:
            >>> from masslib.data import from_arrays, ragged
            >>> subset = from_arrays(ragged([[1] * n for n in (9, 1, 8, 2, 9, 1)])).group_by_length()
            >>> sorted(x.shape[1] for x in subset.batches(2))
            [1, 8, 9]
        """
        if lengths is None:
            found = [part.lengths for part in flat(getattr(self.rows, "parts", self.rows)) if hasattr(part, "lengths")]
            if not found:
                raise ValueError(f"{self!r} has no ragged field; pass the lengths of its rows.")
            lengths = np.max(found, axis=0)
        lengths = np.asarray(lengths)
        if lengths.shape != (len(self),):
            raise ValueError(f"lengths has shape {lengths.shape}, expected ({len(self)},): one for each row.")
        return Subset(self.rows, self.targets, self.classes, self.weights, lengths, self.groups)

    def with_groups(self, groups: Sequence[Any] | np.ndarray) -> Subset:
        """The same rows, with to whom each belongs, which stays with them.

        Args:
            groups: `(n,)` names or numbers, such as of patients; `split(subset, groups=subset.groups)` keeps each
                on one side.

        Raises:
            ValueError: not as many groups as rows.

        Example:
            >>> from masslib.data import from_arrays
            >>> from_arrays(np.zeros((3, 2)), [0, 1, 0]).with_groups(["ann", "bob", "ann"]).take(2).groups
            array(['ann', 'bob'], dtype='<U3')
        """
        groups = np.asarray(groups)
        if groups.shape != (len(self),):
            raise ValueError(f"groups has shape {groups.shape}, expected ({len(self)},): one for each row.")
        return Subset(self.rows, self.targets, self.classes, self.weights, self.lengths, groups)

    def steps(self, batch_size: int, replicas: int = 1) -> int:
        """Batches in one epoch of `batches(batch_size, replicas=replicas)`.

        Raises:
            TypeError, ValueError: `batch_size` is no positive integer divisible by `replicas`.

        Example:
            >>> from masslib.data import from_arrays
            >>> from_arrays(np.zeros((10, 2)), range(10)).steps(4)
            3
        """
        return _batches.plan(len(self), batch_size, replicas)[2]

    def batches(
        self,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        epoch: int = 0,
        epochs: int = 1,
        start: int = 0,
        replicas: int = 1,
        shard: tuple[int, int] | None = None,
        augment: keras.layers.Layer | Mapping[str, keras.layers.Layer] | Sequence[Any] | None = None,
    ) -> tf.data.Dataset:
        """A dataset of `x`, `(x, y)` or `(x, y, sample_weight)` batches: `(b, ...)` each; its cardinality is known.

        Every epoch is a permutation that (seed, epoch) decide (`tf.random.experimental.stateless_shuffle`).
        The same arguments give the same bits, with the same version of TensorFlow.

        Args:
            batch_size: global batch; above `len(self)` it means one batch of all rows.
            shuffle: False keeps the order of the rows.
            seed: fits in 64 bits.
            epoch: number of the first epoch.
            epochs: how many epochs follow one another; with 0 the dataset is empty.
            start: step of the first epoch to begin with; what follows equals the rest of the undisturbed
                dataset.
            replicas: every global batch is a multiple of this. What is left over at the end of an epoch is
                dropped, with a warning that says how many rows.
            shard: `(rank, workers)`: of every global batch the part of one worker, the ranks following one
                another; `replicas`, those of all workers together, must be a multiple of `workers`.
            augment: Keras preprocessing layer or Sequential of such, applied to each row as float32, after scaling
                (images are in [0, 1]). Its randomness is that of (seed, epoch, row number in the subset)
                alone. Of several inputs those to be changed are named, `{"image": layer}`, or stand in a list with
                None for the others; each draws for itself.

        Raises:
            TypeError: an argument of the wrong type; `augment` is no Keras layer.
            ValueError: a number out of range; `batch_size` is not divisible by `replicas`; fewer rows than
                replicas; an `augment` layer that mixes rows or does not follow its seeds, or one for an input that
                there is not.

        Example:
            >>> from masslib.data import from_arrays
            >>> subset = from_arrays(np.zeros((10, 2)), range(10))
            >>> [len(y) for x, y in subset.batches(4)]
            [4, 4, 2]
        """
        return _batches.batches(
            (self.rows, self.targets, self.weights),
            batch_size,
            lengths=self.lengths,
            shuffle=shuffle,
            seed=seed,
            epoch=epoch,
            epochs=epochs,
            start=start,
            replicas=replicas,
            shard=shard,
            augment=augment,
        )

    def __repr__(self) -> str:
        labels = "no labels" if self.targets is None else f"labels {self.targets!r}"
        weights = "" if self.weights is None else f", weights {self.weights!r}"
        classes = f", {_counted(self.classes)} classes" if self.classes else ""
        return f"Subset({len(self)} rows of {self.input_shape}, {self.rows!r}, {labels}{weights}{classes})"


def _counted(classes: Any) -> Any:
    """How many classes there are, of several labels in their structure."""
    if isinstance(classes, dict):
        return {label: _counted(names) for label, names in classes.items()}
    return tuple(map(_counted, classes)) if isinstance(classes, tuple) else classes and len(classes)


def class_numbers(y: Any) -> np.ndarray | None:
    """Labels as `(n,)` class numbers if they are whole numbers or booleans, one per row; else None."""
    if not isinstance(y, np.ndarray) or y.dtype.kind not in "biu" or y.size != len(y):
        return None
    return y.reshape(-1)
