"""For `scale.py`: the writer's and the index's CPU per message, without HTTP, against a relay without messages."""

from __future__ import annotations

import itertools
import statistics
import time
from typing import Any

import _measure as measure
import _scale
import relay
from _scale_lane import controlled, mean, timed, told_control
from _scale_sizes import Copies, Directories, Extent, progress, short, turned
from agentchat_relay.store.seam import Lane

SEND_RATE = 0.85  # the goal


def measured(directories: Directories, extent: Extent) -> dict[str, Any]:
    """A relay without messages first, then the sizes."""
    copies = Copies(directories)
    taken: dict[int, list[dict[str, float]]] = {size: [] for size in (0, *extent.sizes)}
    control = []
    for turn in range(extent.rounds):
        control.append(mean(controlled(50)))
        for size in turned((0, *extent.sizes), turn):
            made = _scale.Made(copies.path(size))
            try:
                taken[size].append(_turn(made, turn, extent))
            finally:
                made.close()
        progress("sends", turn + 1, extent.rounds)
    return {"sizes": taken, "control": control}


def _turn(made: _scale.Made, turn: int, extent: Extent) -> dict[str, float]:
    calls = made.author(turn).calls()
    _scale.send(made.store, calls, 5 * relay.GROUP)  # a new process knows nobody yet
    relay.indexed(made.store)
    indexing = made.store.ask(Lane.SEARCH, lambda tx: time.thread_time())
    count = extent.groups * relay.GROUP
    samples = timed(made.store, Lane.APPEND, list(itertools.islice(calls, count)), relay.GROUP)
    relay.indexed(made.store)
    indexing = made.store.ask(Lane.SEARCH, lambda tx: time.thread_time()) - indexing
    return {
        "writer": mean(samples),
        "wall": statistics.fmean(sample.wall for sample in samples),
        "index": indexing / count * 1e6,
    }


def tell(found: dict[str, Any], extent: Extent) -> None:
    rows: list[tuple[str, ...]] = [
        ("sends without HTTP", "writer, CPU us", "index, CPU us", "fresh / this (CPU)", "goal")
    ]
    for size, taken in found["sizes"].items():
        shares = [fresh["writer"] / mine["writer"] for fresh, mine in zip(found["sizes"][0], taken, strict=True)]
        goal = f">= {SEND_RATE}" if size == extent.sizes[-1] else ""
        middle = [measure.spread([one[name] for one in taken]) for name in ("writer", "index")]
        rows.append((short(size), *middle, measure.spread(shares), goal))
    measure.table(rows)
    print(told_control(found))
