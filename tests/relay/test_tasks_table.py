"""The table of a task's moves, walked: every state, every action, everybody who could try it. What comes back, and what
is told of it, must be what the table says by the one rule of all state machines."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from agentchat import Client
from agentchat._exchange import SESSION_HEADER
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.service.work.kinds import KINDS
from agentchat_relay.service.work.machine import Machine, Who
from agentchat_relay.service.work.task import TASK

from .conftest import UNLIMITED, Clock, fresh, raw
from .walking import IDEMPOTENT, STALE, Tried, check

REASON = {"reason": "because"}
CALLS: dict[str, tuple[str, dict[str, Any]]] = {  # the route of an action, and what it needs
    "claim": ("claim", {}),
    "decline": ("decline", REASON),
    "progress": ("progress", {"note": "half of it"}),
    "return": ("return", {}),
    "complete": ("complete", {"result": "42"}),
    "fail": ("fail", REASON),
    "offer": ("offer", {}),
    "cancel": ("cancel", {}),
}
ACTIONS = [move.action for move in TASK.moves if move.by is not Who.RELAY]
STATES = [*dict.fromkeys([TASK.begins, *(move.after for move in TASK.moves)]), "lapsed"]

# What is offered to nobody alone is declined by nobody.
CASES = [(state, private) for state in STATES for private in (True, False) if private or state != "declined"]


class People(NamedTuple):
    creator: Client
    target: Client  # to whom it is offered, or who is first
    other: Client  # of the same space
    former: Client  # had it, and lost it

    @property
    def everybody(self) -> dict[str, Client]:
        return self._asdict()


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Embedded, People, Clock]]:
    """A relay of these tests' own: its clock is moved."""
    with pytest.MonkeyPatch.context() as patch, running(settings=UNLIMITED) as relay:
        clock = Clock(patch)
        names = [fresh(name) for name in People._fields]
        people = People(*(Client(relay.url, relay.token(name), agent=name, retries=0) for name in names))
        yield relay, people, clock
        for client in people:
            client.close()


def made(people: People, clock: Clock, state: str, *, is_private: bool, was_lost: bool) -> dict[str, Any]:
    """A task in a state; with `was_lost` it was somebody else's before."""
    creator, target, _, former = people
    where = {"target_agent": (former if was_lost else target).agent} if is_private else {"channel": "work"}
    deadline = {"deadline_in": 1000} if state == "expired" else {}
    task = creator.create_task("count the beans", **where, **deadline)["task"]
    if was_lost:
        former.claim_task(task["id"])
        former.return_task(task["id"])
        if is_private:
            creator.offer_task(task["id"], target.agent or "")
    return to(people, clock, task["id"], state)


def to(people: People, clock: Clock, id: str, state: str) -> dict[str, Any]:
    creator, target, *_ = people
    match state:
        case "declined":
            target.decline_task(id, "no time")
        case "cancelled":
            creator.cancel_task(id)
        case "expired":
            clock.ahead += 1001
        case "claimed" | "done" | "failed" | "lapsed":
            target.claim_task(id, lease=60)
    if state == "done":
        target.complete_task(id, "42")
    elif state == "failed":
        target.fail_task(id, "no beans")
    elif state == "lapsed":
        clock.ahead += 61
    return creator.get_task(id)["task"]


def expected(machine: Machine, action: str, who: str, state: str, *, is_private: bool, was_lost: bool) -> int | str:
    """What the rule says: a status, or IDEMPOTENT, or STALE."""
    move = machine.move(action)
    now_in = "open" if state == "lapsed" else state
    had_it = (who == "former" and was_lost) or (who == "target" and state == "lapsed")
    has_it = who == "target" and now_in in ("claimed", "done", "failed")
    owned = now_in in ("claimed", "done", "failed")
    if is_private and who in ("other", "former") and not (who == "former" and was_lost):
        return 404
    if move.by is Who.CREATOR and who != "creator":
        return 403
    if move.by is Who.TAKER and is_private and who != "target":
        return 403
    if move.by is Who.TARGET and not (is_private and who == "target"):
        return 403
    if move.by is Who.OWNER and not has_it:
        if had_it:
            return STALE
        if owned:
            return 403
    if now_in == move.after and move.after not in (machine.begins, *move.before):
        is_held = move.after == machine.held
        return 409 if is_held and not has_it else IDEMPOTENT
    return 200 if now_in in move.before else 409


@pytest.mark.parametrize("was_lost", [False, True], ids=["first", "lost"])
@pytest.mark.parametrize(("state", "is_private"), CASES)
def test_every_action_of_everybody(
    place: tuple[Embedded, People, Clock], state: str, is_private: bool, was_lost: bool
) -> None:
    _, people, clock = place
    id: str | None = None  # what was refused has changed nothing
    for action, (who, client) in itertools.product(ACTIONS, people.everybody.items()):
        id = id or made(people, clock, state, is_private=is_private, was_lost=was_lost)["id"]
        before = people.creator.get_task(id)["task"]
        position = people.creator.list_events()["position"]
        path, body = CALLS[action]
        body = body | ({"target_agent": people.target.agent} if action == "offer" else {})
        status, answer = raw(
            client, "POST", f"/api/v2/tasks/{before['id']}/{path}", body, **{SESSION_HEADER: client._session.label()}
        )
        wanted = expected(TASK, action, who, state, is_private=is_private, was_lost=was_lost)
        after = people.creator.get_task(before["id"])["task"]
        told = [
            event
            for event in people.creator.list_events(since=position, kind="task", limit=500)["events"]
            if event["subject"] == before["id"] and event["actor"] is not None
        ]
        now_in = "open" if state == "lapsed" else state
        tried = Tried(TASK, action, client.agent, now_in, before, after, status, answer, told)
        check(tried, wanted, unchanged=("state", "fence", "result"))
        if wanted == 200:
            id = None
            assert after["fence"] == before["fence"] + (action == "claim"), str(tried)


def test_each_kind_declares_moves_that_fit_together() -> None:
    for machine in KINDS.values():
        states = {machine.begins, *(move.after for move in machine.moves)}
        reached = {machine.begins}
        for _ in states:
            reached |= {move.after for move in machine.moves if reached & {*move.before}}
        assert reached == states, "every state can be reached"
        assert {before for move in machine.moves for before in move.before} <= states - {*machine.final}
        assert {*machine.final} <= states
        assert len({move.action for move in machine.moves}) == len(machine.moves)
        by_itself = {move.action for move in machine.moves if move.by is Who.RELAY}
        assert "expire" in by_itself
        assert ("lapse" in by_itself) == (machine.held is not None), "what somebody has is lost one day"
