"""Does every task go from hand to hand as its rules say, when whoever has to do with it and the relays are killed again
and again?

    python -m tests.faults.tasks_campaign --rounds 20 --seed 1 [--engine sqlite|postgres|local|all] [--json]
    python -m tests.faults.tasks_campaign --seed 1 --engine sqlite --round 17    # that one again
    python -m tests.faults.tasks_campaign --rounds 5 --broken fence              # a control: rounds must fail

In each round two processes make tasks (for one agent, or in a channel for whoever is first, some with seconds to live),
offer them to others and cancel some, on a relay with SQLite, on three that share a Postgres, or in a directory that all
share without a relay. Four to six processes (eighteen where there is no relay), sessions of three agents, go for the
same tasks at once: they claim, renew, report, complete, fail, return, decline, forget and come too late
(`tasks_actor.py`), and write down what they do before they do it. Processes are killed and followed by others, which in
half of the cases make the call again that was cut off; relays and Postgres are struck. At the end everything is started
again, all leases and short deadlines are over, and the checker (`tasks_checker.py`) compares what everybody was told
with each task's history. Choices and strikes follow from seed and round; what they hit is up to the machine.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from agentchat import AgentChatError, Client
from tests.faults import engines
from tests.faults.actor import client_of
from tests.faults.calls import SECOND, micros
from tests.faults.closing import audit_of, events_since
from tests.faults.crew import Blow, Crew, NoFleet, Seat, Striker, TestedFleet, TestedRelay, blows, mid_flight
from tests.faults.database import Database
from tests.faults.engines import Round
from tests.faults.handed import End, figures_of
from tests.faults.histories import DIRECT
from tests.faults.journal import micros as now
from tests.faults.journal import read
from tests.faults.tasks_actor import CHANNEL
from tests.faults.tasks_checker import violations

CONTROLS = (
    "fence", "owner", "guard", "version", "deadline", "eternal", "hasty", "claims", "dedupe", "silent", "mute",
    "session", "twice",
)  # fmt: skip
CREATORS = ("mac-ann", "mac-bob")
TEAM = ("mac-cleo", "mac-dan", "mac-eve")
AGAIN = 0.2


class Shape(NamedTuple):
    """How long and how hard a round is."""

    tasks: int = 30
    deadlines: Sequence[int | None] = (None, None, None, 2, 3, 4, 600)
    least: int = 4  # strikes in mid-flight
    most: int = 7
    habits: Mapping[str, int] = {}  # other than the usual ones
    longest_end: float = 15.0


USUAL = Shape()


class TasksRelay(TestedRelay):
    builds = "tests.faults.tasks_build"


def crew_of(fleet: TestedFleet, keys: Mapping[str, str], home: Path, luck: random.Random, shape: Shape) -> Crew:
    """Two who make tasks, and more sessions of those who do them than there are such agents."""
    workers = luck.randint(*fleet.crew) - (len(CREATORS) if isinstance(fleet, NoFleet) else 0)
    names = [*CREATORS, *(TEAM[number % len(TEAM)] for number in range(workers))]
    common = {"team": TEAM, "habits": shape.habits, "deadlines": shape.deadlines}
    seats = [
        Seat(keys[name], {"who": name, "role": "creator" if name in CREATORS else "worker", **common}) for name in names
    ]
    return Crew(fleet, "tests.faults.tasks_actor", seats, home, luck)


def planned(luck: random.Random, engine: str, shape: Shape = USUAL) -> list[Blow]:
    return blows(luck, engine, shape.tasks, shape.least, shape.most)


# How it ends


def at_rest(clients: Sequence[Client], longest: float) -> dict[str, Any]:
    """All tasks and their histories, once the relay has made explicit whatever is over by the clock."""
    deadline, found = time.monotonic() + longest, dict[str, Any]()
    left = {task["id"]: client for client in clients for task in created_by(client)}
    while left:
        for id, client in [*left.items()]:
            found[id] = client.get_task(id)
            if found[id]["has_more"]:
                raise RuntimeError("a history is longer than one call tells it: the round is too large")
            if is_at_rest(found[id]) or time.monotonic() > deadline:
                del left[id]
        time.sleep(AGAIN if left else 0)
    return found


def created_by(client: Client) -> Iterator[Any]:
    cursor, more = None, True
    while more:
        page = client.list_tasks(mine="created", limit=100, cursor=cursor)
        yield from page["tasks"]
        cursor, more = page["next_cursor"], page["has_more"]


def is_at_rest(told: Any) -> bool:
    task, last = told["task"], told["history"][-1]
    is_open = task["state"] in ("open", "declined")
    soon = task["deadline_at"] is not None and micros(task["deadline_at"]) - micros(task["created_at"]) < 60 * SECOND
    return task["state"] == last["after"] != "claimed" and not (is_open and soon)


def messages_of(clients: Sequence[Client]) -> list[dict[str, Any]]:
    """What the relay wrote about tasks, oldest first in each list."""
    found: dict[str, dict[str, Any]] = {}
    for client in clients:
        for channel in (CHANNEL, DIRECT):
            for message in whole(client, channel):
                about = message["metadata"] or {}
                if "task_id" in about:
                    found[message["id"]] = {
                        "id": message["id"], "task": about["task_id"], "event": about["task_event"],
                        "content": message["content"],
                    }  # fmt: skip
    return [*found.values()]


def whole(client: Client, channel: str) -> list[Any]:
    rows: list[Any] = []
    cursor, more = None, True
    while more:
        page = client.read_messages(channel, limit=200, cursor=cursor, include_status=True)
        rows = [*page["messages"], *rows]
        cursor, more = page["previous_cursor"], page["has_more"]
    return rows


# A round


def _round(fleet: TestedFleet, database: Database | None, home: Path, luck: random.Random, shape: Shape) -> Round:
    over, found, end = threading.Event(), list[str](), End({}, [], [], None, 0)
    with ExitStack() as stack:
        fleet.start()
        keys = {name: fleet.new_key(name) for name in (*CREATORS, *TEAM)}
        crew = crew_of(fleet, keys, home, random.Random(luck.random()), shape)
        stack.callback(crew.close)
        striker = Striker(fleet, crew, database, over)
        clients = {name: stack.enter_context(client_of(fleet.url, keys[name], retries=20)) for name in keys}
        for client in clients.values():
            client.set_card(capabilities=["count"])
        creators = [clients[name] for name in CREATORS]
        position = creators[0].list_events()["position"]
        try:
            mid_flight(crew, striker, planned(luck, striker.engine, shape), "create_task", shape.tasks)
            tasks = at_rest(creators, shape.longest_end)
            events, messages = events_since(creators, position, "task"), messages_of(creators)
            end = End(tasks, events, messages, audit_of(fleet), now())
        except (AgentChatError, RuntimeError, httpx.HTTPError) as error:
            found.append(f"the round ended early: {type(error).__name__} {error}")
        finally:
            over.set()
        found += fleet.complaints()
    attempts = read(crew.journals())
    (home / "end.json").write_text(json.dumps(end._asdict()))
    found += violations(attempts, end) if end.tasks else []
    figures = figures_of(attempts, end)
    if not (figures["acknowledged"] and figures["transitions, claim"] and striker.done["kill a worker"]):
        found.append("nothing was claimed, or nothing was struck: the round proves nothing")
    return Round(figures, striker.done, found)


GAME = engines.Game("tests.faults.tasks_campaign", __doc__ or "", CONTROLS, TasksRelay, _round, USUAL)
campaign, run_round, main = GAME.campaign, GAME.run_round, GAME.main

if __name__ == "__main__":
    sys.exit(main())
