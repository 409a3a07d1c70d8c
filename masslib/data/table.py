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


def from_dataframe(frame: pandas.DataFrame, y: str, *, classes: Sequence[str] | None = None) -> Subset:
    """Makes a `Subset` of a table of numbers, as `from_arrays` does.

    Args:
        frame: one row per example; all columns but `y` hold numbers or booleans.
        y: name of the column with the labels. Numbers stay as they are; text and categories become class numbers.
        classes: values of a column of text, in the order of their numbers; by default sorted. Of a column of whole
            numbers the names of the classes.

    Returns:
        A `Subset` of all rows, in their order.

    Raises:
        TypeError: `frame` is no data frame.
        ValueError: there is no column `y`, another column holds text, or a label is none of `classes`; and as
            `from_arrays`.

    Example:
        >>> import pandas
        >>> frame = pandas.DataFrame({"age": [30, 50], "height": [1.6, 1.8], "rich": ["no", "yes"]})
        >>> from_dataframe(frame, y="rich")
        Subset(2 rows of (2,), float32, labels int32, 2 classes)
    """
    import pandas

    if not isinstance(frame, pandas.DataFrame):
        raise TypeError(f"frame is a {type(frame).__name__}, expected a pandas.DataFrame; for arrays: from_arrays.")
    if y not in frame.columns:
        raise ValueError(f"y is {y!r}, expected one of the columns {list(frame.columns)}.")
    inputs = frame.drop(columns=y)
    words = [name for name in inputs.columns if not pandas.api.types.is_numeric_dtype(inputs[name])]
    if words:
        raise ValueError(
            f"the columns {words} hold no numbers; encode them first, e.g. with pandas.get_dummies(frame, columns=...) "
            "or sklearn.preprocessing.OrdinalEncoder, or leave them out."
        )
    kinds = {np.dtype(kind).kind for kind in inputs.dtypes.map(lambda kind: getattr(kind, "numpy_dtype", kind))}
    x = inputs.to_numpy() if kinds <= {"i", "u"} or kinds == {"b"} else inputs.to_numpy(np.float32, na_value=np.nan)
    if pandas.api.types.is_numeric_dtype(frame[y]):
        return from_arrays(x, frame[y].to_numpy(), classes=classes)
    names = sorted(map(str, frame[y].dropna().unique())) if classes is None else list(classes)
    return from_arrays(x, _numbered(frame[y].astype("string"), names), classes=names)


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
    values = frame.drop(columns=label).to_numpy(object)
    return Subset(ArrayRows(values), _numbered(frame[label], classes), list(classes))


def _numbered(labels: pandas.Series, classes: Sequence[str]) -> np.ndarray:
    """The numbers of the classes that a column names, int32 `(n,)`."""
    numbers = labels.map({name: number for number, name in enumerate(classes)})
    if numbers.isna().any():
        wrong = labels[numbers.isna()].iloc[0]
        raise ValueError(f"column {labels.name!r} holds {wrong!r}, expected one of {list(classes)}.")
    return numbers.to_numpy(np.int32)


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
