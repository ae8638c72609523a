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
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, cast

from agentchat.errors import Conflict, Forbidden, NotFound

from ...store.seam import Reading, Writing
from .. import repeats
from ..call import Call
from . import recent

_MEMBERS = (
    "id", "public_id", "space_id", "kind", "state", "version", "fence", "creator_id", "target_id", "owner_id",
    "session", "message_id", "message", "offer_id", "result_message", "title", "body", "tags", "details", "urgent",
    "scope", "result", "reason", "created_at", "deadline_at", "claimed_at", "lease_until", "ended_at", "channel_id",
    "channel", "channel_name", "creator", "creator_name", "owner", "owner_name", "target_name", "context_size",
)  # fmt: skip
Thing = dict[str, Any]  # one of a kind: its row, and the names of those in it
NOBODYS: dict[str, Any] = {"owner_id": None, "owner": None, "owner_name": None, "session": None, "lease_until": None}
_OTHERS: dict[str, Any] = NOBODYS | dict.fromkeys(("target_name", "result", "reason", "result_message"))
VERSION = "#"  # stands between a thing's id and the version that an event is about


class Who(enum.Enum):
    """Who may take a move. The text is for those who may not."""

    CREATOR = "only who made it"
    TAKER = "only who it is offered to"  # anybody, if it is offered to nobody
    TARGET = "only the agent that it is for"
    OWNER = "only who has it"
    REVIEWER = "only who holds the role reviewer, and did not ask for it,"
    LEADER = "only a person, or who holds the role admin,"
    RELAY = "nobody"


class Move(NamedTuple):
    """One way on. `event` is the second half of the event's kind."""

    action: str
    by: Who
    before: tuple[str, ...]
    after: str
    event: str


@dataclass(frozen=True, eq=False)
class Machine:
    """A kind. In `held` somebody has it, under a lease; of some kinds nobody ever has one. What is in one of `final`
    stays there, and in one of `lost` who had it did not end it. `shown` is how one travels, as it stands at a time;
    `stale` is for who lost it."""

    kind: str
    begins: str
    held: str | None
    final: tuple[str, ...]
    moves: tuple[Move, ...]
    shown: Callable[[dict[str, Any], int], Any]
    stale: str = ""
    lost: tuple[str, ...] = ()
    is_public: bool = False  # it concerns everybody in the space
    is_reviewed: bool = False  # reviewers see it, too

    @property
    def events(self) -> list[str]:
        """Second halves of the kinds of its events."""
        return ["created", *(move.event for move in self.moves)]

    def move(self, action: str) -> Move:
        return self._by_action[action]

    @cached_property
    def _by_action(self) -> dict[str, Move]:
        return {move.action: move for move in self.moves}

    @cached_property
    def gives(self) -> str:
        """The action by which somebody gets it."""
        return next(move.action for move in self.moves if move.after == self.held not in move.before)


# Finding


def find(tx: Reading, call: Call, machine: Machine, public_id: str) -> Thing:
    """One that the caller may see, or had once: who wants to move it then is told that it comes too late."""
    if tx.writes:
        cast("Writing", tx).settle(_log_of(public_id))  # whether somebody had it once is asked of the log
    found = find_in(tx, call.agent.space_id, machine, public_id)
    if _sees(tx, call, machine, found) or (machine.held is not None and _had(tx, machine, found, call.agent.id)):
        return found
    raise unknown(machine.kind, public_id)


def seen(tx: Reading, call: Call, machine: Machine, public_id: str) -> Thing:
    """One that the caller may see: those of channels, and its own."""
    found = find_in(tx, call.agent.space_id, machine, public_id)
    if _sees(tx, call, machine, found):
        return found
    raise unknown(machine.kind, public_id)


def _sees(tx: Reading, call: Call, machine: Machine, thing: Thing) -> bool:
    me = call.agent.id
    return machine.is_public or is_visible(thing, me) or (machine.is_reviewed and is_reviewer(tx, me))


def find_in(tx: Reading, space_id: int, machine: Machine, public_id: str) -> Thing:
    """One of a space."""
    thing = _look_up(tx, space_id, machine.kind, public_id)
    if thing is None:
        raise unknown(machine.kind, public_id)
    return thing


def unknown(kind: str, public_id: str) -> NotFound:
    return NotFound(f"There is no {kind} {public_id}.")


def earlier(tx: Writing, call: Call, machine: Machine) -> Thing | None:
    """What this very call made before."""
    before = repeats.earlier(tx, call)
    if before is None:
        return None
    return found(tx, call.agent.space_id, machine.kind, tx.the("work_key", id=before["id"])["public_id"])


def found(tx: Reading, space_id: int, kind: str, public_id: str) -> Thing:
    """One that is known to be there."""
    thing = _look_up(tx, space_id, kind, public_id)
    if thing is None:
        raise LookupError(f"there is no {kind} {public_id}")
    return thing


def _look_up(tx: Reading, space_id: int, kind: str, public_id: str) -> Thing | None:
    if tx.writes:
        known = recent.recall(cast("Writing", tx), public_id)
        if known is not None:
            return known if (known["space_id"], known["kind"]) == (space_id, kind) else None
    row = tx.one("work_by_id", public_id=public_id, space_id=space_id, kind=kind)
    return None if row is None else {name: row[name] for name in _MEMBERS}


def is_visible(thing: Thing, agent_id: int) -> bool:
    return thing["channel_id"] is not None or agent_id in (thing["creator_id"], thing["target_id"], thing["owner_id"])


def shown_to(machine: Machine, thing: Thing, now: int, agent_ids: Iterable[int]) -> Any:
    """How it travels to these. Who had it once, and sees it no more, is not told whose it is and what comes of it."""
    if machine.held is None or machine.is_public or all(is_visible(thing, agent_id) for agent_id in agent_ids):
        return machine.shown(thing, now)
    return machine.shown(by_clock(machine, thing, now) | _OTHERS, now)


def _had(tx: Reading, machine: Machine, thing: Thing, agent_id: int) -> bool:
    return tx.the("had_work", work_id=thing["id"], agent_id=agent_id, action=machine.gives)["fence"] is not None


def due(machine: Machine, thing: Thing, now: int) -> Move | None:
    """The relay's own move that is to be taken next, since the clock says so: that of the time which was over first."""
    lease, deadline = thing["lease_until"], thing["deadline_at"]
    if lease is not None and lease <= now and (deadline is None or lease < deadline):
        return machine.move("lapse")
    is_late = thing["ended_at"] is None and deadline is not None and deadline <= now
    return machine.move("expire") if is_late else None


def by_clock(machine: Machine, thing: Thing, now: int) -> Thing:
    """What it is by the clock, whether or not the relay has made that explicit."""
    while (move := due(machine, thing, now)) is not None:
        over = thing["lease_until" if move.action == "lapse" else "deadline_at"]
        thing = thing | _overdue(machine, move, thing, over) | {"state": move.after}
    return thing


def _overdue(machine: Machine, move: Move, thing: Thing, at: int) -> Thing:
    """What changes by a move of the relay's own."""
    changes: Thing = {"session": None, "lease_until": None, "reason": None}
    if move.after in machine.final:
        return changes | {"ended_at": at}
    return changes | NOBODYS


# Moving


def settle(tx: Writing, machine: Machine, thing: Thing) -> Thing:
    """Take the relay's own moves that are due; what it is then, the same if there was none."""
    while (move := due(machine, thing, tx.now)) is not None:
        changes = _overdue(machine, move, thing, tx.now)
        if not _update(tx, "end_work_in_time", thing, move, changes):
            break
        thing = _moved(tx, machine, move, thing, changes, None, None)
    return thing


def ready(
    tx: Writing, call: Call, machine: Machine, action: str, thing: Thing, *, fence: int | None = None
) -> Thing | None:
    """What is to be moved, if the caller may now; None if the caller has taken this very move already."""
    move, seen = machine.move(action), by_clock(machine, thing, tx.now)
    check_actor(tx, call, machine, move, seen, fence)
    if seen["state"] == move.after and _is_done_by(call, machine, move, seen):
        return None
    if seen["state"] not in move.before:
        raise Late(machine, move, thing, tx.now)
    return settle(tx, machine, thing)


def take(
    tx: Writing, call: Call | None, machine: Machine, action: str, thing: Thing, *, note: str | None = None,
    **changes: Any,
) -> Thing:  # fmt: skip
    """Take a move for which it was found ready. What it is then. Without a call it is nobody's doing who could call."""
    move = machine.move(action)
    if move.after in machine.final:
        changes |= {"lease_until": None, "ended_at": tx.now}
    if move.after == machine.held != thing["state"]:
        changes.setdefault("fence", thing["fence"] + 1)
    if not _update(tx, "move_work", thing, move, changes):
        raise Late(machine, move, thing, tx.now)
    return _moved(tx, machine, move, thing, changes, None if call is None else call.agent.id, note)


def check_actor(tx: Reading, call: Call, machine: Machine, move: Move, seen: Thing, fence: int | None = None) -> None:
    """Refuse whoever may not, whatever state it is in by the clock."""
    me, owner_id = call.agent.id, seen["owner_id"]
    match move.by:
        case Who.CREATOR:
            allowed = me == seen["creator_id"]
        case Who.TAKER:
            allowed = seen["target_id"] in (None, me)
        case Who.TARGET:
            allowed = seen["target_id"] == me
        case Who.OWNER:
            is_lost = owner_id != me or fence not in (None, seen["fence"]) or seen["state"] in machine.lost
            if is_lost and _had(tx, machine, seen, me):
                raise Stale(machine, seen, tx.now, me)
            allowed = owner_id in (None, me)
        case Who.REVIEWER:
            allowed = me != seen["creator_id"] and is_reviewer(tx, me)
        case Who.LEADER:
            allowed = is_leader(tx, me)
        case Who.RELAY:
            allowed = False
    if not allowed:
        raise Forbidden(f"You may not {move.action} this {machine.kind}: {move.by.value} may.")


def is_reviewer(tx: Reading, agent_id: int) -> bool:
    return "reviewer" in tx.the("roles_of", id=agent_id)["roles"].split()


def is_leader(tx: Reading, agent_id: int) -> bool:
    """As the store says: who was a person when it was last looked up may be none any more."""
    row = tx.the("roles_of", id=agent_id)
    return row["kind"] == "person" or "admin" in row["roles"].split()


def _is_done_by(call: Call, machine: Machine, move: Move, seen: Thing) -> bool:
    """Whether it was the caller who brought it there. To have something is a matter of one session."""
    if move.after == machine.held:
        is_mine = seen["owner_id"] == call.agent.id and seen["session"] == call.session
        return is_mine and move.after not in move.before
    return move.after not in (machine.begins, *move.before)


def renew(tx: Writing, machine: Machine, move: Move, thing: Thing, until: int) -> Thing:
    """Have it for longer, who has it still: the move is one that only the owner may take."""
    if not tx.run("renew_work", id=thing["id"], version=thing["version"], lease_until=until, now=tx.now):
        raise Late(machine, move, thing, tx.now)
    return recent.remember(tx, thing | {"lease_until": until})


def offered(tx: Writing, thing: Thing, offer_id: int) -> Thing:
    """By a message that came after the move."""
    tx.run("work_offered", id=thing["id"], offer_id=offer_id)
    return recent.remember(tx, thing | {"offer_id": offer_id})


def announced_anew(tx: Writing, thing: Thing, old_id: int, message_id: int, message: str) -> Thing:
    """A message about it is another one now: what announced it, what offered it last, or neither."""
    changes: dict[str, Any] = {"message_id": message_id, "message": message} if thing["message_id"] == old_id else {}
    if thing["offer_id"] == old_id:
        changes["offer_id"] = message_id
    if not changes:
        return thing
    tx.run("work_announced", **(thing | changes))
    return recent.remember(tx, thing | changes)


class Stale(Conflict):
    """The caller had it once, and has lost it; or it brings the number of an earlier time."""

    def __init__(self, machine: Machine, thing: Thing, now: int, agent_id: int) -> None:
        current = shown_to(machine, thing, now, [agent_id])
        super().__init__(machine.stale.format(**thing), code="stale_fence", details={"current": current})


class Late(Conflict):
    """The state does not allow that any more."""

    def __init__(self, machine: Machine, move: Move, thing: Thing, now: int) -> None:
        now_in, wanted = by_clock(machine, thing, now)["state"], " or ".join(move.before)
        super().__init__(
            f"This {machine.kind} is {now_in}; to {move.action} it, it must be {wanted}. Nothing was changed.",
            details={"current": machine.shown(thing, now)},
        )


def create(
    tx: Writing, call: Call, machine: Machine, *, action: str = "create", event: str = "created", **values: Any
) -> Thing:
    """A new one, in the state in which its kind begins; or in another, to which an action leads at once."""
    me = call.agent
    thing: Thing = dict.fromkeys(_MEMBERS) | {"version": 1, "fence": 0, "context_size": 0, "space_id": me.space_id}
    thing |= {"kind": machine.kind, "state": machine.begins, "created_at": tx.now, **values}
    thing |= {"creator_id": me.id, "creator": me.public_id, "creator_name": me.name}
    thing["id"] = tx.run("insert_work", **thing, key=call.key, digest=call.digest)
    recent.remember(tx, thing)
    _log(tx, thing, action, me.id, None, None)
    _tell(tx, machine, event, thing, me.id)
    return thing


def _update(tx: Writing, statement: str, thing: Thing, move: Move, changes: Thing) -> int:
    return tx.run(statement, **(thing | changes), after=move.after, before=thing["state"], now=tx.now)


def _moved(
    tx: Writing, machine: Machine, move: Move, before: Thing, changes: Thing, actor_id: int | None, note: str | None
) -> Thing:
    thing = before | changes | {"state": move.after, "version": before["version"] + 1}
    recent.remember(tx, thing)
    _log(tx, thing, move.action, actor_id, before["state"], note)
    _tell(tx, machine, move.event, thing, actor_id, before)
    return thing


def _log_of(public_id: str) -> object:
    """Stands for lines of the log that are not written down yet."""
    return "work", public_id


def _log(tx: Writing, thing: Thing, action: str, actor_id: int | None, before: str | None, note: str | None) -> None:
    tx.mark(_log_of(thing["public_id"]))
    tx.later(
        "insert_work_log", space_id=thing["space_id"], work_id=thing["id"], version=thing["version"], action=action,
        actor_id=actor_id, before=before, after=thing["state"], fence=thing["fence"], note=note, at=tx.now,
    )  # fmt: skip


def _tell(
    tx: Writing, machine: Machine, event: str, thing: Thing, actor_id: int | None, before: Thing | None = None
) -> None:
    """What stands in a channel, or is public, concerns everybody; what is between two agents, the other one."""
    other = None
    if thing["channel_id"] is None and not machine.is_public:
        others = (thing["owner_id"], thing["target_id"], None if before is None else before["owner_id"])
        other = thing["creator_id"] if actor_id != thing["creator_id"] else next(filter(None, others), actor_id)
    tx.event(
        thing["space_id"], f"{machine.kind}.{event}", actor_id=actor_id,
        subject=f"{thing['public_id']}{VERSION}{thing['version']}", channel_id=thing["channel_id"], audience_id=other,
        payload=f"{thing['state']} {thing['fence']}",
    )  # fmt: skip
