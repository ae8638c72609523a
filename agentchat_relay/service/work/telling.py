"""Who is told of a transition: by a message of kind system, in the channel or between the two, and by their inboxes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from ...store.seam import Writing
from .. import channels, inbox, messages, notices
from ..call import Agent, Call
from ..notices import Terms
from .machine import Thing

_MOST_TOLD = 20  # of those who say that they can do it
_MOST_TEXT = 30_000  # characters of what was said, in a message


class Told(NamedTuple):
    """The message: the internal id and the public one."""

    id: int
    public_id: str


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


def creator(tx: Writing, thing: Thing) -> Call:
    """Who made it, in whose name the relay tells what happened by itself."""
    found = tx.the("author_of_work", id=thing["creator_id"])
    is_person = found["kind"] == "person"
    return Call(Agent(found["id"], found["public_id"], found["name"], found["space_id"], is_person))


def tell(tx: Writing, call: Call, thing: Thing, event: str, words: str, text: str | None, told: Iterable[int]) -> Told:
    """Post what happened, as an answer to what announced it; returns which message. Without a channel it goes to
    each of those to be told, at least to the other of the two. The caller's own inbox is told only what the relay did.
    """
    others = [
        agent_id for agent_id in dict.fromkeys(told) if agent_id != call.agent.id or event in ("lapsed", "expired")
    ]
    content = words if not text else f"{words}\n\n{text[:_MOST_TEXT]}"
    if thing["channel_name"] is not None:
        return _post(tx, call, thing, event, content, channels.find(tx, call, thing["channel_name"]), None, others)
    place = channels.find(tx, call, channels.DIRECT)
    posted = [_post(tx, call, thing, event, content, place, one, [one]) for one in others or [_other(call, thing)]]
    return posted[0]


def _other(call: Call, thing: Thing) -> int:
    two = (thing["creator_id"], thing["target_id"])
    return next((agent_id for agent_id in two if agent_id not in (None, call.agent.id)), call.agent.id)


def _post(
    tx: Writing, call: Call, thing: Thing, event: str, content: str, place: channels.Channel, recipient: int | None,
    told: list[int],
) -> Told:  # fmt: skip
    metadata = {f"{thing['kind']}_id": thing["public_id"], f"{thing['kind']}_event": event}
    parent = None
    if thing["message"] is not None:  # what announced it
        parent = {"id": thing["message_id"], "public_id": thing["message"], "root_id": None, "depth": 0}
    message, at = messages.append(
        tx, call._replace(key=None, digest=None), place, content, kind="system", parent=parent, recipient=recipient,
        metadata=msgspec.json.encode(metadata).decode(),
    )  # fmt: skip
    posted = notices.posted_by(call, at.id, at.at, place.id)
    terms = Terms(bool(thing["urgent"]), thing["deadline_at"] if thing["ended_at"] is None else None, thing["scope"])
    for agent_id in told:
        channels.join(tx, agent_id, place)
        notices.put(tx, posted, agent_id, thing["kind"], terms)
    return Told(at.id, _id_of(message).id)


def withdraw(tx: Writing, call: Call | None, thing: Thing) -> None:
    """The offer needs no looking at any more. For the caller that is done with, for others over."""
    for item in tx.all("notices_of", message_id=thing["offer_id"]):
        if call is not None and item["agent_id"] == call.agent.id:
            tx.run("acknowledge_item", now=tx.now, public_id=item["public_id"], agent_id=item["agent_id"])
            tx.event(
                thing["space_id"], "inbox.acknowledged", actor_id=item["agent_id"], subject=item["public_id"],
                audience_id=item["agent_id"],
            )  # fmt: skip
        else:
            inbox.end(tx, item, "expired", thing["space_id"], item["agent_id"], thing["channel_id"])
