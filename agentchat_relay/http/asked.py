"""What an agent asked for, on its way into the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..service.call import Call
from .authentication import Caller


class Asked:
    """A call of the store. Who asks is confirmed in the very transaction that does it, and the idempotency key is told
    beforehand, so that an engine can look for those of a whole group together."""

    __slots__ = ("_caller", "_run", "key")

    def __init__(self, caller: Caller, call: Call, run: Callable[[Any], Any]) -> None:
        self._caller, self._run = caller, run
        self.key = None if call.key is None else (call.key, call.agent.id)

    def __call__(self, tx: Any) -> Any:
        self._caller.confirm(tx)
        return self._run(tx)
