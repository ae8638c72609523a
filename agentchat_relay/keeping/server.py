"""A Postgres of a relay, as the commands that keep it see it: connections, one state of it, and who else is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psycopg
from psycopg.rows import tuple_row

from agentchat.errors import NotConfigured

from ..store.postgres.connection import Connection, connect, control, is_lost
from ..store.postgres.listener import RELAY_LOCK
from ..store.postgres.migrate import due
from .refusal import Refused

_OURS = (
    "SET application_name = 'agentchat admin'; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0"
)
_WHERE = """
SELECT current_schema(), current_setting('server_encoding'), hashtextextended('agentchat ' || current_schema(), 0)
"""
_RELAYS = f"""
SELECT count(*) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND pid <> pg_backend_pid()
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (classid::bigint << 32) | objid::bigint = {RELAY_LOCK}
"""  # noqa: S608 - a constant
_FULL = ("53100", "53200")
_DENIED = "42501"
_WAITED = "55P03"
_DAMAGED = ("XX001", "XX002")


class Server(NamedTuple):
    """A connection to the schema of a relay."""

    connection: Connection
    name: str  # for people: without a password
    turn: int  # the number of the writers' lock

    def one(self, sql: str) -> tuple[str | None, ...]:
        return control(self.connection, sql)[0]

    def relays(self) -> int:
        """How many processes of relays are connected to this schema."""
        return int(self.one(_RELAYS)[0] or 0)


@contextmanager
def connected(url: str, doing: str) -> Iterator[Server]:
    """A connection without limits of time, whose faults while `doing` something are refusals."""
    try:
        connection = connect(url)
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[0]
        raise NotConfigured(f"The Postgres cannot be reached: {reason}") from error
    try:
        with faults(doing):
            yield _looked_at(connection)
    finally:
        connection.close()


def _looked_at(connection: Connection) -> Server:
    control(connection, _OURS)
    ((schema, encoding, turn),) = control(connection, _WHERE)
    if schema is None:
        raise NotConfigured("The schema of the search_path is not there; make it: CREATE SCHEMA …")
    if encoding != "UTF8":
        raise NotConfigured(f"The database must have the encoding UTF8, not {encoding}.")
    at = connection.info
    return Server(connection, f"postgresql://{at.host}:{at.port}/{at.dbname} (schema {schema})", int(turn or 0))


@contextmanager
def snapshot(server: Server) -> Iterator[None]:
    """One state of everything, for as long as this lasts. Relays go on writing."""
    control(server.connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        check_form(server)
        yield
    finally:
        if not is_lost(server.connection):
            control(server.connection, "ROLLBACK")


@contextmanager
def turn(server: Server) -> Iterator[None]:
    """One transaction on one state while nobody else writes; all of it is kept, or nothing. The state is looked at
    once the lock is held: a lock taken within the transaction would come after its snapshot."""
    connection = server.connection
    control(connection, f"SELECT pg_advisory_lock({server.turn})")
    control(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ")
    try:
        yield
        # Whoever runs must not go on with what it remembers of the time before.
        control(connection, "UPDATE epochs SET epoch = epoch + 1")
        control(connection, "SELECT setval('turn_writer', 0)")
    except BaseException:
        if not is_lost(connection):
            control(connection, f"ROLLBACK; SELECT pg_advisory_unlock({server.turn})")
        raise
    try:
        control(connection, f"COMMIT; SELECT pg_advisory_unlock({server.turn})")
    except psycopg.Error as error:
        if is_lost(connection):
            raise Refused(
                "The connection was lost at the very end: all of it is there, or nothing. agentchat admin stats "
                "--store URL tells."
            ) from error
        raise


def check_form(server: Server) -> None:
    """For work that needs the tables of this version."""
    if server.one("SELECT to_regclass('migrations')") == (None,):
        raise Refused(f"There is no relay in {server.name}. Name the database and schema of one.")
    if missing := [str(step) for step in due(server.connection) if not step.is_after]:
        raise Refused(
            f"{server.name} has the form of an earlier version ({', '.join(missing)} is due). Bring it up to date: "
            "agentchat admin migrate --store URL"
        )


def numbers(server: Server, sql: str) -> list[tuple[int, ...]]:
    """The rows of a query that gives numbers."""
    return server.connection.cursor(row_factory=tuple_row).execute(sql.encode()).fetchall()


def is_damage(error: psycopg.Error) -> bool:
    return error.sqlstate in _DAMAGED


@contextmanager
def faults(doing: str) -> Iterator[None]:
    """Faults of Postgres while `doing` something, as refusals. Its detail may hold what somebody wrote."""
    try:
        yield
    except psycopg.Error as error:
        told = error.diag.message_primary or (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Refused(f"{doing} failed: {told}. {_next(error)}") from error


def _next(error: psycopg.Error) -> str:
    if error.sqlstate in _FULL:
        return "Make room on Postgres' disk and try again."
    if error.sqlstate == _DENIED:
        return "Name a role that owns the relay's tables."
    if error.sqlstate == _WAITED:
        return "Somebody else writes for long, such as a move, a restore or a repair. Try again when it is over."
    if is_damage(error):
        return "The database is damaged; Postgres' log says more."
    return "Look at Postgres' log, and try again."
