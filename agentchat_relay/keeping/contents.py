"""The contents of files beside a database: which ones its rows name, whether they are there, and copies of them."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, TypedDict

from ..blobs.guards import kept
from . import folder
from .progress import Progress, size

BLOBS = "blobs"
_HASH = re.compile("[0-9a-f]{64}")
_CHUNK = 1 << 20
_MOST_PATHS = 20  # of files with one content, told of
_NAMED = "SELECT space_id, hash, max(size) AS size FROM files GROUP BY space_id, hash"
_PATHS = """
SELECT s.name AS space, f.path FROM files f LEFT JOIN spaces s ON s.id = f.space_id
WHERE f.space_id = ? AND f.hash = ? ORDER BY f.id LIMIT ?
"""


class Content(NamedTuple):
    """One content, as the rows name it."""

    space_id: int
    hash: str
    size: int


class Lost(TypedDict):
    """A content that is not there as it should be, and the files that had it, as `space:path`."""

    space_id: int
    hash: str
    why: str
    files: list[str]


class Unfit(Exception):
    """Why a content is not what it should be."""


def standing(root: str) -> AbstractContextManager[None]:
    """While this lasts, no content is removed; a relay that never ran has none."""
    return kept(root) if os.path.isdir(root) else nullcontext()


def named(connection: sqlite3.Connection) -> Iterator[Content]:
    """Every content that a file names, once."""
    for row in connection.execute(_NAMED):
        yield Content(row["space_id"], row["hash"], row["size"])


def total(connection: sqlite3.Connection) -> tuple[int, int]:
    """How many contents there are, and their bytes."""
    row = connection.execute(f"SELECT count(*), coalesce(sum(size), 0) FROM ({_NAMED})").fetchone()  # noqa: S608
    return row[0], row[1]


def lost(connection: sqlite3.Connection, content: Content, why: str) -> Lost:
    rows = connection.execute(_PATHS, (content.space_id, content.hash, _MOST_PATHS))
    files = [f"{row['space'] or content.space_id}:{row['path']}" for row in rows]
    return {"space_id": content.space_id, "hash": content.hash, "why": why, "files": files}


def path_of(root: str, content: Content) -> str:
    """Where a content lies, see `agentchat_relay.blobs`. Rows may come from a stranger's backup: no name leads out."""
    if not _HASH.fullmatch(content.hash):
        raise Unfit("its name is no SHA-256")
    return os.path.join(root, f"{content.space_id:d}", content.hash[:2], content.hash)


def read(root: str, content: Content, take: Callable[[bytes], object]) -> None:
    """Hand over a content piece by piece; `Unfit` says why it is not the one that was wanted."""
    digest = hashlib.sha256()
    for piece in _pieces(path_of(root, content)):
        digest.update(piece)
        take(piece)
    if digest.hexdigest() != content.hash:
        raise Unfit("damaged: its SHA-256 is another")


def _pieces(path: str) -> Iterator[bytes]:
    try:
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(_CHUNK):
                yield piece
    except FileNotFoundError:
        raise Unfit("missing") from None
    except OSError as error:
        raise Unfit(f"unreadable: {error.strerror}") from error


def copy(connection: sqlite3.Connection, source: str, target: str, progress: Progress) -> list[Lost]:
    """Copy every content that the rows name; returns those that could not be."""
    problems: list[Lost] = []
    done = 0
    with progress.part("Copying files", total(connection)[1], size) as at:
        for content in named(connection):
            try:
                _copy(source, target, content)
            except Unfit as why:
                problems.append(lost(connection, content, str(why)))
            done += content.size
            at(done)
    return problems


def _copy(source: str, target: str, content: Content) -> None:
    path = path_of(target, content)
    folder.make(os.path.dirname(path))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            read(source, content, file.write)
            file.flush()
            os.fsync(descriptor)
    except Unfit:
        os.unlink(path)
        raise
