"""Agents that were not seen for long: nobody can write to them, what waits goes back, and any call brings them back."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agentchat import Client, errors
from agentchat.identity import registration
from agentchat_relay import chores, wire
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.service import administration, machines, retirement
from tests.relay import database
from tests.relay.conftest import UNLIMITED, Clock, until

DAY = 86_400.0
LONG = 30


class Place:
    """A relay with a clock, whose chores are done when a test says so."""

    def __init__(self, relay: Embedded, stack: contextlib.ExitStack) -> None:
        self.relay = relay
        self._stack = stack

    def agent(self, name: str, kind: str | None = None) -> Client:
        key = self.relay.ask(lambda tx: administration.agent_token(tx, name=name, kind=kind))["key"]
        client = self._stack.enter_context(Client(self.relay.url, key, agent=name, retries=0))
        client.check_board()
        return client

    def retire(self) -> int:
        return self._all(lambda tx: retirement.retire(tx, tx.now, days=LONG))

    def give_back(self) -> int:
        return self._all(lambda tx: retirement.give_back(tx, tx.now))

    def _all(self, portion: Callable[[Any], int]) -> int:
        done = 0
        while found := self.relay.ask(portion):
            done += found
        return done

    def listed(self, name: str) -> Any:
        rows = self.relay.ask(administration.agent_list)["agents"]
        return next(row for row in rows if row["name"] == name)

    def open_items(self, name: str) -> int:
        (row,) = database.ask(
            self.relay,
            "SELECT count(*) FROM inbox i JOIN agents a ON a.id = i.agent_id "
            f"WHERE i.done_at IS NULL AND a.name = '{name}'",
        )
        return int(row[0])


@pytest.fixture
def place(clock: Clock, tmp_path: Path) -> Iterator[Place]:
    with contextlib.ExitStack() as stack:
        yield Place(stack.enter_context(running(str(tmp_path), settings=UNLIMITED)), stack)


@pytest.fixture
def gone(place: Place, clock: Clock) -> Client:
    """`bob`, of whom nothing was seen for long; he is not retired yet."""
    bob = place.agent("bob")
    clock.ahead = (LONG + 1) * DAY
    return bob


def kinds(client: Client, since: int) -> list[tuple[str, str | None]]:
    return [(event["kind"], event["actor"]) for event in client.list_events(since=since, limit=500)["events"]]


# Who is retired


def test_only_agents_that_were_not_seen_for_so_long(place: Place, clock: Clock):
    place.agent("old")
    place.agent("pat", kind="person")
    place.relay.token("never-seen")
    clock.ahead = 2 * DAY
    recent = place.agent("recent")
    place.relay.token("new")
    clock.ahead = (LONG + 1) * DAY
    assert place.retire() == 2
    assert [place.listed(name)["retired_at"] is not None for name in ("old", "never-seen", "pat", "recent", "new")] == [
        True, True, False, False, False,
    ]  # fmt: skip
    assert place.retire() == 0
    assert [row["name"] for row in recent.find_agents()["agents"]] == ["recent", "pat", "new"]
    assert [row["name"] for row in recent.find_agents(presence="offline")["agents"]] == ["pat", "new"]
    assert [row["name"] for row in recent.get_briefing()["agents"]] == []
    (row,) = recent.find_agents(name="never")["agents"]
    assert (row["name"], row["presence"], row["last_seen_at"]) == ("never-seen", "offline", None)
    assert row["retired_at"] == place.listed("never-seen")["retired_at"]


def test_groups_and_those_an_operator_took_out_are_left_alone(place: Place, clock: Clock):
    place.agent("off")
    place.agent("crew")
    database.ask(place.relay, "UPDATE agents SET is_group = 1 WHERE name = 'crew'")
    place.relay.ask(lambda tx: administration.agent_deactivate(tx, name="off"))
    clock.ahead = (LONG + 1) * DAY
    assert place.retire() == 0


def test_the_log_tells_who_and_since_when(place: Place, gone: Client):
    ann = place.agent("ann")
    begin = ann.list_events()["position"]
    assert place.retire() == 1
    (event,) = ann.list_events(since=begin, kind="agent.retired")["events"]
    row = place.listed("bob")
    assert event["actor"] is None
    assert event["data"] == {"agent": "bob", "last_seen_at": row["last_seen_at"], "retired_at": row["retired_at"]}


# What waits


def test_what_waits_for_a_retired_agent_goes_back_to_its_senders(place: Place, clock: Clock):
    ann, bob, cid = place.agent("ann"), place.agent("bob"), place.agent("cid")
    direct = ann.send_direct_message("bob", "please")["message"]["id"]
    ann.send_direct_message("bob", "too late", expires_in=60)
    mention = cid.send_message("general", "@bob @ann look")["message"]["id"]
    done = ann.send_direct_message("bob", "read that")["message"]["id"]
    claimed = bob.claim_items()
    bob.acknowledge_items(claimed["claim_id"], item_ids=[  # type: ignore[arg-type]
        item["item_id"] for item in claimed["items"] if item["message_id"] == done
    ])  # fmt: skip
    clock.ahead = (LONG - 1) * DAY
    for client in (ann, cid):
        client.check_board()
    clock.ahead = (LONG + 1) * DAY
    assert place.retire() == 1
    begin = ann.list_events()["position"]
    assert place.give_back() == 2, "not what was acknowledged, and not what had its time"
    assert kinds(ann, begin) == [("inbox.added", None)]
    assert kinds(cid, begin) == [("inbox.added", None)]
    (item,) = [item for item in ann.check_inbox()["items"] if item["kind"] == "returned"]
    assert (item["message_id"], item["from"], item.get("undelivered_to")) == (direct, "ann", ["bob"])
    (item,) = cid.check_inbox()["items"]
    assert (item["kind"], item["message_id"], item.get("undelivered_to")) == ("returned", mention, ["bob"])
    (receipt,) = ann.get_receipts(direct)["receipts"]
    assert (receipt["state"], receipt.get("reason")) == ("dead", "retired")
    assert [receipt["agent_name"] for receipt in cid.get_receipts(mention)["receipts"]] == ["bob", "ann"]
    assert place.give_back() == 0


def test_a_sender_is_told_once_however_many_did_not_get_it(place: Place, clock: Clock):
    ann = place.agent("ann")
    for name in ("bob", "cid"):
        place.agent(name)
    ann.send_message("general", "@bob @cid look")
    clock.ahead = (LONG + 1) * DAY
    ann.check_board()
    assert (place.retire(), place.give_back()) == (2, 2)
    (item,) = ann.check_inbox()["items"]
    assert item.get("undelivered_to") == ["bob", "cid"]
    assert ann.get_briefing()["inbox"].get("returned") == 1
    assert ann.check_mentions(unread=False)["mentions"] == [], "it is no mention"
    assert ann.check_inbox()["items"] == []
    assert ann.get_briefing()["inbox"].get("returned") == 0


def test_a_sender_who_was_retired_too_finds_it_among_the_dead_letters(place: Place, clock: Clock):
    ann, bob = place.agent("ann"), place.agent("bob")
    sent = ann.send_direct_message("bob", "hello?")["message"]["id"]
    clock.ahead = (LONG + 1) * DAY
    assert (place.retire(), place.give_back()) == (2, 2)
    assert place.open_items("ann") == place.open_items("bob") == 0
    (letter,) = ann.list_dead_letters()["items"]
    assert (letter["kind"], letter["message_id"], letter["reason"]) == ("returned", sent, "retired")
    (letter,) = bob.list_dead_letters()["items"]
    assert (letter["kind"], letter["message_id"], letter["reason"]) == ("direct", sent, "retired")


def test_nobody_is_told_for_a_sender_who_was_deleted(place: Place, clock: Clock):
    ann = place.agent("ann")
    place.agent("bob")
    ann.send_direct_message("bob", "hello?")
    place.relay.ask(lambda tx: administration.agent_delete(tx, name="ann"))
    clock.ahead = (LONG + 1) * DAY
    assert (place.retire(), place.give_back()) == (1, 1)
    assert database.ask(place.relay, "SELECT count(*) FROM inbox WHERE kind = 'returned'") == [(0,)]


def test_senders_are_told_of_what_a_deleted_agent_did_not_get(place: Place):
    ann, bob, cid = place.agent("ann"), place.agent("bob"), place.agent("cid")
    sent = ann.send_direct_message("bob", "hello?")["message"]["id"]
    offered = ann.create_task("count", target_agent="bob")["task"]
    ann.send_message("general", "@bob @cid look")
    ann.check_inbox()
    ann.send_direct_message("bob", "read this")
    (read,) = bob.claim_items(limit=1)["items"]
    grave = place.relay.ask(lambda tx: administration.agent_delete(tx, name="bob"))["messages_now_by"]
    told = ann.claim_items()["items"]
    assert {item["kind"] for item in told} == {"returned"}
    assert all(item.get("undelivered_to") == [grave] for item in told)
    assert {sent, offered["message_id"], read["message_id"]} <= {item["message_id"] for item in told}
    assert len(told) == 4
    (receipt,) = ann.get_receipts(sent)["receipts"]
    assert (receipt["agent_name"], receipt["state"], receipt.get("reason")) == (grave, "dead", "retired")
    (mail,) = [mail for mail in ann.list_sent()["messages"] if mail["message_id"] == sent]
    assert mail["states"] == {"dead": 1}
    assert [item["kind"] for item in cid.check_inbox()["items"]] == ["mention"]
    assert ann.cancel_task(offered["id"])["task"]["state"] == "cancelled"
    assert place.agent("bob").check_inbox()["items"] == [], "the name is another agent's"


def test_more_than_a_portion_of_a_deleted_agent_follows_by_itself(place: Place):
    ann = place.agent("ann")
    place.agent("bob")
    for number in range(205):
        ann.send_direct_message("bob", str(number))
    place.relay.ask(lambda tx: administration.agent_delete(tx, name="bob"))
    assert place.give_back() == 5
    assert place.open_items("ann") == 205


def test_what_was_dead_before_stays_dead_for_its_own_reason(place: Place, clock: Clock):
    ann, bob = place.agent("ann"), place.agent("bob")
    ann.send_direct_message("bob", "poison")
    while claim := bob.claim_items()["claim_id"]:
        bob.return_items(claim)
    clock.ahead = (LONG + 1) * DAY
    place.retire()
    assert place.give_back() == 0
    (letter,) = bob.list_dead_letters()["items"]
    assert letter["reason"] == "deliveries"


def test_dead_letters_can_be_brought_back(place: Place, clock: Clock):
    ann, bob = place.agent("ann"), place.agent("bob")
    for number in range(2):
        ann.send_direct_message("bob", str(number))
    clock.ahead = (LONG + 1) * DAY
    ann.check_board()
    place.retire()
    place.give_back()
    letters = place.relay.ask(lambda tx: administration.letter_list(tx, name="bob"))["letters"]
    assert [letter["reason"] for letter in letters] == ["retired", "retired"]
    first = bob.list_dead_letters()["items"][1]
    assert bob.requeue_items([first["item_id"]]) == {"requeued": 1}
    item = bob.check_inbox()["items"][0]
    assert (item["content"], item["deliveries"]) == ("@bob 0", 1)
    assert "reason" not in ann.get_receipts(first["message_id"] or "")["receipts"][0]
    by_message = {item["content"]: item.get("undelivered_to") for item in ann.check_inbox()["items"]}
    assert by_message == {"@bob 0": [], "@bob 1": ["bob"]}
    place.relay.ask(lambda tx: administration.letter_requeue(tx, name="bob", item_id=letters[0]["item_id"]))
    assert [item["content"] for item in bob.check_inbox()["items"]] == ["@bob 1"]


def test_what_is_left_half_done_is_gone_on_with(place: Place, clock: Clock, monkeypatch: pytest.MonkeyPatch):
    """Each portion leaves things as they may be: a killed relay has done some of them, and others do the rest."""
    monkeypatch.setattr(retirement, "_PORTION", 3)
    ann = place.agent("ann")
    for number in range(4):
        place.agent(f"old-{number}")
        for _ in range(2):
            ann.send_direct_message(f"old-{number}", "hello?")
    clock.ahead = (LONG + 1) * DAY
    ann.check_board()
    assert place.relay.ask(lambda tx: retirement.retire(tx, tx.now, days=LONG)) == 3
    assert place.relay.ask(lambda tx: retirement.give_back(tx, tx.now)) == 3
    assert (place.retire(), place.give_back()) == (1, 5)
    returned = ann.check_inbox(limit=50)["items"]
    assert len({item["message_id"] for item in returned}) == len(returned) == 8


# Mail


def test_a_retired_agent_gets_no_mail(place: Place, gone: Client):
    ann = place.agent("ann")
    ann.send_direct_message("bob", "a moment before")
    keyed = ann.with_options(idempotency_key="again")
    sent = keyed.send_direct_message("bob", "a moment before, too")
    place.retire()
    with pytest.raises(errors.Conflict) as refused:
        ann.send_direct_message("bob", "hello?")
    since = place.listed("bob")["retired_at"]
    assert refused.value.details == {"retired_at": since}
    assert since[:10] in refused.value.message and "find_agents" in refused.value.message
    assert ann.send_message("general", "@bob hello?")["unmatched_mentions"] == ["bob"]
    assert keyed.send_direct_message("bob", "a moment before, too") == sent, "a repeat is told what was done"


@pytest.mark.parametrize(
    "call",
    [
        lambda bob: bob.check_board(), lambda bob: bob.check_inbox(), lambda bob: bob.list_events(),
        lambda bob: bob.send_message("general", "back"), lambda bob: bob.search_messages("x"),
        lambda bob: next(iter(bob.events(since=0))), lambda bob: bob.list_files("general"),
    ],
    ids=["read", "write", "log", "send", "search", "stream", "files"],
)  # fmt: skip
def test_any_call_brings_it_back(place: Place, gone: Client, call: Callable[[Client], object]):
    ann = place.agent("ann")
    place.retire()
    begin = ann.list_events()["position"]
    call(gone)
    assert kinds(ann, begin)[0] == ("agent.returned", "bob"), "before anything else it does"
    assert place.listed("bob")["retired_at"] is None
    (row,) = ann.find_agents(name="bob")["agents"]
    assert row["presence"] == "online" and "retired_at" not in row
    ann.send_direct_message("bob", "welcome back")
    assert ann.send_message("general", "@bob too")["unmatched_mentions"] == []
    assert place.retire() == 0
    call(gone)
    assert [kind for kind, _ in kinds(ann, begin)].count("agent.returned") == 1


def test_registration_brings_it_back(place: Place, clock: Clock):
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw().hex()
    place.relay.ask(lambda tx: administration.machine_add(tx, name="box", public_key=public))

    def register() -> object:
        sent = registration("box", "box-bob", secrets.token_hex(32), private)
        known = machines.Registration(**sent, card=None)
        return place.relay.ask(lambda tx: machines.register(tx, known, machines.Rules(50, False)))

    assert isinstance(register(), dict)
    clock.ahead = (LONG + 1) * DAY
    assert place.retire() == 1
    database.ask(place.relay, "UPDATE agents SET last_seen_at = NULL WHERE name = 'box-bob'")
    clock.ahead = 0  # so that the signature is of now; it was retired all the same
    assert isinstance(register(), dict)
    row = place.listed("box-bob")
    assert row["retired_at"] is None and row["last_seen_at"] is not None


# The chore


def test_a_relay_does_it_by_itself_and_says_so(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(chores, "_AT_FIRST", -1.0)
    monkeypatch.setattr(chores, "_HOUR", 1e12)
    monkeypatch.setattr(chores, "_BETWEEN", 0.02)
    caplog.set_level("INFO", "agentchat.relay")
    with contextlib.ExitStack() as stack:
        place = Place(
            stack.enter_context(running(str(tmp_path), settings=UNLIMITED._replace(retire_after=LONG))), stack
        )
        ann, _ = place.agent("ann"), place.agent("bob")
        ann.send_direct_message("bob", "hello?")
        clock.ahead = (LONG - 1) * DAY
        ann.check_board()
        clock.ahead = (LONG + 1) * DAY
        until(lambda: place.open_items("bob") == 0)
        assert [item["kind"] for item in ann.check_inbox()["items"]] == ["returned"]
        assert "Retired 1 agents" in caplog.text


def test_a_clock_that_jumped_retires_nobody(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chores, "_AT_FIRST", -1.0)
    monkeypatch.setattr(chores, "_BETWEEN", 0.02)
    passes: list[int] = []
    give_back = retirement.give_back

    def counted(tx: Any, at: int) -> int:
        passes.append(at)
        return give_back(tx, at)

    monkeypatch.setattr(retirement, "give_back", counted)
    with contextlib.ExitStack() as stack:
        place = Place(
            stack.enter_context(running(str(tmp_path), settings=UNLIMITED._replace(retire_after=LONG))), stack
        )
        place.agent("bob")
        until(lambda: bool(passes))
        looked: list[int] = []
        before = wire.now()
        believed = chores.DoubtedClock.believed

        def read(self: chores.DoubtedClock, reading: int) -> int | None:
            looked.append(reading)
            return believed(self, reading)

        monkeypatch.setattr(chores.DoubtedClock, "believed", read)
        clock.ahead = 365 * DAY
        until(lambda: len([reading for reading in looked if reading > before + 300 * DAY * 1e6]) > 10)
        assert place.listed("bob")["retired_at"] is None


def test_by_default_nobody_is_retired():
    assert UNLIMITED.retire_after == 0
