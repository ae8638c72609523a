"""Who calls, and what makes a repeat of the call recognisable."""

from __future__ import annotations

from typing import NamedTuple


class Agent(NamedTuple):
    """The caller, as the key told. Nothing in a call can change it."""

    id: int
    public_id: str
    name: str
    space_id: int


class Call(NamedTuple):
    """What a service function is told besides the arguments. `digest` stands for operation and arguments, `session` is
    what the caller calls itself among others of the same agent."""

    agent: Agent
    key: str | None = None
    digest: bytes | None = None
    session: str | None = None
