"""Routes that wait: they look, and while there is nothing they look again whenever something could be it.

One request waits for as long as a proxy lets it, less than a caller may want to wait in all. Whoever says that it will
send nothing more, as one does who hangs up, is answered at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from agentchat import types
from agentchat._operation import Operation
from agentchat.contract import OPERATIONS

from ..service import waiting
from ..service.call import Call
from ..service.events import Wants
from ..service.waiting import Looked, Sought
from ..store.seam import Lane, Reading
from .arguments import Arguments
from .asked import Asked
from .authentication import Caller
from .connection import connection_of
from .operations import call_of
from .parts import Parts
from .reply import Reply, enveloped
from .request import Request


class Piece(Protocol):
    """A piece of the log that was looked through."""

    @property
    def position(self) -> int: ...
    @property
    def is_end(self) -> bool: ...


P = TypeVar("P", bound=Piece)


class Wait(NamedTuple):
    """Who waits for what, and how long one request of theirs does."""

    request: Request
    caller: Caller
    could_be: Wants
    seconds: float


async def until_found(
    parts: Parts, wait: Wait, look: Callable[[Reading, int], P], found: Callable[[P], bool], piece: P, epoch: int
) -> P:
    """Go on from a first piece until something was found, or the time is over."""
    agent, push = wait.caller.agent, parts.push
    loop = asyncio.get_running_loop()
    until = loop.time() + wait.seconds
    while not found(piece):
        if piece.is_end:
            if loop.time() >= until or push.is_stopping:
                break
            gone = connection_of(wait.request).ended()
            if not await push.wait(agent, piece.position, epoch, wait.could_be, until, gone):
                break
        again = partial(_again, look=look, position=piece.position)
        piece, epoch = await parts.ask(Lane.READ, Asked(wait.caller, Call(agent), again))
    return piece


def _again(tx: Reading, *, look: Callable[[Reading, int], P], position: int) -> tuple[P, int]:
    return look(tx, position), tx.epoch


def seconds_of(operation: Operation[..., Any], arguments: dict[str, Any]) -> float:
    """How long this request waits; taken out of the arguments."""
    waits = operation.parameters["wait"].waits
    default = operation.parameters["wait"].default
    wanted: float = arguments.pop("wait", default)
    return wanted if waits is None else min(wanted, waits.at_most)


class WaitRoute:
    """`wait_for_reply` and `wait_for_message`."""

    def __init__(self, parts: Parts, name: str, start: Callable[..., waiting.Start]) -> None:
        self._parts, self._start = parts, start
        self._operation = OPERATIONS[name]
        self._arguments = Arguments(self._operation)

    async def __call__(self, request: Request) -> Reply:
        parts = self._parts
        caller = await parts.agents.caller(request)
        await parts.reads.take(caller.agent.id)
        arguments = await self._arguments.read(request)
        seconds = seconds_of(self._operation, arguments)
        call = call_of(self._operation, caller.agent, request, arguments)
        asked = Asked(caller, call, lambda tx: (self._start(tx, call, **arguments), tx.epoch))
        (sought, looked), epoch = await parts.ask(Lane.READ, asked)
        wait = Wait(request, caller, sought.could_be, seconds)
        looked = await until_found(parts, wait, _look(sought), _is_found, looked, epoch)
        return enveloped(_awaited(looked))


def _look(sought: Sought) -> Callable[[Reading, int], Looked]:
    return lambda tx, position: waiting.look(tx, sought, position)


def _is_found(looked: Looked) -> bool:
    return looked.message is not None


def _awaited(looked: Looked) -> types.Awaited:
    return {"message": looked.message, "position": looked.position, "timed_out": looked.message is None}
