"""Events: what was committed, in one order for each space, without holes.

A row says that something happened and to what; what is told of it is read from its subject when it is given out, once
for all readers. Who may see an event: everybody in the space if it has no audience, else its audience and its actor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from agentchat import types
from agentchat.errors import PositionExpired

from ..store.seam import Reading, Row
from ..wire import iso
from . import channels, inbox, messages
from .call import Agent, Call
from .work import machine
from .work.kinds import KINDS

PRESENCE = "agent.presence"  # of the moment: attendance.py tells it, and no row
_AT_A_TIME = 1000
_encode = msgspec.json.encode


class Happened(NamedTuple):
    """An event, and how it travels. It is small beside `body`, which is the same for everybody."""

    position: int
    kind: str
    actor_id: int | None
    channel_id: int | None
    audience_id: int | None
    body: bytes = b""  # JSON on one line

    def is_visible_to(self, agent_id: int) -> bool:
        return self.audience_id is None or agent_id in (self.audience_id, self.actor_id)

    def concerns(self, agent_id: int) -> bool:
        """Whether it is this agent's own affair."""
        return agent_id in (self.audience_id, self.actor_id)


Wants = Callable[[Happened], bool]


class Page(NamedTuple):
    """A piece of the log: what was wanted of it, how far it was looked through, and whether that is its end."""

    events: list[Happened]
    position: int
    is_end: bool


def head(tx: Reading, space_id: int) -> int:
    """The newest position of a space."""
    return int(tx.the("space_position", id=space_id)["position"])


def after(tx: Reading, space_id: int, position: int, limit: int, *, wants: Wants | None = None, rows: int = 0) -> Page:
    """What came after a position, oldest first; with `wants`, of at most so many rows. The position must be in the log,
    or at its end."""
    most = max(limit, rows) + 1
    found = tx.all("events_after", space_id=space_id, position=position, limit=most)
    if not found or found[0]["position"] != position + 1:
        check_kept(tx, space_id, position)
    events: list[Happened] = []
    for row in found[: most - 1]:
        if len(events) == limit:
            return Page(events, position, False)
        position = row["position"]
        event = Happened(position, row["kind"], row["actor_id"], row["channel_id"], row["audience_id"])
        if wants is None or wants(event):
            events.append(event._replace(body=_body(tx, row)))
    return Page(events, position, len(found) < most)


def check_kept(tx: Reading, space_id: int, position: int) -> None:
    """Refuse a position from which nobody can go on without a gap."""
    newest = head(tx, space_id)
    begin = tx.one("events_begin", space_id=space_id)
    first = newest if begin is None else begin["position"] - 1
    if first <= position <= newest:
        return
    if position > newest:
        what = f"Position {position} is ahead of this relay's log, which ends at {newest}"
    else:
        what = f"Events up to position {first} are no longer kept, and {position} is before that"
    raise PositionExpired(
        f"{what}. Read what you need anew (get_briefing, read_messages), then go on from position {newest}.",
        details={"first": first, "position": newest},
    )


def _body(tx: Reading, row: Row) -> bytes:
    tell = _DATA.get(row["kind"])
    return told(
        row["kind"], row["created_at"], position=row["position"], actor=row["actor"], channel=row["channel"],
        subject=row["subject"].partition(machine.VERSION)[0], data=None if tell is None else tell(tx, row),
    )  # fmt: skip


def told(
    kind: str, at: int, *, actor: str | None, subject: str, data: Any, channel: str | None = None,
    position: int | None = None,
) -> bytes:  # fmt: skip
    """An event as it travels; without a position it is in no log."""
    event: types.Event = {
        "position": position, "kind": kind, "at": iso(at), "actor": actor, "channel": channel, "subject": subject,
        "data": data,
    }  # fmt: skip
    return _encode(event)


# What each kind tells besides. Whatever is gone by now tells nothing.


def _message(tx: Reading, event: Row) -> Any:
    row = tx.one("message_of", public_id=event["subject"])
    return None if row is None else {"message": messages.whole(tx, row["id"], False)}


def _item(tx: Reading, event: Row) -> Any:
    row = tx.one("inbox_item", public_id=event["subject"])
    return None if row is None else {"item": inbox.travelling(tx, row)}


def _agent(tx: Reading, event: Row) -> Any:
    row = tx.one("agent_of", public_id=event["subject"])
    if row is None:
        return None
    return {"agent": row["name"], "card": None if row["card"] is None else msgspec.Raw(row["card"].encode())}


def _group(tx: Reading, event: Row) -> Any:
    row = tx.one("group_of", public_id=event["subject"])
    return None if row is None else {"group": row["name"]}


def _retired(tx: Reading, event: Row) -> Any:
    row = tx.one("agent_of", public_id=event["subject"])
    if row is None:
        return None
    times = {name: None if row[name] is None else iso(row[name]) for name in ("last_seen_at", "retired_at")}
    return {"agent": row["name"], **times}


def _transition(tx: Reading, event: Row) -> Any:
    """What moved, as it is by now for those who are told, and what it was that happened to it."""
    public_id, _, version = event["subject"].partition(machine.VERSION)
    line = tx.one("work_logged", public_id=public_id, version=int(version))
    if line is None:
        return None
    thing = machine.found(tx, line["space_id"], line["kind"], public_id)
    told = [agent_id for agent_id in (event["actor_id"], event["audience_id"]) if agent_id is not None]
    return {
        line["kind"]: machine.shown_to(KINDS[line["kind"]], thing, tx.now, told),
        **{name: line[name] for name in ("version", "action", "before", "after", "note")},
    }


_DATA: dict[str, Callable[[Reading, Row], Any]] = {
    "message.created": _message,
    "inbox.added": _item,
    "agent.joined": _agent,
    "agent.card": _agent,
    "group.joined": _group,
    "group.left": _group,
    "agent.retired": _retired,
    "agent.returned": _agent,
    **{f"{kind.kind}.{event}": _transition for kind in KINDS.values() for event in kind.events},
}


class Filter(NamedTuple):
    """Which events somebody wants."""

    agent: Agent
    channel_id: int | None = None
    kinds: frozenset[str] = frozenset()
    families: frozenset[str] = frozenset()
    mine: bool = False

    @property
    def is_narrow(self) -> bool:
        """Whether it leaves out anything that the agent may see."""
        return self.mine or self.channel_id is not None or bool(self.kinds or self.families)

    @property
    def asks_presence(self) -> bool:
        """Whether it is to be told who comes and goes: only who asks for it, since it is no part of the log."""
        asked = PRESENCE in self.kinds or "agent" in self.families
        return asked and not self.mine and self.channel_id is None

    def wants(self, event: Happened) -> bool:
        return (
            (event.concerns(self.agent.id) if self.mine else event.is_visible_to(self.agent.id))
            and (self.channel_id is None or event.channel_id == self.channel_id)
            and (
                not (self.kinds or self.families)
                or event.kind in self.kinds
                or event.kind.partition(".")[0] in self.families
            )
        )


class Place(NamedTuple):
    """Where somebody goes on, what of it they want, and where the log ends at the moment."""

    filter: Filter
    position: int
    head: int
    epoch: int


def begin(
    tx: Reading,
    call: Call,
    *,
    since: int | None = None,
    channel: str | None = None,
    kind: str | None = None,
    mine: bool = False,
) -> Place:
    """Where to begin: after `since`, or now."""
    agent = call.agent
    channel_id = None if channel is None else channels.find(tx, call, channel).id
    named = frozenset(kind.split(",") if kind else ())
    whole = frozenset(name for name in named if "." in name)
    newest = head(tx, agent.space_id)
    if since is not None:
        check_kept(tx, agent.space_id, since)
    wanted = Filter(agent, channel_id, whole, named - whole, mine)
    return Place(wanted, newest if since is None else since, newest, tx.epoch)


def page(tx: Reading, wanted: Filter, position: int, limit: int) -> Page:
    """The next events that somebody wants. Of a log that has few of them, a piece is looked through at a time."""
    rows = _AT_A_TIME if wanted.is_narrow else limit
    return after(tx, wanted.agent.space_id, position, limit, wants=wanted.wants, rows=rows)
