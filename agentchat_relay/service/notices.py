"""What is put into inboxes when a message is sent."""

from __future__ import annotations

from typing import NamedTuple

from ..store.seam import Writing
from ..wire import new_id
from . import loops
from .call import Call

FIRST = 2
_SECOND = 1_000_000


class Terms(NamedTuple):
    """On what terms something waits in an inbox."""

    urgent: int = 0  # 1: before what is not; FIRST: before everything
    expires_at: int | None = None
    scope: str = ""
    vanishes: bool = False  # its message, once everybody is done with it


class Posted(NamedTuple):
    """The message that it is about."""

    id: int
    at: int
    channel_id: int
    space_id: int
    author_id: int
    is_persons: bool = False


def terms(tx: Writing, urgent: bool, expires_in: int | None, scope: str | None, vanishes: bool = False) -> Terms:
    return Terms(int(urgent), None if expires_in is None else tx.now + expires_in * _SECOND, scope or "", vanishes)


def put(tx: Writing, posted: Posted, agent_id: int, kind: str, terms: Terms, *, at_once: bool = False) -> None:
    """Into the inbox of one agent; `at_once`, if this call is to see it there."""
    public_id = new_id(posted.at)
    (tx.run if at_once else tx.later)(
        "insert_item", public_id=public_id, agent_id=agent_id, kind=kind, message_id=posted.id, created_at=posted.at,
        urgent=terms.urgent, expires_at=terms.expires_at, scope=terms.scope,
        vanishing=int(terms.vanishes),
    )  # fmt: skip
    tx.event(
        posted.space_id, "inbox.added", actor_id=posted.author_id, subject=public_id, channel_id=posted.channel_id,
        audience_id=agent_id,
    )  # fmt: skip
    if posted.is_persons:
        loops.hear(tx, agent_id, posted.author_id)


def posted_by(call: Call, id: int, at: int, channel_id: int) -> Posted:
    return Posted(id, at, channel_id, call.agent.space_id, call.agent.id, call.agent.is_person)
