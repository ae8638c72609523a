"""When the full-text index is worked on: by a thread of its own, which also answers searches.

So a merge of the index never holds a lock that a message waits for, and its file can be deleted: it is made again.
Searches see what was acknowledged before them, because the thread catches up first.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence

from agentchat.errors import Unavailable

from ..cache import Shared
from ..faults import as_ours
from ..lane import LaneThread, Waiting
from ..query import Query
from ..seam import Hits, Outcome
from . import damage
from .index import Index
from .transaction import read_group

_LONGEST_CATCH_UP = 2.0
_log = logging.getLogger("agentchat.relay")


class FullText:
    """`written()` says that there is something new; the index follows after `pause` seconds."""

    def __init__(
        self,
        index: Index,
        shared: Shared,
        again: Callable[[Waiting], None],
        deliver: Callable[[Sequence[Outcome]], object],
        pause: float,
    ) -> None:
        self._index = index
        self._deliver = deliver
        self._shared = shared
        self._again = again
        self._due = False
        self._stuck = False  # it cannot grow
        self._broken = False  # it cannot be read
        self.lane = LaneThread("search", self._process, start=self._open, stop=index.close, pause=pause)

    def written(self) -> None:
        if not self._due:
            self._due = True
            self.lane.wake()

    # On the thread

    def _open(self) -> None:
        try:
            self._index.open()
        except sqlite3.Error as error:
            raise damage.unusable(self._index.path, error) from error
        self.written()

    def _process(self, group: Sequence[Waiting]) -> None:
        """Everybody gets an answer as soon as it is there, whoever else waits in the group."""
        self._due = False
        try:
            behind = self._follow(_LONGEST_CATCH_UP if group else 0)
            if behind:
                self.written()
            if not group and not behind and not self._stuck and self._index.merge():
                self.written()
        except Exception as error:
            _log.warning("The search index cannot be used: %s", error)
            self._deliver([(waiting.done, None, as_ours(error)) for waiting in group])
            return
        for waiting in group:
            self._deliver(self._safely(waiting, behind))

    def _safely(self, waiting: Waiting, behind: int) -> list[Outcome]:
        try:
            outcomes = self._answer(waiting, behind)
            return self._answer(waiting, self._follow(_LONGEST_CATCH_UP)) if self._broken else outcomes
        except Exception as error:
            _log.warning("Searching failed: %s", error)
            return [(waiting.done, None, as_ours(error))]

    def _follow(self, seconds: float) -> int:
        """Catch up as far as the disk lets us; returns how many rows are left."""
        if self._broken:
            self._begin_anew()
        try:
            behind = self._catch_up(seconds)
        except sqlite3.OperationalError as error:  # a full disk: what is indexed can still be searched
            if not self._stuck:
                _log.warning("The search index cannot grow: %s", error)
            self._stuck = True
            return 0
        except sqlite3.DatabaseError as error:
            _log.warning("The search index is broken (%s) and is made again", error)
            self._begin_anew()
            behind = self._catch_up(seconds)
        self._stuck = False
        return behind

    def _begin_anew(self) -> None:
        self._broken = True
        self._index.begin_anew()
        self._broken = False

    def _catch_up(self, seconds: float) -> int:
        """At least one step; returns how many rows are left after `seconds`."""
        deadline = time.monotonic() + seconds
        while left := self._index.step():
            if time.monotonic() > deadline:
                return left
        return 0

    def _answer(self, waiting: Waiting, behind: int) -> list[Outcome]:
        """In a snapshot of its own: one that lasts for many would keep the database's log from being begun anew."""
        if behind:
            late = Unavailable(f"The search index is being built, {behind} messages to go; try again soon.")
            late.retry_after = 2.0
            return [(waiting.done, None, late)]
        return read_group(self._index.connection, self._shared, [waiting], self._again, self._search)

    def _search(self, query: Query, places: list[str], limit: int) -> Hits:
        try:
            return self._index.search(query, places, limit)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            self._broken = True
            raise Unavailable(
                "The search index is broken and is being made again; try again soon.", retry_after=2
            ) from None
