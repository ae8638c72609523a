"""Does a relay keep its promises while its disk is full, broken or read-only, its clock jumps, its files rot, and while
it purges and is backed up?

    python -m tests.faults.disk_campaign --rounds 200 --seed 1 [--json]
    python -m tests.faults.disk_campaign --seed 1 --round 17            # that one again
    python -m tests.faults.disk_campaign --rounds 5 --broken eio        # a control: rounds must fail

Three kinds of rounds. In a *storm* (`storms.py`) agents write, read, search, upload and download, and write down what
they were told, while spells of bad weather come over the disk and the clock of the running relay (`weather/`), which is
struck in some of them, and started again in the same weather if it can be. Each answer must fit its weather, the relay
must recover when it clears, and after a last power cut the checker (`histories.py`) compares what the agents were told
with what the relay tells. In *keeping* (`keeping_rounds.py`) days pass, old messages are purged, and backups are taken,
killed and restored. In *damaged starts* (`damage_rounds.py`) something happens to the files of a directory whose
history is known: the relay started on it refuses, heals, or serves nothing but the truth.

The agents' choices, the weather and the damage follow from seed and round; what they hit is up to the machine.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from agentchat import AgentChatError
from tests.faults import damage_rounds, damaged, powercut, rounds, weather
from tests.faults.damaged import World
from tests.faults.histories import Told
from tests.faults.keeping_rounds import Keeping
from tests.faults.load import calls_of, is_acknowledged
from tests.faults.managed import ManagedRelay
from tests.faults.relay_campaign import AT_A_TIME, Beginning, begin
from tests.faults.spells import CHECKPOINT, CLOCK, FSYNC, FULL
from tests.faults.storms import Storm

KINDS = {"storm": 4, "keeping": 2, "damaged starts": 2}
# Builds, and the weather that shows what is wrong with them.
CONTROLS = {"eio": FSYNC, "enospc": FULL, "clock": CLOCK, "onward": CHECKPOINT}
KEEPING_CONTROLS = ("eager", "copy")
STARTS = 4  # in a round of damaged starts


class Ground:
    """What all rounds of a campaign begin with, each made once, when it is needed."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._lock = threading.Lock()
        self._beginning: Beginning | None = None
        self._worlds: tuple[World, World] | None = None

    @property
    def beginning(self) -> Beginning:
        with self._lock:
            if self._beginning is None:
                self._beginning = begin(self.home)
                powercut.build(self._beginning.library.parent, weather.SOURCE)
            return self._beginning

    @property
    def worlds(self) -> tuple[World, World]:
        """The directory of a relay that was stopped, and that of one that was killed."""
        with self._lock:
            if self._worlds is None:
                places = [self.home / name for name in ("stopped", "killed")]
                for place in places:
                    place.mkdir()
                self._worlds = damaged.stopped(places[0]), damaged.killed(places[1])
            return self._worlds


class Round(NamedTuple):
    kind: str
    violations: list[str]
    counts: Mapping[str, int] = {}
    spells: Mapping[str, int] = {}
    strikes: Mapping[str, int] = {}
    ends: Mapping[str, int] = {}  # of relays that nobody struck
    faults: Mapping[str, int] = {}  # calls of the system that failed
    starts: Mapping[str, int] = {}  # on damaged directories
    kept: Mapping[str, int] = {}
    recovery: float = 0.0  # seconds, the slowest


@contextmanager
def managed(ground: Ground, build: str | None) -> Iterator[tuple[ManagedRelay, Path]]:
    """A relay that is not started yet, and a place for whatever belongs to the round."""
    with tempfile.TemporaryDirectory(prefix="round-", dir=ground.home) as name:
        data, scratch = Path(name, "data"), Path(name, "scratch")
        shutil.copytree(ground.beginning.data, data)
        scratch.mkdir()
        for library in ground.beginning.library.parent.glob("*.so"):
            shutil.copy(library, scratch)
        relay = ManagedRelay(data, scratch, build)
        try:
            yield relay, Path(name)
        finally:
            relay.close()
            relay.weather.close()


def storm(luck: random.Random, ground: Ground, broken: str | None) -> Round:
    with managed(ground, broken or luck.choice([None, "hurried"])) as (relay, _):
        played = Storm(relay, ground.beginning, luck, CONTROLS.get(broken or ""))
        found = [*complaints_of(relay, played)]
        if not played.spells:
            found.append("there was no weather: the round proves nothing")
        return Round(
            "storm", [*found, *idle(played.told)], counts(played.told), played.spells, played.strikes, relay.ends,
            relay.weather.times(), recovery=played.recovery,
        )  # fmt: skip


def keeping(luck: random.Random, ground: Ground, broken: str | None) -> Round:
    with managed(ground, broken or "hurried") as (relay, place):
        played = Keeping(relay, ground.beginning, luck, place)
        played.broken = broken
        found = [*complaints_of(relay, played)]
        return Round(
            "keeping", [*found, *idle(played.told)], counts(played.told), strikes=played.strikes, ends=relay.ends,
            kept=played.counts,
        )  # fmt: skip


def damaged_starts(luck: random.Random, ground: Ground) -> Round:
    with tempfile.TemporaryDirectory(prefix="round-", dir=ground.home) as place:
        starts = [damage_rounds.start(*ground.worlds, Path(place, str(number)), luck) for number in range(STARTS)]
    complaints = [complaint for start in starts for complaint in start.complaints]
    return Round("damaged starts", complaints, starts=Counter(start.outcome for start in starts))


def complaints_of(relay: ManagedRelay, played: Storm | Keeping) -> Iterator[str]:
    try:
        yield from played.run()
    except (AgentChatError, RuntimeError) as error:
        yield f"the round ended early: {type(error).__name__} {error}"
        yield from relay.complaints


def counts(told: Told) -> dict[str, int]:
    calls = calls_of(told)
    return {
        "writes": len(calls),
        "acknowledged": sum(map(is_acknowledged, calls)),
        "unanswered": sum(not is_acknowledged(call) and call.error is None for call in calls),
        "refused for want of room": sum(call.error == "storage_full" for call in calls),
    }


def idle(told: Told) -> Iterator[str]:
    if not any(map(is_acknowledged, calls_of(told))):
        yield "nothing was acknowledged: the round proves nothing"


def run_round(seed: int, number: int, ground: Ground, broken: str | None = None) -> Round:
    luck = random.Random(f"{seed}/{number}")
    kind = luck.choices([*KINDS], [*KINDS.values()])[0]
    if broken:
        kind = "keeping" if broken in KEEPING_CONTROLS else "storm"
    match kind:
        case "storm":
            return storm(luck, ground, broken)
        case "keeping":
            return keeping(luck, ground, broken)
        case _:
            return damaged_starts(luck, ground)


def campaign(seed: int, numbers: Sequence[int], broken: str | None) -> Iterator[Round]:
    """The rounds, each failed one told in one line."""
    with tempfile.TemporaryDirectory(prefix="agentchat-faults-") as place:
        ground = Ground(Path(place))
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            results = pool.map(lambda number: run_round(seed, number, ground, broken), numbers)
            yield from rounds.told(seed, numbers, results)


def summary_of(seed: int, numbers: Sequence[int], results: Sequence[Round]) -> dict[str, Any]:
    def total(member: str) -> dict[str, int]:
        return dict(sorted(sum((Counter(getattr(result, member)) for result in results), Counter[str]()).items()))

    return {
        "seed": seed,
        "rounds": len(results),
        "failed rounds": rounds.failed(numbers, results),
        **dict(sorted(Counter(result.kind for result in results).items())),
        **total("counts"),
        **total("kept"),
        "slowest recovery, ms": round(1000 * max((result.recovery for result in results), default=0.0)),
        "spells of weather": total("spells"),
        "calls of the system that failed": total("faults"),
        "strikes": total("strikes"),
        "ends by itself": total("ends"),
        "starts on damaged directories": total("starts"),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    def run(seed: int, numbers: Sequence[int], broken: str | None) -> dict[str, Any]:
        return summary_of(seed, numbers, list(campaign(seed, numbers, broken)))

    controls = [*CONTROLS, *KEEPING_CONTROLS]
    return rounds.main("tests.faults.disk_campaign", __doc__ or "", controls, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
