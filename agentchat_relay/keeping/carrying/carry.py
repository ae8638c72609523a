"""The work itself: rows out of one database into another, counted and hashed on their way, and read back.

Both ends give rows in the order of their keys, as the same values, so that one SHA-256 over them is the same on both
exactly if every value of every row is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypedDict

import msgspec

from ..progress import Progress, number
from ..refusal import Refused
from .tables import Table, tables

Row = tuple[Any, ...]
BATCH = 2000  # rows
_encode = msgspec.msgpack.encode  # which tells a text from bytes, and where a value ends


class Carried(TypedDict):
    """A table's rows."""

    rows: int
    sha256: str


class Readable(Protocol):
    """One state of a database."""

    def count(self, table: Table) -> int: ...

    def batches(self, table: Table) -> Iterator[list[Row]]:
        """All rows, in the order of the table's key."""
        ...


class Fillable(Readable, Protocol):
    """A database without rows. What it gives back after `settle` is what it will keep."""

    def fill(self, table: Table, batches: Iterable[list[Row]]) -> None: ...

    def settle(self) -> None:
        """Everything is there: make what follows from it."""
        ...


class _Tally:
    """Counts rows that come by, and hashes them."""

    def __init__(self) -> None:
        self.rows = 0
        self._hash = hashlib.sha256()

    def of(self, batches: Iterable[list[Row]], at: Callable[[int], object], before: int) -> Iterator[list[Row]]:
        for batch in batches:
            self._hash.update(b"".join(map(_encode, batch)))
            self.rows += len(batch)
            yield batch
            at(before + self.rows)

    def told(self) -> Carried:
        return {"rows": self.rows, "sha256": self._hash.hexdigest()}


def carry(source: Readable, target: Fillable, progress: Progress) -> dict[str, Carried]:
    """Copy everything; what the target gives back must be the same. `Refused` says that it is not."""
    total = sum(source.count(table) for table in tables())
    carried: dict[str, Carried] = {}
    with progress.part("Copying rows", total) as at:
        done = 0
        for table in tables():
            tally = _Tally()
            target.fill(table, tally.of(source.batches(table), at, done))
            done += tally.rows
            carried[table.name] = tally.told()
    target.settle()
    _verify(target, carried, total, progress)
    return carried


def _verify(target: Readable, carried: dict[str, Carried], total: int, progress: Progress) -> None:
    with progress.part("Reading them back", total) as at:
        done = 0
        for table in tables():
            tally = _Tally()
            for _ in tally.of(target.batches(table), at, done):
                pass
            done += tally.rows
            if tally.told() != (wanted := carried[table.name]):
                raise Refused(_differs(table.name, wanted["rows"], tally.rows))


def _differs(table: str, wanted: int, found: int) -> str:
    what = (
        f"{number(found)} rows instead of {number(wanted)}" if found != wanted else "as many rows, of which some differ"
    )
    return (
        f"The table {table} came out with {what}; nothing was kept. agentchat admin doctor looks at where it comes "
        "from; please report this."
    )
