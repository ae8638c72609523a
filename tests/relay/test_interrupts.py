"""Interrupts over the wire: what comes first and stays, who may end it, who is told, and what ends by itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agentchat import Client, types
from agentchat.contract import OPERATIONS
from agentchat.errors import AgentChatError, BadRequest, Conflict, Forbidden, InvalidArguments, LimitReached, NotFound
from agentchat.text import render
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.service import administration, inbox, retirement
from agentchat_relay.service.work import interrupts

from .conftest import UNLIMITED, Clock, MakeAgent, fresh, purge_all, raw, settle_all, until

DAY = 86_400.0


def interrupt(sender: Client, target: Client, reason: str = "stop", **more: Any) -> types.Interrupt:
    return sender.send_interrupt(target.agent or "", reason, **more)["interrupt"]


def state(client: Client, id: str) -> str:
    return client.get_interrupt(id)["interrupt"]["state"]


def items(client: Client) -> list[types.InboxItem]:
    return client.peek_inbox(limit=100)["items"]


def contents(client: Client) -> list[str]:
    return [item["content"] for item in items(client)]


def listed(client: Client, **which: Any) -> list[str]:
    return [one["id"] for one in client.list_interrupts(limit=200, **which)["interrupts"]]


def told(client: Client, since: int, id: str) -> list[tuple[str, str | None]]:
    """Events about one interrupt that an agent may see."""
    events = client.list_events(since=since, kind="interrupt", limit=500)["events"]
    return [(event["kind"], event["actor"]) for event in events if event["subject"] == id]


def retire(live: Embedded, client: Client) -> None:
    def call(tx: Any) -> None:
        tx.run("retire_agent", id=tx.the("agent_by_name", space_id=1, name=client.agent)["id"], now=tx.now)
        tx.forget()

    live.ask(call)


# Sending


def test_an_interrupt_reaches_whom_it_is_for(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    answer = ann.send_interrupt(bob.agent or "", "the build\nis red", expires_in=600)
    sent = answer["interrupt"]
    assert answer["idempotent"] is False
    assert (sent["state"], sent["version"], sent["purpose"], sent["pause_id"]) == ("pending", 1, "attention", None)
    assert (sent["sender"], sent["target"], sent["reason"]) == (ann.agent, bob.agent, "the build\nis red")
    assert (sent["note"], sent["ended_at"]) == (None, None)
    (item,) = items(bob)
    assert (item["kind"], item["urgent"], item["from"], item["message_id"]) == (
        "interrupt", True, ann.agent, sent["message_id"],
    )  # fmt: skip
    assert item["work"] == {"id": sent["id"], "kind": "interrupt", "state": "pending"}
    assert item["content"] == "Interrupt: stop, look at this, and acknowledge it.\n\nthe build\nis red"
    assert item["expires_at"] == sent["expires_at"]
    assert bob.get_briefing()["inbox"]["interrupts"] == 1
    assert (listed(bob), listed(ann), listed(ann, sent=True)) == ([sent["id"]], [], [sent["id"]])
    assert bob.get_interrupt(sent["id"]) == ann.get_interrupt(sent["id"])
    assert ann.list_sent()["messages"] == [], "what the relay wrote in her name is not her mail"
    assert items(ann) == []


def test_who_acknowledges_it_is_done_with_it_and_the_sender_is_told(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    sent = interrupt(ann, bob, "the build is red")
    answer = bob.acknowledge_interrupt(sent["id"], note="stopped after step 3")
    done = answer["interrupt"]
    assert (done["state"], done["version"], done["note"]) == ("acknowledged", 2, "stopped after step 3")
    assert done["ended_at"] is not None and answer["idempotent"] is False
    assert items(bob) == [] and listed(bob) == []
    (receipt,) = ann.get_receipts(sent["message_id"] or "")["receipts"]
    assert (receipt["agent_name"], receipt["state"]) == (bob.agent, "acknowledged")
    (item,) = items(ann)
    assert (item["kind"], item["urgent"], item["from"]) == ("direct", False, bob.agent)
    assert item["content"] == "Interrupt acknowledged: the build is red\n\nstopped after step 3"
    answered = ann.get_message(item["message_id"] or "")["message"]
    assert (answered["parent_message_id"], answered["kind"]) == (sent["message_id"], "system")


def test_what_is_told_to_the_sender_is_mail_like_any_other(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    bob.acknowledge_interrupt(interrupt(ann, bob)["id"])
    claim = ann.claim_items(acknowledge=True)
    assert (len(claim["items"]), claim["acknowledged"], items(ann)) == (1, 1, [])


@pytest.mark.parametrize(
    ("gone", "told"), [("retired", "not seen for long"), ("deactivated", "deactivated"), ("deleted", "There is no")]
)
def test_nobody_interrupts_who_reads_nothing(live: Embedded, agent: MakeAgent, gone: str, told: str) -> None:
    ann, bob = agent(), agent()
    name = bob.agent or ""
    if gone == "retired":
        retire(live, bob)
    elif gone == "deactivated":
        live.ask(lambda tx: administration.agent_deactivate(tx, name=name))
    else:
        live.ask(lambda tx: administration.agent_delete(tx, name=name))
    with pytest.raises(NotFound if gone == "deleted" else Conflict, match=told):
        ann.send_interrupt(name, "stop")
    assert listed(ann, sent=True) == []


def test_it_is_for_one_other_agent(live: Embedded, agent: MakeAgent) -> None:
    live.space("abroad")
    ann, bob, eve, group = agent(), agent(), agent(space="abroad"), fresh("team")
    bob.join_group(group)
    with pytest.raises(NotFound) as caught:
        ann.send_interrupt(f"{bob.agent}x", "stop")
    assert caught.value.near == [bob.agent]
    with pytest.raises(NotFound):
        ann.send_interrupt(eve.agent or "", "stop")
    for client, name in ((ann, group), (eve, "all")):  # where nobody has written to everybody yet
        with pytest.raises(BadRequest, match=f"{name} is a group; .* pause_agents"):
            client.send_interrupt(name, "stop")
    with pytest.raises(BadRequest, match="That is you"):
        interrupt(ann, ann)
    for reason in (" ", "x" * 2001):
        assert raw(ann, "POST", "/api/v2/interrupts", {"target_agent": bob.agent, "reason": reason})[0] == 400
    with pytest.raises(InvalidArguments, match="expires_in"):
        interrupt(ann, bob, expires_in=0)
    assert items(bob) == []


def test_the_same_key_sends_one(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    keyed = ann.with_options(idempotency_key="k1")
    first = keyed.send_interrupt(bob.agent or "", "stop")
    assert keyed.send_interrupt(bob.agent or "", "stop") == first
    bob.acknowledge_interrupt(first["interrupt"]["id"])
    again = keyed.send_interrupt(bob.agent or "", "stop")["interrupt"]
    assert (again["id"], again["state"]) == (first["interrupt"]["id"], "acknowledged")
    with pytest.raises(Conflict) as caught:
        keyed.send_interrupt(bob.agent or "", "stop, I said")
    assert caught.value.code == "idempotency_mismatch"
    assert (listed(ann, sent=True), items(bob)) == ([first["interrupt"]["id"]], [])


def test_the_same_key_acknowledges_once(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    sent = interrupt(ann, bob)
    keyed = bob.with_options(idempotency_key="k2")
    first = keyed.acknowledge_interrupt(sent["id"], note="yes")
    assert keyed.acknowledge_interrupt(sent["id"], note="yes") == first
    assert (len(items(ann)), state(ann, sent["id"])) == (1, "acknowledged")


def test_there_is_a_limit(asleep: None, agent: MakeAgent, clock: Clock) -> None:
    """Of what one agent sends to another, and has not ended; by the clock, too."""
    ann, bob, cy = agent(), agent(), agent()
    ids = [interrupt(ann, bob, expires_in=60 if number else 3600)["id"] for number in range(5)]
    with pytest.raises(LimitReached, match=r"5 interrupts of yours.*withdraw some first"):
        interrupt(ann, bob)
    assert len(items(bob)) == 5, "nothing was done"
    interrupt(ann, cy)
    interrupt(cy, bob)
    bob.acknowledge_interrupt(ids[0])
    ids.append(interrupt(ann, bob)["id"])
    with pytest.raises(LimitReached):
        interrupt(ann, bob)
    ann.withdraw_interrupt(ids[-1])
    ids.append(interrupt(ann, bob)["id"])
    with pytest.raises(LimitReached):
        interrupt(ann, bob)
    clock.ahead += 61  # nobody has looked, so the others are over by the clock alone
    assert {*ids} & {*listed(bob)} == {ids[-1]}
    interrupt(ann, bob)


def test_a_reason_is_text(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    for blank in (" ", "\u00a0\u2003"):
        with pytest.raises(AgentChatError, match="not blank"):
            ann.send_interrupt(bob.agent or "", blank)
    assert items(bob) == []


# Seen is not acknowledged


def test_who_looks_again_sees_it_again(agent: MakeAgent, clock: Clock) -> None:
    ann, bob = agent(), agent()
    sent = interrupt(ann, bob)
    ann.send_direct_message(bob.agent or "", "hello")
    assert ann.get_interrupt(sent["id"])["interrupt"]["seen_at"] is None
    assert [item["kind"] for item in items(bob)] == ["interrupt", "direct"]
    assert ann.get_interrupt(sent["id"])["interrupt"]["seen_at"] is None, "a peek is no delivery"
    first = bob.check_inbox()
    assert [item["kind"] for item in first["items"]] == ["interrupt", "direct"]
    seen_at = ann.get_interrupt(sent["id"])["interrupt"]["seen_at"]
    assert seen_at is not None and seen_at > sent["created_at"]
    for _ in range(3):
        clock.ahead += 1
        page = bob.check_inbox(seen=first["claim_id"])
        assert [item["kind"] for item in page["items"]] == ["interrupt"], "the other one is dealt with"
        assert page["items"][0]["deliveries"] == 1
        assert page["acknowledged"] == (1 if first["acknowledged"] == 0 and len(first["items"]) == 2 else 0)
        first = page
    later = ann.get_interrupt(sent["id"])["interrupt"]
    assert (later["state"], later["version"]) == ("pending", 1)
    assert later["seen_at"] is not None and later["seen_at"] > seen_at


def test_another_session_sees_it_when_it_has_rested(agent: MakeAgent, clock: Clock) -> None:
    ann, bob = agent(), agent()
    interrupt(ann, bob)
    one, two = (bob.with_options(session=name) for name in ("one", "two"))
    claim = one.check_inbox()["claim_id"]
    assert two.check_inbox()["items"] == [], "the first one has it"
    bob.acknowledge_items(claim or "")
    assert two.check_inbox()["items"] == []
    clock.ahead += 31
    assert [item["kind"] for item in two.check_inbox()["items"]] == ["interrupt"]


def test_to_acknowledge_the_item_keeps_it(agent: MakeAgent, clock: Clock) -> None:
    ann, bob = agent(), agent()
    interrupt(ann, bob)
    ann.send_direct_message(bob.agent or "", "hello")
    ann.send_direct_message(bob.agent or "", "hello again")
    claim = bob.claim_items(lease=60)
    kept, one, _ = [item["item_id"] for item in claim["items"]]
    id = claim["claim_id"] or ""
    change = bob.acknowledge_items(id, item_ids=[kept])
    assert (change["items"], change["kept"], change["idempotent"]) == (0, [kept], False)
    change = bob.acknowledge_items(id, item_ids=[kept, one])
    assert (change["items"], change["kept"]) == (1, [kept])
    change = bob.acknowledge_items(id)
    assert (change["items"], change["kept"], change["idempotent"]) == (2, [kept], False)
    assert [item["item_id"] for item in items(bob)] == [kept]
    clock.ahead += 31
    assert [item["item_id"] for item in bob.claim_items()["items"]] == [kept], "it rests for less than the lease"


def test_a_shorter_lease_is_not_made_longer(agent: MakeAgent, clock: Clock) -> None:
    ann, bob = agent(), agent()
    interrupt(ann, bob)
    bob.acknowledge_items(bob.claim_items(lease=5)["claim_id"] or "")
    clock.ahead += 6
    assert len(bob.claim_items()["items"]) == 1


def test_who_acknowledges_as_it_claims_gets_it_again(agent: MakeAgent, clock: Clock) -> None:
    ann, bob = agent(), agent()
    sent = interrupt(ann, bob)
    ann.send_direct_message(bob.agent or "", "hello")
    claim = bob.claim_items(acknowledge=True)
    assert (len(claim["items"]), claim["acknowledged"]) == (2, 1)
    assert [item["kind"] for item in items(bob)] == ["interrupt"]
    assert bob.claim_items(acknowledge=True)["items"] == [], "it rests, or a loop would turn for ever"
    clock.ahead += 31
    assert [item["kind"] for item in bob.claim_items(acknowledge=True)["items"]] == ["interrupt"]
    assert state(ann, sent["id"]) == "pending"
    bob.acknowledge_interrupt(sent["id"])
    clock.ahead += 31
    assert bob.claim_items()["items"] == []


def test_to_mark_it_as_read_keeps_it(agent: MakeAgent) -> None:
    ann, bob, channel = agent(), agent(), fresh("project")
    bob.send_message(channel, "here")
    interrupt(ann, bob)
    ann.send_message(channel, f"@{bob.agent} hello")
    found = {mention["content"]: mention["mention_id"] for mention in bob.check_mentions()["mentions"]}
    assert len(found) == 2
    (waits,) = [item["item_id"] for item in items(bob) if item["kind"] == "interrupt"]
    marked = bob.mark_mentions_read([*found.values()])
    assert marked == {"marked_read": 1, "kept": [waits]}
    told = render(OPERATIONS["mark_mentions_read"], marked)
    assert told == "Marked as read: 1. 1 interrupt left, which only acknowledge_interrupt ends."
    assert [item["kind"] for item in items(bob)] == ["interrupt"]
    assert listed(bob) == listed(ann, sent=True)
    bob.acknowledge_interrupt(bob.list_interrupts()["interrupts"][0]["id"])
    assert bob.mark_mentions_read([waits]) == {"marked_read": 1}, "it is read already"


@pytest.mark.parametrize("by", ["returned", "lapsed"])
def test_it_is_given_out_as_often_as_it_takes(live: Embedded, agent: MakeAgent, clock: Clock, by: str) -> None:
    ann, bob = agent(), agent()
    sent = interrupt(ann, bob, expires_in=86_400)
    ann.send_direct_message(bob.agent or "", "hello")
    for number in range(inbox.MOST_DELIVERIES + 3):
        claim = bob.claim_items(lease=60)
        assert claim["items"][0]["kind"] == "interrupt"
        assert claim["items"][0]["deliveries"] == number + 1
        if by == "returned":
            dead = bob.return_items(claim["claim_id"] or "")["dead"]
            assert dead == (number + 1 == inbox.MOST_DELIVERIES), "the other one dies of it"
        else:
            clock.ahead += 61
            live.ask(lambda tx: inbox.sweep(tx, tx.now))
    assert [item["kind"] for item in bob.list_dead_letters()["items"]] == ["direct"]
    assert [item["kind"] for item in items(bob)] == ["interrupt"]
    bob.acknowledge_interrupt(sent["id"])
    assert items(bob) == [] and len(bob.list_dead_letters()["items"]) == 1


def test_a_retired_agent_finds_it_when_it_is_back(live: Embedded, agent: MakeAgent) -> None:
    """As no dead letter: one of those could be brought back when the interrupt is over, and stay for ever."""
    ann, bob = agent(), agent()
    sent = interrupt(ann, bob, expires_in=604_800)
    ann.send_direct_message(bob.agent or "", "hello")
    retire(live, bob)
    while live.ask(lambda tx: retirement.give_back(tx, tx.now)):
        pass
    assert [item["kind"] for item in bob.list_dead_letters()["items"]] == ["direct"]
    assert [item["kind"] for item in items(bob)] == ["interrupt"]
    assert ann.get_interrupt(sent["id"])["interrupt"]["state"] == "pending"
    bob.acknowledge_interrupt(sent["id"])
    assert items(bob) == []


def test_the_sender_of_what_a_retired_agent_never_saw_is_told(
    asleep: None, live: Embedded, agent: MakeAgent, clock: Clock
) -> None:
    ann, bob = agent(), agent()
    interrupt(ann, bob, "the build is red", expires_in=60)
    retire(live, bob)
    while live.ask(lambda tx: retirement.give_back(tx, tx.now)):
        pass
    clock.ahead += 61
    settle_all(live)
    assert contents(ann) == [f"@{bob.agent} did not acknowledge your interrupt in time: the build is red"]


# First


REPO = "repo:github.com/org/proj"


@pytest.fixture
def mixed(agent: MakeAgent) -> tuple[Client, list[str]]:
    """An inbox of every urgency in two scopes, and its texts in the order in which they are to be given out."""
    ann, bob = agent(), agent()
    mail: list[tuple[int, str]] = []
    for number in range(3):
        for urgent in (False, True):
            for scope in (None, REPO):
                text = f"{urgent} {scope} {number}"
                ann.send_direct_message(bob.agent or "", text, urgent=urgent, scope=scope)
                mail.append((int(urgent), text))
        interrupt(ann, bob, f"interrupt {number}")
        mail.append((2, f"interrupt {number}"))
    mail.sort(key=lambda one: -one[0])
    return bob.with_options(scopes=[REPO]), [text for _, text in mail]


def _last_line(content: str, name: str) -> str:
    return content.split("\n")[-1].removeprefix(f"@{name} ")


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 7, 100])
def test_they_come_first_whatever_else_waits(mixed: tuple[Client, list[str]], limit: int) -> None:
    bob, wanted = mixed
    found: list[str] = []
    page = bob.peek_inbox(limit=limit)
    while True:
        found += [_last_line(item["content"], bob.agent or "") for item in page["items"]]
        assert page["has_more"] == (page["next_cursor"] is not None) == (len(found) < len(wanted))
        if page["next_cursor"] is None:
            break
        page = bob.peek_inbox(limit=limit, cursor=page["next_cursor"])
    assert found == wanted


def test_a_session_that_stands_elsewhere_is_given_them_too(mixed: tuple[Client, list[str]]) -> None:
    bob, wanted = mixed
    elsewhere = bob.with_options(scopes=["repo:github.com/org/other"])
    page = elsewhere.peek_inbox(limit=100)
    assert [_last_line(item["content"], bob.agent or "") for item in page["items"]] == [
        text for text in wanted if REPO not in text
    ]
    assert page["scopes"] == [REPO]


def test_a_page_goes_on_where_it_was(mixed: tuple[Client, list[str]]) -> None:
    """Whatever ends or comes meanwhile."""
    bob, wanted = mixed
    page = bob.peek_inbox(limit=2)
    for id in listed(bob):
        bob.acknowledge_interrupt(id)
    page = bob.peek_inbox(limit=100, cursor=page["next_cursor"])
    assert [_last_line(item["content"], bob.agent or "") for item in page["items"]] == wanted[3:]


def test_claims_go_by_the_same_order(mixed: tuple[Client, list[str]]) -> None:
    bob, wanted = mixed
    found: list[str] = []
    while page := bob.claim_items(limit=2, lease=600)["items"]:
        found += [_last_line(item["content"], bob.agent or "") for item in page]
    assert found == wanted


# Who may


def test_it_is_between_two(live: Embedded, agent: MakeAgent) -> None:
    live.space("afar")
    ann, bob, eve, far = agent(), agent(), agent(), agent(space="afar")
    live.ask(lambda tx: administration.agent_grant(tx, name=eve.agent or "", role="admin"))
    id = interrupt(ann, bob, "a secret")["id"]
    for stranger in (eve, far):
        for ask in (stranger.get_interrupt, stranger.acknowledge_interrupt, stranger.withdraw_interrupt):
            with pytest.raises(NotFound, match=f"There is no interrupt {id}"):
                ask(id)
        assert listed(stranger) == listed(stranger, sent=True) == []
        assert "a secret" not in json.dumps([stranger.search_messages("secret"), stranger.list_events(limit=500)])
    with pytest.raises(Forbidden, match="You may not acknowledge this interrupt: only the agent"):
        ann.acknowledge_interrupt(id)
    with pytest.raises(Forbidden, match="You may not withdraw this interrupt: only who made it"):
        bob.withdraw_interrupt(id)
    bob.acknowledge_interrupt(id)
    with pytest.raises(Forbidden):
        ann.acknowledge_interrupt(id)
    with pytest.raises(Forbidden):
        bob.withdraw_interrupt(id)


def test_who_did_it_already_is_told_so(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    for act, late in (("acknowledge", "withdraw"), ("withdraw", "acknowledge")):
        id = interrupt(ann, bob)["id"]
        calls: dict[str, Callable[[str], types.InterruptChange]] = {
            "acknowledge": bob.acknowledge_interrupt, "withdraw": ann.withdraw_interrupt,
        }  # fmt: skip
        first = calls[act](id)
        position = ann.list_events()["position"]
        again = calls[act](id)
        assert (first["idempotent"], again["idempotent"]) == (False, True)
        assert again["interrupt"] == first["interrupt"]
        with pytest.raises(Conflict) as caught:
            calls[late](id)
        assert caught.value.current == first["interrupt"]
        assert f"This interrupt is {first['interrupt']['state']}; to {late} it, it must be pending" in str(caught.value)
        assert ann.list_events()["position"] == position, "nothing happened"


# What ends it


def test_what_is_withdrawn_is_over(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    sent = interrupt(ann, bob)
    claim = bob.check_inbox()["claim_id"] or ""
    done = ann.withdraw_interrupt(sent["id"], note="it is green again")["interrupt"]
    assert (done["state"], done["version"], done["note"]) == ("withdrawn", 2, "it is green again")
    assert (items(bob), items(ann), listed(bob)) == ([], [], [])
    assert bob.check_inbox()["items"] == []
    (receipt,) = ann.get_receipts(sent["message_id"] or "")["receipts"]
    assert receipt["state"] == "expired"
    with pytest.raises(Conflict, match="is expired"):
        bob.acknowledge_items(claim)
    assert listed(bob, state="withdrawn") == listed(ann, sent=True, state="withdrawn") == [sent["id"]]


def test_its_time_is_over_though_nobody_has_looked(asleep: None, agent: MakeAgent, clock: Clock) -> None:
    ann, bob = agent(), agent()
    sent = interrupt(ann, bob, expires_in=60)
    bob.check_inbox()
    clock.ahead += 59
    assert (state(ann, sent["id"]), len(items(bob))) == ("pending", 1)
    clock.ahead += 2
    assert state(ann, sent["id"]) == state(bob, sent["id"]) == "expired"
    assert (items(bob), bob.check_inbox()["items"], listed(bob)) == ([], [], [])
    assert bob.get_briefing()["inbox"]["interrupts"] == 0
    for act in (bob.acknowledge_interrupt, ann.withdraw_interrupt):
        with pytest.raises(Conflict) as caught:
            act(sent["id"])
        assert (caught.value.current or {})["state"] == "expired"
    assert items(ann) == []


def test_lists_go_by_the_clock(asleep: None, live: Embedded, agent: MakeAgent, clock: Clock) -> None:
    """Whether or not the relay has made it explicit, what is listed under a state is in it."""
    ann, bob = agent(), agent()
    late, kept = interrupt(ann, bob, expires_in=60)["id"], interrupt(ann, bob)["id"]
    clock.ahead += 61
    for _ in range(2):
        for client, sent in ((ann, True), (bob, False)):
            assert listed(client, sent=sent, state="pending") == [kept]
            assert listed(client, sent=sent, state="expired") == [late]
            assert listed(client, sent=sent, state="acknowledged") == []
        assert listed(ann, sent=True) == [kept, late]
        settle_all(live)


def test_the_sender_is_told_that_its_time_was_over(
    asleep: None, live: Embedded, agent: MakeAgent, clock: Clock
) -> None:
    ann, bob = agent(), agent()
    sent = interrupt(ann, bob, "the build is red", expires_in=60)
    position = ann.list_events()["position"]
    bob.check_inbox()
    clock.ahead += 61
    settle_all(live)
    (item,) = items(ann)
    assert item["content"] == f"@{bob.agent} did not acknowledge your interrupt in time: the build is red"
    assert (item["kind"], item["urgent"], item["expires_at"]) == ("direct", True, None)
    assert ann.get_message(item["message_id"] or "")["message"]["parent_message_id"] == sent["message_id"]
    assert told(ann, position, sent["id"]) == [("interrupt.expired", None)]
    details = ann.get_interrupt(sent["id"])
    assert (details["interrupt"]["state"], details["interrupt"]["version"]) == ("expired", 2)
    assert details["interrupt"]["seen_at"] is not None
    assert [(line["action"], line["actor"], line["after"]) for line in details["history"]] == [
        ("create", ann.agent, "pending"),
        ("expire", None, "expired"),
    ]
    (receipt,) = ann.get_receipts(sent["message_id"] or "")["receipts"]
    assert receipt["state"] == "expired"
    settle_all(live)
    assert len(items(ann)) == 1
    interrupt(bob, ann)
    assert [item["kind"] for item in items(ann)] == ["interrupt", "direct"], "that is urgent, and no more"


def test_the_relay_looks_by_itself(live: Embedded, agent: MakeAgent, clock: Clock) -> None:
    ann, bob = agent(), agent()
    id = interrupt(ann, bob, expires_in=60)["id"]
    clock.ahead += 61
    bob.set_card(role="whatever is committed stirs it")
    until(lambda: len(ann.get_interrupt(id)["history"]) == 2)
    assert [item["content"] for item in items(ann)] == [
        f"@{bob.agent} did not acknowledge your interrupt in time: stop"
    ]


@pytest.mark.parametrize("who", ["sender", "target"])
def test_it_ends_though_one_of_them_is_gone(
    asleep: None, live: Embedded, agent: MakeAgent, clock: Clock, who: str
) -> None:
    ann, bob = agent(), agent()
    id = interrupt(ann, bob, expires_in=60)["id"]
    gone = (ann if who == "sender" else bob).agent or ""
    live.ask(lambda tx: administration.agent_delete(tx, name=gone))
    clock.ahead += 61
    settle_all(live)
    rows = live.ask(lambda tx: administration.audit(tx, id=id))["transitions"]
    assert [row["action"] for row in rows] == ["create", "expire"]


@pytest.mark.parametrize("end", ["acknowledge", "withdraw", "expire"])
def test_it_ends_though_its_message_is_purged(
    asleep: None, live: Embedded, agent: MakeAgent, clock: Clock, end: str
) -> None:
    """Where messages are kept for less time than it lasts."""
    live.space(space := fresh("brief"))
    live.ask(lambda tx: administration.space_update(tx, name=space, retention=1))
    assert live.relay is not None
    ann, bob = agent(space=space), agent(space=space)
    id = interrupt(ann, bob, "the build is red", expires_in=604_800)["id"]
    clock.ahead += 2 * DAY
    while purge_all(live.relay.store):
        pass
    assert bob.list_interrupts()["interrupts"][0]["reason"] == "the build is red"
    if end == "acknowledge":
        bob.acknowledge_interrupt(id)
    elif end == "withdraw":
        ann.withdraw_interrupt(id)
    else:
        clock.ahead += 6 * DAY
        settle_all(live)
    assert ann.get_interrupt(id)["history"][-1]["action"] == end
    assert (listed(bob), items(bob), len(items(ann))) == ([], [], int(end != "withdraw"))


# What is told, and kept


def test_the_two_are_told_by_events_and_nobody_else(agent: MakeAgent) -> None:
    ann, bob, eve = agent(), agent(), agent()
    position = eve.list_events()["position"]
    first, second = interrupt(ann, bob), interrupt(ann, bob)
    bob.acknowledge_interrupt(first["id"], note="yes")
    ann.withdraw_interrupt(second["id"])
    for client in (ann, bob):
        assert told(client, position, first["id"]) == [
            ("interrupt.created", ann.agent), ("interrupt.acknowledged", bob.agent),
        ]  # fmt: skip
        assert told(client, position, second["id"]) == [
            ("interrupt.created", ann.agent), ("interrupt.withdrawn", ann.agent),
        ]  # fmt: skip
    seen = [event for event in eve.list_events(since=position, limit=500)["events"] if event["actor"] != eve.agent]
    assert seen == []
    (event,) = bob.list_events(since=position, kind="interrupt.acknowledged")["events"]
    data = event["data"] or {}
    assert {name: data[name] for name in ("version", "action", "before", "after", "note")} == {
        "version": 2, "action": "acknowledge", "before": "pending", "after": "acknowledged", "note": "yes",
    }  # fmt: skip
    shown: dict[str, Any] = {**bob.get_interrupt(first["id"])["interrupt"]}
    del shown["seen_at"]
    assert data["interrupt"] == shown


def test_lists_of_interrupts(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    ids = [interrupt(ann, bob, f"number {number}")["id"] for number in range(2)]
    bob.acknowledge_interrupt(ids[0])
    ann.withdraw_interrupt(ids[1])
    ids += [interrupt(ann, bob, f"number {number}")["id"] for number in range(2, 7)]
    assert listed(bob) == ids[:1:-1]
    assert listed(ann, sent=True) == ids[::-1]
    assert listed(bob, state="acknowledged") == listed(ann, sent=True, state="acknowledged") == [ids[0]]
    for client, sent, wanted in ((bob, False, ids[:1:-1]), (ann, True, ids[::-1])):
        found: list[str] = []
        page = client.list_interrupts(sent=sent, limit=2)
        while page["has_more"]:
            found += [one["id"] for one in page["interrupts"]]
            page = client.list_interrupts(sent=sent, limit=2, cursor=page["next_cursor"])
        assert page["next_cursor"] is None
        assert [*found, *(one["id"] for one in page["interrupts"])] == wanted
    cursor = bob.list_interrupts(limit=2)["next_cursor"]
    with pytest.raises(BadRequest):
        bob.list_interrupts(limit=2, sent=True, cursor=cursor)


def test_history_says_who_did_what(live: Embedded, agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    id = interrupt(ann, bob)["id"]
    bob.acknowledge_interrupt(id, note="stopped")
    history = ann.get_interrupt(id)["history"]
    assert [(line["version"], line["action"], line["actor"], line["before"], line["note"]) for line in history] == [
        (1, "create", ann.agent, None, None),
        (2, "acknowledge", bob.agent, "pending", "stopped"),
    ]
    assert bob.get_interrupt(id)["history"] == history
    rows = live.ask(lambda tx: administration.audit(tx, id=id))["transitions"]
    assert [(row["action"], row["actor"], row["after"]) for row in rows] == [
        ("create", ann.agent, "pending"),
        ("acknowledge", bob.agent, "acknowledged"),
    ]


def test_the_clients_of_either_colour_interrupt(either: Any, agent: MakeAgent) -> None:
    ann = agent()
    sent = either("send_interrupt", ann.agent, "stop")["interrupt"]
    assert either("list_interrupts", sent=True)["interrupts"][0]["id"] == sent["id"]
    assert either("get_interrupt", sent["id"])["interrupt"]["state"] == "pending"
    assert either("withdraw_interrupt", sent["id"])["interrupt"]["state"] == "withdrawn"
    back = ann.send_interrupt(sent["sender"], "stop")["interrupt"]
    assert either("acknowledge_interrupt", back["id"])["interrupt"]["state"] == "acknowledged"


@pytest.mark.sqlite
def test_agents_that_share_a_directory_interrupt_each_other(tmp_path: Path, clock: Clock) -> None:
    url = f"local:{tmp_path / 'shared'}"
    with Client(url, agent="mac-ann") as ann, Client(url, agent="mac-bob") as bob:
        bob.check_inbox()
        first, second = interrupt(ann, bob), interrupt(ann, bob, "late", expires_in=60)
        assert [item["kind"] for item in bob.check_inbox()["items"]] == ["interrupt", "interrupt"]
        bob.acknowledge_interrupt(first["id"], note="yes")
        assert contents(ann) == ["Interrupt acknowledged: stop\n\nyes"]
        with pytest.raises(Conflict):
            ann.withdraw_interrupt(first["id"])
        clock.ahead += 61
        assert state(ann, second["id"]) == "expired"
        ann.send_message("general", "something stirs")
        until(lambda: len(items(ann)) == 2)


# Many at once


def at_once(pool: ThreadPoolExecutor, calls: list[Callable[[], Any]]) -> list[Any]:
    """Answers, or errors of ours, of calls that start together."""
    together = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        together.wait(30)
        try:
            return call()
        except AgentChatError as error:
            return error

    return list(pool.map(run, calls))


@pytest.fixture(scope="module")
def crowd() -> Iterator[tuple[Embedded, Clock, list[Client], list[Client], ThreadPoolExecutor]]:
    """A relay of these tests' own, whose clock is moved; four clients of one agent and four of another."""
    with pytest.MonkeyPatch.context() as patch, running(settings=UNLIMITED) as relay:
        clock = Clock(patch)
        keys = {name: relay.token(name) for name in ("ann", "bob")}
        anns, bobs = ([Client(relay.url, key, agent=name, retries=0) for _ in range(4)] for name, key in keys.items())
        with ThreadPoolExecutor(9) as pool:
            yield relay, clock, anns, bobs, pool
        for client in (*anns, *bobs):
            client.close()


@pytest.mark.parametrize("expires", [False, True], ids=["in-time", "expires"])
def test_one_of_many_ends_it(
    crowd: tuple[Embedded, Clock, list[Client], list[Client], ThreadPoolExecutor], expires: bool
) -> None:
    """Eight take it back and acknowledge it at once, while perhaps its time is over: it ends once."""
    relay, clock, anns, bobs, pool = crowd

    def expire() -> None:
        clock.ahead += 61
        settle_all(relay)

    ends: dict[str, str] = {"acknowledge": "acknowledged", "withdraw": "withdrawn", "expire": "expired"}
    for turn in range(10):
        position = anns[0].list_events()["position"]
        id = interrupt(anns[0], bobs[0], f"turn {turn}", expires_in=60)["id"]
        calls: list[Callable[[], Any]] = [
            *(partial(client.acknowledge_interrupt, id) for client in bobs),
            *(partial(client.withdraw_interrupt, id) for client in anns),
        ]
        answers = at_once(pool, [*calls, expire] if expires else calls)[:8]
        details = anns[0].get_interrupt(id)
        final, (_, line) = details["interrupt"], details["history"]
        assert [one["version"] for one in details["history"]] == [1, 2]
        assert final["state"] == ends[line["action"]] == line["after"]
        actors = {"acknowledge": "bob", "withdraw": "ann", "expire": None}
        assert line["actor"] == actors[line["action"]]
        for answer, mine in zip(answers, ["acknowledged"] * 4 + ["withdrawn"] * 4, strict=True):
            if isinstance(answer, AgentChatError):
                assert isinstance(answer, Conflict) and mine != final["state"], answer
                assert (answer.current or {})["state"] == final["state"]
            else:
                assert answer["interrupt"]["state"] == mine == final["state"]
                assert answer["interrupt"]["version"] == 2
        won = [answer for answer in answers if isinstance(answer, dict) and not answer["idempotent"]]
        assert len(won) == (final["state"] != "expired")
        kinds_told = [kind for kind, _ in told(bobs[0], position, id)]
        if final["state"] == "expired":  # of which the sender alone is told
            assert kinds_told == ["interrupt.created"]
            kinds_told = [kind for kind, _ in told(anns[0], position, id)]
        assert kinds_told == ["interrupt.created", f"interrupt.{final['state']}"]
        assert items(bobs[0]) == []
        about = [item["content"].split(":")[0] for item in anns[0].claim_items(limit=100, acknowledge=True)["items"]]
        wanted = {
            "acknowledged": ["Interrupt acknowledged"],
            "withdrawn": [],
            "expired": ["@bob did not acknowledge your interrupt in time"],
        }
        assert about == wanted[final["state"]]


def test_the_limit_holds_for_many_at_once(
    crowd: tuple[Embedded, Clock, list[Client], list[Client], ThreadPoolExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, anns, bobs, pool = crowd
    monkeypatch.setattr(interrupts, "_MOST_PENDING", 3)
    answers = at_once(pool, [partial(interrupt, client, bobs[0]) for client in (*anns, *anns)])
    assert sum(isinstance(answer, LimitReached) for answer in answers) == 5
    assert len(items(bobs[0])) == 3
    for id in listed(bobs[0]):
        bobs[0].acknowledge_interrupt(id)
