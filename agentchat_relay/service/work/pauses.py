"""Pauses: the agents of a channel or a group are asked to stop, by an interrupt for each, and later to go on.

Only persons and admins may. A few are told in the transaction of the call; of many the rest is written down, and told
in portions after it, whatever happens to the relay meanwhile. When a pause ends, whoever has not acknowledged it need
not any more, and whoever has is told by another interrupt.
"""

from __future__ import annotations

from agentchat import types
from agentchat.contract import SHORT_CHANNELS
from agentchat.errors import BadRequest, Conflict, Forbidden, LimitReached

from ...store.seam import Reading, Writing
from ...wire import new_id
from .. import agents, channels, groups
from ..call import Call
from . import interrupts, machine, telling
from .interrupt import ACKNOWLEDGED, INTERRUPT, PENDING, Details
from .interrupts import Target
from .machine import Thing
from .pause import PAUSE, PAUSED, snapshot

_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_MOST_PAUSES = 50  # of a space, at a time
_AT_ONCE = 50  # agents who are told in the transaction of the call
_PORTION = 100


def pause_agents(
    tx: Writing,
    call: Call,
    *,
    reason: str,
    channel: str | None = None,
    group: str | None = None,
    expires_in: int = 86_400,
) -> types.PauseChange:
    if (before := machine.earlier(tx, call, PAUSE)) is not None:
        return _change(tx, before, False)
    if (channel is None) == (group is None):
        raise BadRequest("pause_agents: say either channel or group; the group all is everybody.")
    if not machine.is_leader(tx, call.agent.id):
        raise Forbidden(
            "Only a person, or an agent with the role admin, may pause others. An operator grants it: agentchat admin "
            f"agent grant {call.agent.name} admin. One agent alone: send_interrupt."
        )
    if len(tx.all("pauses", space_id=call.agent.space_id, now=tx.now, limit=_MOST_PAUSES)) >= _MOST_PAUSES:
        raise LimitReached(f"{_MOST_PAUSES} pauses are on, which is the limit; resume some first (list_pauses).")
    thing: Thing = {
        "public_id": new_id(tx.now), "kind": PAUSE.kind, "space_id": call.agent.space_id, "creator_id": call.agent.id,
        "target_id": None, "target_name": group, "title": interrupts.title_of(reason), "body": reason, "tags": "",
        "details": None, "urgent": 0, "scope": "", "channel_id": None, "channel": None, "channel_name": channel,
        "message": None, "message_id": None, "offer_id": None, "ended_at": None,
        "deadline_at": tx.now + expires_in * _SECOND,
    }  # fmt: skip
    if group is not None:
        thing["target_id"] = _group(tx, call, group)
    else:
        place = _channel(tx, call, channel or "")
        thing |= {"channel_id": place.id, "channel": place.public_id}
    if not _next(tx, thing, 0, 1):
        raise Conflict(f"There is no other agent in {channel or group} that could be paused. Nothing was done.")
    if channel is not None:
        told = telling.tell(tx, call, thing, "created", f"Paused: #{channel}, until it is resumed.", reason, [])
        thing |= {"message_id": told.id, "message": told.public_id, "offer_id": told.id}
    thing = machine.create(tx, call, PAUSE, **thing)
    tx.run("set_spread", work_id=thing["id"], after_id=0)
    _spread(tx, call._replace(key=None, digest=None), thing, 0, _AT_ONCE)
    return _change(tx, thing, False)


def _group(tx: Writing, call: Call, name: str) -> int:
    if name == groups.ALL:
        return groups.of_all(tx, call).id
    found = agents.known(tx, call.agent.space_id, name)
    if found is None:
        raise groups.unknown(tx, call, name)
    if not found.is_group:
        raise BadRequest(f"{name} is an agent; interrupt it with send_interrupt.")
    return found.id


def _channel(tx: Writing, call: Call, name: str) -> channels.Channel:
    channels.refuse_direct(name)
    if name.startswith(tuple(SHORT_CHANNELS)):
        raise BadRequest(f"#{name} is shared with other relays, whose agents no pause reaches; pause a group.")
    return channels.find(tx, call, name)


def resume_agents(tx: Writing, call: Call, *, pause_id: str, note: str | None = None) -> types.PauseChange:
    thing = machine.find(tx, call, PAUSE, pause_id)
    ready = machine.ready(tx, call, PAUSE, "resume", thing)
    if ready is None:
        return _change(tx, thing, True)
    moved = machine.take(tx, call, PAUSE, "resume", ready, note=note or None, reason=note or None)
    return _change(tx, _over(tx, call, moved, "resumed", "The pause is over.", note), False)


def settle(tx: Writing, thing: Thing) -> None:
    """Make explicit what is over by the clock."""
    moved = machine.settle(tx, PAUSE, thing)
    if moved["version"] != thing["version"]:
        _over(tx, telling.creator(tx, thing), moved, "expired", "The time of the pause is over.", None)


def _over(tx: Writing, call: Call, thing: Thing, event: str, words: str, note: str | None) -> Thing:
    """Tell those whom it reached, and no more of those whom it did not."""
    if thing["channel_id"] is not None:
        telling.tell(tx, call, thing, event, words, note, [])
    tx.run("set_spread", work_id=thing["id"], after_id=0)
    _spread(tx, call._replace(key=None, digest=None), thing, 0, _AT_ONCE)
    return thing


# Telling them


def spread(tx: Writing) -> int:
    """Tell the next portion of those whom a pause, or its end, is still to reach; how many that were."""
    row = tx.one("next_spread")
    if row is None:
        return 0
    thing = machine.found(tx, row["space_id"], PAUSE.kind, row["public_id"])
    return max(_spread(tx, telling.mover(tx, thing), thing, row["after_id"], _PORTION), 1)


def _spread(tx: Writing, call: Call, thing: Thing, after: int, portion: int) -> int:
    tell = _tell if thing["state"] == PAUSED else _release
    told, last = tell(tx, call, thing, after, portion)
    if told < portion:
        tx.run("delete_spread", work_id=thing["id"])
    else:
        tx.run("set_spread", work_id=thing["id"], after_id=last)
    return told


def _tell(tx: Writing, call: Call, thing: Thing, after: int, portion: int) -> tuple[int, int]:
    """How many of the next ones were told, and who was the last."""
    found = _next(tx, thing, after, portion)
    for target in found:
        details = Details("pause", thing["public_id"])
        part = interrupts.send(tx, call, target, thing["body"], thing["deadline_at"], details)
        tx.run("insert_part", parent_id=thing["id"], work_id=part["id"])
    return len(found), found[-1].id if found else after


def _next(tx: Reading, thing: Thing, after: int, limit: int) -> list[Target]:
    which = {"after": after, "creator_id": thing["creator_id"], "space_id": thing["space_id"], "limit": limit}
    if thing["channel_id"] is not None:
        rows = tx.all("agents_in_channel", channel_id=thing["channel_id"], **which)
    elif thing["target_name"] == groups.ALL:
        rows = tx.all("agents_in_space", **which)
    else:
        rows = tx.all("agents_in_group", group_id=thing["target_id"], **which)
    return [Target(row["id"], row["name"]) for row in rows]


def _release(tx: Writing, call: Call, thing: Thing, after: int, portion: int) -> tuple[int, int]:
    """How many interrupts of those sent were dealt with, and which was the last."""
    rows = tx.all("parts_of", parent_id=thing["id"], after=after, limit=portion)
    for row in rows:
        part = machine.found(tx, thing["space_id"], INTERRUPT.kind, row["public_id"])
        state = machine.by_clock(INTERRUPT, part, tx.now)["state"]
        if state == PENDING:
            interrupts.withdraw(tx, None, part, "The pause is over.")
        elif state == ACKNOWLEDGED and part["target_id"] != call.agent.id:  # who knows
            reason = thing["reason"] or f"Paused for: {thing['body']}"[:2000]
            target = Target(part["target_id"], part["target_name"])
            interrupts.send(tx, call, target, reason, tx.now + _DAY, Details("resume", thing["public_id"]))
    return len(rows), rows[-1]["id"] if rows else after


# Looking


def list_pauses(tx: Reading, call: Call) -> types.PauseList:
    rows = tx.all("pauses", space_id=call.agent.space_id, now=tx.now, limit=_MOST_PAUSES)
    found = [machine.found(tx, call.agent.space_id, PAUSE.kind, row["public_id"]) for row in rows]
    return {"pauses": [_counted(tx, thing) for thing in found]}


def concerning(tx: Reading, call: Call) -> list[types.Pause]:
    """Those of the channels and groups that the caller is in: whoever came later was not interrupted."""
    me = call.agent
    rows = tx.all("pauses_of", space_id=me.space_id, agent_id=me.id, now=tx.now, limit=_MOST_PAUSES)
    return [snapshot(machine.found(tx, me.space_id, PAUSE.kind, row["public_id"]), tx.now) for row in rows]


def _counted(tx: Reading, thing: Thing) -> types.CountedPause:
    row = tx.the("count_parts", parent_id=thing["id"], state=ACKNOWLEDGED)
    is_pending = tx.one("spread_of", work_id=thing["id"]) is not None
    return {
        **snapshot(thing, tx.now), "told": row["told"], "acknowledged": row["acknowledged"], "pending": is_pending,
    }  # fmt: skip


def _change(tx: Reading, thing: Thing, idempotent: bool) -> types.PauseChange:
    return {"pause": _counted(tx, thing), "idempotent": idempotent}
