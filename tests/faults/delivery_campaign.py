"""Does every message in an inbox come to one end, when whoever claims it and the relays are killed again and again?

    python -m tests.faults.delivery_campaign --rounds 20 --seed 1 [--engine sqlite|postgres|local|all] [--json]
    python -m tests.faults.delivery_campaign --seed 1 --engine sqlite --round 17    # that one again
    python -m tests.faults.delivery_campaign --rounds 5 --broken lease              # a control: rounds must fail

In each round three senders fill the inbox of one agent, on a relay with SQLite, on three that share a Postgres, or in a
directory that all share without a relay. Four to six processes (twenty where there is no relay, which send as well),
each a session of that agent, claim, check, acknowledge, return, renew, forget and come too late (`delivery_actor.py`),
and write down what they do before they do it. Processes are killed and followed by others, which in half of the cases
make the call again that was cut off; relays and Postgres are struck. At the end everything is started again, one last
session empties the inbox, and the checker (`delivery_checker.py`) compares what everybody was told with what the relay
tells. Choices and strikes follow from seed and round; what they hit is up to the machine.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import httpx

from agentchat import AgentChatError, Client
from tests import postgres
from tests.faults import postgres_campaign, rounds
from tests.faults.collecting import whole
from tests.faults.database import Database
from tests.faults.delivered import Histories, micros
from tests.faults.delivery_actor import PATIENCE, POISON, RECEIVER, Actor, client_of
from tests.faults.delivery_checker import End, violations
from tests.faults.fleet import Fleet, SharingRelay
from tests.faults.histories import DIRECT
from tests.faults.journal import Attempt, read
from tests.faults.relay_process import LONGEST_START, ROOT, token

ENGINES = ("sqlite", "postgres", "local")
CONTROLS = (
    "lease", "order", "shuffle", "dedupe", "late", "deaf", "endless", "stale", "mute", "brief", "hasty", "tireless",
    "reaper", "blind",
)  # fmt: skip
SENDERS = ("mac-ann", "mac-bob", "mac-cleo")
MOST_STEPS = 300  # calls that empty the inbox
AT_A_TIME = 2


class Shape(NamedTuple):
    """How long and how hard a round is."""

    sends: int = 25  # of each sender
    expiries: Sequence[int | None] = (None, None, None, 3, 4, 600)
    least: int = 4  # strikes in mid-flight
    most: int = 7
    habits: Mapping[str, int] = {}  # of workers, other than the usual ones
    longest_drain: float = 60.0


USUAL = Shape()


class TestedRelay(SharingRelay):
    builds = "tests.faults.delivery_build"

    def _reap(self, process: subprocess.Popen[str]) -> int:
        """It has its time to end."""
        late = threading.Timer(LONGEST_START, process.kill)
        late.start()
        try:
            return super()._reap(process)
        finally:
            late.cancel()


class TestedFleet(Fleet):
    kind = TestedRelay
    crew = 4, 6
    habits: Mapping[str, int] = {}
    author: str | None = None
    worker_build = ""

    def new_key(self, name: str) -> str:
        """Asked for until it is given: the wire to Postgres may be a bad one."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return token(self.url, self.relays[0].data, name)
            except httpx.HTTPError as error:
                if time.monotonic() >= deadline:
                    raise RuntimeError(f"no key for {name}: {error}") from error


class NoFleet(TestedFleet):
    """A directory that everybody shares, without a relay: those who work on the inbox are what is broken and struck."""

    crew = 20, 20
    habits: Mapping[str, int] = {"write": 1}
    author = SENDERS[-1]

    def __init__(self, place: Path, build: str | None) -> None:
        self.relays = []
        self.worker_build = build or ""
        self._place = place

    @property
    def urls(self) -> list[str]:
        return [f"local:{self._place / 'shared'}"]

    @property
    def url(self) -> str:
        return self.urls[0]

    def start(self, relays: object = None) -> None:
        """There is nothing to start."""

    def new_key(self, name: str) -> str:
        return name

    def complaints(self) -> Iterator[str]:
        log = self._place / "workers.log"
        told = log.read_text() if log.exists() else ""
        if "Traceback" in told:
            yield f"the log of the workers: {told[told.index('Traceback') :][:3000]}"

    def close(self) -> None:
        """There is nothing to end."""


# Who receives


class Crew:
    """Processes that work on one inbox. Each place has a session, and those who sat in it, one after the other."""

    def __init__(
        self, fleet: TestedFleet, key: str, home: Path, luck: random.Random, habits: Mapping[str, int]
    ) -> None:
        self._fleet, self._habits = fleet, {**fleet.habits, **habits}
        self._urls, self._key, self._home, self._luck = fleet.urls, key, home, luck
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._sessions: dict[int, str] = {}
        self._journals: dict[int, Path] = {}
        self._started = 0

    def start(self) -> None:
        for place in range(self._luck.randint(*self._fleet.crew)):
            self._sit(place, f"session-{place}", None)
        deadline = time.monotonic() + LONGEST_START
        while not all(journal.stat().st_size for journal in self._journals.values()) and time.monotonic() < deadline:
            time.sleep(0.05)  # twenty need a while

    def kill(self) -> None:
        """One of them, and let another have its place."""
        place = self._luck.choice([*self._processes])
        self._end(self._processes[place])
        self._follow(place)

    def kill_all(self) -> None:
        for process in self._processes.values():
            process.kill()
        for place, process in [*self._processes.items()]:
            self._end(process)
            self._follow(place)

    def _follow(self, place: int) -> None:
        """In the same session or in a new one."""
        session, attempts = self._sessions[place], read([self._journals[place]])
        cut_off = attempts[-1] if attempts and attempts[-1].is_unknown else None
        fate = self._luck.choice(["repeat", "repeat", "same", "new"])
        if fate == "new":
            session = f"session-{place}-{self._started}"
        self._sit(place, session, cut_off if fate == "repeat" else None)

    def journals(self) -> list[Path]:
        return sorted(self._home.glob("worker-*"))

    def stop(self) -> None:
        """They finish what they are about."""
        for process in self._processes.values():
            assert process.stdin
            process.stdin.close()
        for process in self._processes.values():
            try:
                process.wait(2 * LONGEST_START)
            except subprocess.TimeoutExpired:
                self._end(process)
        ended = {process.returncode for process in self._processes.values()}
        if ended - {0}:
            raise RuntimeError(f"workers ended with {sorted(ended)}: {(self._home / 'workers.log').read_text()[-500:]}")

    def close(self) -> None:
        for process in self._processes.values():
            self._end(process)

    def _sit(self, place: int, session: str, cut_off: Attempt | None) -> None:
        self._started += 1
        journal = self._home / f"worker-{self._started}"
        journal.touch()  # it may be killed before it gets that far
        options = {
            "urls": self._urls, "key": self._key, "who": f"worker{self._started}", "session": session,
            "journal": str(journal), "seed": self._luck.random(), "habits": self._habits,
            "build": self._fleet.worker_build, "author": self._fleet.author,
            "interrupted": cut_off and {"call": cut_off.call, "key": cut_off.key, "arguments": cut_off.arguments},
        }  # fmt: skip
        command = [sys.executable, "-m", "tests.faults.delivery_actor", json.dumps(options)]
        with (self._home / "workers.log").open("ab") as log:
            self._processes[place] = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stderr=log)
        self._sessions[place], self._journals[place] = session, journal

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        assert process.stdin
        process.stdin.close()


# Who sends


class Pace:
    """How many messages were sent, for whoever strikes."""

    def __init__(self, over: threading.Event) -> None:
        self._changed, self._sent, self._over = threading.Condition(), 0, over

    def step(self) -> None:
        with self._changed:
            self._sent += 1
            self._changed.notify_all()

    def wait(self, sent: int, longest: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._sent >= sent or self._over.is_set(), longest)


def send(actor: Actor, luck: random.Random, pace: Pace, over: threading.Event, shape: Shape) -> None:
    """Direct messages and mentions of all kinds, each under a key, some of them twice."""
    sent: list[tuple[str, str, dict[str, Any]]] = []
    for number in range(shape.sends):
        if over.is_set():
            return
        padding = "so " * luck.choice([0, 0, 0, 20, 1500])
        is_poison = luck.random() < 0.15
        text = f"{padding}{POISON + ' ' if is_poison else ''}{actor.who}word{number}"
        more: dict[str, Any] = {"urgent": True} if luck.random() < 0.25 else {}
        expires = luck.choice(shape.expiries)
        if expires and not is_poison:
            more["expires_in"] = expires
        if luck.random() < 0.6:
            call, more = "send_direct_message", {"target_agent": RECEIVER, "content": text, **more}
        else:
            call, more = "send_message", {"channel": "general", "content": f"@{RECEIVER} {text}", **more}
        sent.append((call, actor.new_key(), more))
        actor.ask(call, key=sent[-1][1], patience=luck.choice([0, 12, 12]), **more)
        if luck.random() < 0.15:
            call, key, more = luck.choice(sent)
            actor.ask(call, key=key, **more)
        pace.step()
        over.wait(luck.uniform(0, 0.3))


# What is struck


KINDS = {
    "sqlite": {"kill a worker": 5, "kill": 2, "stop": 1},
    "postgres": {"kill a worker": 5, "strike": 4},
    "local": {"kill a worker": 15, "kill": 1},
}


TIMES = {"sqlite": 1, "postgres": 1, "local": 3}  # as many strikes: there are more to strike


class Blow(NamedTuple):
    """What happens when so many messages were sent."""

    after: int
    kind: str
    strike: postgres_campaign.Strike


def planned(luck: random.Random, engine: str, shape: Shape = USUAL) -> list[Blow]:
    total = len(SENDERS) * shape.sends
    times = luck.randint(shape.least, shape.most) * TIMES[engine]
    moments = sorted(luck.randrange(2, total) for _ in range(times))
    kinds = KINDS[engine]
    strikes = postgres_campaign.planned(random.Random(luck.random()))
    blows = [
        Blow(moment, luck.choices([*kinds], [*kinds.values()])[0], luck.choice(strikes)) for moment in moments
    ]  # fmt: skip
    first = blows[0]._replace(kind="kill a worker")
    last = blows[-1]._replace(kind="strike" if engine == "postgres" else "kill")
    return [first, *blows[1:-1], last]


class Striker:
    """Strikes workers, relays, and the database if there is one."""

    def __init__(self, fleet: Fleet, crew: Crew, database: Database | None, over: threading.Event) -> None:
        self._fleet, self._crew = fleet, crew
        self._shared = postgres_campaign.Striker(fleet, database, over) if database else None
        self._done: Counter[str] = Counter()

    @property
    def done(self) -> Counter[str]:
        return self._done + self._shared.done if self._shared else self._done

    @property
    def engine(self) -> str:
        return "postgres" if self._shared else "sqlite" if self._fleet.relays else "local"

    def strike(self, blow: Blow) -> None:
        if blow.kind == "kill a worker":
            self._crew.kill()
        elif self._shared is not None:
            self._shared.strike(blow.strike)
            return
        else:
            self.relay(blow.kind)
        self._done[blow.kind] += 1

    def everything(self) -> None:
        if self._shared is not None:
            self._shared.everything()
        else:
            self.relay("kill")
            self._done["kill"] += 1

    def relay(self, kind: str) -> None:
        """Where there is none, all who do without it."""
        if not self._fleet.relays:
            self._crew.kill_all()
            return
        (relay,) = self._fleet.relays
        {"kill": relay.kill, "stop": relay.stop}[kind]()
        relay.start()


# How it ends


def drain(actor: Actor, checkers: Sequence[Actor], client: Client, longest: float) -> Iterator[str]:
    """Empty the inbox: what is good is acknowledged, what is poison given back until it is dead. What a session that
    is no more was given by a check, only that session gets."""
    deadline, steps, wait = time.monotonic() + longest, count(), threading.Event()
    for checker in checkers:
        seen: dict[str, Any] = {}
        while time.monotonic() < deadline and next(steps) < MOST_STEPS:
            checked = checker.ask("check_inbox", limit=50, **seen)
            if checked is None or checked["claim_id"] is None:
                break
            seen = {"seen": checked["claim_id"]}
    while time.monotonic() < deadline and next(steps) < MOST_STEPS:
        claimed = actor.ask("claim_items", limit=100, lease=2)
        if claimed and claimed["claim_id"]:
            good = [item["item_id"] for item in claimed["items"] if POISON not in item["content"]]
            if good:
                actor.ask("acknowledge_items", claim_id=claimed["claim_id"], item_ids=good)
            if len(good) < len(claimed["items"]):
                actor.ask("return_items", claim_id=claimed["claim_id"])
            continue
        waiting = client.peek_inbox(limit=100)["items"]
        if not waiting:
            return
        until = min(micros(item["claimed_until"]) if "claimed_until" in item else 0 for item in waiting)
        wait.wait(min(max(until / 1e6 - time.time(), 0.01), 5))
    yield "the inbox could not be emptied"


def told_at_the_end(client: Client, senders: Sequence[Client]) -> End:
    rows = {row.id: row for channel in ("general", DIRECT) for row in whole(client, channel, 100)}
    by_name = dict(zip(SENDERS, senders, strict=True))
    return End(
        messages={id: row.text for id, row in rows.items()},
        receipts={id: by_name[row.author].get_receipts(id)["receipts"] for id, row in rows.items()},
        dead=client.list_dead_letters(limit=100)["items"],
        waiting=client.peek_inbox(limit=100)["items"],
    )


# A round and a campaign


class Round(NamedTuple):
    figures: Counter[str]
    strikes: Counter[str]
    violations: list[str]


def run_round(
    seed: int, number: int, engine: str, server: postgres.Server | None = None, broken: str | None = None,
    keep: Path | None = None, shape: Shape = USUAL,
) -> Round:  # fmt: skip
    """With `keep`, the journals of a failed round are copied there."""
    luck = random.Random(f"{seed}/{number}/{engine}")
    builds = [luck.choice(["", "hurried"]), luck.choice(["", "wire"]) if engine == "postgres" else "", broken or ""]
    with tempfile.TemporaryDirectory(prefix="agentchat-round-") as place:
        database = Database(server) if server and engine == "postgres" else None
        build = ",".join(filter(None, builds)) or None
        fleet = (
            NoFleet(Path(place), build) if engine == "local"
            else TestedFleet(database.url if database else None, Path(place), build)
        )  # fmt: skip
        try:
            played = _round(fleet, database, Path(place), luck, shape)
        finally:
            fleet.close()
        if played.violations and keep:
            shutil.copytree(place, keep / f"{engine}-{seed}-{number}", dirs_exist_ok=True)
        return played


def _round(fleet: TestedFleet, database: Database | None, home: Path, luck: random.Random, shape: Shape) -> Round:
    over, found, end = threading.Event(), list[str](), End({}, {}, [], [])
    with ExitStack() as stack:
        fleet.start()
        keys = {name: fleet.new_key(name) for name in (RECEIVER, *SENDERS)}
        urls = fleet.urls
        crew = Crew(fleet, keys[RECEIVER], home, random.Random(luck.random()), shape.habits)
        stack.callback(crew.close)
        striker = Striker(fleet, crew, database, over)

        def actor(name: str, session: str, journal: str = "") -> Actor:
            own = random.Random(luck.random())
            made = Actor(urls, keys[name], name, session, home / (journal or f"{name}-{session}"), own, over)
            stack.callback(made.close)
            return made

        senders = [actor(name, "only") for name in SENDERS]
        clients = [stack.enter_context(client_of(fleet.url, keys[name], retries=20)) for name in (RECEIVER, *SENDERS)]
        for client in clients:
            client.read_messages("general")
        try:
            _mid_flight(crew, senders, striker, luck, over, shape)
            sessions = sorted({attempt.session for attempt in read(crew.journals())})
            found += drain(
                actor(RECEIVER, "drain"), [actor(RECEIVER, session, f"again-{session}") for session in sessions],
                clients[0], shape.longest_drain,
            )  # fmt: skip
            end = told_at_the_end(clients[0], clients[1:])
        except (AgentChatError, RuntimeError) as error:
            found.append(f"the round ended early: {type(error).__name__} {error}")
        found += fleet.complaints()
    attempts = read([*crew.journals(), *home.glob("mac-*"), *home.glob("again-*")])
    (home / "end.json").write_text(json.dumps(end._asdict()))
    found += violations(attempts, end) if end.messages else []
    figures = figures_of(attempts, end)
    if not (figures["acknowledgements"] and figures["messages"] and striker.done["kill a worker"]):
        found.append("nothing was acknowledged, or nothing was struck: the round proves nothing")
    return Round(figures, striker.done, found)


def _mid_flight(
    crew: Crew, senders: Sequence[Actor], striker: Striker, luck: random.Random, over: threading.Event, shape: Shape
) -> None:
    plan, pace = planned(luck, striker.engine, shape), Pace(over)
    crew.start()
    with ThreadPoolExecutor(len(senders)) as pool:
        acting = [pool.submit(send, sender, random.Random(luck.random()), pace, over, shape) for sender in senders]
        try:
            for blow in plan:
                pace.wait(blow.after, longest=60)
                striker.strike(blow)
            for sending in acting:
                sending.result()
            striker.everything()
        finally:
            over.set()
    crew.stop()


def figures_of(attempts: Sequence[Attempt], end: End) -> Counter[str]:
    told = Histories(attempts)
    states = Counter(receipt["state"] for receipts in end.receipts.values() for receipt in receipts)
    given = [giving for givings in told.givings.values() for giving in givings]
    return Counter(
        {
            "sends": len(told.sends),
            "sends acknowledged": sum(bool(call.answered) for call in told.sends),
            "messages": len(end.messages),
            "claims": len(told.claims),
            "claims told again": sum(max(len(claim.call.answered) - 1, 0) for claim in told.claims),
            "items given out": len(given),
            "acknowledgements": sum(
                bool(call.answered) for call in told.calls if call.name == "acknowledge_items" or call.claim
            ),
            "refused": sum(bool(call.refusals) for call in told.calls),
            "attempts without an answer": sum(attempt.is_unknown for attempt in attempts),
            "calls never answered": sum(call.is_unknown for call in told.calls),
            **{f"in the end {state}": count for state, count in sorted(states.items())},
        }
    )


def campaign(
    seed: int, numbers: Sequence[int], engine: str, broken: str | None, keep: Path | None = None
) -> Iterator[Round]:
    """The rounds, each failed one told in one line. Those that are played at a time have a Postgres each."""
    with ExitStack() as stack:
        free: SimpleQueue[postgres.Server | None] = SimpleQueue()
        for _ in range(min(AT_A_TIME, len(numbers))):
            is_shared = engine == "postgres"
            free.put(stack.enter_context(postgres.server(recovery_init_sync_method="syncfs")) if is_shared else None)

        def play(number: int) -> Round:
            server = free.get()
            try:
                played = run_round(seed, number, engine, server, broken, keep)
            finally:
                free.put(server)
            return played._replace(violations=[f"{engine}: {complaint}" for complaint in played.violations])

        with ThreadPoolExecutor(1 if engine == "local" else AT_A_TIME) as pool:
            yield from rounds.told(seed, numbers, pool.map(play, numbers))


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


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--engine", choices=[*ENGINES, "all"], default="all", help="what the relays keep rows in")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the journals of failed rounds there")
    options = parser.parse_known_args(arguments)[0]
    engines = ENGINES if options.engine == "all" else [options.engine]

    def run(seed: int, numbers: Sequence[int], broken: str | None) -> dict[str, Any]:
        results = [(name, result) for name in engines for result in campaign(seed, numbers, name, broken, options.keep)]
        return summary_of(seed, [*numbers] * len(engines), results)

    return rounds.main("tests.faults.delivery_campaign", __doc__ or "", CONTROLS, run, arguments, [parser])


if __name__ == "__main__":
    sys.exit(main())
