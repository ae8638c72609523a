"""SQLite: one file for everything that counts, one for the full-text index, one writer thread that commits in groups.

    agentchat.db   WAL, synchronous=FULL. An outcome is delivered after the commit that holds it is on disk
    search.db      made from the former and can be made again; its thread answers searches too (`fulltext.py`)

A group of calls is one transaction. APPEND calls run bare and buffer what they append; any other runs after a flush,
inside a savepoint. Should the group as a whole fail (a full disk, a broken rule), it is rolled back and its calls are
tried again one by one, so that each gets its own outcome.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from agentchat.errors import AgentChatError, NotConfigured, Unavailable

from ..durable import sync_directory
from ..wire import now
from .cache import Shared
from .fulltext import FullText
from .lane import LaneThread, Waiting, tell
from .migrate import migrate
from .seam import Call, Done, Lane, Outcome
from .sqlite_tx import WriteTransaction, as_ours, read_group

T = TypeVar("T")
Connect = Callable[[str], Any]
_LONGEST_WAIT = 60.0


def connect(path: str) -> sqlite3.Connection:
    """A connection for one thread."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    connection.row_factory = sqlite3.Row
    return connection


class Sqlite:
    """The store in one directory. `deliver` hands over the outcomes of a group, by default on the lane's own thread."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        deliver: Callable[[Sequence[Outcome]], object] = tell,
        synchronous: str = "FULL",
        connect: Connect = connect,
        index_pause: float = 0.02,
    ) -> None:
        self.path = os.path.join(directory, "agentchat.db")
        self.epoch = 0
        self._deliver = deliver
        self._synchronous = synchronous
        self._connect = connect
        for name in ("agentchat.db", "search.db"):  # the other files of a database get the mode of the first
            os.close(os.open(os.path.join(directory, name), os.O_RDWR | os.O_CREAT, 0o600))
        sync_directory(str(directory))
        self._shared = Shared()
        search = os.path.join(directory, "search.db")
        self._fulltext = FullText(search, self.path, connect, self._shared, self._again, deliver, index_pause)
        self._writer = LaneThread("writer", self._write, start=self._open_writer, stop=self._close_writer)
        self._reader = LaneThread("reader", self._read, start=self._open_reader, stop=self._close_reader)
        self._lanes = (self._reader, self._fulltext.lane, self._writer, self._writer)
        started: list[LaneThread] = []
        try:
            for lane in (self._writer, self._reader, self._fulltext.lane):
                lane.start()
                started.append(lane)
        except BaseException:
            for lane in started:
                lane.close()
            raise

    def submit(self, lane: Lane, call: Call, done: Done) -> None:
        self._lanes[lane].submit(Waiting(lane, call, done))

    def ask(self, lane: Lane, call: Callable[[Any], T]) -> T:
        over = threading.Event()
        outcome: list[Any] = []

        def done(result: Any, error: BaseException | None) -> None:
            outcome.extend((result, error))
            over.set()

        self.submit(lane, call, done)
        if not over.wait(_LONGEST_WAIT):
            raise Unavailable("The store did not answer in time.")
        if outcome[1] is not None:
            raise outcome[1]
        result: T = outcome[0]
        return result

    def close(self) -> None:
        self._fulltext.lane.close()
        self._reader.close()
        self._writer.close()

    def _again(self, waiting: Waiting) -> None:
        """A call that was taken for a read, and is none."""
        waiting.lane = Lane.WRITE
        try:
            self._writer.submit(waiting)
        except Unavailable as error:
            self._deliver([(waiting.done, None, error)])

    # The writer's thread

    def _open_writer(self) -> None:
        connection = self._connect(self.path)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.DatabaseError as error:
            raise NotConfigured(f"{self.path} cannot be opened: {error}. Restore it from a backup.") from error
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute("PRAGMA wal_autocheckpoint = 10000")  # a longer log costs 42 MB and gives 12 % more sends
        connection.execute("PRAGMA journal_size_limit = 67108864")
        # What a killed process had written, but not yet synced, is there now and could be lost yet: make it durable
        # before anybody is told of it.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        migrate(connection, "sqlite")
        self._connection = connection
        self._transaction = WriteTransaction(connection, self._shared)

    def _close_writer(self) -> None:
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    def _write(self, group: Sequence[Waiting]) -> None:
        if not group:
            return
        self._deliver(self._commit(group))
        self._fulltext.written()

    def _commit(self, group: Sequence[Waiting]) -> list[Outcome]:
        """One transaction for all of them, or, if that fails, one for each."""
        transaction = self._transaction
        alone = len(group) == 1
        try:
            transaction.begin(now())
            outcomes = [self._attempt(waiting, alone) for waiting in group]
            forgot = transaction.commit()
        except Exception as error:
            with suppress(Exception):  # if even that fails, the next transaction fails to begin, and rolls back again
                transaction.roll_back()
            if alone:
                return [(group[0].done, None, as_ours(error))]
            return [outcome for waiting in group for outcome in self._commit([waiting])]
        if forgot:
            self.epoch += 1
        return outcomes

    def _attempt(self, waiting: Waiting, alone: bool) -> Outcome:
        """The outcome of one call. Whatever else than a clean refusal fails takes the group with it."""
        transaction = self._transaction
        if waiting.lane == Lane.APPEND or alone:
            before = transaction.steps
            try:
                return waiting.done, waiting.call(transaction), None
            except AgentChatError as refusal:
                if transaction.steps != before:
                    raise
                return waiting.done, None, refusal
        try:
            with transaction.savepoint():
                return waiting.done, waiting.call(transaction), None
        except AgentChatError as refusal:
            return waiting.done, None, refusal

    # The reader's thread

    def _open_reader(self) -> None:
        self._reading = self._connect(self.path)
        self._reading.execute("PRAGMA query_only = ON")

    def _close_reader(self) -> None:
        self._reading.close()

    def _read(self, group: Sequence[Waiting]) -> None:
        if group:
            self._deliver(read_group(self._reading, self._shared, group, self._again))
