"""Tasks: offered to one agent, or in a channel to whoever claims first; claimed under a lease, and ended by a result.

Whoever has to know is told by a message, which the relay writes in the name of who did it: in the task's channel, or
privately between the two. Those whose turn it is find it in their inboxes; what nobody needs to look at any more ends
there by itself.
"""

from __future__ import annotations

from typing import Any

import msgspec

from agentchat import types
from agentchat.contract import SHORT_CHANNELS
from agentchat.errors import BadRequest, Conflict

from ...store.seam import Reading, Row, Writing
from .. import agents, channels, repeats
from ..call import Call
from . import machine, telling
from .task import OPEN, TASK, snapshot, tags_of

_SECOND = 1_000_000
_encode = msgspec.json.encode


# Offering


def create_task(
    tx: Writing,
    call: Call,
    *,
    title: str,
    channel: str | None = None,
    target_agent: str | None = None,
    body: str | None = None,
    capability_tags: list[str] | None = None,
    context: str | None = None,
    result_schema: dict[str, Any] | None = None,
    deadline_in: int | None = None,
    urgent: bool = False,
    scope: str | None = None,
) -> types.TaskChange:
    if (before := repeats.earlier(tx, call)) is not None:
        row = tx.the("work_key", id=before["id"])
        return _change(tx, machine.find(tx, call, TASK, row["public_id"]), False)
    if not (title := title.strip()):  # Unicode knows more blanks than the contract's check
        raise BadRequest("title must be text that is not blank.")
    place = _place(tx, call, channel, target_agent)
    target = None if target_agent is None else _target(tx, call, target_agent)
    tags = list(dict.fromkeys(capability_tags or ()))
    row = machine.create(
        tx, call, TASK, target_id=target, channel_id=None if place is None else place.id, title=title,
        body=body or None, tags=_encode(tags).decode() if tags else "",
        details=None if result_schema is None else _encode({"result_schema": result_schema}).decode(),
        urgent=int(urgent), scope=scope or "",
        deadline_at=None if deadline_in is None else tx.now + deadline_in * _SECOND,
    )  # fmt: skip
    if context:
        tx.run("insert_work_context", work_id=row["id"], content=context)
    _offer(tx, call, row)
    return _change(tx, machine.again(tx, row), False)


def _place(tx: Writing, call: Call, name: str | None, target_agent: str | None) -> channels.Channel | None:
    """The channel in which it is offered."""
    if name is None:
        if target_agent is None:
            raise BadRequest("create_task: say channel, where anybody may claim it, or target_agent.")
        return None
    channels.refuse_direct(name)
    if name.startswith(tuple(SHORT_CHANNELS)):
        raise BadRequest(f"#{name} is shared with other relays, which know no tasks; use a channel of this one.")
    place = channels.known(tx, call.agent.space_id, name)
    if place is None:
        channels.check_may_create(tx, call)
        place = channels.create(tx, call.agent.space_id, name, by=call.agent.id)
    if place.vanish_after is not None:
        raise Conflict(f"#{name} keeps nothing, and a task would stay; use another channel. Nothing was made.")
    return place


def _target(tx: Writing, call: Call, name: str) -> int:
    found = agents.known(tx, call.agent.space_id, name)
    if found is None:
        raise agents.unknown(tx, call, name)
    if found.is_group:
        raise BadRequest(f"{name} is a group; offer the task to one agent, or in a channel to whoever is first.")
    agents.check_takes_mail(found, name)
    return found.id


def _offer(tx: Writing, call: Call, row: Row) -> None:
    """Tell whoever may take it."""
    if row["target_id"] is not None:
        told, words = [row["target_id"]], f"Task for you: {row['title']}"
    else:
        tags = tags_of(row)
        for tag in tags or [""]:
            tx.run("insert_offer", space_id=row["space_id"], kind=row["kind"], tag=tag, work_id=row["id"])
        told = telling.able(tx, call, tags)
        words = f"Task: {row['title']}" + (f" (takes {', '.join(tags)})" if tags else "")
    message = telling.tell(tx, call, row, "created", words, row["body"], told)
    tx.run("work_announced", id=row["id"], message=message)


def offer_task(tx: Writing, call: Call, *, task_id: str, target_agent: str) -> types.TaskChange:
    row = machine.find(tx, call, TASK, task_id)
    machine.check_actor(tx, call, TASK, TASK.move("offer"), row)
    target = _target(tx, call, target_agent)
    moved = machine.take(tx, call, TASK, "offer", row, target_id=target, owner_id=None, session=None, reason=None)
    if moved is not None:
        _withdraw(tx, call, moved)
        _offer(tx, call, moved)
    return _change(tx, row if moved is None else machine.again(tx, moved), moved is None)


# Having it


def claim_task(tx: Writing, call: Call, *, task_id: str, lease: int = 1800) -> types.TaskChange:
    row = machine.find(tx, call, TASK, task_id)
    moved = machine.take(
        tx, call, TASK, "claim", row, owner_id=call.agent.id, session=call.session, claimed_at=tx.now,
        lease_until=tx.now + lease * _SECOND, reason=None,
    )  # fmt: skip
    if moved is not None:
        _withdraw(tx, call, moved)
    return _change(tx, row if moved is None else moved, moved is None)


def decline_task(tx: Writing, call: Call, *, task_id: str, reason: str) -> types.TaskChange:
    row = machine.find(tx, call, TASK, task_id)
    moved = machine.take(tx, call, TASK, "decline", row, note=reason, reason=reason)
    if moved is not None:
        _withdraw(tx, call, moved)
        telling.tell(tx, call, moved, "declined", f"Task declined: {row['title']}", reason, [row["creator_id"]])
    return _change(tx, row if moved is None else moved, moved is None)


def renew_task(
    tx: Writing, call: Call, *, task_id: str, fence: int | None = None, lease: int = 1800
) -> types.TaskChange:
    row = machine.find(tx, call, TASK, task_id)
    row, move = machine.settle(tx, TASK, row) or row, TASK.move("progress")
    machine.check_actor(tx, call, TASK, move, row, fence)
    until = tx.now + lease * _SECOND
    if not tx.run("renew_work", id=row["id"], version=row["version"], lease_until=until, now=tx.now):
        raise machine.Late(TASK, move, row, tx.now)
    return _change(tx, machine.again(tx, row), False)


def report_progress(tx: Writing, call: Call, *, task_id: str, note: str, fence: int | None = None) -> types.TaskChange:
    row = machine.find(tx, call, TASK, task_id)
    moved = machine.take(tx, call, TASK, "progress", row, fence=fence, note=note)
    return _change(tx, moved or row, moved is None)


def return_task(
    tx: Writing, call: Call, *, task_id: str, reason: str | None = None, fence: int | None = None
) -> types.TaskChange:
    row = machine.find(tx, call, TASK, task_id)
    moved = machine.take(
        tx, call, TASK, "return", row, fence=fence, note=reason, owner_id=None, session=None, lease_until=None,
        reason=reason,
    )  # fmt: skip
    if moved is not None:
        _back(tx, call, moved, "returned")
    return _change(tx, row if moved is None else moved, moved is None)


def _back(tx: Writing, call: Call, row: Row, event: str) -> None:
    """It is open again: for whoever is first, or for the one who may take it."""
    tags = tags_of(row)
    if row["target_id"] is None:
        for tag in tags or [""]:
            tx.run("insert_offer", space_id=row["space_id"], kind=row["kind"], tag=tag, work_id=row["id"])
    told = telling.able(tx, call, tags) if row["target_id"] is None else [row["target_id"]]
    telling.tell(tx, call, row, event, f"Task open again: {row['title']}", row["reason"], [*told, row["creator_id"]])


# Ending it


def complete_task(tx: Writing, call: Call, *, task_id: str, result: str, fence: int | None = None) -> types.TaskChange:
    row = machine.find(tx, call, TASK, task_id)
    moved = machine.take(tx, call, TASK, "complete", row, fence=fence, result=result, reason=None)
    return _ended(tx, call, row, moved, "completed", f"Task done: {row['title']}", result, [row["creator_id"]])


def fail_task(tx: Writing, call: Call, *, task_id: str, reason: str, fence: int | None = None) -> types.TaskChange:
    row = machine.find(tx, call, TASK, task_id)
    moved = machine.take(tx, call, TASK, "fail", row, fence=fence, note=reason, reason=reason)
    return _ended(tx, call, row, moved, "failed", f"Task failed: {row['title']}", reason, [row["creator_id"]])


def cancel_task(tx: Writing, call: Call, *, task_id: str, reason: str | None = None) -> types.TaskChange:
    row = machine.find(tx, call, TASK, task_id)
    moved = machine.take(tx, call, TASK, "cancel", row, note=reason, reason=reason)
    told = [row["owner_id"]] if row["owner_id"] is not None else []
    return _ended(tx, call, row, moved, "cancelled", f"Task cancelled: {row['title']}", reason, told)


def _ended(
    tx: Writing, call: Call, row: Row, moved: Row | None, event: str, words: str, text: str | None, told: list[int]
) -> types.TaskChange:  # fmt: skip
    if moved is None:
        return _change(tx, row, True)
    _withdraw(tx, call, moved)
    message = telling.tell(tx, call, moved, event, words, text, told)
    if event == "completed":
        tx.run("work_answered", id=row["id"], message=message)
    return _change(tx, machine.again(tx, row), False)


def _withdraw(tx: Writing, call: Call | None, row: Row) -> None:
    """Nobody else is to look at the offer any more."""
    tx.run("delete_offers", work_id=row["id"])
    telling.withdraw(tx, call, row)


def settle(tx: Writing, row: Row) -> None:
    """Make explicit what is over by the clock."""
    moved = machine.settle(tx, TASK, row)
    if moved is None:
        return
    creator = telling.creator(tx, moved)
    if moved["state"] == OPEN:
        _back(tx, creator, moved, "lapsed")
        return
    _withdraw(tx, None, moved)
    told = [row["creator_id"]] if row["owner_id"] is None else [row["creator_id"], row["owner_id"]]
    telling.tell(tx, creator, moved, "expired", f"Task expired: {row['title']}", None, told)


def _change(tx: Reading, row: Row, idempotent: bool) -> types.TaskChange:
    return {"task": snapshot(row, tx.now), "idempotent": idempotent}
