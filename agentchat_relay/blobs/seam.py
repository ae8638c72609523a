"""The seam between files and where their contents live: `<space>/<first two hex digits>/<sha256>`, wherever that is.

What must never happen: an upload finds its content there, somebody removes it, and then the file's row is committed.
So an upload *holds* contents from before its own is placed until its row is committed or given up, and whoever removes
one does it alone: while nobody holds them, in any process on any machine. Whoever removes never waits for that, so
uploads never wait for each other, and for a removal only as long as it takes to look at the rows and to remove.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Protocol

from agentchat.errors import NotFound

if TYPE_CHECKING:
    from .writer import BlobWriter

Content = tuple[int, str]  # the space, the SHA-256 in hex


class Hold(Protocol):
    """Contents held, by an upload or alone. Both methods may wait for a network: they are not for an event loop."""

    def sure(self) -> None:
        """Raise Unavailable if the hold was lost without anybody having released it, also after its release."""
        ...

    def release(self) -> None:
        """Let go; what was let go before is let go still."""
        ...


class Guard(Protocol):
    """Who holds contents."""

    def share(self) -> Hold:
        """Hold them together with others. It waits while somebody has them alone."""
        ...

    def alone(self) -> Hold | None:
        """Hold them alone, if nobody else holds them right now."""
        ...

    def close(self) -> None: ...


class Blobs(Protocol):
    """Where contents live."""

    temporary: str  # a directory on this machine, of this process alone
    is_new: bool  # nothing was ever here

    def writer(self, space_id: int, limit: int | None = None) -> BlobWriter:
        """Takes one content of at most `limit` bytes; use it in a `with` statement."""
        ...

    def open(self, space_id: int, sha256: str) -> BinaryIO:
        """The content for reading. Not a byte of a damaged one is given out."""
        ...

    def drop(self, space_id: int, sha256: str, is_named: Callable[[], bool]) -> bool:
        """Remove a content, unless a file names it. False: not now, because of an upload or a backup."""
        ...

    def close(self) -> None: ...


def dropped(guard: Guard, is_named: Callable[[], bool], remove: Callable[[], object]) -> bool:
    """What `drop` means, wherever contents live."""
    if (hold := guard.alone()) is None:
        return False
    try:
        if not is_named():
            hold.sure()
            remove()
    finally:
        hold.release()
    return True


def missing() -> NotFound:
    return NotFound("The content of this file is missing on the relay.")
