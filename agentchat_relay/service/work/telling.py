"""Who is told of a transition: by a message of kind system, in the channel or between the two, and by their inboxes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from ...store.seam import Row, Writing
from .. import channels, inbox, messages, notices
from ..call import Agent, Call
from ..notices import Terms
from .machine import Thing

_MOST_TOLD = 20  # of those who say that they can do it
_BY_THE_RELAY = ("lapsed", "expired", "broken")  # or by who runs it


class Told(NamedTuple):
    """The message: the internal id and the public one."""

    id: int
    public_id: str


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
    return caller(tx, thing["creator_id"])


def mover(tx: Writing, thing: Thing) -> Call:
    """Who took its last step, or who made it if the relay did."""
    return caller(tx, tx.the("mover_of", work_id=thing["id"])["actor_id"] or thing["creator_id"])


def caller(tx: Writing, agent_id: int) -> Call:
    """An agent, in whose name the relay tells something."""
    found = tx.the("caller_by_id", id=agent_id)
    is_person = found["kind"] == "person"
    return Call(Agent(found["id"], found["public_id"], found["name"], found["space_id"], is_person), is_relays=True)


def tell(
    tx: Writing, call: Call, thing: Thing, event: str, words: str, text: str | None, told: Iterable[int], *,
    kind: str | None = None,
) -> Told:  # fmt: skip
    """Post what happened, as an answer to what announced it; returns which message. Without a channel it goes to
    each of those to be told, at least to the other of the two. The caller's own inbox is told only what it did not do.
    The items are of the thing's kind, unless another is said.
    """
    others = [agent_id for agent_id in dict.fromkeys(told) if agent_id != call.agent.id or event in _BY_THE_RELAY]
    content = _content(words, text)
    if thing["channel_name"] is not None:
        place = channels.find(tx, call, thing["channel_name"])
        return _post(tx, call, thing, event, content, place, None, others, kind)
    place = channels.find(tx, call, channels.DIRECT)
    first, *rest = others or [_other(call, thing)]
    posted = _post(tx, call, thing, event, content, place, first, [first], kind)
    for one in rest:
        _post(tx, call, thing, event, content, place, one, [one], kind)
    return posted


def note(tx: Writing, call: Call, thing: Thing, event: str, words: str, text: str | None) -> Told:
    """A message to oneself, which waits in no inbox: what others are told hangs on it."""
    place = channels.find(tx, call, channels.DIRECT)
    return _post(tx, call, thing, event, _content(words, text), place, call.agent.id, [])


def _content(words: str, text: str | None) -> str:
    """All that was said, a result among it, which is as long as a message may be: `get_message` reads on in it."""
    return f"{words}\n\n{text}" if text else words


def _other(call: Call, thing: Thing) -> int:
    two = (thing["creator_id"], thing["target_id"])
    return next((agent_id for agent_id in two if agent_id not in (None, call.agent.id)), call.agent.id)


def _post(
    tx: Writing, call: Call, thing: Thing, event: str, content: str, place: channels.Channel, recipient: int | None,
    told: list[int], kind: str | None = None,
) -> Told:  # fmt: skip
    metadata = {f"{thing['kind']}_id": thing["public_id"], f"{thing['kind']}_event": event}
    parent = None
    if thing["message"] is not None:  # what announced it
        parent = {"id": thing["message_id"], "public_id": thing["message"], "root_id": None, "depth": 0}
    new = messages.append(
        tx, call._replace(key=None, digest=None), place, content, kind="system", parent=parent, recipient=recipient,
        metadata=msgspec.json.encode(metadata).decode(),
    )  # fmt: skip
    posted = notices.posted_by(call, new.id, new.at, place.id)
    terms = Terms(thing["urgent"], thing["deadline_at"] if thing["ended_at"] is None else None, thing["scope"])
    for agent_id in told:
        channels.join(tx, agent_id, place)
        notices.put(tx, posted, agent_id, kind or thing["kind"], terms)
    return Told(new.id, new.row["public_id"])


def withdraw(tx: Writing, call: Call | None, thing: Thing) -> None:
    """The offer needs no looking at any more. For the caller that is done with, for others over."""
    _end(tx, call, thing, tx.all("notices_of", message_id=thing["offer_id"]))


def withdraw_all(tx: Writing, call: Call | None, thing: Thing, *, agent_id: int = 0) -> None:
    """The same for everybody who was told of it, with the first message or by a later one; or for one of them."""
    about = thing["message_id"]
    _end(tx, call, thing, tx.all("notices_about", message_id=about, kind=thing["kind"], agent_id=agent_id))


def _end(tx: Writing, call: Call | None, thing: Thing, items: list[Row]) -> None:
    for item in items:
        if call is not None and item["agent_id"] == call.agent.id:
            tx.later("close_item", id=item["id"], now=tx.now)
            tx.event(
                thing["space_id"], "inbox.acknowledged", actor_id=item["agent_id"], subject=item["public_id"],
                audience_id=item["agent_id"],
            )  # fmt: skip
        else:
            inbox.end(tx, item, "expired", thing["space_id"], item["agent_id"], thing["channel_id"])
