"""The inbox over real sockets: sessions of one agent, receipts, what has its time, and what many claim at once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from agentchat import Client
from agentchat.errors import Conflict, Forbidden, NotFound
from agentchat_relay.embedded import Embedded
from agentchat_relay.service import inbox
from agentchat_relay.store.seam import Lane
from tests.clients.conftest import Driver

from .conftest import Clock, fresh

MakeAgent = Callable[..., Client]


def texts(answer: Any) -> list[str]:
    return [item["content"].split(" ", 1)[1] for item in answer["items"]]


def fill(sender: Client, reader: str, *said: str, **more: Any) -> list[str]:
    """Ids of the messages."""
    return [sender.send_direct_message(reader, text, **more)["message"]["id"] for text in said]


def test_an_item_says_what_it_is(agent: MakeAgent, either: Driver) -> None:
    ann, name = agent(), either.client.agent
    said = ann.send_message("general", f"hello @{name}", metadata={"project": "Atlas"}, expires_in=60)["message"]
    direct = ann.send_direct_message(name, "quickly", urgent=True)["message"]
    first, second = either("peek_inbox")["items"]
    assert (first["kind"], first["urgent"], first["message_id"]) == ("direct", True, direct["id"])
    assert (first["channel"], first["expires_at"], first["from_project"]) == ("direct-messages", None, None)
    assert (second["kind"], second["urgent"], second["message_id"]) == ("mention", False, said["id"])
    assert (second["from"], second["channel"], second["content"]) == (ann.agent, "general", f"hello @{name}")
    assert (second["from_project"], second["timestamp"], second["deliveries"]) == ("Atlas", said["created_at"], 0)
    assert second["expires_at"] > said["created_at"]
    assert "claimed_until" not in second
    claim = either("claim_items", lease=60)
    assert [item["deliveries"] for item in claim["items"]] == [1, 1]
    assert {item["claimed_until"] for item in either("peek_inbox")["items"]} == {claim["lease_until"]}
    mentions = either("check_mentions")["mentions"]
    assert [row["mention_id"] for row in mentions] == [first["item_id"], second["item_id"]], "claimed is not read"


def test_an_empty_inbox(either: Driver) -> None:
    nothing = {"items": [], "claim_id": None, "lease_until": None, "has_more": False, "acknowledged": 0}
    assert either("check_inbox") == either("claim_items") == nothing
    assert either("peek_inbox") == {"items": [], "next_cursor": None, "has_more": False, "scopes": []}
    assert either("list_dead_letters") == {"items": [], "has_more": False}


# Sessions


def test_what_one_session_holds_no_other_gets(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    fill(ann, bob.agent or "", "one", "two", "three")
    one, other = bob.with_options(session="one"), bob.with_options(session="other")
    assert texts(one.claim_items(limit=2)) == ["one", "two"]
    assert texts(other.check_inbox()) == ["three"]
    assert texts(one.check_inbox()) == []
    assert texts(one.claim_items()) == [], "what a session claimed by itself it does not get again before its time"


def test_a_lost_answer_is_given_again_to_its_session_only(agent: MakeAgent, live: Embedded) -> None:
    """Who lost it cannot name its claim: that is a client with the session's name and nothing else."""
    ann, bob = agent(), agent()
    fill(ann, bob.agent or "", "one", "two")
    key = live.token(bob.agent or "")
    with (
        Client(live.url, key, agent=bob.agent, session="s") as lost,
        Client(live.url, key, agent=bob.agent, session="s") as again,
    ):
        first = lost.check_inbox()
        assert [item["deliveries"] for item in first["items"]] == [1, 1]
        with Client(live.url, key, agent=bob.agent, session="t") as other:
            assert other.check_inbox()["items"] == []
        second = again.check_inbox()
        assert second["items"] == first["items"], "and that is no new delivery"
        assert second["claim_id"] != first["claim_id"]
        third = again.check_inbox(seen=second["claim_id"])
        assert (third["acknowledged"], third["items"]) == (2, [])
        with pytest.raises(Conflict):
            lost.acknowledge_items(str(first["claim_id"]))


def test_what_is_checked_is_short_enough_to_be_read(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    sizes = [11_000, 900, 500, 32_000 - 20, 5]
    fill(ann, bob.agent or "", *(f"{number} {'x' * size}"[:size] for number, size in enumerate(sizes)))
    found = []
    answer = bob.check_inbox(limit=50)
    while answer["items"]:
        found.append([len(text) for text in texts(answer)])
        assert answer["has_more"] is (sum(map(len, found)) < len(sizes))
        answer = bob.check_inbox(limit=50, seen=answer["claim_id"])
    assert found == [[11_000, 900, 500], [32_000 - 20], [5]], "the last one may go over it, a first one always comes"


# Claims


def test_a_claim_is_renewed_returned_and_acknowledged(agent: MakeAgent, clock: Clock) -> None:
    ann, bob = agent(), agent()
    fill(ann, bob.agent or "", "one", "two", "three")
    claim = bob.claim_items(lease=60)
    id, items = str(claim["claim_id"]), [item["item_id"] for item in claim["items"]]
    clock.ahead += 50
    assert bob.renew_claim(id, lease=60)["items"] == 3
    clock.ahead += 50
    assert bob.claim_items()["items"] == [], "it was renewed"
    assert bob.return_items(id, item_ids=items[:1], delay=30)["items"] == 1
    assert bob.acknowledge_items(id, item_ids=items[1:2]) == {"claim_id": id, "items": 1, "idempotent": False}
    assert bob.acknowledge_items(id, item_ids=items[1:2]) == {"claim_id": id, "items": 1, "idempotent": True}
    clock.ahead += 31
    other = bob.claim_items(lease=60)
    assert texts(other) == ["one", "three"], "the delay and the lease are over"
    with pytest.raises(Conflict) as late:
        bob.acknowledge_items(id, item_ids=items[2:])
    assert (late.value.code, late.value.details["held"]) == ("conflict", [])
    clock.ahead += 61
    done = bob.acknowledge_items(str(other["claim_id"]))
    assert (done["items"], done["idempotent"]) == (2, False), "nobody had claimed it anew"
    assert bob.peek_inbox()["items"] == []


def test_a_clock_that_was_set_back_holds_nothing_for_ever(agent: MakeAgent, clock: Clock) -> None:
    ann, bob = agent(), agent()
    clock.ahead = 86_400
    fill(ann, bob.agent or "", "one")
    assert len(bob.claim_items(lease=3600)["items"]) == 1
    clock.ahead = 0
    assert len(bob.claim_items()["items"]) == 1


def test_a_repeated_claim_is_told_again_and_takes_no_more(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    fill(ann, bob.agent or "", "one", "two")
    keyed = bob.with_options(idempotency_key=fresh("key"))
    first = keyed.claim_items(limit=1)
    assert keyed.claim_items(limit=1) == first
    assert texts(bob.claim_items()) == ["two"]
    taken = bob.with_options(idempotency_key=fresh("key"))
    fill(ann, bob.agent or "", "three")
    at_once = taken.claim_items(acknowledge=True)
    assert (texts(at_once), at_once["acknowledged"]) == (["three"], 1)
    assert taken.claim_items(acknowledge=True) == at_once, "an answer that was lost has still been given"


def test_a_replayed_check_remembers_no_claim_and_is_the_same_call(agent: MakeAgent, live: Embedded) -> None:
    """A graph that is replayed in another process sends the same key, and does not know what it had seen."""
    ann, bob = agent(), agent()
    fill(ann, bob.agent or "", "one")
    before = bob.check_inbox()
    fill(ann, bob.agent or "", "two")
    key = fresh("key")
    first = bob.with_options(idempotency_key=key).check_inbox(seen=before["claim_id"])
    assert (texts(first), first["acknowledged"]) == (["two"], 1)
    with Client(live.url, live.token(bob.agent or ""), agent=bob.agent) as replayed:
        assert replayed.with_options(idempotency_key=key).check_inbox() == first


def test_someone_elses_claim_is_no_claim(agent: MakeAgent) -> None:
    ann, bob, eve = agent(), agent(), agent()
    (message,) = fill(ann, bob.agent or "", "one")
    claim = bob.claim_items()
    id, item = str(claim["claim_id"]), claim["items"][0]["item_id"]
    for call in (eve.acknowledge_items, eve.return_items, eve.renew_claim):
        with pytest.raises(Conflict):
            call(id)
    for call in (eve.requeue_items, ann.requeue_items):
        with pytest.raises(NotFound):
            call([item])
    with pytest.raises(NotFound):
        eve.get_receipts(message)
    with pytest.raises(Forbidden, match="author"):
        bob.get_receipts(message)
    assert eve.check_inbox(seen=id)["acknowledged"] == 0
    assert bob.acknowledge_items(id)["items"] == 1


@pytest.mark.parametrize("sessions", [8])
def test_of_many_who_claim_at_once_each_item_has_one_winner(agent: MakeAgent, live: Embedded, sessions: int) -> None:
    ann, bob = agent(), agent()
    count = 60
    fill(ann, bob.agent or "", *(str(number) for number in range(count)))
    won: list[list[str]] = [[] for _ in range(sessions)]
    key, failures = live.token(bob.agent or ""), []

    def work(mine: list[str]) -> None:
        try:
            with Client(live.url, key, agent=bob.agent) as client:
                while items := (claim := client.claim_items(limit=3))["items"]:
                    mine += [item["content"].split()[-1] for item in items]
                    client.acknowledge_items(str(claim["claim_id"]))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in won]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert Counter(word for mine in won for word in mine) == Counter(str(number) for number in range(count))
    assert all(mine == sorted(mine, key=int) for mine in won), "each session saw them in order"


# What becomes of a message


def test_a_sender_sees_what_became_of_it(agent: MakeAgent, clock: Clock) -> None:
    ann, bob, eve = agent(), agent(), agent()
    sent = ann.send_message("general", f"@{bob.agent} and @{eve.agent}", expires_in=600)["message"]["id"]

    def states() -> dict[str, str]:
        return {row["agent_name"]: row["state"] for row in ann.get_receipts(sent)["receipts"]}

    assert states() == {bob.agent: "stored", eve.agent: "stored"}
    claim = bob.claim_items(lease=60)
    assert states() == {bob.agent: "claimed", eve.agent: "stored"}
    clock.ahead += 61
    assert states() == {bob.agent: "stored", eve.agent: "stored"}, "its lease is over"
    bob.acknowledge_items(str(claim["claim_id"]))
    clock.ahead += 600
    assert states() == {bob.agent: "acknowledged", eve.agent: "expired"}
    assert eve.peek_inbox()["items"] == eve.check_mentions()["mentions"] == eve.claim_items()["items"] == []
    row = next(row for row in ann.get_receipts(sent)["receipts"] if row["agent_name"] == bob.agent)
    assert row["deliveries"] == 1
    assert row["ended_at"] and row["claimed_at"] and row["stored_at"] < row["claimed_at"] < row["ended_at"]
    unheard = ann.send_message("general", "nobody")["message"]["id"]
    assert ann.get_receipts(unheard) == {"message_id": unheard, "receipts": []}


def test_what_has_its_time_is_ended_by_the_sweep(agent: MakeAgent, clock: Clock, live: Embedded) -> None:
    ann, bob = agent(), agent()
    (sent,) = fill(ann, bob.agent or "", "one", expires_in=5)
    (held,) = fill(ann, bob.agent or "", "two", expires_in=5)
    claim = bob.claim_items(lease=60)
    bob.return_items(str(claim["claim_id"]), item_ids=[claim["items"][0]["item_id"]])
    clock.ahead += 6
    assert live.relay is not None
    live.relay.store.ask(Lane.WRITE, lambda tx: inbox.sweep(tx, tx.now))
    assert [row["state"] for row in ann.get_receipts(sent)["receipts"]] == ["expired"]
    assert [row["state"] for row in ann.get_receipts(held)["receipts"]] == ["claimed"], "somebody is at work on it"
    assert bob.acknowledge_items(str(claim["claim_id"]))["items"] == 1


def test_a_dead_letter_that_waits_again_does_so_for_as_long_as_was_said(agent: MakeAgent, clock: Clock) -> None:
    ann, bob = agent(), agent()
    name = bob.agent or ""
    for seconds in (60, 3600):
        ann.send_direct_message(name, f"for {seconds}", expires_in=seconds)
    until = {item["content"].split()[-1]: item["expires_at"] for item in bob.peek_inbox()["items"]}
    for _ in range(inbox.MOST_DELIVERIES):
        bob.claim_items(lease=1)
        clock.ahead += 2
    bob.claim_items()
    letters = bob.list_dead_letters()["items"]
    assert len(letters) == 2
    clock.ahead += 60
    bob.requeue_items([letter["item_id"] for letter in letters])
    again = {item["content"].split()[-1]: item["expires_at"] for item in bob.peek_inbox()["items"]}
    assert again == {"60": None, "3600": until["3600"]}, "what was over is wanted nevertheless"


def test_what_fails_too_often_is_a_dead_letter(agent: MakeAgent, clock: Clock) -> None:
    ann, bob = agent(), agent()
    (sent,) = fill(ann, bob.agent or "", "poison")
    for number in range(1, inbox.MOST_DELIVERIES + 1):
        claim = bob.claim_items(lease=1)
        assert [item["deliveries"] for item in claim["items"]] == [number]
        clock.ahead += 2
    fill(ann, bob.agent or "", "good")
    assert texts(bob.claim_items()) == ["good"]
    (letter,) = bob.list_dead_letters()["items"]
    assert (letter["message_id"], letter["deliveries"], bool(letter["ended_at"])) == (sent, 5, True)
    assert [row["state"] for row in ann.get_receipts(sent)["receipts"]] == ["dead"]
    with pytest.raises(Conflict, match="is dead"):
        bob.acknowledge_items(str(claim["claim_id"]))
    assert bob.requeue_items([letter["item_id"]]) == {"requeued": 1}
    assert bob.list_dead_letters()["items"] == []
    assert texts(bob.claim_items()) == ["poison"]


def test_a_dead_letter_that_is_named_twice_is_put_back_once(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    fill(ann, bob.agent or "", "poison", "good")
    for _ in range(inbox.MOST_DELIVERIES):
        bob.return_items(bob.claim_items()["claim_id"] or "")
    letters = bob.list_dead_letters()["items"]
    first, second = (letter["item_id"] for letter in letters)
    with pytest.raises(NotFound, match="no dead letter"):
        bob.requeue_items([first, first, letters[0]["message_id"] or ""])
    assert bob.requeue_items([first, second, first]) == {"requeued": 2}
    assert sorted(texts(bob.claim_items())) == ["good", "poison"]


def test_an_unknown_recipient_is_refused_and_an_absent_one_is_not(agent: MakeAgent, live: Embedded) -> None:
    ann, name = agent(), fresh("receiver")
    with pytest.raises(NotFound) as caught:
        ann.send_direct_message(f"{name}r", "hello")
    live.token(name)
    with pytest.raises(NotFound, match=f"Did you mean {name}") as caught:
        ann.send_direct_message(f"{name}r", "hello")
    assert name in caught.value.near
    assert ann.send_direct_message(name, "you were never here")["unmatched_mentions"] == []
    with Client(live.url, live.token(name), agent=name) as late:
        assert texts(late.check_inbox()) == ["you were never here"]


# The first call of a session


def test_a_briefing_tells_what_one_has_to_know(agent: MakeAgent, either: Driver) -> None:
    ann, name = agent(), either.client.agent
    either("read_messages", "general")
    ann.set_card(role="reviewer", about="ask me for reviews")
    ann.send_message("general", f"@{name} hello")
    ann.send_direct_message(name, "now", urgent=True)
    told = either("get_briefing")
    assert (told["agent"], told["kind"], told["roles"], told["space"]) == (name, "agent", [], "main")
    assert {name: told["inbox"][name] for name in ("urgent", "mentions", "direct")} == {
        "urgent": 1, "mentions": 1, "direct": 1,
    }  # fmt: skip
    assert told["inbox"]["oldest_at"]
    assert ann.agent in [row["name"] for row in told["agents"]]
    assert name not in [row["name"] for row in told["agents"]]
    general = next(row for row in told["channels"] if row["channel"] == "general")
    assert (general["unread"], general["joined"]) == (1, True)
    assert told["position"] > 0
    assert "check_inbox" in told["help"] and "instruction" in told["help"]
    assert len(told["help"].splitlines()) < 24, "one screen"
    assert either("get_briefing")["inbox"] == told["inbox"], "it takes nothing"


def test_a_briefing_is_bounded(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    for number in range(20):
        ann.send_message(fresh("project-much"), f"{number} @{bob.agent}")
    for _ in range(120):
        ann.send_direct_message(bob.agent or "", "x")
    told = bob.get_briefing()
    assert len(told["channels"]) <= 20 and len(told["agents"]) <= 20
    assert (told["inbox"]["mentions"], told["inbox"]["direct"]) == (20, 80), "the first hundred are counted"
