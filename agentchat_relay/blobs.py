"""The contents of files, content-addressed per space: `ROOT/<space>/<first two hex digits>/<sha256>`.

A content is written to `ROOT/tmp`, made durable and then renamed, so a name of ours never shows half a file, and a hash
that was handed out survives a power loss; before one is given out, it is compared with its name. Contents that no file
names any more are removed, but never one that an upload is about to name, and none while a backup holds them (`kept`).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import re
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from types import TracebackType
from typing import BinaryIO

from agentchat.errors import BadRequest, NotFound, StorageFull, Unavailable

from .durable import sync_directory

_HASH = re.compile("[0-9a-f]{64}")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_MOST_SOUND = 10_000
_log = logging.getLogger("agentchat.relay")


class Blobs:
    """The contents below one directory. `ROOT/tmp` belongs to one process at a time: what lies there is a crash's."""

    def __init__(self, root: str) -> None:
        self._root = os.path.abspath(root)
        self.temporary = os.path.join(self._root, "tmp")
        self._durable = {self._root}
        self._awaited = Counter[tuple[int, str]]()  # contents whose files are not in the store yet
        self._leaving: set[tuple[int, str]] = set()  # contents about to be removed, that nobody came for since
        self._guard = threading.Lock()
        self._sound: dict[str, tuple[int, int, int]] = {}  # contents that were read through, and their files then
        try:
            self._prepare()
        except OSError as error:
            kind = StorageFull if error.errno in _FULL else Unavailable
            raise kind(f"Cannot use {self._root} for files: {error.strerror}.") from error

    def _prepare(self) -> None:
        self.is_new = not os.path.isdir(self._root)
        _make(self._root)
        sync_directory(os.path.dirname(self._root))
        _make(self.temporary)
        with _locked(self._root, fcntl.LOCK_SH):
            pass  # it is there now, and of this user, before a backup by root makes it
        for entry in os.scandir(self.temporary):
            os.unlink(entry.path)

    def writer(self, space_id: int, limit: int | None = None) -> BlobWriter:
        """Takes one content of at most `limit` bytes; use it in a `with` statement."""
        return BlobWriter(self, space_id, limit)

    def open(self, space_id: int, sha256: str) -> BinaryIO:
        """The content for reading; it stays readable whatever happens to its name."""
        with disk_faults(), _expected():
            file = open(self._path(space_id, sha256), "rb")  # noqa: SIM115 - the caller's to close
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
            _log.error("The content of a file is damaged; agentchat admin doctor says of which.")
            raise Unavailable("The content of this file is damaged on the relay; its operator must look at the disk.")
        file.seek(0)
        if len(self._sound) >= _MOST_SOUND:
            self._sound.clear()
        self._sound[sha256] = state

    def keep(self, temporary: str, space_id: int, sha256: str) -> None:
        """Give a finished temporary file its name, or drop it where the same content is already. Whoever makes it a
        file calls `settled` after that."""
        with self._guard:
            self._awaited[space_id, sha256] += 1
            self._leaving.discard((space_id, sha256))
        try:
            self._place(temporary, self._path(space_id, sha256))
        except BaseException:
            self.settled(space_id, sha256)
            raise

    def _place(self, temporary: str, path: str) -> None:
        folder = os.path.dirname(path)
        self._make_durable(folder)
        if _is_whole(path):
            os.unlink(temporary)
        else:
            os.replace(temporary, path)
        # Also for a content that was there: whoever renamed it may not have come this far yet.
        sync_directory(folder)

    def settled(self, space_id: int, sha256: str) -> None:
        """The file of this content is in the store, or never will be."""
        with self._guard:
            self._awaited[space_id, sha256] -= 1
            if not self._awaited[space_id, sha256]:
                del self._awaited[space_id, sha256]

    def drop(self, space_id: int, sha256: str, is_named: Callable[[], bool]) -> bool:
        """Remove a content, unless a file names it. False: not now, because of an upload or a backup."""
        content = space_id, sha256
        with disk_faults(), _locked(self._root, fcntl.LOCK_EX) as alone:
            with self._guard:
                if not alone or content in self._awaited:
                    return False
                self._leaving.add(content)
            # Not behind the guard: the answer may come by way of somebody who waits in `settled`.
            named = is_named()
            with self._guard:
                if content not in self._leaving:  # an upload came for it meanwhile
                    return False
                self._leaving.remove(content)
                if not named:
                    with suppress(FileNotFoundError):
                        os.unlink(self._path(space_id, sha256))
            return True

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


@contextmanager
def kept(root: str) -> Iterator[None]:
    """While this lasts, no process removes a content below `root`."""
    with _locked(root, fcntl.LOCK_SH):
        yield


@contextmanager
def _locked(root: str, how: int) -> Iterator[bool]:
    """The lock of a directory of contents: shared by those who copy them, for whoever removes one alone. An exclusive
    lock is not waited for: it says whether it was had."""
    descriptor = os.open(os.path.join(root, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if os.geteuid() == 0:  # who may back up what belongs to another user, and must not shut that one out
            owner = os.stat(root)
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        yield _taken(descriptor, how)
    finally:
        os.close(descriptor)


def _taken(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | (fcntl.LOCK_NB if how == fcntl.LOCK_EX else 0))
    except BlockingIOError:
        return False
    return True


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
            self._blobs.keep(self._path, self._space_id, sha256)
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
        _log.error("The directory of files: %s", error)
        if error.errno in _FULL:
            raise StorageFull("The relay's disk is full; the file was not stored.") from error
        raise Unavailable("The relay cannot use its file directory; its operator must look at the disk.") from error


@contextmanager
def _expected() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        _log.error("The content of a file is missing; agentchat admin doctor says of which.")
        raise NotFound("The content of this file is missing on the relay.") from error


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
