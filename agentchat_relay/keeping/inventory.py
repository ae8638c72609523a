"""The contents of files, against the rows that name them: what is missing, what is damaged, what nobody names."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator

from agentchat.errors import AgentChatError

from ..blobs.directory import DirectoryBlobs
from ..blobs.opening import BLOBS, is_bucket
from . import contents
from .contents import Lost
from .progress import number, size
from .sources import Content, Source, Unfit, source_of
from .surroundings import is_old
from .visit import Visit, some

_IS_NAMED = """
SELECT 1 FROM files WHERE space_id = ?1 AND hash = ?2
UNION ALL SELECT 1 FROM dropped_blobs WHERE space_id = ?1 AND hash = ?2 LIMIT 1
"""
_CONTENT = re.compile("[0-9a-f]{64}")


def check_contents(visit: Visit, database: sqlite3.Connection) -> None:
    """Everything that a file names must be there, with the right bytes; a quick look compares sizes only."""
    (count, bytes), folder = contents.total(database), visit.files or BLOBS
    try:
        lost = _lost(visit, database, source_of(visit.files, visit.path), bytes)
    except AgentChatError as error:  # a bucket that cannot be asked
        visit.problem("files", f"Contents of files could not be looked at. {error.message}")
        return
    if lost:
        visit.problem(
            "files",
            f"{number(len(lost))} of {number(count)} contents are lost: {some([_told(folder, one) for one in lost])}.",
            "Copy them from a backup, where they lie under the same name below blobs/, or upload the files again.",
        )
    else:
        how = "the right size" if visit.quick else "the right SHA-256"
        visit.fine("files", f"All {number(count)} contents of files are there with {how}, {size(bytes)}.")


def _lost(visit: Visit, database: sqlite3.Connection, source: Source, bytes: int) -> list[Lost]:
    lost: list[Lost] = []
    done = 0
    with source.standing(), visit.progress.part("Checking files", bytes, size) as at:
        for content in contents.named(database):
            try:
                _check(source, content, visit.quick)
            except Unfit as why:
                lost.append(contents.lost(database, content, str(why)))
            done += content.size
            at(done)
    return lost


def _told(folder: str, lost: Lost) -> str:
    place = f"{folder.rstrip('/')}/{lost['space_id']}/{lost['hash'][:2]}/{lost['hash']}"
    return f"{place} ({lost['why']}; {some(lost['files'])})"


def _check(source: Source, content: Content, quick: bool) -> None:
    if not quick:
        contents.read(source, content, lambda piece: None)
    elif (found := source.size(content)) != content.size:
        raise Unfit(f"damaged: {number(found)} bytes instead of {number(content.size)}")


def check_strays(visit: Visit, database: sqlite3.Connection) -> None:
    """Contents that no file names. Those that are young may be named in a moment; those in `dropped_blobs` are the
    relay's own to remove. Outside of the data directory they may be another relay's: there is only looking."""
    if is_bucket(visit.files):
        visit.fine("strays", "A bucket is not looked through for contents that no file names.")
        return
    root = visit.files or visit.file(BLOBS)
    strays: list[tuple[int, str, str]] = []
    with visit.progress.part("Looking for contents that nobody names") as at:
        for space_id, hash, path in _stored(root):
            at(0)
            if database.execute(_IS_NAMED, (space_id, hash)).fetchone() is None and is_old(path):
                strays.append((space_id, hash, path))
    if not strays:
        visit.fine("strays", "No content is without a file.")
        return
    bytes = sum(os.path.getsize(path) for _, _, path in strays)
    visit.warn(
        "strays",
        f"{number(len(strays))} contents ({size(bytes)}) belong to no file: {some([path for _, _, path in strays])}.",
        "They only take up room."
        if visit.owns_contents
        else "They only take up room, unless another relay has its files there.",
        (lambda: _remove(root, strays)) if visit.owns_contents else None,
    )


def _stored(root: str) -> Iterator[tuple[int, str, str]]:
    """Every content on disk: its space, its hash, its path."""
    for space in os.listdir(root) if os.path.isdir(root) else []:
        if space.isdigit():
            for folder, _, names in os.walk(os.path.join(root, space)):
                yield from (
                    (int(space), name, os.path.join(folder, name)) for name in names if _CONTENT.fullmatch(name)
                )


def _remove(root: str, strays: list[tuple[int, str, str]]) -> None:
    blobs = DirectoryBlobs(root)
    kept = [path for space_id, hash, path in strays if not blobs.drop(space_id, hash, lambda: False)]
    blobs.close()
    if kept:
        raise OSError("a backup is being made")
