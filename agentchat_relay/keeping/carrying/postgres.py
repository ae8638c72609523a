"""Postgres as either end: what a transaction sees, or a schema without rows that gets them within one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from ...store.postgres.connection import control
from ...store.postgres.engine import migrated
from ..refusal import Refused
from ..server import Server, connected, numbers, turn
from .carry import BATCH, Fillable, Readable, Row
from .tables import CARRIED, Table, tables

# What the first start of a relay makes, see service/upkeep.py.
_SEEDED = ("spaces", "channels", "events", "marks")
_LIVED_IN = """
SELECT (SELECT count(*) FROM spaces) + (SELECT count(*) FROM channels WHERE number > 0 OR created_by IS NOT NULL)
    + (SELECT coalesce(sum(value), 0) FROM marks)
"""
_SEQUENCE = "SELECT pg_get_serial_sequence('{0}', 'id')"
_BEHIND = "SELECT setval('{1}', greatest(max(id), 1), max(id) IS NOT NULL) FROM {0}"


class State(Readable):
    """Within the transaction that the connection is in."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def count(self, table: Table) -> int:
        return numbers(self._server, f"SELECT count(*) FROM {table.name}")[0][0]  # noqa: S608

    def bytes(self) -> int:
        """About how much the rows are."""
        return sum(numbers(self._server, f"SELECT pg_table_size('{name}')")[0][0] for name in CARRIED)

    def batches(self, table: Table) -> Iterator[list[Row]]:
        order = ", ".join(f'"{name}"' + (' COLLATE "C"' if name in table.texts else "") for name in table.key)
        cursor: Any = self._server.connection.cursor(name="carried", row_factory=tuple_row)
        with closing(cursor):
            cursor.execute(f"SELECT {table.listed} FROM {table.name} ORDER BY {order}")  # noqa: S608
            while batch := cursor.fetchmany(BATCH):
                yield batch


class NewRows(State, Fillable):
    """A schema without rows, within the transaction that fills it."""

    def fill(self, table: Table, batches: Iterable[list[Row]]) -> None:
        statement = f"COPY {table.name} ({table.listed}) FROM STDIN"
        with self._server.connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            for batch in batches:
                for row in batch:
                    try:
                        _check_texts(row)
                        copy.write_row(row)
                    except psycopg.DataError as error:
                        raise Refused(_unfit(table, row, error)) from error

    def settle(self) -> None:
        """New rows get ids after those that are there, and the relay makes the full-text index."""
        for table in tables():
            if "id" in table.key and (sequence := self._server.one(_SEQUENCE.format(table.name))[0]):
                self._server.one(_BEHIND.format(table.name, sequence))
        control(self._server.connection, "DELETE FROM fulltext; UPDATE fulltext_progress SET id = 0")


def _check_texts(row: Row) -> None:
    """What no text of Postgres holds. Not every psycopg notices, and Postgres does so rows later."""
    if any(isinstance(value, str) and "\0" in value for value in row):
        raise psycopg.DataError("a text holds a NUL character")


def _unfit(table: Table, row: Row, error: psycopg.DataError) -> str:
    values = dict(zip(table.columns, row, strict=True))
    which = ", ".join(f"{name} {values[name]}" for name in table.key)
    return f"Postgres cannot hold what is in table {table.name}, {which}: {error}. Nothing was kept."


@contextmanager
def new_rows(url: str, doing: str) -> Iterator[tuple[Server, NewRows]]:
    """A schema without rows, brought to the form of this version; nobody else writes. Without an error all of it is
    kept at the end, else nothing but empty tables."""
    migrated(url, after=False, role=None)
    with connected(url, doing) as server:
        with turn(server):
            _empty(server)
            yield server, NewRows(server)
        with suppress(psycopg.Error):  # else Postgres does it by itself, a while later
            control(server.connection, f"ANALYZE {', '.join(CARRIED)}")


def _empty(server: Server) -> None:
    """Take out what the first start of a relay made; whatever else is there is somebody's."""
    counts = {name: numbers(server, f"SELECT count(*) FROM {name}")[0][0] for name in CARRIED}  # noqa: S608
    found = [name for name, count in counts.items() if count and name not in _SEEDED]
    if found or numbers(server, _LIVED_IN)[0][0] > 1:
        what = ", ".join(found) or "spaces or channels"
        raise Refused(
            f"{server.name} is not empty: there are rows in {what}. Name a new schema: CREATE SCHEMA …, and "
            "postgresql://…?options=-csearch_path%3DNAME"
        )
    control(server.connection, ";".join(f"DELETE FROM {name}" for name in _SEEDED))  # noqa: S608
