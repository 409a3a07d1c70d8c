"""Tables of numbers and categories: columns for a network, fitted on the training rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from masslib.data.arrays import from_arrays
from masslib.data.rows import ArrayRows
from masslib.data.splits import Splits
from masslib.data.subset import Subset

if TYPE_CHECKING:
    import pandas


def table(frame: pandas.DataFrame, label: str, classes: Sequence[str]) -> Subset:
    """A `Subset` of the table as it is, to be split and then encoded by `encoded`.

    Args:
        frame: one row per example, the label among its columns.
        label: the column of the label.
        classes: its values, in the order of their numbers.

    Raises:
        ValueError: a label is none of `classes`.

    Example:
        >>> import pandas
        >>> frame = pandas.DataFrame({"age": [30, 50], "job": ["cook", "judge"], "rich": ["no", "yes"]})
        >>> table(frame, "rich", ["no", "yes"]).y
        array([0, 1], dtype=int32)
    """
    numbers = frame[label].map({name: number for number, name in enumerate(classes)})
    if numbers.isna().any():
        wrong = frame[label][numbers.isna()].iloc[0]
        raise ValueError(f"column {label!r} holds {wrong!r}, expected one of {list(classes)}.")
    values = frame.drop(columns=label).to_numpy(object)
    return Subset(ArrayRows(values, 1), numbers.to_numpy(np.int32), list(classes))


def encoded(splits: Splits, columns: Sequence[str], numeric: Sequence[str]) -> Splits:
    """Turns the columns of a table into float32, with what the training rows alone teach.

    Numbers get mean 0 and variance 1 (`StandardScaler`), missing ones the median. A category gets a column of its
    own (`OneHotEncoder`), and so does "missing"; one that the training rows do not have is 0 in all columns.

    Args:
        splits: made of what `table` gives.
        columns: names of its columns.
        numeric: those that hold numbers; the others are categories.

    Returns:
        `Splits` of float32 columns, whose names are in its `columns`: "age", "job=cook".

    Example:
        >>> import pandas
        >>> frame = pandas.DataFrame({"age": [30, 50], "job": ["cook", None], "rich": ["no", "yes"]})
        >>> rows = table(frame, "rich", ["no", "yes"])
        >>> encoded(Splits(rows, rows, rows, None), ["age", "job"], ["age"]).train[:][0]
        array([[-1.,  1.,  0.],
               [ 1.,  0.,  1.]], dtype=float32)
    """
    import pandas
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    categorical = [name for name in columns if name not in numeric]
    one_hot = OneHotEncoder(
        handle_unknown="ignore", sparse_output=False, dtype=np.float32, feature_name_combiner="{}={}".format
    )
    scaled = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    transformer = ColumnTransformer(
        [("numeric", scaled, list(numeric)), ("categorical", one_hot, categorical)], verbose_feature_names_out=False
    )

    def frame(subset: Subset) -> pandas.DataFrame:
        return pandas.DataFrame(subset.rows.raw(slice(None)), columns=list(columns)).astype(
            dict.fromkeys(numeric, float)
        )

    transformer.fit(frame(splits.train))
    parts = [
        from_arrays(transformer.transform(frame(part)), part.y, classes=part.classes)
        for part in (splits.train, splits.valid, splits.test)
    ]
    return Splits(*parts, splits.classes, columns=transformer.get_feature_names_out().tolist())
