"""The contents of files, content-addressed per space: `ROOT/<space>/<first two hex digits>/<sha256>`.

A content is written to `ROOT/tmp`, made durable and then renamed, so a name of ours never shows half a file, and a hash
that was handed out survives a power loss.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import BinaryIO

from agentchat.errors import BadRequest, NotFound, StorageFull, Unavailable

from .durable import sync_directory

_HASH = re.compile("[0-9a-f]{64}")


class Blobs:
    """The contents below one directory. `ROOT/tmp` belongs to one process at a time: what lies there is a crash's."""

    def __init__(self, root: str) -> None:
        self._root = os.path.abspath(root)
        self.temporary = os.path.join(self._root, "tmp")
        self._durable = {self._root}
        with disk_faults():
            _make(self._root)
            sync_directory(os.path.dirname(self._root))
            _make(self.temporary)
            for entry in os.scandir(self.temporary):
                os.unlink(entry.path)

    def writer(self, space_id: int, limit: int | None = None) -> BlobWriter:
        """Takes one content of at most `limit` bytes; use it in a `with` statement."""
        return BlobWriter(self, space_id, limit)

    def open(self, space_id: int, sha256: str) -> BinaryIO:
        """The content for reading; it stays readable whatever happens to its name."""
        with disk_faults(), _expected():
            return open(self._path(space_id, sha256), "rb")

    def keep(self, temporary: str, space_id: int, sha256: str, size: int) -> None:
        """Give a finished temporary file its name, or drop it where the same content is already."""
        path = self._path(space_id, sha256)
        folder = os.path.dirname(path)
        self._make_durable(folder)
        if _is_whole(path, size):
            os.unlink(temporary)
        else:
            os.replace(temporary, path)
        # Also for a content that was there: whoever renamed it may not have come this far yet.
        sync_directory(folder)

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


class BlobWriter:
    """One content on its way to the disk, open from the start. Without `finish` nothing of it remains."""

    def __init__(self, blobs: Blobs, space_id: int, limit: int | None) -> None:
        self.size = 0
        self._blobs = blobs
        self._space_id = space_id
        self._limit = limit
        self._hash = hashlib.sha256()
        with disk_faults():
            fd, self._path = tempfile.mkstemp(dir=blobs.temporary)
        self._file = open(fd, "wb", buffering=0)  # noqa: SIM115 - closed by finish or at the end of the with

    def __enter__(self) -> BlobWriter:
        return self

    def write(self, chunk: bytes | memoryview) -> None:
        """Append to the content."""
        rest = memoryview(chunk).cast("B")
        self.size += len(rest)
        if self._limit is not None and self.size > self._limit:
            raise BadRequest(f"The file is too large; at most {self._limit} bytes are allowed.")
        self._hash.update(rest)
        with disk_faults():
            while rest:
                rest = rest[self._file.write(rest) :]

    def finish(self) -> str:
        """Make the content durable and give its SHA-256 in hex. Nothing can be written afterwards."""
        sha256 = self._hash.hexdigest()
        with disk_faults():
            os.fsync(self._file.fileno())
            self._file.close()
            self._blobs.keep(self._path, self._space_id, sha256, self.size)
        self._path = ""
        return sha256

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What cannot be removed now is removed at the next start; the error under way tells more.
        with suppress(OSError):
            self._file.close()
        if self._path:
            with suppress(OSError):
                os.unlink(self._path)


@contextmanager
def disk_faults() -> Iterator[None]:
    """Faults of the disk as the errors that say who must act."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("The relay's disk is full; the file was not stored.") from error
        raise Unavailable("The relay cannot use its file directory; its operator must look at the disk.") from error


@contextmanager
def _expected() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound("The content of this file is missing on the relay.") from error


def _make(folder: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)


def _is_whole(path: str, size: int) -> bool:
    try:
        return os.stat(path).st_size == size
    except FileNotFoundError:
        return False
