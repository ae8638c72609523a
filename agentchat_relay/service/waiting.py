"""Waiting for a message: what counts as the one, whether it is there, and which events could be it.

Looking for the first time may find what is there already. From then on the log is looked through, a piece at a time, so
that whoever asks again from the position that was named misses nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from agentchat.errors import BadRequest, NotFound

from ..store.seam import Reading, Row
from . import agents, channels, events, scopes
from .call import Call
from .events import Happened
from .messages import whole

_PIECE = 2000  # events that are looked through at a time
_LONG_AGO = 5000  # events
_BEFORE = 60_000_000  # microseconds that times of two channels may be apart
_ANYBODY = 0


class Sought(NamedTuple):
    """What somebody waits for. `kind` is that of the events which could be it; `channel_id` and `author_id` are those
    of the message, 0 for any."""

    agent_id: int
    space_id: int
    name: str  # what its statements are called
    kind: str = "message.created"
    is_private: bool = False
    channel_id: int = 0
    author_id: int = _ANYBODY
    is_own: bool = False  # whether it may be in the name of who waits: what the relay tells by itself is
    more: tuple[tuple[str, int | str], ...] = ()  # what its statements need besides

    def could_be(self, event: Happened) -> bool:
        return (
            event.kind == self.kind
            and (self.is_own or event.actor_id != self.agent_id)
            and (event.audience_id == self.agent_id if self.is_private else event.audience_id is None)
            and self.channel_id in (0, event.channel_id)
            and self.author_id in (_ANYBODY, event.actor_id)
        )


class Looked(NamedTuple):
    """The message, if it was found, and how far the log was looked through."""

    message: Any | None
    position: int
    is_end: bool


class Start(NamedTuple):
    """What is sought; what is there already, or where to begin."""

    sought: Sought
    looked: Looked


def reply(tx: Reading, call: Call, *, message_id: str, since: int | None = None) -> Start:
    """An answer to a message. A direct message is answered by the next one from whom it was exchanged with, one to a
    group by what names it and reaches the caller, and what the caller wants done by what comes of it."""
    agent = call.agent
    row = _visible(tx, call, message_id)
    if (thing := _wanted(tx, call, row)) is not None:
        return _outcome(tx, call, thing, since)
    more = ("root_id", row["root_id"] or row["id"]), ("id", row["id"])
    if row["is_group"]:
        sought = Sought(agent.id, agent.space_id, "answer", "inbox.added", is_private=True, more=more)
    elif row["recipient_id"] is None:
        sought = Sought(agent.id, agent.space_id, "reply", channel_id=row["channel_id"], more=more)
    else:
        other = row["recipient_id"] if row["author_id"] == agent.id else row["author_id"]
        sought = Sought(agent.id, agent.space_id, "direct", is_private=True, author_id=other)
    return _start(tx, sought, since, lambda: _first(tx, sought, at=row["created_at"]))


def _wanted(tx: Reading, call: Call, row: Row) -> Row | None:
    """The caller's own task or interrupt, if the message is about one."""
    if row["kind"] != "system":
        return None
    about: dict[str, str] = json.loads(tx.the("metadata_of", id=row["id"])["metadata"])
    for kind in ("task", "interrupt"):
        if (public_id := about.get(f"{kind}_id")) is not None:
            thing = tx.one("work_by_id", public_id=public_id, space_id=call.agent.space_id, kind=kind)
            return thing if thing is not None and thing["creator_id"] == call.agent.id else None
    return None


def _outcome(tx: Reading, call: Call, thing: Row, since: int | None) -> Start:
    """What came of it since it was offered last."""
    more = ("id", thing["message_id"]), ("offer_id", thing["offer_id"])
    sought = Sought(call.agent.id, call.agent.space_id, "outcome", is_own=True, more=more)
    if thing["channel_id"] is None:
        sought = sought._replace(is_private=True)
    else:
        sought = sought._replace(channel_id=thing["channel_id"])
    return _start(tx, sought, since, lambda: _first(tx, sought, at=thing["created_at"]))


def message(
    tx: Reading,
    call: Call,
    *,
    channel: str | None = None,
    from_agent: str | None = None,
    after: str | None = None,
    since: int | None = None,
) -> Start:
    """The next message of somebody else in a channel, or of those that notify the caller."""
    agent = call.agent
    author_id = _ANYBODY if from_agent is None else _named(tx, call, from_agent)
    sought = Sought(
        agent.id, agent.space_id, "notice", "inbox.added", is_private=True, author_id=author_id,
        more=(("scopes", scopes.presented(call)), ("channel_id", 0)),
    )  # fmt: skip
    if channel is not None:
        found = channels.find(tx, call, channel)
        if found.is_direct:
            sought = sought._replace(channel_id=found.id, more=(*sought.more[:1], ("channel_id", found.id)))
        else:
            sought = Sought(
                agent.id, agent.space_id, "in_channel", channel_id=found.id, author_id=author_id,
                more=(("channel_id", found.id),),
            )  # fmt: skip
    if after is None:
        return _start(tx, sought, since, lambda: None)
    row = _visible(tx, call, after)
    at = row["created_at"] - (_BEFORE if sought.name == "in_channel" else 0)
    return _start(tx, sought, since, lambda: _first(tx, sought, at=at, after_id=row["id"]))


def look(tx: Reading, sought: Sought, position: int) -> Looked:
    """Look through the next piece of the log."""
    newest = events.head(tx, sought.space_id)
    events.check_kept(tx, sought.space_id, position)
    until = min(newest, position + _PIECE)
    row = tx.one(
        f"next_{sought.name}", agent_id=sought.agent_id, space_id=sought.space_id, author_id=sought.author_id,
        after=position, until=until, **dict(sought.more),
    )  # fmt: skip
    if row is not None:
        return Looked(whole(tx, row["id"]), row["position"], False)
    return Looked(None, until, until == newest)


def _start(tx: Reading, sought: Sought, since: int | None, first: Callable[[], Row | None]) -> Start:
    if since is not None:
        return Start(sought, look(tx, sought, since))
    newest = events.head(tx, sought.space_id)
    row = first()
    if row is None:
        return Start(sought, Looked(None, newest, True))
    found = tx.one(
        "position_of", space_id=sought.space_id, after=newest - _LONG_AGO, public_id=row["public_id"]
    )  # fmt: skip
    return Start(sought, Looked(whole(tx, row["id"]), newest if found is None else found["position"], True))


def _first(tx: Reading, sought: Sought, *, at: int, after_id: int = 0) -> Row | None:
    return tx.one(
        f"first_{sought.name}", agent_id=sought.agent_id, author_id=sought.author_id, at=at, after_id=after_id,
        **dict(sought.more),
    )  # fmt: skip


def _visible(tx: Reading, call: Call, message_id: str) -> Row:
    what = {"public_id": message_id, "space_id": call.agent.space_id, "agent_id": call.agent.id}
    row = tx.one("find_message", **what) or tx.one("find_vanished", **what)
    if row is None:
        raise NotFound(f"There is no message {message_id}.")
    return row


def _named(tx: Reading, call: Call, name: str) -> int:
    row = tx.one("agent_by_name", space_id=call.agent.space_id, name=name)
    if row is None:
        raise agents.unknown(tx, call, name)
    if row["is_group"]:
        raise BadRequest(f"{name} is a group; what is for it comes from agents. Leave from_agent away, or name one.")
    return int(row["id"])
