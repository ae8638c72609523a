"""A real relay for each module, over a real socket and real files; agents with fresh names for each test."""

from __future__ import annotations

import itertools
import json
import select
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, cast

import pytest

from agentchat import Client
from agentchat._exchange import Request
from agentchat_relay import relay, wire
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.http import parts
from agentchat_relay.push.push import Push
from agentchat_relay.service import retention
from agentchat_relay.service.work import kinds
from agentchat_relay.settings import Settings
from agentchat_relay.store.postgres import transaction as pg_transaction
from agentchat_relay.store.seam import Lane
from agentchat_relay.store.sqlite import engine as sqlite
from agentchat_relay.store.sqlite import transaction as sqlite_tx
from tests.clients import conftest as colours
from tests.relay import database
from tests.relay.sharing import Shared

UNLIMITED = Settings(agent_reads=0, agent_writes=0, all_reads=0, all_writes=0)
_numbers = itertools.count(1)
MakeAgent = Callable[..., Client]


@pytest.fixture(scope="session", autouse=True)
def _engine(pytestconfig: pytest.Config) -> Iterator[None]:
    """With `--engine postgres`, each data directory stands for a schema of Postgres."""
    if pytestconfig.getoption("--engine") == "sqlite":
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "engine", "postgres")
        patch.setattr(relay, "open_store", database.open_store)
        yield


@pytest.fixture(scope="module")
def live(pytestconfig: pytest.Config) -> Iterator[Embedded]:
    """A relay without rate limits. Tests share it, so they use names of their own (`fresh`)."""
    if pytestconfig.getoption("--mode") == "local":
        with closing(Shared()) as shared:
            yield cast("Embedded", shared)
        return
    with running(settings=UNLIMITED) as relay:
        yield relay


@pytest.fixture(scope="module")
def impatient() -> Iterator[None]:
    """Nobody waits for an event: for tests that call every operation there is."""

    async def over(*about: object) -> bool:
        return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Push, "wait", over)
        yield


def until(condition: Callable[[], bool], patience: float = 20.0) -> None:
    """Wait for something that comes to pass."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        select.select([], [], [], 0.01)


def purge_all(store: Any) -> int:
    """Everything that is due by the store's own clock; how much that was."""

    def purge(tx: Any) -> int:
        return sum(retention.purge(tx, channel_id, tx.now) for channel_id in retention.due(tx, tx.now))

    purged = 0
    while found := store.ask(Lane.WRITE, purge):
        purged += found
    store.ask(Lane.WRITE, retention.finish)
    return purged


def settle_all(live: Embedded) -> None:
    """What the relay does by itself with tasks, locks and the like, now."""
    while live.ask(kinds.settle):
        pass


@pytest.fixture
def asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay makes nothing explicit by itself."""
    monkeypatch.setattr(kinds, "due", lambda tx: kinds.Due(0, None))


def fresh(prefix: str = "mac") -> str:
    """A name nobody has."""
    return f"{prefix}-{next(_numbers)}x"


@pytest.fixture
def agent(live: Embedded) -> Iterator[MakeAgent]:
    """Makes clients: `agent()` of a new agent, `agent("name", space="other")` of a certain one."""
    made: list[Client] = []

    def make(name: str | None = None, *, space: str = "main") -> Client:
        name = name or fresh()
        client = Client(live.url, live.token(name, space=space), agent=name, retries=0)
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


class Clock:
    """The relay's clock, which tests move: seconds that it is ahead."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        for module in (sqlite, sqlite_tx, parts):
            patch.setattr(module, "now", self)
        patch.setattr(pg_transaction, "database_time", lambda told: int(told) + int(self.ahead * 1e6))

    def __call__(self) -> int:
        return wire.now() + int(self.ahead * 1e6)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


connect = colours.connect  # a fixture: makes clients of either colour


@pytest.fixture
def either(live: Embedded, connect: colours.Connect) -> colours.Driver:
    """A new agent with a client of either colour."""
    name = fresh()
    return connect(live.url, live.token(name), agent=name)


def raw(agent: Client, verb: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """Status and answer of a request that our client would not send."""
    content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    headers = {"x-agent-api-key": agent.credential.held or "", **headers}
    answer = agent._transport.send(Request(verb, path, headers, content, 30.0))
    return answer.status, json.loads(answer.body)
