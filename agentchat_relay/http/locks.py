"""Asking for a lock: a write, and then, if it is not free, a wait for it.

One request waits for as long as a proxy lets it. What it asked for stays, until all of its time is over; the same call
under the same key goes on waiting.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from agentchat._operation import Parameter, Waits

from ..service.call import Call
from ..service.events import Happened
from ..service.operations import Entry
from ..service.work import locks
from ..service.work.lock import LOCK, WAITING
from ..service.work.locks import Looked
from ..service.work.refused import Refused
from ..store.seam import Lane, Reading
from .arguments import Arguments
from .asked import Asked
from .authentication import Caller
from .operations import call_of
from .parts import Parts
from .reply import Reply, enveloped
from .request import Request
from .waiting import Wait, until_found

_MORE = 0.05  # seconds, in which the time of the store is over, too
_ENDS = frozenset({f"{LOCK.kind}.granted", f"{LOCK.kind}.withdrawn"})


class AcquireRoute:
    """`acquire_lock`."""

    def __init__(self, parts: Parts, entry: Entry) -> None:
        self._parts = parts
        self._operation, self._lane, self._service = entry
        self._arguments = Arguments(entry.operation)
        self._longest = cast("Waits", cast("Parameter", entry.operation.waits).waits).at_most

    async def __call__(self, request: Request) -> Reply:
        parts, service = self._parts, self._service
        caller = await parts.agents.caller(request)
        await parts.writes.take(caller.agent.id)
        arguments = await self._arguments.read(request)
        call = call_of(self._operation, caller.agent, request, arguments)
        result = await parts.ask(self._lane, Asked(caller, call, lambda tx: service(tx, call, **arguments)))
        if result["lock"]["state"] == WAITING:
            result = await self._waited(request, caller, call, result["lock"]["id"])
        return enveloped(result)

    async def _waited(self, request: Request, caller: Caller, call: Call, id: str) -> Any:
        """What became of it, once it is granted or this request has waited for long enough."""
        parts, plain = self._parts, Call(caller.agent)

        def look(tx: Reading, position: int = 0) -> Looked:
            return locks.look(tx, plain, id)

        looked, epoch = await parts.ask(Lane.READ, Asked(caller, plain, lambda tx: (look(tx), tx.epoch)))
        seconds = min(looked.left, self._longest) + _MORE
        wait = Wait(request, caller, partial(_could_be, agent_id=caller.agent.id), seconds)
        await until_found(parts, wait, look, _is_over, looked, epoch)
        asked = Asked(caller, plain, lambda tx: locks.acquired(tx, call, look(tx).lock))
        try:
            return await parts.ask(Lane.READ, asked)
        except Refused:
            # What grants it may have begun in time, and not be stored yet: only who has its turn to write knows.
            return await parts.ask(self._lane, asked)


def _could_be(event: Happened, *, agent_id: int) -> bool:
    """Who gets a lock is the actor of that."""
    return event.actor_id == agent_id and event.kind in _ENDS


def _is_over(looked: Looked) -> bool:
    return bool(looked.lock["state"] != WAITING)
