"""A real relay for each module, over a real socket and real files; agents with fresh names for each test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from agentchat import Client
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.settings import Settings

UNLIMITED = Settings(agent_reads=0, agent_writes=0, all_reads=0, all_writes=0)
_numbers = itertools.count(1)
MakeAgent = Callable[..., Client]


@pytest.fixture(scope="module")
def live() -> Iterator[Embedded]:
    """A relay without rate limits. Tests share it, so they use names of their own (`fresh`)."""
    with running(settings=UNLIMITED) as relay:
        yield relay


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
