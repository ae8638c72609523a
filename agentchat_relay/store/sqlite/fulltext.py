"""search.db kept usable: what is missing is added, what is broken is made again, and a full disk is borne.

Its merges never hold a lock that a message waits for, and the file can be deleted: it holds nothing of its own.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable

from agentchat.errors import Unavailable

from ..cache import Shared
from ..fulltext import catch_up
from ..lane import Waiting
from ..query import Query
from ..seam import Hits, Outcome
from . import damage
from .index import Broken, Index
from .transaction import read_group

_LONGEST_REPAIR = 2.0
_log = logging.getLogger("agentchat.relay")


class SearchFile:
    """A call that turns out to write is handed to `again`."""

    def __init__(self, index: Index, shared: Shared, again: Callable[[Waiting], None]) -> None:
        self._index = index
        self._shared = shared
        self._again = again
        self._stuck = False  # it cannot grow
        self._broken = False  # it cannot be read

    def open(self) -> None:
        try:
            self._index.open()
        except Broken:
            self._broken = True
        except sqlite3.Error as error:
            raise damage.unusable(self._index.path, error) from error

    def close(self) -> None:
        self._index.close()

    def follow(self, seconds: float) -> int:
        """Catch up as far as the disk lets us."""
        if self._broken:
            if self._index.is_shared and not seconds:
                return 0
            self._begin_anew()
        try:
            behind = catch_up(self._index.step, seconds)
        except sqlite3.OperationalError as error:  # a full disk: what is indexed can still be searched
            if not self._stuck:
                _log.warning("The search index cannot grow: %s", error)
            self._stuck = True
            return 0
        except sqlite3.DatabaseError as error:
            _log.warning("The search index is broken (%s) and is made again", error)
            self._begin_anew()
            behind = catch_up(self._index.step, seconds)
        self._stuck = False
        return behind

    def rest(self) -> bool:
        return not (self._stuck or self._broken) and self._index.merge()

    def answer(self, waiting: Waiting) -> list[Outcome]:
        outcomes = self._read(waiting)
        if self._broken and not self.follow(_LONGEST_REPAIR):
            return self._read(waiting)
        return outcomes

    def _begin_anew(self) -> None:
        self._broken = True
        self._index.begin_anew()
        self._broken = False

    def _read(self, waiting: Waiting) -> list[Outcome]:
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
