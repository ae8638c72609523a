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

from . import s3
from .faults import damaged, disk_faults, starting_faults
from .guards import InProcess
from .seam import Blobs, Guard, Hold, dropped, missing
from .temporary import Place
from .writer import BlobWriter

_HASH = re.compile("[0-9a-f]{64}")
_MOST_SOUND = 10_000
_PIECE = 1 << 20


def open_bucket(bucket: str, prefix: str, *, spool: str, guard: Guard | None = None) -> BucketBlobs:
    """The bucket that this process's environment leads to, tried out: a wrong setting shows here."""
    client = s3.connect()
    _try_out(client, bucket, prefix)
    return BucketBlobs(client, bucket, prefix, spool=spool, guard=guard or InProcess())


def _try_out(client: Any, bucket: str, prefix: str) -> None:
    """Everything that a relay is going to do there."""
    key = "/".join(filter(None, (prefix, f"probe-{os.urandom(8).hex()}")))
    with s3.starting_faults(f"s3://{bucket}/{prefix}"):
        client.head_bucket(Bucket=bucket)
        client.put_object(Bucket=bucket, Key=key, Body=b"A relay tries whether it may write here.")
        try:
            client.get_object(Bucket=bucket, Key=key)["Body"].close()
        finally:
            client.delete_object(Bucket=bucket, Key=key)


class BucketBlobs(Blobs):
    """The contents below one prefix of a bucket. Temporary files are below `spool`, on this machine."""

    def __init__(self, client: Any, bucket: str, prefix: str, *, spool: str, guard: Guard) -> None:
        self.is_new = False  # a bucket is made by its operator
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._guard = guard
        self._sound: dict[str, str] = {}  # the tags of contents that were read through, by key
        with starting_faults(spool):
            self._place = Place(os.path.abspath(spool))
        self.temporary = self._place.path

    def writer(self, space_id: int, limit: int | None = None) -> BlobWriter:
        return BlobWriter(self.temporary, limit, lambda file, sha256: self._keep(file, space_id, sha256))

    def _keep(self, temporary: str, space_id: int, sha256: str) -> Hold:
        hold = self._guard.share()
        try:
            with s3.faults():
                self._client.upload_file(temporary, self._bucket, self._key(space_id, sha256), Config=s3.transfer())
        except BaseException:
            hold.release()
            raise
        return hold

    def open(self, space_id: int, sha256: str) -> BinaryIO:
        key = self._key(space_id, sha256)
        with s3.faults():
            found = self._client.get_object(Bucket=self._bucket, Key=key)
        if self._sound.get(key) == found["ETag"]:
            return cast("BinaryIO", io.BufferedReader(_Passing(found["Body"]), _PIECE))
        with closing(found["Body"]) as body:
            file = self._checked(body, sha256)
        if len(self._sound) >= _MOST_SOUND:
            self._sound.clear()
        self._sound[key] = found["ETag"]
        return file

    def _checked(self, body: Any, sha256: str) -> BinaryIO:
        """A copy on this machine, of which nothing else has a name."""
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

    def size(self, space_id: int, sha256: str) -> int:
        """How many bytes a content has, without reading it."""
        with s3.faults():
            return int(self._client.head_object(Bucket=self._bucket, Key=self._key(space_id, sha256))["ContentLength"])

    def drop(self, space_id: int, sha256: str, is_named: Callable[[], bool]) -> bool:
        def remove() -> None:
            with s3.faults():
                self._client.delete_object(Bucket=self._bucket, Key=self._key(space_id, sha256))

        return dropped(self._guard, is_named, remove)

    def close(self) -> None:
        self._place.close()
        self._guard.close()
        self._client.close()

    def _key(self, space_id: int, sha256: str) -> str:
        if not _HASH.fullmatch(sha256):
            raise missing()
        return "/".join(filter(None, (self._prefix, f"{space_id:d}", sha256[:2], sha256)))


def _copy(body: Any, file: Any, sha256: str) -> None:
    digest = hashlib.sha256()
    while piece := _read(body, _PIECE):
        digest.update(piece)
        file.write(piece)
    if digest.hexdigest() != sha256:
        raise damaged()
    file.seek(0)


def _read(body: Any, size: int) -> bytes:
    with s3.faults():
        return cast("bytes", body.read(size))


class _Passing(io.RawIOBase):
    """What the store sends, as it comes."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = _read(self._body, len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._body.close()
        super().close()
