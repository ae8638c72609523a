"""`agentchat admin backup`: a copy of a data directory, while its relay goes on writing.

The database is copied by `VACUUM INTO`: one read, hence one state of it, however many processes write meanwhile (the
page-wise copy of SQLite's backup API begins anew whenever another process has written). It takes longer than a bare
copy of the pages, and leaves behind what was deleted: no text that had its time lives on in a backup. Then the contents
that this state names are copied; `Source.standing` sees to it that they are there still. Those in a bucket stay there:
whoever keeps them in one has it for that. No credential goes along: `admin.key` and `link.key` are made anew.

A backup of a Postgres is the same thing: one snapshot of its rows, carried into a file of SQLite and read back.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from typing import Protocol

from ..blobs.opening import BLOBS, is_bucket
from ..directory import Directory
from ..durable import sync_directory
from ..wire import now
from . import contents, manifest, snapshot
from .contents import Lost
from .folder import sync
from .manifest import Manifest
from .progress import Progress, size
from .refusal import Refused, faults
from .sources import Folder

_UNFINISHED = "unfinished"  # held by whoever builds the backup
_OURS = {_UNFINISHED, manifest.NAME, BLOBS, snapshot.DATABASE, f"{snapshot.DATABASE}-journal"}


class Origin(Protocol):
    """Where rows come from."""

    def sizes(self) -> tuple[int, int]:
        """Bytes of the rows, about, and of all contents that they name."""
        ...

    def copy(self, path: str, progress: Progress) -> None:
        """One state of them as a new file of SQLite, on the disk at the end."""
        ...


def backup(data: str, target: str, progress: Progress, *, files: str = "", store: str = "") -> Manifest:
    """Copy the relay in `data` to `target`, a new or empty directory. Contents in a bucket stay where they are. With a
    `store` the rows are in that Postgres; the backup is the same."""
    source, target = Directory(data).path, os.path.realpath(os.path.expanduser(target))
    _check_target(source, target)
    with _origin(source, store) as origin, faults(f"Writing {target}"), _built(target) as folder:
        elsewhere = files if is_bucket(files) else ""
        _check_room(origin, target, with_contents=not elsewhere)
        folders = Folder(files or os.path.join(source, BLOBS))
        with nullcontext() if elsewhere else folders.standing():
            made_at = now()
            copy = os.path.join(folder, snapshot.DATABASE)
            origin.copy(copy, progress)
            with closing(snapshot.connect(copy, still=True)) as copied:
                lost = [] if elsewhere else contents.copy(copied, folders, os.path.join(folder, BLOBS), progress)
                made = _described(copy, copied, made_at, lost, progress)
        made["files"] = elsewhere
        manifest.write(folder, made)
    return made


def _check_target(source: str, target: str) -> None:
    if os.path.commonpath([os.path.realpath(source), target]) == os.path.realpath(source):
        raise Refused(f"{target} is inside the relay's own directory. Name a place outside of {source}.")
    if not os.path.isdir(parent := os.path.dirname(target)):
        raise Refused(f"There is no directory {parent}. Make it, or mount what belongs there.")
    if os.path.ismount(target):
        raise Refused(f"{target} is a mount point, which cannot be renamed to. Name a new directory inside it.")
    if os.path.lexists(target) and (not os.path.isdir(target) or os.listdir(target)):
        raise Refused(f"{target} is there already and not empty. Name a new directory for each backup.")


def _check_room(origin: Origin, target: str, *, with_contents: bool) -> None:
    free = shutil.disk_usage(os.path.dirname(target)).free
    needed = sum(origin.sizes()[: 1 + with_contents])
    if needed > free:
        raise Refused(f"The backup needs {size(needed)}, and only {size(free)} are free at {target}. Make room there.")


@contextmanager
def _origin(source: str, store: str) -> Iterator[Origin]:
    if not store:
        with snapshot.opened(source) as database:
            yield _File(database)
        return
    from .carrying.origin import opened

    with opened(store) as origin:
        yield origin


class _File:
    """The database of the directory itself."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def sizes(self) -> tuple[int, int]:
        pages, free, page = (
            self._database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * page), contents.total(self._database)[1]

    def copy(self, path: str, progress: Progress) -> None:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with (
            progress.part("Copying the database", self.sizes()[0], size) as at,
            snapshot.watched(self._database, lambda: at(os.path.getsize(path))),
        ):
            self._database.execute("VACUUM INTO ?", (path,))
        with open(path, "rb") as file:
            os.fsync(file.fileno())


def _described(path: str, copied: sqlite3.Connection, made_at: int, lost: list[Lost], progress: Progress) -> Manifest:
    with progress.part("Reading the copy", os.path.getsize(path), size) as at:
        return manifest.describe(path, copied, made_at, lost, at)


@contextmanager
def _built(target: str) -> Iterator[str]:
    """A directory beside the target that becomes the target in one step once everything in it is on disk."""
    folder = f"{target}.partial"
    _clear(folder)
    os.mkdir(folder, 0o700)
    mark = os.open(os.path.join(folder, _UNFINISHED), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
        os.unlink(os.path.join(folder, _UNFINISHED))
        sync(folder)
        os.rename(folder, target)
        sync_directory(os.path.dirname(target))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        os.close(mark)


def _clear(folder: str) -> None:
    """Remove what a killed backup left."""
    if not os.path.lexists(folder):
        return
    if not os.path.isdir(folder) or not _OURS.issuperset(os.listdir(folder)):
        raise Refused(f"{folder} is in the way, and no backup made it. Move it away.")
    with suppress(FileNotFoundError), open(os.path.join(folder, _UNFINISHED), "rb+") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"Another backup is writing to {folder} right now. Let it finish.") from None
    shutil.rmtree(folder)
