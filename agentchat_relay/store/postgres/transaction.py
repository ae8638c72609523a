"""The two transactions of the Postgres engine.

Writers of all processes take turns: a transaction that writes holds one lock from its beginning until it is committed.
So there is one order of everything, a position that anybody sees has all lower ones before it, no two writers can lock
each other out, and service functions may check first and write then, as they do on SQLite. What that costs is paid once
for a group of calls, not for each: whoever waits for a turn takes along what has come meanwhile.

Time is the database's own, looked at under that lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import psycopg

from ..buffered import LARGEST_MEMO, Buffered, Counters, Pending
from ..cache import Encoded, Shared
from ..groups import InDoubt, NoDatabase
from ..lane import Waiting
from ..reading import Named, Search
from ..seam import NeedsWrite, Outcome, Sizes
from ..statements import statements
from .connection import SIZES, Connection, Link, control, is_lost, run_prepared
from .faults import as_ours

_MOST_TOLD = 7000  # bytes of a notification, of which Postgres takes 8000
_HOT = 256  # channels whose counters are read together after somebody else's turn
_CLOCK = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_SNAPSHOT = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT epoch, {_CLOCK} FROM epochs"  # noqa: S608
_encode = msgspec.json.encode
_decode = msgspec.json.decode


def database_time(told: str | None) -> int:
    """What the database's clock said, in microseconds."""
    return int(told or 0)


class ReadTransaction(Named):
    """One snapshot of the database."""

    writes = False

    def __init__(self, connection: Connection, encoded: Encoded, now: int, epoch: int, search: Search | None) -> None:
        self.now = now
        self.epoch = epoch
        self.encoded = encoded
        self._connection = connection
        self._execute: Any = connection.cursor().execute
        self._statements = statements("postgres")
        self._search = search

    def sizes(self) -> Sizes:
        rows, fulltext = control(self._connection, SIZES)[0]
        return Sizes(int(rows or 0), int(fulltext or 0))


class Aside(ReadTransaction):
    """Statements that are transactions of their own, beside everybody's turns."""

    writes = True

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, Encoded(), 0, 0, None)

    def run(self, statement: str, /, **values: Any) -> int:
        found = self._statements[statement]
        return int(self._execute(found.sql, found.bind(values)).rowcount)


class WriteTransaction(ReadTransaction, Buffered):
    """The writer's one transaction. `turn` is the number of the lock, `me` that of this process among all that write.

    `memo` holds what stays true until somebody says `forget`, which counts an epoch on. Counters stay true as long as
    nobody else had a turn.
    """

    writes = True

    def __init__(self, link: Link, shared: Shared, *, turn: int, me: int, channel: str) -> None:
        ReadTransaction.__init__(self, link.get(), shared.current, 0, 0, None)
        Buffered.__init__(self, shared)
        self._link, self._turn, self._me, self._channel = link, turn, me, channel
        self._was_last = False  # whether the last turn was ours
        self._began = self._known = 0
        self._repeats: dict[tuple[str, int], Any] = {}
        self._lately: dict[int, None] = {}  # channels that were written to, the last ones last
        self._prepare(self._connection)

    # What service functions use

    def one(self, statement: str, /, **values: Any) -> Any:
        if statement == "repeat" and self._repeats:
            key = (values["key"], values["agent_id"])
            if key in self._repeats:  # once: this call may be about to change that
                return self._repeats.pop(key)
        return super().one(statement, **values)

    def run(self, statement: str, /, **values: Any) -> int:
        self.steps += 1
        found = self._statements[statement]
        cursor = self._execute(found.sql, found.bind(values))
        if not found.gives_id:
            return int(cursor.rowcount)
        row: Any = cursor.fetchone()
        return int(row["id"])

    # What the engine uses

    def begin(self) -> None:
        """Wait for our turn. An idle connection may have been lost without anybody's noticing."""
        try:
            self._take_turn()
        except psycopg.OperationalError as error:
            if not is_lost(self._connection):
                raise NoDatabase("The relay's database is busy; try again soon.", retry_after=1) from error
            self._take_turn()

    def _take_turn(self) -> None:
        connection = self._link.get()
        if connection is not self._connection:
            self._prepare(connection)
            self._connection, self._execute = connection, connection.cursor().execute
            self._was_last = False
        channels, spaces = ",".join(map(str, self._lately)), ",".join(map(str, self._positions))
        last = self._me if self._was_last else -1
        look = f"EXECUTE take_turn; EXECUTE look_around({last}, '{{{spaces}}}', '{{{channels}}}')"
        epoch, now, standing = control(connection, f"BEGIN ISOLATION LEVEL READ COMMITTED; {look}")[0]
        self.now = database_time(now)
        self.forgot = False
        self._began = self.steps
        self._repeats.clear()
        self._was_last = standing is None
        if standing is not None:
            self._count_anew(*_decode(standing))
        if int(epoch or 0) != self.epoch:
            self.epoch = int(epoch or 0)
            self._shared.moved(self.epoch)
            self.encoded = self._shared.current
            self.memo.clear()
        elif len(self.memo) > LARGEST_MEMO:
            self.memo.clear()
        if len(self.tallies) > LARGEST_MEMO:
            self.tallies.clear()

    def _prepare(self, connection: Connection) -> None:
        """What is run in every turn is planned once for a connection. It may have got stuck halfway before."""
        look, repeats, append = (self._statements[name] for name in ("look_around", "repeats", "append"))
        control(
            connection,
            f"DEALLOCATE ALL; PREPARE take_turn AS SELECT pg_advisory_xact_lock({self._turn});"
            f"PREPARE look_around (BIGINT, BIGINT[], BIGINT[]) AS {look.sql};"
            f"PREPARE repeats (TEXT) AS {repeats.sql};"
            f"PREPARE append ({', '.join(['TEXT'] * len(append.names))}) AS {append.sql};"
            f"PREPARE tell (TEXT) AS SELECT pg_notify('{self._channel}', $1);"
            f"PREPARE had_turn AS SELECT setval('turn_writer', {self._me})",
        )

    def _count_anew(self, newest: int, spaces: Sequence[tuple[int, int]], channels: Sequence[Sequence[Any]]) -> None:
        """Somebody else had a turn. Channels of late are likely to be written to again."""
        self._drop_counters()
        self._next_message = newest + 1
        self._positions.update(dict(spaces))
        self._channels.update({id: Counters(*counters) for id, *counters in channels})

    def expect(self, group: Iterable[Waiting]) -> None:
        """Look at once for whatever was done before under the keys of a group."""
        keys = dict.fromkeys(key for waiting in group if (key := getattr(waiting.call, "key", None)) is not None)
        self._repeats = dict.fromkeys(keys)
        if not keys:
            return
        asked = _encode([{"key": key, "agent_id": agent_id} for key, agent_id in keys])
        for key, agent_id, id, digest, answer in run_prepared(self._connection, "repeats", asked):
            row = {"id": int(id or 0), "digest": bytes.fromhex((digest or "")[2:]), "answer": answer}
            self._repeats[key or "", int(agent_id or 0)] = row

    def commit(self) -> bool:
        """Returns whether something was to be forgotten."""
        self.flush()
        connection = self._connection
        if self.steps == self._began:
            control(connection, "COMMIT")
            return False
        last: list[str] = []
        if not self._was_last:
            last.append("EXECUTE had_turn")
        if self.forgot:
            last.append(f"UPDATE epochs SET epoch = {self.epoch + 1}")  # noqa: S608 - a number
        try:
            control(connection, ";".join([*last, f"EXECUTE tell('{self._told()}')", "COMMIT"]))
        except psycopg.OperationalError as error:
            if is_lost(connection):
                raise InDoubt(retry_after=1) from error
            raise
        self._was_last = True
        self._commit_positions()
        if self.forgot:
            self.epoch += 1
            self._shared.moved(self.epoch)
            self.encoded = self._shared.current
        return self.forgot

    def _told(self) -> str:
        """What the other processes are notified of: the epoch, and where each space stands that grew."""
        epoch = self.epoch + self.forgot
        places = ",".join(f"{space_id}:{position}" for space_id, position in self._reached.items())
        return f"{epoch};{places}" if len(places) <= _MOST_TOLD else f"{epoch};"

    def roll_back(self) -> None:
        self._was_last = False
        self._reached.clear()
        self._settled()
        self._drop_caches()
        if not is_lost(self._connection):
            control(self._connection, "ROLLBACK")

    @property
    def newest(self) -> int:
        """The highest id that a message ever had, as far as this process knows without asking."""
        self._known = max(self._known, self._next_message - 1)
        return self._known

    def _newest(self) -> int:
        return int(self.the("newest_message")["id"])

    def _write_down(self, pending: Pending) -> None:
        """One statement for everything that was appended."""
        for *_, id in pending.get("move_channel", ()):
            self._lately.pop(id, None)
            self._lately[id] = None
        while len(self._lately) > _HOT:
            del self._lately[next(iter(self._lately))]
        append = self._statements["append"]
        lists = []
        for kind in append.names:
            names = self._statements[kind].names
            rows = pending.get(kind, ())
            lists.append(_encode([dict(zip(names, row, strict=True)) for row in rows]) if rows else b"[]")
        run_prepared(self._connection, "append", *lists)
        for kind in pending.keys() - set(append.names):
            for row in pending[kind]:
                self._execute(self._statements[kind].sql, row)

    def _control(self, sql: str) -> None:
        control(self._connection, sql)


def read_group(
    link: Link, shared: Shared, group: Sequence[Waiting], again: Callable[[Waiting], None], search: Search | None = None
) -> list[Outcome]:
    """All calls of the group on one snapshot. Calls that turn out to write are handed to `again`."""
    outcomes: list[Outcome] = []
    transaction: ReadTransaction | None = None
    for waiting in group:
        try:
            if transaction is None:
                transaction = _snapshot(link, shared, search)
            outcomes.append((waiting.done, waiting.call(transaction), None))
        except NeedsWrite:
            again(waiting)
        except Exception as error:
            outcomes.append((waiting.done, None, as_ours(error)))
            if isinstance(error, psycopg.Error):  # Postgres answers nothing more in this one
                _end(transaction)
                transaction = None
    _end(transaction)
    return outcomes


def run_aside(link: Link, group: Sequence[Waiting]) -> list[Outcome]:
    """Each call by itself. An idle connection may have been lost without anybody's noticing."""
    outcomes: list[Outcome] = []
    for waiting in group:
        try:
            connection = link.get()
            try:
                result = waiting.call(Aside(connection))
            except psycopg.OperationalError:
                if not is_lost(connection):
                    raise
                result = waiting.call(Aside(link.get()))
            outcomes.append((waiting.done, result, None))
        except Exception as error:
            outcomes.append((waiting.done, None, as_ours(error)))
    return outcomes


def _snapshot(link: Link, shared: Shared, search: Search | None) -> ReadTransaction:
    """An idle connection may have been lost without anybody's noticing."""
    connection = link.get()
    try:
        found = control(connection, _SNAPSHOT)
    except psycopg.OperationalError:
        if not is_lost(connection):
            raise
        connection = link.get()
        found = control(connection, _SNAPSHOT)
    epoch, now = found[0]
    return ReadTransaction(connection, shared.at(int(epoch or 0)), database_time(now), int(epoch or 0), search)


def _end(transaction: ReadTransaction | None) -> None:
    if transaction is not None and not is_lost(transaction._connection):
        try:
            control(transaction._connection, "ROLLBACK")
        except psycopg.Error:
            transaction._connection.close()
