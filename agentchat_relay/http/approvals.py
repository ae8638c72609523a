"""Asking for a verdict, and waiting for it."""

from __future__ import annotations

from ..service.call import Call
from ..service.events import Happened
from ..service.operations import Entry
from ..service.work import approvals
from ..service.work.approval import APPROVAL
from ..service.work.approvals import Looked
from ..store.seam import Lane, Reading
from .arguments import Arguments
from .asked import Asked
from .operations import call_of
from .parts import Parts
from .reply import Reply, enveloped
from .request import Request
from .waiting import Wait, seconds_of, until_found

_ENDS = frozenset(f"{APPROVAL.kind}.{move.event}" for move in APPROVAL.moves if move.after in APPROVAL.final)


class VerdictRoute:
    """`get_approval`."""

    def __init__(self, parts: Parts, entry: Entry) -> None:
        self._parts = parts
        self._operation, self._lane, self._service = entry
        self._arguments = Arguments(entry.operation)

    async def __call__(self, request: Request) -> Reply:
        parts = self._parts
        caller = await parts.agents.caller(request)
        await parts.reads.take(caller.agent.id)
        arguments = await self._arguments.read(request)
        seconds = seconds_of(self._operation, arguments)
        call = call_of(self._operation, caller.agent, request, arguments)

        def look(tx: Reading, position: int = 0) -> Looked:
            plain = Call(call.agent)
            return approvals.looked(tx, plain, self._service(tx, plain, **arguments))

        looked, epoch = await parts.ask(self._lane, Asked(caller, call, lambda tx: (look(tx), tx.epoch)))
        if seconds and not looked.is_over:
            left = looked.left
            wait = Wait(request, caller, _could_be, min(seconds, left))
            looked = await until_found(parts, wait, look, lambda piece: piece.is_over, looked, epoch)
            if left <= seconds and not looked.is_decided:
                # A deadline that is over wakes nobody by itself. And a verdict may have begun in time, and not be
                # stored yet: only who has its turn to write knows.
                looked = await parts.ask(Lane.APPEND, Asked(caller, call, look))
        return enveloped(looked.details)


def _could_be(event: Happened) -> bool:
    """Whoever decides it: a reviewer waits, too."""
    return event.kind in _ENDS
