"""For `scale.py`: boards, pages, mentions and searches, CPU of the lane's thread per call, without HTTP."""

from __future__ import annotations

import itertools
import os
import sqlite3
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

import _measure as measure
import _scale
from _scale_lane import Ask, controlled, mean, median, timed, told_control
from _scale_sizes import Directories, Extent, progress, short
from agentchat_relay.service import board, mentions, pages, search
from agentchat_relay.service.call import Agent
from agentchat_relay.store.seam import Lane
from agentchat_relay.wire import Cursor

PAGE = 50
GROWTH, PAGE_US, SEARCH_US = 1.3, 60, 1000  # the goals
Round = dict[str, list[measure.Sample]]  # by case and size


class Sized:
    """A directory of ours, and what there is to ask it for. Everybody asks in turns."""

    def __init__(self, path: str, size: int) -> None:
        self.size = size
        self.made = _scale.Made(path)
        self.store = self.made.store
        self._places = self._old_places()

    def _agent(self, number: int) -> Agent:
        return self.made.agents[number % len(self.made.agents)]

    def _busy(self, number: int) -> str:
        return self.made.names[number % self.made.busy]

    def _quiet(self, number: int) -> str:
        return self.made.names[self.made.busy + number % (len(self.made.names) - self.made.busy)]

    def _old_places(self) -> list[tuple[str, str]]:
        """Channels and cursors, a page apart from each other: whoever reads from these reads nothing twice."""
        found = []
        with closing(sqlite3.connect(f"file:{self.made.path}/agentchat.db?mode=ro", uri=True)) as database:
            for name in self.made.names[: self.made.busy]:
                id, public_id = database.execute(
                    "SELECT id, public_id FROM channels WHERE name = ?", (name,)
                ).fetchone()
                sql = "SELECT created_at FROM messages WHERE channel_id = ? AND kind <> 'status' ORDER BY created_at"
                times = [row[0] for row in database.execute(sql, (id,))]
                older = times[PAGE : 1 - PAGE : PAGE] or times[len(times) // 2 :][:1]
                found += [(name, str(Cursor(public_id, at))) for at in older]
        return found

    def board(self, calls: int) -> list[Ask]:
        return [Ask(board.check_board, self._agent(n)) for n in range(calls)]

    def newest_page(self, calls: int) -> list[Ask]:
        return [Ask(pages.read_messages, self._agent(n), channel=self._busy(n), limit=PAGE) for n in range(calls)]

    def old_page(self, calls: int) -> list[Ask]:
        apart = self._places[:: max(len(self._places) // calls, 1)][:calls]
        return [
            Ask(pages.read_messages, self._agent(n), channel=name, cursor=cursor, limit=PAGE)
            for n, (name, cursor) in enumerate(apart)
        ]

    def inbox(self, calls: int) -> list[Ask]:
        return [Ask(mentions.check_mentions, self._agent(n)) for n in range(calls)]

    def everywhere(self, query: str, calls: int) -> list[Ask]:
        return [Ask(search.search_messages, self._agent(n), query=query) for n in range(calls)]

    def busy_channel(self, query: str, calls: int) -> list[Ask]:
        return [
            Ask(search.search_messages, self._agent(n), query=query, channel=self._busy(n)) for n in range(calls)
        ]  # fmt: skip

    def quiet_channel(self, query: str, calls: int) -> list[Ask]:
        return [
            Ask(search.search_messages, self._agent(n), query=query, channel=self._quiet(n)) for n in range(calls)
        ]  # fmt: skip


class Case(NamedTuple):
    name: str
    lane: Lane
    asks: Callable[[Sized, int], list[Ask]]
    most: int | None = None  # us of CPU at the largest size: the goal
    is_first: bool = False  # nobody has read any of it before; else the same calls were made once before
    one_in: int = 1  # of the calls of a round


def _searches() -> Iterator[Case]:
    words = {
        "rare word": _scale.RARE_WORD,
        "7 % word": _scale.SOME,
        "common word": _scale.COMMON,
        "two common words": f"{_scale.COMMON} {_scale.SECOND}",
    }
    for where in (Sized.everywhere, Sized.busy_channel, Sized.quiet_channel):
        for what, query in words.items():
            name = f"search {where.__name__.replace('_', ' ')}: {what}"
            yield Case(name, Lane.SEARCH, _for(where, query), SEARCH_US)
    phrase = f'"{_scale.SECOND} {_scale.COMMON}"'  # of two words that never stand in this order
    yield Case(
        "search everywhere: phrase nobody wrote", Lane.SEARCH, _for(Sized.everywhere, phrase), SEARCH_US, one_in=10
    )


def _for(where: Callable[[Sized, str, int], list[Ask]], query: str) -> Callable[[Sized, int], list[Ask]]:
    return lambda at, calls: where(at, query, calls)


CASES = [
    Case("board of all channels", Lane.READ, Sized.board),
    Case("page of 50, newest", Lane.READ, Sized.newest_page, PAGE_US),
    Case("page of 50, old, first time", Lane.READ, Sized.old_page, is_first=True),
    Case("inbox", Lane.READ, Sized.inbox),
    *_searches(),
]


def bytes_per_message(path: str, size: int) -> dict[str, float]:
    return {name: os.path.getsize(os.path.join(path, name)) / size for name in ("agentchat.db", "search.db")}


def measured(directories: Directories, extent: Extent) -> dict[str, Any]:
    with ExitStack() as stack:
        at = [Sized(directories.path(size), size) for size in extent.sizes]
        for one in at:
            stack.callback(one.made.close)
        rounds = [_turn(at, turn, extent) for turn in range(extent.rounds + 1)][1:]  # the first warms up
        rows = {case.name: {one.size: _rows(one, case) for one in at} for case in CASES}
    found: dict[str, Any] = {}
    for case in CASES:
        taken = {one.size: [found[f"{case.name} {one.size}"] for found in rounds] for one in at}
        found[case.name] = {
            "rows": rows[case.name],
            "cpu": {size: median(each, 0) for size, each in taken.items()},
            "wall p50": {size: median(each, 1) for size, each in taken.items()},
            "wall p99": {size: _p99(each) for size, each in taken.items()},
            "growth": {
                f"{large}/{small}": [mean(b) / mean(a) for a, b in zip(taken[small], taken[large], strict=True)]
                for small, large in itertools.pairwise(extent.sizes)
            },
        }
    control = [mean(found["control"]) for found in rounds]
    sizes = {one.size: bytes_per_message(one.made.path, one.size) for one in at}
    return {"cases": found, "control": control, "bytes per message": sizes}


def _turn(at: Sequence[Sized], turn: int, extent: Extent) -> Round:
    taken: Round = {"control": controlled(50)}
    for case in CASES:
        for one in (*at[turn % len(at) :], *at[: turn % len(at)]):
            asks = case.asks(one, max(extent.calls // case.one_in, 2))
            if case.is_first:
                one.store.ask(Lane.WRITE, lambda tx: tx.forget())  # what is encoded
            else:
                timed(one.store, case.lane, asks)
            taken[f"{case.name} {one.size}"] = timed(one.store, case.lane, asks)
    progress("reads", turn, extent.rounds)
    return taken


def _rows(one: Sized, case: Case) -> int:
    found = one.store.ask(case.lane, case.asks(one, 1)[0].result)
    return max(len(value) for value in found.values() if isinstance(value, list))


def _p99(rounds: Sequence[list[measure.Sample]]) -> float:
    return statistics.quantiles((sample.wall for taken in rounds for sample in taken), n=100)[98]


def tell(found: dict[str, Any], extent: Extent) -> None:
    sizes, largest = extent.sizes, extent.sizes[-1]
    pairs = [(f"{large}/{small}", f"{short(large)} / {short(small)}") for small, large in itertools.pairwise(sizes)]
    rows: list[tuple[str, ...]] = [
        ("CPU us per call", "rows", *map(short, sizes), *(head for _, head in pairs), "goals", "wall us p50, p99")
    ]
    for case in CASES:
        one = found["cases"][case.name]
        goal = f"<= {GROWTH}" + (f"; <= {case.most} us" if case.most else "")
        wall = f"{one['wall p50'][largest]:.0f}, {one['wall p99'][largest]:.0f}"
        cpu = [f"{one['cpu'][size]:.0f}" for size in sizes]
        growth = [measure.spread(one["growth"][key]) for key, _ in pairs]
        rows.append((case.name, str(one["rows"][largest]), *cpu, *growth, goal, wall))
    measure.table(rows)
    print("CPU: medians of calls; growth: of the mean CPU, round by round.", told_control(found), end="\n\n")
    measure.table(
        [("bytes per message", "agentchat.db", "search.db")]
        + [(short(size), *(f"{n:.0f}" for n in each.values())) for size, each in found["bytes per message"].items()]
    )
