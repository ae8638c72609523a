"""For `postgres.py`: the Postgres writer without HTTP, what each part of its turns costs, and what a slow disk does."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple
from urllib.parse import quote

import _measure as measure
import relay
from agentchat_relay.store.postgres.engine import Postgres
from agentchat_relay.store.seam import Lane
from agentchat_relay.store.sqlite.engine import Sqlite
from tests.postgres import Server, new_schema

PARTS = {"_take_turn": "turn", "expect": "repeats", "_write_down": "append", "commit": "commit"}
# Every commit waits two milliseconds longer for its place on disk.
SLOW_DISK = quote(" -c commit_delay=2000 -c commit_siblings=0")


class Extent(NamedTuple):
    rounds: int = 7
    seeded: int = 10_000
    groups: tuple[tuple[int, int], ...] = ((1, 150), (8, 80), (64, 30), (512, 8))  # size, how many in a round
    slow_groups: int = 40


TINY = Extent(rounds=1, seeded=300, groups=((1, 5), (64, 2)), slow_groups=3)


class Cost(NamedTuple):
    """Of a part: seconds of the writer's thread, of its backend in Postgres, and by the clock."""

    client: float
    backend: float
    wall: float


class Meter:
    """Times the parts of a writer's turns. What is in none of them is `calls`: the functions of the service."""

    def __init__(self, store: Postgres) -> None:
        transaction: Any = store._transaction
        self._clock = os.open(f"/proc/{transaction._connection.info.backend_pid}/schedstat", os.O_RDONLY)
        self._at = Cost(0.0, 0.0, 0.0)
        self._part = "calls"
        self.costs: dict[str, Cost] = {}
        self.clear()
        for method, part in PARTS.items():
            setattr(transaction, method, self._timed(part, getattr(transaction, method)))

    def clear(self) -> None:
        self.costs = dict.fromkeys(("calls", *PARTS.values()), Cost(0.0, 0.0, 0.0))

    def start(self) -> None:
        """On the writer's thread, as all that follows."""
        self.clear()
        self._at = self._now()

    def _now(self) -> Cost:
        return Cost(time.thread_time(), int(os.pread(self._clock, 64, 0).split()[0]) / 1e9, time.perf_counter())

    def _move(self, part: str) -> str:
        """From here on it is another part's."""
        now, before = self._now(), self._part
        self.costs[before] = Cost(*(a + b - c for a, b, c in zip(self.costs[before], now, self._at, strict=True)))
        self._at, self._part = now, part
        return before

    def _timed(self, part: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            before = self._move(part)
            try:
                return method(*arguments)
            finally:
                self._move(before)

        return run

    def close(self) -> None:
        os.close(self._clock)


class Writer:
    """A store and its meter."""

    def __init__(self, url: str, seeded: int, stack: ExitStack) -> None:
        self.store = Postgres(url, index_pause=60.0)  # the index is not what is measured here
        stack.callback(self.store.close)
        self.people = relay.filled(self.store, seeded)
        self._lanes = {keyed: relay.Lanes(self.store, self.people, keyed=keyed) for keyed in (True, False)}
        self.meter = Meter(self.store)
        stack.callback(self.meter.close)

    def run(self, size: int, groups: int, *, keyed: bool = True) -> dict[str, Any]:
        """In us per send."""
        lanes = self._lanes[keyed]
        self.store.ask(Lane.WRITE, lambda tx: self.meter.start())
        client = lanes.cpu(Lane.APPEND, lanes.send, groups=groups, size=size)["cpu"]
        each = 1e6 / (groups * size)
        parts = {part: Cost(*(figure * each for figure in cost)) for part, cost in self.meter.costs.items()}
        return {
            "client": client,
            "backend": sum(cost.backend for cost in parts.values()),
            "wall": sum(cost.wall for cost in parts.values()),
            "parts": {part: cost._asdict() for part, cost in parts.items()},
        }


def writer(database: Server, extent: Extent) -> dict[str, Any]:
    """Both engines, in groups of every size, in turns."""
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="agentchat-bench-") as folder, ExitStack() as stack:
        mine = Writer(new_schema(database.url), extent.seeded, stack)
        store = Sqlite(folder)
        stack.callback(store.close)
        lanes = relay.Lanes(store, relay.filled(store, extent.seeded))
        for turn in range(extent.rounds + 1):
            taken: dict[str, Any] = {}
            for size, groups in extent.groups:
                taken[f"{size} keyed"] = mine.run(size, groups)
                taken[f"{size} not keyed"] = mine.run(size, groups, keyed=False)
                taken[f"{size} SQLite"] = lanes.cpu(Lane.APPEND, lanes.send, groups=groups, size=size)
            if turn:  # the first one warms up
                found.append(taken)
    return {"rounds": found}


def told_writer(result: dict[str, Any]) -> None:
    rounds = result["rounds"]

    def of(value: Callable[[dict[str, Any]], float]) -> str:
        return measure.spread([value(found) for found in rounds])

    rows: list[tuple[str, ...]] = [("us of CPU per send", "relay", "backend", "both / SQLite")]
    names = [name for name in rounds[0] if "SQLite" not in name]
    for name in names:
        other = f"{name.split()[0]} SQLite"
        rows.append(
            (
                f"groups of {name}",
                of(lambda found, name=name: found[name]["client"]),  # type: ignore[misc]
                of(lambda found, name=name: found[name]["backend"]),  # type: ignore[misc]
                of(lambda found, name=name, other=other: _both(found[name]) / found[other]["cpu"]),  # type: ignore[misc]
            )
        )
    measure.table(rows)
    print()
    parts = list(rounds[0][names[0]]["parts"])
    rows = [("share of both, %", *parts)]
    for name in names:
        rows.append((f"groups of {name}", *(_share([found[name] for found in rounds], part) for part in parts)))
    measure.table(rows)
    print()


def _both(found: dict[str, Any]) -> float:
    return float(found["client"] + found["backend"])


def _share(rounds: list[dict[str, Any]], part: str) -> str:
    """The relay's part and the backend's."""

    def of(clock: str) -> float:
        return float(statistics.median(found["parts"][part][clock] / _metered(found) for found in rounds))

    return f"{100 * of('client'):.0f} + {100 * of('backend'):.0f}"


def _metered(found: dict[str, Any]) -> float:
    return sum(float(cost["client"] + cost["backend"]) for cost in found["parts"].values())


def slow(database: Server, extent: Extent) -> dict[str, Any]:
    """Sends a second by the size of groups, on this disk and on one that takes two milliseconds longer."""
    found: list[dict[str, float]] = []
    with ExitStack() as stack:
        writers = {
            "this disk": Writer(new_schema(database.url), extent.seeded, stack),
            "+2 ms": Writer(new_schema(database.url) + SLOW_DISK, extent.seeded, stack),
        }
        for turn in range(extent.rounds + 1):
            taken: dict[str, float] = {}
            for size, _ in extent.groups:
                for name, mine in writers.items():
                    taken[f"{size} {name}"] = 1e6 / mine.run(size, extent.slow_groups)["wall"]
            if turn:
                found.append(taken)
    return {"rounds": found, "sizes": [size for size, _ in extent.groups]}


def told_slow(result: dict[str, Any]) -> None:
    rounds = result["rounds"]
    rows: list[tuple[str, ...]] = [("sends/s of one writer", "this disk", "+2 ms", "slow / this")]
    for size in result["sizes"]:
        here, there = f"{size} this disk", f"{size} +2 ms"
        rows.append(
            (
                f"groups of {size}",
                *(relay.shown([{"": found} for found in rounds], "", name) for name in (here, there)),
                measure.spread([found[there] / found[here] for found in rounds]),
            )
        )
    measure.table(rows)
    print()
