"""Presence: whoever calls or reads is here, and those who ask for it see others come and go."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentchat import Client
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.push.feed import Pace
from agentchat_relay.push.push import Push
from agentchat_relay.service import administration, attendance, presence
from tests.relay import database
from tests.relay.conftest import UNLIMITED, Clock, raw, settle_all, until
from tests.relay.streams import Block, Stream
from tests.relay.test_events import background, waiting

SECOND, MINUTE = 1.0, 60.0
ONLINE, PRESENT = presence.ONLINE / 1e6, presence.PRESENT / 1e6
CALMLY = Pace(heartbeat=600.0, note=600.0, glance=600.0)  # nothing happens by itself
QUICKLY = Pace(heartbeat=600.0, note=0.02, glance=0.02)


class Place:
    """A relay with a clock, and agents of it."""

    def __init__(self, relay: Embedded, stack: contextlib.ExitStack) -> None:
        self.relay = relay
        self._stack = stack
        self.keys: dict[str, str] = {}

    def agent(self, name: str, *, calls: bool = True) -> Client:
        if name not in self.keys:
            self.keys[name] = self.relay.token(name)
        client = self._stack.enter_context(Client(self.relay.url, self.keys[name], agent=name, retries=0))
        if calls:
            client.check_board()
        return client

    def stream(self, name: str, **query: Any) -> Stream:
        before = len(self.push._open)
        stream = self._stack.enter_context(Stream(self.relay.url, self.keys[name], **query))
        assert stream.status == 200
        until(lambda: len(self.push._open) > before)
        return stream

    def roll(self, name: str = "watcher", kind: str = "agent.presence") -> Stream:
        """A stream of who comes and goes, once it knows who is here."""
        self.agent(name)
        stream = self.stream(name, kind=kind)
        assert next(iter(stream)).is_sign
        until(lambda: any(roll._attending is not None for roll in self.push._attendance._rolls.values()))
        return stream

    def glance(self) -> None:
        """What the relay does by itself every few seconds."""
        done = threading.Event()

        def look() -> None:
            for roll in self.push._attendance._rolls.values():
                roll.look()
            done.set()

        self.push._loop.call_soon_threadsafe(look)
        assert done.wait(20)

    @property
    def push(self) -> Push:
        assert self.relay.relay is not None
        return self.relay.relay.parts.push

    def seen(self, name: str) -> int:
        ((at,),) = database.ask(self.relay, f"SELECT last_seen_at FROM agents WHERE name = '{name}'")
        return int(at or 0)


@contextlib.contextmanager
def place_with(pace: Pace, path: Path) -> Iterator[Place]:
    with contextlib.ExitStack() as stack:
        yield Place(stack.enter_context(running(str(path), settings=UNLIMITED, pace=pace)), stack)


@pytest.fixture
def place(clock: Clock, tmp_path: Path) -> Iterator[Place]:
    with place_with(CALMLY, tmp_path) as made:
        yield made


@pytest.fixture
def quick(clock: Clock, tmp_path: Path) -> Iterator[Place]:
    with place_with(QUICKLY, tmp_path) as made:
        yield made


def told(stream: Stream) -> tuple[str, str]:
    """The next one who came or went."""
    for block in stream:
        if not block.is_sign:
            assert block.id is None and block.data["position"] is None, "it is in no log"
            assert block.data["kind"] == "agent.presence"
            return block.data["data"]["agent"], block.data["data"]["presence"]
    raise AssertionError("the stream is over")


# What rows say


@pytest.mark.parametrize(
    ("ago", "expected"),
    [
        (-MINUTE - 1e-6, "offline"), (-MINUTE, "online"), (0, "online"), (ONLINE - 1e-6, "online"), (ONLINE, "idle"),
        (PRESENT - 1e-6, "idle"), (PRESENT, "offline"), (10 * PRESENT, "offline"), (None, "offline"),
    ],
)  # fmt: skip
def test_where_the_borders_are(ago: float | None, expected: str):
    now = 1_790_000_000_000_000
    seen_at = None if ago is None else now - round(ago * 1e6)
    assert presence.of(seen_at, now) == expected
    for one in ("online", "idle", "offline"):
        after, before, is_between = presence.between(one, now)
        assert ((after <= (seen_at or 0) <= before) == bool(is_between)) is (one == expected), one


def test_agents_are_found_by_their_presence(place: Place, clock: Clock):
    place.agent("never", calls=False)
    place.agent("off")
    clock.ahead += PRESENT
    place.agent("idle")
    clock.ahead += ONLINE
    ann = place.agent("ann")

    def found(**wanted: Any) -> list[tuple[str, str | None]]:
        return [(row["name"], row.get("presence")) for row in ann.find_agents(**wanted)["agents"]]

    assert found() == [("ann", "online"), ("idle", "idle"), ("off", "offline"), ("never", "offline")]
    assert found(presence="online") == [("ann", "online")]
    assert found(presence="idle") == [("idle", "idle")]
    assert found(presence="offline") == [("off", "offline"), ("never", "offline")]
    assert found(presence="offline", active_within="1h") == [("off", "offline")]
    assert found(presence="online", name="idle") == []
    assert [(row["name"], row.get("presence")) for row in ann.get_briefing()["agents"]] == [
        ("idle", "idle"), ("off", "offline"),
    ]  # fmt: skip
    assert raw(ann, "GET", "/api/v2/agents?presence=away")[0] == 400


def test_groups_are_no_agents(place: Place):
    ann = place.agent("ann")
    place.agent("crew")
    database.ask(place.relay, "UPDATE agents SET is_group = 1 WHERE name = 'crew'")
    assert [row["name"] for row in ann.find_agents()["agents"]] == ["ann"]
    assert [row["name"] for row in place.relay.ask(administration.agent_list)["agents"]] == ["ann"]


def test_presence_is_no_matter_of_mail(place: Place, clock: Clock):
    ann, bob = place.agent("ann"), place.agent("bob")
    clock.ahead = 30 * PRESENT
    ann.send_direct_message("bob", "when you are back")
    assert ann.find_agents(name="bob")["agents"][0].get("presence") == "offline"
    assert [item["content"] for item in bob.check_inbox()["items"]] == ["@bob when you are back"]


# Who is seen


def test_calls_are_noted_once_a_minute(place: Place, clock: Clock):
    ann = place.agent("ann")
    first = place.seen("ann")
    clock.ahead = MINUTE / 2
    ann.check_board()
    ann.mark_mentions_read(["01890000-0000-7000-8000-000000000000"])  # a write, after which a note would be there
    assert place.seen("ann") == first
    clock.ahead = MINUTE + SECOND
    ann.check_board()
    until(lambda: place.seen("ann") - first >= MINUTE * 1e6)


def test_what_the_relay_tells_in_somebodys_name_is_no_sign_of_it(place: Place, clock: Clock):
    ann, bob = place.agent("ann"), place.agent("bob")
    bob.claim_task(ann.create_task("count", target_agent="bob")["task"]["id"], lease=60)
    seen = place.seen("ann")
    clock.ahead = 2 * 3600
    bob.check_board()
    settle_all(place.relay)
    told = [message["content"] for message in bob.read_messages("direct-messages")["messages"]]
    assert any("open again" in text for text in told), told
    assert place.seen("ann") == seen
    assert [agent["presence"] for agent in bob.find_agents(name="ann")["agents"]] == ["offline"]


def test_a_stream_keeps_its_agent_here(quick: Place, clock: Clock):
    ann = quick.agent("ann")
    quick.agent("bob")
    quick.stream("bob")
    clock.ahead = 2 * PRESENT
    until(lambda: ann.find_agents(name="bob")["agents"][0].get("presence") == "online")
    (row,) = ann.find_agents(name="ann")["agents"]
    assert row.get("presence") == "online"


def test_a_wait_keeps_its_agent_here(quick: Place, clock: Clock):
    ann, bob = quick.agent("ann"), quick.agent("bob")
    threads, answer = background(lambda: bob.wait_for_message(channel="general", wait=50))
    with threads:
        until(lambda: waiting(quick.relay) == 1)
        clock.ahead = 2 * PRESENT
        until(lambda: ann.find_agents(name="bob")["agents"][0].get("presence") == "online")
        ann.send_message("general", "over")
        assert answer.result(30)["message"] is not None


def test_a_stream_that_is_over_keeps_nobody(quick: Place, clock: Clock):
    ann = quick.agent("ann")
    quick.agent("bob")
    with quick.stream("bob"):
        clock.ahead = 2 * PRESENT
        until(lambda: quick.seen("bob") - quick.seen("ann") > PRESENT * 1e6)
    until(lambda: not quick.push._open)
    last = quick.seen("bob")
    clock.ahead = 4 * PRESENT
    quick.agent("cid")
    with quick.stream("cid"):
        clock.ahead = 6 * PRESENT
        before = quick.seen("cid")
        until(lambda: quick.seen("cid") > before)
    assert quick.seen("bob") - last < PRESENT * 1e6
    assert ann.find_agents(name="bob")["agents"][0].get("presence") == "offline"


def test_all_streams_are_noted_in_one_write(place: Place, monkeypatch: pytest.MonkeyPatch):
    for number in range(5):
        place.agent(f"reader-{number}")
        for _ in range(2):
            place.stream(f"reader-{number}")
    notes: list[list[int]] = []
    see_all = presence.see_all

    def noted(tx: Any, *, agent_ids: list[int]) -> None:
        notes.append(agent_ids)
        see_all(tx, agent_ids=agent_ids)

    monkeypatch.setattr(presence, "see_all", noted)
    place.push._loop.call_soon_threadsafe(lambda: setattr(place, "noting", place.push._loop.create_task(
        place.push._attendance._note())))  # fmt: skip
    until(lambda: bool(notes))
    assert [len(ids) for ids in notes] == [5]


# Who is told


def test_those_who_ask_are_told_who_comes_and_goes(place: Place, clock: Clock):
    bob = place.agent("bob", calls=False)
    stream = place.roll()
    bob.set_card(status_line="reading #42", role="reviewer")
    place.glance()
    (block,) = [next(block for block in stream if not block.is_sign)]
    assert block.id is None
    (row,) = bob.find_agents(name="bob")["agents"]
    assert block.data.keys() == {"position", "kind", "at", "actor", "channel", "subject", "data"}
    assert (block.data["position"], block.data["channel"], block.data["actor"]) == (None, None, "bob")
    assert block.data["data"] == {
        "agent": "bob", "presence": "online", "status_line": "reading #42", "last_seen_at": row["last_seen_at"],
    }  # fmt: skip
    clock.ahead = ONLINE + SECOND
    place.glance()
    assert told(stream) == ("bob", "idle")
    clock.ahead = PRESENT + SECOND
    place.glance()
    assert told(stream) == ("bob", "offline")
    bob.check_board()
    place.glance()
    assert told(stream) == ("bob", "online")


def test_a_stream_that_opens_is_told_at_once(place: Place, clock: Clock):
    place.agent("bob")
    clock.ahead = 2 * PRESENT
    stream = place.roll()
    place.stream("bob")
    assert told(stream) == ("bob", "online")


def test_the_relay_looks_by_itself(quick: Place, clock: Clock):
    bob = quick.agent("bob")
    clock.ahead = 2 * PRESENT
    stream = quick.roll()
    bob.check_board()
    assert told(stream) == ("bob", "online")
    clock.ahead += ONLINE
    assert told(stream) == ("bob", "idle")


@pytest.mark.parametrize("kind", ["agent", "agent.presence", "message.created,agent.presence"])
def test_the_kinds_that_ask_for_it(place: Place, clock: Clock, kind: str):
    bob = place.agent("bob")
    clock.ahead = 2 * PRESENT
    stream = place.roll(kind=kind)
    bob.check_board()
    place.glance()
    assert told(stream) == ("bob", "online")


@pytest.mark.parametrize(
    "query", [{}, {"kind": "message,inbox"}, {"kind": "agent", "mine": "true"}, {"kind": "agent.joined"},
              {"kind": "agent", "channel": "general"}],
    ids=str,
)  # fmt: skip
def test_the_others_read_the_log_and_nothing_else(place: Place, clock: Clock, query: dict[str, str]):
    bob, _ = place.agent("bob"), place.agent("cid")
    clock.ahead = 2 * PRESENT
    stream = place.roll()
    other = place.stream("cid", **query)
    assert told(stream) == ("cid", "online")
    bob.check_board()
    place.glance()
    assert told(stream) == ("bob", "online")
    place.relay.ask(lambda tx: administration.agent_deactivate(tx, name="cid"))
    assert other.ended()["reason"] == "unauthorized"
    assert b"presence" not in other.raw


def test_nobody_is_told_of_themselves(place: Place, clock: Clock):
    clock.ahead = 2 * PRESENT
    stream = place.roll()
    place.agent("bob")
    place.glance()
    assert told(stream) == ("bob", "online")
    second = place.stream("bob", kind="agent")
    clock.ahead += ONLINE + SECOND
    place.glance()
    assert {told(stream), told(second)} == {("bob", "idle"), ("watcher", "idle")}


def test_a_place_in_the_log_stays_where_it_is(place: Place, clock: Clock):
    bob = place.agent("bob")
    clock.ahead = 2 * PRESENT
    watcher = place.agent("watcher")
    begin = watcher.list_events()["position"]
    with watcher.events(kind="agent,message") as events:
        threads, first = background(lambda: next(iter(events)))
        with threads:
            until(lambda: any(roll._attending is not None for roll in place.push._attendance._rolls.values()))
            bob.check_board()
            place.glance()
            event = first.result(30)
        assert (event["kind"], event["position"]) == ("agent.presence", None)
        assert events.position == begin
        bob.send_message("general", "hello")
        event = next(event for event in events if event["kind"] != "agent.presence")
        assert event["position"] == events.position


def test_nothing_is_told_again_or_listed(place: Place, clock: Clock):
    bob = place.agent("bob")
    clock.ahead = 2 * PRESENT
    stream = place.roll()
    watcher = place.agent("watcher")
    begin = watcher.list_events()["position"]
    bob.check_board()
    place.glance()
    assert told(stream) == ("bob", "online")
    assert watcher.list_events(since=begin, kind="agent")["events"] == []
    again = place.stream("watcher", kind="agent", since=begin)
    assert next(iter(again)) == Block(begin)
    bob.set_card(role="writer")
    (card,) = again.events(1)
    assert card["kind"] == "agent.card"


def test_other_spaces_are_told_nothing(place: Place, clock: Clock):
    place.relay.space("other")
    key = place.relay.token("far", space="other")
    clock.ahead = 2 * PRESENT
    stream = place.roll()
    with Client(place.relay.url, key, retries=0) as far:
        far.check_board()
    place.agent("near")
    place.glance()
    assert told(stream) == ("near", "online")


def test_a_revoked_key_is_told_nothing(place: Place, clock: Clock, monkeypatch: pytest.MonkeyPatch):
    """Not even by a look that comes before the one that ends its stream."""
    bob = place.agent("bob")
    clock.ahead = 2 * PRESENT
    place.agent("other")
    ended = place.stream("other", kind="agent")
    stream = place.roll()
    bob.check_board()
    with monkeypatch.context() as patch:
        patch.setattr(Push, "_spread", lambda push, news: None)
        place.relay.ask(lambda tx: administration.agent_deactivate(tx, name="other"))
        place.glance()
        assert {told(stream), told(stream)} == {("bob", "online"), ("other", "offline")}
    bob.send_message("general", "news")
    assert ended.ended()["reason"] == "unauthorized"
    assert b"bob" not in ended.raw


def test_while_nobody_asks_nobody_looks(place: Place, clock: Clock):
    place.agent("bob")
    place.stream("bob")
    assert place.push._attendance._rolls == {}
    with place.roll():
        assert len(place.push._attendance._rolls) == 1
    until(lambda: place.push._attendance._rolls == {})


def test_in_a_crowd_nothing_is_told(place: Place, clock: Clock, monkeypatch: pytest.MonkeyPatch):
    """Rather than what would be wrong of those who were left out."""
    bob, cid = place.agent("bob"), place.agent("cid")
    clock.ahead = 2 * PRESENT
    stream = place.roll()
    monkeypatch.setattr(attendance, "_MOST", 1)
    looked: list[object] = []
    look = attendance.look

    def noted(*about: Any) -> attendance.Looked:
        looked.append(about)
        return look(*about)

    monkeypatch.setattr(attendance, "look", noted)
    bob.check_board()
    place.glance()
    until(lambda: len(looked) == 1)
    monkeypatch.setattr(attendance, "_MOST", 3)
    cid.check_board()
    place.glance()
    assert {told(stream), told(stream)} == {("bob", "online"), ("cid", "online")}


def test_a_deleted_agent_is_not_told_of(place: Place, clock: Clock):
    place.agent("bob")
    place.agent("cid")
    stream = place.roll()
    place.relay.ask(lambda tx: administration.agent_delete(tx, name="bob"))
    clock.ahead = ONLINE + SECOND
    place.glance()
    assert told(stream) == ("cid", "idle")
