"""The newest events of one space as they go out, and those who read them.

A feed exists while somebody reads. It looks into the store when it is told that there is something new, never by the
clock alone, and keeps what it found for readers that are a little late. Positions have no holes, so a reader's position
is its place in the window.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

from agentchat.errors import AgentChatError, PositionExpired, Unauthorized

from ..service import agents, events, presence
from ..service.call import Agent
from ..service.events import Happened, Page, Wants
from ..store.seam import Lane, Reading
from . import blocks
from .reader import Reader

_VANISHED, _TELLING = "message.vanished", ("message.created", "inbox.added")
_PAGE = 200
_AT_A_TIME = 250  # readers, then others have the event loop
_PIECE = 1 << 16  # bytes that are handed over before the client is looked at again
_PAUSE = 1.0  # seconds, when the store did not answer
_log = logging.getLogger("agentchat.relay")


class Pace(NamedTuple):
    """How patient streams are, and how much is kept for them. Seconds and bytes."""

    heartbeat: float = 15.0
    patience: float = 90.0  # with a reader that takes nothing
    note: float = presence.SEEN_EVERY / 1e6  # who reads is here
    glance: float = 10.0  # who came, who went
    goodbye: float = 5.0  # for a reader to take the end of its stream
    most_events: int = 4096  # in a window
    most_bytes: int = 8 << 20
    high_water: int = 1 << 16  # unsent, of one reader
    most_streams: int = 20_000


class Ask(Protocol):
    def __call__(self, lane: Lane, call: Callable[[Any], Any], /) -> Awaitable[Any]: ...


class Epochs(Protocol):
    @property
    def epoch(self) -> int: ...


class Counts:
    """What is told to the operator."""

    def __init__(self) -> None:
        self.delivered = self.slow = 0


class Waiter:
    """Somebody who waits once for an event that could be theirs. `epoch` is the one they were confirmed in."""

    __slots__ = ("_could_be", "_position", "agent_id", "epoch", "woken")

    def __init__(self, agent_id: int, position: int, epoch: int, could_be: Wants) -> None:
        self.agent_id = agent_id
        self._position, self._could_be = position, could_be
        self.epoch = epoch
        self.woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def look(self, found: Iterable[Happened]) -> None:
        if any(event.position > self._position and self._could_be(event) for event in found):
            self.wake()

    def wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


class Feed:
    """`head` is where the log ends as far as is known here, `start` where the window begins, `epoch` the one of the
    last look into the store."""

    def __init__(
        self, space_id: int, head: int, epoch: int, store: Epochs, ask: Ask, pace: Pace, counts: Counts
    ) -> None:
        self._space_id, self._store, self._ask, self._pace, self._counts = space_id, store, ask, pace, counts
        self.head = self.start = head
        self.epoch = epoch
        self.readers: set[Reader] = set()
        self.waiters: set[Waiter] = set()
        self._window: list[tuple[Happened, bytes]] = []
        self._bytes = 0
        self.is_broken = False  # it can find nothing any more
        self._is_stale = self._has_doubts = False
        self._pump: asyncio.Task[None] | None = None

    def look(self) -> None:
        """There may be something new."""
        self._is_stale = True
        if self._pump is None:
            self._pump = asyncio.create_task(self._run())

    def close(self) -> None:
        if self._pump is not None:
            self._pump.cancel()

    # Those who come

    def attach(self, reader: Reader) -> bool:
        """Go on from the window, if it reaches back far enough."""
        if reader.position < self.start:
            return False
        reader.is_behind = False
        if reader.epoch < self.epoch:
            self._has_doubts = True
            self.look()
        self.step(reader)
        return True

    def await_for(self, waiter: Waiter, position: int) -> None:
        self.waiters.add(waiter)
        if position < self.start or waiter.epoch < self.epoch:  # what came meanwhile is not known here
            waiter.wake()
        else:
            waiter.look(event for event, _ in self._window[position - self.start :])

    def end_all(self, reason: str) -> None:
        for reader in [*self.readers]:
            self.end(reader, reason)
        for waiter in self.waiters:
            waiter.wake()

    def end(self, reader: Reader, reason: str) -> None:
        if not reader.is_over:
            self._counts.slow += reason == "slow"
            reader.end(reason)
            asyncio.get_running_loop().call_later(self._pace.goodbye, reader.abort)

    # Delivering

    def step(self, reader: Reader) -> None:
        """Hand over what a reader has not seen."""
        if reader.is_behind or reader.is_over or reader.position >= self.head:
            return
        if reader.position < self.start:
            self.end(reader, "slow")
            return
        if reader.is_paused or reader.epoch < self.epoch:
            return
        if reader.position == self.head - 1:  # as usual, and without the ado for many
            event, block = self._window[-1]
            reader.position = self.head
            if reader.wants(event):
                self._counts.delivered += 1
                reader.write(block)
            return
        pieces: list[bytes] = []
        size = 0
        for event, block in self._window[reader.position - self.start :]:
            if reader.wants(event):
                pieces.append(block)
                size += len(block)
            reader.position = event.position
            if size >= _PIECE:
                size = 0
                if not self._hand_over(reader, pieces):
                    return
        self._hand_over(reader, pieces)

    def _hand_over(self, reader: Reader, pieces: list[bytes]) -> bool:
        """Whether the reader takes more."""
        if pieces:
            self._counts.delivered += len(pieces)
            reader.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            pieces.clear()
        return not reader.is_paused

    async def each(self, do: Callable[[Reader], object]) -> None:
        """Something for every reader, with room for others in between."""
        for number, reader in enumerate([*self.readers], 1):
            do(reader)
            if number % _AT_A_TIME == 0:
                await asyncio.sleep(0)

    # Looking into the store

    async def _run(self) -> None:
        try:
            while self._is_stale:
                self._is_stale = False
                try:
                    await self._read()
                except PositionExpired:  # the store has lost what it had
                    self.is_broken = True
                    self.end_all("slow")
                    return
                except Exception as error:
                    if not isinstance(error, AgentChatError):
                        _log.error("Events could not be read", exc_info=error)
                    self._is_stale = True
                    await asyncio.sleep(_PAUSE)
        finally:
            self._pump = None

    async def _read(self) -> None:
        """One page. If keys may have changed, the same transaction says which of the readers' are still good."""
        looked = None if self._has_doubts else await self._ask(Lane.READ, self._page)
        # A snapshot may be a little younger than the epoch that was read before it.
        if looked is None or self._store.epoch > self.epoch:
            holders = {reader.key_hash: reader.agent for reader in self.readers}
            looked, epoch, void = await self._ask(Lane.READ, partial(self._page_for, holders=holders))
            self._confirm(epoch, holders, void)
        found, is_end = looked
        if found:
            self._take(found)
        await self.each(self.step)
        self._is_stale |= not is_end

    def _page(self, tx: Reading) -> Any:
        """None if who reads must be looked up again."""
        return None if tx.epoch != self.epoch else self._encoded(tx)

    def _page_for(self, tx: Reading, *, holders: Mapping[str, Agent]) -> Any:
        void = {key_hash for key_hash, agent in holders.items() if not agents.holds(tx, key_hash, agent)}
        return self._encoded(tx), tx.epoch, void

    def _encoded(self, tx: Reading) -> tuple[list[tuple[Happened, bytes]], bool]:
        """On the store's thread. The window keeps what goes out, and of the events only what filters look at."""
        page = events.after(tx, self._space_id, self.head, _PAGE)
        return [(event._replace(body=b""), blocks.event(event)) for event in page.events], page.is_end

    def _confirm(self, epoch: int, holders: Mapping[str, Agent], void: set[str]) -> None:
        self._has_doubts = False
        self.epoch = epoch
        for reader in [*self.readers]:
            if reader.key_hash in void:
                self.end(reader, "unauthorized")
            elif reader.key_hash in holders:
                reader.epoch = max(reader.epoch, epoch)
            elif reader.epoch < epoch and not reader.is_behind:  # it came meanwhile
                self._has_doubts = self._is_stale = True
        for waiter in self.waiters:
            if waiter.epoch < epoch:
                waiter.wake()

    def _take(self, found: list[tuple[Happened, bytes]]) -> None:
        for event, block in found:
            if event.kind == _VANISHED:
                self._fall_silent(block)
        self._window += found
        self._bytes += sum(len(block) for _, block in found)
        self.head = found[-1][0].position
        for waiter in [*self.waiters]:
            waiter.look(event for event, _ in found)
        self._trim()

    def _fall_silent(self, vanished: bytes) -> None:
        """Whoever comes later is not told what a message said that has vanished."""
        message_id = blocks.subject(vanished)
        for at, (event, block) in enumerate(self._window):
            if event.kind in _TELLING and message_id.encode() in block:
                self._window[at] = event, blocks.without(block, message_id)
                self._bytes += len(self._window[at][1]) - len(block)

    def _trim(self) -> None:
        """Never what was just found: readers are handed that first."""
        pace, dropped = self._pace, 0
        keep = min(_PAGE, len(self._window))
        while len(self._window) - dropped > keep and (
            len(self._window) - dropped > pace.most_events or self._bytes > pace.most_bytes
        ):
            self._bytes -= len(self._window[dropped][1])
            dropped += 1
        if dropped:
            del self._window[:dropped]
            self.start += dropped

    # Reading from the store to one that is behind

    async def read_to(self, reader: Reader) -> None:
        """Until the window reaches back to where it is."""
        while not reader.is_over and not self.attach(reader):
            if reader.is_paused:
                reader.resumed = asyncio.get_running_loop().create_future()
                await reader.resumed
                continue
            try:
                page, epoch = await self._ask(Lane.READ, _next_page(reader))
            except (PositionExpired, Unauthorized) as error:
                self.end(reader, "unauthorized" if isinstance(error, Unauthorized) else "slow")
                return
            except AgentChatError:
                await asyncio.sleep(_PAUSE)
                continue
            reader.position, reader.epoch = page.position, epoch
            self._hand_over(reader, [blocks.event(event) for event in page.events])


def _next_page(reader: Reader) -> Callable[[Reading], tuple[Page, int]]:
    """What a reader is to get next. Threads of the store may hold on to it, so it holds on to no reader."""
    wanted, position, key_hash = reader.filter, reader.position, reader.key_hash

    def look(tx: Reading) -> tuple[Page, int]:
        if not agents.holds(tx, key_hash, wanted.agent):
            raise Unauthorized("This agent key is no longer valid.")
        return events.page(tx, wanted, position, _PAGE), tx.epoch

    return look
