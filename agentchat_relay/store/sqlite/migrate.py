"""Bring a database to this version's form. Each migration is one transaction; a newer file is refused."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agentchat.errors import NotConfigured

from ..statements import migrations


def migrate(connection: Any, engine: str) -> None:
    known = migrations(engine)
    with _transaction(connection):
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL, at BIGINT NOT NULL)"
        )
        _refuse_newer(connection, {number for number, _, _ in known})
    for number, name, sql in known:
        with _transaction(connection):
            _apply(connection, number, name, sql)


def _refuse_newer(connection: Any, known: set[int]) -> None:
    if newer := _done(connection) - known:
        raise NotConfigured(
            f"This database was written by a newer version of the relay (its migration {max(newer)} is unknown "
            "here). Install that version, or restore a backup made before the upgrade."
        )


def _apply(connection: Any, number: int, name: str, sql: str) -> None:
    if number in _done(connection):  # long ago, or by another process while this one waited
        return
    for statement in _parts(sql):
        connection.execute(statement)
    connection.execute("INSERT INTO migrations VALUES (?, ?, ?)", (number, name, time.time_ns() // 1000))


def _done(connection: Any) -> set[int]:
    return {row[0] for row in connection.execute("SELECT number FROM migrations")}


@contextmanager
def _transaction(connection: Any) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk may have ended it
            connection.execute("ROLLBACK")
        raise


def _parts(sql: str) -> list[str]:
    """The statements of a script, without comments. A trigger has semicolons of its own."""
    found, statement = [], ""
    for line in sql.splitlines():
        if code := line.partition("--")[0].rstrip():
            statement += code + "\n"
        if sqlite3.complete_statement(statement):
            found.append(statement.strip())
            statement = ""
    if statement.strip():
        raise ValueError(f"a migration ends in the middle of: {statement.strip()[:80]}")
    return found
