"""Bring a schema of Postgres to this version's form, while relays of the version before go on working.

A migration says in its name when it runs: `pre` before the first relay of a new version starts, `post` once the last
one of the version before has ended. A relay that starts runs what is due before, if its role may; what comes after is
for `agentchat admin migrate --after`. A new schema gets all of them at once.
"""

from __future__ import annotations

import logging
import time
from typing import NamedTuple

import psycopg

from agentchat.errors import NotConfigured

from ..statements import migrations
from .connection import Connection, control

_log = logging.getLogger("agentchat.relay")
_TABLE = "CREATE TABLE migrations (number BIGINT PRIMARY KEY, name TEXT NOT NULL, at BIGINT NOT NULL)"
_COMMAND = "agentchat admin migrate --store URL"


class Step(NamedTuple):
    """A migration; `name` begins with when it runs."""

    number: int
    name: str
    sql: str

    @property
    def is_after(self) -> bool:
        return self.name.startswith("post_")

    def __str__(self) -> str:
        return f"{self.number:04}_{self.name}"


def steps() -> list[Step]:
    return [Step(*found) for found in migrations("postgres")]


def due(connection: Connection) -> list[Step]:
    """What this version wants and the schema does not have. One that is ahead of this version is refused, unless a
    relay of this version can still work with it."""
    done = _done(connection)
    known = {step.number for step in steps()}
    if newer := [name for number, name in done.items() if number not in known and name.startswith("post_")]:
        raise NotConfigured(
            f"This database was brought to the form of a newer version of the relay ({', '.join(newer)}). Install that "
            "version."
        )
    return [step for step in steps() if step.number not in done]


def migrate(connection: Connection, turn: int, *, after: bool) -> list[Step]:
    """Run what is due before a new version, and with `after` also what comes after the old one; returns what it did."""
    is_new = not _done(connection)
    wanted = [step for step in due(connection) if after or is_new or not step.is_after]
    return [step for step in wanted if _apply(connection, turn, step)]


def prepare(connection: Connection, turn: int) -> None:
    """What a relay does when it starts."""
    missing = due(connection)
    if any(not step.is_after for step in missing):
        try:
            migrate(connection, turn, after=False)
        except psycopg.errors.InsufficientPrivilege as error:
            names = ", ".join(str(step) for step in missing if not step.is_after)
            raise NotConfigured(
                f"The database lacks the form of this version ({names}), and this role may not change it. As the role "
                f"that owns the tables: {_COMMAND}"
            ) from error
    if later := [str(step) for step in due(connection)]:
        _log.info(
            "Once no relay of an earlier version runs any more (%s): %s --after", ", ".join(later), _COMMAND
        )  # fmt: skip


def _apply(connection: Connection, turn: int, step: Step) -> bool:
    """One transaction; False if another process was faster. Nobody writes meanwhile."""
    control(connection, f"BEGIN; SET LOCAL statement_timeout = 0; SELECT pg_advisory_xact_lock({turn})")
    try:
        done = _done(connection)
        if step.number not in done:
            control(connection, step.sql if done else f"{_TABLE};\n{step.sql}")
            connection.execute(
                "INSERT INTO migrations VALUES ($1, $2, $3)", (step.number, step.name, time.time_ns() // 1000)
            )
        control(connection, "COMMIT")
    except BaseException:
        if not connection.closed:
            control(connection, "ROLLBACK")
        raise
    return step.number not in done


def _done(connection: Connection) -> dict[int, str]:
    # Asked of the table of tables: what a session remembers of a name (to_regclass) may be older than the lock it got.
    found = connection.execute(
        "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relname = 'migrations' AND n.nspname = current_schema()"
    )
    if found.fetchone() is None:
        return {}
    return {row["number"]: row["name"] for row in connection.execute("SELECT number, name FROM migrations")}
