"""Groups, mail to many, and what became of what was sent."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from agentchat import Client
from agentchat.errors import AgentChatError, BadRequest, Conflict, Forbidden, LimitReached, NotFound
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.service import administration, groups, retention, retirement, upkeep
from tests.relay import database
from tests.relay.conftest import UNLIMITED, MakeAgent, fresh, until


def texts(found: Any) -> list[str]:
    return [item["content"].partition(" ")[2] for item in found["items"]]


def members(agent: MakeAgent, group: str, count: int) -> list[Client]:
    made = [agent() for _ in range(count)]
    for one in made:
        one.join_group(group)
    return made


# Joining and leaving


def test_join_and_leave(agent: MakeAgent) -> None:
    ann, bob, group = agent(), agent(), fresh("group")
    assert ann.join_group(group) == {"group": group, "joined": True, "members": 1, "idempotent": False}
    assert ann.join_group(group) == {"group": group, "joined": True, "members": 1, "idempotent": True}
    assert bob.join_group(group)["members"] == 2
    (listed,) = ann.list_groups(group=group)["groups"]
    assert listed == {"name": group, "members": 2, "joined": True, "agents": sorted([ann.agent or "", bob.agent or ""])}
    assert bob.leave_group(group) == {"group": group, "joined": False, "members": 1, "idempotent": False}
    assert bob.leave_group(group)["idempotent"] is True
    listed_all = {row["name"]: row for row in bob.list_groups()["groups"]}
    assert listed_all[group] == {"name": group, "members": 1, "joined": False}


def test_a_name_is_an_agents_or_a_groups(agent: MakeAgent, live: Embedded) -> None:
    ann, group = agent(), fresh("group")
    with pytest.raises(Conflict):
        ann.join_group(ann.agent or "")
    ann.join_group(group)
    with pytest.raises(Conflict):
        live.token(group)
    for reserved in ("here", "system"):
        with pytest.raises(Forbidden):
            ann.join_group(reserved)
    with pytest.raises(BadRequest):
        ann.join_group("all")
    with pytest.raises(BadRequest, match=r"^Everybody is in all.*find_agents"):
        ann.list_groups(group="all")
    for ask in (ann.leave_group, lambda group: ann.list_groups(group=group)):
        with pytest.raises(NotFound, match=rf"^There is no group {group[:-1]}\. Did you mean {group}\?$") as unknown:
            ask(group[:-1])
        assert unknown.value.near == [group]
        with pytest.raises(NotFound, match=r"^There is no group zzz\. list_groups lists them\.$"):
            ask("zzz")
    with pytest.raises(NotFound, match="There is no group"):
        ann.list_groups(group=ann.agent)
    assert group not in [row["name"] for row in ann.find_agents()["agents"]]
    assert ann.send_message("general", f"@{group} is no agent")["unmatched_mentions"] == [group]


def test_groups_are_bounded(agent: MakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    ann, bob, group = agent(), agent(), fresh("group")
    for _ in range(20):
        ann.join_group(fresh("group"))
    with pytest.raises(LimitReached):
        ann.join_group(fresh("group"))
    bob.join_group(group)
    monkeypatch.setattr(groups, "_MOST_JOINED", 20)
    with pytest.raises(Conflict):
        ann.join_group(group)
    monkeypatch.setattr(groups, "_MOST_JOINED", 21)
    monkeypatch.setattr(groups, "_MOST_MEMBERS", 1)
    with pytest.raises(Conflict):
        ann.join_group(group)


def test_who_is_counted_is_listed(agent: MakeAgent, live: Embedded) -> None:
    """A member that was retired or deactivated is in no list, and so in no number; it is still a member."""
    ann, group = agent(), fresh("group")
    bob, away, turned_off = members(agent, group, 3)
    _retire(live, away)
    live.ask(lambda tx: administration.agent_deactivate(tx, name=turned_off.agent or ""))

    def shown() -> tuple[int, list[str]]:
        (listed,) = ann.list_groups(group=group)["groups"]
        assert [row["members"] for row in ann.list_groups()["groups"] if row["name"] == group] == [listed["members"]]
        return listed["members"], listed["agents"]

    assert shown() == (1, [bob.agent])
    assert bob.join_group(group)["members"] == 1
    live.ask(lambda tx: administration.agent_update(tx, name=turned_off.agent or "", active=True))
    live.ask(lambda tx: tx.run("unretire_agent", id=tx.the("agent_by_name", space_id=1, name=away.agent)["id"]))
    assert shown() == (3, sorted(one.agent or "" for one in (bob, away, turned_off)))


def test_an_operator_deletes_a_group(agent: MakeAgent, live: Embedded) -> None:
    ann, group = agent(), fresh("group")
    ann.join_group(group)
    for call in (
        lambda tx: administration.agent_grant(tx, name=group, role="admin"),
        lambda tx: administration.agent_deactivate(tx, name=group),
    ):
        with pytest.raises(Conflict):
            live.ask(call)
    live.ask(lambda tx: administration.agent_delete(tx, name=group))
    assert ann.list_groups()["groups"] == [row for row in ann.list_groups()["groups"] if row["name"] != group]
    live.token(group)


def test_all_cannot_be_deleted(agent: MakeAgent, live: Embedded) -> None:
    ann, _ = agent(), agent()
    ann.send_direct_message("all", "hear")
    with pytest.raises(Conflict, match="everybody in the space"):
        live.ask(lambda tx: administration.agent_delete(tx, name="all"))


def test_a_group_that_is_deleted_is_told_first(
    agent: MakeAgent, live: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so is a member that is: what it was to get comes back."""
    for size in ("_AT_ONCE", "_PORTION"):
        monkeypatch.setattr(groups, size, 2)
    fan_out, held = groups.fan_out, True
    monkeypatch.setattr(groups, "fan_out", lambda tx: 0 if held else fan_out(tx))
    ann, large, other = agent(), fresh("group"), fresh("group")
    crowd = members(agent, large, 7)
    for one in crowd[:3]:
        one.join_group(other)
    sent = ann.send_to_many([other, large], "hello")
    again = ann.send_direct_message(large, "again")["message"]
    assert sent["pending"] is True
    hello = sent["messages"][1]
    grave = live.ask(lambda tx: administration.agent_delete(tx, name=crowd[6].agent or ""))["messages_now_by"]
    returned = [(item["kind"], item["message_id"]) for item in ann.check_inbox()["items"]]
    assert returned == [("returned", hello["id"]), ("returned", again["id"])]
    held = False
    live.ask(lambda tx: administration.agent_delete(tx, name=large))
    assert [texts(one.check_inbox()) for one in crowd[:6]] == [["hello", "again"]] * 6
    assert [row["pending"] for row in ann.list_sent()["messages"]] == [False] * 3
    told = [row["agent_name"] for row in ann.get_receipts(hello["id"])["receipts"]]
    assert sorted(told) == sorted([grave, *(one.agent or "" for one in crowd[3:6])])


# Mail


def test_a_message_to_a_group_reaches_who_is_in_it(agent: MakeAgent) -> None:
    ann, outsider, group = agent(), agent(), fresh("group")
    bob, cleo = members(agent, group, 2)
    ann.join_group(group)
    sent = ann.send_direct_message(group, "hello", urgent=True)["message"]
    assert (sent["content"], sent["channel_name"]) == (f"@{group} hello", "direct-messages")
    for one in (bob, cleo):
        (item,) = one.check_inbox()["items"]
        assert (item["kind"], item["urgent"], item["message_id"]) == ("group", True, sent["id"])
        assert one.get_message(sent["id"])["message"]["content"] == f"@{group} hello"
        assert [row["id"] for row in one.read_messages("direct-messages")["messages"]] == [sent["id"]]
    assert ann.check_inbox()["items"] == [], "nobody writes to oneself"
    assert outsider.check_inbox()["items"] == []
    with pytest.raises(NotFound):
        outsider.get_message(sent["id"])
    assert outsider.read_messages("direct-messages")["messages"] == []


def test_newcomers_get_what_comes_after_them(agent: MakeAgent) -> None:
    ann, group = agent(), fresh("group")
    bob, left = members(agent, group, 2)
    word = fresh("wombat")
    before = ann.send_direct_message(group, f"before {word}")["message"]
    left.leave_group(group)
    (new,) = members(agent, group, 1)
    ann.send_direct_message(group, f"after {word}")
    assert texts(bob.check_inbox()) == [f"before {word}", f"after {word}"]
    assert texts(new.check_inbox()) == [f"after {word}"]
    assert texts(left.check_inbox()) == [f"before {word}"]
    with pytest.raises(NotFound):
        new.get_message(before["id"])
    assert left.get_message(before["id"])["message"]["id"] == before["id"]

    def found(client: Client) -> list[str]:
        return sorted(hit["content"].split()[1] for hit in client.search_messages(word)["results"])

    assert found(bob) == found(ann) == ["after", "before"]
    assert found(new) == ["after"]
    assert found(agent()) == []


def test_mail_to_nobody_is_refused(agent: MakeAgent) -> None:
    ann, group = agent(), fresh("group")
    ann.join_group(group)
    with pytest.raises(Conflict):
        ann.send_direct_message(group, "is anybody there?")
    with pytest.raises(NotFound) as unknown:
        ann.send_direct_message(group[:-1], "x")
    assert unknown.value.near == [group]
    assert ann.list_sent()["messages"] == []


def test_all_is_everybody_in_the_space(agent: MakeAgent, live: Embedded) -> None:
    live.space(space := fresh("space"))
    stranger = agent()
    ann, bob, cleo = (agent(fresh(), space=space) for _ in range(3))
    sent = ann.send_direct_message("all", "hear")["message"]
    assert texts(bob.check_inbox()) == texts(cleo.check_inbox()) == ["hear"]
    assert [hit["id"] for hit in bob.search_messages("hear")["results"]] == [sent["id"]]
    assert stranger.check_inbox()["items"] == []
    late = agent(fresh(), space=space)
    assert late.check_inbox()["items"] == late.search_messages("hear")["results"] == []
    assert late.list_groups()["groups"] == []
    with pytest.raises(NotFound):
        late.get_message(sent["id"])
    with pytest.raises(Conflict):
        live.space(lonely := fresh("space"))
        agent(fresh(), space=lonely).send_direct_message("all", "hello?")


def test_a_large_group_is_told_in_portions() -> None:
    """More members than one transaction tells: nobody is left out, nobody told twice, and the answer says so."""
    with running(settings=UNLIMITED) as relay:
        ann = Client(relay.url, relay.token("mac-ann"), retries=0)
        crowd = [relay.token(f"mac-{number}") for number in range(3)]
        many = relay.ask(lambda tx: [_member(tx, number) for number in range(450)])
        for key in crowd:
            Client(relay.url, key, retries=0).join_group("crowd")
        relay.ask(lambda tx: [_join(tx, id) for id in many])
        sent = ann.send_direct_message("crowd", "hello")
        assert sent["pending"] is True
        until(lambda: not ann.list_sent()["messages"][0]["pending"])
        assert ann.list_sent()["messages"][0]["states"] == {"stored": 453}
        assert len({row["agent_name"] for row in ann.get_receipts(sent["message"]["id"])["receipts"]}) == 453
        assert texts(Client(relay.url, crowd[0], retries=0).check_inbox()) == ["hello"]
        # A relay that ended in the middle goes on at its next start; who came later is not told.
        relay.ask(
            lambda tx: tx.run(
                "insert_fan_out", message_id=_newest(tx), after_id=10**9, urgent=0, expires_at=None, scope=""
            )
        )
        late = Client(relay.url, relay.token("mac-late"), retries=0)
        late.join_group("crowd")
        while relay.ask(groups.fan_out):
            pass
        assert relay.ask(lambda tx: upkeep.sweep(tx, tx.now)) == 0
        assert late.check_inbox()["items"] == []
        assert ann.list_sent()["messages"][0]["states"] == {"claimed": 1, "stored": 452}


def _member(tx: Any, number: int) -> int:
    return int(
        tx.run(
            "insert_agent", public_id=f"p{number}", space_id=1, name=f"zz-{number}", machine_id=None, kind="agent",
            key_hash=None, created_at=tx.now,
        )
    )  # fmt: skip


def _join(tx: Any, id: int) -> None:
    group = tx.the("agent_by_name", space_id=1, name="crowd")["id"]
    tx.run("insert_member", group_id=group, agent_id=id, joined_at=tx.now)


def _newest(tx: Any) -> int:
    return int(tx.all("page_before", channel_id=3, at=1 << 62, limit=1)[0]["id"])


# Answers


def test_an_answer_to_a_group_is_told_from_other_mail(agent: MakeAgent) -> None:
    ann, group = agent(), fresh("group")
    bob, cleo = members(agent, group, 2)
    ann.join_group(group)
    asked = ann.send_direct_message(group, "who?")["message"]
    cleo.send_direct_message(ann.agent or "", "something else")
    assert ann.wait_for_reply(asked["id"], wait=0)["message"] is None
    answer = bob.send_direct_message(ann.agent or "", "me", parent_message_id=asked["id"])["message"]
    assert answer["parent_message_id"] == asked["id"]
    found = ann.wait_for_reply(asked["id"], wait=0)["message"]
    assert found is not None and found["id"] == answer["id"]
    with pytest.raises(NotFound):
        cleo.send_direct_message(group, "no, me", parent_message_id=answer["id"])
    again = cleo.send_direct_message(group, "no, me", parent_message_id=asked["id"])["message"]
    assert [row["id"] for row in ann.read_thread(asked["id"])["messages"]] == [asked["id"], answer["id"], again["id"]]
    assert [row["id"] for row in cleo.read_thread(asked["id"])["messages"]] == [asked["id"], again["id"]], (
        "what bob wrote to ann alone is not for cleo"
    )


def test_an_answer_goes_where_the_message_was(agent: MakeAgent) -> None:
    ann, bob, cleo = agent(), agent(), agent()
    private = ann.send_direct_message(bob.agent or "", "x")["message"]
    public = ann.send_message("general", "x")["message"]
    for who, to, parent in (
        (bob, cleo, private), (cleo, ann, private), (bob, ann, public),
    ):  # fmt: skip
        with pytest.raises(AgentChatError) as refused:
            who.send_direct_message(to.agent or "", "y", parent_message_id=parent["id"])
        assert refused.value.code == ("not_found" if who is cleo else "bad_request")
    with pytest.raises(BadRequest):
        bob.send_message("general", "y", parent_message_id=private["id"])
    assert bob.send_direct_message(ann.agent or "", "y", parent_message_id=private["id"])
    assert ann.send_direct_message(bob.agent or "", "and", parent_message_id=private["id"])


# Several recipients


def test_several_recipients_get_one_each_or_none(agent: MakeAgent) -> None:
    ann, dan, group = agent(), agent(), fresh("group")
    bob, cleo = members(agent, group, 2)
    with pytest.raises(NotFound):
        ann.send_to_many([bob.agent or "", "nobody-here"], "hello")
    assert bob.peek_inbox()["items"] == []
    key = fresh("key")
    keyed = ann.with_options(idempotency_key=key)
    names = [group, dan.agent or "", bob.agent or "", dan.agent or ""]
    sent = keyed.send_to_many(names, "hello")
    assert [row["content"].split()[0] for row in sent["messages"]] == [f"@{dan.agent}", f"@{bob.agent}", f"@{group}"]
    assert [item["kind"] for item in bob.check_inbox()["items"]] == ["direct"], "who is named is told once"
    assert [item["kind"] for item in cleo.check_inbox()["items"]] == ["group"]
    assert texts(dan.check_inbox()) == ["hello"]
    assert keyed.send_to_many(names, "hello") == sent
    with pytest.raises(Conflict) as mismatch:
        keyed.send_to_many(names, "other")
    assert mismatch.value.code == "idempotency_mismatch"
    assert len(ann.list_sent()["messages"]) == 3


def test_of_several_groups_everybody_is_told_once_however_large_they_are(
    agent: MakeAgent, live: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of large groups as well, which are told after the answer; until then a repeat says so, too."""
    monkeypatch.setattr(groups, "_AT_ONCE", 2)
    monkeypatch.setattr(groups, "_PORTION", 2)
    fan_out = groups.fan_out
    monkeypatch.setattr(groups, "fan_out", lambda tx: 0)
    ann, large, other, small = agent(), fresh("group"), fresh("group"), fresh("group")
    named, *crowd = members(agent, large, 6)
    others = [*crowd[3:], *members(agent, other, 2)]
    for one in crowd[3:]:
        one.join_group(other)
    crowd[4].join_group(small)
    keyed, names = ann.with_options(idempotency_key=fresh("key")), [small, large, other, named.agent or ""]
    sent = keyed.send_to_many(names, "hello")
    assert sent["pending"] is True
    assert keyed.send_to_many(names, "hello") == sent
    assert [row["pending"] for row in ann.list_sent()["messages"]] == [True, True, False, False]
    while live.ask(fan_out):
        pass
    assert [(one.agent, texts(one.peek_inbox())) for one in {*crowd, *others, named}] == [
        (one.agent, ["hello"]) for one in {*crowd, *others, named}
    ]
    assert [item["kind"] for item in named.peek_inbox()["items"]] == ["direct"]
    assert "pending" not in keyed.send_to_many(names, "hello")
    alone = ann.with_options(idempotency_key=fresh("key"))
    assert alone.send_direct_message(large, "again") == alone.send_direct_message(large, "again")
    assert alone.send_direct_message(large, "again")["pending"] is True
    while live.ask(fan_out):
        pass
    assert "pending" not in alone.send_direct_message(large, "again")
    assert texts(named.peek_inbox()) == ["hello", "again"]


FanOut = Callable[[], int]


@pytest.fixture
def fan_out(live: Embedded, monkeypatch: pytest.MonkeyPatch) -> FanOut:
    """Every group is a large one, and is told a portion of two only when a test says so; how many that were."""
    portion = groups.fan_out
    monkeypatch.setattr(groups, "_AT_ONCE", 1)
    monkeypatch.setattr(groups, "_PORTION", 2)
    monkeypatch.setattr(groups, "fan_out", lambda tx: 0)
    return lambda: live.ask(portion)


def read_on(client: Client, cursor: str | None) -> tuple[list[str], str | None]:
    """What there is after a cursor, a message at a time, and the cursor then."""
    found: list[str] = []
    while (page := client.read_messages("direct-messages", limit=1, cursor=cursor))["messages"]:
        found += [message["content"].partition(" ")[2] for message in page["messages"]]
        cursor = page["next_cursor"]
    return found, page["next_cursor"]


@pytest.mark.parametrize("is_everybody", [False, True])
@pytest.mark.parametrize("portions", [0, 1, 2])
def test_a_cursor_skips_nothing_of_a_group_that_is_told_in_portions(
    agent: MakeAgent, live: Embedded, fan_out: FanOut, portions: int, is_everybody: bool
) -> None:
    """Whoever has read something newer before it was told would find the message behind its cursor."""
    name, space = ("all", fresh("space")) if is_everybody else (fresh("group"), "main")
    if is_everybody:
        live.space(space)
    ann, *crowd = (agent(fresh(), space=space) for _ in range(6))
    for one in crowd if not is_everybody else []:
        one.join_group(name)
    late = agent(fresh(), space=space)
    for one in crowd:
        ann.send_direct_message(one.agent or "", "first")
    cursors = [read_on(one, None)[1] for one in crowd]
    sent = ann.send_direct_message(name, "to many", scope="thread:7", urgent=True)
    assert sent["pending"] is True
    for _ in range(portions):
        assert fan_out() == 2
    if not is_everybody:
        late.join_group(name)
    for one in crowd:
        ann.send_direct_message(one.agent or "", "later")
    halfway = [read_on(one, cursor) for one, cursor in zip(crowd, cursors, strict=True)]
    assert [found for found, _ in halfway] == [["to many", "later"]] * 5
    assert ann.list_sent(limit=1)["messages"][0]["to"] == crowd[-1].agent
    while fan_out():
        pass
    assert [read_on(one, cursor)[0] for one, (_, cursor) in zip(crowd, halfway, strict=True)] == [[]] * 5
    assert [read_on(one, None)[0] for one in crowd] == [["later"]] * 5, "the newest page, a message long"
    receipts = ann.get_receipts(sent["message"]["id"])["receipts"]
    told = sorted(one.agent or "" for one in [*crowd, *([late] if is_everybody else [])])
    assert sorted(row["agent_name"] for row in receipts) == told
    assert {row.get("scope") for row in receipts} == {"thread:7"}
    assert [row["pending"] for row in ann.list_sent()["messages"]] == [False] * 11
    assert live.ask(lambda tx: tx.one("next_fan_out")) is None


def test_who_leaves_before_its_turn_keeps_the_message(agent: MakeAgent, fan_out: FanOut) -> None:
    ann, group = agent(), fresh("group")
    bob, cleo, dan = members(agent, group, 3)
    sent = ann.send_direct_message(group, "hello")["message"]
    for one in (cleo, dan):
        one.leave_group(group)
        assert texts(one.peek_inbox()) == ["hello"]
    dan.join_group(group)
    while fan_out():
        pass
    assert [texts(one.peek_inbox()) for one in (bob, cleo, dan)] == [["hello"]] * 3
    assert ann.list_sent()["messages"][0]["states"] == {"stored": 3}
    assert cleo.get_message(sent["id"])["message"]["id"] == sent["id"]


def test_who_reads_before_its_turn_is_told_of_several_groups_once(agent: MakeAgent, fan_out: FanOut) -> None:
    ann, one, other = agent(), fresh("group"), fresh("group")
    bob, cleo = members(agent, one, 2)
    named, dan = members(agent, other, 2)
    for both in (bob, cleo, named):
        both.join_group(one)
        both.join_group(other)
    ann.send_to_many([one, other, named.agent or ""], "hello")
    assert read_on(bob, None)[0] == ["hello"]
    assert read_on(named, None)[0] == ["hello"]
    while fan_out():
        pass
    assert [texts(agent.peek_inbox()) for agent in (bob, cleo, named, dan)] == [["hello"]] * 4
    assert [item["kind"] for item in named.peek_inbox()["items"]] == ["direct"]
    assert read_on(bob, None)[0] == ["hello"]


def test_a_thread_skips_no_answer_to_a_group_that_is_told_in_portions(agent: MakeAgent, fan_out: FanOut) -> None:
    ann, group = agent(), fresh("group")
    bob, cleo = members(agent, group, 2)
    ann.join_group(group)
    asked = ann.send_direct_message(group, "who?")["message"]
    while fan_out():
        pass
    first = bob.send_direct_message(group, "me", parent_message_id=asked["id"])["message"]
    later = cleo.send_direct_message(ann.agent or "", "or me", parent_message_id=asked["id"])["message"]
    page = cleo.read_thread(asked["id"])
    assert [row["id"] for row in page["messages"]] == [asked["id"], first["id"], later["id"]]
    while fan_out():
        pass
    assert cleo.read_thread(asked["id"], cursor=page["next_cursor"])["messages"] == []


def test_who_was_retired_or_deactivated_before_its_turn(agent: MakeAgent, live: Embedded, fan_out: FanOut) -> None:
    """Who was retired since the send gets it as a dead letter, and its author learns of that. Who was away at the send
    gets nothing."""
    ann, group = agent(), fresh("group")
    retired, before, turned_off, bob = members(agent, group, 4)
    _retire(live, before)
    ann.send_direct_message(group, "hello")
    _retire(live, retired)
    live.ask(lambda tx: administration.agent_deactivate(tx, name=turned_off.agent or ""))
    while fan_out():
        pass
    while live.ask(lambda tx: retirement.give_back(tx, tx.now)):
        pass
    assert ann.list_sent()["messages"][0]["states"] == {"dead": 1, "stored": 1}
    (item,) = ann.peek_inbox()["items"]
    assert (item["kind"], item["undelivered_to"]) == ("returned", [retired.agent])
    live.ask(lambda tx: administration.agent_update(tx, name=turned_off.agent or "", active=True))
    assert [read_on(one, None)[0] for one in (retired, before, turned_off, bob)] == [["hello"], [], [], ["hello"]]


def _retire(live: Embedded, client: Client) -> None:
    def retire(tx: Any) -> None:
        tx.run("retire_agent", id=tx.the("agent_by_name", space_id=1, name=client.agent)["id"], now=tx.now)
        tx.forget()

    live.ask(retire)


@pytest.mark.sqlite
def test_reading_costs_no_more_the_more_was_ever_said(live: Embedded) -> None:
    """What is still to be told is looked for from the few messages that are not told to everybody."""
    plan = live.ask(lambda tx: _plan(tx, "untold", agent_id=1))
    assert plan[0] == "SCAN f"
    assert {step for step in plan if step.startswith("SCAN")} == {"SCAN f"}
    for name in ("members", "everybody"):
        plan = live.ask(
            partial(_plan, name=name, group_id=1, space_id=1, after=0, until=0, author_id=1, first_id=1, limit=1)
        )
        assert [step for step in plan if "inbox" in step] == [
            "SEARCH i USING COVERING INDEX inbox_by_message (agent_id=? AND message_id=?)"
        ]


def _plan(tx: Any, name: str, **values: Any) -> list[str]:
    found = tx._statements[name]
    return [str(row[3]) for row in tx._execute(f"EXPLAIN QUERY PLAN {found.sql}", found.bind(values))]


def test_what_a_large_group_was_not_told_before_it_had_its_time_is_told_to_nobody(
    agent: MakeAgent, live: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "_AT_ONCE", 1)
    fan_out = groups.fan_out
    monkeypatch.setattr(groups, "fan_out", lambda tx: 0)
    live.space(space := fresh("space"))
    live.ask(lambda tx: administration.space_update(tx, name=space, retention=1))
    ann, *others = (agent(fresh(), space=space) for _ in range(3))
    ann.send_direct_message("all", "hello")

    def purge(tx: Any) -> int:
        at = tx.now + 2 * retention.DAY
        space_id = tx.the("space_by_name", name=space)["id"]
        channel_id = tx.the("channel_by_name", space_id=space_id, name="direct-messages")["id"]
        return retention.purge(tx, channel_id, at)

    assert live.ask(purge) == 1
    assert database.ask(live, "SELECT * FROM fan_outs") == []
    assert live.ask(fan_out) == 0
    assert [one.peek_inbox()["items"] for one in others] == [[], []]


def test_the_sent_mailbox(agent: MakeAgent) -> None:
    ann, bob, group = agent(), agent(), fresh("group")
    members(agent, group, 2)
    for number in range(5):
        ann.send_direct_message(bob.agent or "", str(number))
    ann.send_direct_message(group, "all of you")
    ann.send_message("general", "not mail")
    claim = bob.claim_items(limit=2)
    bob.acknowledge_items(claim["claim_id"] or "", item_ids=[claim["items"][0]["item_id"]])
    page = ann.list_sent(limit=4)
    assert [(row["to"], row["is_group"], row["states"]) for row in page["messages"]] == [
        (group, True, {"stored": 2}), (bob.agent, False, {"stored": 1}), (bob.agent, False, {"stored": 1}),
        (bob.agent, False, {"stored": 1}),
    ]  # fmt: skip
    rest = ann.list_sent(limit=4, cursor=page["next_cursor"])
    assert [row["states"] for row in rest["messages"]] == [{"claimed": 1}, {"acknowledged": 1}]
    assert (rest["has_more"], rest["next_cursor"]) == (False, None)
    assert bob.list_sent()["messages"] == []
    with pytest.raises(BadRequest):
        bob.list_sent(cursor=page["next_cursor"])


def test_events_of_groups(agent: MakeAgent) -> None:
    ann, group = agent(), fresh("group")
    since = ann.get_briefing()["position"]
    (bob,) = members(agent, group, 1)
    bob.leave_group(group)
    told = [
        (event["kind"], event["actor"], event["data"]) for event in ann.list_events(since=since, kind="group")["events"]
    ]
    assert told == [("group.joined", bob.agent, {"group": group}), ("group.left", bob.agent, {"group": group})]
    cleo, dan = members(agent, group, 2)
    since = ann.get_briefing()["position"]
    ann.send_direct_message(group, "psst")
    assert "psst" not in str(bob.list_events(since=since))
    (event,) = [event for event in cleo.list_events(since=since)["events"] if event["kind"].startswith("inbox")]
    assert event["data"] is not None and event["data"]["item"]["content"] == f"@{group} psst"
    assert dan.agent


# The clients


def test_a_client_joins_its_groups_with_the_first_call(live: Embedded) -> None:
    one, two = fresh("group"), fresh("group")
    name = fresh()
    client = Client(live.url, live.token(name), agent=name, groups=[one, two], retries=0)
    with client:
        assert client.with_options(retries=1).check_board()
        joined = {row["name"] for row in client.list_groups()["groups"] if row["joined"]}
        assert joined == {one, two}
        client.leave_group(one)
        assert {row["name"] for row in client.list_groups()["groups"] if row["joined"]} == {two}


def test_a_group_that_cannot_be_joined_names_the_setting(live: Embedded, agent: MakeAgent) -> None:
    ann = agent()
    for group, kind, says in (
        ("all", BadRequest, "Everybody is in all"),
        (ann.agent or "", Conflict, "is an agent"),
        ("system", Forbidden, "is reserved"),
    ):
        name = fresh()
        with Client(live.url, live.token(name), agent=name, groups=[group], retries=0) as client:
            for ask in (client.check_board, partial(next, client.events())):
                with pytest.raises(kind) as refused:
                    ask()
                assert str(refused.value) == refused.value.message
                assert f"Joining '{group}' of AGENTCHAT_GROUPS (or groups=) was refused: " in str(refused.value)
                assert says in str(refused.value)
