"""Agents: who is here, what they say about themselves, who holds which key."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import msgspec

from agentchat import types
from agentchat.errors import BadRequest, Conflict, NotFound

from ..store.seam import Reading, Row, Writing
from ..wire import iso
from . import presence as presences
from .call import Agent, Call
from .guess import near

_RESERVED = frozenset({"all", "here", "admin", "human", "system"})
GRAVE = "deleted-"  # what the names of deleted agents begin with
_MOST_LISTED = 500
_MINUTE = 60_000_000
_EVER = 1 << 62
_PERIODS = {"15m": 15, "1h": 60, "6h": 6 * 60, "1d": 24 * 60, "7d": 7 * 24 * 60}
_CARD = {"model": 100, "harness": 100, "role": 100, "about": 500, "status_line": 200}  # texts and their length
_PLANS = ("api", "subscription", "local")
_MOST_TAGS = 20


class Known(NamedTuple):
    """An agent, or a group of them, by its name."""

    id: int
    public_id: str
    active: bool
    is_person: bool
    is_group: bool
    retired_at: int | None

    @property
    def takes_mail(self) -> bool:
        return self.active and self.retired_at is None


def known(tx: Writing, space_id: int, name: str) -> Known | None:
    """Who has this name, for the hot path."""
    fact = ("agent", space_id, name)
    if fact not in tx.memo:
        row = tx.one("agent_by_name", space_id=space_id, name=name)
        tx.memo[fact] = None if row is None else _known(row)
    return cast("Known | None", tx.memo[fact])


def _known(row: Row) -> Known:
    is_person, is_group = row["kind"] == "person", bool(row["is_group"])
    return Known(row["id"], row["public_id"], bool(row["active"]), is_person, is_group, row["retired_at"])


def check_takes_mail(agent: Known, name: str) -> None:
    if not agent.active:
        raise Conflict(f"@{name} was deactivated and reads nothing any more.")
    if agent.retired_at is not None:
        since = iso(agent.retired_at)
        raise Conflict(
            f"@{name} was not seen for long, so it was retired on {since[:10]} and gets no mail until it is back. Ask "
            "somebody else (find_agents), or post in a channel, where it can read it then.",
            details={"retired_at": since},
        )


def unknown(tx: Reading, call: Call, name: str, what: str = "agent") -> NotFound:
    """The error for a name that is nobody's, with the name that may have been meant."""
    names = near(name, (row["name"] for row in tx.all("agent_names", space_id=call.agent.space_id)))
    hint = f"Did you mean {names[0]}?" if names else "find_agents lists them."
    return NotFound(f"There is no {what} {name}. {hint}", details={"near": names})


def with_key(tx: Reading, key_hash: str) -> tuple[Agent, int] | None:
    """Who holds the key of this hash, and for how long it was not seen, in microseconds."""
    row = tx.one("agent_by_key", key_hash=key_hash)
    if row is None:
        return None
    agent = Agent(row["id"], row["public_id"], row["name"], row["space_id"], row["kind"] == "person")
    return agent, tx.now - (row["last_seen_at"] or 0)


def holds(tx: Reading, key_hash: str, agent: Agent) -> bool:
    """Whether the key of this hash is still this agent's, whatever else has changed about it."""
    found = with_key(tx, key_hash)
    return found is not None and found[0].id == agent.id


def is_reserved(name: str) -> bool:
    """Whether nobody may have this name."""
    return name in _RESERVED or name.startswith(GRAVE)


def find_agents(
    tx: Reading,
    call: Call,
    *,
    capability: str | None = None,
    active_within: str | None = None,
    role: str | None = None,
    name: str | None = None,
    presence: str | None = None,
) -> types.AgentList:
    rows = tx.all(
        "find_agents",
        space_id=call.agent.space_id,
        tags=f"% {capability} %" if capability else "%",
        role=_escaped(role.strip().lower()) if role else "%",
        name=f"%{_escaped(name.strip().lower())}%" if name else "%",
        since=tx.now - _PERIODS[active_within] * _MINUTE if active_within else 0,
        until=tx.now + presences.AHEAD if active_within else _EVER,  # not who was seen when a clock was wrong
        **presences.between(presence, tx.now)._asdict(),
        with_retired=int(name is not None),
        limit=_MOST_LISTED + 1,
    )
    return {"agents": [_row(row, tx.now) for row in rows[:_MOST_LISTED]], "has_more": len(rows) > _MOST_LISTED}


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")


def _row(row: Row, now: int) -> types.Agent:
    card = msgspec.json.decode(row["card"]) if row["card"] else None
    agent: types.Agent = {
        "name": row["name"],
        "active": True,
        "presence": presences.of(row["last_seen_at"], now),
        "last_seen_at": iso(row["last_seen_at"]) if row["last_seen_at"] else None,
        "description": card.get("about") if card else None,
        "machine": row["machine"],
        "card": card,
    }
    if row["retired_at"] is not None:
        agent["retired_at"] = iso(row["retired_at"])
    return agent


def set_card(tx: Writing, call: Call, **card: Any) -> types.CardSet:
    checked = checked_card(card)
    store_card(tx, call.agent.id, checked)
    agent = call.agent
    tx.event(agent.space_id, "agent.card", actor_id=agent.id, subject=agent.public_id, payload=_text(checked))
    return {"ok": True, "card": checked}


def store_card(tx: Writing, agent_id: int, card: types.Card) -> None:
    tags = card.get("capabilities")
    tx.run(
        "set_card",
        id=agent_id,
        card=_text(card),
        card_role=card["role"].lower() if "role" in card else None,
        tags=f" {' '.join(tags)} " if tags else "",
    )


def _text(card: types.Card) -> str:
    return msgspec.json.encode(card).decode()


def checked_card(card: dict[str, Any]) -> types.Card:
    """A card in its normal form. It needs one member at least; unknown ones are dropped."""
    found: dict[str, Any] = {}
    for name, longest in _CARD.items():
        if (value := card.get(name)) is not None:
            found[name] = _card_text(name, value, longest)
    if (plan := card.get("plan")) is not None:
        if plan not in _PLANS:
            raise BadRequest(f"card.plan must be one of {', '.join(_PLANS)}.")
        found["plan"] = plan
    if (tags := card.get("capabilities")) is not None:
        found["capabilities"] = _card_tags(tags)
    if not found:
        members = ", ".join([*_CARD, "plan", "capabilities"])
        raise BadRequest(f"A card needs at least one of {members}.")
    return cast("types.Card", found)


def _card_text(name: str, value: object, longest: int) -> str:
    text = value.strip() if isinstance(value, str) else ""
    if not text or len(text) > longest or any(character < " " or character == "\x7f" for character in text):
        raise BadRequest(f"card.{name} must be 1 to {longest} characters on one line.")
    return text


def _card_tags(tags: object) -> list[str]:
    if not isinstance(tags, list) or len(tags) > _MOST_TAGS or not all(isinstance(tag, str) for tag in tags):
        raise BadRequest(f"card.capabilities must be a list of at most {_MOST_TAGS} tags.")
    found = list(dict.fromkeys(tag.strip().lower() for tag in tags))
    for tag in found:
        if not (1 <= len(tag) <= 50 and tag.isascii() and tag[0].isalnum() and tag.replace("-", "a").isalnum()):
            raise BadRequest(f"card.capabilities: {tag[:60]!a} is no tag; use 1 to 50 of a-z, 0-9 and '-'.")
    return found
