"""The one state machine of everything that agents hand to each other. A kind declares its moves, as data; here is what
a move means.

A move goes from some states to one. It is taken by who may (checked first), by the store's clock, in one guarded
UPDATE, which also gives it the next version; with it goes a line of the log, and an event. Who has taken it already is
told so, and nothing happens; whoever comes too late gets the thing as it is now. What is over by the clock is over at
once, also for those who look: the relay only makes it explicit, by moves of its own.

Who gets something gets a number with it, its fence, which grows each time. A late owner is refused by it, or by the
log.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

from agentchat.errors import Conflict, Forbidden, NotFound

from ...store.seam import Reading, Row, Writing
from ...wire import new_id
from ..call import Call

_CHANGED = (
    "owner_id", "session", "target_id", "channel_id", "deadline_at", "claimed_at", "lease_until", "ended_at", "result",
    "reason",
)  # fmt: skip
VERSION = "#"  # stands between a thing's id and the version that an event is about


class Who(enum.Enum):
    """Who may take a move. The text is for those who may not."""

    CREATOR = "only who made it"
    TAKER = "only who it is offered to"  # anybody, if it is offered to nobody
    TARGET = "only whom it is offered to alone"
    OWNER = "only who has it"
    RELAY = "nobody"


class Move(NamedTuple):
    """One way on. `event` is the second half of the event's kind."""

    action: str
    by: Who
    before: tuple[str, ...]
    after: str
    event: str


class Machine(NamedTuple):
    """A kind. In `held` somebody has it, under a lease; what is in one of `final` stays there. `shown` is how one
    travels, as it stands at a time."""

    kind: str
    begins: str
    held: str
    final: tuple[str, ...]
    moves: tuple[Move, ...]
    shown: Callable[[Row, int], Any]

    @property
    def events(self) -> list[str]:
        """Second halves of the kinds of its events."""
        return ["created", *(move.event for move in self.moves)]

    def move(self, action: str) -> Move:
        return next(move for move in self.moves if move.action == action)


# Finding


def find(tx: Reading, call: Call, machine: Machine, public_id: str) -> Row:
    """One that the caller may see: those of channels, and its own."""
    row = tx.one("work_by_id", public_id=public_id, space_id=call.agent.space_id, kind=machine.kind)
    if row is None or not (is_visible(row, call.agent.id) or _had(tx, row, call.agent.id)):
        raise NotFound(f"There is no {machine.kind} {public_id}.")
    return row


def again(tx: Reading, row: Row) -> Row:
    """The same one, as it is by now."""
    return tx.the("work_by_id", public_id=row["public_id"], space_id=row["space_id"], kind=row["kind"])


def is_visible(row: Row, agent_id: int) -> bool:
    return row["channel_id"] is not None or agent_id in (row["creator_id"], row["target_id"], row["owner_id"])


def _had(tx: Reading, row: Row, agent_id: int) -> bool:
    return tx.the("had_work", work_id=row["id"], agent_id=agent_id, action="claim")["fence"] is not None


def due(machine: Machine, row: Row, now: int) -> Move | None:
    """The relay's own move that is to be taken next, since the clock says so: that of the time which was over first."""
    if is_lost(row, now):
        return machine.move("lapse")
    return machine.move("expire") if _is_late(row, now) else None


def is_lost(row: Row, now: int) -> bool:
    """Whether its lease ended, by the clock, while there was time left for it."""
    lease, deadline = row["lease_until"], row["deadline_at"]
    return lease is not None and lease <= now and (deadline is None or lease < deadline)


def _is_late(row: Row, now: int) -> bool:
    return row["ended_at"] is None and row["deadline_at"] is not None and row["deadline_at"] <= now


def state(machine: Machine, row: Row, now: int) -> str:
    """Its state by the clock, whether or not the relay has made it explicit."""
    if _is_late(row, now):
        return machine.move("expire").after
    return machine.move("lapse").after if is_lost(row, now) else str(row["state"])


# Moving


def settle(tx: Writing, machine: Machine, row: Row) -> Row | None:
    """Take the relay's own moves that are due. What it is then; None if there was none."""
    found = None
    while (move := due(machine, row, tx.now)) is not None:
        is_over = move.after in machine.final
        if not tx.run(
            "end_work_in_time", id=row["id"], version=row["version"], before=row["state"], state=move.after, now=tx.now,
            owner_id=row["owner_id"] if is_over else None, ended_at=tx.now if is_over else None,
        ):  # fmt: skip
            break
        row = found = _moved(tx, machine, move, row, None, None)
    return found


def take(
    tx: Writing, call: Call, machine: Machine, action: str, row: Row, *, fence: int | None = None,
    note: str | None = None, **changes: Any,
) -> Row | None:  # fmt: skip
    """Take a move. What it is then; None if the caller has taken this very move already."""
    move = machine.move(action)
    row = settle(tx, machine, row) or row
    check_actor(tx, call, machine, move, row, fence)
    now_in = row["state"]
    if now_in == move.after and _is_done_by(call, machine, move, row):
        return None
    if now_in not in move.before:
        raise Late(machine, move, row, tx.now)
    values = {name: row[name] for name in _CHANGED} | changes
    is_over, is_given = move.after in machine.final, move.after == machine.held != now_in
    if is_over:
        values |= {"lease_until": None, "ended_at": tx.now}
    if not tx.run(
        "move_work", id=row["id"], version=row["version"], before=row["state"], state=move.after, now=tx.now,
        given=int(is_given), **values,
    ):  # fmt: skip
        raise Late(machine, move, row, tx.now)
    return _moved(tx, machine, move, row, call.agent.id, note)


def check_actor(tx: Reading, call: Call, machine: Machine, move: Move, row: Row, fence: int | None = None) -> None:
    """Refuse whoever may not, whatever state it is in."""
    me, owner_id = call.agent.id, row["owner_id"]
    match move.by:
        case Who.CREATOR:
            allowed = me == row["creator_id"]
        case Who.TAKER:
            allowed = row["target_id"] in (None, me)
        case Who.TARGET:
            allowed = row["target_id"] == me
        case Who.OWNER:
            _check_owner(tx, call, machine, row, fence)
            allowed = owner_id in (None, me)
        case Who.RELAY:
            allowed = False
    if not allowed:
        raise Forbidden(f"You may not {move.action} this {machine.kind}: {move.by.value} may.")


def _check_owner(tx: Reading, call: Call, machine: Machine, row: Row, fence: int | None) -> None:
    """Refuse who had it once and has lost it, and who brings the number of an earlier time."""
    has_it = row["owner_id"] == call.agent.id and due(machine, row, tx.now) is None
    if (not has_it or fence not in (None, row["fence"])) and _had(tx, row, call.agent.id):
        raise Conflict(
            f"You do not have this {machine.kind} any more: your lease was over, or you gave it back, and it counts "
            f"{row['fence']} claims by now. Nothing was changed. Stop this work, or claim it anew.",
            code="stale_fence",
            details={"current": machine.shown(row, tx.now)},
        )


def _is_done_by(call: Call, machine: Machine, move: Move, row: Row) -> bool:
    """Whether it was the caller who brought it there. To have something is a matter of one session."""
    if move.after == machine.held:
        is_mine = row["owner_id"] == call.agent.id and row["session"] == call.session
        return is_mine and move.after not in move.before
    return move.after not in (machine.begins, *move.before)


class Late(Conflict):
    """The state does not allow that any more."""

    def __init__(self, machine: Machine, move: Move, row: Row, now: int) -> None:
        now_in, wanted = state(machine, row, now), " or ".join(move.before)
        super().__init__(
            f"This {machine.kind} is {now_in}; to {move.action} it, it must be {wanted}. Nothing was changed.",
            details={"current": machine.shown(row, now)},
        )


def create(tx: Writing, call: Call, machine: Machine, **values: Any) -> Row:
    """A new one, in the state in which its kind begins."""
    public_id = new_id(tx.now)
    tx.run(
        "insert_work", public_id=public_id, space_id=call.agent.space_id, kind=machine.kind, state=machine.begins,
        creator_id=call.agent.id, created_at=tx.now, key=call.key, digest=call.digest, **values,
    )  # fmt: skip
    row = tx.the("work_by_id", public_id=public_id, space_id=call.agent.space_id, kind=machine.kind)
    _log(tx, row, "create", call.agent.id, None, None)
    _tell(tx, machine, "created", row, call.agent.id)
    return row


def _moved(tx: Writing, machine: Machine, move: Move, before: Row, actor_id: int | None, note: str | None) -> Row:
    row = again(tx, before)
    _log(tx, row, move.action, actor_id, before["state"], note)
    _tell(tx, machine, move.event, row, actor_id, before)
    return row


def _log(tx: Writing, row: Row, action: str, actor_id: int | None, before: str | None, note: str | None) -> None:
    tx.run(
        "insert_work_log", space_id=row["space_id"], work_id=row["id"], version=row["version"], action=action,
        actor_id=actor_id, before=before, after=row["state"], fence=row["fence"], note=note, at=tx.now,
    )  # fmt: skip


def _tell(tx: Writing, machine: Machine, event: str, row: Row, actor_id: int | None, before: Row | None = None) -> None:
    """What stands in a channel concerns everybody; what is between two agents, the other one."""
    other = None
    if row["channel_id"] is None:
        others = (row["owner_id"], row["target_id"], None if before is None else before["owner_id"])
        other = row["creator_id"] if actor_id != row["creator_id"] else next(filter(None, others), actor_id)
    tx.event(
        row["space_id"], f"{machine.kind}.{event}", actor_id=actor_id,
        subject=f"{row['public_id']}{VERSION}{row['version']}", channel_id=row["channel_id"], audience_id=other,
        payload=f"{row['state']} {row['fence']}",
    )  # fmt: skip
