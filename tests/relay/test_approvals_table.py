"""The table of an approval's moves, walked: every state, every action, everybody who could try it. What comes back, and
what is told of it, must be what the table says by the one rule of all state machines."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from agentchat import Client, types
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.service import administration
from agentchat_relay.service.work import kinds
from agentchat_relay.service.work.approval import APPROVAL
from agentchat_relay.service.work.machine import Who

from .conftest import UNLIMITED, Clock, raw

CALL, OTHER, MESSAGE = '{"command":"make"}', '{"command":"make -n"}', "because"
# The route of an action, and what it needs; then what makes the same verdict another one.
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "allow": ("decide", {"verdict": "allow"}),
    "edit": ("decide", {"verdict": "edit", "arguments": OTHER}),
    "deny": ("decide", {"verdict": "deny", "message": MESSAGE}),
    "respond": ("decide", {"verdict": "respond", "message": MESSAGE}),
    "dismiss": ("dismiss", {}),
    "withdraw": ("withdraw", {"reason": MESSAGE}),
}
ELSE: dict[str, dict[str, Any]] = {"edit": {"arguments": CALL}, "respond": {"message": "not so"}}
ACTIONS = [move.action for move in APPROVAL.moves if move.by is not Who.RELAY]
VERDICTS = [move.action for move in APPROVAL.moves if move.by is Who.REVIEWER and move.after in APPROVAL.final]
STATES = ["dismissed", "unsettled", *dict.fromkeys([APPROVAL.begins, *(move.after for move in APPROVAL.moves)])]
ALLOWED = {"allowed": CALL, "edited": OTHER}


class People(NamedTuple):
    requester: Client
    decider: Client  # a reviewer: who is first
    reviewer: Client  # another one
    former: Client  # was a reviewer when it was asked, and is none any more
    bystander: Client

    @property
    def everybody(self) -> dict[str, Client]:
        return self._asdict()


class Stage(NamedTuple):
    relay: Embedded
    people: People
    clock: Clock

    def grant(self, name: str, *, revoke: bool = False) -> None:
        self.relay.ask(lambda tx: administration.agent_grant(tx, name=name, role="reviewer", revoke=revoke))


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """A relay of these tests' own: its clock is moved, and it makes nothing explicit by itself."""
    with pytest.MonkeyPatch.context() as patch, running(settings=UNLIMITED) as relay:
        patch.setattr(kinds, "due", lambda tx: kinds.Due(0, None))
        clock = Clock(patch)
        people = People(*(Client(relay.url, relay.token(name), agent=name, retries=0) for name in People._fields))
        made = Stage(relay, people, clock)
        for name in ("decider", "reviewer"):
            made.grant(name)
        yield made
        for client in people:
            client.close()


def made_in(stage: Stage, state: str, *, is_reviewer: bool) -> types.Approval:
    """A request in a state, whose requester is a reviewer by now, or none."""
    requester, decider, *_ = stage.people
    tidy(requester)
    stage.grant("former")
    id = requester.request_approval("bash", CALL, expires_in=60)["approval"]["id"]
    stage.grant("former", revoke=True)
    stage.grant("requester", revoke=not is_reviewer)
    if state == "withdrawn":
        requester.withdraw_approval(id, reason=MESSAGE)
    elif state == "dismissed":
        decider.dismiss_approval(id)
    elif state in ("expired", "unsettled"):
        stage.clock.ahead += 61
        while state == "expired" and stage.relay.ask(kinds.settle):
            pass
    elif state != "pending":
        verdict = next(move.action for move in APPROVAL.moves if move.after == state)
        assert post(decider, id, verdict)[0] == 200
    return steady(requester.get_approval(id)["approval"])


def steady(approval: types.Approval) -> types.Approval:
    """Until the relay writes down that the time is over, it ends whenever somebody looks."""
    is_unsettled = (approval["state"], approval["version"]) == ("expired", 1)
    return {**approval, "ended_at": approval["deadline_at"]} if is_unsettled else approval


def tidy(requester: Client) -> None:
    """Leave nothing of an earlier request in anybody's inbox."""
    for approval in requester.list_approvals(mine=True, state="pending")["approvals"]:
        requester.withdraw_approval(approval["id"])
    requester.check_inbox(seen=requester.check_inbox(limit=50)["claim_id"])


def post(client: Client, id: str, action: str, **changes: Any) -> tuple[int, Any]:
    path, body = CALLS[action]
    return raw(client, "POST", f"/api/v2/approvals/{id}/{path}", body | changes)


def expected(action: str, who: str, state: str, *, is_else: bool) -> int | str:
    """What the rule says: a status, or `idempotent`."""
    move = APPROVAL.move(action)
    now_in = {"dismissed": "pending", "unsettled": "expired"}.get(state, state)
    if who in ("former", "bystander"):
        return 404
    if (move.by is Who.CREATOR) != (who == "requester"):
        return 403
    if action == "dismiss" and state == "dismissed" and who == "decider":
        return "idempotent"
    if now_in == move.after and move.after in APPROVAL.final:
        return 409 if is_else else "idempotent"
    return 200 if now_in in move.before else 409


class Seen(NamedTuple):
    """Everything that a request is, and what of it is in whose inbox."""

    details: types.ApprovalDetails
    inboxes: dict[str, list[str]]


def seen(people: People, id: str) -> Seen:
    inboxes = {}
    for name, client in people.everybody.items():
        items = client.peek_inbox(limit=100)["items"]
        inboxes[name] = [item["content"] for item in items if item.get("work", {}).get("id") == id]
    details = people.requester.get_approval(id)
    return Seen({**details, "approval": steady(details["approval"])}, inboxes)


def told(people: People, id: str, position: int) -> list[types.Event]:
    found = people.requester.list_events(since=position, kind="approval", limit=500)["events"]
    return [event for event in found if event["subject"] == id]


@pytest.mark.parametrize("is_reviewer", [False, True], ids=["requester", "requester-reviews"])
@pytest.mark.parametrize("state", STATES)
def test_every_action_of_everybody(stage: Stage, state: str, is_reviewer: bool) -> None:
    people = stage.people
    approval: types.Approval | None = None  # what was refused has changed nothing
    cases = [*itertools.product(ACTIONS, people.everybody, [False]), *itertools.product(ELSE, people.everybody, [True])]
    for action, who, is_else in cases:
        approval = approval or made_in(stage, state, is_reviewer=is_reviewer)
        id, before = approval["id"], seen(people, approval["id"])
        position = people.requester.list_events()["position"]
        status, answer = post(people.everybody[who], id, action, **(ELSE[action] if is_else else {}))
        after, events = seen(people, id), told(people, id, position)
        wanted = expected(action, who, state, is_else=is_else)
        what = f"{who} {action}{' otherwise' if is_else else ''} in {state}: {answer}"
        if wanted == 200:
            check_move(action, who, is_else, answer["data"], before, after, events, what)
            approval = None
            continue
        assert (after, events) == (before, []), what
        if wanted == "idempotent":
            assert status == 200, what
            assert (answer["data"]["idempotent"], answer["data"]["approval"]) == (True, approval), what
            is_decided = who == "decider" and approval["state"] in ("allowed", "edited", "denied", "answered")
            assert answer["data"]["yours"] is is_decided, what
            continue
        code = {403: "forbidden", 404: "not_found", 409: "conflict"}[int(wanted)]
        assert (status, answer["code"]) == (wanted, code), what
        current = steady(answer["current"]) if "current" in answer else None
        assert current == (approval if wanted == 409 else None), what
        assert approval["id"] in answer["error"] if wanted == 404 else MESSAGE not in answer["error"], what


def check_move(
    action: str, who: str, is_else: bool, data: Any, before: Seen, after: Seen, events: list[types.Event], what: str
) -> None:
    """What a move that was taken comes to."""
    move, was = APPROVAL.move(action), before.details["approval"]
    now = after.details["approval"]
    body = CALLS[action][1] | (ELSE[action] if is_else else {})
    is_verdict, is_over = action in VERDICTS, move.after in APPROVAL.final
    note = body.get("message", body.get("reason"))
    assert (data["idempotent"], data["yours"], data["reviewers"]) == (False, is_verdict, 2), what
    assert data["approval"] == now, what
    assert now == {
        **was,
        "state": move.after,
        "verdict": action if is_verdict else None,
        "allowed_hash": now["call_hash"] if action == "allow" else now["allowed_hash"] if action == "edit" else None,
        "message": note,
        "version": was["version"] + 1,
        "decided_by": who if is_verdict else None,
        "ended_at": now["ended_at"] if is_over else None,
    }, what
    assert (now["ended_at"] is not None) is is_over, what
    assert (now["allowed_hash"] is not None) is (action in ("allow", "edit")), what
    # Of two calls that are the same the hashes are, too.
    if action == "edit":
        assert (now["allowed_hash"] == now["call_hash"]) is (body["arguments"] == CALL), what
    line = after.details["history"][-1]
    assert (line["action"], line["actor"], line["before"], line["after"], line["note"], line["version"]) == (
        action, who, "pending", move.after, note, now["version"],
    ), what  # fmt: skip
    assert after.details["history"][:-1] == before.details["history"], what
    (event,) = events
    data = event["data"] or {}
    assert (event["kind"], event["actor"]) == (f"approval.{move.event}", who), what
    assert (data["approval"], data["action"], data["before"], data["after"]) == (now, action, "pending", move.after), (
        what
    )
    assert (data["version"], data["note"]) == (now["version"], note), what
    check_inboxes(action, who, before.inboxes, after.inboxes, what)


def check_inboxes(action: str, who: str, before: dict[str, list[str]], after: dict[str, list[str]], what: str) -> None:
    wanted = {name: [] if action != "dismiss" or name == who else items for name, items in before.items()}
    if action in VERDICTS:
        assert len(after["requester"]) == 1 and after["requester"][0].startswith("Your call of bash is "), what
        wanted["requester"] = after["requester"]
    assert after == wanted, what


@pytest.mark.parametrize("state", STATES)
def test_each_state_is_what_it_says(stage: Stage, state: str) -> None:
    approval = made_in(stage, state, is_reviewer=False)
    now_in = {"dismissed": "pending", "unsettled": "expired"}.get(state, state)
    verdict = next((move.action for move in APPROVAL.moves if move.after == now_in and now_in in APPROVAL.final), None)
    wanted = {"withdraw": None, "expire": "deny"}.get(verdict or "", verdict)
    assert (approval["state"], approval["verdict"]) == (now_in, wanted)
    details = stage.people.reviewer.get_approval(approval["id"])
    assert steady(details["approval"]) == approval
    assert details["allowed_arguments"] == ({"command": ALLOWED[now_in][12:-2]} if now_in in ALLOWED else None)
    assert (approval["allowed_hash"] is not None) is (now_in in ALLOWED)
    assert (approval["ended_at"] is not None) is (now_in in APPROVAL.final)
