"""Interrupts: an agent is asked to stop and look, and has to say that it did.

One comes before everything else in its inbox, and is given out again and again until it is acknowledged, taken back or
void: to be given an item of the inbox is to have seen it, and no more. What the agent then does is its own affair.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from agentchat import types
from agentchat.errors import BadRequest, Forbidden, LimitReached

from ...store.seam import Reading, Row, Writing
from ...wire import Cursor, iso, new_id, read_cursor
from .. import agents, groups, notices
from ..call import Call
from . import history, machine, telling
from .interrupt import ACKNOWLEDGED, EXPIRED, INTERRUPT, PENDING, WITHDRAWN, Details, details_of, snapshot
from .machine import Thing

_SECOND = 1_000_000
_MOST_PENDING = 5  # of one agent for another: they come before everything else
_END = 2**62
_OVERDUE = "overdue"  # what is expired, and not yet made so: for statements
_STATES = (PENDING, ACKNOWLEDGED, WITHDRAWN, EXPIRED)
_WORDS = {
    "attention": "Interrupt: stop, look at this, and acknowledge it.",
    "pause": "Pause: stop until you are told to go on, and acknowledge it.",
    "resume": "The pause is over: go on, and acknowledge it.",
}
_encode = msgspec.json.encode


class Target(NamedTuple):
    """Whom it is for."""

    id: int
    name: str


def send_interrupt(
    tx: Writing, call: Call, *, target_agent: str, reason: str, expires_in: int = 3600
) -> types.InterruptChange:  # fmt: skip
    if (before := machine.earlier(tx, call, INTERRUPT)) is not None:
        return _change(tx, before, False)
    target = _target(tx, call, target_agent)
    pending = tx.the(
        "count_pending", target_id=target.id, creator_id=call.agent.id, kind=INTERRUPT.kind, state=PENDING,
        now=tx.now, limit=_MOST_PENDING,
    )["things"]  # fmt: skip
    if pending >= _MOST_PENDING:
        raise LimitReached(
            f"@{target_agent} has not acknowledged {_MOST_PENDING} interrupts of yours, which is the limit; withdraw "
            "some first (list_interrupts with sent=true)."
        )
    return _change(tx, send(tx, call, target, reason, tx.now + expires_in * _SECOND, Details()), False)


def _target(tx: Writing, call: Call, name: str) -> Target:
    found = agents.known(tx, call.agent.space_id, name)
    if groups.is_group(name, found):
        raise BadRequest(f"{name} is a group; a person or an admin pauses one with pause_agents.")
    if found is None:
        raise agents.unknown(tx, call, name)
    if found.id == call.agent.id:
        raise BadRequest("That is you; an interrupt is for another agent.")
    agents.check_takes_mail(found, name)
    return Target(found.id, name)


def send(tx: Writing, call: Call, target: Target, reason: str, until: int, details: Details) -> Thing:
    """One of any purpose."""
    thing: Thing = {
        "public_id": new_id(tx.now), "kind": INTERRUPT.kind, "space_id": call.agent.space_id,
        "creator_id": call.agent.id, "target_id": target.id, "target_name": target.name,
        "title": title_of(reason), "body": reason, "tags": "", "urgent": notices.FIRST, "scope": "",
        "details": _encode(details).decode(), "channel_id": None, "channel": None, "channel_name": None,
        "message": None, "ended_at": None, "deadline_at": until,
    }  # fmt: skip
    told = telling.tell(tx, call, thing, "created", _WORDS[details.purpose], reason, [target.id])
    thing |= {"message_id": told.id, "message": told.public_id, "offer_id": told.id}
    return machine.create(tx, call, INTERRUPT, **thing)


def title_of(reason: str) -> str:
    """A reason in one line; Unicode knows more blanks than the contract's check."""
    if not (line := " ".join(reason.split())):
        raise BadRequest("reason must be text that is not blank.")
    return line[:200]


def acknowledge_interrupt(
    tx: Writing, call: Call, *, interrupt_id: str, note: str | None = None
) -> types.InterruptChange:  # fmt: skip
    thing = machine.find(tx, call, INTERRUPT, interrupt_id)
    ready = machine.ready(tx, call, INTERRUPT, "acknowledge", thing)
    if ready is None:
        return _change(tx, thing, True)
    moved = machine.take(tx, call, INTERRUPT, "acknowledge", ready, note=note or None, reason=note or None)
    telling.withdraw(tx, call, ready)
    if details_of(thing).pause is None:  # of a pause it is counted
        words = f"Interrupt acknowledged: {thing['title']}"
        told = [thing["creator_id"]]
        telling.tell(tx, call, moved | {"urgent": 0}, "acknowledged", words, note, told, kind="direct")
    return _change(tx, moved, False)


def withdraw_interrupt(
    tx: Writing, call: Call, *, interrupt_id: str, note: str | None = None
) -> types.InterruptChange:  # fmt: skip
    thing = machine.find(tx, call, INTERRUPT, interrupt_id)
    ready = machine.ready(tx, call, INTERRUPT, "withdraw", thing)
    if ready is None:
        return _change(tx, thing, True)
    return _change(tx, withdraw(tx, call, ready, note or None), False)


def withdraw(tx: Writing, call: Call | None, thing: Thing, note: str | None) -> Thing:
    """Take back one that is pending. Without a call it is the relay who does."""
    moved = machine.take(tx, call, INTERRUPT, "withdraw", thing, note=note, reason=note)
    telling.withdraw(tx, call, thing)
    return moved


def settle(tx: Writing, thing: Thing) -> None:
    """Make explicit what is over by the clock."""
    moved = machine.settle(tx, INTERRUPT, thing)
    if moved["version"] == thing["version"]:
        return
    telling.withdraw(tx, None, thing)
    if details_of(thing).pause is None:
        words = f"@{thing['target_name']} did not acknowledge your interrupt in time: {thing['title']}"
        sender = telling.creator(tx, thing)
        told = [thing["creator_id"]]
        telling.tell(tx, sender, moved | {"urgent": 1}, "expired", words, None, told, kind="direct")


# Looking


def get_interrupt(tx: Reading, call: Call, *, interrupt_id: str) -> types.InterruptDetails:
    thing = machine.find(tx, call, INTERRUPT, interrupt_id)
    return {"interrupt": _seen(tx, thing), "history": history.of(tx, thing)}


def list_interrupts(
    tx: Reading,
    call: Call,
    *,
    sent: bool = False,
    pause_id: str | None = None,
    state: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> types.InterruptList:
    me = call.agent
    place = f"interrupts {me.id} {int(sent)}{pause_id or ''}"
    before = _END if cursor is None else read_cursor(cursor, place).at
    statement, whose, states = "interrupts_for", {"target_id": me.id}, [PENDING]
    if pause_id is not None:
        statement, whose, states = "interrupts_of_pause", {"parent_id": _pause(tx, call, pause_id)}, [*_STATES]
    elif sent:
        statement, whose, states = "interrupts_by", {"creator_id": me.id}, [*_STATES]
    if state:
        states = [state]
    if EXPIRED in states:
        states.append(_OVERDUE)
    rows: list[Row] = tx.all(
        statement, kind=INTERRUPT.kind, states=_encode(states).decode(), before=before, now=tx.now, limit=limit + 1,
        **whose,
    )  # fmt: skip
    more = len(rows) > limit
    found = [machine.found(tx, me.space_id, INTERRUPT.kind, row["public_id"]) for row in rows[:limit]]
    return {
        "interrupts": [_seen(tx, thing) for thing in found],
        "next_cursor": str(Cursor(place, rows[limit - 1]["id"])) if more else None,
        "has_more": more,
    }


def _pause(tx: Reading, call: Call, public_id: str) -> int:
    """One whose interrupts the caller may see."""
    row = tx.one("work_by_id", public_id=public_id, space_id=call.agent.space_id, kind="pause")
    if row is None:
        raise machine.unknown("pause", public_id)
    if not machine.is_leader(tx, call.agent.id):
        raise Forbidden("Whom a pause reached is for persons and admins to know; list_pauses counts them.")
    return int(row["id"])


def _seen(tx: Reading, thing: Thing) -> types.SeenInterrupt:
    row = tx.one("item_seen", message_id=thing["message_id"], agent_id=thing["target_id"])
    seen_at = None if row is None or row["claimed_at"] is None else iso(row["claimed_at"])
    return {**snapshot(thing, tx.now), "seen_at": seen_at}


def _change(tx: Reading, thing: Thing, idempotent: bool) -> types.InterruptChange:
    return {"interrupt": snapshot(thing, tx.now), "idempotent": idempotent}
