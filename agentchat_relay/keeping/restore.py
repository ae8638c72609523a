"""`agentchat admin restore`: a backup as a new data directory, or as the rows of an empty Postgres."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from contextlib import closing
from functools import partial
from typing import TypedDict

from ..blobs.opening import BLOBS, open_blobs
from ..directory import Directory
from ..store.sqlite.engine import connect as connect_to_write
from ..store.sqlite.migrate import migrate
from . import contents, manifest, place, scratch, snapshot
from .contents import Lost
from .manifest import Manifest
from .progress import Progress, size
from .refusal import Refused, faults
from .sources import Folder

_CHUNK = 1 << 20


class Restored(TypedDict):
    directory: str
    made_at: str
    version: str
    counts: dict[str, int]
    again: bool  # what an interrupted restore had left was replaced
    lost: list[Lost]
    files: str  # where the contents are, if not in the directory
    store: str  # the Postgres in which the rows are; empty: in the directory


def restore(source: str, data: str, progress: Progress) -> Restored:
    """Make a data directory from a backup."""
    source, directory = os.path.realpath(os.path.expanduser(source)), Directory(data)
    with faults(f"Restoring {source}"):
        wanted = manifest.read(source)
        _check_place(source, directory.path)
        _check_room(wanted, directory.path)
        with place.held(directory, "agentchat admin restore") as again:
            lost = _fill(source, directory.path, wanted, progress)
    return _told(directory, wanted, lost, again=again, files=wanted.get("files", ""), store="")


def restore_to(url: str, source: str, data: str, progress: Progress, *, files: str = "") -> Restored:
    """Fill an empty Postgres from a backup. The contents go to where a relay of `data` has them."""
    from .carrying.carry import carry
    from .carrying.postgres import new_rows
    from .carrying.sqlite import State

    source, directory = os.path.realpath(os.path.expanduser(source)), Directory(data)
    with faults(f"Restoring {source}"):
        wanted = manifest.read(source)
        with (
            new_rows(url, f"Restoring {source}") as (server, rows),
            scratch.folder(wanted["database_bytes"]) as temporary,
            closing(_todays(source, temporary, wanted, progress)) as database,
        ):
            carry(State(database), rows, progress)
            lost = [] if wanted.get("files") else _place(url, source, directory, files, database, progress)
    files = wanted.get("files") or files
    return _told(directory, wanted, lost, again=False, files=files, store=server.name)


def _told(directory: Directory, wanted: Manifest, lost: list[Lost], *, again: bool, files: str, store: str) -> Restored:
    return {
        "directory": directory.path,
        "made_at": wanted["made_at"],
        "version": wanted["version"],
        "counts": wanted["counts"],
        "again": again,
        "lost": lost,
        "files": files,
        "store": store,
    }


def _check_place(source: str, path: str) -> None:
    if os.path.commonpath([source, os.path.realpath(path)]) == source:
        raise Refused(f"{path} is inside the backup itself. Name a place outside of {source}.")
    place.check_empty(path)


def _check_room(wanted: Manifest, path: str) -> None:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    contents_bytes = 0 if wanted.get("files") else wanted["contents_bytes"]
    needed, free = wanted["database_bytes"] + contents_bytes, shutil.disk_usage(path).free
    if needed > free:
        raise Refused(f"The backup needs {size(needed)}, and only {size(free)} are free at {path}. Make room there.")


def _fill(source: str, path: str, wanted: Manifest, progress: Progress) -> list[Lost]:
    copy = os.path.join(path, place.PARTIAL)
    _copy_database(source, copy, wanted, progress)
    with closing(snapshot.connect(copy, still=True)) as database:
        stay = wanted.get("files")
        blobs = Folder(os.path.join(source, BLOBS))
        lost = [] if stay else contents.copy(database, blobs, os.path.join(path, BLOBS), progress)
    place.finish(path)
    return lost


def _todays(source: str, temporary: str, wanted: Manifest, progress: Progress) -> sqlite3.Connection:
    """A copy of the backup's database, brought to the form of this version."""
    path = os.path.join(temporary, snapshot.DATABASE)
    _copy_database(source, path, wanted, progress)
    with closing(connect_to_write(path)) as database:
        migrate(database, "sqlite")
    return snapshot.connect(path, still=True)


def _place(
    url: str, source: str, directory: Directory, files: str, database: sqlite3.Connection, progress: Progress
) -> list[Lost]:
    from ..store.opening import open_guard

    directory.make()
    blobs = open_blobs(files, directory.path, partial(open_guard, url))
    try:
        return contents.place(database, Folder(os.path.join(source, BLOBS)), blobs, progress)
    finally:
        blobs.close()


def _copy_database(folder: str, target: str, wanted: Manifest, progress: Progress) -> None:
    """The database of a backup, which must be what was backed up, and sound."""
    source = os.path.join(folder, snapshot.DATABASE)
    if not os.path.isfile(source):
        raise Refused(f"There is no {source}: the backup is not whole. Take another backup.")
    digest, done = hashlib.sha256(), 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with (
        open(descriptor, "wb") as copy,
        open(source, "rb", buffering=0) as file,
        progress.part("Copying the database", wanted["database_bytes"], size) as at,
    ):
        while piece := file.read(_CHUNK):
            digest.update(piece)
            copy.write(piece)
            done += len(piece)
            at(done)
        copy.flush()
        os.fsync(descriptor)
    if digest.hexdigest() != wanted["database_sha256"]:
        raise Refused(f"{source} is not what was backed up: its SHA-256 is another. Take another backup.")
    with closing(snapshot.connect(target, still=True)) as database:
        _check(database, folder, wanted, progress)


def _check(database: sqlite3.Connection, folder: str, wanted: Manifest, progress: Progress) -> None:
    if snapshot.migration_of(database) != wanted["migration"]:
        raise Refused(f"The database and the manifest in {folder} are not of one backup. Take another backup.")
    with progress.part("Checking the database") as at, snapshot.watched(database, lambda: at(0)):
        (answer,) = database.execute("PRAGMA integrity_check(1)").fetchone()
    if answer != "ok":
        raise Refused(f"The database in {folder} is damaged: {answer}. Take another backup.")
