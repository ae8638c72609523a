"""Who waits for events of this relay: streams, and calls that wait for one. All of it on the event loop.

The store says on a thread of its own what was committed. While nobody reads, that costs a glance.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress

from agentchat.errors import Unavailable

from ..metrics import Metrics
from ..service.call import Agent
from ..service.events import Place, Wants
from ..store.seam import News, Store
from . import blocks
from .attendance import Attendance
from .feed import Ask, Counts, Feed, Pace, Waiter
from .reader import Reader

_STREAM = "events"


class Push:
    """Feeds by space, and what keeps them alive."""

    def __init__(self, store: Store, ask: Ask, metrics: Metrics, pace: Pace | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._store, self._ask, self._streams, self._pace = store, ask, metrics.streams, pace or Pace()
        self._feeds: dict[int, Feed] = {}
        self._behind: dict[Reader, asyncio.Task[None]] = {}
        self._open: set[Reader] = set()  # sockets, also of streams that were ended
        self._waiting = 0
        self._epoch = store.epoch
        self._counts = Counts()
        self._attendance = Attendance(ask, self._pace, self._counts, self._present)
        self._heart: asyncio.Task[None] | None = None
        self._empty: asyncio.Event | None = None  # waited for when the relay stops
        self.is_stopping = False
        self.stirred: Callable[[], object] = lambda: None  # called after every commit, on a thread of the store's
        self._streams[_STREAM] = 0
        metrics.counter(
            "agentchat_events_delivered_total", "Events handed over to streams.", lambda: self._counts.delivered
        )
        metrics.counter(
            "agentchat_slow_streams_total", "Streams ended because their reader was too slow.",
            lambda: self._counts.slow,
        )  # fmt: skip
        store.watch(self._told)

    def start(self) -> None:
        self._heart = asyncio.create_task(self._beat())
        self._attendance.start()

    async def stop(self) -> None:
        """End every stream and every wait. Whoever does not take the end is cut off after a while."""
        self.is_stopping = True
        if self._heart is not None:
            self._heart.cancel()
        self._attendance.stop()
        for feed in [*self._feeds.values()]:
            feed.end_all("stopping")
        if self._open:
            self._empty = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), self._pace.goodbye)
        for reader in [*self._open]:
            reader.abort()
        for task in [*self._behind.values()]:
            task.cancel()

    # What is new

    def _told(self, news: News) -> None:
        """On a thread of the store's."""
        self.stirred()
        if news.epoch == self._epoch and self._feeds.keys().isdisjoint(news.positions):
            return
        self._epoch = max(self._epoch, news.epoch)
        with suppress(RuntimeError):  # the loop is closed: nobody reads any more
            self._loop.call_soon_threadsafe(self._spread, news)

    def _spread(self, news: News) -> None:
        for space_id, feed in self._feeds.items():
            if news.epoch > feed.epoch or news.positions.get(space_id, 0) > feed.head:
                feed.look()

    # Streams

    def reader(self, place: Place, key_hash: str) -> Reader:
        """What takes over the socket of a stream that begins at a place."""
        return Reader(self, place, key_hash, self._pace.high_water)

    def check_room(self) -> None:
        if self.is_stopping:
            raise Unavailable("The relay is stopping; try again soon.", retry_after=1)
        if len(self._open) + self._waiting >= self._pace.most_streams:
            raise Unavailable("Too many read from this relay at the moment; try again later.", retry_after=10)

    def came(self, reader: Reader) -> None:
        self._open.add(reader)
        self._streams[_STREAM] = len(self._open)
        if self.is_stopping:
            reader.end("stopping")
            return
        feed = self._feed(reader.agent.space_id, reader.head, reader.epoch)
        feed.readers.add(reader)
        if not feed.attach(reader):
            self._behind[reader] = task = asyncio.create_task(feed.read_to(reader))
            task.add_done_callback(lambda _: self._behind.pop(reader, None))
        self._attendance.came(reader)

    def can_go_on(self, reader: Reader) -> None:
        if (feed := self._feeds.get(reader.agent.space_id)) is not None:
            feed.step(reader)

    def left(self, reader: Reader) -> None:
        self._open.discard(reader)
        self._streams[_STREAM] = len(self._open)
        if self._empty is not None and not self._open:
            self._empty.set()
        self._attendance.left(reader)
        if (feed := self._feeds.get(reader.agent.space_id)) is not None:
            feed.readers.discard(reader)
            self._let_go(feed)

    # Waits

    async def wait(
        self, agent: Agent, position: int, epoch: int, could_be: Wants, until: float, gone: asyncio.Future[None]
    ) -> bool:
        """Wait until it is worth looking again for something after a position: not when the time is over, the caller is
        gone, or the relay stops."""
        self.check_room()
        feed, waiter = self._feed(agent.space_id, position, epoch), Waiter(agent.id, position, epoch, could_be)
        self._waiting += 1
        feed.await_for(waiter, position)
        try:
            await asyncio.wait(
                {waiter.woken, gone}, timeout=until - self._loop.time(), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            self._waiting -= 1
            feed.waiters.discard(waiter)
            self._let_go(feed)
        return waiter.woken.done() and not gone.done() and not self.is_stopping

    def _present(self) -> Iterator[int]:
        """The agents that read or wait."""
        yield from (reader.agent.id for reader in self._open if not reader.is_over)
        yield from (waiter.agent_id for feed in self._feeds.values() for waiter in feed.waiters)

    # Feeds

    def _feed(self, space_id: int, head: int, epoch: int) -> Feed:
        """The feed of a space. A new one begins where the log ended a moment ago, and looks what came since."""
        feed = self._feeds.get(space_id)
        if feed is None or feed.is_broken:
            feed = self._feeds[space_id] = Feed(space_id, head, epoch, self._store, self._ask, self._pace, self._counts)
            self._store.listen(True)
            feed.look()
        return feed

    def _let_go(self, feed: Feed) -> None:
        if not feed.readers and not feed.waiters:
            feed.close()
            for space_id, found in [*self._feeds.items()]:
                if found is feed:
                    del self._feeds[space_id]
            self._store.listen(bool(self._feeds))

    # Signs of life

    async def _beat(self) -> None:
        """Also looks whether a piece of news got lost, and who takes nothing."""
        while True:
            await asyncio.sleep(self._pace.heartbeat)
            for feed in [*self._feeds.values()]:
                feed.look()
                sign = feed.head, blocks.place(feed.head)
                await feed.each(lambda reader, feed=feed, sign=sign: self._touch(feed, reader, *sign))  # type: ignore[misc]

    def _touch(self, feed: Feed, reader: Reader, head: int, sign: bytes) -> None:
        if reader.is_over:
            return
        if not reader.is_paused:
            reader.write(sign if reader.position == head else blocks.place(reader.position))
            return
        now, unsent = self._loop.time(), reader.unsent
        if reader.stalled is None or reader.stalled[0] != unsent:
            reader.stalled = unsent, now
        elif now - reader.stalled[1] >= self._pace.patience:
            feed.end(reader, "slow")
