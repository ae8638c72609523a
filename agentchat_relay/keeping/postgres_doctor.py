"""`agentchat admin doctor` for a relay on Postgres.

What must hold among rows is looked at in a temporary copy, by the statements that look at SQLite; what is mended there
is mended in Postgres by the same statements, in the transaction that the copy was made from. Where a relay runs, there
is only looking. The directory may be shared with others, so contents of files are never removed.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import psycopg

from ..directory import Directory
from . import inventory, postgres_checks, rows, scratch, surroundings
from .doctor import Diagnosis, diagnosis, held
from .progress import Progress, number
from .refusal import faults
from .server import Server, connected, is_damage, snapshot, turn
from .server import faults as server_faults
from .visit import Finding, Visit

_RESTORE = "Restore a backup into a new schema: agentchat admin restore SOURCE --store URL."


class PostgresVisit(Visit):
    """A visit to a Postgres, and to the directory of a relay on it."""

    way_back = _RESTORE
    shares_contents = True

    def __init__(self, server: Server, path: str, **more: Any) -> None:
        super().__init__(path, **more)
        self.server = server

    def change(self, database: sqlite3.Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        super().change(database, sql, rows)
        numbered = count(1)
        parts = sql.split("?")
        there = parts[0] + "".join(f"${next(numbered)}{part}" for part in parts[1:])
        self.server.connection.cursor().executemany(there.encode(), rows)


def examine(
    url: str,
    data: str,
    progress: Progress,
    told: Callable[[Finding], object],
    *,
    files: str = "",
    repair: bool = False,
    quick: bool = False,
) -> Diagnosis:
    """Look at everything, the quick things first."""
    directory = Directory(data)
    with connected(url, "Examining the Postgres") as server, faults(f"Examining {directory.path}"):
        relays = server.relays()
        visit = PostgresVisit(
            server,
            directory.path,
            files=files,
            repairing=repair and not relays,
            quick=quick,
            progress=progress,
            told=told,
        )
        _introduce(visit, relays, repair)
        visit.findings += _look_around(directory, visit, told)
        postgres_checks.check_settings(visit, server)
        if postgres_checks.check_form(visit, server):
            _examine_database(visit)
    return diagnosis(visit, running=relays > 0, store=server.name)


def _introduce(visit: Visit, relays: int, repair: bool) -> None:
    processes = "a process of a relay" if relays == 1 else f"{number(relays)} processes of relays"
    if not relays:
        visit.fine("relay", "No relay is connected.")
    elif repair:
        visit.warn("relay", f"It is in use by {processes}; nothing is repaired.", "Stop it and try again.")
    else:
        visit.fine("relay", f"It is in use by {processes}.")


def _look_around(directory: Directory, visit: Visit, told: Callable[[Finding], object]) -> list[Finding]:
    """At the directory, if there is one on this machine."""
    if not os.path.isdir(directory.path):
        return []
    access = surroundings.access(directory.path)
    with held(directory, visit.repairing) as is_held:
        around = Visit(directory.path, repairing=is_held, quick=visit.quick, progress=visit.progress, told=told)
        surroundings.check_access(around, access)
        surroundings.check_leftovers(around)
        surroundings.check_disk(around)
    return around.findings


def _examine_database(visit: PostgresVisit) -> None:
    doing = "All repairs were taken back, because one of them" if visit.repairing else "Examining the Postgres"
    with server_faults(doing):
        try:
            _examine_rows(visit)
        except psycopg.Error as error:
            if not is_damage(error):
                raise
            visit.problem("database", f"Postgres cannot read its tables: {error.diag.message_primary}.", _RESTORE)


def _examine_rows(visit: PostgresVisit) -> None:
    server = visit.server
    with turn(server) if visit.repairing else snapshot(server), scratch.copy_of(server, visit.progress) as copy:
        visit.fine("database", "Every row could be read.")
        for check in (rows.check_orphans, rows.check_counters, rows.check_unread, surroundings.check_clock):
            check(visit, copy)
        postgres_checks.check_sequences(visit, server)
        postgres_checks.check_index(visit, server)
        inventory.check_contents(visit, copy)
        inventory.check_strays(visit, copy)
