"""The table of recorded answers: the service writes it, `masslib.data.from_records` reads it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from masslib._util.extras import needed_by
from masslib._util.messages import first_line

with needed_by("recorded answers"):
    import sqlalchemy as sql

if TYPE_CHECKING:
    from sqlalchemy import Engine

_metadata = sql.MetaData()
answers = sql.Table(
    "masslib_answers",
    _metadata,
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=True),
    sql.Column("request_id", sql.String(128), index=True, nullable=False),
    sql.Column("time", sql.Float, nullable=False),
    sql.Column("model", sql.String(128), index=True, nullable=False),
    sql.Column("version", sql.BigInteger, nullable=False),
    sql.Column("kind", sql.String(16), nullable=False),
    sql.Column("input", sql.LargeBinary, nullable=False),
    sql.Column("preprocessing", sql.Text),
    sql.Column("output", sql.Text, nullable=False),
    sql.Column("classes", sql.Text),
    sql.Column("answer", sql.Text),
    sql.Column("confidence", sql.Float),
    sql.Column("label", sql.Text),
)


def engine(where: str | Path) -> Engine:
    """Open a SQLite file, or a database by its URL.

    Raises:
        ModuleNotFoundError: If the driver of the database is not installed.
        ValueError: If it is no URL of a database that SQLAlchemy knows.
    """
    text = str(where)
    if "://" in text:
        try:
            with needed_by("this database"):
                return sql.create_engine(text)
        except sql.exc.ArgumentError as error:  # it may say the password, its message does not
            raise ValueError(f"the URL of the database: {first_line(error)}") from None
    made = sql.create_engine(f"sqlite:///{Path(text).absolute()}", connect_args={"timeout": 30})

    @sql.event.listens_for(made, "connect")
    def several_writers(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    return made


def create(engine: Engine) -> None:
    """Make the table unless it is there.

    Raises:
        ValueError: If the database cannot be reached, or does not let us.
    """
    try:
        _metadata.create_all(engine)
    except sql.exc.SQLAlchemyError as error:
        raise ValueError(f"the database {engine.url.render_as_string()}: {first_line(error)}") from error


def add(engine: Engine, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows."""
    with engine.begin() as connection:
        connection.execute(answers.insert(), list(rows))


def find(engine: Engine, request_id: str) -> Mapping[str, Any] | None:
    """The latest row with this id."""
    query = sql.select(answers).where(answers.c.request_id == request_id).order_by(answers.c.number.desc()).limit(1)
    with engine.connect() as connection:
        row = connection.execute(query).mappings().first()
    return None if row is None else dict(row)


def correct(engine: Engine, request_id: str, label: str) -> None:
    """Keep the label that people gave."""
    with engine.begin() as connection:
        connection.execute(answers.update().where(answers.c.request_id == request_id).values(label=label))


def read(engine: Engine, model: str | None, version: int | None) -> list[dict[str, Any]]:
    """Rows in the order in which they were kept."""
    query = sql.select(answers).order_by(answers.c.number)
    if model is not None:
        query = query.where(answers.c.model == model)
    if version is not None:
        query = query.where(answers.c.version == version)
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as the bytes of an `.npz` file."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def unpacked(data: bytes) -> dict[str, np.ndarray]:
    """What `packed` returned; no pickle is read."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)
