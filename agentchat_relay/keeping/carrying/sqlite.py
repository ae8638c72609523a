"""SQLite as either end: one read transaction, or a file that is made."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

from ...store.sqlite.migrate import migrate
from .. import snapshot
from .carry import BATCH, Fillable, Readable, Row
from .tables import Table


class State(Readable):
    """What a connection sees; for one state of it, within a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def count(self, table: Table) -> int:
        found: int = self._connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0]  # noqa: S608
        return found

    def batches(self, table: Table) -> Iterator[list[Row]]:
        cursor = self._connection.cursor()
        cursor.row_factory = None
        cursor.execute(f"SELECT {table.listed} FROM {table.name} ORDER BY {', '.join(table.key)}")  # noqa: S608
        while batch := cursor.fetchmany(BATCH):
            yield batch


class NewFile(Fillable):
    """A database file of today's form, written in one transaction. Whoever makes it gives it its name afterwards."""

    def __init__(self, path: str) -> None:
        self._path = path
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        self._connection = sqlite3.connect(path, isolation_level=None)
        try:
            # A file that is not whole is thrown away: neither a way back nor the disk's word is needed before the end.
            self._connection.execute("PRAGMA journal_mode = OFF")
            self._connection.execute("PRAGMA synchronous = OFF")
            migrate(self._connection, "sqlite")
            self._connection.execute("BEGIN")
            self._connection.execute("DELETE FROM marks")
        except BaseException:
            self.close()
            raise

    def count(self, table: Table) -> int:
        return State(self._connection).count(table)

    def batches(self, table: Table) -> Iterator[list[Row]]:
        yield from State(self._connection).batches(table)

    def fill(self, table: Table, batches: Iterable[list[Row]]) -> None:
        places = ", ".join("?" * len(table.columns))
        insert = f"INSERT INTO {table.name} ({table.listed}) VALUES ({places})"  # noqa: S608
        for batch in batches:
            self._connection.executemany(insert, batch)

    def settle(self) -> None:
        """On the disk, and read from the file by whoever reads it next."""
        self._connection.execute("COMMIT")
        self._connection.close()
        with open(self._path, "rb") as file:
            os.fsync(file.fileno())
        self._connection = snapshot.connect(self._path, still=True)

    def close(self) -> None:
        self._connection.close()


@contextmanager
def new_file(path: str) -> Iterator[NewFile]:
    with closing(NewFile(path)) as made:
        yield made
