"""Connections to Postgres: how they are made, what they insist on, and making one anew when it was lost.

Statements go through psycopg's cursors. What steers a transaction (BEGIN, COMMIT, savepoints) goes as one text of
libpq's simple protocol, several commands in one round trip.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from agentchat.errors import NotConfigured

from ..groups import NoDatabase

try:
    import psycopg
    from psycopg import pq
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
    from psycopg.rows import dict_row
    from psycopg.types.numeric import Int8Dumper
except ImportError as error:
    raise NotConfigured('A relay on Postgres needs more: pip install "langchain-agentchat[relay,postgres]"') from error

Connection = psycopg.Connection[dict[str, Any]]
LEAST_VERSION = 140000
_BY_NAME: Any = dict_row
_SILENCE = 60.0  # seconds before the same is told again
_PAUSE = 0.25  # seconds after a failure in which nobody else tries
_GOOD = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)
_DEFAULTS = {
    "application_name": "agentchat",
    "client_encoding": "UTF8",
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
# A transaction that waits for its process must not keep the others waiting: Postgres ends it. What the URL says wins.
_SESSION = (
    "-c idle_in_transaction_session_timeout=10s -c statement_timeout=30s -c lock_timeout=20s "
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
)
# The writer finds rows by their keys only, whatever the statistics of a young table say. Up to Postgres 17 what is off
# counts as so dear that a statement which cannot do without it would be compiled each time.
WRITER = "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c jit=off"
# Bytes of all tables with their indexes, and of the full-text index.
SIZES = """
SELECT coalesce(sum(pg_total_relation_size(oid)) FILTER (WHERE relname <> 'fulltext'), 0),
    coalesce(sum(pg_total_relation_size(oid)) FILTER (WHERE relname = 'fulltext'), 0)
FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
"""
_log = logging.getLogger("agentchat.relay")


def connect(url: str, more: str = "") -> Connection:
    """A connection for one thread; `more` are settings of its session."""
    try:
        given = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    except psycopg.ProgrammingError as error:
        raise NotConfigured(f"--store cannot be read: {error}".rstrip()) from None
    given["options"] = " ".join((_SESSION, more, given.get("options", "")))
    connection: Any = psycopg.connect(
        make_conninfo(**_DEFAULTS | given),
        autocommit=True,
        row_factory=_BY_NAME,
        cursor_factory=psycopg.RawCursor,
        prepare_threshold=0,
    )
    connection.prepared_max = None
    connection.adapters.register_dumper(int, Int8Dumper)  # one type, hence one prepared statement
    found: Connection = connection
    return found


def control(connection: Connection, sql: str) -> list[tuple[str | None, ...]]:
    """Run commands in one round trip; the rows of the last one, as texts."""
    return _rows(connection, connection.pgconn.exec_(sql.encode()))


def run_prepared(connection: Connection, name: str, *values: bytes) -> list[tuple[str | None, ...]]:
    """Run a statement that the session knows, past psycopg's cursors; its rows, as texts."""
    return _rows(connection, connection.pgconn.exec_prepared(name.encode(), [*values]))


def _rows(connection: Connection, result: pq.abc.PGresult) -> list[tuple[str | None, ...]]:
    if result.status not in _GOOD:
        error = psycopg.errors.error_from_result(result)
        if is_lost(connection) and not isinstance(error, psycopg.OperationalError):  # libpq's own words have no code
            raise psycopg.OperationalError(str(error))
        raise error
    columns = range(result.nfields)
    return [tuple(_text(result.get_value(row, column)) for column in columns) for row in range(result.ntuples)]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def is_lost(connection: Connection) -> bool:
    """Whether nothing can be asked of it any more."""
    return connection.closed or connection.pgconn.status != pq.ConnStatus.OK


def reason(error: psycopg.Error) -> str:
    """What Postgres says first; the rest is for programmers."""
    return str(error).strip().partition("\n")[0]


class _Absence:
    """The database is away: told once in a while, and when it is over, however many connections look for it."""

    def __init__(self) -> None:
        self._told_at = 0.0

    def begin(self, why: str) -> None:
        now = time.monotonic()
        if not self._told_at or now - self._told_at >= _SILENCE:
            self._told_at = now
            _log.warning("The database cannot be reached: %s", why)

    def end(self) -> None:
        if self._told_at:
            self._told_at = 0.0
            _log.info("The database is reached again")


_absence = _Absence()


class Link:
    """A connection of one thread, made when it is first needed and again after it was lost."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._failed_at = -_PAUSE

    def get(self) -> Connection:
        found = self._connection
        if found is not None and not is_lost(found):
            return found
        self.close()
        if time.monotonic() - self._failed_at < _PAUSE:
            raise NoDatabase(retry_after=1)
        try:
            self._connection = found = self._connect()
        except psycopg.OperationalError as error:
            self._failed_at = time.monotonic()
            _absence.begin(reason(error))
            raise NoDatabase(retry_after=1) from error
        _absence.end()
        return found

    def close(self) -> None:
        found, self._connection = self._connection, None
        if found is not None:
            with suppress(psycopg.Error):
                found.close()
