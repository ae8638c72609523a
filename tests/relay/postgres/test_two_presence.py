"""Two relays on one Postgres say the same of who is here, and retire and give back each thing once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from agentchat_relay import chores
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.push.feed import Pace
from agentchat_relay.service import presence, retirement
from tests import postgres
from tests.relay.conftest import UNLIMITED, Clock, until
from tests.relay.postgres.test_two_streams import Both
from tests.relay.streams import Stream
from tests.relay.test_presence import told

DAY = 86_400.0
ONLINE, PRESENT = presence.ONLINE / 1e6, presence.PRESENT / 1e6
QUICKLY = Pace(heartbeat=600.0, note=0.02, glance=0.02)
Two = tuple[Embedded, Embedded]


@pytest.fixture
def two(clock: Clock) -> Iterator[Two]:
    url = postgres.new_schema()
    with ExitStack() as stack:
        settings = UNLIMITED._replace(store=url, retire_after=30)
        first, second = (stack.enter_context(running(settings=settings, pace=QUICKLY)) for _ in range(2))
        yield first, second


@pytest.fixture
def three(two: Two) -> Iterator[list[Both]]:
    made = [Both(two) for _ in range(3)]
    yield made
    for one in made:
        one.close()


def presence_of(asker: Both, name: str) -> list[Any]:
    """What both relays say."""
    rows = [client.find_agents(name=name)["agents"][0] for client in asker.clients]
    return [row.get("presence") for row in rows]


def test_both_say_the_same(two: Two, three: list[Both], clock: Clock):
    ann, bob, _ = three
    bob.clients[0].check_board()
    assert presence_of(ann, bob.name) == ["online", "online"]
    clock.ahead = ONLINE + 1
    assert presence_of(ann, bob.name) == ["idle", "idle"]
    with Stream(two[1].url, bob.key):
        until(lambda: presence_of(ann, bob.name) == ["online", "online"])
        clock.ahead += 2 * PRESENT
        until(lambda: presence_of(ann, bob.name) == ["online", "online"])


def test_a_stream_here_is_told_who_came_to_the_other_relay(two: Two, three: list[Both], clock: Clock):
    ann, bob, _ = three
    bob.clients[0].check_board()
    clock.ahead = 2 * PRESENT
    with Stream(two[0].url, ann.key, kind="agent") as stream:
        assert next(iter(stream)).is_sign
        until(lambda: bool(two[0].relay and any(
            roll._attending is not None for roll in two[0].relay.parts.push._attendance._rolls.values()
        )))  # fmt: skip
        with Stream(two[1].url, bob.key):
            assert told(stream) == (bob.name, "online")
        relay = two[1].relay
        until(lambda: bool(relay and not relay.parts.push._open))  # else it was here until the clock has been moved
        two[1].ask(lambda tx: None)  # and so was a note of it on its way
        clock.ahead += 2 * PRESENT
        assert told(stream) == (bob.name, "offline")


def test_it_comes_back_at_either_relay(two: Two, three: list[Both], clock: Clock):
    """Also at one that has remembered it from before."""
    ann, bob, cid = three
    for client in (*bob.clients, *cid.clients):
        client.check_board()
    clock.ahead = 31 * DAY
    for client in ann.clients:
        client.check_board()
    assert two[0].ask(lambda tx: retirement.retire(tx, tx.now, days=30)) == 2
    for gone, number in ((bob, 0), (cid, 1)):
        gone.clients[number].check_board()
        for asked in ann.clients:
            (row,) = asked.find_agents(name=gone.name)["agents"]
            assert "retired_at" not in row
            asked.send_direct_message(gone.name, "welcome back")
    assert [event["actor"] for event in ann.clients[0].list_events(since=0, kind="agent.returned")["events"]] == [
        bob.name, cid.name,
    ]  # fmt: skip


def test_both_at_once_retire_and_give_back_each_thing_once(
    two: Two, three: list[Both], clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(retirement, "_PORTION", 3)
    ann, bob, cid = three
    sent = [ann.clients[0].send_message("general", f"@{bob.name} @{cid.name} {n}")["message"]["id"] for n in range(20)]
    clock.ahead = 31 * DAY
    ann.clients[1].check_board()

    def chore(relay: Embedded) -> int:
        while relay.ask(lambda tx: retirement.retire(tx, tx.now, days=30)):
            pass
        done = 0
        while found := relay.ask(lambda tx: retirement.give_back(tx, tx.now)):
            done += found
        return done

    with ThreadPoolExecutor(2) as threads:
        done = [*threads.map(chore, two)]
    assert sum(done) == 40
    log = ann.clients[0].list_events(since=0, limit=500)["events"]
    assert sorted(event["data"]["agent"] for event in log if event["kind"] == "agent.retired" and event["data"]) == (
        sorted([bob.name, cid.name])
    )
    returned = ann.clients[1].check_inbox(limit=50)["items"]
    assert sorted(item["message_id"] or "" for item in returned) == sorted(sent)
    assert {tuple(item.get("undelivered_to", ())) for item in returned} == {(bob.name, cid.name)}


def test_a_killed_relay_s_work_is_gone_on_with_by_another(clock: Clock, monkeypatch: pytest.MonkeyPatch):
    """The first one is killed after one portion of each, as far as rows tell; the chores of the second do the rest."""
    monkeypatch.setattr(retirement, "_PORTION", 1)
    url = postgres.new_schema()
    with running(settings=UNLIMITED._replace(store=url)) as first, ExitStack() as stack:
        everybody = [Both((first, first)) for _ in range(3)]
        for one in everybody:
            stack.callback(one.close)
        ann, bob, cid = everybody
        for gone in (bob, cid, bob):
            ann.clients[0].send_direct_message(gone.name, "hello?")
        clock.ahead = 29 * DAY
        ann.clients[0].check_board()
        clock.ahead = 31 * DAY
        first.ask(lambda tx: retirement.retire(tx, tx.now, days=30))
        first.ask(lambda tx: retirement.give_back(tx, tx.now))
        monkeypatch.setattr(chores, "_AT_FIRST", -1.0)
        with running(settings=UNLIMITED._replace(store=url, retire_after=30)):
            asked = ann.clients[0]
            until(lambda: [len(asked.peek_inbox()["items"]), len(asked.find_agents()["agents"])] == [3, 1])
        assert [item["kind"] for item in asked.check_inbox()["items"]] == ["returned"] * 3
