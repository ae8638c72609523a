"""The full-text index of Postgres as one relay keeps it, whatever other relays and the server do meanwhile."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from psycopg import errors

from ..cache import Shared
from ..fulltext import catch_up
from ..lane import Waiting
from ..seam import Outcome
from .connection import Link
from .index import Index
from .transaction import read_group

_LONGEST_PASS = 0.2  # seconds, for which a search may have to wait
_log = logging.getLogger("agentchat.relay")


class SearchTable:
    """On a connection of its own. A call that turns out to write is handed to `again`."""

    def __init__(self, link: Link, shared: Shared, again: Callable[[Waiting], None]) -> None:
        self.index = Index(link)
        self._link = link
        self._shared = shared
        self._again = again
        self._stuck = False  # it cannot grow

    def open(self) -> None:
        """There is nothing to be made; the connection is, when it is needed."""

    def close(self) -> None:
        self._link.close()

    def follow(self, seconds: float) -> int:
        """Only a search waits for another relay that is at work on the index."""
        try:
            behind = catch_up(lambda: self.index.step(wait=seconds > 0), seconds)
            deadline = time.monotonic() + _LONGEST_PASS
            while self.index.has_more and not seconds and time.monotonic() < deadline:
                behind = self.index.step(wait=False)
        except (errors.DiskFull, errors.ReadOnlySqlTransaction) as error:  # what is indexed can still be searched
            if not self._stuck:
                _log.warning("The search index cannot grow: %s", error)
            self._stuck = True
            return 0
        self._stuck = False
        return behind

    def rest(self) -> bool:
        """Postgres tidies up by itself."""
        return False

    def answer(self, waiting: Waiting) -> list[Outcome]:
        return read_group(self._link, self._shared, [waiting], self._again, self.index.search)
