"""What a database lives among: modes and owners of files, free disk, leftovers, the log, the clock."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from ..blobs.opening import BLOBS, SPOOL
from ..blobs.temporary import left_in, sweep
from ..wire import iso, now
from .progress import size
from .visit import Visit, some

_OURS = re.compile(r"(agentchat|search)\.db(-wal|-shm|-journal)?|admin\.key|link\.key|relay\.json|lock")
_LEFT = re.compile(r"(admin\.key|link\.key|relay\.json)\.\d+|agentchat\.db\.partial")
_LITTLE, _ENOUGH = 100 << 20, 1 << 30
_FEW_INODES = 1000
_LONG_LOG = 256 << 20
_HOUR = 3600.0
_SLACK = 60.0  # seconds that clocks may differ


class Access(NamedTuple):
    """What is open to others, or belongs to somebody else."""

    open: list[str]
    foreign: list[str]
    owner: int


def access(path: str) -> Access:
    """Look at everything that is ours. It is done before the directory is held, which mends the mode of its top."""
    owner = os.stat(path).st_uid
    found = Access([], [], owner)
    for file in _files(path):
        with suppress(FileNotFoundError):
            status = os.lstat(file)
            if stat.S_IMODE(status.st_mode) & 0o077 and not stat.S_ISLNK(status.st_mode):
                found.open.append(file)
            if status.st_uid != owner:
                found.foreign.append(file)
    return found


def _files(path: str) -> Iterator[str]:
    yield path
    yield from (os.path.join(path, name) for name in sorted(os.listdir(path)) if _OURS.fullmatch(name))
    for folder, _, names in os.walk(os.path.join(path, BLOBS)):
        yield folder
        yield from (os.path.join(folder, name) for name in names)


def check_access(visit: Visit, found: Access) -> None:
    if found.open:
        visit.problem(
            "access",
            f"Other users of this machine can reach {some(found.open)}.",
            "Directories must be 0700, files 0600.",
            lambda: _close(found.open),
        )
    if found.foreign:
        visit.problem(
            "access",
            f"{some(found.foreign)} belong to another user than the directory.",
            f"As root: chown -R {found.owner} {visit.path}",
            (lambda: _give(found.foreign, found.owner)) if os.geteuid() == 0 else None,
        )
    if os.geteuid() not in (0, found.owner):
        visit.warn("access", f"{visit.path} belongs to user {found.owner}, not to you.", "Run this as that user.")
    elif not found.open and not found.foreign:
        visit.fine("access", "Only the owner can reach the directory.")


def _close(files: list[str]) -> None:
    for file in files:
        os.chmod(file, 0o700 if os.path.isdir(file) else 0o600)


def _give(files: list[str], owner: int) -> None:
    for file in files:
        os.chown(file, owner, -1, follow_symlinks=False)


def _remove(files: list[str]) -> None:
    for file in files:
        os.unlink(file)


def check_disk(visit: Visit) -> None:
    usage, inodes = shutil.disk_usage(visit.path), os.statvfs(visit.path)
    text = f"{size(usage.free)} of {size(usage.total)} are free."
    advice = "Make room: a full disk refuses every message."
    if usage.free < _LITTLE or (inodes.f_files > 0 and inodes.f_favail < _FEW_INODES):
        visit.problem("disk", f"The disk is nearly full: {text} It has room for {inodes.f_favail} files.", advice)
    elif usage.free < _ENOUGH:
        visit.warn("disk", text, advice)
    else:
        visit.fine("disk", text)


def check_leftovers(visit: Visit) -> None:
    """Temporary files of processes that were killed. Without the directory in hand, only old ones are surely that."""
    held = visit.repairing
    found = [visit.file(name) for name in os.listdir(visit.path) if _LEFT.fullmatch(name)]
    folders = [visit.file(os.path.join(BLOBS, "tmp")), visit.file(SPOOL)]

    def mend() -> None:
        _remove(found)
        for folder in filter(os.path.isdir, folders):
            sweep(folder)

    places = [os.path.join(folder, name) for folder in folders for name in left_in(folder)]
    left = [path for path in found + places if held or is_old(path)]
    if left:
        visit.warn("leftovers", f"Killed processes left {some(left)}.", "", mend)
    else:
        visit.fine("leftovers", "No temporary files are left over.")


def is_old(path: str) -> bool:
    """Whether a file was there an hour ago: until then somebody may be about to use it."""
    return 0 < _changed_at(path) < time.time() - _HOUR


def _changed_at(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return 0.0


def check_announcement(visit: Visit, stale: bool) -> None:
    """`relay.json` of a relay that is gone. Holding the directory removes it."""
    if stale:
        visit.warn("relay.json", "A killed relay left its address.", "It is harmless.", lambda: None)


def check_log(visit: Visit) -> None:
    log = visit.file("agentchat.db-wal")
    length = os.path.getsize(log) if os.path.exists(log) else 0
    if length > _LONG_LOG:
        visit.warn(
            "log",
            f"agentchat.db-wal has {size(length)}.",
            "A long read (a backup, an export) keeps it from being cut; if there is none, restart the relay.",
        )
    else:
        visit.fine("log", f"agentchat.db-wal has {size(length)}.")


def check_clock(visit: Visit, database: sqlite3.Connection) -> None:
    """Nothing in the database or on the disk should be of a later time than now."""
    (newest,) = database.execute(
        "SELECT max(coalesce((SELECT max(last_at) FROM channels), 0),"
        " coalesce((SELECT max(last_seen_at) FROM agents), 0))"
    ).fetchone()
    ahead = (newest - now()) / 1e6
    names = os.listdir(visit.path) if os.path.isdir(visit.path) else []
    files = (visit.file(name) for name in names if _OURS.fullmatch(name))
    skew = max(map(_changed_at, files), default=0.0) - time.time()
    if ahead > _SLACK:
        visit.warn(
            "clock",
            f"The newest entry is of {iso(newest)}, {_lasting(ahead)} from now: the clock was ahead then, or is behind "
            "now. New messages get times right after it until the clock has caught up.",
            "Set the clock right and keep it so (timedatectl set-ntp true).",
        )
    elif skew > _SLACK:
        visit.warn(
            "clock",
            f"A file of the relay was changed {_lasting(skew)} from now: the clock went back, or the disk has its own.",
            "Set the clock right and keep it so (timedatectl set-ntp true).",
        )
    else:
        visit.fine("clock", f"It is {iso(now())[:19]}Z, later than everything stored.")


def _lasting(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
