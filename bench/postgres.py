"""Relays that share a Postgres, against one on SQLite and against each other: every row is a ratio in one run.

    python bench/postgres.py [--tiny] [--json] [--rounds N] [--connections N]
        [--only sends|reads|marks|writer|notify|slow|streams …]

    sends    keyed sends from 48 connections on SQLite, and on Postgres with one, two and three relays; and with three
             that have 48 connections each, which is what more relays are for
    reads    the same with 80 % boards, pages of 50 and mentions
    marks    channels marked as read, each a savepoint of its own
    writer   the writer without HTTP: CPU in groups of 1 to 512, and which part of it costs what
    notify   how soon other processes hear of a commit, and how many commits a second may tell
    slow     what it costs to wait for a slow disk
    streams  how soon a stream has a message, at the relay that it was sent to and at another

The cells take turns, round by round. CPU is that of all relays and of all processes of the database, the index's
counted with it: it holds while others use the cores, on which everything here runs unpinned; rates do not. `control`
is a bare SQLite writer that no change of ours touches. Linux only, for it reads /proc.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import _across
import _measure as measure
import _notify
import _postgres
import _turns
import relay
from tests.postgres import Server


class Extent(NamedTuple):
    rounds: int = 7
    seconds: float = 1.5
    warm_up: float = 0.3
    seeded: int = 10_000  # messages that are there before
    connections: int = 48
    control: int = 60  # groups
    turns: _turns.Extent = _turns.Extent()
    notify: _notify.Extent = _notify.Extent()
    across: _across.Extent = _across.Extent()


TINY = Extent(
    rounds=1, seconds=0.1, warm_up=0.05, seeded=300, connections=12, control=3, turns=_turns.TINY, notify=_notify.TINY,
    across=_across.TINY,
)  # fmt: skip
Cell = tuple[str, str]  # fleet, load
Round = dict[Cell, dict[str, float]]
ENDS = ["SQLite", "Postgres x1", "Postgres x3"]
EACH = "sends, 48 each"  # three relays with as many connections as the one has that they are compared with
LOADS = {"sends": ("sends", list(_postgres.FLEETS)), "reads": ("mixed", ENDS), "marks": ("marks", ENDS)}
ALONE: dict[str, Callable[[Server, Extent, str], dict[str, Any]]] = {
    "writer": lambda database, extent, folder: _turns.writer(database, extent.turns),
    "notify": lambda database, extent, folder: _notify.measured(database, extent.notify),
    "slow": lambda database, extent, folder: _turns.slow(database, extent.turns),
    "streams": lambda database, extent, folder: _across.measured(
        database, extent.across, os.path.join(folder, "across")
    ),
}
TOLD = {"writer": _turns.told_writer, "notify": _notify.told, "slow": _turns.told_slow, "streams": _across.told}
FIGURES = ("rate", "p50", "p99", "relay", "database", "cpu", "group", "others_share")
COMPARED = ("cpu", "rate", "p50")
GOAL = {("sends", "Postgres x3", "Postgres x1"): "<= 1.2", (EACH, "Postgres x3", "Postgres x1"): "<= 1.2"}


def in_turns(fleets: _postgres.Fleets, control: relay.Control, cells: Sequence[Cell], extent: Extent) -> list[Round]:
    found = []
    for turn in range(extent.rounds):
        taken: Round = {}
        shift = turn % len(cells)
        for name, load in [*cells[shift:], *cells[:shift]]:
            connections = extent.connections * (3 if load == EACH else 1)
            kind = "sends" if load == EACH else load
            taken[name, load] = fleets.run(name, kind, connections, extent.warm_up, extent.seconds)
        taken["control", ""] = control.cpu(extent.control)
        found.append(taken)
        if sys.stderr.isatty():
            end = "\n" if turn + 1 == extent.rounds else ""
            print(f"\rround {turn + 1}/{extent.rounds}", end=end, file=sys.stderr, flush=True)
    return found


def pairs(part: str) -> list[tuple[str, str]]:
    """Who is compared with whom."""
    names = LOADS[part][1]
    return [("Postgres x1", "SQLite"), *((name, "Postgres x1") for name in names[2:])]


def ratios(load: str, mine: str, base: str, rounds: Sequence[Round]) -> dict[str, list[float]]:
    plain = "sends" if load == EACH else load
    return {name: [found[mine, load][name] / found[base, plain][name] for found in rounds] for name in COMPARED}


def told(parts: Sequence[str], rounds: Sequence[Round]) -> None:
    rows: list[tuple[str, ...]] = [("ratio", "CPU", "goal", "rate", "p50")]
    compared = [(part, LOADS[part][0], *pair) for part in parts for pair in pairs(part)]
    if "sends" in parts:
        compared.append((EACH, EACH, "Postgres x3", "Postgres x1"))
    for part, load, mine, base in compared:
        of = ratios(load, mine, base, rounds)
        spreads = (measure.spread(of[name]) for name in ("rate", "p50"))
        rows.append((f"{part}: {mine} / {base}", measure.spread(of["cpu"]), GOAL.get((part, mine, base), ""), *spreads))
    measure.table(rows)
    print()
    heads = ("", "per s", "p50 ms", "p99 ms", "relays us", "database us", "both us", "calls a commit", "others")
    rows = [heads]
    for part in parts:
        load, names = LOADS[part]
        cells = [(name, load) for name in names] + ([("Postgres x3", EACH)] if part == "sends" else [])
        rows += [(f"{cell[1]}: {cell[0]}", *(shown(rounds, cell, figure) for figure in FIGURES)) for cell in cells]
    measure.table(rows)
    print("CPU in us per call. others: cores used by whoever is neither relay nor generator, so also by the database.")
    print(f"control: {shown(rounds, ('control', ''), 'cpu')} us of CPU a row", end="\n\n")


def shown(rounds: Sequence[Round], cell: Cell, name: str) -> str:
    return relay.shown([{str(cell): found[cell]} for found in rounds], str(cell), name)


def loaded(folder: str, database: Server, parts: Sequence[str], extent: Extent) -> list[Round]:
    cells = [(name, LOADS[part][0]) for part in parts for name in LOADS[part][1]]
    cells += [("Postgres x3", EACH)] if "sends" in parts else []
    names = list(dict.fromkeys(name for name, _ in cells))
    with ExitStack() as stack:
        fleets = _postgres.Fleets(folder, database, names, extent.seeded, stack)
        return in_turns(fleets, relay.Control(os.path.join(folder, "control.db")), cells, extent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="prove that it runs; the figures mean nothing")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--rounds", type=int, help="how often each cell has its turn")
    parser.add_argument("--connections", type=int, help="in all, shared by the relays")
    parser.add_argument("--only", nargs="+", choices=[*LOADS, *ALONE], default=[*LOADS, *ALONE], help="these parts")
    options = parser.parse_args()
    extent = TINY if options.tiny else Extent()
    if options.rounds:
        extent = extent._replace(rounds=options.rounds)
    if options.connections:
        extent = extent._replace(connections=options.connections)
    parts = [part for part in LOADS if part in options.only]
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="agentchat-bench-") as folder:
        database = Server(**_postgres.SETTINGS)
        try:
            if parts:
                rounds = loaded(folder, database, parts, extent)
                result["rounds"] = [{" ".join(cell): figures for cell, figures in found.items()} for found in rounds]
                if not options.json:
                    told(parts, rounds)
            for part in ALONE:
                if part in options.only:
                    result[part] = ALONE[part](database, extent, folder)
                    if not options.json:
                        TOLD[part](result[part])
        finally:
            database.close()
    if options.json:
        measure.printed(result)


if __name__ == "__main__":
    main()
