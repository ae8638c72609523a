"""What tests of approvals have in common: a space with those who ask and those who may answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from agentchat import Client, types
from agentchat.errors import Conflict
from agentchat_relay.embedded import Embedded
from agentchat_relay.service import administration
from agentchat_relay.service.work import kinds

from .conftest import fresh
from .sharing import apart

CALL = {"command": "rm -r build", "cwd": "/srv"}


class House:
    """A space of a test's own: whoever is a reviewer is one of every request there."""

    def __init__(self, live: Embedded, space: str) -> None:
        self.live, self.space = live, space
        self._made: list[Client] = []

    def agent(self, name: str | None = None) -> Client:
        name = name or fresh()
        client = Client(self.live.url, self.live.token(name, space=self.space), agent=name, retries=0)
        self._made.append(client)
        return client

    def reviewer(self) -> Client:
        client = self.agent()
        self.grant(client)
        return client

    def grant(self, client: Client, role: str = "reviewer", **more: Any) -> None:
        name = client.agent or ""
        self.live.ask(lambda tx: administration.agent_grant(tx, name=name, role=role, space=self.space, **more))

    def revoke(self, client: Client) -> None:
        self.grant(client, revoke=True)

    def settle(self) -> None:
        """What the relay does by itself, now."""
        while self.live.ask(kinds.settle):
            pass

    def close(self) -> None:
        for client in self._made:
            client.close()


@pytest.fixture
def house(live: Embedded) -> Iterator[House]:
    with apart(live, fresh("house")) as where, closing(House(*where)) as made:
        yield made


@pytest.fixture
def asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay makes nothing explicit by itself."""
    monkeypatch.setattr(kinds, "due", lambda tx: kinds.Due(0, None))


def asked(client: Client, arguments: Any = CALL, tool: str = "bash", **more: Any) -> types.Approval:
    return client.request_approval(tool, json.dumps(arguments, ensure_ascii=False), **more)["approval"]


def items(client: Client) -> list[types.InboxItem]:
    return client.peek_inbox(limit=100)["items"]


def contents(client: Client) -> list[str]:
    return [item["content"] for item in items(client)]


def actions(client: Client, id: str) -> list[str]:
    return [line["action"] for line in client.get_approval(id)["history"]]


def pending(client: Client) -> list[str]:
    return [approval["id"] for approval in client.list_approvals()["approvals"]]


def late(call: Callable[..., Any], *given: Any, **more: Any) -> Any:
    """Refused, since it is over; how it is."""
    with pytest.raises(Conflict) as caught:
        call(*given, **more)
    assert caught.value.code == "conflict"
    assert caught.value.current is not None
    return caught.value.current


def dies(client: Client) -> None:
    """Whatever waits for it was given out too often."""
    while (claim_id := client.claim_items()["claim_id"]) is not None:
        client.return_items(claim_id)
    assert items(client) == []
