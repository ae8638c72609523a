"""Named statements run on a snapshot, as any engine runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .query import Query
from .seam import Hits
from .statements import Statement

Search = Callable[[Query, list[str], int], Hits]


class Named:
    """An engine gives what executes, its statements, and a search where there is one."""

    _execute: Callable[..., Any]
    _statements: dict[str, Statement]
    _search: Search | None

    def one(self, statement: str, /, **values: Any) -> Any:
        found = self._statements[statement]
        return self._execute(found.sql, found.bind(values)).fetchone()

    def the(self, statement: str, /, **values: Any) -> Any:
        row = self.one(statement, **values)
        if row is None:
            raise LookupError(f"{statement} found no row")
        return row

    def all(self, statement: str, /, **values: Any) -> list[Any]:
        found = self._statements[statement]
        rows: list[Any] = self._execute(found.sql, found.bind(values)).fetchall()
        return rows

    def search(self, query: Query, *, places: list[str], limit: int) -> Hits:
        if self._search is None:
            raise RuntimeError("searches run in the SEARCH lane")
        return self._search(query, places, limit)
