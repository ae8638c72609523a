"""The full-text index of SQLite: a file of its own, filled by a thread of its own, which also answers searches.

So a merge of the index never holds a lock that a message waits for, and the file can be deleted: it is made again.
Searches see what was acknowledged before them, because the thread catches up first. A message is filed under its
places (see `seam.place_of`), so that a search in one channel, or of one agent's direct messages, costs no more than
one in all.

A deleted message leaves its words in the table `unindexed` (a trigger's doing), since FTS5 needs them to take it out of
the index. What was taken out is remembered in the index's own file, in the same transaction: twice would break it.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any

from agentchat.errors import Unavailable

from .cache import Shared
from .faults import as_ours
from .lane import LaneThread, Waiting
from .query import Query, Term
from .seam import Outcome
from .sqlite_tx import read_group

_CHUNK = 2000
_LONGEST_CATCH_UP = 2.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS progress (only INTEGER PRIMARY KEY CHECK (only = 1), id INTEGER NOT NULL, public_id TEXT);
CREATE VIRTUAL TABLE IF NOT EXISTS fulltext USING fts5(
    content, place, content = '', columnsize = 0, tokenize = 'porter unicode61 remove_diacritics 2'
);
INSERT OR IGNORE INTO progress VALUES (1, 0, NULL);
CREATE TABLE IF NOT EXISTS taken_out (only INTEGER PRIMARY KEY CHECK (only = 1), id INTEGER NOT NULL);
INSERT OR IGNORE INTO taken_out VALUES (1, 0);
"""
_INDEX = """
INSERT INTO fulltext (rowid, content, place)
SELECT m.id, m.content, CASE
    WHEN m.recipient_id IS NULL THEN 's' || c.space_id || ' c' || c.id
    ELSE 'd' || m.author_id || ' d' || m.recipient_id END
FROM relay.messages m JOIN relay.channels c ON c.id = m.channel_id
WHERE m.id > ? AND m.id <= ? AND m.kind <> 'status'
"""
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
ORDER BY m.id DESC
"""


class FullText:
    """`written()` says that there is something new; the index follows after `pause` seconds."""

    def __init__(
        self,
        path: str,
        main: str,
        connect: Callable[[str], Any],
        shared: Shared,
        again: Callable[[Waiting], None],
        deliver: Callable[[Sequence[Outcome]], object],
        forget: Callable[[int], None],
        pause: float,
    ) -> None:
        self.path = path
        self.lag = 0  # messages to index, as the thread last saw
        self._main = main
        self._connect = connect
        self._deliver = deliver
        self._shared = shared
        self._again = again
        self._forget = forget
        self._due = False
        self._stuck = False  # it cannot grow
        self._broken = False  # it cannot be read
        self.lane = LaneThread("search", self._process, start=self._open, stop=self._close, pause=pause)

    def written(self) -> None:
        if not self._due:
            self._due = True
            self.lane.wake()

    # On the thread

    def _open(self) -> None:
        try:
            self._prepare()
        except sqlite3.DatabaseError:
            self._begin_anew()
        (taken_out,) = self._connection.execute("SELECT id FROM taken_out").fetchone()
        self._forget(taken_out)  # a crash may have come between
        self.written()

    def _begin_anew(self) -> None:
        """The file is no database, or a torn one. It holds nothing that is not in the other."""
        self._broken = True
        self._connection.close()
        for suffix in ("", "-wal", "-shm"):
            if os.path.exists(self.path + suffix):
                os.remove(self.path + suffix)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        self._prepare()
        self._broken = False

    def _prepare(self) -> None:
        self._connection = connection = self._connect(self.path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN")
        for statement in _SCHEMA.split(";\n"):
            connection.execute(statement)
        connection.execute("COMMIT")
        connection.execute("ATTACH ? AS relay", (self._main,))
        if not self._is_ours():
            connection.execute("BEGIN")
            for table in ("fulltext", "progress", "taken_out"):
                connection.execute(f"DROP TABLE {table}")
            for statement in _SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.execute("COMMIT")

    def _is_ours(self) -> bool:
        """Whether this is the index of this database, not of another one or of a later state of it."""
        at, public_id = self._connection.execute("SELECT id, public_id FROM progress").fetchone()
        row = self._connection.execute("SELECT public_id FROM relay.messages WHERE id = ?", (at,)).fetchone()
        if row is not None:
            return bool(row[0] == public_id)
        (purged,) = self._connection.execute("SELECT value FROM relay.marks WHERE name = 'purged_message'").fetchone()
        return bool(at <= purged)

    def _close(self) -> None:
        self._connection.close()

    def _process(self, group: Sequence[Waiting]) -> None:
        try:
            self._work(group)
        except Exception as error:
            logging.getLogger("agentchat.relay").warning("Searching failed: %s", error)
            self._deliver([(waiting.done, None, as_ours(error)) for waiting in group])

    def _work(self, group: Sequence[Waiting]) -> None:
        self._due = False
        behind = self._follow(_LONGEST_CATCH_UP if group else 0)
        if behind:
            self.written()
        if not group:
            return
        outcomes = self._answer(group, behind)
        if self._broken:
            outcomes = self._answer(group, self._follow(_LONGEST_CATCH_UP))
        self._deliver(outcomes)

    def _follow(self, seconds: float) -> int:
        """Catch up as far as the disk lets us; returns how many rows are left."""
        if self._broken:
            self._begin_anew()
        try:
            behind = self._catch_up(seconds)
        except sqlite3.OperationalError as error:  # a full disk: what is indexed can still be searched
            if not self._stuck:
                logging.getLogger("agentchat.relay").warning("The search index cannot grow: %s", error)
            self._stuck = True
            return 0
        except sqlite3.DatabaseError as error:
            logging.getLogger("agentchat.relay").warning("The search index is broken (%s) and is made again", error)
            self._begin_anew()
            behind = self._catch_up(seconds)
        self._stuck = False
        return behind

    def _answer(self, group: Sequence[Waiting], behind: int) -> list[Outcome]:
        if behind:
            late = Unavailable(f"The search index is being built, {behind} messages to go; try again soon.")
            late.retry_after = 2.0
            return [(waiting.done, None, late) for waiting in group]
        return read_group(self._connection, self._shared, group, self._again, self._search)

    def _catch_up(self, seconds: float) -> int:
        """Index what is new and forget what is gone, at least one chunk; returns how many rows are left after
        `seconds`."""
        deadline = time.monotonic() + seconds
        while left := self._step():
            if time.monotonic() > deadline:
                return left
        return 0

    def _step(self) -> int:
        """A chunk, of one snapshot. What is gone comes first: what is indexed after it was there then, so that the
        index holds exactly the messages up to its place that are not named in `unindexed` beyond the other one."""
        execute = self._connection.execute
        execute("BEGIN")
        try:
            (done,) = execute("SELECT id FROM progress").fetchone()
            (taken_out,) = execute("SELECT id FROM taken_out").fetchone()
            (newest,) = execute("SELECT coalesce(max(id), 0) FROM relay.messages").fetchone()
            (gone,) = execute(_GONE, (taken_out, _CHUNK)).fetchone()
            self.lag = max(newest - done, 0)
            if gone:
                execute(_TAKE_OUT, (taken_out, gone, done))
                execute("UPDATE taken_out SET id = ?", (gone,))
            elif done < newest:
                self._index(done, min(done + _CHUNK, newest))
            execute("COMMIT")
        except BaseException:
            self._connection.rollback()  # which may have been done already
            raise
        if gone:
            execute("PRAGMA main.wal_checkpoint")  # on disk, before the words are
            self._forget(gone)
            return int(max(newest - done, 0) + 1)
        self.lag = int(max(newest - done - _CHUNK, 0))
        return self.lag

    def _index(self, after: int, through: int) -> None:
        self._connection.execute(_INDEX, (after, through))
        self._connection.execute(
            "UPDATE progress SET id = ?, public_id = (SELECT public_id FROM relay.messages WHERE id = ?)",
            (through, through),
        )

    def _search(self, query: Query, places: list[str], limit: int) -> list[Any]:
        try:
            rows: list[Any] = self._connection.execute(_SEARCH, (match(query, places), limit)).fetchall()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            self._broken = True
            raise Unavailable(
                "The search index is broken and is being made again; try again soon.", retry_after=2
            ) from None
        return rows


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
