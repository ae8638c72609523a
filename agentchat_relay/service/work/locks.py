"""Locks: leases on names and on all below a path, exclusive or shared.

Who asks for what overlaps with a lock is refused and told whose it is, or waits. Those who wait get it in the order in
which they came, in the very transaction that ends what they waited for: nobody overtakes one who came before and wants
what overlaps. So whoever is in the way of one who waits came before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from agentchat import types
from agentchat.errors import LimitReached

from ...store.seam import Reading, Row, Writing
from ...wire import Cursor, new_id, read_cursor
from ..call import Call
from . import machine, names, telling
from .lock import EXPIRED, HELD, LOCK, RENEW, WAITING, WITHDRAWN, Details, details_of, snapshot
from .machine import Thing
from .refused import Refused

MOST_LIVE = 200  # of one agent, held or waited for
MOST_WAITING = 50
_SECOND = 1_000_000
_END = 2**62
_PORTION = 50
_MOST_TOLD = 10
_encode = msgspec.json.encode


class Looked(NamedTuple):
    """A lock as it is by the clock, how many seconds it may still wait, and how far the log was then."""

    lock: Thing
    left: float
    position: int
    is_end: bool = True


# Getting it


def acquire_lock(
    tx: Writing,
    call: Call,
    *,
    names: list[str],
    shared: bool = False,
    lease: int = 300,
    wait: int = 0,
    reason: str | None = None,
) -> types.Acquired:
    if (before := machine.earlier(tx, call, LOCK)) is not None:
        return acquired(tx, call, before)
    wanted = _wanted(names, shared, lease)
    in_the_way, over = _in_the_way(tx, call, wanted)
    if in_the_way and ((own := _own(tx, call, wanted, in_the_way)) or not wait):
        raise _refused(tx, call, own or in_the_way, is_own=bool(own))
    _check_room(tx, call, waits=bool(in_the_way))
    for row in over:
        settle(tx, machine.found(tx, call.agent.space_id, LOCK.kind, row["public_id"]))
    if in_the_way:
        waiting = _create(tx, call, wanted, reason, deadline_at=tx.now + wait * _SECOND)
        return acquired(tx, call, waiting)
    fence = _next_fence(tx, call.agent.space_id)
    granted = _create(
        tx, call, wanted, reason, action="grant", event="granted", state=HELD, fence=fence, claimed_at=tx.now,
        lease_until=tx.now + lease * _SECOND,
    )  # fmt: skip
    return {"lock": snapshot(granted, tx.now), "holders": []}


def acquired(tx: Reading, call: Call, thing: Thing) -> types.Acquired:
    """What became of a request by now. One that waited in vain is refused, also if it was taken back."""
    now_in = machine.by_clock(LOCK, thing, tx.now)["state"]
    if now_in == WITHDRAWN:
        raise _refused(tx, call, [], waited=thing)
    if now_in not in (WAITING, EXPIRED):
        return {"lock": snapshot(thing, tx.now), "holders": []}
    rows, _ = _in_the_way(tx, call, details_of(thing), before=thing["id"])
    if now_in == WAITING:
        return {"lock": snapshot(thing, tx.now), "holders": _shown(tx, call, rows)}
    raise _refused(tx, call, rows, waited=thing)


def look(tx: Reading, call: Call, public_id: str) -> Looked:
    """As the lock is now, for who waits for it."""
    position = tx.the("space_position", id=call.agent.space_id)["position"]
    thing = machine.by_clock(LOCK, machine.found(tx, call.agent.space_id, LOCK.kind, public_id), tx.now)
    return Looked(thing, ((thing["deadline_at"] or tx.now) - tx.now) / _SECOND, position)


def _wanted(given: list[str], shared: bool, lease: int) -> Details:
    return Details(names.read(given), shared, lease)


def _create(tx: Writing, call: Call, wanted: Details, reason: str | None, **values: Any) -> Thing:
    me = call.agent
    thing: Thing = {
        "public_id": new_id(tx.now), "title": " ".join(wanted.names)[: names.LONGEST], "body": reason or None,
        "tags": "", "urgent": 0, "scope": "", "details": _encode(wanted).decode(), "owner_id": me.id,
        "owner": me.public_id, "owner_name": me.name, "session": call.session,
    }  # fmt: skip
    thing = machine.create(tx, call, LOCK, **(thing | values))
    stored = _encode([key.stored for key in dict.fromkeys(wanted.keys)]).decode()
    tx.run(
        "insert_names", space_id=me.space_id, is_shared=int(wanted.shared), names=stored, work_id=thing["id"]
    )  # fmt: skip
    return thing


def _next_fence(tx: Writing, space_id: int) -> int:
    """Of each name it grows, whatever pattern was locked, since it grows in the whole space."""
    tx.run("next_fence", space_id=space_id)
    return int(tx.the("fence", space_id=space_id)["fence"])


def _check_room(tx: Reading, call: Call, *, waits: bool) -> None:
    row = tx.the("live_of", agent_id=call.agent.id, kind=LOCK.kind, waiting=WAITING)
    if row["live"] >= MOST_LIVE:
        raise LimitReached(f"You have {row['live']} locks, which is the limit: release_lock gives back what you can.")
    if waits and row["waiting"] >= MOST_WAITING:
        raise LimitReached(f"You wait for {row['waiting']} locks, which is the limit. Nothing was locked.")


# What overlaps


def _overlapping(
    tx: Reading, space_id: int, wanted: Details, *, any_mode: bool = False, state: str = "", after: int = 0,
    before: int = _END, agent_id: int = 0, limit: int = _PORTION,
) -> list[Row]:  # fmt: skip
    """Locks that are held or waited for, first come first, as they are written down: the clock may have ended some."""
    sought = names.sought(wanted.keys)
    return tx.all(
        "overlapping", space_id=space_id, leading=_encode(sought.leading).decode(),
        below=_encode(sought.below).decode(), last=names.LAST, mode=int(any_mode or not wanted.shared), state=state,
        after=after, before=before, agent_id=agent_id, limit=limit,
    )  # fmt: skip


def _in_the_way(tx: Reading, call: Call, wanted: Details, *, before: int = _END) -> tuple[list[Row], list[Row]]:
    """Those in the way by the clock, more than are told of; and those found that it has ended."""
    over: list[Row] = []
    after = 0
    while True:
        rows = _overlapping(tx, call.agent.space_id, wanted, after=after, before=before)
        in_time = [row for row in rows if _is_live(tx, row)]
        over += [row for row in rows if row not in in_time]
        if in_time or len(rows) < _PORTION:
            in_time.sort(key=lambda row: row["state"] != HELD)
            return in_time, over
        after = rows[-1]["id"]


def _is_live(tx: Reading, row: Row) -> bool:
    return bool((row["lease_until"] or row["deadline_at"]) > tx.now)


def _own(tx: Reading, call: Call, wanted: Details, in_the_way: Iterable[Row]) -> list[Row]:
    """What this session has or waits for already, if it would wait for itself: for that, or behind who waits for it."""
    rows = _overlapping(tx, call.agent.space_id, wanted, any_mode=True, agent_id=call.agent.id, limit=MOST_LIVE)
    mine = [row for row in rows if row["session"] == call.session and _is_live(tx, row)]
    return [row for row in mine if details_of(row).conflicts(wanted) or any(_waits_for(row, one) for one in in_the_way)]


def _waits_for(earlier: Row, row: Row) -> bool:
    is_behind = row["state"] == WAITING and row["id"] > earlier["id"]
    return is_behind and details_of(row).conflicts(details_of(earlier))


def _shown(tx: Reading, call: Call, rows: Iterable[Row]) -> list[types.Lock]:
    space_id, told = call.agent.space_id, [*rows][:_MOST_TOLD]
    return [snapshot(machine.found(tx, space_id, LOCK.kind, row["public_id"]), tx.now) for row in told]


def _refused(tx: Reading, call: Call, rows: list[Row], *, waited: Thing | None = None, is_own: bool = False) -> Refused:
    mine = None if waited is None else snapshot(waited, tx.now)
    return Refused(_shown(tx, call, rows), mine=mine, is_own=is_own, now=tx.now)


# Having it, and giving it back


def renew_lock(
    tx: Writing, call: Call, *, lock_id: str, fence: int | None = None, lease: int = 300
) -> types.LockChange:  # fmt: skip
    thing = machine.find(tx, call, LOCK, lock_id)
    machine.check_actor(tx, call, LOCK, RENEW, machine.by_clock(LOCK, thing, tx.now), fence)
    if thing["state"] != HELD:
        raise machine.Late(LOCK, RENEW, thing, tx.now)
    return _change(tx, machine.renew(tx, LOCK, RENEW, thing, tx.now + lease * _SECOND), False)


def release_lock(tx: Writing, call: Call, *, lock_id: str, fence: int | None = None) -> types.LockChange:
    """Also takes back a request that still waits."""
    thing = machine.find(tx, call, LOCK, lock_id)
    waits = fence is None and machine.by_clock(LOCK, thing, tx.now)["state"] in (WAITING, WITHDRAWN)
    action = "withdraw" if waits else "release"
    ready = machine.ready(tx, call, LOCK, action, thing, fence=fence)
    if ready is None:
        return _change(tx, thing, True)
    moved = machine.take(tx, call, LOCK, action, ready)
    _let_in(tx, moved)
    return _change(tx, moved, False)


def _change(tx: Reading, thing: Thing, idempotent: bool) -> types.LockChange:
    return {"lock": snapshot(thing, tx.now), "idempotent": idempotent}


def settle(tx: Writing, thing: Thing) -> None:
    """Make explicit what is over by the clock."""
    moved = machine.settle(tx, LOCK, thing)
    if moved["version"] != thing["version"]:
        _let_in(tx, moved)


def break_lock(tx: Writing, space_id: int, lock_id: str, reason: str | None) -> types.Lock:
    """What an operator may do: take it from who holds it, who is told."""
    thing = machine.find_in(tx, space_id, LOCK, lock_id)
    move, now_in = LOCK.move("break"), machine.by_clock(LOCK, thing, tx.now)["state"]
    if now_in == move.after:
        return snapshot(thing, tx.now)
    if now_in not in move.before:
        raise machine.Late(LOCK, move, thing, tx.now)
    note = f"by the operator: {reason}" if reason else "by the operator"
    moved = machine.take(tx, None, LOCK, "break", thing, note=note, reason=reason)
    holder, words = telling.creator(tx, thing), f"The operator broke your lock on {thing['title']}"
    telling.tell(tx, holder, moved | {"urgent": 1}, "broken", words, reason, [thing["owner_id"]])
    _let_in(tx, moved)
    return snapshot(moved, tx.now)


def _let_in(tx: Writing, ended: Thing) -> None:
    """Grant what waited for this and is free now, first come first. Whatever the clock has ended is in the way until
    that is explicit, which lets in who waits for it."""
    tx.run("delete_names", work_id=ended["id"])
    free, space_id, after = details_of(ended), ended["space_id"], 0
    known: list[Details] = []  # of those who came before, and are in the way
    while waiting := _overlapping(tx, space_id, free, state=WAITING, after=after):
        for row in waiting:
            wanted = details_of(row)
            may_have_it = row["deadline_at"] > tx.now and not any(one.conflicts(wanted) for one in known)
            if may_have_it and not _overlapping(tx, space_id, wanted, before=row["id"], limit=1):
                _grant(tx, space_id, row["public_id"], wanted)
            if wanted.covers(free):  # whoever else waits for this waits for that one
                return
            known.append(wanted)
        after = waiting[-1]["id"]


def _grant(tx: Writing, space_id: int, public_id: str, wanted: Details) -> None:
    thing = machine.found(tx, space_id, LOCK.kind, public_id)
    holder = telling.creator(tx, thing)
    machine.take(
        tx, holder, LOCK, "grant", thing, fence=_next_fence(tx, space_id), claimed_at=tx.now,
        lease_until=tx.now + wanted.lease * _SECOND, deadline_at=None,
    )  # fmt: skip


# Looking


def list_locks(
    tx: Reading, call: Call, *, name: str | None = None, mine: bool = False, limit: int = 50, cursor: str | None = None
) -> types.LockList:
    found, following = listed(tx, call.agent.space_id, name, call.agent.id if mine else None, limit, cursor)
    return {"locks": found, "next_cursor": following, "has_more": following is not None}


def listed(
    tx: Reading, space_id: int, name: str | None, agent_id: int | None, limit: int, cursor: str | None = None
) -> tuple[list[types.Lock], str | None]:
    """What is held or waited for, first come first, and where to go on."""
    place = f"locks {space_id}"
    after = 0 if cursor is None else read_cursor(cursor, place).at
    rows = _live(tx, space_id, name, agent_id, after, limit + 1)
    shown = [snapshot(machine.found(tx, space_id, LOCK.kind, row["public_id"]), tx.now) for row in rows[:limit]]
    return shown, str(Cursor(place, rows[limit - 1]["id"])) if len(rows) > limit else None


def _live(
    tx: Reading, space_id: int, name: str | None, agent_id: int | None, after: int, limit: int
) -> list[Row]:  # fmt: skip
    if name is not None:
        return _live_on(tx, space_id, name, agent_id, after, limit)
    which = {"kind": LOCK.kind, "after": after, "now": tx.now, "limit": limit}
    if agent_id is not None:
        return tx.all("list_live_of", agent_id=agent_id, **which)
    return tx.all("list_live", space_id=space_id, states=_encode([HELD, WAITING]).decode(), **which)


def _live_on(
    tx: Reading, space_id: int, name: str, agent_id: int | None, after: int, limit: int
) -> list[Row]:  # fmt: skip
    wanted, found = _wanted([name], False, 0), list[Row]()
    while len(found) < limit:
        rows = _overlapping(tx, space_id, wanted, any_mode=True, after=after, agent_id=agent_id or 0, limit=limit)
        found += [row for row in rows if _is_live(tx, row)]
        if len(rows) < limit:
            break
        after = rows[-1]["id"]
    return found[:limit]
