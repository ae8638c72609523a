"""A reader of events: a place in the log, a filter, and a socket. Idle, it has no task, no queue and no timer."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, cast

from ..service.call import Agent
from ..service.events import Filter, Happened, Place
from . import blocks

_MOST_HEARD = 1 << 16  # bytes that a client says on after its request


class Watching(Protocol):
    """Who looks after readers."""

    def came(self, reader: Reader) -> None: ...
    def can_go_on(self, reader: Reader) -> None: ...
    def left(self, reader: Reader) -> None: ...


class Reader(asyncio.Protocol):
    """The protocol of a stream's socket, once that is taken from the HTTP server.

    `position` is how far it was looked through for this reader, `epoch` the one in which its key was last found good,
    `head` where the log ended when it came.
    """

    __slots__ = (
        "_heard", "_high_water", "_is_wide", "_transport", "_watching", "epoch", "filter", "head", "is_behind",
        "is_over", "is_paused", "key_hash", "position", "resumed", "stalled",
    )  # fmt: skip

    def __init__(self, watching: Watching, place: Place, key_hash: str, high_water: int) -> None:
        self._watching = watching
        self._high_water = high_water
        self._transport: asyncio.Transport | None = None
        self._heard = 0
        self.filter: Filter = place.filter
        self.position, self.head = place.position, place.head
        self.epoch = place.epoch
        self.key_hash = key_hash
        self._is_wide = not place.filter.is_narrow
        self.is_behind = True  # the window; it is read to from the store
        self.is_paused = self.is_over = False
        self.resumed: asyncio.Future[None] | None = None  # waited for by whoever reads to it
        self.stalled: tuple[int, float] | None = None  # bytes that it does not take, and since when

    @property
    def agent(self) -> Agent:
        return self.filter.agent

    def wants(self, event: Happened) -> bool:
        """What is meant for all goes to nearly all, and is decided quickly."""
        return (self._is_wide and event.audience_id is None) or self.filter.wants(event)

    @property
    def unsent(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Hand over, and pause if the client is not quick enough."""
        if self.is_over or self._transport is None:
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > self._high_water:
            self.is_paused = True

    def end(self, reason: str) -> None:
        """Say why, and hang up once that was taken."""
        if not self.is_over and self._transport is not None:
            self._transport.write(blocks.end(reason, self.position))
            self._transport.close()
        self.is_over = True
        self._wake()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _wake(self) -> None:
        if self.resumed is not None and not self.resumed.done():
            self.resumed.set_result(None)

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._transport.set_write_buffer_limits(high=self._high_water)
        self.is_paused = self.unsent > self._high_water
        self._watching.came(self)

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused, self.stalled = False, None
        self._wake()
        if not self.is_over:
            self._watching.can_go_on(self)

    def data_received(self, data: bytes) -> None:
        self._heard += len(data)
        if self._heard > _MOST_HEARD:
            self.abort()

    def eof_received(self) -> Any:  # asyncio asks for a bool or None
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over, self._transport = True, None
        self._wake()
        self._watching.left(self)
