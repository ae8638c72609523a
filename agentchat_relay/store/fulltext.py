"""When a full-text index is worked on: by a thread of its own, which also answers searches.

So no message waits for the index. Searches see what was acknowledged before them, because the thread catches up first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from agentchat.errors import Unavailable

from .groups import NoDatabase
from .lane import LaneThread, Waiting
from .seam import Outcome

_LONGEST_CATCH_UP = 2.0
_log = logging.getLogger("agentchat.relay")


class Keeper(Protocol):
    """An engine's index, and whatever it takes to keep it usable. All of it happens on the thread."""

    def open(self) -> None: ...
    def close(self) -> None: ...
    def follow(self, seconds: float) -> int:
        """Catch up for about so long, at least one step; returns how many messages are left."""
        ...

    def rest(self) -> bool:
        """Nobody waits and nothing is new: time for other work on the index. Whether there is more of it."""
        ...

    def answer(self, waiting: Waiting) -> list[Outcome]:
        """In a snapshot of its own: one that lasts for many would keep the engine from tidying up behind it."""
        ...


class FullText:
    """`written()` says that there is something new; the index follows after `pause` seconds. `as_ours` puts faults of
    the engine into our words."""

    def __init__(
        self,
        keeper: Keeper,
        deliver: Callable[[Sequence[Outcome]], object],
        as_ours: Callable[[Exception], Exception],
        pause: float,
    ) -> None:
        self._keeper = keeper
        self._deliver = deliver
        self._as_ours = as_ours
        self._due = False
        self.lane = LaneThread("search", self._process, start=self._open, stop=keeper.close, pause=pause)

    def written(self) -> None:
        if not self._due:
            self._due = True
            self.lane.wake()

    # On the thread

    def _open(self) -> None:
        self._keeper.open()
        self.written()

    def _process(self, group: Sequence[Waiting]) -> None:
        """Everybody gets an answer as soon as it is there, whoever else waits in the group."""
        self._due = False
        try:
            behind = self._keeper.follow(_LONGEST_CATCH_UP if group else 0)
            if behind or (not group and self._keeper.rest()):
                self.written()
        except Exception as error:
            ours = self._as_ours(error)
            if not isinstance(ours, NoDatabase):  # which was told of
                _log.warning("The search index cannot be used: %s", error)
            self._deliver([(waiting.done, None, ours) for waiting in group])
            return
        for waiting in group:
            self._deliver([self._late(waiting, behind)] if behind else self._safely(waiting))

    def _late(self, waiting: Waiting, behind: int) -> Outcome:
        late = Unavailable(f"The search index is being built, {behind} messages to go; try again soon.")
        late.retry_after = 2.0
        return waiting.done, None, late

    def _safely(self, waiting: Waiting) -> list[Outcome]:
        try:
            return self._keeper.answer(waiting)
        except Exception as error:
            ours = self._as_ours(error)
            if not isinstance(ours, NoDatabase):
                _log.warning("Searching failed: %s", error)
            return [(waiting.done, None, ours)]


def catch_up(step: Callable[[], int], seconds: float) -> int:
    """At least one step; returns how many messages are left after `seconds`."""
    deadline = time.monotonic() + seconds
    while left := step():
        if time.monotonic() > deadline:
            return left
    return 0
