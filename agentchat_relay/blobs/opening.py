"""From the setting `files` to the place it names: a directory, or a bucket as `s3://BUCKET/PREFIX`."""

from __future__ import annotations

import os
from collections.abc import Callable

from .directory import DirectoryBlobs
from .guards import InProcess
from .seam import Blobs, Guard

BLOBS = "blobs"
SPOOL = "spool"
_S3 = "s3://"


def is_bucket(setting: str) -> bool:
    return setting.startswith(_S3)


def bucket_of(setting: str) -> tuple[str, str]:
    """The bucket and the prefix that a setting names; ValueError says what is wrong with it."""
    bucket, _, prefix = setting.removeprefix(_S3).partition("/")
    if not is_bucket(setting) or not bucket or "?" in setting or "#" in setting or "@" in bucket:
        raise ValueError("must be a directory or s3://BUCKET/PREFIX, nothing else in it")  # perhaps a secret
    return bucket, prefix.strip("/")


def open_blobs(setting: str, directory: str, make_guard: Callable[[], Guard] = InProcess) -> Blobs:
    """The contents of the relay in `directory`. Relays that share a bucket need a guard that they share as well; a
    directory has its own."""
    if not is_bucket(setting):
        return DirectoryBlobs(setting or os.path.join(directory, BLOBS))
    from .bucket import open_bucket

    return open_bucket(*bucket_of(setting), spool=os.path.join(directory, SPOOL), make_guard=make_guard)
