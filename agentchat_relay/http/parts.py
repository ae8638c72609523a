"""What every route is given."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar, cast

from agentchat.errors import AgentChatError, RateLimited

from ..blobs.seam import Blobs
from ..directory import Directory
from ..metrics import Metrics
from ..push.feed import Pace
from ..push.push import Push
from ..settings import Settings
from ..store.seam import Lane, Store, Writing
from ..wire import now
from .allowance import Allowance, Attempts, OwnAllowance, OwnAttempts, SharedAllowance, SharedAttempts
from .authentication import Agents, Operators, address_of
from .credentials import Credentials, InDirectory, InStore
from .limits import Buckets, Window
from .links import Links
from .request import Request

T = TypeVar("T")
_MOST_AT_A_TIME = 16
_MOST_BAD_REGISTRATIONS = 10  # of one address in a minute
_MOST_WRONG_SECRETS = 10  # the same


class Parts:
    """The store, the files, who waits for events, and who may do how much."""

    def __init__(
        self, store: Store, blobs: Blobs, settings: Settings, directory: Directory, pace: Pace | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.metrics = Metrics()
        self.store = store
        self.blobs = blobs
        self.settings = settings
        self.agents = Agents(store, self.ask, now)
        self.credentials: Credentials = InStore(directory, self.ask) if store.is_shared else InDirectory(directory)
        self.operators = Operators(self.credentials, self._attempts("secret", _MOST_WRONG_SECRETS))
        self.reads = self._allowance("reads", settings.agent_reads, settings.all_reads)
        self.writes = self._allowance("writes", settings.agent_writes, settings.all_writes)
        self.bad_registrations = self._attempts("register", _MOST_BAD_REGISTRATIONS)
        self.push = Push(store, self.ask, self.metrics, pace)
        self._rest = set[asyncio.Task[None]]()
        self._under_way = Counter[int]()  # uploads and searches, by agent

    async def open(self) -> None:
        """What is needed from the store or the directory before anybody can call."""
        self.links = Links(await self.credentials.open(), self.settings.public_url)

    def _allowance(self, name: str, each: float, all: float) -> Allowance:
        return SharedAllowance(name, each, all, self.ask) if self.store.is_shared else OwnAllowance(Buckets(each, all))

    def _attempts(self, kind: str, most: int) -> Attempts:
        return SharedAttempts(kind, most, self.ask) if self.store.is_shared else OwnAttempts(Window(most))

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

    def go_on(self, call: Callable[[Writing], int]) -> None:
        """Do the rest of what was answered already, in portions, as long as there is some. What a relay does not come
        to, its chores do later."""

        async def run() -> None:
            with suppress(AgentChatError):
                while await self.ask(Lane.WRITE, call):
                    pass

        task = self._loop.create_task(run())
        self._rest.add(task)
        task.add_done_callback(self._rest.discard)

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
