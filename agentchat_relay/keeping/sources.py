"""Where the contents of a data directory's files are read from: its own `blobs`, another directory, or a bucket."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import TYPE_CHECKING, NamedTuple, Protocol

from agentchat.errors import NotFound

from ..blobs.guards import kept
from ..blobs.opening import BLOBS, bucket_of, is_bucket

if TYPE_CHECKING:
    from ..blobs.s3 import Objects

_HASH = re.compile("[0-9a-f]{64}")
_CHUNK = 1 << 20


class Content(NamedTuple):
    """One content, as the rows name it."""

    space_id: int
    hash: str
    size: int


class Unfit(Exception):
    """Why a content is not what it should be."""


class Source(Protocol):
    """Contents to be read."""

    name: str  # as the operator knows it

    def standing(self) -> AbstractContextManager[None]:
        """While this lasts, contents can be read, and none is removed if the source can see to that."""
        ...

    def size(self, content: Content) -> int: ...
    def pieces(self, content: Content) -> Iterator[bytes]: ...


def source_of(files: str, directory: str) -> Source:
    """The contents of a data directory whose setting `files` is this. A bucket is looked for right away."""
    return Bucket(files) if is_bucket(files) else Folder(files or os.path.join(directory, BLOBS))


class Folder(Source):
    """A directory, see `agentchat_relay.blobs`."""

    def __init__(self, root: str) -> None:
        self.name = self.root = root

    def standing(self) -> AbstractContextManager[None]:
        """A relay that never ran has none."""
        return kept(self.root) if os.path.isdir(self.root) else nullcontext()

    def size(self, content: Content) -> int:
        path = path_of(self.root, content)
        if not os.path.isfile(path):
            raise Unfit("missing")
        return os.path.getsize(path)

    def pieces(self, content: Content) -> Iterator[bytes]:
        try:
            with open(path_of(self.root, content), "rb", buffering=0) as file:
                while piece := file.read(_CHUNK):
                    yield piece
        except FileNotFoundError:
            raise Unfit("missing") from None
        except OSError as error:
            raise Unfit(f"unreadable: {error.strerror}") from error


class Bucket(Source):
    """A bucket. Who removes contents there is another process's matter."""

    def __init__(self, files: str) -> None:
        from ..blobs.s3 import Objects

        self.name = files
        self._objects: Objects = Objects(*bucket_of(files))
        self._objects.look()

    @contextmanager
    def standing(self) -> Iterator[None]:
        with closing(self._objects):
            yield

    def size(self, content: Content) -> int:
        try:
            return self._objects.size(_place_of(content))
        except NotFound:
            raise Unfit("missing") from None

    def pieces(self, content: Content) -> Iterator[bytes]:
        try:
            found = self._objects.get(_place_of(content))
        except NotFound:
            raise Unfit("missing") from None
        with closing(found.body) as body:
            while piece := body.read(_CHUNK):
                yield piece


def path_of(root: str, content: Content) -> str:
    """Where a content lies in a directory."""
    return os.path.join(root, _place_of(content))


def _place_of(content: Content) -> str:
    """Rows may come from a stranger's backup: no name leads out."""
    if not _HASH.fullmatch(content.hash):
        raise Unfit("its name is no SHA-256")
    return f"{content.space_id:d}/{content.hash[:2]}/{content.hash}"
