"""How often somebody may call, counted by the clock of a store that several relays share."""

from __future__ import annotations

from typing import NamedTuple

from ..store.seam import Writing

WINDOW = 60.0  # seconds in which attempts are counted


class Wanted(NamedTuple):
    """A part of a bucket of `size`, which fills up at `rate` a second."""

    bucket: str
    who: int
    size: float
    rate: float
    wanted: float


def take(tx: Writing, wanted: Wanted) -> tuple[float, float]:
    """How much of it is granted, and what is left then."""
    row = tx.the("take_allowance", **wanted._asdict())
    return float(row["granted"]), float(row["tokens"])


def wait(tx: Writing, kind: str, address: str, most: int) -> float:
    """Seconds until an address may try again; 0 if it is now."""
    row = tx.the("attempts_of", kind=kind, address=address, seconds=WINDOW, most=most)
    return max(WINDOW - row["ago"], 0.001) if row["counted"] >= most else 0.0


def count(tx: Writing, kind: str, address: str) -> None:
    tx.run("count_attempt", kind=kind, address=address)


def uncount(tx: Writing, kind: str, address: str) -> None:
    tx.run("uncount_attempt", kind=kind, address=address)


def sweep(tx: Writing) -> int:
    return tx.run("sweep_attempts")
