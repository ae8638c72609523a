"""A stream on one relay gets what was written through the other, and knows of keys that were revoked there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from agentchat import Client
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.push.feed import Pace
from agentchat_relay.service import administration
from agentchat_relay.store.postgres import listener
from tests import postgres
from tests.relay.conftest import UNLIMITED, fresh, until
from tests.relay.streams import Stream
from tests.relay.test_events import background, waiting
from tests.relay.test_streams import readers

SLOWLY = Pace(heartbeat=600.0)  # so that nothing but news wakes anybody


@pytest.fixture(scope="module")
def two() -> Iterator[tuple[Embedded, Embedded]]:
    url = postgres.new_schema()
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(running(settings=UNLIMITED._replace(store=url), pace=SLOWLY)) for _ in range(2)
        )
        yield first, second


class Both:
    """An agent at both relays."""

    def __init__(self, two: tuple[Embedded, Embedded]) -> None:
        self.name = fresh()
        self.key = two[0].token(self.name)
        self.clients = [Client(relay.url, self.key, agent=self.name, retries=0) for relay in two]

    def close(self) -> None:
        for client in self.clients:
            client.close()


@pytest.fixture
def ann(two: tuple[Embedded, Embedded]) -> Iterator[Both]:
    made = Both(two)
    yield made
    made.close()


def test_streams_on_both_relays_are_one_log(two: tuple[Embedded, Embedded], ann: Both):
    begin = ann.clients[0].list_events()["position"]
    with Stream(two[0].url, ann.key, since=begin) as here, Stream(two[1].url, ann.key, since=begin) as there:
        for number in range(30):
            ann.clients[number % 2].send_message("general", str(number))
        one, other = here.events(30), there.events(30)
    assert one == other
    assert [event["data"]["message"]["content"] for event in one] == [str(number) for number in range(30)]
    with Stream(two[1].url, ann.key, last=one[9]["position"]) as stream:
        assert stream.events(20) == one[10:], "taken up at the other relay"


def test_a_wait_at_one_relay_ends_with_what_is_said_at_the_other(two: tuple[Embedded, Embedded], ann: Both):
    bob = Both(two)
    question = ann.clients[0].send_message("general", "who?")["message"]["id"]
    threads, answer = background(lambda: ann.clients[1].wait_for_reply(question, wait=20))
    with threads:
        until(lambda: waiting(two[1]) == 1)
        bob.clients[0].send_message("general", "me", parent_message_id=question)
        found = answer.result(30)["message"]
        assert found is not None and found["content"] == "me"
    bob.close()


def test_a_key_revoked_at_one_relay_ends_its_idle_streams_at_the_other(two: tuple[Embedded, Embedded]):
    bob = Both(two)
    with Stream(two[1].url, bob.key) as stream:
        until(lambda: readers(two[1]) == 1)
        two[0].ask(lambda tx: administration.agent_deactivate(tx, name=bob.name))
        assert stream.ended()["reason"] == "unauthorized"
    bob.close()


def test_a_lost_notification_costs_time_only(
    two: tuple[Embedded, Embedded], ann: Both, monkeypatch: pytest.MonkeyPatch
):
    """The listener looks by itself after a while."""
    monkeypatch.setattr(listener, "_LOOK_EVERY", 0.5)
    with Stream(two[1].url, ann.key) as stream:
        until(lambda: readers(two[1]) == 1)
        monkeypatch.setattr(listener, "read", lambda payload: listener.Heard(0, {}))
        ann.clients[0].send_message("general", "unheard")
        (event,) = stream.events(1)
        assert event["data"]["message"]["content"] == "unheard"
