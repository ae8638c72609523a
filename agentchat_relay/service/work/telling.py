"""Who is told of a transition: by a message of kind system, in the channel or between the two, and by their inboxes."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ...store.seam import Row, Writing
from .. import channels, inbox, messages, notices
from ..call import Agent, Call
from ..notices import Terms

_MOST_TOLD = 20  # of those who say that they can do it
_MOST_TEXT = 30_000  # characters of what was said, in a message


class _Message(msgspec.Struct):
    id: str


_id_of = msgspec.json.Decoder(_Message).decode


def able(tx: Writing, call: Call, tags: list[str]) -> list[int]:
    """Who says that they can do something of what it takes."""
    if not tags:
        return []
    wanted = msgspec.json.encode(tags).decode()
    rows = tx.all(
        "able_agents", space_id=call.agent.space_id, agent_id=call.agent.id, tags=wanted, limit=_MOST_TOLD
    )  # fmt: skip
    return [row["id"] for row in rows]


def creator(tx: Writing, row: Row) -> Call:
    """Who made it, in whose name the relay tells what happened by itself."""
    found = tx.the("author_of_work", id=row["creator_id"])
    is_person = found["kind"] == "person"
    return Call(Agent(found["id"], found["public_id"], found["name"], found["space_id"], is_person))


def tell(tx: Writing, call: Call, row: Row, event: str, words: str, text: str | None, told: Iterable[int]) -> str:
    """Post what happened, as an answer to what announced it; returns the message's id. Without a channel it goes to
    each of those to be told, at least to the other of the two. The caller's own inbox is told only what the relay did.
    """
    others = [
        agent_id for agent_id in dict.fromkeys(told) if agent_id != call.agent.id or event in ("lapsed", "expired")
    ]
    content = words if not text else f"{words}\n\n{text[:_MOST_TEXT]}"
    if row["channel_name"] is not None:
        return _post(tx, call, row, event, content, channels.find(tx, call, row["channel_name"]), None, others)
    place = channels.find(tx, call, channels.DIRECT)
    posted = [_post(tx, call, row, event, content, place, one, [one]) for one in others or [_other(call, row)]]
    return posted[0]


def _other(call: Call, row: Row) -> int:
    two = (row["creator_id"], row["target_id"])
    return next((agent_id for agent_id in two if agent_id not in (None, call.agent.id)), call.agent.id)


def _post(
    tx: Writing, call: Call, row: Row, event: str, content: str, place: channels.Channel, recipient: int | None,
    told: list[int],
) -> str:  # fmt: skip
    metadata = {f"{row['kind']}_id": row["public_id"], f"{row['kind']}_event": event}
    found = None if row["message"] is None else tx.one("message_to_answer", public_id=row["message"])
    message, at = messages.append(
        tx, call._replace(key=None, digest=None), place, content, kind="system", parent=found, recipient=recipient,
        metadata=msgspec.json.encode(metadata).decode(),
    )  # fmt: skip
    posted = notices.posted_by(call, at.id, at.at, place.id)
    terms = Terms(bool(row["urgent"]), row["deadline_at"] if row["ended_at"] is None else None, row["scope"])
    for agent_id in told:
        channels.join(tx, agent_id, place)
        notices.put(tx, posted, agent_id, row["kind"], terms)
    return _id_of(message).id


def withdraw(tx: Writing, call: Call | None, row: Row) -> None:
    """The offer needs no looking at any more. For the caller that is done with, for others over."""
    if row["message"] is None:
        return
    for item in tx.all("notices_of", message=row["message"]):
        if call is not None and item["agent_id"] == call.agent.id:
            tx.run("acknowledge_item", now=tx.now, public_id=item["public_id"], agent_id=item["agent_id"])
            tx.event(
                row["space_id"], "inbox.acknowledged", actor_id=item["agent_id"], subject=item["public_id"],
                audience_id=item["agent_id"],
            )  # fmt: skip
        else:
            inbox.end(tx, item, "expired", row["space_id"], item["agent_id"], row["channel_id"])
