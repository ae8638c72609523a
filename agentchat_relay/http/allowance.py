"""How often callers may call: in one process, or in all the relays of one store together.

Where several relays share a store, an agent's bucket lies there. A process takes a twentieth of it at a time and spends
that by itself, so that the store is asked seldom; a burst may be larger by as much for each relay.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from agentchat.errors import RateLimited

from ..service import limits
from ..store.seam import Lane
from .limits import Buckets, Window, bucket_size

Ask = Callable[[Lane, Callable[[Any], Any]], Coroutine[Any, Any, Any]]
_PART = 20
_MOST_KEPT = 50_000


class Allowance(Protocol):
    async def take(self, who: int) -> None:
        """Count a call of somebody, or raise what says how long to wait."""
        ...


class Attempts(Protocol):
    """At most so many in a minute, for each of many addresses."""

    async def wait(self, who: str) -> float:
        """Seconds until another is allowed; 0 if it is now."""
        ...

    async def count(self, who: str) -> None: ...
    async def uncount(self, who: str) -> None:
        """Take back the last one counted."""
        ...

    async def check(self, who: str) -> None: ...


class OwnAllowance:
    """Of the only relay of a store."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    async def take(self, who: int) -> None:
        self._buckets.take(who)


class SharedAllowance:
    """Of all relays of a store. What all agents may do together is each relay's own: it is what a relay can do."""

    def __init__(self, name: str, each: float, all: float, ask: Ask) -> None:
        self._name, self._each, self._ask = name, each, ask
        self._size = bucket_size(each)
        self._part = math.ceil(self._size / _PART)
        self._all = Buckets(0, all)
        self._held: dict[int, float] = {}
        self._asked: dict[int, asyncio.Task[float]] = {}

    async def take(self, who: int) -> None:
        while self._each and self._held.get(who, 0) < 1:
            await self._take_part(who)
        self._all.take(who)
        if self._each:
            self._held[who] -= 1

    async def _take_part(self, who: int) -> None:
        """One question at a time for each agent, however many of its calls wait."""
        asked = self._asked.get(who)
        if asked is not None:
            await asyncio.shield(asked)
            return
        asked = self._asked[who] = asyncio.create_task(self._ask_for(who))
        if wait := await asyncio.shield(asked):
            raise RateLimited(f"Too many calls; wait {math.ceil(wait)} s.", retry_after=wait)

    async def _ask_for(self, who: int) -> float:
        """Take what is to be had; the seconds to wait if that is nothing."""
        wanted = limits.Wanted(self._name, who, self._size, self._each, self._part)
        try:
            granted, left = await self._ask(Lane.ASIDE, lambda tx: limits.take(tx, wanted))
        finally:
            del self._asked[who]  # here, for whoever waits for a task that is over does not wait, and asks for ever
        if len(self._held) >= _MOST_KEPT:
            self._held.clear()  # what is lost by that fills up again
        self._held[who] = self._held.get(who, 0) + granted
        return 0.0 if granted else (1 - left) / self._each


class OwnAttempts:
    """At the only relay of a store."""

    def __init__(self, window: Window) -> None:
        self._window = window

    async def wait(self, who: str) -> float:
        return self._window.wait(who)

    async def count(self, who: str) -> None:
        self._window.count(who)

    async def uncount(self, who: str) -> None:
        self._window.uncount(who)

    async def check(self, who: str) -> None:
        self._window.check(who)


class SharedAttempts:
    """At all relays of a store. Whoever has had too many here is not looked up there again."""

    def __init__(self, kind: str, most: int, ask: Ask) -> None:
        self._kind, self._most, self._ask = kind, most, ask
        self._here = Window(most)

    async def wait(self, who: str) -> float:
        if here := self._here.wait(who):
            return here
        wait: float = await self._ask(Lane.ASIDE, lambda tx: limits.wait(tx, self._kind, who, self._most))
        return wait

    async def count(self, who: str) -> None:
        self._here.count(who)
        await self._ask(Lane.ASIDE, lambda tx: limits.count(tx, self._kind, who))

    async def uncount(self, who: str) -> None:
        self._here.uncount(who)
        await self._ask(Lane.ASIDE, lambda tx: limits.uncount(tx, self._kind, who))

    async def check(self, who: str) -> None:
        if wait := await self.wait(who):
            raise RateLimited(f"Too many attempts; wait {math.ceil(wait)} s.", retry_after=wait)
