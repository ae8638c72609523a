"""Waiting is asking again, without I/O: short requests one after another, until something came or the time is over.

One request waits for at most so long as proxies put up with. Each goes on from the position that the last answer named,
so that nothing is missed between two of them. The first one does not wait: whatever is repeated later, because a
connection was lost, has a position to begin from. How long a request waits is reckoned when it is sent, so that a
repeated one neither shortens the wait nor doubles it.

A relay that was there and is away, as while it is started anew, is asked again until the time is over (`Patience`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from ._exchange import Options, Patience, Pause, Request, Steps, exchange
from ._operation import Operation, Parameter, Waits

R = TypeVar("R")
Build = Callable[[str | None, float, Mapping[str, Any]], Request]

_SHORTEST = 0.5  # what is left and less than this is no other request worth: `wait` is in whole seconds
_LATEST = 10.0  # after which a relay that ends nothing is not asked again
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
    asked = {**arguments, parameter.name: 0}
    longest = at_most if "since" in arguments else 0

    def attempt(key: str | None, timeout: float) -> Request:
        asked[parameter.name] = part = max(0, min(longest, round(until - clock())))
        return build(key, min(timeout, options.timeout + part), asked)

    is_met = False
    while True:
        begun = clock()
        patience = Patience(until, options.deadline, is_met)
        spent = min(longest, max(until - begun, 0.0))
        result: Any = yield from exchange(operation, attempt, _longer(options, spent), clock=clock, patience=patience)
        is_met = True
        if _came(result, waited=asked[parameter.name] > 0):
            return cast("R", result)
        if until - clock() < _SHORTEST:
            return cast("R", {**result, "timed_out": True})
        if longest and (early := _NOT_AGAIN_WITHIN - (clock() - begun)) > 0:
            yield Pause(early)
        asked["since"], longest = result["position"], at_most


def held_steps(
    operation: Operation[..., R],
    arguments: Mapping[str, Any],
    build: Build,
    options: Options,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Steps[R]:
    """The same for what the relay keeps: the call again, under its key, until it waits for nothing any more. Of a read
    the relay is told how long is left; what a write asked for ends there by itself."""
    parameter = cast("Parameter", operation.waits)
    at_most = cast("Waits", parameter.waits).at_most
    until = clock() + arguments[parameter.name]

    def attempt(key: str | None, timeout: float) -> Request:
        left = max(0.0, min(at_most, until - clock()))
        asked = arguments if operation.writes else {**arguments, parameter.name: round(left)}
        return build(key, min(timeout, options.timeout + left), asked)

    is_met = False
    while True:
        begun = clock()
        patience = Patience(until, options.deadline, is_met)
        spent = min(at_most, max(until - begun, 0.0))
        result: Any = yield from exchange(operation, attempt, _longer(options, spent), clock=clock, patience=patience)
        is_met = True
        left = until - clock()
        if not _waits_on(result) or left < (-_LATEST if operation.writes else _SHORTEST):
            return cast("R", result)
        if (early := _NOT_AGAIN_WITHIN - (clock() - begun)) > 0:
            yield Pause(early)


def _longer(options: Options, spent: float) -> Options:
    """For a request that the relay keeps for a while."""
    return options._replace(timeout=options.timeout + spent, deadline=options.deadline + spent)


def _waits_on(result: Any) -> bool:
    found = result.get("lock", result.get("approval"))
    return isinstance(found, Mapping) and found.get("state") in ("waiting", "pending")


def _came(result: Any, *, waited: bool) -> bool:
    """Whether there is no reason to ask again. An answer to a request that did not wait cannot say `timed_out`."""
    return bool(result.get("message") or result.get("events") or (waited and result.get("timed_out") is not True))
