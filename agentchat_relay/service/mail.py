"""Mail: messages to agents and groups, which nobody else sees.

One to an agent or a group is a row whose recipient that is. Several recipients get a message each, all of them or none.
Who may see a message to a group is who got it: members of that moment, and its author.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from agentchat import types
from agentchat.errors import BadRequest, NotFound

from ..store.seam import Reading, Row, Writing
from ..wire import Cursor, iso, read_cursor
from . import agents, channels, groups, loops, messages, notices, repeats, vanishing
from .agents import Known
from .call import Call
from .notices import Terms

_END = (1 << 62) - 1
_EPHEMERAL = 86_400  # seconds that an ephemeral message is kept at the most, unless its sender says otherwise


class Recipient(NamedTuple):
    """An agent, or a group with those who are in it."""

    name: str
    known: Known
    members: list[int]


class Letter(NamedTuple):
    """What is sent."""

    content: str
    metadata: str | None
    terms: Terms
    parent: Row | None = None
    vanish_after: int | None = None  # seconds; None: it is kept


def send_direct_message(
    tx: Writing,
    call: Call,
    *,
    target_agent: str,
    content: str,
    parent_message_id: str | None = None,
    metadata: dict[str, Any] | None = None,
    urgent: bool = False,
    expires_in: int | None = None,
    scope: str | None = None,
    ephemeral: bool = False,
) -> types.SentMessage:
    content = messages.trimmed(content)
    if (row := repeats.earlier(tx, call)) is not None:
        before = messages.sent_before(tx, row)
        return {**before, "pending": True} if row["answer"] is None and _is_pending(tx, row["id"]) else before
    target = _recipient(tx, call, target_agent)
    parent = None if parent_message_id is None else _parent(tx, call, target.known, parent_message_id)
    letter = _letter(tx, content, metadata, urgent, expires_in, scope, ephemeral)._replace(parent=parent)
    turns = loops.check(tx, call, "chat", parent, [target.known])
    sent, _ = _send(tx, call, target, letter)
    loops.count(tx, turns)
    return sent


def send_to_many(
    tx: Writing,
    call: Call,
    *,
    recipients: Sequence[str],
    content: str,
    metadata: dict[str, Any] | None = None,
    urgent: bool = False,
    expires_in: int | None = None,
    scope: str | None = None,
    ephemeral: bool = False,
) -> types.SentToMany:
    content = messages.trimmed(content)
    if (row := repeats.earlier(tx, call)) is not None:
        return _several_before(tx, row)
    found = [_recipient(tx, call, name) for name in dict.fromkeys(recipients)]
    targets = sorted(found, key=lambda one: bool(one.members))  # whoever is named is told as such
    letter = _letter(tx, content, metadata, urgent, expires_in, scope, ephemeral)
    turns = loops.check(tx, call, "chat", None, [target.known for target in targets])
    answer: types.SentToMany = {"messages": []}
    first: int | None = None
    told: set[int] = set()
    for target in targets:
        sent, id = _send(tx, call, target, letter, first, told)
        answer["messages"].append(sent["message"])
        if sent.get("pending"):
            answer["pending"] = True
        first = first or id
    loops.count(tx, turns)
    return answer


def _letter(
    tx: Writing, content: str, metadata: dict[str, Any] | None, urgent: bool, expires_in: int | None,
    scope: str | None, ephemeral: bool,
) -> Letter:  # fmt: skip
    if ephemeral and expires_in is None:
        expires_in = _EPHEMERAL
    terms = notices.terms(tx, urgent, expires_in, scope, ephemeral)
    return Letter(content, messages.encoded(metadata), terms, vanish_after=expires_in if ephemeral else None)


def _several_before(tx: Writing, row: Row) -> types.SentToMany:
    """The answer of a repeated call. Each of its messages may have vanished by now; once the first has, which had the
    key, the answer that was kept says what there was."""
    if row["answer"] is None:
        ids = [row["id"], *(other["id"] for other in tx.all("sent_with", id=row["id"]))]
        found = [vanishing.sent_before(tx, id) for id in ids]
    else:
        kept = vanishing.emptied_before(row["answer"])
        left = [tx.one("message_of", public_id=message["id"]) for message in kept]
        ids = [one["id"] for one in left if one is not None]
        found = [
            message if one is None else messages.whole(tx, one["id"], False)
            for message, one in zip(kept, left, strict=True)
        ]
    before: types.SentToMany = {"messages": found}
    return {**before, "pending": True} if any(_is_pending(tx, id) for id in ids) else before


def _is_pending(tx: Reading, id: int) -> bool:
    return tx.one("fan_out_of", message_id=id) is not None


def _recipient(tx: Writing, call: Call, name: str) -> Recipient:
    found = agents.known(tx, call.agent.space_id, name)
    if groups.is_group(name, found):
        return Recipient(name, *groups.to_be_told(tx, call, name, found))
    if found is None:
        raise agents.unknown(tx, call, name, "agent or group")
    agents.check_takes_mail(found, name)
    return Recipient(name, found, [])


def _parent(tx: Writing, call: Call, target: Known, public_id: str) -> Row:
    """A private message that the caller may see; its answer goes to who sent it, or to where it went."""
    what = {"public_id": public_id, "space_id": call.agent.space_id, "agent_id": call.agent.id}
    row = tx.one("find_message", **what) or tx.one("find_vanished", **what)
    if row is None:
        raise NotFound(f"parent_message_id: there is no message {public_id}.")
    if row["recipient_id"] is None:
        raise BadRequest("parent_message_id is a channel's message; answer it there, with send_message.")
    if target.id not in (row["author_id"], row["recipient_id"]):
        raise BadRequest("parent_message_id: an answer goes to the author of that message, or to whom it was sent.")
    return row


def _send(
    tx: Writing, call: Call, target: Recipient, letter: Letter, first: int | None = None, told: set[int] | None = None
) -> tuple[types.SentMessage, int]:
    """One message. Of several, the first one has the idempotency key, and nobody is told twice."""
    place = channels.find(tx, call, channels.DIRECT)
    by = call if first is None else call._replace(key=None, digest=None)
    new = messages.append(
        tx, by, place, f"@{target.name} {letter.content}", metadata=letter.metadata, parent=letter.parent,
        recipient=target.known.id, sent_with=first, vanish_after=letter.vanish_after,
    )  # fmt: skip
    sent: types.SentMessage = {"message": new.message, "unmatched_mentions": []}
    posted = notices.posted_by(call, new.id, new.at, place.id)
    told = set() if told is None else told
    if target.members:
        if not groups.tell(tx, posted, target.members, letter.terms, told):
            sent["pending"] = True
    elif target.known.id != call.agent.id:
        channels.join(tx, target.known.id, place)
        notices.put(tx, posted, target.known.id, "direct", letter.terms)
        told.add(target.known.id)
    return sent, new.id


# What was sent


def list_sent(tx: Reading, call: Call, *, limit: int = 20, cursor: str | None = None) -> types.SentPage:
    place = f"sent {call.agent.id}"
    begin = Cursor(place, _END) if cursor is None else read_cursor(cursor, place)
    rows = tx.all("sent_by", agent_id=call.agent.id, before=begin.at, limit=limit + 1)
    more = len(rows) > limit
    return {
        "messages": [_became(tx, row) for row in rows[:limit]],
        "next_cursor": str(Cursor(place, rows[limit - 1]["created_at"])) if more else None,
        "has_more": more,
    }


def _became(tx: Reading, row: Row) -> types.SentRow:
    states = {found["state"]: found["items"] for found in tx.all("states_of", message_id=row["id"], now=tx.now)}
    return {
        "message_id": row["public_id"],
        "to": row["recipient"],
        "is_group": bool(row["is_group"]),
        "content": row["content"],
        "created_at": iso(row["created_at"]),
        "states": states,
        "pending": row["pending"] is not None,
    }
