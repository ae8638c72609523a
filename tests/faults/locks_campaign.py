"""Does every lock have one holder at a time, in the order in which they came, when those who want it and the relays are
killed again and again?

    python -m tests.faults.locks_campaign --rounds 20 --seed 1 [--engine sqlite|postgres|local|all] [--json]
    python -m tests.faults.locks_campaign --seed 1 --engine sqlite --round 17    # that one again
    python -m tests.faults.locks_campaign --rounds 5 --broken overlap            # a control: rounds must fail

In each round four to six processes (twenty where there is no relay), sessions of three agents, go for names that
overlap, alone or shared, with leases of one or two seconds: they wait or do not, renew, give back, forget, meddle with
what is not theirs, come too late, and repeat calls under their keys (`locks_actor.py`). They write down what they do
before they do it. Where there is a relay, an operator breaks a lock now and then. Processes are killed and followed by
others, which in half of the cases make the call again that was cut off; relays and Postgres are struck. At the end
everything is started again, all leases and waits are over, and the checker (`locks_checker.py`) compares what everybody
was told with the log. Choices and strikes follow from seed and round; what they hit is up to the machine.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from agentchat import AgentChatError, Client
from tests.faults import engines
from tests.faults.actor import client_of
from tests.faults.closing import audit_of, events_since
from tests.faults.crew import TIMES, Blow, Crew, Seat, Striker, TestedFleet, TestedRelay, blows, mid_flight
from tests.faults.database import Database
from tests.faults.engines import Round
from tests.faults.journal import Attempt, Journal, read
from tests.faults.journal import micros as now
from tests.faults.leased import FINAL, End, figures_of
from tests.faults.locks_checker import violations
from tests.faults.relay_process import administer

CONTROLS = (
    "overlap", "shared", "fence", "queue", "stuck", "hasty", "brief", "eternal", "guard", "late", "vain", "dedupe",
    "silent",
)  # fmt: skip
TEAM = ("mac-ann", "mac-bob", "mac-cleo")
AGAIN = 0.2


class Shape(NamedTuple):
    """How long and how hard a round is."""

    requests: int = 60
    least: int = 4  # strikes in mid-flight
    most: int = 7
    habits: Mapping[str, int] = {}  # other than the usual ones
    longest_end: float = 15.0


USUAL = Shape()


class LocksRelay(TestedRelay):
    builds = "tests.faults.locks_build"


def crew_of(fleet: TestedFleet, keys: Mapping[str, str], home: Path, luck: random.Random, shape: Shape) -> Crew:
    names = [TEAM[number % len(TEAM)] for number in range(luck.randint(*fleet.crew))]
    seats = [Seat(keys[name], {"who": name, "habits": shape.habits}) for name in names]
    return Crew(fleet, "tests.faults.locks_actor", seats, home, luck)


def planned(luck: random.Random, engine: str, shape: Shape = USUAL) -> list[Blow]:
    return blows(luck, engine, total(engine, shape), shape.least, shape.most)


def total(engine: str, shape: Shape) -> int:
    """Requests for locks: where there are more who ask, and more strikes, there are more."""
    return shape.requests * TIMES[engine]


class Operator:
    """Takes a lock from its holder now and then. One thread, with a journal as those who want locks have."""

    def __init__(self, fleet: TestedFleet, home: Path, luck: random.Random) -> None:
        self._fleet, self._luck, self._over = fleet, luck, threading.Event()
        self._journal = Journal(home / "worker-operator")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._calls = 0

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._journal.close()

    def _run(self) -> None:
        while self._fleet.relays and not self._over.wait(self._luck.uniform(0.5, 2)):
            try:
                self._break_one()
            except httpx.HTTPError:
                continue

    def _break_one(self) -> None:
        url, data = self._fleet.url, self._fleet.relays[0].data
        bearer = {"authorization": f"Bearer {(data / 'admin.key').read_text().strip()}"}
        told = httpx.get(f"{url}/api/v2/admin/locks", headers=bearer, trust_env=False, timeout=10).raise_for_status()
        locks = told.json()["data"]["locks"]
        if not locks:
            return
        self._calls += 1
        key, lock_id = f"operator-{self._calls}", self._luck.choice(locks)["id"]
        arguments = {"lock_id": lock_id, "reason": key}
        self._journal.begun(Attempt("operator", "operator", "break_lock", key, arguments, time.monotonic(), now()))
        answer = administer(url, data, "locks/break", id=lock_id, reason=key)
        if answer.status_code < 500:
            body = answer.json()
            self._journal.ended(key, body.get("data"), body.get("code"))


# How it ends


def at_rest(client: Client, position: int, longest: float) -> list[Any]:
    """All events, once the relay has made explicit whatever is over by the clock."""
    deadline = time.monotonic() + longest
    while True:
        events = events_since([client], position, "lock")
        last = {event["subject"]: event["kind"].removeprefix("lock.") for event in events}
        if {*last.values()} <= {*FINAL} or time.monotonic() > deadline:
            return events
        time.sleep(AGAIN)


# A round


def _round(fleet: TestedFleet, database: Database | None, home: Path, luck: random.Random, shape: Shape) -> Round:
    over, found, end = threading.Event(), list[str](), End({}, [], None, 0)
    with ExitStack() as stack:
        fleet.start()
        keys = {name: fleet.new_key(name) for name in TEAM}
        crew = crew_of(fleet, keys, home, random.Random(luck.random()), shape)
        stack.callback(crew.close)
        striker = Striker(fleet, crew, database, over)
        client = stack.enter_context(client_of(fleet.url, keys[TEAM[0]], retries=20))
        position = client.list_events()["position"]
        try:
            plan = planned(luck, striker.engine, shape)
            with Operator(fleet, home, random.Random(luck.random())):
                mid_flight(crew, striker, plan, "acquire_lock", total(striker.engine, shape))
            events = at_rest(client, position, shape.longest_end)
            locks = {event["subject"]: event["data"]["lock"] for event in events if event["data"]}
            end = End(locks, events, audit_of(fleet), now())
        except (AgentChatError, RuntimeError, httpx.HTTPError) as error:
            found.append(f"the round ended early: {type(error).__name__} {error}")
        finally:
            over.set()
        found += fleet.complaints()
    attempts = read(crew.journals())
    (home / "end.json").write_text(json.dumps(end._asdict()))
    found += violations(attempts, end) if end.locks else []
    figures = figures_of(attempts, end)
    if not (figures["acknowledged"] and figures["transitions, grant"] and striker.done["kill a worker"]):
        found.append("nothing was locked, or nothing was struck: the round proves nothing")
    return Round(figures, striker.done, found)


GAME = engines.Game("tests.faults.locks_campaign", __doc__ or "", CONTROLS, LocksRelay, _round, USUAL)
campaign, run_round, main = GAME.campaign, GAME.run_round, GAME.main

if __name__ == "__main__":
    sys.exit(main())
