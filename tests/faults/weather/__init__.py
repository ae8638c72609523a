"""Bad weather for a process: its disk is full, broken or read-only, its clock jumps (`weather.c` says how).

    weather = Weather(data, scratch)
    process = subprocess.Popen(command, env=weather.environment(os.environ))
    weather.full(room=10_000)                                   # from now on, in the running process
    weather.failing("syncs", errno.EIO, DATABASE | LOG, times=1)
    weather.clock(years=5)
    weather.clear()                                             # the disk is well again; the clock stays where it is

With the environment of a `PowerCut` given, what a failed fsync left dirty is lost in the next cut.
"""

from __future__ import annotations

import errno
import mmap
import struct
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from tests.faults.powercut import build

SOURCE = Path(__file__).with_name("weather.c")
DATABASE, LOG, SEARCH, BLOBS, FOLDERS, REST = (1 << bit for bit in range(6))
EVERYWHERE = 63
KINDS = ("names", "writes", "syncs", "reads")
ALWAYS = NO_END = -1
_CLOCK, _SLEPT, _ROOM, _FULL, _RULES = 0, 8, 16, 24, 32
_RULE = struct.Struct("<qqqq")  # error, places, times left, times done
_NUMBER = struct.Struct("<q")


class Weather:
    """The disk and the clock of one data directory. `scratch` is outside `data`."""

    def __init__(self, data: Path, scratch: Path) -> None:
        self._data, self._control = data.resolve(), scratch.resolve() / "sky"
        self._library = build(scratch.resolve(), SOURCE)
        with self._control.open("w+b") as file:
            file.truncate(_RULES + len(KINDS) * _RULE.size)
            self._sky = mmap.mmap(file.fileno(), 0)
        self.clear()

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """That environment, with what puts a child under this weather."""
        preload = ":".join(filter(None, (str(self._library), base.get("LD_PRELOAD", ""))))
        ours = {"WEATHER_DATA": str(self._data), "WEATHER_CONTROL": str(self._control), "LD_PRELOAD": preload}
        return {**base, **ours}

    def clear(self) -> None:
        """The disk is well again, and has room."""
        self._put(_ROOM, NO_END)
        for kind in KINDS:
            self.failing(kind, 0, 0)

    def full(self, room: int = 0) -> None:
        """Files may grow by so many bytes yet."""
        self._put(_ROOM, room)

    def failing(self, kind: str, error: int, places: int = EVERYWHERE, *, times: int = ALWAYS) -> None:
        """Calls of a kind fail, in some places, so many times."""
        at = self._rule(kind)
        done = self._rule_of(kind)[3]
        self._put(at, 0)  # nobody shall see half a rule
        self._sky[at + 8 : at + _RULE.size] = _RULE.pack(0, places, times, done)[8:]
        self._put(at, error)

    def read_only(self) -> None:
        """As the kernel makes a file system that it no longer trusts."""
        self.failing("names", errno.EROFS)
        self.failing("writes", errno.EROFS)

    def clock(self, **ahead: float) -> None:
        """How far the clock is wrong: `hours=2`, `days=-400`."""
        self._put(_CLOCK, self._get(_SLEPT) + _nanoseconds(ahead))

    def sleep(self, **time: float) -> None:
        """So much time passes for the process, at once, and all its clocks agree on it. The clock is right then."""
        self._put(_SLEPT, self._get(_SLEPT) + _nanoseconds(time))
        self.clock()

    @property
    def slept(self) -> float:
        """Seconds that passed so."""
        return self._get(_SLEPT) / 1e9

    @property
    def ahead(self) -> float:
        """Seconds that the clock is ahead."""
        return self._get(_CLOCK) / 1e9

    def times(self) -> Counter[str]:
        """How many calls failed so far, by kind."""
        counted = {kind: self._rule_of(kind)[3] for kind in KINDS}
        return +Counter({**counted, "full": self._get(_FULL)})

    def close(self) -> None:
        self._sky.close()

    def _rule(self, kind: str) -> int:
        return _RULES + KINDS.index(kind) * _RULE.size

    def _rule_of(self, kind: str) -> tuple[int, ...]:
        return _RULE.unpack_from(self._sky, self._rule(kind))

    def _put(self, at: int, number: int) -> None:
        _NUMBER.pack_into(self._sky, at, number)

    def _get(self, at: int) -> int:
        return int(_NUMBER.unpack_from(self._sky, at)[0])


def _nanoseconds(time: Mapping[str, float]) -> int:
    return round(timedelta(**time) / timedelta(microseconds=1)) * 1000
