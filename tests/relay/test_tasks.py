"""Tasks over the wire: who is told of what, what is refused, and what becomes of it by itself."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from agentchat import Client, types
from agentchat.contract import OPERATIONS
from agentchat.errors import BadRequest, Conflict, Forbidden, InvalidArguments, NotFound, TooLarge
from agentchat.text import render
from agentchat_relay.embedded import Embedded
from agentchat_relay.service import administration
from agentchat_relay.service.work import looking, recent, tasks
from agentchat_relay.store.seam import Lane
from agentchat_relay.store.statements import statements

from .conftest import Clock, MakeAgent, fresh, raw, settle_all, until


def items(client: Client) -> list[types.InboxItem]:
    return client.peek_inbox(limit=100)["items"]


def contents(client: Client) -> list[str]:
    return [item["content"] for item in items(client)]


# Handing over


def test_a_hand_off_reaches_who_is_asked_and_its_result_who_asked(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    task = ann.create_task("count the beans", target_agent=bob.agent, body="all of them", urgent=True)["task"]
    (item,) = items(bob)
    assert (item["kind"], item["urgent"], item["message_id"]) == ("task", True, task["message_id"])
    assert item["work"] == {"id": task["id"], "kind": "task", "state": "open"}
    assert item["content"] == "Task for you: count the beans\n\nall of them"
    assert bob.check_work()["offered_to_me"][0]["id"] == task["id"]
    claimed = bob.claim_task(task["id"], lease=60)["task"]
    assert (claimed["state"], claimed["fence"], claimed["claimant"]) == ("claimed", 1, bob.agent)
    assert items(bob) == [], "who has it needs no reminder"
    done = bob.complete_task(task["id"], "42 beans", fence=1)["task"]
    assert (done["status"], done["state"], done["result"]) == ("done", "done", "42 beans")
    (item,) = items(ann)
    assert (item["kind"], item["from"], item["content"]) == (
        "task",
        bob.agent,
        "Task done: count the beans\n\n42 beans",
    )
    answer = ann.get_message(done["result_message_id"] or "")["message"]
    assert answer["parent_message_id"] == task["message_id"]
    assert answer["kind"] == "system"
    assert ann.check_work()["completed_for_me"][0]["result"] == "42 beans"
    assert ann.list_sent()["messages"] == [], "what the relay wrote in her name is not her mail"


def test_an_answer_to_a_move_is_what_one_sees(agent: MakeAgent, live: Embedded) -> None:
    """Though the writer remembers what it moved last: how long a context is, whose turn it is, who is gone by now."""
    ann, bob, eve = agent(), agent(), agent()
    id = ann.create_task("count", target_agent=bob.agent, context="a, b, c")["task"]["id"]

    def check(answer: types.TaskChange) -> types.Task:
        assert answer["task"] == ann.get_task(id)["task"]
        return answer["task"]

    assert check(bob.claim_task(id))["context_size"] == 7
    check(bob.renew_task(id, lease=60))
    check(bob.report_progress(id, "on it"))
    check(bob.return_task(id, reason="no time"))
    check(ann.offer_task(id, eve.agent or ""))
    check(eve.claim_task(id))
    live.ask(lambda tx: administration.agent_delete(tx, name=eve.agent or ""))
    assert check(ann.cancel_task(id))["target"] not in (eve.agent, None)


def test_what_the_writer_remembers_is_little(
    agent: MakeAgent, live: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    assert live.relay is not None
    monkeypatch.setattr(recent, "_MOST", 3)
    ann, channel = agent(), fresh("work")

    def known() -> list[str]:
        return live.ask(lambda tx: [*tx.tallies.get("work", ())])

    def make(body: str) -> str:
        return ann.create_task("count", channel=channel, body=body)["task"]["id"]

    ids = [make("beans") for _ in range(3)]
    assert known() == ids
    ann.claim_task(ids[0])
    large = make("b" * 4001)
    assert known() == [ids[1], ids[2], ids[0]], "what was moved last comes last, what is large not at all"
    newest = make("beans")
    assert known() == [ids[2], ids[0], newest]
    ann.complete_task(ids[0], "42")
    ann.cancel_task(newest)
    assert known() == [ids[2]], "what has ended may be deleted"
    assert ann.claim_task(large)["task"]["body"] == "b" * 4001
    live.ask(lambda tx: tx.forget())
    assert known() == []


def test_who_waits_for_a_reply_to_the_offer_gets_the_result(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    task = ann.create_task("count", target_agent=bob.agent)["task"]
    bob.claim_task(task["id"])
    bob.complete_task(task["id"], "7")
    found = ann.wait_for_reply(task["message_id"] or "", wait=0)["message"]
    assert found is not None and found["content"].endswith("7")


@pytest.mark.parametrize("max_chars", [2000, 20_000])
def test_the_longest_result_is_told_whole_and_read_to_its_end(agent: MakeAgent, max_chars: int) -> None:
    """By a model, which sees its begin with the task, and where the rest is."""
    ann, bob = agent(), agent()
    id = ann.create_task("count", target_agent=bob.agent)["task"]["id"]
    bob.claim_task(id)
    result = "".join(f"{number}\n" for number in range(10_000))[:32_000]
    bob.complete_task(id, result)
    assert contents(ann) == [f"Task done: count\n\n{result}"]
    assert ann.get_task(id)["task"]["result"] == result

    def shown(name: str, data: Any) -> str:
        return render(OPERATIONS[name], data, max_chars=max_chars, reachable=OPERATIONS)

    page = shown("get_task", ann.get_task(id))
    whole = [_theirs(page.partition("\nIts result:\n")[2])]
    while rest := re.search(r"(?m)^\(cut .*; the rest: get_message message_id=(\S+) offset=(\d+)\)$", page):
        page = shown("get_message", ann.get_message(rest[1], offset=int(rest[2])))
        whole.append(_theirs(page))
    assert "".join(whole) == result


def _theirs(shown: str) -> str:
    """The first text of others in it."""
    found = re.search(r"(?m)(^\| .*\n?)+", shown)
    assert found is not None
    return "\n".join(line[2:] for line in found[0].removesuffix("\n").split("\n"))


def test_what_is_waited_for_is_what_comes_of_this_task(agent: MakeAgent) -> None:
    ann, bob, cy = agent(), agent(), agent()
    first, second = (ann.create_task(title, target_agent=bob.agent)["task"] for title in ("sow", "reap"))
    bob.claim_task(second["id"])
    bob.complete_task(second["id"], "reaped")
    bob.send_direct_message(ann.agent or "", "of something else")

    def came(task: types.Task, since: int | None = None) -> tuple[str | None, int]:
        found = ann.wait_for_reply(task["message_id"] or "", wait=0, since=since)
        return found["message"] and found["message"]["content"], found["position"]

    assert came(second)[0] == "Task done: reap\n\nreaped"
    nothing, position = came(first)
    assert nothing is None
    bob.decline_task(first["id"], "no time")
    assert came(first)[0] == came(first, position)[0] == "Task declined: sow\n\nno time"
    ann.offer_task(first["id"], cy.agent or "")
    assert came(first)[0] is None, "it is with somebody else now"
    cy.claim_task(first["id"])
    cy.send_direct_message(ann.agent or "", "of something else")
    cy.return_task(first["id"], reason="later")
    assert came(first)[0] is None, "it is open again"
    cy.claim_task(first["id"])
    cy.complete_task(first["id"], "sown")
    assert came(first)[0] == "Task done: sow\n\nsown"


def test_who_waits_for_what_comes_of_a_task_learns_that_its_time_is_over(
    asleep: None, live: Embedded, agent: MakeAgent, clock: Clock
) -> None:
    ann, bob = agent(), agent()
    for where in ({"target_agent": bob.agent or ""}, {"channel": fresh("work")}):
        task = ann.create_task("sow", deadline_in=60, **where)["task"]
        clock.ahead += 61
        settle_all(live)
        found = ann.wait_for_reply(task["message_id"] or "", wait=0)["message"]
        assert found is not None and found["content"] == "Task expired: sow"


def test_a_declined_task_can_go_to_somebody_else(agent: MakeAgent) -> None:
    ann, bob, cy = agent(), agent(), agent()
    id = ann.create_task("count", target_agent=bob.agent)["task"]["id"]
    with pytest.raises(InvalidArguments, match="reason"):
        bob.decline_task(id, " ")
    assert bob.decline_task(id, "no time")["task"]["reason"] == "no time"
    assert items(bob) == []
    assert contents(ann) == ["Task declined: count\n\nno time"]
    assert [task["id"] for task in ann.check_work()["declined_for_me"]] == [id]
    ann.offer_task(id, cy.agent or "")
    assert [item["work"]["state"] for item in items(cy)] == ["open"]
    with pytest.raises(NotFound):
        bob.claim_task(id)
    assert cy.claim_task(id)["task"]["state"] == "claimed"


def test_what_is_offered_in_a_channel_is_announced_there(agent: MakeAgent) -> None:
    ann, bob, cy, channel = agent(), agent(), agent(), fresh("work")
    for client, tags in ((bob, ["count"]), (cy, ["count", "sing"])):
        client.set_card(capabilities=tags)
    task = ann.create_task("beans @everybody", channel=channel, capability_tags=["count", "dance"])["task"]
    (post,) = bob.read_messages(channel)["messages"]
    assert post["content"] == "Task: beans @everybody (takes count, dance)"
    assert post["metadata"] == {"task_id": task["id"], "task_event": "created"}
    assert [len(items(client)) for client in (bob, cy)] == [1, 1], "who says that it can do it is told"
    assert [found["id"] for found in bob.check_work()["open_matching"] if found["channel"] == channel] == [task["id"]]
    cy.claim_task(task["id"])
    assert items(bob) == [], "nobody else needs to look at it any more"
    ends = [receipt["state"] for receipt in ann.get_receipts(task["message_id"] or "")["receipts"]]
    assert sorted(ends) == ["acknowledged", "expired"]
    assert [found for found in bob.check_work()["open_matching"] if found["channel"] == channel] == []
    cy.complete_task(task["id"], "42")
    assert [post["content"] for post in bob.read_messages(channel)["messages"]][1:] == [
        "Task done: beans @everybody\n\n42"
    ]


def test_what_is_between_two_agents_is_nobody_elses(agent: MakeAgent) -> None:
    ann, bob, eve = agent(), agent(), agent()
    id = ann.create_task("a secret", target_agent=bob.agent, context="very")["task"]["id"]
    position = eve.list_events()["position"]
    bob.claim_task(id)
    bob.complete_task(id, "done")
    for ask in (eve.get_task, eve.read_task_context, eve.claim_task, eve.cancel_task):
        with pytest.raises(NotFound, match=f"There is no task {id}"):
            ask(id)
    assert id not in json.dumps(eve.list_tasks(limit=200))
    assert [event for event in eve.list_events(since=position)["events"] if event["kind"].startswith("task.")] == []
    assert [task["id"] for task in bob.list_tasks(mine="claimed")["tasks"]] == [id]


@pytest.mark.parametrize("where", [{}, {"channel": "direct-messages"}, {"channel": "shared-work"}])
def test_a_task_needs_a_place(agent: MakeAgent, where: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        agent().create_task("count", **where)


def test_a_task_needs_somebody_who_can_take_it(live: Embedded, agent: MakeAgent) -> None:
    ann, bob, group = agent(), agent(), fresh("team")
    bob.join_group(group)
    with pytest.raises(NotFound) as caught:
        ann.create_task("count", target_agent=f"{bob.agent}x")
    assert caught.value.near == [bob.agent]
    live.space(space := fresh("space"))
    for client, name in ((ann, group), (agent(space=space), "all")):  # where nobody has written to everybody yet
        with pytest.raises(BadRequest, match=f"{name} is a group"):
            client.create_task("count", target_agent=name)
    channel = fresh("gone")
    ann.send_message(channel, "it goes", vanish_after=60)
    with pytest.raises(Conflict, match="keeps nothing"):
        ann.create_task("count", channel=channel)


def test_what_has_not_ended_is_bounded(agent: MakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_MOST_OPEN", 2)
    ann, channel = agent(), fresh("work")
    ids = [ann.create_task("count", channel=channel)["task"]["id"] for _ in range(2)]
    with pytest.raises(Conflict, match="cancel some first"):
        ann.create_task("count", channel=channel)
    ann.cancel_task(ids[0])
    ann.create_task("count", channel=channel)


def test_the_same_key_makes_one_task(live: Embedded, agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    first = ann.with_options(idempotency_key="k1").create_task("count", target_agent=bob.agent)
    assert ann.with_options(idempotency_key="k1").create_task("count", target_agent=bob.agent) == first
    bob.claim_task(first["task"]["id"])
    again = ann.with_options(idempotency_key="k1").create_task("count", target_agent=bob.agent)
    assert (again["task"]["id"], again["task"]["state"]) == (first["task"]["id"], "claimed")
    with pytest.raises(Conflict) as caught:
        ann.with_options(idempotency_key="k1").create_task("count twice", target_agent=bob.agent)
    assert caught.value.code == "idempotency_mismatch"
    assert len(ann.list_tasks(mine="created")["tasks"]) == 1


# What comes with it


@pytest.mark.parametrize("letter", ["x", "\u00e9", '"'])
def test_a_context_of_a_megabyte_comes_back_whole(agent: MakeAgent, letter: str) -> None:
    ann, bob = agent(), agent()
    context = letter * (1 << 20)
    task = ann.create_task("read", target_agent=bob.agent, context=context)["task"]
    assert task["context_size"] == len(context)
    pieces: list[str] = []
    while True:
        found = bob.read_task_context(task["id"], offset=sum(map(len, pieces)))
        pieces.append(found["context"])
        if not found["has_more"]:
            break
    assert "".join(pieces) == context
    assert bob.read_task_context(task["id"], offset=1 << 20)["context"] == ""


def test_more_than_that_is_refused(agent: MakeAgent) -> None:
    ann = agent()
    body = {"title": "read", "channel": "work", "context": "x" * ((1 << 20) + 1)}
    assert raw(ann, "POST", "/api/v2/tasks", body)[0] == 400
    with pytest.raises(TooLarge):
        status, answer = raw(ann, "POST", "/api/v2/tasks", {**body, "context": "x" * (9 << 20)})
        raise TooLarge(answer["error"]) if status == 413 else AssertionError(status)


def test_without_a_context_there_is_nothing_to_read(agent: MakeAgent) -> None:
    ann = agent()
    task = ann.create_task("read", channel="work")["task"]
    with pytest.raises(NotFound, match="Nothing came with"):
        ann.read_task_context(task["id"])


# What becomes of it by itself


def test_a_deadline_holds_though_nobody_has_looked(asleep: None, agent: MakeAgent, clock: Clock) -> None:
    ann, bob = agent(), agent()
    id = ann.create_task("count", target_agent=bob.agent, deadline_in=60)["task"]["id"]
    clock.ahead += 61
    assert ann.get_task(id)["task"]["state"] == "expired"
    assert items(bob) == bob.check_work()["offered_to_me"] == []
    with pytest.raises(Conflict) as caught:
        bob.claim_task(id)
    assert (caught.value.current or {})["state"] == "expired"
    with pytest.raises(Conflict, match="This task is expired; to renew it, it must be claimed"):
        bob.renew_task(id)


def test_lists_go_by_the_clock_though_nobody_has_looked(asleep: None, agent: MakeAgent, clock: Clock) -> None:
    ann, bob, channel = agent(), agent(), fresh("work")
    made = {
        name: ann.create_task(name, channel=channel, target_agent=target, deadline_in=deadline)["task"]["id"]
        for name, target, deadline in (
            ("late", None, 60), ("lost", None, None), ("mine again", bob.agent, None), ("had late", None, 60),
            ("open", None, None), ("held", None, None),
        )
    }  # fmt: skip
    for name, lease in (("lost", 50), ("mine again", 50), ("had late", 70), ("held", 3600)):
        bob.claim_task(made[name], lease=lease)
    clock.ahead += 80

    def names(tasks: list[types.Task]) -> set[str]:
        return {task["title"] for task in tasks if task["channel"] == channel}

    for status, state, wanted in (
        ("open", "open", {"lost", "mine again", "open"}),
        ("claimed", "claimed", {"held"}),
        ("cancelled", "expired", {"late", "had late"}),
    ):
        for which in ({}, {"mine": "created"}, {"channel": channel}):
            found = [task for task in ann.list_tasks(status=status, **which)["tasks"] if task["channel"] == channel]
            assert (names(found), {task["state"] for task in found}) == (wanted, {state}), (status, which)
    assert names(bob.list_tasks(mine="claimed")["tasks"]) == {"held", "had late"}
    assert names(ann.list_tasks(status="open", capability="beans")["tasks"]) == set()

    work = bob.check_work()
    assert (names(work["offered_to_me"]), names(work["mine_claimed"])) == ({"mine again"}, {"held"})
    assert names(work["open_matching"]) == {"lost", "open"}
    assert names(ann.check_work()["failed_for_me"]) == {"late", "had late"}


def test_what_somebody_lost_is_offered_to_who_can_do_it(asleep: None, agent: MakeAgent, clock: Clock) -> None:
    ann, bob, cy, channel = agent(), agent(), agent(), fresh("work")
    able = fresh("tag")
    cy.set_card(capabilities=[able])
    id = ann.create_task("count", channel=channel, capability_tags=[fresh("tag"), able])["task"]["id"]
    bob.claim_task(id, lease=50)
    clock.ahead += 51
    found = [[task["id"] for task in who.check_work()["open_matching"] if task["id"] == id] for who in (bob, cy)]
    assert found == [[], [id]]


def test_offers_that_are_over_hide_none(
    asleep: None, agent: MakeAgent, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "MOST_WORK", 2)
    ann, bob, able = agent(), agent(), fresh("tag")
    bob.set_card(capabilities=[able])
    for deadline in (None, 60, 60):
        ann.create_task("count", channel=fresh("work"), capability_tags=[able], deadline_in=deadline)
    clock.ahead += 61
    assert [task["state"] for task in bob.check_work()["open_matching"] if able in task["capability_tags"]] == ["open"]


@pytest.mark.sqlite  # whose plans are read here
def test_what_is_over_is_found_by_its_time(live: Embedded) -> None:
    """Whoever asks for a status does not walk through all that has another one."""
    assert live.relay is not None

    def plan(tx: Any, name: str) -> str:
        found = statements("sqlite")[name]
        values = dict.fromkeys(found.names)
        return "\n".join(str(row[3]) for row in tx._execute(f"EXPLAIN QUERY PLAN {found.sql}", found.bind(values)))

    indexes = {
        "list_work": ("work_in_state (space_id=? AND kind=? AND state=? AND id<?)", "work_deadlines (deadline_at<?)"),
        "offered": ("work_leases (lease_until<?)",),
        "offered_to": ("work_of_target (target_id=? AND kind=? AND state=?)", "work_held (owner_id=? AND kind=?)"),
        "ended_for": ("work_ended (creator_id=? AND kind=? AND ended_at>?)", "work_open (creator_id=? AND kind=?)"),
    }
    for name, wanted in indexes.items():
        told = live.relay.store.ask(Lane.WRITE, lambda tx, name=name: plan(tx, name))
        assert [index for index in wanted if index not in told] == [], told
        assert not {"SCAN w", "SCAN work", "SCAN x", "SCAN y"} & set(told.splitlines()), told


def test_a_deadline_that_is_over_is_told(asleep: None, live: Embedded, agent: MakeAgent, clock: Clock) -> None:
    ann, bob = agent(), agent()
    id = ann.create_task("count", target_agent=bob.agent, deadline_in=60)["task"]["id"]
    bob.claim_task(id, lease=3600)
    clock.ahead += 61
    settle_all(live)
    assert contents(ann) == contents(bob) == ["Task expired: count"]
    assert [line["action"] for line in ann.get_task(id)["history"]] == ["create", "claim", "expire"]
    with pytest.raises(Conflict):
        bob.complete_task(id, "too late")


def test_a_worker_that_dies_loses_its_task(asleep: None, live: Embedded, agent: MakeAgent, clock: Clock) -> None:
    """Another takes over with a higher number, and the first one's late result is refused."""
    ann, bob, cy, channel = agent(), agent(), agent(), fresh("work")
    id = ann.create_task("count", channel=channel)["task"]["id"]
    bob.claim_task(id, lease=60)
    with pytest.raises(Conflict, match="is claimed"):
        cy.claim_task(id)
    clock.ahead += 61
    assert cy.claim_task(id)["task"]["fence"] == 2
    for fence in (None, 1, 2):
        with pytest.raises(Conflict) as caught:
            bob.complete_task(id, "late", fence=fence)
        assert caught.value.code == "stale_fence"
        assert (caught.value.current or {})["claimant"] == cy.agent
    with pytest.raises(Conflict) as caught:
        cy.complete_task(id, "with an old number", fence=1)
    assert caught.value.code == "stale_fence"
    assert "any more, or not with this fence:" in caught.value.message
    assert cy.complete_task(id, "42", fence=2)["task"]["result"] == "42"


def test_what_was_lost_is_offered_again(asleep: None, live: Embedded, agent: MakeAgent, clock: Clock) -> None:
    ann, bob = agent(), agent()
    id = ann.create_task("count", target_agent=bob.agent)["task"]["id"]
    bob.claim_task(id, lease=60)
    clock.ahead += 61
    settle_all(live)
    assert contents(bob) == ["Task open again: count"]
    assert contents(ann) == ["Task open again: count"]
    assert bob.claim_task(id)["task"]["fence"] == 2


def test_the_relay_looks_by_itself(live: Embedded, agent: MakeAgent, clock: Clock) -> None:
    ann, bob, channel = agent(), agent(), fresh("work")
    id = ann.create_task("count", channel=channel, deadline_in=3600)["task"]["id"]
    bob.claim_task(id, lease=60)
    clock.ahead += 61
    ann.send_message(channel, "something stirs")
    until(lambda: "lapse" in [line["action"] for line in ann.get_task(id)["history"]])
    clock.ahead += 3600
    ann.send_message(channel, "something stirs")
    until(lambda: "expire" in [line["action"] for line in ann.get_task(id)["history"]])


def test_renewing_keeps_it(asleep: None, agent: MakeAgent, clock: Clock) -> None:
    ann, bob = agent(), agent()
    id = ann.create_task("count", target_agent=bob.agent)["task"]["id"]
    bob.claim_task(id, lease=60)
    clock.ahead += 50
    version = bob.report_progress(id, "half of it", fence=1)["task"]["version"]
    assert bob.renew_task(id, fence=1, lease=60)["task"]["version"] == version, "nothing moved"
    clock.ahead += 50
    assert bob.complete_task(id, "42")["task"]["state"] == "done"
    notes = [line["note"] for line in ann.get_task(id)["history"]]
    assert notes == [None, None, "half of it", None]


# Sessions


def test_two_sessions_of_one_agent_are_two(live: Embedded, agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    id = ann.create_task("count", target_agent=bob.agent)["task"]["id"]
    one, two = bob.with_options(session="one"), bob.with_options(session="two")
    assert one.claim_task(id)["idempotent"] is False
    assert one.claim_task(id)["idempotent"] is True
    with pytest.raises(Conflict):
        two.claim_task(id)


# Lists


def test_lists_of_tasks(agent: MakeAgent) -> None:
    ann, bob, channel = agent(), agent(), fresh("work")
    made = [
        ann.create_task(f"task {number}", channel=channel, capability_tags=["odd" if number % 2 else "even"])["task"][
            "id"
        ]
        for number in range(5)
    ]
    bob.claim_task(made[0])
    bob.complete_task(made[0], "done")
    bob.claim_task(made[1])
    ann.cancel_task(made[2])

    def listed(client: Client, **which: Any) -> list[str]:
        return [task["id"] for task in client.list_tasks(**which)["tasks"]]

    assert listed(ann, channel=channel) == made[::-1]
    assert listed(ann, mine="created") == made[::-1]
    assert listed(bob, mine="claimed") == [made[1], made[0]]
    assert listed(bob, channel=channel, status="open") == [made[4], made[3]]
    assert listed(bob, channel=channel, status="cancelled") == [made[2]]
    assert listed(bob, channel=channel, status="done", mine="claimed") == [made[0]]
    assert listed(bob, channel=channel, capability="odd") == [made[3], made[1]]
    with pytest.raises(NotFound):
        listed(bob, channel=fresh("nowhere"))
    for which in ({"channel": channel}, {"mine": "created"}):
        found, page = [], ann.list_tasks(limit=2, **which)
        while True:
            found += [task["id"] for task in page["tasks"]]
            if not page["next_cursor"]:
                break
            page = ann.list_tasks(limit=2, cursor=page["next_cursor"], **which)
        assert found == made[::-1]


def test_work_that_ended_is_told_since_a_time(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    ids = [ann.create_task("count", target_agent=bob.agent)["task"]["id"] for _ in range(2)]
    for id in ids:
        bob.claim_task(id)
    ended = bob.complete_task(ids[0], "1")["task"]["completed_at"]
    bob.fail_task(ids[1], "no beans")
    work = ann.check_work()
    assert [task["id"] for task in work["completed_for_me"]] == [ids[0]]
    assert [task["reason"] for task in work["failed_for_me"]] == ["no beans"]
    work = ann.check_work(since=ended)
    assert (work["completed_for_me"], len(work["failed_for_me"])) == ([], 1)


# What an agent may not


def test_only_its_creator_takes_it_back(agent: MakeAgent) -> None:
    ann, bob, channel = agent(), agent(), fresh("work")
    id = ann.create_task("count", channel=channel)["task"]["id"]
    bob.claim_task(id)
    with pytest.raises(Forbidden, match="only who made it"):
        bob.cancel_task(id)
    ann.cancel_task(id, reason="no beans left")
    assert contents(bob) == ["Task cancelled: count\n\nno beans left"]
    with pytest.raises(Conflict):
        bob.complete_task(id, "42")


# Clients of another vendor


def test_one_route_for_all_actions(agent: MakeAgent) -> None:
    ann, bob, channel = agent(), agent(), fresh("work")
    status, answer = raw(
        ann, "POST", "/api/v2/tasks",
        {"channel": channel, "title": "  count ", "body": None, "capability_tags": [" Count "]},
    )  # fmt: skip
    task = answer["data"]["task"]
    assert (status, task["title"], task["capability_tags"], task["status"]) == (200, "count", ["count"], "open")
    path = f"/api/v2/tasks/{task['id']}"
    assert raw(bob, "POST", path, {"action": "dance"})[0] == 400
    assert raw(bob, "POST", path, {})[0] == 400
    assert raw(bob, "POST", path, [])[0] == 400
    assert raw(bob, "POST", path, {"action": "complete", "result": "x"})[0] == 409
    assert raw(bob, "POST", path, {"action": "claim"})[1]["data"]["task"]["claimed_by"]
    assert raw(ann, "POST", path, {"action": "claim"})[0] == 409
    assert raw(ann, "POST", path, {"action": "complete", "result": "x"})[0] == 403
    assert raw(bob, "POST", path, {"action": "complete", "result": " "})[0] == 400
    mine = raw(bob, "GET", "/api/v2/tasks?for_me=1")[1]["data"]
    assert [found["id"] for found in mine["mine_claimed"]] == [task["id"]]
    assert raw(bob, "POST", path, {"action": "complete", "result": "42"})[1]["data"]["task"]["status"] == "done"
    assert raw(ann, "POST", path, {"action": "cancel"})[0] == 409
    assert raw(bob, "POST", path.replace(task["id"], "junk"), {"action": "claim"})[0] == 400
    listed = raw(ann, "GET", f"/api/v2/tasks?channel={channel}")[1]["data"]["tasks"]
    assert [row["channels"] for row in listed] == [{"name": channel}]
    work = raw(ann, "GET", "/api/v2/work")[1]["data"]
    assert [row["id"] for row in work["completed_for_me"]] == [task["id"]]


def test_a_key_is_asked_for_before_the_action(live: Embedded) -> None:
    assert live.relay is not None
    stranger = Client(live.url, "0" * 64, agent="stranger", retries=0)
    assert raw(stranger, "POST", "/api/v2/tasks/junk", {"action": "dance"})[0] == 401


# What an operator sees


def test_an_operator_sees_who_did_what(live: Embedded, agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    id = ann.create_task("count", target_agent=bob.agent)["task"]["id"]
    bob.decline_task(id, "no time")

    def audit(**which: Any) -> Any:
        return live.ask(lambda tx: administration.audit(tx, **which))

    found = audit(id=id)
    rows = found["transitions"]
    assert [(row["action"], row["actor"], row["before"], row["after"], row["note"]) for row in rows] == [
        ("create", ann.agent, None, "open", None),
        ("decline", bob.agent, "open", "declined", "no time"),
    ]
    later = audit(id=id, after=rows[0]["number"], limit=1)
    assert (later["transitions"], later["has_more"]) == (rows[1:], False)
    assert [row["id"] for row in audit(actor=bob.agent)["transitions"]] == [id]
    former = live.ask(lambda tx: administration.agent_delete(tx, name=bob.agent or ""))["messages_now_by"]
    assert [row["actor"] for row in audit(actor=former)["transitions"]] == [former], "what it did is still asked for"
