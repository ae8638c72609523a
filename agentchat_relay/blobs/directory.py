"""Contents below a directory, `ROOT/<space>/<first two hex digits>/<sha256>`, which several relays may share.

A content is written to a place below `ROOT/tmp`, made durable and then renamed, so a name of ours never shows half a
file, and a hash that was handed out survives a power loss; before one is given out, it is compared with its name.
`ROOT/lock` is the guard, for backups too (`guards.kept`).
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from io import BufferedReader
from typing import BinaryIO

from ..durable import sync_directory
from .faults import damaged, disk_faults, starting_faults
from .guards import LockFile, kept
from .seam import Blobs, Hold, dropped, missing
from .temporary import Place
from .writer import BlobWriter

_HASH = re.compile("[0-9a-f]{64}")
_MOST_SOUND = 10_000
_log = logging.getLogger("agentchat.relay")


class DirectoryBlobs(Blobs):
    """The contents below one directory, made if it is new."""

    def __init__(self, root: str) -> None:
        self._root = os.path.abspath(root)
        self._guard = LockFile(self._root)
        self._durable = {self._root}
        self._sound: dict[str, tuple[int, int, int]] = {}  # contents that were read through, and their files then
        with starting_faults(self._root):
            self._prepare()

    def _prepare(self) -> None:
        temporary = os.path.join(self._root, "tmp")
        self.is_new = not os.path.isdir(temporary)  # so is a mount point on which nothing is mounted
        _make(self._root)
        sync_directory(os.path.dirname(self._root))
        with kept(self._root):
            pass  # the lock is there now, and of this user, before a backup by root makes it
        self._place = Place(temporary)
        self.temporary = self._place.path

    def writer(self, space_id: int, limit: int | None = None) -> BlobWriter:
        return BlobWriter(self.temporary, limit, lambda file, sha256: self._keep(file, space_id, sha256))

    def open(self, space_id: int, sha256: str) -> BinaryIO:
        """It stays readable whatever happens to its name."""
        with disk_faults():
            try:
                file = open(self._path(space_id, sha256), "rb")  # noqa: SIM115 - the caller's to close
            except FileNotFoundError as error:
                _log.error("The content of a file is missing; agentchat admin doctor says of which.")
                raise missing() from error
            try:
                self._check(file, sha256)
            except BaseException:
                file.close()
                raise
        return file

    def _check(self, file: BufferedReader, sha256: str) -> None:
        """Read it through, once for as long as the file does not change: whoever has a link can ask again and again."""
        found = os.fstat(file.fileno())
        state = found.st_ino, found.st_size, found.st_mtime_ns
        if self._sound.get(sha256) == state:
            return
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise damaged()
        file.seek(0)
        if len(self._sound) >= _MOST_SOUND:
            self._sound.clear()
        self._sound[sha256] = state

    def _keep(self, temporary: str, space_id: int, sha256: str) -> Hold:
        """Give a finished temporary file its name, unless the same content is there already."""
        hold = self._guard.share()
        try:
            self._rename(temporary, self._path(space_id, sha256))
        except BaseException:
            hold.release()
            raise
        return hold

    def _rename(self, temporary: str, path: str) -> None:
        folder = os.path.dirname(path)
        self._make_durable(folder)
        if not _is_whole(path):
            os.replace(temporary, path)
        # Also for a content that was there: whoever renamed it may not have come this far yet.
        sync_directory(folder)

    def drop(self, space_id: int, sha256: str, is_named: Callable[[], bool]) -> bool:
        def remove() -> None:
            with suppress(FileNotFoundError):
                os.unlink(self._path(space_id, sha256))

        with disk_faults():
            return dropped(self._guard, is_named, remove)

    def close(self) -> None:
        self._place.close()

    def _path(self, space_id: int, sha256: str) -> str:
        if not _HASH.fullmatch(sha256):
            raise FileNotFoundError(sha256)
        return os.path.join(self._root, f"{space_id:d}", sha256[:2], sha256)

    def _make_durable(self, folder: str) -> None:
        """Create a directory and its parents. One that exists may be a moment old, so that it is synced too."""
        if folder in self._durable:
            return
        parent = os.path.dirname(folder)
        self._make_durable(parent)
        _make(folder)
        sync_directory(parent)
        self._durable.add(folder)


def _make(folder: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)


def _is_whole(path: str) -> bool:
    """Whether the content is there, and undamaged."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == os.path.basename(path)
    except FileNotFoundError:
        return False
