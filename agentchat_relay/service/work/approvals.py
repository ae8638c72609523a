"""Approvals: an agent asks whether it may make a call, and whoever holds the role reviewer answers; nobody its own.

All reviewers are told, and those who become one or come back later are told then. The first verdict counts. To take a
request out of one's inbox is none. Without a verdict in time it is denied.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from agentchat import types
from agentchat.approval import call_hash, canonical
from agentchat.contract import LONGEST_ARGUMENTS
from agentchat.errors import BadRequest, LimitReached

from ...store.seam import Reading, Row, Writing
from ...wire import Cursor, micros, new_id, read_cursor
from ..call import Call
from . import history, machine, telling
from .approval import (
    ALLOWED,
    ANSWERED,
    APPROVAL,
    DENIED,
    EDITED,
    EXPIRED,
    PENDING,
    WITHDRAWN,
    Details,
    allowed_of,
    arguments_of,
    details_of,
    snapshot,
)
from .machine import Late, Thing

_SECOND = 1_000_000
_MOST_PENDING = 100  # of one agent
_MOST_REVIEWERS = 50  # who are told
_MOST_WELCOMED = 200  # requests that a new reviewer is told of
_END = 2**62
_STATES = (PENDING, ALLOWED, EDITED, DENIED, ANSWERED, WITHDRAWN, EXPIRED)
_WORDS = {
    "allow": "allowed",
    "edit": "allowed with other arguments, which get_approval shows",
    "deny": "denied",
    "respond": "answered instead of allowed",
}
_encode = msgspec.json.encode


# Asking


def request_approval(
    tx: Writing,
    call: Call,
    *,
    tool_name: str,
    arguments: str,
    reason: str | None = None,
    expires_in: int = 3600,
    urgent: bool = False,
) -> types.ApprovalChange:
    if (before := machine.earlier(tx, call, APPROVAL)) is not None:
        return _change(tx, call, before, False)
    details = _exactly(tool_name, arguments_of(arguments))
    me = call.agent
    row = tx.the("count_pending_of", creator_id=me.id, kind=APPROVAL.kind, limit=_MOST_PENDING)
    if row["things"] >= _MOST_PENDING:
        raise LimitReached(f"{_MOST_PENDING} of your requests wait for a verdict, which is the limit; withdraw some.")
    thing: Thing = {
        "public_id": new_id(tx.now), "kind": APPROVAL.kind, "space_id": me.space_id, "creator_id": me.id,
        "target_id": None, "target_name": None, "title": tool_name, "body": reason or None, "tags": "",
        "urgent": int(urgent), "scope": "", "details": _encode(details).decode(), "channel_id": None, "channel": None,
        "channel_name": None, "message": None, "ended_at": None, "deadline_at": tx.now + expires_in * _SECOND,
    }  # fmt: skip
    told = telling.note(tx, call, thing, "created", f"You asked for approval: {tool_name}", _what(thing))
    thing |= {"message_id": told.id, "message": told.public_id, "offer_id": told.id}
    thing = machine.create(tx, call, APPROVAL, **thing)
    _tell(tx, call, thing, [row["id"] for row in _reviewers(tx, thing)])
    return _change(tx, call, thing, False)


def _exactly(tool_name: str, arguments: dict[str, Any]) -> Details:
    text = canonical(arguments)
    if len(text) > LONGEST_ARGUMENTS:  # in which they are kept and shown, and have to come back for an edit
        raise BadRequest(
            f"arguments must have at most {LONGEST_ARGUMENTS} characters, also with each number written out (1e15 as "
            f"1000000000000000.0); so these have {len(text)}."
        )
    try:
        return Details(text, call_hash(tool_name, arguments))
    except UnicodeEncodeError:
        raise BadRequest("arguments has half of a surrogate pair in it, which is no text.") from None


def _what(thing: Thing) -> str:
    """The call first, in one line, and before it whether that is all: nothing that is said for it can pass for the
    call, or for its end."""
    details = details_of(thing)
    shown, size = details.preview, len(details.arguments)
    if size > (kept := len(shown)):
        first = f"Shown are the first {kept} of {size} characters of its arguments; get_approval has all."
        shown = f"{first}\n{shown}\n({size - kept} more characters)"
    return f"{shown}\n\n{thing['body']}" if thing["body"] else shown


def _reviewers(tx: Reading, thing: Thing) -> list[Row]:
    return tx.all(
        "reviewers", space_id=thing["space_id"], creator_id=thing["creator_id"], limit=_MOST_REVIEWERS
    )  # fmt: skip


def _tell(tx: Writing, asker: Call, thing: Thing, told: list[int]) -> None:
    if told:
        telling.tell(tx, asker, thing, "created", f"Approval wanted: {thing['title']}", _what(thing), told)


def withdraw_approval(
    tx: Writing, call: Call, *, approval_id: str, reason: str | None = None
) -> types.ApprovalChange:  # fmt: skip
    thing = machine.find(tx, call, APPROVAL, approval_id)
    ready = machine.ready(tx, call, APPROVAL, "withdraw", thing)
    if ready is None:
        return _change(tx, call, thing, True)
    moved = machine.take(tx, call, APPROVAL, "withdraw", ready, note=reason or None, reason=reason or None)
    telling.withdraw_all(tx, call, ready)
    return _change(tx, call, moved, False)


# Deciding


def decide_approval(
    tx: Writing,
    call: Call,
    *,
    approval_id: str,
    verdict: str,
    message: str | None = None,
    arguments: str | None = None,
) -> types.ApprovalChange:
    if (arguments is not None) != (verdict == "edit"):
        raise BadRequest("decide_approval: arguments are for the verdict edit, which needs them.")
    if verdict == "respond" and not (message or "").strip():
        raise BadRequest("decide_approval: respond needs a message; that is the response.")
    edited = None if arguments is None else arguments_of(arguments)
    thing, me = machine.find(tx, call, APPROVAL, approval_id), call.agent
    ready = machine.ready(tx, call, APPROVAL, verdict, thing)
    given = None if edited is None else _exactly(thing["title"], edited).arguments
    if ready is None:
        if (thing["result"], verdict == "respond" and thing["reason"]) != (given, verdict == "respond" and message):
            raise Late(APPROVAL, APPROVAL.move(verdict), thing, tx.now)
        return _change(tx, call, thing, True)
    moved = machine.take(
        tx, call, APPROVAL, verdict, ready, note=message or None, reason=message or None, result=given, owner_id=me.id,
        owner=me.public_id, owner_name=me.name,
    )  # fmt: skip
    telling.withdraw_all(tx, call, ready)
    words = f"Your call of {thing['title']} is {_WORDS[verdict]}."
    telling.tell(tx, call, moved, APPROVAL.move(verdict).event, words, message, [thing["creator_id"]])
    return _change(tx, call, moved, False)


def dismiss_approval(tx: Writing, call: Call, *, approval_id: str) -> types.ApprovalChange:
    thing, me = machine.find(tx, call, APPROVAL, approval_id), call.agent
    ready = machine.ready(tx, call, APPROVAL, "dismiss", thing)
    telling.withdraw_all(tx, call, thing, agent_id=me.id)
    before = tx.the("had_work", work_id=thing["id"], agent_id=me.id, action="dismiss")
    if ready is None or before["fence"] is not None:
        return _change(tx, call, thing, True)
    return _change(tx, call, machine.take(tx, call, APPROVAL, "dismiss", ready), False)


def settle(tx: Writing, thing: Thing) -> None:
    """Make explicit what is over by the clock: nobody said yes."""
    moved = machine.settle(tx, APPROVAL, thing)
    if moved["version"] == thing["version"]:
        return
    asker, words = telling.creator(tx, thing), f"Nobody decided on your call of {thing['title']}, so it is denied."
    telling.withdraw_all(tx, None, thing)
    telling.tell(tx, asker, moved, "expired", words, None, [thing["creator_id"]])


def _change(tx: Reading, call: Call, thing: Thing, idempotent: bool) -> types.ApprovalChange:
    return {
        "approval": snapshot(thing, tx.now),
        "idempotent": idempotent,
        "yours": thing["owner_id"] == call.agent.id,
        "reviewers": len(_reviewers(tx, thing)),
    }


# Who may


def welcome(tx: Writing, space_id: int, agent_id: int) -> None:
    """Tell who became a reviewer, or is back, what waits for a verdict."""
    for thing in _pending(tx, space_id, agent_id):
        if not tx.all("notices_about", message_id=thing["message_id"], kind=APPROVAL.kind, agent_id=agent_id):
            _tell(tx, telling.creator(tx, thing), thing, [agent_id])


def dismiss_all(tx: Writing, space_id: int, agent_id: int) -> None:
    """Who is no reviewer any more need not look at them."""
    for thing in _pending(tx, space_id, agent_id):
        telling.withdraw_all(tx, None, thing, agent_id=agent_id)


def _pending(tx: Writing, space_id: int, agent_id: int) -> list[Thing]:
    rows = tx.all(
        "approvals_in", space_id=space_id, kind=APPROVAL.kind, states=_encode([PENDING]).decode(), before=_END,
        now=tx.now, late=0, agent_id=agent_id, limit=_MOST_WELCOMED,
    )  # fmt: skip
    return [machine.found(tx, space_id, APPROVAL.kind, row["public_id"]) for row in reversed(rows)]


# Looking


class Looked(NamedTuple):
    """A request at a position of the log, for who waits for its verdict; in so many seconds it is denied."""

    details: types.ApprovalDetails
    position: int
    left: float
    is_end: bool = True

    @property
    def is_over(self) -> bool:
        return self.details["approval"]["state"] != PENDING

    @property
    def is_decided(self) -> bool:
        """By somebody, and not by the clock."""
        return self.details["approval"]["state"] not in (PENDING, EXPIRED)


def get_approval(tx: Reading, call: Call, *, approval_id: str) -> types.ApprovalDetails:
    thing = machine.find(tx, call, APPROVAL, approval_id)
    shown = machine.by_clock(APPROVAL, thing, tx.now)
    return {
        "approval": snapshot(thing, tx.now),
        "arguments": arguments_of(details_of(thing).arguments),
        "allowed_arguments": allowed_of(shown),
        "history": history.of(tx, thing),
    }


def looked(tx: Reading, call: Call, details: types.ApprovalDetails) -> Looked:
    position = tx.the("space_position", id=call.agent.space_id)["position"]
    left = micros(details["approval"]["deadline_at"], "deadline_at") - tx.now
    return Looked(details, position, left / _SECOND)


def list_approvals(
    tx: Reading,
    call: Call,
    *,
    mine: bool = False,
    state: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> types.ApprovalList:
    me = call.agent
    place = f"approvals {me.id} {int(mine)}"
    before = _END if cursor is None else read_cursor(cursor, place).at
    states = [state] if state else _STATES if mine else [PENDING]
    rows: list[Row] = []
    if mine or machine.is_reviewer(tx, me.id):
        late = not mine and EXPIRED in states
        rows = tx.all(
            "approvals_by" if mine else "approvals_in", space_id=me.space_id, agent_id=me.id, kind=APPROVAL.kind,
            states=_encode([*states, PENDING] if late else states).decode(), before=before, now=tx.now, late=int(late),
            limit=limit + 1,
        )  # fmt: skip
    more = len(rows) > limit
    found = [machine.found(tx, me.space_id, APPROVAL.kind, row["public_id"]) for row in rows[:limit]]
    return {
        "approvals": [snapshot(thing, tx.now) for thing in found],
        "next_cursor": str(Cursor(place, rows[limit - 1]["id"])) if more else None,
        "has_more": more,
    }
