"""`agentchat admin move`: all rows of a stopped relay into another database, of the other engine as a rule.

The source stays as it is. The target has everything once it was read back and was the same, or nothing. Contents of
files are no rows: from the directory of a relay they are copied into a new one; where `files` says that they are
elsewhere, and where the target is a Postgres, they stay where they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import NamedTuple, TypedDict

from agentchat.errors import InvalidArguments

from ..blobs.opening import BLOBS
from ..directory import Directory
from . import contents, place, snapshot
from .carrying import sqlite
from .carrying.carry import Carried, Readable, carry
from .contents import Lost
from .progress import Progress, number
from .refusal import Refused, database_faults, faults
from .sources import Folder

_PURPOSE = "agentchat admin move"


class Moved(TypedDict):
    source: str
    target: str
    tables: dict[str, Carried]
    again: bool  # what an interrupted move had left was replaced
    copied: bool  # contents of files too
    lost: list[Lost]  # contents that were not there


def is_postgres(text: str) -> bool:
    """Whether a source or target is one; else it is a directory."""
    return text.startswith(("postgresql://", "postgres://"))


def move(source: str, target: str, progress: Progress, *, home: str, files: str = "", anyway: bool = False) -> Moved:
    """`home` is the directory of the relay that had the source, and `files` its setting."""
    if source == target or (not is_postgres(source + target) and _path(source) == _path(target)):
        raise InvalidArguments("SOURCE and TARGET are the same.")
    if is_postgres(target):
        return _to_postgres(source, target, progress, anyway)
    return _to_directory(source, target, progress, os.path.join(home, BLOBS) if not files else "", anyway)


def _path(directory: str) -> str:
    return os.path.realpath(os.path.expanduser(directory))


def _to_postgres(source: str, target: str, progress: Progress, anyway: bool) -> Moved:
    from .carrying.postgres import new_rows

    with _stopped(source, anyway) as stopped, new_rows(target, "Moving") as (server, rows):
        carried = carry(stopped.state, rows, progress)
        stopped.check()
    return _told(stopped.name, server.name, carried, again=False, lost=None)


def _to_directory(source: str, target: str, progress: Progress, blobs: str, anyway: bool) -> Moved:
    directory = Directory(target)
    place.check_empty(directory.path)
    with (
        _stopped(source, anyway) as stopped,
        faults(f"Writing {directory.path}"),
        place.held(directory, _PURPOSE) as again,
    ):
        partial = os.path.join(directory.path, place.PARTIAL)
        with sqlite.new_file(partial) as made:
            carried = carry(stopped.state, made, progress)
        lost = _copy_contents(partial, blobs, os.path.join(directory.path, BLOBS), progress) if blobs else None
        stopped.check()
        place.finish(directory.path)
    return _told(stopped.name, directory.path, carried, again=again, lost=lost)


def _copy_contents(database: str, source: str, target: str, progress: Progress) -> list[Lost]:
    folder = Folder(source)
    with folder.standing(), closing(snapshot.connect(database, still=True)) as rows:
        return contents.copy(rows, folder, target, progress)


def _told(source: str, target: str, carried: dict[str, Carried], *, again: bool, lost: list[Lost] | None) -> Moved:
    return {
        "source": source,
        "target": target,
        "tables": carried,
        "again": again,
        "copied": lost is not None,
        "lost": lost or [],
    }


class _Source(NamedTuple):
    """One state of a relay that does not run."""

    name: str
    state: Readable
    check: Callable[[], None]  # that it was not started meanwhile


@contextmanager
def _stopped(source: str, anyway: bool) -> Iterator[_Source]:
    with ExitStack() as stack:
        enter = _postgres if is_postgres(source) else _directory
        yield stack.enter_context(enter(source, anyway))


@contextmanager
def _directory(source: str, anyway: bool) -> Iterator[_Source]:
    """Held, so that no relay starts meanwhile; `anyway` cannot help against one that runs."""
    directory = Directory(source)
    snapshot.check_there(directory)
    directory.hold(_PURPOSE)
    try:
        with snapshot.snapshot(source) as database, database_faults(f"Reading {directory.path}"):
            snapshot.refuse_older(database)
            yield _Source(directory.path, sqlite.State(database), lambda: None)
    finally:
        directory.release()


@contextmanager
def _postgres(source: str, anyway: bool) -> Iterator[_Source]:
    """Nothing keeps a relay from starting; but what is moved then is not kept."""
    from .carrying.postgres import State
    from .server import connected, snapshot

    with connected(source, "Moving") as server:

        def check() -> None:
            if (relays := server.relays()) and not anyway:
                raise Refused(_in_use(server.name, relays))

        check()
        with snapshot(server):
            yield _Source(server.name, State(server), check)


def _in_use(name: str, relays: int) -> str:
    processes = "a process" if relays == 1 else f"{number(relays)} processes"
    return (
        f"{name} is in use by {processes} of a relay. Stop it first: what it writes from now on would be left behind. "
        "With --anyway it is moved as it is at this moment."
    )
