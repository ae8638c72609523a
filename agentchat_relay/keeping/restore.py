"""`agentchat admin restore`: a backup as a new data directory.

The database gets its name last, so that a directory whose restore was interrupted is no relay's, and the restore can be
begun again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import TypedDict

from ..blobs.opening import BLOBS
from ..directory import Directory
from ..durable import sync_directory
from . import contents, manifest, snapshot
from .contents import Lost
from .folder import sync
from .manifest import Manifest
from .progress import Progress, size
from .refusal import Refused, faults
from .sources import Folder

_PARTIAL = f"{snapshot.DATABASE}.partial"
_SETTINGS = "relay.toml"
_OURS = {"lock", _SETTINGS, BLOBS, _PARTIAL}
_CHUNK = 1 << 20


class Restored(TypedDict):
    directory: str
    made_at: str
    version: str
    counts: dict[str, int]
    again: bool  # what an interrupted restore had left was replaced
    lost: list[Lost]
    files: str  # the bucket in which the contents are; else they were restored too


def restore(source: str, data: str, progress: Progress) -> Restored:
    """Make a data directory from a backup."""
    source, directory = os.path.realpath(os.path.expanduser(source)), Directory(data)
    with faults(f"Restoring {source}"):
        wanted = manifest.read(source)
        _check_place(source, directory.path)
        _check_room(wanted, directory.path)
        with _held(directory) as again:
            lost = _fill(source, directory.path, wanted, progress)
    return {
        "directory": directory.path,
        "made_at": wanted["made_at"],
        "version": wanted["version"],
        "counts": wanted["counts"],
        "again": again,
        "lost": lost,
        "files": wanted.get("files", ""),
    }


def _check_place(source: str, path: str) -> None:
    if os.path.commonpath([source, os.path.realpath(path)]) == source:
        raise Refused(f"{path} is inside the backup itself. Name a place outside of {source}.")
    _check_empty(path)


def _check_empty(path: str) -> None:
    """Nothing may be there, except what an interrupted restore left, and settings."""
    found = set(os.listdir(path)) if os.path.isdir(path) else {path} if os.path.lexists(path) else set()
    if not found <= ({*_OURS} if _PARTIAL in found else {"lock", _SETTINGS}):
        raise Refused(f"{path} is not empty. Restore into a new directory, or move what is there away first.")


def _check_room(wanted: Manifest, path: str) -> None:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    contents_bytes = 0 if wanted.get("files") else wanted["contents_bytes"]
    needed, free = wanted["database_bytes"] + contents_bytes, shutil.disk_usage(path).free
    if needed > free:
        raise Refused(f"The backup needs {size(needed)}, and only {size(free)} are free at {path}. Make room there.")


@contextmanager
def _held(directory: Directory) -> Iterator[bool]:
    """The directory, for us alone, and emptied of what an interrupted restore left: whether there was something. If
    this restore fails, it leaves nothing."""
    is_new = not os.path.isdir(directory.path)
    directory.hold("agentchat admin restore")
    try:
        _check_empty(directory.path)  # a relay may have been faster
        again = _clear(directory.path)
        yield again
    except BaseException:
        _clear(directory.path)
        with suppress(OSError):
            os.unlink(os.path.join(directory.path, "lock"))
            if is_new:
                os.rmdir(directory.path)
        raise
    finally:
        directory.release()


def _clear(path: str) -> bool:
    """Remove what an interrupted restore left; whether there was something."""
    found = os.path.lexists(partial := os.path.join(path, _PARTIAL))
    if found:
        shutil.rmtree(os.path.join(path, BLOBS), ignore_errors=True)
        os.unlink(partial)
    return found


def _fill(source: str, path: str, wanted: Manifest, progress: Progress) -> list[Lost]:
    partial = os.path.join(path, _PARTIAL)
    _copy_database(os.path.join(source, snapshot.DATABASE), partial, wanted, progress)
    with closing(snapshot.connect(partial, still=True)) as database:
        if snapshot.migration_of(database) != wanted["migration"]:
            raise Refused(f"The database and the manifest in {source} are not of one backup. Take another backup.")
        with (
            progress.part("Checking the database") as at,
            snapshot.watched(database, lambda: at(0)),
        ):
            (answer,) = database.execute("PRAGMA integrity_check(1)").fetchone()
        if answer != "ok":
            raise Refused(f"The database in {source} is damaged: {answer}. Take another backup.")
        stay = wanted.get("files")
        blobs = Folder(os.path.join(source, BLOBS))
        lost = [] if stay else contents.copy(database, blobs, os.path.join(path, BLOBS), progress)
    sync(path)
    os.rename(partial, os.path.join(path, snapshot.DATABASE))
    sync_directory(path)
    return lost


def _copy_database(source: str, target: str, wanted: Manifest, progress: Progress) -> None:
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
