"""Who calls, and what makes a repeat of the call recognisable."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from agentchat.errors import AgentChatError

from ..settings import Loops


class Agent(NamedTuple):
    """The caller, as the key told. Nothing in a call can change it."""

    id: int
    public_id: str
    name: str
    space_id: int
    is_person: bool = False  # as it was when the agent was last looked up: no grounds for a power


class Call(NamedTuple):
    """What a service function is told besides the arguments. `digest` stands for operation and arguments, `session` is
    what the caller calls itself among others of the same agent, `scopes` are those whose items it may be given. With
    `is_relays` nobody called: the relay tells something in that agent's name."""

    agent: Agent
    key: str | None = None
    digest: bytes | None = None
    session: str | None = None
    scopes: tuple[str, ...] = ()
    loops: Loops = Loops()
    is_judged: bool = False
    is_relays: bool = False


class Unjudged(AgentChatError):
    """Refuses a call for now, which wrote nothing yet: `judge` what may take long, beside everything else; unless that
    refuses it, make the call again, judged."""

    def __init__(self, judge: Callable[[], None]) -> None:
        super().__init__("to be judged first")
        self.judge = judge
