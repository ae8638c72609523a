"""Waiting is asking again, without I/O: short requests one after another, until something came or the time is over.

One request waits for at most so long as proxies put up with. Each goes on from the position that the last answer named,
so that nothing is missed between two of them. The first one does not wait: whatever is repeated later, because a
connection was lost, has a position to begin from. How long a request waits is reckoned when it is sent, so that a
repeated one neither shortens the wait nor doubles it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from ._exchange import Options, Pause, Request, Steps, exchange
from ._operation import Operation, Parameter, Waits

R = TypeVar("R")
Build = Callable[[str | None, float, Mapping[str, Any]], Request]

_SHORTEST = 0.5  # what is left and less than this is no other request worth: `wait` is in whole seconds
_NOT_AGAIN_WITHIN = 1.0  # a relay that never waits is not asked in a tight loop


def wait_steps(
    operation: Operation[..., R],
    arguments: Mapping[str, Any],
    build: Build,
    options: Options,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Steps[R]:
    """All the steps of one wait. `build(key, timeout, arguments)` makes the request of one attempt."""
    parameter = cast("Parameter", operation.waits)
    at_most = cast("Waits", parameter.waits).at_most
    until = clock() + arguments.get(parameter.name, parameter.default)
    since = {name: arguments[name] for name in ("since",) if name in arguments}
    longest = at_most if since else 0
    while True:
        begun = clock()

        def attempt(key: str | None, timeout: float, longest: int = longest, since: Any = since) -> Request:
            part = max(0, min(longest, round(until - clock())))
            asked = {**arguments, **since, parameter.name: part}
            return build(key, min(timeout, options.timeout + part), asked)

        spent = min(longest, max(until - begun, 0.0))
        patient = options._replace(timeout=options.timeout + spent, deadline=options.deadline + spent)
        result = yield from exchange(operation, attempt, patient, clock=clock)
        if _came(result, asked_to_wait=longest > 0) or until - clock() < _SHORTEST:
            return result
        if longest and (early := _NOT_AGAIN_WITHIN - (clock() - begun)) > 0:
            yield Pause(early)
        since, longest = {"since": cast("Mapping[str, Any]", result)["position"]}, at_most


def _came(result: Any, *, asked_to_wait: bool) -> bool:
    """Whether there is no reason to ask again. An answer to a request that did not wait cannot say `timed_out`."""
    return bool(
        result.get("message") or result.get("events") or (asked_to_wait and result.get("timed_out") is not True)
    )
