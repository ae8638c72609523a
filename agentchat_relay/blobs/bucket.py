"""Contents in an S3-compatible bucket, `PREFIX/<space>/<first two hex digits>/<sha256>`, which relays may share.

A content is spooled to this machine's disk, then sent in one request, or in parts that appear together: half a content
has no name there either. One that is there already is sent again, which mends a damaged one. What is read for the first
time is spooled too, so that not a byte of a damaged content is given out; the store's tag for it is remembered, and as
long as that stays the same the content is passed on as it comes.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
from collections.abc import Callable
from contextlib import closing
from typing import Any, BinaryIO, cast

from agentchat.errors import StorageFull, Unavailable

from .faults import damaged, disk_faults, starting_faults
from .s3 import Body, Objects
from .seam import Blobs, Guard, Hold, dropped, missing
from .temporary import Place
from .writer import BlobWriter

_HASH = re.compile("[0-9a-f]{64}")
_MOST_SOUND = 10_000
_PIECE = 1 << 20


def open_bucket(bucket: str, prefix: str, *, spool: str, make_guard: Callable[[], Guard]) -> BucketBlobs:
    """The bucket that this process's environment leads to, tried out: a wrong setting shows here."""
    objects = Objects(bucket, prefix)
    objects.try_out()
    return BucketBlobs(objects, spool=spool, guard=make_guard())


class BucketBlobs(Blobs):
    """The contents among the objects of a bucket. Temporary files are below `spool`, on this machine."""

    def __init__(self, objects: Objects, *, spool: str, guard: Guard) -> None:
        self.is_new = False  # a bucket is made by its operator
        self._objects = objects
        self._guard = guard
        self._sound: dict[str, str] = {}  # the tags of contents that were read through, by key
        with starting_faults(spool):
            self._place = Place(os.path.abspath(spool))
        self.temporary = self._place.path

    def writer(self, space_id: int, limit: int | None = None) -> BlobWriter:
        return BlobWriter(self.temporary, limit, lambda file, sha256: self._keep(file, key_of(space_id, sha256)))

    def _keep(self, temporary: str, key: str) -> Hold:
        hold = self._guard.share()
        try:
            self._objects.put(temporary, key)
        except BaseException:
            hold.release()
            raise
        return hold

    def open(self, space_id: int, sha256: str) -> BinaryIO:
        key = key_of(space_id, sha256)
        tag, body = self._objects.get(key)
        if self._sound.get(key) == tag:
            return cast("BinaryIO", io.BufferedReader(_Passing(body), _PIECE))
        with closing(body):
            file = self._checked(body, sha256)
        if len(self._sound) >= _MOST_SOUND:
            self._sound.clear()
        self._sound[key] = tag
        return file

    def _checked(self, body: Body, sha256: str) -> BinaryIO:
        """A copy on this machine, which has no name."""
        try:
            with disk_faults():
                file = tempfile.TemporaryFile(dir=self.temporary)  # noqa: SIM115 - the caller's to close
                try:
                    _copy(body, file, sha256)
                except BaseException:
                    file.close()
                    raise
        except StorageFull as error:
            raise Unavailable("The relay's disk is full; it cannot give out files from its bucket.") from error
        return cast("BinaryIO", file)

    def drop(self, space_id: int, sha256: str, is_named: Callable[[], bool]) -> bool:
        return dropped(self._guard, is_named, lambda: self._objects.delete(key_of(space_id, sha256)))

    def close(self) -> None:
        self._place.close()
        self._guard.close()
        self._objects.close()


def key_of(space_id: int, sha256: str) -> str:
    if not _HASH.fullmatch(sha256):
        raise missing()
    return f"{space_id:d}/{sha256[:2]}/{sha256}"


def _copy(body: Body, file: Any, sha256: str) -> None:
    digest = hashlib.sha256()
    while piece := body.read(_PIECE):
        digest.update(piece)
        file.write(piece)
    if digest.hexdigest() != sha256:
        raise damaged()
    file.seek(0)


class _Passing(io.RawIOBase):
    """What the store sends, as it comes."""

    def __init__(self, body: Body) -> None:
        self._body = body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._body.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._body.close()
        super().close()
