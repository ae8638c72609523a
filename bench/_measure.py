"""What every bench shares: batches taken in turns, medians with spread, a control of the machine's mood.

A figure is a ratio of two things measured in the same run, batch by batch in turns, so that a busy neighbour slows
both. `control` is a loop over memory that no change of ours can touch: compare its spread before trusting a ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

SERVER = Path(__file__).with_name("_server.py")


class Sample(NamedTuple):
    cpu: float
    wall: float


def options(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--tiny", action="store_true", help="prove that it runs; the figures mean nothing")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser.parse_args()


def in_turns(cases: dict[str, Callable[[int], Any]], *, rounds: int, calls: int) -> dict[str, list[Sample]]:
    """Microseconds per call of each case, a batch of each per round; the first round warms up and is dropped."""
    samples: dict[str, list[Sample]] = {name: [] for name in cases}
    for turn in range(rounds + 1):
        _progress(turn, rounds)
        for name, run in cases.items():
            cpu, wall = time.process_time(), time.perf_counter()
            run(calls)
            sample = Sample((time.process_time() - cpu) / calls * 1e6, (time.perf_counter() - wall) / calls * 1e6)
            if turn:
                samples[name].append(sample)
    return samples


def control(calls: int) -> None:
    """Walks over memory; the machine's mood, in microseconds per call."""
    for _ in range(calls):
        sum(_MEMORY[::64])


_MEMORY = bytes(1 << 20)


def ratios(samples: list[Sample], base: list[Sample]) -> dict[str, list[float]]:
    """Round by round, CPU and wall."""
    return {
        "cpu": [mine.cpu / theirs.cpu for mine, theirs in zip(samples, base, strict=True)],
        "wall": [mine.wall / theirs.wall for mine, theirs in zip(samples, base, strict=True)],
    }


def spread(values: list[float]) -> str:
    """Median and the middle half."""
    if len(values) < 4:
        return f"{statistics.median(values):.2f}"
    low, _, high = statistics.quantiles(values, n=4)
    return f"{statistics.median(values):.2f} ({low:.2f}-{high:.2f})"


def summary(values: list[float]) -> dict[str, float]:
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return {"median": statistics.median(values), "low": low, "high": high}


def table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _progress(turn: int, rounds: int) -> None:
    if sys.stderr.isatty():
        print(f"\rround {turn}/{rounds}", end="\n" if turn == rounds else "", file=sys.stderr, flush=True)


class Relay:
    """A process that answers every request at once with the same bytes, so that only the client is measured."""

    def __enter__(self) -> str:
        self._process = subprocess.Popen([sys.executable, str(SERVER)], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def on_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], Any]) -> Callable[[int], None]:
    """An async call as a batch for `in_turns`, always on the same loop."""

    async def batch(calls: int) -> None:
        for _ in range(calls):
            await call()

    return lambda calls: loop.run_until_complete(batch(calls))


def printed(result: dict[str, Any]) -> None:
    print(json.dumps(result, indent=2))
