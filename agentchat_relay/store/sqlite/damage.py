"""What is wrong with the files of a store, as far as a start can tell, and in words what SQLite finds to be wrong.

SQLite takes a database that was emptied for a new one, and a log that it cannot read for an empty one. Either would be
a relay that begins anew over what is left of its data.
"""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from agentchat.errors import AgentChatError, NotConfigured, StorageFull, Unavailable

from ...durable import sync_directory

_LEAST = 512  # bytes of a database: SQLite takes some shorter ones for new
_HEADER = struct.Struct(">8I")
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}  # and the byte order of the checksums
_WITNESSES = ("search.db", "agentchat.db.partial")  # made after the database got its tables, or by a restore
_WHAT_NOW = "agentchat admin doctor says more; agentchat admin restore makes a directory from a backup."


def check(database: str) -> None:
    """Refuse what SQLite would silently take for nothing. To be called before it opens the file."""
    if _size(database) < _LEAST:
        state = "empty" if os.path.exists(database) else "missing"
        _refuse_to_begin_anew(database, state, "agentchat.db-wal", *_WITNESSES)
    if _is_unreadable(log := f"{database}-wal"):
        raise NotConfigured(
            f"{log} is damaged: the newest messages are in it, and cannot be read. {_WHAT_NOW} To go on without them, "
            "move that file away."
        )


def make_files(directory: str) -> None:
    """The other files of a database get the mode of the first."""
    for name in ("agentchat.db", "search.db"):
        os.close(os.open(os.path.join(directory, name), os.O_RDWR | os.O_CREAT, 0o600))
    sync_directory(directory)


@contextmanager
def disk_faults(directory: str) -> Iterator[None]:
    """Faults of the disk at a start, in words."""
    try:
        yield
    except OSError as error:
        where = error.filename or directory
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"The disk of {directory} is full. Make room, then start again.") from error
        if error.errno == errno.EIO:
            raise Unavailable(f"Cannot use {where}: {error.strerror}. Look at the disk, then start again.") from error
        raise NotConfigured(
            f"Cannot use {where}: {error.strerror}. It must be of the user that runs the relay."
        ) from error


def check_form(database: str, connection: Any) -> None:
    """Refuse to make a store of what is none. To be called before anything is written."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:  # SQLite has read the log by now: the first start was interrupted, or all of it is lost
        _refuse_to_begin_anew(database, "empty", *_WITNESSES)
    elif "migrations" not in tables:
        raise NotConfigured(f"{database} is the database of another program. Name another directory: --data DIR.")


def check_end(database: str, connection: Any) -> None:
    """SQLite reads zeros where the last page is not whole. To be called once the log is in the database."""
    (page,) = connection.execute("PRAGMA page_size").fetchone()
    if _size(database) % page:
        raise NotConfigured(f"{database} is damaged: its end is missing. {_WHAT_NOW}")


def unusable(database: str, error: sqlite3.Error) -> AgentChatError:
    """Why a store cannot be opened."""
    name, text = getattr(error, "sqlite_errorname", ""), str(error)
    if name in ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"):
        return StorageFull(f"The disk of {database} is full. Make room, then start again.")
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")):
        return NotConfigured(
            f"{database} cannot be written ({text}): whoever runs this must be able to write it, and in its directory."
        )
    if name.startswith(("SQLITE_IOERR", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")) or "I/O" in text:
        return Unavailable(f"{database} cannot be used ({text}). Look at the disk, then start again.")
    return NotConfigured(f"{database} is damaged, or the disk cannot read it ({text}). {_WHAT_NOW}")


def _refuse_to_begin_anew(database: str, state: str, *witnesses: str) -> None:
    if left := left_in(os.path.dirname(database), witnesses):
        raise NotConfigured(
            f"{database} is {state}, but {left} shows that a relay was here. {_WHAT_NOW} To begin anew, take another "
            "directory."
        )


def left_in(directory: str, witnesses: Sequence[str] = _WITNESSES) -> str | None:
    """Something that exists only once a database did."""
    for name in witnesses:
        if _size(os.path.join(directory, name)):
            return name
    blobs = os.path.join(directory, "blobs")
    spaces = sorted(filter(re.compile("[0-9]+").fullmatch, os.listdir(blobs))) if os.path.isdir(blobs) else []
    return f"blobs/{spaces[0]}" if spaces else None


def _is_unreadable(log: str) -> bool:
    """Whether the log has a beginning, which is synced before anything counts, and it is none of SQLite's."""
    header = _beginning(log)
    if len(header) < _HEADER.size or not any(header):
        return False
    magic, *_, first, second = _HEADER.unpack(header)
    return magic not in _MAGIC or _checksum(header[:24], _MAGIC[magic]) != (first, second)


def _checksum(text: bytes, order: str) -> tuple[int, int]:
    """As SQLite's file format has it, section 4.2."""
    first = second = 0
    for even, odd in struct.iter_unpack(f"{order}2I", text):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


def _beginning(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_HEADER.size)
    except FileNotFoundError:
        return b""


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
