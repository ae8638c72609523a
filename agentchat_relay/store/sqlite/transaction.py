"""The two transactions of the SQLite engine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from ...wire import now
from ..cache import Encoded, Shared
from ..faults import as_ours
from ..lane import Waiting
from ..query import Query
from ..seam import Hits, NeedsWrite, Outcome, Place, Sizes, Standing
from ..statements import statements

_LARGEST_MEMO = 50_000
# An id is never given twice, though its message may be gone.
_NEWEST = """
SELECT max(coalesce((SELECT max(id) FROM messages), 0), (SELECT value FROM marks WHERE name = 'purged_message'))
"""


class ReadTransaction:
    """One snapshot of the database."""

    writes = False

    def __init__(
        self,
        connection: Any,
        encoded: Encoded,
        now: int,
        search: Callable[[Query, list[str], int], Hits] | None = None,
    ) -> None:
        self.now = now
        self.encoded = encoded
        self._execute = connection.execute
        self._statements = statements()
        self._search = search

    def one(self, statement: str, /, **values: Any) -> Any:
        found = self._statements[statement]
        return self._execute(found.sql, found.bind(values)).fetchone()

    def the(self, statement: str, /, **values: Any) -> Any:
        row = self.one(statement, **values)
        if row is None:
            raise LookupError(f"{statement} found no row")
        return row

    def all(self, statement: str, /, **values: Any) -> list[Any]:
        found = self._statements[statement]
        rows: list[Any] = self._execute(found.sql, found.bind(values)).fetchall()
        return rows

    def search(self, query: Query, *, places: list[str], limit: int) -> Hits:
        if self._search is None:
            raise RuntimeError("searches run in the SEARCH lane")
        return self._search(query, places, limit)

    def sizes(self) -> Sizes:
        path = str(self._execute("SELECT file FROM pragma_database_list WHERE name = 'main'").fetchone()[0])
        return Sizes(_size(path), _size(os.path.join(os.path.dirname(path), "search.db")))


def _size(path: str) -> int:
    """Of a database and its log."""
    return sum(os.path.getsize(file) for file in (path, f"{path}-wal") if os.path.exists(file))


class _Counters:
    """Where a channel stands, with what this group added."""

    __slots__ = ("at", "chats", "latest", "number")

    def __init__(self, number: int, chats: int, at: int, latest: int | None) -> None:
        self.number, self.chats, self.at, self.latest = number, chats, at, latest


class WriteTransaction(ReadTransaction):
    """The writer's one transaction, begun and committed again and again.

    `memo` and the counters outlive a commit, since nobody else writes. That is checked: `PRAGMA data_version` moves
    when another process did.
    """

    writes = True

    def __init__(self, connection: Any, shared: Shared) -> None:
        super().__init__(connection, shared.current, 0)
        self._shared = shared
        self._many = connection.executemany
        self.memo: dict[Any, Any] = {}
        self.steps = 0  # grows with every write of any kind
        self._version = -1
        self._forgot = False
        self._pending: dict[str, list[tuple[Any, ...]]] = {}
        self._tokens: set[object] = set()
        self._channels: dict[int, _Counters] = {}
        self._moved: set[int] = set()  # channels whose counters are ahead of their rows
        self._positions: dict[int, int] = {}
        self._grown: set[int] = set()  # the same for spaces
        self._next_message = 0

    # What service functions use

    def run(self, statement: str, /, **values: Any) -> int:
        self.steps += 1
        found = self._statements[statement]
        cursor = self._execute(found.sql, found.bind(values))
        return int(cursor.lastrowid if found.sql.startswith("INSERT") else cursor.rowcount)

    def later(self, statement: str, /, **values: Any) -> None:
        self.steps += 1
        row = self._statements[statement].bind(values)
        rows = self._pending.get(statement)
        if rows is None:
            self._pending[statement] = [row]
        else:
            rows.append(row)

    def settle(self, token: object) -> None:
        if token in self._tokens:
            self.flush()
        self._tokens.add(token)

    def place(self, channel_id: int, *, chat: bool) -> Place:
        self.steps += 1
        counters = self._channels.get(channel_id) or self._load(channel_id)
        if not self._next_message:
            self._next_message = 1 + self.newest
        id = self._next_message
        self._next_message += 1
        counters.number += 1
        if chat:
            counters.chats += 1
            counters.latest = id
        counters.at = max(self.now, counters.at + 1)
        self._moved.add(channel_id)
        return Place(id, counters.number, counters.chats, counters.at)

    def standing(self, channel_id: int) -> Standing:
        counters = self._channels.get(channel_id) or self._load(channel_id)
        return Standing(counters.chats, counters.at)

    def event(
        self,
        space_id: int,
        kind: str,
        *,
        actor_id: int | None,
        subject: str,
        channel_id: int | None = None,
        audience_id: int | None = None,
        payload: str = "",
    ) -> None:
        position = self._positions.get(space_id)
        if position is None:
            position = self.the("space_position", id=space_id)["position"]
        self._positions[space_id] = position = position + 1
        self._grown.add(space_id)
        self.later(
            "insert_event",
            space_id=space_id,
            position=position,
            kind=kind,
            actor_id=actor_id,
            subject=subject,
            channel_id=channel_id,
            audience_id=audience_id,
            created_at=self.now,
            hash=hashlib.blake2b(f"{subject}\n{payload}".encode(), digest_size=16).digest(),
        )

    def forget(self) -> None:
        self.steps += 1
        self._forgot = True
        self.memo.clear()

    # What the engine uses

    @property
    def newest(self) -> int:
        """The highest id that a message ever had."""
        return self._next_message - 1 if self._next_message else int(self._execute(_NEWEST).fetchone()[0])

    def begin(self, now: int) -> None:
        self._execute("BEGIN IMMEDIATE")
        self.now = now
        self._forgot = False
        version = self._execute("PRAGMA data_version").fetchone()[0]
        if version != self._version:
            self._drop_caches()
            self._version = version
        elif len(self.memo) > _LARGEST_MEMO:
            self.memo.clear()

    def flush(self) -> None:
        """Write down what was buffered: one statement for each kind of row, one for each counter."""
        for name, rows in self._pending.items():
            self._many(self._statements[name].sql, rows)
        if self._moved:
            moved = [(id, self._channels[id]) for id in self._moved]
            self._many(
                self._statements["move_channel"].sql,
                [(counters.number, counters.chats, counters.at, counters.latest, id) for id, counters in moved],
            )
        if self._grown:
            grown = [(self._positions[id], id) for id in self._grown]
            self._many(self._statements["move_space"].sql, grown)
        self._settled()

    def commit(self) -> bool:
        """Returns whether something was to be forgotten."""
        self.flush()
        self._execute("COMMIT")
        if self._forgot:
            self.encoded = self._shared.renew()
        return self._forgot

    def roll_back(self) -> None:
        try:
            self._execute("ROLLBACK")
        except Exception as error:  # BEGIN failed, or the engine rolled back by itself
            if "no transaction" not in str(error):
                raise
        finally:
            self._settled()
            self._drop_caches()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Whatever raises in here leaves nothing behind."""
        self.flush()
        before = self.steps
        self._execute("SAVEPOINT call")
        try:
            yield
            self.flush()
        except BaseException:
            self._execute("ROLLBACK TO call")
            self._execute("RELEASE call")
            if self.steps != before:
                self._settled()
                self._drop_caches()
            raise
        self._execute("RELEASE call")

    def _load(self, channel_id: int) -> _Counters:
        row = self.the("channel_counters", id=channel_id)
        counters = _Counters(row["number"], row["chats"], row["last_at"], row["latest_id"])
        self._channels[channel_id] = counters
        return counters

    def _settled(self) -> None:
        self._pending.clear()
        self._tokens.clear()
        self._moved.clear()
        self._grown.clear()

    def _drop_caches(self) -> None:
        self.memo.clear()
        self._channels.clear()
        self._positions.clear()
        self._next_message = 0
        self.encoded = self._shared.renew()


def read_group(
    connection: Any,
    encoded: Shared,
    group: Sequence[Waiting],
    again: Callable[[Waiting], None],
    search: Callable[[Query, list[str], int], Hits] | None = None,
) -> list[Outcome]:
    """All calls of the group on one snapshot. Calls that turn out to write are handed to `again`."""
    outcomes: list[Outcome] = []
    try:
        connection.execute("BEGIN")
        transaction = ReadTransaction(connection, encoded.current, now(), search)
        for waiting in group:
            try:
                outcomes.append((waiting.done, waiting.call(transaction), None))
            except NeedsWrite:
                again(waiting)
            except Exception as error:
                outcomes.append((waiting.done, None, as_ours(error)))
        connection.execute("ROLLBACK")
    except Exception as error:  # the connection itself fails: who has no outcome yet gets this one
        told = {id(done) for done, _, _ in outcomes}
        outcomes += [(waiting.done, None, as_ours(error)) for waiting in group if id(waiting.done) not in told]
        with suppress(Exception):  # everybody gets an outcome
            connection.rollback()
    return outcomes
