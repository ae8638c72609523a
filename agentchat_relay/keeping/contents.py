"""The contents of files beside a database: which ones its rows name, whether they are there, and copies of them."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from typing import TypedDict

from ..blobs.seam import Blobs
from . import folder
from .progress import Progress, size
from .sources import Content, Source, Unfit, path_of

_MOST_PATHS = 20  # of files with one content, told of
_NAMED = "SELECT space_id, hash, max(size) AS size FROM files GROUP BY space_id, hash"
ALL = f"SELECT count(*), coalesce(sum(size), 0) FROM ({_NAMED}) AS named"  # noqa: S608 - for both engines
_PATHS = """
SELECT s.name AS space, f.path FROM files f LEFT JOIN spaces s ON s.id = f.space_id
WHERE f.space_id = ? AND f.hash = ? ORDER BY f.id LIMIT ?
"""


class Lost(TypedDict):
    """A content that is not there as it should be, and the files that had it, as `space:path`."""

    space_id: int
    hash: str
    why: str
    files: list[str]


def named(connection: sqlite3.Connection) -> Iterator[Content]:
    """Every content that a file names, once."""
    for row in connection.execute(_NAMED):
        yield Content(row["space_id"], row["hash"], row["size"])


def total(connection: sqlite3.Connection) -> tuple[int, int]:
    """How many contents there are, and their bytes."""
    row = connection.execute(ALL).fetchone()
    return row[0], row[1]


def lost(connection: sqlite3.Connection, content: Content, why: str) -> Lost:
    rows = connection.execute(_PATHS, (content.space_id, content.hash, _MOST_PATHS))
    files = [f"{row['space'] or content.space_id}:{row['path']}" for row in rows]
    return {"space_id": content.space_id, "hash": content.hash, "why": why, "files": files}


def read(source: Source, content: Content, take: Callable[[bytes], object]) -> None:
    """Hand over a content piece by piece; `Unfit` says why it is not the one that was wanted."""
    digest = hashlib.sha256()
    for piece in source.pieces(content):
        digest.update(piece)
        take(piece)
    if digest.hexdigest() != content.hash:
        raise Unfit("damaged: its SHA-256 is another")


def copy(connection: sqlite3.Connection, source: Source, target: str, progress: Progress) -> list[Lost]:
    """Copy every content that the rows name into a new directory; returns those that could not be."""
    return _each(connection, lambda content: _copy(source, target, content), progress)


def place(connection: sqlite3.Connection, source: Source, target: Blobs, progress: Progress) -> list[Lost]:
    """The same to where a relay has its contents, or will have them. What is there already stays."""

    def write(content: Content) -> None:
        with target.writer(content.space_id) as writer:
            read(source, content, writer.write)
            writer.finish()
            writer.hold.release()

    return _each(connection, write, progress)


def _each(connection: sqlite3.Connection, copy: Callable[[Content], object], progress: Progress) -> list[Lost]:
    problems: list[Lost] = []
    done = 0
    with progress.part("Copying files", total(connection)[1], size) as at:
        for content in named(connection):
            try:
                copy(content)
            except Unfit as why:
                problems.append(lost(connection, content, str(why)))
            done += content.size
            at(done)
    return problems


def _copy(source: Source, target: str, content: Content) -> None:
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
