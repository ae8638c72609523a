"""`agentchat admin doctor`: look at a data directory, and mend what is safe to mend.

Looking takes no lock and changes nothing, so that it never keeps a relay from starting. Repairing takes the directory
as a relay does; where one runs, there is only looking. Messages and files are never deleted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TypedDict

from agentchat.errors import Conflict

from ..directory import Directory, Holder
from ..store.sqlite.engine import connect as connect_to_write
from . import index, inventory, rows, snapshot, surroundings
from .progress import Progress
from .refusal import faults, is_damage
from .visit import RESTORE, Finding, Visit


class Diagnosis(TypedDict):
    directory: str
    store: str  # the Postgres that was looked at; empty: the directory's own database
    running: bool
    problems: int  # that are there still
    warnings: int
    repaired: int
    findings: list[Finding]


def examine(
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
    snapshot.check_there(directory)
    with faults(f"Examining {directory.path}"):
        access, announced = surroundings.access(directory.path), directory.served_at()
        holder = directory.holder()
        with held(directory, repair and holder is None) as is_held:
            visit = Visit(directory.path, files=files, repairing=is_held, quick=quick, progress=progress, told=told)
            _introduce(visit, holder, announced, repair)
            surroundings.check_access(visit, access)
            surroundings.check_announcement(visit, holder is None and announced is not None)
            for check in (surroundings.check_leftovers, surroundings.check_disk, surroundings.check_log):
                check(visit)
            _examine_database(visit)
    return diagnosis(visit, running=holder is not None)


@contextmanager
def held(directory: Directory, wanted: bool) -> Iterator[bool]:
    try:
        if wanted:
            directory.hold("agentchat admin doctor")
    except Conflict:  # a relay was faster
        wanted = False
    try:
        yield wanted
    finally:
        directory.release()


def _introduce(visit: Visit, holder: Holder | None, url: str | None, repair: bool) -> None:
    if visit.repairing or (holder is None and not repair):
        visit.fine("relay", "The relay is stopped.")
    elif repair:
        visit.warn(
            "relay", f"The directory is in use by {holder or 'a relay'}; nothing is repaired.", "Stop it and try again."
        )
    else:
        visit.fine("relay", f"The directory is in use by {holder}{f', on {url}' if url else ''}.")


def _examine_database(visit: Visit) -> None:
    file = visit.file(snapshot.DATABASE)
    try:
        with closing(connect_to_write(file) if visit.repairing else snapshot.connect_in(visit.path)) as database:
            if not rows.check_integrity(visit, database) or not rows.check_form(visit, database):
                return
            with _transaction(database, visit.repairing):
                for check in (rows.check_orphans, rows.check_counters, rows.check_unread, surroundings.check_clock):
                    check(visit, database)
            inventory.check_contents(visit, database)
            inventory.check_strays(visit, database)
        with closing(snapshot.connect_in(visit.path)) as database:
            index.check_index(visit, database)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        visit.problem("database", f"agentchat.db cannot be read: {error}.", RESTORE)


@contextmanager
def _transaction(database: sqlite3.Connection, writing: bool) -> Iterator[None]:
    """One state of everything, and all repairs of it or none."""
    database.execute("BEGIN IMMEDIATE" if writing else "BEGIN")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def diagnosis(visit: Visit, *, running: bool, store: str = "") -> Diagnosis:
    left = [finding["level"] for finding in visit.findings if not finding["repaired"]]
    return {
        "directory": visit.path,
        "store": store,
        "running": running,
        "problems": left.count("problem"),
        "warnings": left.count("warning"),
        "repaired": sum(finding["repaired"] for finding in visit.findings),
        "findings": visit.findings,
    }
