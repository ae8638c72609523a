"""What goes out on a stream: blocks of Server-Sent Events, each of which is one chunk of an answer without an end."""

from __future__ import annotations

from typing import Any

import msgspec

from ..service.events import Happened

_LAST = b"0\r\n\r\n"


def event(happened: Happened) -> bytes:
    return _event(happened.position, happened.body)


def _event(position: int, body: bytes) -> bytes:
    return _chunk(b"id: %d\ndata: %b\n\n" % (position, body))


def subject(block: bytes) -> str:
    """What an event was about."""
    return str(_told(block)["subject"])


def without(block: bytes, message_id: str) -> bytes:
    """An event without its data, if that is this message."""
    told = _told(block)
    data = told["data"] or {}
    if message_id not in (data.get("message", {}).get("id"), data.get("item", {}).get("message_id")):
        return block
    return _event(told["position"], msgspec.json.encode({**told, "data": None}))


def _told(block: bytes) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.json.decode(block.partition(b"\ndata: ")[2].partition(b"\n\n")[0])
    return told


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
