"""One content on its way: written to a temporary file, hashed and counted, then placed where contents live."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from agentchat.errors import BadRequest

from .faults import disk_faults
from .seam import Hold

Place = Callable[[str, str], Hold]  # given a finished file and its SHA-256


class BlobWriter:
    """Open from the start. Without `finish` nothing remains. After it `hold` keeps contents from being removed; whoever
    makes this one a file releases it after that, or when there will be none."""

    hold: Hold

    def __init__(self, temporary: str, limit: int | None, place: Place) -> None:
        self.size = 0
        self._limit = limit
        self._place = place
        self._hash = hashlib.sha256()
        with disk_faults():
            fd, self._path = tempfile.mkstemp(dir=temporary)
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
            self.hold = self._place(self._path, sha256)
        self._remove()
        return sha256

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What cannot be removed now is removed at a next start; the error under way tells more.
        with suppress(OSError):
            self._file.close()
        self._remove()

    def _remove(self) -> None:
        if self._path:
            with suppress(OSError):  # as a rule it was placed by renaming it
                os.unlink(self._path)
            self._path = ""
