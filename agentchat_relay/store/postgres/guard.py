"""Who holds contents of files when several relays share a database: an advisory lock, on one connection per process.

A session's own locks do not conflict with each other, so the process counts its uploads: the first takes the shared
lock, the last gives it back, and whoever removes must find none. The lock lives as long as its session. If that was
lost while uploads were under way, somebody else may have removed what they had stored, so each of them asks (`sure`)
before it acknowledges anything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from agentchat.errors import Unavailable

from ...blobs.seam import Guard, Hold
from . import connection as connections

# Another number than that of the writers' turns.
_NUMBER = "SELECT hashtextextended('agentchat contents ' || current_schema(), 0)"
Connect = Callable[[], "psycopg.Connection[Any]"]
# Numbers stand in the texts, so that it does not matter how the connection spells parameters.
_LONGEST_WAIT = "SET lock_timeout = '20s'"  # for a process that stands still while it removes a content
_LOOK = "SELECT 1"


def guard_of(url: str) -> AdvisoryLock:
    """The guard of all relays whose rows are in the schema that `url` leads to."""
    connect = partial(connections.connect, url)
    with _unavailable_otherwise(), closing(connect()) as connection:
        row = connection.cursor(row_factory=tuple_row).execute(_NUMBER.encode()).fetchone()
    return AdvisoryLock(connect, row[0] if row else 0)


class AdvisoryLock(Guard):
    """The lock `number` of a database. `connect` gives a connection of its own: not one through a pooler that changes
    sessions between transactions, and one that notices when the network is gone."""

    def __init__(self, connect: Connect, number: int) -> None:
        self._connect = connect
        self._number = number
        self._turn = threading.Lock()  # of whoever uses the session, and for as long as contents are held alone
        self._session: _Session | None = None

    def share(self) -> Hold:
        with self._turn:
            session = self._session
            if session is None or session.is_lost or not session.uploads:
                session = self._locked(f"SELECT pg_advisory_lock_shared({self._number:d})")[0]
            session.uploads += 1
            return _Shared(self, session)

    def alone(self) -> Hold | None:
        if not self._turn.acquire(blocking=False):
            return None
        try:
            if self._session is None or not self._session.uploads:
                session, was_free = self._locked(f"SELECT pg_try_advisory_lock({self._number:d})")
                if was_free:
                    return _Alone(self, session)
        except BaseException:
            self._turn.release()
            raise
        self._turn.release()
        return None

    def _locked(self, statement: str) -> tuple[_Session, Any]:
        """Ask for the lock. A session that was lost while it held nothing is replaced."""
        session = self._session
        if session is not None:
            try:
                return session, session.ask(statement)
            except Unavailable:
                if not session.is_lost:
                    raise
        self._session = session = _Session(self._connect)
        return session, session.ask(statement)

    def check(self, session: _Session) -> None:
        with self._turn:
            session.ask(_LOOK)

    def settle(self, session: _Session) -> None:
        with self._turn:
            session.uploads -= 1
            if not session.uploads:
                session.give_back(f"SELECT pg_advisory_unlock_shared({self._number:d})")

    def end(self, session: _Session) -> None:
        session.give_back(f"SELECT pg_advisory_unlock({self._number:d})")
        self._turn.release()

    def close(self) -> None:
        with self._turn:
            if self._session is not None:
                self._session.close()


class _Session:
    """One connection, and how many uploads rely on it."""

    def __init__(self, connect: Connect) -> None:
        self.uploads = 0
        with _unavailable_otherwise():
            self._connection = connect()
            self._connection.autocommit = True
            self._connection.execute(_LONGEST_WAIT)

    @property
    def is_lost(self) -> bool:
        return self._connection.closed

    def ask(self, statement: str) -> Any:
        with _unavailable_otherwise():
            row = self._connection.cursor(row_factory=tuple_row).execute(statement.encode()).fetchone()
        return row and row[0]

    def give_back(self, statement: str) -> None:
        """A lock that cannot be given back ends with its session."""
        try:
            self.ask(statement)
        except Unavailable:
            self.close()

    def close(self) -> None:
        self._connection.close()


class _Shared(Hold):
    def __init__(self, guard: AdvisoryLock, session: _Session) -> None:
        self._guard = guard
        self._session = session
        self._is_over = False

    def sure(self) -> None:
        self._guard.check(self._session)

    def release(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._guard.settle(self._session)


class _Alone(Hold):
    """It has the guard's turn, so it asks the session by itself."""

    def __init__(self, guard: AdvisoryLock, session: _Session) -> None:
        self._guard = guard
        self._session = session
        self._is_over = False

    def sure(self) -> None:
        self._session.ask(_LOOK)

    def release(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._guard.end(self._session)


@contextmanager
def _unavailable_otherwise() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise Unavailable("The relay lost its database while files were under way; try again soon.") from error
