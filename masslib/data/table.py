"""Tables of numbers and categories: columns for a network, fitted on the training rows alone."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from masslib.data.arrays import from_arrays
from masslib.data.rows import ArrayRows, Rows
from masslib.data.splits import Splits
from masslib.data.subset import Subset

if TYPE_CHECKING:
    import pandas

Columns: TypeAlias = Hashable | list[Hashable] | dict[str, Any]


def from_dataframe(
    frame: pandas.DataFrame,
    y: Columns | None = None,
    *,
    x: Columns | None = None,
    sample_weight: Columns | None = None,
    classes: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
) -> Subset:
    """Makes a `Subset` of the columns of a table, as `from_arrays` does.

    `x`, `y` and `sample_weight` each name one column, which gives `(n,)`; a list of k columns of numbers, which gives
    `(n, k)`; or, in a dict, several inputs or outputs of either kind, such as `{"job": "job", "body": ["height",
    "weight"]}`. What is no column of numbers may stand in such a dict too: `Rows`, such as `photos(frame["file"], ...)`
    or `ragged(frame["words"])`.

    Args:
        frame: one row per example.
        y: the labels. Numbers stay as they are; text and categories become class numbers.
        x: the inputs; by default a list of all columns that are not named in `y` and `sample_weight`. A column alone
            may hold text, for `StringLookup` or `TextVectorization`.
        sample_weight: the weights, if there are any.
        classes: values of a label of text, in the order of their numbers; by default sorted. Of whole numbers the
            names of the classes. Of several labels in their structure, `{"animal": ["cat", "dog"]}`.

    Returns:
        A `Subset` of all rows, in their order.

    Raises:
        TypeError: `frame` is no data frame, or something else than columns is named.
        ValueError: there is no such column, a column holds no numbers or misses values, or a label is none of
            `classes`; and as `from_arrays`.

    Example:
        >>> import pandas
        >>> frame = pandas.DataFrame({"age": [30, 50], "height": [1.6, 1.8], "rich": ["no", "yes"]})
        >>> from_dataframe(frame, y="rich")
        Subset(2 rows of (2,), float32, labels int32, 2 classes)
        >>> from_dataframe(frame, x={"age": "age", "h": ["height"]}, y={"rich": "rich", "age": "age"}).classes
        {'rich': ['no', 'yes'], 'age': None}
    """
    import pandas

    if not isinstance(frame, pandas.DataFrame):
        raise TypeError(f"frame is a {type(frame).__name__}, expected a pandas.DataFrame; for arrays: from_arrays.")
    named = [*_named(frame, "y", y), *_named(frame, "sample_weight", sample_weight)]
    if x is None:
        x = [column for column in frame.columns if column not in named]
        if not x:
            raise ValueError(
                f"the columns are {list(frame.columns)}, all of them in y or sample_weight; expected more."
            )
    _named(frame, "x", x)
    labels, names = _labels(frame, y, classes)
    return from_arrays(
        _each(x, lambda given: _inputs(frame, given)),
        labels,
        _each(sample_weight, lambda given: _numbers(frame, given)),
        classes=names,
    )


def _named(frame: pandas.DataFrame, name: str, given: Any) -> list[Any]:
    """The columns that are named, all of which there are."""
    if given is None or isinstance(given, Rows):
        return []
    if isinstance(given, dict):
        return [column for key, part in given.items() for column in _named(frame, f"{name}[{key!r}]", part)]
    columns = given if isinstance(given, list) else [given]
    for column in columns:
        if not isinstance(column, Hashable):
            raise TypeError(
                f"{name} is a {type(column).__name__}, expected a column, a list of columns, or a dict of such."
            )
        if column not in frame.columns:
            raise ValueError(f"{name} is {column!r}, expected one of the columns {list(frame.columns)}.")
        if list(frame.columns).count(column) > 1:
            raise ValueError(f"{name} is {column!r}, which several columns are called; rename them.")
    if not columns:
        raise ValueError(f"{name} is an empty list, expected at least one column.")
    return columns


def _each(given: Any, change: Callable[[Any], Any]) -> Any:
    """A structure of arrays, of one of columns."""
    if isinstance(given, dict):
        return {key: _each(part, change) for key, part in given.items()}
    return given if given is None or isinstance(given, Rows) else change(given)


def _inputs(frame: pandas.DataFrame, given: Any) -> np.ndarray:
    return _numbers(frame, given) if isinstance(given, list) or _is_numeric(frame[given]) else _text(frame[given])


def _numbers(frame: pandas.DataFrame, given: Any) -> np.ndarray:
    """One column `(n,)` or several `(n, k)`, of whole numbers, booleans or else float32."""
    columns = given if isinstance(given, list) else [given]
    words = [name for name in columns if not _is_numeric(frame[name])]
    if words:
        raise ValueError(
            f"the columns {words} hold no numbers; encode them first, e.g. with pandas.get_dummies(frame, columns=...) "
            "or sklearn.preprocessing.OrdinalEncoder, or leave them out. A column of x or y that is named alone may "
            f"hold text, such as {{{words[0]!r}: {words[0]!r}}}."
        )
    chosen = frame[given]
    types = [np.dtype(getattr(frame[name].dtype, "numpy_dtype", frame[name].dtype)) for name in columns]
    kinds = {kind.kind for kind in types}
    if (kinds <= {"i", "u"} or kinds == {"b"}) and not np.any(chosen.isna()):
        return chosen.to_numpy(np.result_type(*types))
    return chosen.to_numpy(np.float32, na_value=np.nan)


def _text(column: pandas.Series) -> np.ndarray:
    """A column of text `(n,)`, as strings of a fixed length, which shards can hold."""
    if column.isna().any():
        raise ValueError(
            f"column {column.name!r} misses {column.isna().sum()} values, first in row {column.isna().argmax()}; fill "
            "them, e.g. with .fillna('')."
        )
    values = column.to_numpy(object)
    wrong = [value for value in values if not isinstance(value, str)]
    if wrong:
        raise ValueError(
            f"column {column.name!r} holds {wrong[0]!r}, expected numbers or text; turn it into such, or give rows of "
            "varying length as ragged(frame[...])."
        )
    return values.astype(str)


def _labels(frame: pandas.DataFrame, given: Any, classes: Any) -> tuple[Any, Any]:
    """The labels and the names of their classes."""
    if isinstance(given, dict):
        if classes is not None and not (isinstance(classes, Mapping) and set(classes) <= set(given)):
            raise ValueError(f"classes is {classes!r}, and the labels are {list(given)}; expected a dict of such.")
        pairs = {key: _labels(frame, part, (classes or {}).get(key)) for key, part in given.items()}
        names = {key: pair[1] for key, pair in pairs.items()}
        return {key: pair[0] for key, pair in pairs.items()}, names if any(names.values()) else None
    if given is None or isinstance(given, Rows):
        return given, classes
    if isinstance(given, list) or _is_numeric(frame[given]):
        return _numbers(frame, given), classes
    column = frame[given]
    names = sorted(map(str, column.dropna().unique())) if classes is None else list(classes)
    return _numbered(column.astype("string"), names), names


def _is_numeric(column: pandas.Series) -> bool:
    import pandas

    return pandas.api.types.is_numeric_dtype(column)


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
