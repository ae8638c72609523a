"""A campaign that is played on every engine: on a relay with SQLite, on three that share a Postgres, without any."""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Generic, NamedTuple, TypeVar

from tests import postgres
from tests.faults import rounds
from tests.faults.crew import NoFleet, TestedFleet, TestedRelay
from tests.faults.database import Database

ENGINES = ("sqlite", "postgres", "local")
AT_A_TIME = 2
S = TypeVar("S")


class Round(NamedTuple):
    figures: Counter[str]
    strikes: Counter[str]
    violations: list[str]


class Game(Generic[S]):
    """A campaign: `play` plays a round of a shape, with these relays, in a directory of its own."""

    def __init__(
        self, name: str, about: str, controls: Sequence[str], relay: type[TestedRelay],
        play: Callable[[TestedFleet, Database | None, Path, random.Random, S], Round], usual: S,
    ) -> None:  # fmt: skip
        self._name, self._about, self._controls = name, about, controls
        self._relay, self._play, self._usual = relay, play, usual

    def run_round(
        self, seed: int, number: int, engine: str, server: postgres.Server | None = None, broken: str | None = None,
        keep: Path | None = None, shape: S | None = None,
    ) -> Round:  # fmt: skip
        """With `keep`, the journals of a failed round are copied there."""
        luck = random.Random(f"{seed}/{number}/{engine}")
        builds = [luck.choice(["", "hurried"]), luck.choice(["", "wire"]) if engine == "postgres" else "", broken or ""]
        with tempfile.TemporaryDirectory(prefix="agentchat-round-") as place:
            database = Database(server) if server and engine == "postgres" else None
            build = ",".join(filter(None, builds)) or None
            fleet = (
                NoFleet(Path(place), build) if engine == "local"
                else TestedFleet(self._relay, database.url if database else None, Path(place), build)
            )  # fmt: skip
            try:
                played = self._play(fleet, database, Path(place), luck, self._usual if shape is None else shape)
            finally:
                fleet.close()
            if played.violations and keep:
                shutil.copytree(place, keep / f"{engine}-{seed}-{number}", dirs_exist_ok=True)
            return played

    def campaign(
        self, seed: int, numbers: Sequence[int], engine: str, broken: str | None, keep: Path | None = None
    ) -> Iterator[Round]:
        """The rounds, each failed one told in one line. Those that are played at a time have a Postgres each."""
        with ExitStack() as stack:
            free: SimpleQueue[postgres.Server | None] = SimpleQueue()
            for _ in range(min(AT_A_TIME, len(numbers))):
                is_shared = engine == "postgres"
                free.put(
                    stack.enter_context(postgres.server(recovery_init_sync_method="syncfs")) if is_shared else None
                )

            def play(number: int) -> Round:
                server = free.get()
                try:
                    played = self.run_round(seed, number, engine, server, broken, keep)
                finally:
                    free.put(server)
                return played._replace(violations=[f"{engine}: {complaint}" for complaint in played.violations])

            with ThreadPoolExecutor(1 if engine == "local" else AT_A_TIME) as pool:
                yield from rounds.told(seed, numbers, pool.map(play, numbers))

    def main(self, arguments: Sequence[str] | None = None) -> int:
        parser = argparse.ArgumentParser(add_help=False)
        parser.add_argument("--engine", choices=[*ENGINES, "all"], default="all", help="what the relays keep rows in")
        parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the journals of failed rounds there")
        options = parser.parse_known_args(arguments)[0]
        engines = ENGINES if options.engine == "all" else [options.engine]

        def run(seed: int, numbers: Sequence[int], broken: str | None) -> dict[str, Any]:
            results = [
                (name, result) for name in engines
                for result in self.campaign(seed, numbers, name, broken, options.keep)
            ]  # fmt: skip
            return summary_of(seed, [*numbers] * len(engines), results)

        return rounds.main(self._name, self._about, self._controls, run, arguments, [parser])


def summary_of(seed: int, numbers: Sequence[int], results: Sequence[tuple[str, Round]]) -> dict[str, Any]:
    """`numbers` are those of the results, one by one."""
    figures = sum((result.figures for _, result in results), Counter[str]())
    strikes = sum((result.strikes for _, result in results), Counter[str]())
    return {
        "seed": seed,
        "rounds": len(results),
        "failed rounds": sorted({*rounds.failed(numbers, [result for _, result in results])}),
        **{f"rounds on {engine}": times for engine, times in Counter(engine for engine, _ in results).items()},
        **figures,
        "strikes": dict(sorted(strikes.items())),
    }
