"""The full-text index of one relay's store, kept up with whatever others do to it and to the server."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import errors

from ..fulltext import catch_up
from ..lane import Waiting
from ..query import Query
from ..seam import Hits, Outcome
from .index import Index

_log = logging.getLogger("agentchat.relay")
Search = Callable[[Query, list[str], int], Hits]
Read = Callable[[psycopg.Connection[Any], Waiting, Search], list[Outcome]]


class SearchTable:
    """`read` answers a call in a transaction of the index's connection, with the search that it may use."""

    def __init__(self, index: Index, read: Read) -> None:
        self._index = index
        self._read = read
        self._stuck = False  # it cannot grow

    def open(self) -> None:
        self._index.open()

    def close(self) -> None:
        self._index.close()

    def follow(self, seconds: float) -> int:
        """Only a search waits for another relay that is at work on the index."""
        try:
            behind = catch_up(lambda: self._index.step(wait=seconds > 0), seconds)
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
        return self._read(self._index.connection, waiting, self._index.search)
