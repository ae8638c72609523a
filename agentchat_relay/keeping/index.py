"""The full-text index, which can always be made again from the messages."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress

from agentchat.errors import Unavailable

from ..store.seam import Lane, Reading
from ..store.sqlite.engine import Sqlite
from ..store.sqlite.engine import connect as connect_to_write
from . import snapshot
from .progress import Progress, number
from .refusal import is_damage
from .visit import Visit

_NAME = "search.db"
_AGAIN = "The relay makes it again by itself; searches are refused until it has."
_WHOLE = "INSERT INTO fulltext (fulltext) VALUES ('integrity-check')"
_STATE = """
SELECT coalesce((SELECT max(id) FROM messages), 0) AS newest,
    (SELECT value FROM marks WHERE name = 'purged_message') AS purged,
    (SELECT public_id FROM messages WHERE id = ?) AS public_id
"""


def check_index(visit: Visit, database: sqlite3.Connection) -> bool:
    """Whether the index is one of this database, and whole. What is not is for `rebuild`."""
    path = visit.file(_NAME)
    if not os.path.exists(path):
        return _broken(visit, "There is no search.db.")
    try:
        with closing(snapshot.connect_in(visit.path, _NAME)) as index:
            behind = _behind(index, database)
            with visit.progress.part("Checking the search index") as at, snapshot.watched(index, lambda: at(0)):
                errors = [row[0] for row in index.execute("PRAGMA quick_check(1)")]
        if visit.repairing and errors == ["ok"]:  # FTS5 checks itself on a connection that could write
            with closing(connect_to_write(path)) as index:
                index.execute(_WHOLE)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return _broken(visit, f"search.db is damaged: {error}.")
    if errors != ["ok"]:
        return _broken(visit, f"search.db is damaged: {errors[0]}.")
    if behind is None:
        return _broken(visit, "search.db is the index of another database.")
    lag = f"{number(behind)} messages behind; a running relay catches up" if behind else "up to date"
    visit.fine("index", f"search.db is whole and {lag}.")
    return True


def _broken(visit: Visit, text: str) -> bool:
    visit.warn("index", text, _AGAIN, lambda: rebuild(visit.path, visit.progress))
    return False


def _behind(index: sqlite3.Connection, database: sqlite3.Connection) -> int | None:
    """How many messages are not indexed yet; None if the index is of another database (as `FullText` decides it)."""
    at, public_id = index.execute("SELECT id, public_id FROM progress").fetchone()
    state = database.execute(_STATE, (at,)).fetchone()
    if state["public_id"] not in (None, public_id) or (state["public_id"] is None and at > state["purged"]):
        return None
    return int(max(state["newest"] - at, 0))


def rebuild(path: str, progress: Progress) -> None:
    """Make the index again, which a store does as soon as there is none. The directory must be held."""
    file = os.path.join(path, _NAME)
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.unlink(file + suffix)
    store = Sqlite(path)
    try:
        with closing(snapshot.connect(store.path)) as database, closing(snapshot.connect(file)) as index:
            (newest,) = database.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()
            with progress.part("Making the search index", newest) as at:
                while not _has_caught_up(store):
                    at(index.execute("SELECT id FROM progress").fetchone()[0])
    finally:
        store.close()


def _has_caught_up(store: Sqlite) -> bool:
    """A search has the index catch up, for seconds at most."""

    def nothing(tx: Reading) -> bool:
        return True

    try:
        return store.ask(Lane.SEARCH, nothing)
    except Unavailable:
        return False
