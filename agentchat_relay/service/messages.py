"""Messages: posted once, never changed. How pages of them are read stands in `pages.py`, what goes to agents alone in
`mail.py`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from agentchat import types
from agentchat.contract import SHORT_CHANNELS
from agentchat.errors import BadRequest, Conflict, NotFound

from ..store.seam import Reading, Row, Writing
from ..wire import DEEPEST, depth, iso, new_id
from . import agents, channels, loops, notices, presence, repeats
from .call import Call

MOST_METADATA = 4096  # characters of JSON
_MOST_NAMES = 100  # looked up in one message
_MOST_NOTIFIED = 50
# A name after an @ that does not stand inside a word (an e-mail address). Trailing punctuation is no part of it.
_MENTION = re.compile(r"(?<![A-Za-z0-9_+@-])@([A-Za-z0-9][A-Za-z0-9_-]{0,99})(?![A-Za-z0-9_-])")
_PINNED, _NOT_PINNED = b',"pinned":true}', b',"pinned":false}'

_encode = msgspec.json.encode


# Posting


def send_message(
    tx: Writing,
    call: Call,
    *,
    channel: str,
    content: str,
    parent_message_id: str | None = None,
    metadata: dict[str, Any] | None = None,
    kind: str = "chat",
    urgent: bool = False,
    expires_in: int | None = None,
    scope: str | None = None,
    vanish_after: int | None = None,
) -> types.SentMessage:
    channels.refuse_direct(channel)
    stored = encoded(metadata)
    if channel.startswith(tuple(SHORT_CHANNELS)):
        _check_short(channel, content, stored)
    content = trimmed(content)
    if (row := repeats.earlier(tx, call)) is not None:
        return sent_before(tx, row)
    place = channels.known(tx, call.agent.space_id, channel)
    if place is not None:
        _check_vanishes(place, vanish_after)
    parent = None if parent_message_id is None else _parent(tx, call, place, parent_message_id)
    if place is None:
        channels.check_may_create(tx, call)
        place = channels.create(tx, call.agent.space_id, channel, by=call.agent.id, vanish_after=vanish_after)
    named, unmatched = ([], []) if kind == "status" or "@" not in content else _mentioned(tx, call, content)
    turns = loops.check(tx, call, kind, parent, named)
    new = append(
        tx, call, place, content, kind=kind, metadata=stored, parent=parent, unmatched=unmatched,
        vanish_after=vanish_after,
    )  # fmt: skip
    loops.count(tx, turns)
    posted, terms = (
        notices.posted_by(call, new.id, new.at, place.id),
        notices.terms(tx, urgent, expires_in, scope, place.vanish_after is not None),
    )
    for agent in named:
        notices.put(tx, posted, agent.id, "mention", terms)
    return {"message": new.message, "unmatched_mentions": unmatched}


def trimmed(content: str) -> str:
    """As it is stored. Unicode knows more blanks than the contract's check."""
    if not (text := content.strip()):
        raise BadRequest("content must be text that is not blank.")
    return text


def encoded(metadata: dict[str, Any] | None) -> str | None:
    if metadata is None:
        return None
    text = _encode(metadata).decode()
    if text.count("{") + text.count("[") > DEEPEST and depth(metadata) > DEEPEST:
        raise BadRequest(f"metadata must not be nested deeper than {DEEPEST}; readers could not take it apart.")
    if len(text) > MOST_METADATA:
        raise BadRequest(f"metadata must have at most {MOST_METADATA} characters as JSON, got {len(text)}; shorten it.")
    return text


def _check_short(channel: str, content: str, metadata: str | None) -> None:
    """Federated channels carry less."""
    longest, most = SHORT_CHANNELS[channel[:7]]
    if len(content) > longest:
        raise BadRequest(f"content must have at most {longest} characters in #{channel}, got {len(content)}.")
    if metadata is not None and len(metadata) > most:
        raise BadRequest(f"metadata must have at most {most} characters as JSON in #{channel}, got {len(metadata)}.")


def _check_vanishes(place: channels.Channel, vanish_after: int | None) -> None:
    """Whoever counts on a post's vanishing must not see it kept."""
    if vanish_after is not None and place.vanish_after is None:
        raise Conflict(
            f"#{place.name} keeps its posts, so this one would not vanish. Nothing was posted; use a new channel."
        )


def _parent(tx: Writing, call: Call, place: channels.Channel | None, public_id: str) -> Row:
    what = {"public_id": public_id, "space_id": call.agent.space_id, "agent_id": call.agent.id}
    row = tx.one("find_message", **what) or tx.one("find_vanished", **what)
    if row is None:
        raise NotFound(f"parent_message_id: there is no message {public_id}.")
    if row["recipient_id"] is not None:
        raise BadRequest("parent_message_id is a private message; answer it with send_direct_message.")
    if place is None or row["channel_id"] != place.id:
        raise BadRequest("parent_message_id is a message of another channel; a reply goes where the message is.")
    return row


class New(NamedTuple):
    """A message that has its place, though it may not be written down yet."""

    id: int
    at: int
    row: dict[str, Any]

    @property
    def message(self) -> Any:
        """As it travels, already encoded. Nobody can have pinned it."""
        return msgspec.Raw(_encode(_travelling(self.row))[:-1] + _NOT_PINNED)


def append(
    tx: Writing,
    call: Call,
    channel: channels.Channel,
    content: str,
    *,
    kind: str = "chat",
    metadata: str | None = None,
    parent: Row | Mapping[str, Any] | None = None,
    recipient: int | None = None,
    unmatched: Sequence[str] = (),
    sent_with: int | None = None,
    vanish_after: int | None = None,
) -> New:
    """Take the next place in the channel. Every check was made before."""
    agent = call.agent
    channels.join(tx, agent.id, channel)
    place = tx.place(channel.id, chat=kind != "status")
    times = [seconds for seconds in (vanish_after, channel.vanish_after) if seconds]
    vanishes_at = place.at + min(times) * 1_000_000 if times else None
    row: dict[str, Any] = {
        "public_id": new_id(place.at), "created_at": place.at, "kind": kind, "content": content, "metadata": metadata,
        "vanishes_at": vanishes_at,
    }  # fmt: skip
    repeats.mark(tx, agent.id, call.key)
    tx.later(
        "insert_message",
        **row,
        id=place.id,
        channel_id=channel.id,
        number=place.number,
        chats=place.chats,
        author_id=agent.id,
        recipient_id=recipient,
        parent_id=None if parent is None else parent["id"],
        root_id=None if parent is None else parent["root_id"] or parent["id"],
        depth=loops.depth_of(call, kind, parent),
        sent_with=sent_with,
        unmatched=" ".join(unmatched) or None,
        key=call.key,
        digest=call.digest,
    )
    if kind != "status":
        tx.later("count_own", agent_id=agent.id, channel_id=channel.id)
    if not call.is_relays:
        presence.see(tx, agent.id)
    tx.event(
        agent.space_id, "message.created", actor_id=agent.id, subject=row["public_id"], channel_id=channel.id,
        audience_id=recipient, payload=content if vanishes_at is None else "",
    )  # fmt: skip
    row |= {
        "channel_id": channel.public_id,
        "channel_name": channel.name,
        "author_id": agent.public_id,
        "author_name": agent.name,
        "parent_id": None if parent is None else parent["public_id"],
    }
    return New(place.id, place.at, row)


def sent_before(tx: Writing, row: Row) -> types.SentMessage:
    """The answer of a repeated call, told again from what was stored; of what has vanished, that was the answer."""
    if row["answer"] is not None:
        return msgspec.json.decode(row["answer"], type=types.SentMessage)
    unmatched = tx.the("unmatched_of", id=row["id"])["unmatched"]
    return {"message": whole(tx, row["id"], False), "unmatched_mentions": unmatched.split() if unmatched else []}


def _names(content: str) -> list[str]:
    """The names after an @, each once, in order."""
    names = (name.rstrip("-_").lower() for name in _MENTION.findall(content))
    return list(dict.fromkeys(names))[:_MOST_NAMES]


def _mentioned(tx: Writing, call: Call, content: str) -> tuple[list[agents.Known], list[str]]:
    """Who is to be told of a message, and which names are nobody's."""
    told: list[agents.Known] = []
    unmatched: list[str] = []
    for name in _names(content):
        agent = agents.known(tx, call.agent.space_id, name)
        if name == call.agent.name:
            continue
        if agent is None or agent.is_group or not agent.takes_mail or len(told) == _MOST_NOTIFIED:
            unmatched.append(name)
        else:
            told.append(agent)
    return told, unmatched


# Travelling


def whole(tx: Reading, id: int, pinned: bool | None = None) -> Any:
    """A message as it travels, already encoded. Pins are the one thing about it that can change, so that it is kept in
    either form."""
    if pinned is None:
        pinned = tx.one("pin_of", message_id=id) is not None
    slot = -id if pinned else id
    encoded = tx.encoded.get(slot)
    if encoded is None:
        row = tx.the("whole_message", id=id)
        encoded = msgspec.Raw(_encode(_travelling(row))[:-1] + (_PINNED if pinned else _NOT_PINNED))
        if row["vanishes_at"] is None:  # nothing else may keep the text
            tx.encoded.put(slot, encoded)
    return encoded


def _travelling(row: Row | dict[str, Any]) -> dict[str, Any]:
    message = {
        "id": row["public_id"],
        "channel_id": row["channel_id"],
        "channel_name": row["channel_name"],
        "author_agent_id": row["author_id"],
        "author_name": row["author_name"],
        "agents": {"id": row["author_id"], "name": row["author_name"]},
        "author_display": None,
        "content": row["content"],
        "metadata": None if row["metadata"] is None else msgspec.Raw(row["metadata"].encode()),
        "parent_message_id": row["parent_id"],
        "kind": row["kind"],
        "created_at": iso(row["created_at"]),
        "updated_at": None,
    }
    if row["vanishes_at"] is not None:
        message["vanishes_at"] = iso(row["vanishes_at"])
    return message
