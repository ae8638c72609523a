"""How often: token buckets for honest use, windows for attempts at a secret."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Hashable
from itertools import islice

from agentchat.errors import RateLimited

_BURST = 10.0  # seconds' worth
_MOST_KEPT = 50_000
Clock = Callable[[], float]


class Buckets:
    """A token bucket for each of many, and one over all. A refused call takes nothing."""

    def __init__(self, each: float, all: float, *, clock: Clock = time.monotonic) -> None:
        self._each, self._all = each, all
        self._clock = clock
        self._buckets: dict[Hashable, tuple[float, float]] = {}  # (tokens, when)
        self._over_all = (bucket_size(all), clock())

    def take(self, who: Hashable) -> None:
        if not (self._each or self._all):
            return
        now = self._clock()
        mine = shared = None
        if self._each:
            tokens, when = self._buckets.get(who) or (bucket_size(self._each), now)
            mine = _left(tokens, when, now, self._each)
        if self._all:
            shared = _left(*self._over_all, now, self._all)
            self._over_all = (shared, now)
        if mine is not None:
            if who not in self._buckets and len(self._buckets) >= _MOST_KEPT:
                self._forget_idle(now)
            self._buckets[who] = (mine, now)

    def _forget_idle(self, now: float) -> None:
        """Whoever has not called for a while has a full bucket anyway."""
        idle = [who for who, (_, when) in self._buckets.items() if now - when > _BURST]
        for who in idle or list(self._buckets)[: _MOST_KEPT // 2]:
            del self._buckets[who]


def bucket_size(rate: float) -> float:
    """What a full bucket holds: one call at least."""
    return max(rate * _BURST, 1.0)


def _left(tokens: float, when: float, now: float, rate: float) -> float:
    """What is left in a bucket after one is taken out."""
    tokens = min(tokens + (now - when) * rate, bucket_size(rate))
    if tokens < 1:
        wait = (1 - tokens) / rate
        raise RateLimited(f"Too many calls; wait {math.ceil(wait)} s.", retry_after=wait)
    return tokens - 1


class Window:
    """At most so many in a while, for each of many."""

    def __init__(self, most: int, seconds: float = 60.0, *, clock: Clock = time.monotonic) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._counted: dict[Hashable, deque[float]] = {}

    def wait(self, who: Hashable) -> float:
        """Seconds until another is allowed; 0 if it is now."""
        found = self._counted.get(who)
        if found is None:
            return 0.0
        now = self._clock()
        while found and now - found[0] >= self._seconds:
            found.popleft()
        if not found:
            del self._counted[who]
            return 0.0
        return max(self._seconds - (now - found[0]), 0.001) if len(found) >= self._most else 0.0

    def count(self, who: Hashable) -> None:
        if who not in self._counted and len(self._counted) >= _MOST_KEPT:
            for one in list(islice(self._counted, _MOST_KEPT // 2)):  # the older half
                del self._counted[one]
        self._counted.setdefault(who, deque()).append(self._clock())

    def uncount(self, who: Hashable) -> None:
        """Take back the last one counted."""
        if found := self._counted.get(who):
            found.pop()

    def check(self, who: Hashable) -> None:
        if wait := self.wait(who):
            raise RateLimited(f"Too many attempts; wait {math.ceil(wait)} s.", retry_after=wait)
