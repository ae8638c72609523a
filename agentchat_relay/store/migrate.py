"""Bring a database to this version's form. Each migration is one transaction; a newer file is refused."""

from __future__ import annotations

import time
from typing import Any

from agentchat.errors import NotConfigured

from .statements import migrations


def migrate(connection: Any, engine: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL, at BIGINT NOT NULL)"
        )
        done = {row[0] for row in connection.execute("SELECT number FROM migrations")}
        known = migrations(engine)
        if newer := done - {number for number, _, _ in known}:
            raise NotConfigured(
                f"This database was written by a newer version of the relay (its migration {max(newer)} is unknown "
                "here). Install that version, or restore a backup made before the upgrade."
            )
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    for number, name, sql in known:
        if number not in done:
            _apply(connection, number, name, sql)


def _apply(connection: Any, number: int, name: str, sql: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _parts(sql):
            connection.execute(statement)
        connection.execute("INSERT INTO migrations VALUES (?, ?, ?)", (number, name, time.time_ns() // 1000))
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _parts(sql: str) -> list[str]:
    """The statements of a script, without comments."""
    lines = (line.partition("--")[0].rstrip() for line in sql.splitlines())
    return [part for part in "\n".join(filter(None, lines)).split(";\n") if part.strip(" ;\n")]
