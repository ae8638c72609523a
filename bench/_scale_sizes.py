"""How much of everything `scale.py` measures, and the directories of each size."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from typing import NamedTuple

import _scale

BEGINS_ANEW = 20_000  # what is smaller is copied anew for each round of sends, so that it stays small


class Extent(NamedTuple):
    """How much of everything."""

    sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    rounds: int = 7
    calls: int = 60  # of each kind in a round
    groups: int = 30  # of sends in a round
    seconds: float = 1.2
    warm_up: float = 0.4
    connections: int = 1000  # idle ones, twice
    read: int = 100_000  # messages read at last, more than the cache holds
    inboxes: tuple[int, ...] = (5000, 100_000, 1_000_000)  # the first has enough for all rounds to claim from
    peeks: int = 100  # of an inbox in a round, and so for all that reads
    claims: int = 15
    team: _scale.Team = _scale.Team()


TINY = Extent(
    sizes=(300, 1000, 3000), rounds=1, calls=5, groups=3, seconds=0.15, warm_up=0.05, connections=50, read=1000,
    inboxes=(100, 300, 1000), peeks=5, claims=2,
    team=_scale.SMALL,
)  # fmt: skip


class Directories:
    """Where the sizes are; 0 is a relay that has everybody and every channel, but no message."""

    def __init__(self, folder: str, keep: str | None, extent: Extent, engine: str) -> None:
        self.folder, self._extent, self.engine = folder, extent, engine
        self._kept = keep or os.path.join(folder, "made")
        self._copies = itertools.count()

    def path(self, size: int) -> str:
        path = os.path.join(self._kept, f"{size}-{self._extent.team.agents}")
        if not os.path.exists(path):
            os.makedirs(self._kept, exist_ok=True)
            shutil.rmtree(path + ".part", ignore_errors=True)  # of an earlier run that was interrupted
            _scale.build(path, size, self._extent.team)
        return path

    def copy(self, size: int) -> str:
        """To be written to."""
        return shutil.copytree(self.path(size), os.path.join(self.folder, f"copy-{next(self._copies)}"))


class Copies:
    """Of each size one that is written to."""

    def __init__(self, directories: Directories) -> None:
        self._directories = directories
        self._paths: dict[int, str] = {}

    def path(self, size: int) -> str:
        if size > BEGINS_ANEW and size in self._paths:
            return self._paths[size]
        if size in self._paths:
            shutil.rmtree(self._paths[size])
        self._paths[size] = self._directories.copy(size)
        return self._paths[size]


def turned(sizes: tuple[int, ...], turn: int) -> tuple[int, ...]:
    """Nobody always follows the same one."""
    return (*sizes[turn % len(sizes) :], *sizes[: turn % len(sizes)])


def progress(part: str, turn: int, rounds: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{part} {turn}/{rounds} ", end="\n" if turn == rounds else "", file=sys.stderr, flush=True)


def short(size: int) -> str:
    if size >= 1_000_000:
        return f"{size / 1_000_000:g}M"
    return f"{size / 1000:g}k" if size >= 1000 else str(size or "no messages")
