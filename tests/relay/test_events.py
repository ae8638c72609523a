"""The log of events as pages: in order, without holes, each agent its own view of it; and waiting for the next one."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentchat import Client
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.service import administration
from tests.relay import database
from tests.relay.conftest import UNLIMITED, MakeAgent, fresh, until
from tests.relay.wires import Wire


class Agent:
    """An agent with a connection of its own, and a client for everything else."""

    def __init__(self, live: Embedded, name: str | None = None, space: str = "main") -> None:
        self.name = name or fresh()
        self.key = live.token(self.name, space=space)
        self.client = Client(live.url, self.key, agent=self.name, retries=0)
        self.wire = Wire(live.url, **{"x-agent-api-key": self.key})

    def events(self, query: str = "", **headers: str) -> Any:
        return self.wire.send("GET", f"/api/v2/events?{query}", **headers).data

    def position(self) -> int:
        return int(self.events()["position"])

    def close(self) -> None:
        self.client.close()
        self.wire.close()


@pytest.fixture
def ann(live: Embedded) -> Iterator[Agent]:
    made = Agent(live)
    yield made
    made.close()


@pytest.fixture
def bob(live: Embedded) -> Iterator[Agent]:
    made = Agent(live)
    yield made
    made.close()


def waiting(live: Embedded) -> int:
    """Calls that wait for an event."""
    assert live.relay is not None
    return live.relay.parts.push._waiting


def feeds(live: Embedded) -> int:
    assert live.relay is not None
    return len(live.relay.parts.push._feeds)


# Pages


def test_without_a_position_it_begins_now(ann: Agent):
    page = ann.events()
    assert (page["events"], page["has_more"], page["timed_out"]) == ([], False, True)
    ann.client.send_message("general", "hello")
    later = ann.events(f"since={page['position']}")
    (event,) = later["events"]
    assert event["position"] == later["position"] == page["position"] + 1
    assert (event["kind"], event["actor"], event["channel"]) == ("message.created", ann.name, "general")
    assert event["data"]["message"]["content"] == "hello"
    assert event["subject"] == event["data"]["message"]["id"]
    assert (later["has_more"], later["timed_out"]) == (False, False)


def test_pages_of_any_size_are_the_log(ann: Agent, bob: Agent):
    begin = ann.position()
    for number in range(12):
        ann.client.send_message(fresh("room") if number % 4 == 0 else "general", f"{number} @{bob.name}")
    whole = bob.events(f"since={begin}&limit=500")
    positions = [event["position"] for event in whole["events"]]
    assert positions == list(range(begin + 1, whole["position"] + 1)), "nothing is hidden from the one who is meant"
    assert not whole["has_more"]
    for limit in (1, 2, 3, 7, len(positions)):
        found: list[Any] = []
        at, more = begin, True
        while more:
            page = bob.events(f"since={at}&limit={limit}")
            assert len(page["events"]) <= limit
            found += page["events"]
            at, more = page["position"], page["has_more"]
        assert found == whole["events"]
        assert at == whole["position"]


def test_each_kind_tells_what_it_is_about(live: Embedded, ann: Agent, bob: Agent):
    begin = ann.position()
    room = fresh("room")
    task = ann.client.create_task("read it", channel=room)["task"]
    held = bob.client.claim_task(task["id"])["task"]
    message = ann.client.send_message(room, f"hello @{bob.name}")["message"]
    ann.client.set_card(about="tests")
    items = bob.client.check_inbox()["items"]
    bob.client.check_inbox()
    found = {event["kind"]: event for event in bob.events(f"since={begin}")["events"]}
    assert found["channel.created"]["channel"] == room
    assert found["message.created"]["data"] == {"message": message}
    assert found["inbox.added"]["data"]["item"]["item_id"] == items[0]["item_id"]
    assert found["inbox.added"]["data"]["item"]["content"] == f"hello @{bob.name}"
    assert found["agent.card"]["data"] == {"agent": ann.name, "card": {"about": "tests"}}
    assert found["inbox.claimed"]["actor"] == bob.name
    assert found["task.created"]["data"] == {
        "task": held, "version": 1, "action": "create", "before": None, "after": "open", "note": None
    }  # fmt: skip
    assert found["task.claimed"]["data"] == {
        "task": held, "version": 2, "action": "claim", "before": "open", "after": "claimed", "note": None
    }  # fmt: skip
    for kind, actor in (("task.created", ann), ("task.claimed", bob)):
        assert [found[kind][name] for name in ("actor", "channel", "subject")] == [actor.name, room, task["id"]]


def test_what_is_private_is_seen_by_those_it_concerns(live: Embedded, ann: Agent, bob: Agent):
    other = Agent(live)
    begin = ann.position()
    ann.client.send_direct_message(bob.name, "secret")
    seen = {agent.name: agent.events(f"since={begin}") for agent in (ann, bob, other)}
    assert [event["kind"] for event in seen[ann.name]["events"]] == ["message.created", "inbox.added"]
    assert seen[bob.name]["events"] == seen[ann.name]["events"]
    assert seen[other.name]["events"] == []
    assert seen[other.name]["position"] == seen[ann.name]["position"]
    other.close()


def test_another_space_has_a_log_of_its_own(live: Embedded, ann: Agent):
    space = fresh("space")
    live.space(space)
    there = Agent(live, space=space)
    begin = there.position()
    ann.client.send_message("general", "here")
    assert there.events(f"since={begin}")["events"] == []
    assert all(event["actor"] in (None, there.name) for event in there.events("since=0")["events"])
    there.close()


def test_filters(ann: Agent, bob: Agent):
    begin = ann.position()
    one, two = fresh("room"), fresh("room")
    ann.client.send_message(one, f"first @{bob.name}")
    bob.client.send_message(two, "second")
    ann.client.send_direct_message(bob.name, "third")
    end = ann.position()

    def kinds(agent: Agent, query: str) -> list[str]:
        page = agent.events(f"since={begin}&{query}")
        assert page["position"] == end, "however little was wanted"
        return [event["kind"] for event in page["events"]]

    assert kinds(ann, f"channel={one}") == ["channel.created", "message.created", "inbox.added"]
    assert kinds(bob, "channel=direct-messages") == ["message.created", "inbox.added"]
    assert kinds(ann, "kind=message.created") == ["message.created"] * 3
    assert kinds(ann, "kind=message") == ["message.created"] * 3
    assert kinds(ann, "kind=channel,inbox.added") == [
        "channel.created",
        "inbox.added",
        "channel.created",
        "inbox.added",
    ]
    assert kinds(ann, "kind=message,inbox&channel=" + one) == ["message.created", "inbox.added"]
    assert kinds(bob, "mine=true") == ["inbox.added", "channel.created", "message.created", "message.created",
                                       "inbox.added"]  # fmt: skip
    assert kinds(bob, "mine=true&kind=inbox") == ["inbox.added", "inbox.added"]
    assert kinds(bob, "kind=task") == []
    assert ann.wire.refused("GET", "/api/v2/events?channel=no-such-room") == (404, "not_found")
    assert ann.wire.refused("GET", "/api/v2/events?kind=a.b.c") == (400, "bad_request")
    assert ann.wire.refused("GET", "/api/v2/events?kind=,") == (400, "bad_request")


def test_a_narrow_reader_is_led_through_a_long_log(live: Embedded, ann: Agent, bob: Agent):
    """More than is looked through at a time."""
    begin = ann.position()
    for piece in range(3):
        live.ask(lambda tx, piece=piece: [
            tx.event(1, "test.filler", actor_id=None, subject=f"{piece} {number}") for number in range(500)
        ])  # fmt: skip
    ann.client.send_direct_message(bob.name, "at last")
    page = bob.events(f"since={begin}&mine=true&limit=1")
    assert page["events"][0]["data"]["message"]["content"] == f"@{bob.name} at last"


# What is not there


def test_a_position_that_cannot_be_gone_on_from_is_expired():
    with running(settings=UNLIMITED) as live:
        ann = Agent(live)
        for number in range(5):
            ann.client.send_message("general", str(number))
        newest = ann.position()
        ahead = ann.wire.send("GET", f"/api/v2/events?since={newest + 1}")
        assert (ahead.status, ahead.json()["code"]) == (410, "position_expired")
        assert (ahead.json()["first"], ahead.json()["position"]) == (0, newest)
        database.ask(live, "DELETE FROM events WHERE position <= ?", newest - 2)
        old = ann.wire.send("GET", "/api/v2/events?since=0")
        assert (old.status, old.json()["code"]) == (410, "position_expired")
        first = old.json()["first"]
        assert (first, old.json()["position"]) == (newest - 2, newest)
        assert ann.wire.refused("GET", f"/api/v2/events?since={first - 1}") == (410, "position_expired")
        assert [event["position"] for event in ann.events(f"since={first}")["events"]] == [newest - 1, newest]
        database.ask(live, "DELETE FROM events")
        assert ann.wire.refused("GET", f"/api/v2/events?since={newest - 1}") == (410, "position_expired")
        assert ann.events(f"since={newest}")["events"] == []
        ann.close()


def test_what_is_gone_has_no_data(live: Embedded, ann: Agent):
    begin = ann.position()
    live.ask(lambda tx: tx.event(1, "message.created", actor_id=None, subject="gone"))
    (event,) = ann.events(f"since={begin}")["events"]
    assert (event["subject"], event["data"]) == ("gone", None)


# Waiting


def background(call: Any) -> tuple[ThreadPoolExecutor, Any]:
    threads = ThreadPoolExecutor(1)
    return threads, threads.submit(call)


def test_a_wait_ends_with_the_first_event_that_is_wanted(live: Embedded, ann: Agent, bob: Agent):
    begin = ann.position()
    threads, page = background(lambda: bob.events(f"since={begin}&mine=true&kind=inbox&wait=50"))
    with threads:
        until(lambda: waiting(live) == 1)
        ann.client.send_message("general", "for all")
        ann.client.send_message("general", f"for @{bob.name}")
        (event,) = page.result(30)["events"]
    assert event["data"]["item"]["content"] == f"for @{bob.name}"
    assert waiting(live) == 0


def test_a_wait_without_an_event_says_so_and_where_to_go_on(live: Embedded, ann: Agent, bob: Agent):
    began = time.monotonic()
    threads, page = background(lambda: bob.events("mine=true&kind=inbox&wait=1"))
    with threads:
        until(lambda: waiting(live) == 1)
        ann.client.send_message("general", "for all")
        found = page.result(30)
    assert 0.9 < time.monotonic() - began < 20
    assert (found["events"], found["timed_out"], found["has_more"]) == ([], True, False)
    assert found["position"] <= ann.position()


def test_what_is_there_is_not_waited_for(ann: Agent):
    began, begin = time.monotonic(), ann.position()
    ann.client.send_message("general", "hello")
    assert len(ann.events(f"since={begin}&wait=50")["events"]) == 1
    assert time.monotonic() - began < 20


def test_whoever_asks_again_misses_nothing(live: Embedded, ann: Agent, bob: Agent):
    """While somebody writes as quickly as they can."""
    room, count = fresh("room"), 60
    ann.client.send_message(room, "begin")
    at, found = bob.position(), list[str]()
    writer = threading.Thread(target=lambda: [ann.client.send_message(room, str(n)) for n in range(count)])
    writer.start()
    while len(found) < count:
        page = bob.events(f"since={at}&channel={room}&kind=message&wait=50&limit=2")
        found += [event["data"]["message"]["content"] for event in page["events"]]
        at = page["position"]
    writer.join()
    assert found == [str(number) for number in range(count)]


def test_many_may_wait_at_a_time(live: Embedded, ann: Agent, bob: Agent):
    wires = [Wire(live.url, **{"x-agent-api-key": bob.key}) for _ in range(20)]
    begin = bob.position()
    with ThreadPoolExecutor(len(wires)) as threads:
        pages = [
            threads.submit(lambda wire=wire: wire.send("GET", f"/api/v2/events?since={begin}&wait=50").data)
            for wire in wires
        ]
        until(lambda: waiting(live) == len(wires))
        ann.client.send_message("general", "hello")
        assert all(len(page.result(30)["events"]) == 1 for page in pages)
    for wire in wires:
        wire.close()


def test_hanging_up_ends_a_wait(live: Embedded, ann: Agent):
    for how in ("close", "half", "reset"):
        wire = Wire(live.url, **{"x-agent-api-key": ann.key})
        wire.connection.request("GET", "/api/v2/events?wait=50", headers={"x-agent-api-key": ann.key})
        until(lambda: waiting(live) == 1)
        if how == "half":
            wire.connection.sock.shutdown(socket.SHUT_WR)
            assert wire.connection.getresponse().status == 200, "who only says so is answered at once"
        if how == "reset":
            wire.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.close()
        until(lambda: waiting(live) == 0)
    until(lambda: feeds(live) == 0)


def test_a_revoked_key_ends_a_wait(live: Embedded, ann: Agent):
    threads, refused = background(lambda: ann.wire.refused("GET", "/api/v2/events?wait=50"))
    with threads:
        until(lambda: waiting(live) == 1)
        live.ask(lambda tx: administration.agent_deactivate(tx, name=ann.name))
        assert refused.result(30) == (401, "unauthorized")


def test_stopping_ends_a_wait():
    with running(settings=UNLIMITED) as live:
        ann = Agent(live)
        threads, page = background(lambda: ann.events("wait=50"))
        with threads:
            until(lambda: waiting(live) == 1)
            began = time.monotonic()
            live.close()
            assert page.result(30)["timed_out"] is True
            assert time.monotonic() - began < 5
        ann.close()


def test_reading_costs_what_reads_cost():
    with running(settings=UNLIMITED._replace(agent_reads=0.5)) as live:
        ann = Agent(live)
        codes = [ann.wire.send("GET", "/api/v2/events").status for _ in range(7)]
        assert codes == [200] * 5 + [429] * 2
        ann.close()


def test_a_client_of_ours_reads_it(agent: MakeAgent):
    client = agent()
    client.send_message("general", "hello")
    page = client.list_events(since=0, limit=500)
    assert page["events"]
