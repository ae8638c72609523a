"""The two transactions of the SQLite engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ...wire import now
from ..buffered import LARGEST_MEMO, Buffered, Pending
from ..cache import Encoded, Shared
from ..faults import as_ours
from ..lane import Waiting
from ..reading import Named, Search
from ..seam import NeedsWrite, Outcome, Sizes
from ..statements import statements

# An id is never given twice, though its message may be gone.
_NEWEST = """
SELECT max(coalesce((SELECT max(id) FROM messages), 0), (SELECT value FROM marks WHERE name = 'purged_message'))
"""
_EPOCH = "SELECT coalesce((SELECT value FROM marks WHERE name = 'epoch'), 0)"
_NEXT_EPOCH = "INSERT INTO marks VALUES ('epoch', ?1) ON CONFLICT (name) DO UPDATE SET value = ?1"


class ReadTransaction(Named):
    """One snapshot of the database."""

    writes = False

    def __init__(
        self,
        connection: Any,
        encoded: Encoded,
        now: int,
        epoch: int,
        search: Search | None = None,
    ) -> None:
        self.now = now
        self.epoch = epoch
        self.encoded = encoded
        self._execute = connection.execute
        self._statements = statements("sqlite")
        self._search = search

    def sizes(self) -> Sizes:
        path = str(self._execute("SELECT file FROM pragma_database_list WHERE name = 'main'").fetchone()[0])
        return Sizes(_size(path), _size(os.path.join(os.path.dirname(path), "search.db")))


def _size(path: str) -> int:
    """Of a database and its log."""
    return sum(os.path.getsize(file) for file in (path, f"{path}-wal") if os.path.exists(file))


class WriteTransaction(ReadTransaction, Buffered):
    """The writer's one transaction, begun and committed again and again.

    `memo` and the counters outlive a commit as long as nobody else writes: `PRAGMA data_version` moves when another
    process did. What is encoded outlives that too, until somebody says `forget`.
    """

    writes = True

    def __init__(self, connection: Any, shared: Shared) -> None:
        ReadTransaction.__init__(self, connection, shared.current, 0, shared.epoch)
        Buffered.__init__(self, shared)
        self._many = connection.executemany
        self._version = -1
        self.positions: dict[int, int] = {}  # of spaces, as far as they are committed

    def run(self, statement: str, /, **values: Any) -> int:
        self.steps += 1
        found = self._statements[statement]
        cursor = self._execute(found.sql, found.bind(values))
        return int(cursor.lastrowid if found.gives_id else cursor.rowcount)

    def _newest(self) -> int:
        return int(self._execute(_NEWEST).fetchone()[0])

    def _write_down(self, pending: Pending) -> None:
        for name, rows in pending.items():
            self._many(self._statements[name].sql, rows)

    def _control(self, sql: str) -> None:
        self._execute(sql)

    def begin(self, now: int) -> None:
        self._execute("BEGIN IMMEDIATE")
        self.now = now
        self.epoch = self._shared.epoch
        self.forgot = False
        version = self._execute("PRAGMA data_version").fetchone()[0]
        if version != self._version:
            self._version = version
            self._look_again()
        elif len(self.memo) > LARGEST_MEMO:
            self.memo.clear()
        if len(self.tallies) > LARGEST_MEMO:
            self.tallies.clear()

    def _look_again(self) -> None:
        """Another process may have changed anything."""
        if not self._shared.is_counted:
            self._drop_caches()
            return
        self._drop_counters()
        self.memo.clear()
        self.epoch = epoch_of(self._execute)
        self.encoded = self._shared.at(self.epoch)

    def commit(self) -> bool:
        """Returns whether something was to be forgotten."""
        self.flush()
        if self.forgot and self._shared.is_counted:
            self._execute(_NEXT_EPOCH, (self.epoch + 1,))
        self._execute("COMMIT")
        self.positions.update(self._reached)
        self._commit_positions()
        if self.forgot:
            shared = self._shared
            self.encoded = shared.at(self.epoch + 1) if shared.is_counted else shared.renew()
        return self.forgot

    def roll_back(self) -> None:
        try:
            self._execute("ROLLBACK")
        except Exception as error:  # BEGIN failed, or the engine rolled back by itself
            if "no transaction" not in str(error):
                raise
        finally:
            self._reached.clear()
            self._settled()
            self._drop_caches()


def epoch_of(execute: Callable[[str], Any]) -> int:
    """The one that a transaction is in, where the database counts them."""
    return int(execute(_EPOCH).fetchone()[0])


def read_group(
    connection: Any,
    encoded: Shared,
    group: Sequence[Waiting],
    again: Callable[[Waiting], None],
    search: Search | None = None,
) -> list[Outcome]:
    """All calls of the group on one snapshot. Calls that turn out to write are handed to `again`."""
    outcomes: list[Outcome] = []
    try:
        epoch, current = encoded.epoch, encoded.current
        connection.execute("BEGIN")
        if encoded.is_counted:
            epoch = epoch_of(connection.execute)
            current = encoded.at(epoch)
        transaction = ReadTransaction(connection, current, now(), epoch, search)
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
