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

import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from agentchat import AgentChatError, Client
from tests.faults import engines
from tests.faults.actor import Actor, client_of
from tests.faults.calls import micros
from tests.faults.collecting import whole
from tests.faults.crew import Blow, Crew, Seat, Striker, TestedFleet, TestedRelay, blows
from tests.faults.database import Database
from tests.faults.delivered import Histories
from tests.faults.delivery_actor import POISON, RECEIVER
from tests.faults.delivery_checker import End, violations
from tests.faults.engines import Round
from tests.faults.histories import DIRECT
from tests.faults.journal import Attempt, read

CONTROLS = (
    "lease", "order", "shuffle", "dedupe", "late", "deaf", "endless", "stale", "mute", "brief", "hasty", "tireless",
    "reaper", "blind",
)  # fmt: skip
SENDERS = ("mac-ann", "mac-bob", "mac-cleo")
MOST_STEPS = 300  # calls that empty the inbox


class Shape(NamedTuple):
    """How long and how hard a round is."""

    sends: int = 25  # of each sender
    expiries: Sequence[int | None] = (None, None, None, 3, 4, 600)
    least: int = 4  # strikes in mid-flight
    most: int = 7
    habits: Mapping[str, int] = {}  # of workers, other than the usual ones
    longest_drain: float = 60.0


USUAL = Shape()


class DeliveryRelay(TestedRelay):
    builds = "tests.faults.delivery_build"


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


def planned(luck: random.Random, engine: str, shape: Shape = USUAL) -> list[Blow]:
    return blows(luck, engine, len(SENDERS) * shape.sends, shape.least, shape.most)


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


# A round


def crew_of(fleet: TestedFleet, key: str, home: Path, luck: random.Random, habits: Mapping[str, int]) -> Crew:
    """Sessions of the receiver. Where there is no relay, they send as well."""
    if not fleet.relays:
        habits = {"write": 1, **habits}
    more = {"habits": habits, "author": None if fleet.relays else SENDERS[-1]}
    seats = [Seat(key, more)] * luck.randint(*fleet.crew)
    return Crew(fleet, "tests.faults.delivery_actor", seats, home, luck)


def _round(fleet: TestedFleet, database: Database | None, home: Path, luck: random.Random, shape: Shape) -> Round:
    over, found, end = threading.Event(), list[str](), End({}, {}, [], [])
    with ExitStack() as stack:
        fleet.start()
        keys = {name: fleet.new_key(name) for name in (RECEIVER, *SENDERS)}
        urls = fleet.urls
        crew = crew_of(fleet, keys[RECEIVER], home, random.Random(luck.random()), shape.habits)
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


GAME = engines.Game("tests.faults.delivery_campaign", __doc__ or "", CONTROLS, DeliveryRelay, _round, USUAL)
campaign, run_round, main = GAME.campaign, GAME.run_round, GAME.main

if __name__ == "__main__":
    sys.exit(main())
