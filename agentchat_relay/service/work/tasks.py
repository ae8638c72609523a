"""Tasks: offered to one agent, or in a channel to whoever claims first; claimed under a lease, and ended by a result.

Whoever has to know is told by a message, which the relay writes in the name of who did it: in the task's channel, or
privately between the two. Those whose turn it is find it in their inboxes; what nobody needs to look at any more ends
there by itself.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from agentchat import types
from agentchat.contract import SHORT_CHANNELS
from agentchat.errors import BadRequest, Conflict

from ...store.seam import Reading, Writing
from ...wire import new_id
from .. import agents, channels, groups
from ..call import Call, Unjudged
from . import machine, results, telling
from .machine import Thing
from .task import OPEN, RENEW, TASK, result_schema_of, snapshot, tags_of

_SECOND = 1_000_000
_MOST_OPEN = 1000  # of one creator
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
    if (before := machine.earlier(tx, call, TASK)) is not None:
        return _change(tx, before, False)
    _check_says("title", title)
    if result_schema is not None and not call.is_judged:
        raise Unjudged(partial(results.check_schema, result_schema))
    target = None if target_agent is None else _target(tx, call, target_agent)
    _check_room(tx, call)
    place = _place(tx, call, channel, target_agent)
    tags = list(dict.fromkeys(capability_tags or ()))
    thing: Thing = {
        "public_id": new_id(tx.now), "kind": TASK.kind, "space_id": call.agent.space_id, "creator_id": call.agent.id,
        "target_id": target, "target_name": target_agent, "title": " ".join(title.split()), "body": body or None,
        "tags": _encode(tags).decode() if tags else "", "urgent": int(urgent), "scope": scope or "",
        "channel_id": None if place is None else place.id, "channel": None if place is None else place.public_id,
        "channel_name": channel, "message": None, "ended_at": None,
        "deadline_at": None if deadline_in is None else tx.now + deadline_in * _SECOND,
        "details": None if result_schema is None else _encode({"result_schema": result_schema}).decode(),
    }  # fmt: skip
    told = _announce(tx, call, thing)
    thing |= {"message_id": told.id, "message": told.public_id, "offer_id": told.id}
    thing = machine.create(tx, call, TASK, **thing, context_size=len(context or ""))
    _list(tx, thing)
    if context:
        tx.run("insert_work_context", work_id=thing["id"], content=context)
    return _change(tx, thing, False)


def _check_says(name: str, text: str) -> None:
    """Unicode knows more blanks than the contract's check."""
    if not text.strip():
        raise BadRequest(f"{name} must be text that is not blank.")


def _check_room(tx: Writing, call: Call) -> None:
    """Those that were open when they were last counted, and all that were created since, are not too many."""
    fact = ("open tasks", call.agent.id)
    known: int = tx.tallies.get(fact, _MOST_OPEN)
    if known >= _MOST_OPEN:
        known = tx.the("count_open_work", creator_id=call.agent.id, kind=TASK.kind, limit=_MOST_OPEN)["things"]
    if known >= _MOST_OPEN:
        raise Conflict(f"{_MOST_OPEN} tasks that you created have not ended, which is the limit; cancel some first.")
    tx.tallies[fact] = known + 1


def _announce(tx: Writing, call: Call, thing: Thing) -> telling.Told:
    """Tell whoever may take it."""
    if thing["target_id"] is not None:
        return telling.tell(
            tx, call, thing, "created", f"Task for you: {thing['title']}", thing["body"], [thing["target_id"]]
        )  # fmt: skip
    tags = tags_of(thing)
    takes = f" (takes {', '.join(tags)})" if tags else ""
    return telling.tell(
        tx, call, thing, "created", f"Task: {thing['title']}{takes}", thing["body"], telling.able(tx, call, tags)
    )  # fmt: skip


def _list(tx: Writing, thing: Thing) -> None:
    """Where whoever could take it finds it."""
    if thing["target_id"] is None:
        for tag in tags_of(thing) or [""]:
            tx.run("insert_offer", space_id=thing["space_id"], kind=thing["kind"], tag=tag, work_id=thing["id"])


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
    if groups.is_group(name, found):
        raise BadRequest(f"{name} is a group; offer the task to one agent, or in a channel to whoever is first.")
    if found is None:
        raise agents.unknown(tx, call, name)
    agents.check_takes_mail(found, name)
    return found.id


def offer_task(tx: Writing, call: Call, *, task_id: str, target_agent: str) -> types.TaskChange:
    thing = machine.find(tx, call, TASK, task_id)
    machine.check_actor(tx, call, TASK, TASK.move("offer"), thing)
    target = _target(tx, call, target_agent)
    ready = machine.ready(tx, call, TASK, "offer", thing)
    if ready is None:
        return _change(tx, thing, True)
    _withdraw(tx, call, ready)
    new = ready | {"target_id": target, "target_name": target_agent}
    told = _announce(tx, call, new)
    moved = machine.take(
        tx, call, TASK, "offer", ready, target_id=target, target_name=target_agent, offer_id=told.id, reason=None,
        **machine.NOBODYS,
    )  # fmt: skip
    return _change(tx, moved, False)


# Having it


def claim_task(tx: Writing, call: Call, *, task_id: str, lease: int = 1800) -> types.TaskChange:
    thing, me = machine.find(tx, call, TASK, task_id), call.agent
    ready = machine.ready(tx, call, TASK, "claim", thing)
    if ready is None:
        return _change(tx, thing, True)
    moved = machine.take(
        tx, call, TASK, "claim", ready, owner_id=me.id, owner=me.public_id, owner_name=me.name, session=call.session,
        claimed_at=tx.now, lease_until=tx.now + lease * _SECOND, reason=None,
    )  # fmt: skip
    _withdraw(tx, call, ready)
    return _change(tx, moved, False)


def decline_task(tx: Writing, call: Call, *, task_id: str, reason: str) -> types.TaskChange:
    _check_says("reason", reason)
    thing = machine.find(tx, call, TASK, task_id)
    ready = machine.ready(tx, call, TASK, "decline", thing)
    if ready is None:
        return _change(tx, thing, True)
    moved = machine.take(tx, call, TASK, "decline", ready, note=reason, reason=reason)
    _withdraw(tx, call, ready)
    telling.tell(tx, call, moved, "declined", f"Task declined: {thing['title']}", reason, [thing["creator_id"]])
    return _change(tx, moved, False)


def renew_task(
    tx: Writing, call: Call, *, task_id: str, fence: int | None = None, lease: int = 1800
) -> types.TaskChange:
    thing = machine.find(tx, call, TASK, task_id)
    machine.check_actor(tx, call, TASK, RENEW, machine.by_clock(TASK, thing, tx.now), fence)
    return _change(tx, machine.renew(tx, TASK, RENEW, thing, tx.now + lease * _SECOND), False)


def report_progress(tx: Writing, call: Call, *, task_id: str, note: str, fence: int | None = None) -> types.TaskChange:
    _check_says("note", note)
    thing = machine.find(tx, call, TASK, task_id)
    ready = machine.ready(tx, call, TASK, "progress", thing, fence=fence)
    if ready is None:
        return _change(tx, thing, True)
    return _change(tx, machine.take(tx, call, TASK, "progress", ready, note=note), False)


def return_task(
    tx: Writing, call: Call, *, task_id: str, reason: str | None = None, fence: int | None = None
) -> types.TaskChange:
    thing = machine.find(tx, call, TASK, task_id)
    ready = machine.ready(tx, call, TASK, "return", thing, fence=fence)
    if ready is None:
        return _change(tx, thing, True)
    moved = machine.take(tx, call, TASK, "return", ready, note=reason, reason=reason, **machine.NOBODYS)
    return _change(tx, _back(tx, call, moved, "returned"), False)


def _back(tx: Writing, call: Call, thing: Thing, event: str) -> Thing:
    """It is open again: for whoever is first, or for the one who may take it."""
    _list(tx, thing)
    told = telling.able(tx, call, tags_of(thing)) if thing["target_id"] is None else [thing["target_id"]]
    words = f"Task open again: {thing['title']}"
    offer = telling.tell(tx, call, thing, event, words, thing["reason"], [*told, thing["creator_id"]])
    return machine.offered(tx, thing, offer.id)


# Ending it


def complete_task(tx: Writing, call: Call, *, task_id: str, result: str, fence: int | None = None) -> types.TaskChange:
    _check_says("result", result)
    thing = machine.find(tx, call, TASK, task_id)
    ready = machine.ready(tx, call, TASK, "complete", thing, fence=fence)
    if ready is None:
        return _change(tx, thing, True)
    if (schema := result_schema_of(thing)) is not None and not call.is_judged:
        raise Unjudged(partial(results.check_result, schema, result))
    words = f"Task done: {thing['title']}"
    done = ready | {"ended_at": tx.now}
    told = telling.tell(tx, call, done, "completed", words, result, [thing["creator_id"]])
    moved = machine.take(
        tx, call, TASK, "complete", ready, result=result, reason=None, result_message=told.public_id
    )  # fmt: skip
    return _change(tx, moved, False)


def fail_task(tx: Writing, call: Call, *, task_id: str, reason: str, fence: int | None = None) -> types.TaskChange:
    _check_says("reason", reason)
    thing = machine.find(tx, call, TASK, task_id)
    ready = machine.ready(tx, call, TASK, "fail", thing, fence=fence)
    if ready is None:
        return _change(tx, thing, True)
    moved = machine.take(tx, call, TASK, "fail", ready, note=reason, reason=reason)
    telling.tell(tx, call, moved, "failed", f"Task failed: {thing['title']}", reason, [thing["creator_id"]])
    return _change(tx, moved, False)


def cancel_task(tx: Writing, call: Call, *, task_id: str, reason: str | None = None) -> types.TaskChange:
    thing = machine.find(tx, call, TASK, task_id)
    ready = machine.ready(tx, call, TASK, "cancel", thing)
    if ready is None:
        return _change(tx, thing, True)
    moved = machine.take(tx, call, TASK, "cancel", ready, note=reason, reason=reason)
    _withdraw(tx, call, ready)
    told = [ready["owner_id"]] if ready["owner_id"] is not None else []
    telling.tell(tx, call, moved, "cancelled", f"Task cancelled: {thing['title']}", reason, told)
    return _change(tx, moved, False)


def _withdraw(tx: Writing, call: Call | None, before: Thing) -> None:
    """Nobody else is to look at the offer any more. Once somebody has it, nobody is."""
    if before["state"] == OPEN:
        if before["target_id"] is None:
            tx.run("delete_offers", work_id=before["id"])
        telling.withdraw(tx, call, before)


def settle(tx: Writing, thing: Thing) -> None:
    """Make explicit what is over by the clock."""
    moved = machine.settle(tx, TASK, thing)
    if moved["version"] == thing["version"]:
        return
    creator = telling.creator(tx, moved)
    if moved["state"] == OPEN:
        _back(tx, creator, moved, "lapsed")
        return
    _withdraw(tx, None, thing)
    told = [one for one in (thing["creator_id"], moved["owner_id"]) if one is not None]
    telling.tell(tx, creator, moved, "expired", f"Task expired: {thing['title']}", None, told)


def _change(tx: Reading, thing: Thing, idempotent: bool) -> types.TaskChange:
    return {"task": snapshot(thing, tx.now), "idempotent": idempotent}
