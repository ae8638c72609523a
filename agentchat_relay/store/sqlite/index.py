"""search.db, the full-text index of SQLite: what is in it, how it grows, forgets and stays quick.

A message is filed under its places (see `seam.place_of`), so that a search in one channel, or of one agent's direct
messages, costs no more than one in all. One that is to vanish is not in it.

A deleted message leaves its words in the table `unindexed` (a trigger's doing), since FTS5 needs them to take it out of
the index. How far that has come is remembered in this file, in the same transaction: twice would break the index.

Where several processes have it open, each brings it up to date when it has a reason to, and finds done what another
did. A broken one is made again by whoever has the directory alone.

FTS5 writes new words into pieces of their own, and a search asks every piece. Small pages make its leaps within a piece
short; and once a quarter of the index is new, it is made one piece again, a slice at a time.
"""

from __future__ import annotations

import logging
import os
import shlex
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from agentchat.errors import Unavailable

from ..query import Query, Term
from ..seam import Hits
from . import damage

_FORM = 2  # of the file; another one is made anew
_CHUNK = 2000
_SLICE = 100  # pages merged at a time: a few milliseconds
_LEAST_MERGE = 20_000  # messages
_BETWEEN_TRIES = 0.005
_LONGEST_SEARCH = 0.25  # seconds; what was found by then is the answer
_SCHEMA = """
CREATE TABLE progress (
    only INTEGER PRIMARY KEY CHECK (only = 1), id INTEGER NOT NULL, public_id TEXT, taken_out INTEGER NOT NULL,
    merged INTEGER NOT NULL
);
CREATE VIRTUAL TABLE fulltext USING fts5(
    content, place, content = '', columnsize = 0, tokenize = 'porter unicode61 remove_diacritics 2'
);
INSERT INTO fulltext (fulltext, rank) VALUES ('pgsz', 1000);
INSERT INTO progress VALUES (1, 0, NULL, 0, 0);
"""
_TABLES = ("fulltext", "progress", "taken_out")  # the last of them is of the first form
_ADD = """
INSERT INTO fulltext (rowid, content, place)
SELECT m.id, m.content, CASE
    WHEN m.recipient_id IS NULL THEN 's' || c.space_id || ' c' || c.id
    ELSE 'd' || m.author_id || ' d' || m.recipient_id END
FROM relay.messages m JOIN relay.channels c ON c.id = m.channel_id
WHERE m.id > ? AND m.id <= ? AND m.kind <> 'status' AND m.vanishes_at IS NULL
"""
_ADDED = "UPDATE progress SET id = ?, public_id = (SELECT public_id FROM relay.messages WHERE id = ?)"
_GONE = "SELECT coalesce(max(id), 0) FROM (SELECT id FROM relay.unindexed WHERE id > ? ORDER BY id LIMIT ?)"
_TAKE_OUT = """
INSERT INTO fulltext (fulltext, rowid, content, place)
SELECT 'delete', message_id, content, place FROM relay.unindexed WHERE id > ? AND id <= ? AND message_id <= ?
"""
_SEARCH = """
SELECT m.id, m.public_id, m.content, m.created_at, c.public_id AS channel_id, c.name AS channel_name,
    a.public_id AS author_id, a.name AS author_name
FROM (SELECT rowid AS id FROM fulltext WHERE fulltext MATCH ? ORDER BY rowid DESC LIMIT ?) AS hits
JOIN relay.messages m ON m.id = hits.id JOIN relay.channels c ON c.id = m.channel_id
JOIN relay.agents a ON a.id = m.author_id
"""
_log = logging.getLogger("agentchat.relay")


class Broken(Unavailable):
    def __init__(self, directory: str) -> None:
        super().__init__(
            f"The search index in {directory} is broken. Once no agent has it open, this makes it again: "
            f"agentchat admin doctor --repair --data {shlex.quote(directory)}"
        )


class Index:
    """The index at `path` of the messages in `main`, on one thread. `forget` is told how far the words of deleted
    messages are not needed any more."""

    def __init__(
        self, path: str, main: str, connect: Callable[[str], Any], forget: Callable[[int], None], *,
        shared: bool = False,
    ) -> None:  # fmt: skip
        self.path = path
        self.is_shared = shared
        self.lag = 0  # messages not indexed yet, for whoever asks
        self._main = main
        self._connect = connect
        self._forget = forget
        self._merging: int | None = None  # the message up to which the index will be one piece

    def open(self) -> None:
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":  # the file is good
                raise
            try:
                self.begin_anew()
            except sqlite3.Error as error_of_new:  # then it is not this file that is wrong
                raise damage.unusable(self._main, error_of_new) from error
        if taken_out := self._one("SELECT taken_out FROM progress")[0]:
            self._forget(taken_out)  # a crash may have come between

    def close(self) -> None:
        self.connection.close()

    def begin_anew(self) -> None:
        """The file is no database, or a torn one. It holds nothing that is not in the other."""
        if self.is_shared:
            raise Broken(os.path.dirname(self.path))
        self.connection.close()
        for suffix in ("", "-wal", "-shm"):
            if os.path.exists(self.path + suffix):
                os.remove(self.path + suffix)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        self._prepare()

    def _prepare(self) -> None:
        self.connection = connection = self._connect(self.path)
        self._merging = None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if os.path.getsize(self.path) % self._one("PRAGMA page_size")[0]:
            raise sqlite3.DatabaseError("its end is missing")  # SQLite would read zeros there
        if self._one("PRAGMA user_version")[0] != _FORM:
            self._make()
        connection.execute("ATTACH ? AS relay", (self._main,))
        if not self._is_ours():
            self._make()

    def _make(self) -> None:
        with self._transaction():
            for table in _TABLES:
                self.connection.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in _SCHEMA.split(";\n"):
                self.connection.execute(statement)
            self.connection.execute(f"PRAGMA user_version = {_FORM}")

    def _is_ours(self) -> bool:
        """Whether this is the index of this database, not of another one or of a later state of it."""
        at, public_id = self._one("SELECT id, public_id FROM progress")
        row = self.connection.execute("SELECT public_id FROM relay.messages WHERE id = ?", (at,)).fetchone()
        if row is not None:
            return bool(row[0] == public_id)
        (purged,) = self._one("SELECT value FROM relay.marks WHERE name = 'purged_message'")
        if at > purged:
            _log.warning(
                "agentchat.db is older than search.db: its newest messages are missing. Was it restored from a backup? "
                "Else its log was damaged: agentchat admin doctor says more."
            )
        return bool(at <= purged)

    # Growing and forgetting

    def step(self) -> int:
        """A chunk, of one snapshot; returns how many rows are left. What is gone comes first: what is indexed after it
        was there then, so that the index holds exactly the messages up to its place that are not in `unindexed` above
        the other one."""
        try:
            return self._step()
        except sqlite3.OperationalError as error:
            if not (self.is_shared and getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")):
                raise
            time.sleep(_BETWEEN_TRIES)  # another process is at it; there may be more
            return 1

    def _step(self) -> int:
        with self._transaction():
            done, taken_out = self._one("SELECT id, taken_out FROM progress")
            newest: int = self._one("SELECT coalesce(max(id), 0) FROM relay.messages")[0]
            self.lag = max(newest - done, 0)  # told even if this fails
            gone: int = self.connection.execute(_GONE, (taken_out, _CHUNK)).fetchone()[0]
            if gone:
                self.connection.execute(_TAKE_OUT, (taken_out, gone, done))
                self.connection.execute("UPDATE progress SET taken_out = ?", (gone,))
            elif done < newest:
                through = min(done + _CHUNK, newest)
                self.connection.execute(_ADD, (done, through))
                self.connection.execute(_ADDED, (through, through))
                done = through
        self.lag = max(newest - done, 0)
        if gone:
            self.connection.execute("PRAGMA main.wal_checkpoint")  # on disk, before the words are
            self._forget(gone)
        return self.lag + bool(gone)

    # Staying quick

    def merge(self) -> bool:
        """A slice of making the index one piece, if that is due; whether there is more to do."""
        pages = _SLICE
        if self._merging is None:
            at, merged = self._one("SELECT id, merged FROM progress")
            if at - merged < max(_LEAST_MERGE, at // 4):
                return False
            self._merging, pages = at, -_SLICE  # less than nothing: all pieces, not only those of one size
        before = self.connection.total_changes
        self.connection.execute("INSERT INTO fulltext (fulltext, rank) VALUES ('merge', ?)", (pages,))
        if self.connection.total_changes - before >= 2:
            return True
        self.connection.execute("UPDATE progress SET merged = ?", (self._merging,))
        self._merging = None
        return False

    # Searching

    def search(self, query: Query, places: list[str], limit: int) -> Hits:
        """A phrase of common words that nobody wrote would be looked for in every message."""
        deadline = time.monotonic() + _LONGEST_SEARCH
        rows: list[Any] = []
        self.connection.set_progress_handler(lambda: time.monotonic() > deadline, 100)
        try:
            for row in self.connection.execute(_SEARCH, (match(query, places), limit)):
                rows.append(row)  # noqa: PERF402 - what came before the interruption counts
        except sqlite3.OperationalError as error:
            if time.monotonic() <= deadline or "interrupted" not in str(error):
                raise
            return Hits(rows, False)
        finally:
            self.connection.set_progress_handler(None, 0)
        return Hits(rows, True)

    def _one(self, sql: str) -> Any:
        return self.connection.execute(sql).fetchone()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.connection.execute("BEGIN")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            self.connection.rollback()  # which SQLite may have done already
            raise


def match(query: Query, places: list[str]) -> str:
    """A query in FTS5's language. Every word is quoted: bare punctuation would be an error there."""
    where = "place : (" + " OR ".join(f'"{place}"' for place in places) + ")"
    if query.alternatives:
        wanted = " OR ".join("(" + " AND ".join(map(_phrase, terms)) + ")" for terms in query.alternatives)
        where = f"{where} AND content : ({wanted})"
    if query.excluded:
        where = f"({where}) NOT content : ({' OR '.join(map(_phrase, query.excluded))})"
    return where


def _phrase(term: Term) -> str:
    return f'"{term.text}"'  # a term holds no quotes: they are what delimits it
