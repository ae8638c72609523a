"""The full-text index in Postgres: how it grows, and how it is asked for the newest hits.

Indexing a message costs more than storing it, so it follows in transactions of its own, a chunk at a time. Whoever adds
a chunk holds the one row of `fulltext_progress`: of many relays on one database one at a time does the work, and the
trigger that takes out deleted messages waits for it (see the migration). A crash may cost the last chunks, which are
then added again: the row and the words are lost together.

GIN gives hits in no order, and a common word has a million. So a search asks for the newest block of messages first,
then for larger and larger older parts (`words.windows`), until it has enough. GIN looks up the rarest of what is asked
for and skips through the rest: a rare word is found in little time however large a part is, and of a common word no
part holds many times more than what is wanted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg import errors
from psycopg.rows import dict_row, tuple_row

from ..query import Query
from ..seam import Hits
from .words import tsquery, vector, windows

_CHUNK = 500  # messages; for so long a deletion may have to wait
_LONGEST_SEARCH = 0.25  # seconds; what was found by then is the answer
_LONGEST_WAIT = 2000  # milliseconds, for others who add to the index

# A plan must not depend on what the planner believes of words; compiling one takes longer than any search.
_SESSION = "SET enable_seqscan = off; SET jit = off"
_STATE = "SELECT p.id, (SELECT coalesce(max(m.id), 0) FROM messages m) FROM fulltext_progress p"
_HOLD = "SELECT id FROM fulltext_progress FOR UPDATE"
_HOLD_IF_FREE = "SELECT id FROM fulltext_progress FOR UPDATE SKIP LOCKED"
# A message can be seen only if all before it can be, or are gone: ids are given in turn.
_NEW = """
SELECT m.id, m.content, m.kind, c.space_id, c.id, m.author_id, m.recipient_id
FROM messages m JOIN channels c ON c.id = m.channel_id
WHERE m.id > %s ORDER BY m.id LIMIT %s
"""
_ADD = "INSERT INTO fulltext (id, words) SELECT * FROM unnest(%s::bigint[], %s::text[]::tsvector[])"
_ADDED = "UPDATE fulltext_progress SET id = %s"
_BRING_IN = "SELECT gin_clean_pending_list('fulltext_words')"
# Not by id itself: the planner would walk all messages backwards, hoping for hits.
_FIND = "SELECT id FROM fulltext WHERE words @@ %s::tsquery ORDER BY id + 0 DESC LIMIT %s"
_ROWS = """
SELECT m.id, m.public_id, m.content, m.created_at, c.public_id AS channel_id, c.name AS channel_name,
    a.public_id AS author_id, a.name AS author_name
FROM messages m JOIN channels c ON c.id = m.channel_id JOIN agents a ON a.id = m.author_id
WHERE m.id = ANY(%s)
"""
_log = logging.getLogger("agentchat.relay")


class Index:
    """On a connection of its own, for one thread."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self.lag = 0  # messages not indexed yet, for whoever asks
        self._connect = connect

    def open(self) -> None:
        self.connection = self._connect()
        self.connection.execute(_SESSION)

    def close(self) -> None:
        self.connection.close()

    # Growing

    def step(self, *, wait: bool) -> int:
        """A chunk; returns how many messages are left. If another process is at it, wait for it or leave it to that."""
        try:
            return self._step(wait)
        except psycopg.OperationalError:
            if not self.connection.closed:
                raise
            self.open()  # the server went away, and may be back
            return self._step(wait)

    def _step(self, wait: bool) -> int:
        if self._look():
            try:
                self._add_chunk(wait, self._insert)
            except (errors.DataError, errors.ProgramLimitExceeded):
                self._add_chunk(wait, self._insert_singly)
            except errors.LockNotAvailable:
                pass
            self._look()
        return self.lag

    def _look(self) -> int:
        done, newest = self._one(_STATE)
        self.lag = max(newest - done, 0)
        return self.lag

    def _add_chunk(self, wait: bool, insert: Callable[[list[int], list[str]], None]) -> None:
        with self.connection.transaction():
            self._execute(f"SET LOCAL synchronous_commit = off; SET LOCAL lock_timeout = {_LONGEST_WAIT}")
            held = self._one(_HOLD if wait else _HOLD_IF_FREE)
            rows = self._execute(_NEW, held[0], _CHUNK).fetchall() if held else []
            if rows:
                found = {id: vector(id, content, _places(*where)) for id, content, kind, *where in rows if kind != "status"}
                insert(list(found), list(found.values()))
                self._execute(_ADDED, rows[-1][0])
                self._execute(_BRING_IN)

    def _insert(self, ids: list[int], vectors: list[str]) -> None:
        self._execute(_ADD, ids, vectors)

    def _insert_singly(self, ids: list[int], vectors: list[str]) -> None:
        """What Postgres cannot index keeps nothing else from being found."""
        for id, words in zip(ids, vectors, strict=True):
            try:
                with self.connection.transaction():
                    self._insert([id], [words])
            except (errors.DataError, errors.ProgramLimitExceeded) as error:
                _log.error("A message cannot be indexed, searches will not find it (%s)", type(error).__name__)

    # Searching

    def search(self, query: Query, places: list[str], limit: int) -> Hits:
        """Within the transaction that the connection is in. Most searches are over in a few milliseconds; a phrase of
        common words that nobody wrote would be looked for in every message."""
        ids: list[int] = []
        try:
            with self.connection.transaction(force_rollback=True):  # and the time limit with it
                self._find(ids, tsquery(query, places), limit)
        except errors.QueryCanceled:
            return Hits(self._rows(ids), False)
        return Hits(self._rows(ids), True)

    def _find(self, ids: list[int], wanted: str, limit: int) -> None:
        deadline = time.monotonic() + _LONGEST_SEARCH
        (newest,) = self._one("SELECT id FROM fulltext_progress")
        for window in windows(newest):
            left = int(1000 * (deadline - time.monotonic()))
            if left <= 0:
                raise errors.QueryCanceled
            self._execute("SELECT set_config('statement_timeout', %s, true)", str(left))
            ids += [id for (id,) in self._execute(_FIND, f"{window} & {wanted}", limit - len(ids))]
            if len(ids) >= limit:
                break

    def _rows(self, ids: list[int]) -> list[Any]:
        with self.connection.cursor(row_factory=dict_row) as cursor:
            return list(cursor.execute(_ROWS, (ids,))) if ids else []

    def _execute(self, sql: str, *values: Any) -> psycopg.Cursor[Any]:
        cursor = self.connection.cursor(row_factory=tuple_row)
        return cursor.execute(sql.encode(), values or None)

    def _one(self, sql: str) -> Any:
        return self._execute(sql).fetchone()


def _places(space_id: int, channel_id: int, author_id: int, recipient_id: int | None) -> Sequence[str]:
    if recipient_id is None:
        return f"s{space_id}", f"c{channel_id}"
    return f"d{author_id}", f"d{recipient_id}"
