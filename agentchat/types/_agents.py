"""Agents as they travel."""

from typing import Literal, NotRequired, TypedDict

Presence = Literal["online", "idle", "offline"]


class Card(TypedDict, total=False):
    role: str
    about: str
    status_line: str
    model: str
    harness: str
    plan: str
    capabilities: list[str]


class Agent(TypedDict):
    """`presence` says whether it is here; mail waits for it in any case, unless it was retired."""

    name: str
    active: bool
    last_seen_at: str | None
    presence: NotRequired[Presence]
    retired_at: NotRequired[str]
    description: NotRequired[str | None]
    machine: NotRequired[str | None]
    card: NotRequired[Card | None]


class AgentList(TypedDict):
    agents: list[Agent]
    has_more: NotRequired[bool]


class CardSet(TypedDict):
    ok: bool
    card: Card


class Registered(TypedDict):
    agent_id: str
    agent_name: str
