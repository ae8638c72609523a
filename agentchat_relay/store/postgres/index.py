"""The full-text index in Postgres: how it grows, and how it is asked for the newest hits.

Indexing a message costs more than storing it, so it follows in transactions of its own, a chunk at a time. Whoever adds
a chunk holds the one row of `fulltext_progress`: of many relays on one database one at a time does the work. A crash
may cost the last chunks, which are then added again: the row and the words are lost together. Deleted messages are
taken out by a trigger, in the transaction that deletes them (see the migration).

GIN gives hits in no order, and a common word has a million. So a search looks at the newest messages itself, and then
asks for larger and larger older parts (`words.windows`), until it has enough. GIN looks up the rarest of what is asked
for and skips through the rest: a rare word is found in little time however large a part is, and of a common word no
part holds many times more than what is wanted. If one does all the same (a word of long ago), or has much to be looked
at (a phrase), it is given up after a moment, and its newer half comes first.

Only to skip through a common word is slow, 25 us a leap. So if the newest messages show that the words are common and
the place is not, GIN is asked for the place alone.
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
from ..seam import Hits, place_of
from .connection import Connection, Link, control, is_lost
from .words import loosely, tsquery, vector, windows, within

# For a connection of the index: no plan may depend on what the planner believes of words, and none is compiled, which
# would take longer than any search.
SESSION = "-c enable_seqscan=off -c jit=off"
_CHUNK = 300  # messages
_LONGEST_SEARCH = 0.25  # seconds; what was found by then is the answer
_LONGEST_LOOK = 0.05  # at one part
_LOOKED_AT = 256  # of the newest messages
_COMMON, _SPARSE = 1 / 20, 1 / 8  # of these
_LONGEST_WAIT = 2000  # milliseconds, for others who add to the index

_STATE = "SELECT p.id, (SELECT coalesce(max(m.id), 0) FROM messages m) FROM fulltext_progress p"
# After having waited, one must see what the others have done.
_HOLD = """
SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = off; SET LOCAL lock_timeout = {};
SELECT id FROM fulltext_progress FOR UPDATE
"""
# A message can be seen only if all before it can be, or are gone: ids are given in turn.
_NEW = """
SELECT m.id, m.content, m.kind <> 'status' AND m.vanishes_at IS NULL, c.space_id, m.channel_id, m.author_id,
    m.recipient_id
FROM messages m LEFT JOIN channels c ON c.id = m.channel_id
WHERE m.id > $1 ORDER BY m.id LIMIT $2
"""
# It would be there already if somebody had set the progress back, to have the index made again.
_ADD = """
INSERT INTO fulltext (id, words) SELECT * FROM unnest($1::bigint[], $2::text[]::tsvector[])
ON CONFLICT (id) DO UPDATE SET words = excluded.words
"""
_ADDED = "UPDATE fulltext_progress SET id = $1"
_NEWEST = """
SELECT id, words @@ $1::tsquery, words @@ $2::tsquery, words @@ $3::tsquery FROM fulltext ORDER BY id DESC LIMIT $4
"""
# Not by id itself: the planner would walk all messages backwards, hoping for hits. IS TRUE keeps GIN out of the second.
_FIND = """
SELECT id FROM fulltext WHERE words @@ $1::tsquery AND (words @@ $2::tsquery) IS TRUE AND id + 0 < $3
ORDER BY id + 0 DESC LIMIT $4
"""
_ROWS = """
SELECT m.id, m.public_id, m.content, m.created_at, c.public_id AS channel_id, c.name AS channel_name,
    a.public_id AS author_id, a.name AS author_name
FROM messages m JOIN channels c ON c.id = m.channel_id JOIN agents a ON a.id = m.author_id
WHERE m.id = ANY($1)
"""
_UNFIT = (errors.DataError, errors.ProgramLimitExceeded, errors.SyntaxError)  # how Postgres refuses a tsvector
_log = logging.getLogger("agentchat.relay")


class Index:
    """On a connection of its own, for one thread."""

    def __init__(self, link: Link) -> None:
        self.lag = 0  # messages not indexed yet, for whoever asks
        self._link = link
        self.has_more = False  # than a chunk, and it is ours to add
        self._done: int | None = None  # how far it was when we looked last

    # Growing

    def step(self, *, wait: bool) -> int:
        """A chunk; returns how many messages are left. If another process is at it, wait for it or leave it to that: to
        one that has added something since we looked last, too, for many small chunks cost more than few."""
        connection = self._link.get()
        try:
            return self._step(connection, wait)
        except psycopg.OperationalError:
            if not is_lost(connection):
                raise
            return self._step(self._link.get(), wait)

    def _step(self, connection: Connection, wait: bool) -> int:
        before, self.has_more = self._done, False
        if self._look(connection) and (wait or before in (None, self._done)):
            try:
                _add_chunk(connection, wait, _insert)
            except _UNFIT:
                _add_chunk(connection, wait, _insert_singly)
            except errors.LockNotAvailable:
                self._look(connection)
            else:
                was = self._done
                self.has_more = self._look(connection) >= _CHUNK and self._done != was
        return self.lag

    def _look(self, connection: Connection) -> int:
        ((done, newest),) = _all(connection, _STATE)
        self.lag, self._done = max(newest - done, 0), done
        return self.lag

    # Searching

    def search(self, query: Query, places: list[str], limit: int) -> Hits:
        """Within the transaction that the connection is in. Most searches are over in a few milliseconds; a phrase of
        common words that nobody wrote would be looked for in every message."""
        connection = self._link.get()
        ids: list[int] = []
        is_complete = True
        try:
            with connection.transaction(force_rollback=True):  # and the time limit with it
                _find(connection, ids, query, within(places), limit)
        except (_TimeIsUp, errors.QueryCanceled):
            is_complete = False
        cursor = psycopg.RawCursor(connection, row_factory=dict_row)
        return Hits(cursor.execute(_ROWS, (ids,)).fetchall() if ids else [], is_complete)


class _TimeIsUp(Exception):
    """What was found by now is the answer."""


def _all(connection: Connection, sql: str, *values: Any) -> list[Any]:
    return psycopg.RawCursor(connection, row_factory=tuple_row).execute(sql.encode(), values).fetchall()


def _run(connection: Connection, sql: str, *values: Any) -> None:
    psycopg.RawCursor(connection).execute(sql.encode(), values)


# Growing


def _add_chunk(connection: Connection, wait: bool, insert: Callable[[Connection, list[int], list[str]], None]) -> None:
    with connection.transaction():
        held = control(connection, _HOLD.format(_LONGEST_WAIT) + ("" if wait else " SKIP LOCKED"))
        rows = _all(connection, _NEW, int(held[0][0] or 0), _CHUNK) if held else []
        if rows:
            found = [(id, vector(id, text, _places(*where))) for id, text, is_kept, *where in rows if is_kept]
            insert(connection, [id for id, _ in found], [words for _, words in found])
            _run(connection, _ADDED, rows[-1][0])
            control(connection, "SELECT bring_in_words()")


def _insert(connection: Connection, ids: list[int], vectors: list[str]) -> None:
    _run(connection, _ADD, ids, vectors)


def _insert_singly(connection: Connection, ids: list[int], vectors: list[str]) -> None:
    """What Postgres cannot index keeps nothing else from being found."""
    for id, words in zip(ids, vectors, strict=True):
        try:
            with connection.transaction():
                _insert(connection, [id], [words])
        except _UNFIT as error:
            _log.error("A message cannot be indexed, searches will not find it (%s)", type(error).__name__)


def _places(space_id: int, channel_id: int, author_id: int, recipient_id: int | None) -> Sequence[str]:
    if recipient_id is None:
        return place_of(space_id=space_id), place_of(channel_id=channel_id)
    return place_of(agent_id=author_id), place_of(agent_id=recipient_id)


# Searching


def _find(connection: Connection, ids: list[int], query: Query, where: str, limit: int) -> None:
    """Adds what it finds to `ids`, so that it is there even if the time is up."""
    deadline = time.monotonic() + _LONGEST_SEARCH
    wanted = f"{where} & {tsquery(query)}"
    _limit(connection, deadline, _LONGEST_SEARCH)
    newest = _all(connection, _NEWEST, wanted, loosely(query), where, _LOOKED_AT)
    ids += [id for id, is_hit, _, _ in newest if is_hit][:limit]
    if len(newest) < _LOOKED_AT:
        return
    oldest = newest[-1][0]
    looked_up = where if _is_quicker_by_place(newest) else wanted
    parts = [*windows(oldest - 1)][::-1]
    while parts and len(ids) < limit:
        part = parts.pop()
        _limit(connection, deadline, _LONGEST_LOOK)
        try:
            found = _all(connection, _FIND, f"{part} & {looked_up}", wanted, oldest, limit - len(ids))
        except errors.QueryCanceled:
            control(connection, "ROLLBACK TO part")
            parts += part.halves() or [part]
        else:
            ids += [id for (id,) in found]


def _limit(connection: Connection, deadline: float, seconds: float) -> None:
    """What comes next takes so long at most, and may fail."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise _TimeIsUp
    control(connection, f"SAVEPOINT part; SET LOCAL statement_timeout = {max(int(1000 * min(left, seconds)), 1)}")


def _is_quicker_by_place(newest: Sequence[tuple[int, bool, bool, bool]]) -> bool:
    having_words, in_place = sum(row[2] for row in newest), sum(row[3] for row in newest)
    return having_words >= _COMMON * len(newest) and in_place < _SPARSE * len(newest)
