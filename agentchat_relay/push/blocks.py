"""What goes out on a stream: blocks of Server-Sent Events, each of which is one chunk of an answer without an end."""

from __future__ import annotations

from ..service.events import Happened

_LAST = b"0\r\n\r\n"


def event(happened: Happened) -> bytes:
    return _chunk(b"id: %d\ndata: %b\n\n" % (happened.position, happened.body))


def live(body: bytes) -> bytes:
    """An event that is in no log: a reader's place stays where it is."""
    return _chunk(b"data: %b\n\n" % body)


def place(position: int) -> bytes:
    """No event: how far the log is looked through."""
    return _chunk(opening(position))


def opening(position: int) -> bytes:
    """The same at the beginning, where the server still makes chunks by itself."""
    return b"id: %d\n\n" % position


def end(reason: str, position: int) -> bytes:
    """Why the stream ends here, and that it does."""
    return _chunk(b'event: end\ndata: {"reason":"%b","position":%d}\n\n' % (reason.encode(), position)) + _LAST


def _chunk(block: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(block), block)
