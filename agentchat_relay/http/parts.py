"""What every route is given."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from agentchat.errors import AgentChatError, RateLimited

from ..blobs import Blobs
from ..metrics import Metrics
from ..settings import Settings
from ..store.seam import Lane, Store
from ..wire import now
from .authentication import Agents, Operators, address_of
from .limits import Buckets, Window
from .links import Links
from .request import Request

T = TypeVar("T")
_MOST_AT_A_TIME = 16
_MOST_BAD_REGISTRATIONS = 10  # of one address in a minute


class Parts:
    """The store, the files, and who may do how much."""

    def __init__(
        self, store: Store, blobs: Blobs, settings: Settings, *, link_secret: bytes, admin_secret: Callable[[], str]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.metrics = Metrics()
        self.store = store
        self.blobs = blobs
        self.settings = settings
        self.agents = Agents(store, self.ask, now)
        self.operators = Operators(admin_secret)
        self.reads = Buckets(settings.agent_reads, settings.all_reads)
        self.writes = Buckets(settings.agent_writes, settings.all_writes)
        self.bad_registrations = Window(_MOST_BAD_REGISTRATIONS)
        self.links = Links(link_secret, settings.public_url)
        self._under_way = Counter[int]()  # uploads and searches, by agent

    async def ask(self, lane: Lane, call: Callable[[Any], T], over: Callable[[], None] | None = None) -> T:
        """Run a service call in its lane. It goes on even if the caller hangs up meanwhile; `over` is called when it
        really is."""
        outcome: asyncio.Future[T] = self._loop.create_future()

        def done(result: T, error: BaseException | None) -> None:
            if over is not None:
                over()
            if outcome.cancelled():
                return
            if error is not None:
                outcome.set_exception(error)
            else:
                outcome.set_result(result)

        try:
            self.store.submit(lane, call, done)
        except AgentChatError as error:
            done(cast("T", None), error)
        result = await outcome
        if isinstance(result, AgentChatError):  # a refusal that kept what it wrote
            raise result
        return result

    @contextmanager
    def at_a_time(self, agent_id: int) -> Iterator[None]:
        """For calls that cost more than others: an agent has only so many of them under way."""
        if self._under_way[agent_id] >= _MOST_AT_A_TIME:
            raise RateLimited(f"{_MOST_AT_A_TIME} costly calls of yours are under way; wait for one.", retry_after=1)
        self._under_way[agent_id] += 1
        try:
            yield
        finally:
            self._under_way[agent_id] -= 1
            if not self._under_way[agent_id]:
                del self._under_way[agent_id]

    def address_of(self, request: Request) -> str:
        return address_of(request, self.settings.trusted_proxies)
