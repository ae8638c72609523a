"""A read-only view of a data directory's database, whether or not a relay has it open.

Whoever reads stops nobody from writing. But as long as a read lasts, SQLite cannot begin its log (`agentchat.db-wal`)
anew, which grows by whatever is written meanwhile; afterwards it is cut down again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from urllib.parse import quote

from ..directory import Directory
from ..store.sqlite.damage import left_in
from ..store.statements import migrations
from .refusal import Refused, database_faults

DATABASE = "agentchat.db"
NEWEST = max(number for number, _, _ in migrations("sqlite"))
_NO_LOG = ("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_FULL", "SQLITE_READONLY")
_STEPS = 200_000  # of SQLite's machine between two looks at how far it is: a few milliseconds


def connect(file: str, *, still: bool = False) -> sqlite3.Connection:
    """A connection that cannot write. One that lies still, because nobody writes, leaves no files beside it."""
    mode = "immutable=1" if still else "mode=ro"
    connection = sqlite3.connect(f"file:{quote(file)}?{mode}", uri=True, isolation_level=None, timeout=30)
    connection.row_factory = sqlite3.Row
    return connection


def connect_in(directory: str, name: str = DATABASE) -> sqlite3.Connection:
    """The same for a file of a data directory. On a full or read-only disk SQLite cannot make its log; then the file is
    read as it lies, if nobody has the directory and everything is in the file."""
    file = os.path.join(directory, name)
    connection = connect(file)
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()  # which opens the log
    except sqlite3.Error as error:
        connection.close()
        code = getattr(error, "sqlite_errorname", "")
        if not code.startswith(_NO_LOG):
            raise
        if _has_log(file) or Directory(directory).holder() is not None:
            raise Refused(
                f"{file} cannot be read where it lies: its disk is full, read-only or broken ({error}). Make room, or "
                "copy the stopped relay's directory to another disk and name that."
            ) from error
        return connect(file, still=True)
    return connection


def _has_log(file: str) -> bool:
    return os.path.exists(f"{file}-wal") and os.path.getsize(f"{file}-wal") > 0


def check_there(directory: Directory) -> str:
    """The path of a directory with a relay in it, which can be read."""
    if os.path.isdir(directory.path) and not os.access(directory.path, os.R_OK | os.X_OK):
        raise Refused(f"Cannot read {directory.path}: permission denied. Run this as the user that owns it.")
    if not directory.is_there():
        if os.path.isdir(directory.path) and (left := left_in(directory.path)):
            raise Refused(
                f"{directory.path} has no agentchat.db, but {left} shows that a relay was here. Restore a backup: "
                "agentchat admin restore."
            )
        raise Refused(f"There is no relay in {directory.path}. Name the data directory of one: --data DIR.")
    return directory.path


@contextmanager
def opened(directory: str) -> Iterator[sqlite3.Connection]:
    """The database of a data directory; each statement sees the state at its own beginning."""
    path = check_there(Directory(directory))
    with database_faults(f"Reading {path}"), closing(connect_in(path)) as connection:
        refuse_newer(migration_of(connection), f"The database in {path}")
        yield connection


@contextmanager
def snapshot(directory: str) -> Iterator[sqlite3.Connection]:
    """One state of the database, for as long as this lasts."""
    with opened(directory) as connection:
        connection.execute("BEGIN")
        yield connection


def migration_of(connection: sqlite3.Connection) -> int:
    """Which form the database has: the number of the newest migration; 0 if it was never filled."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'migrations'").fetchone() is None:
        return 0
    found: int = connection.execute("SELECT coalesce(max(number), 0) FROM migrations").fetchone()[0]
    return found


def refuse_newer(migration: int, what: str) -> None:
    if migration > NEWEST:
        raise Refused(
            f"{what} was written by a newer version of the relay (its migration {migration} is unknown here). "
            "Use the agentchat of that version."
        )


def refuse_older(connection: sqlite3.Connection) -> None:
    """For work that needs the form of today."""
    if (found := migration_of(connection)) < NEWEST:
        raise Refused(
            f"This database has the form of an earlier version (migration {found} of {NEWEST}). "
            "Start the relay once, which brings it up to date: agentchat serve --data DIR."
        )


@contextmanager
def watched(connection: sqlite3.Connection, look: Callable[[], object]) -> Iterator[None]:
    """Calls `look` again and again while one long statement runs."""

    def handle() -> int:
        look()
        return 0

    connection.set_progress_handler(handle, _STEPS)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)
