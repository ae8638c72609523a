"""Do relays that share a Postgres keep what they acknowledged, when any of them and the Postgres are struck again and
again?

    python -m tests.faults.postgres_campaign --rounds 200 --seed 1 [--json]
    python -m tests.faults.postgres_campaign --seed 1 --round 17           # that one again
    python -m tests.faults.postgres_campaign --rounds 5 --broken turns     # a control: rounds must fail

In each round three relays share a schema. Agents do what they do in the relay campaign, with the difference that each
request goes to another relay, also one that is repeated; an operator gives keys out and takes them back meanwhile.
Relays are killed, stopped, and stand still; Postgres is restarted and crashes, sessions are ended, and a stranger holds
the writers' lock. At the end everything is killed at once. Then the checker (`histories.py`) compares what the agents
were told with what a relay tells; all three must tell the same, and plain SQL must find every row in its place.
The agents' choices and the strikes follow from seed and round; which call a strike hits is up to the machine.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from agentchat import AgentChatError, Client, errors
from tests import postgres
from tests.faults import rounds
from tests.faults.collecting import boards_of, collect, follow
from tests.faults.database import Database
from tests.faults.fleet import RELAYS, Anywhere, Fleet, Keyless
from tests.faults.histories import DIRECT, Kept, Pin, Post, Told, violations
from tests.faults.load import (
    AGENTS,
    AUDITOR,
    SENDERS,
    SHARED,
    Pace,
    Sender,
    answered,
    calls_of,
    is_acknowledged,
    join,
    refused_calls,
)
from tests.faults.load import NEWCOMER as LATECOMER
from tests.faults.locksmith import GUEST, Locksmith

AT_A_TIME = 2
CONTROLS = ("turns", "early", "repeat", "dedupe", "counters", "keys", "doubt")
# How often what happens.
STRIKES = {
    "kill": 4, "stop": 2, "pause": 3, "crash": 3, "restart": 2, "end sessions": 2, "end a writer": 2,
    "hold the turn": 2,
}  # fmt: skip
LEAST, MOST = 3, 5  # strikes in mid-flight


class Strike(NamedTuple):
    """What happens when so many calls were made."""

    after: int
    kind: str
    relay: int
    seconds: float  # that it lasts, if it does
    meanwhile: str | None  # what else happens while a relay stands still
    seed: float


def planned(luck: random.Random) -> list[Strike]:
    total = SENDERS * SharedSender.calls
    moments = sorted(luck.sample(range(total // 20, total * 9 // 10), luck.randint(LEAST, MOST)))
    others = {kind: often for kind, often in STRIKES.items() if kind != "pause"}
    return [
        Strike(
            after=moment,
            kind=luck.choices([*STRIKES], [*STRIKES.values()])[0],
            relay=luck.randrange(RELAYS),
            seconds=luck.uniform(0.05, 1.8),
            meanwhile=luck.choices([*others], [*others.values()])[0] if luck.random() < 0.4 else None,
            seed=luck.random(),
        )
        for moment in moments
    ]


class Striker:
    """Strikes, one after the other."""

    def __init__(self, fleet: Fleet, database: Database, over: threading.Event) -> None:
        self._fleet, self._database, self._over = fleet, database, over
        self.done: Counter[str] = Counter()

    def strike(self, strike: Strike) -> None:
        if strike.kind == "pause":
            self._pause(strike)
        else:
            self._do(strike.kind, strike, strike.relay)

    def everything(self) -> None:
        """All relays and the database at once, so that nobody works on what was asked before."""
        self._fleet.up.clear()
        for relay in self._fleet.relays:
            relay.kill()
        self._database.crash()
        self._database.start()
        self._fleet.start()
        self.done["everything at once"] += 1

    def _pause(self, strike: Strike) -> None:
        """A relay stands still, for longer or shorter than Postgres lets it have its turn."""
        paused = self._fleet.relays[strike.relay]
        paused.pause()
        self.done["pause"] += 1
        try:
            if strike.meanwhile is not None:
                self._do(strike.meanwhile, strike, (strike.relay + 1) % RELAYS)
            self._over.wait(strike.seconds)
        finally:
            paused.resume()

    def _do(self, kind: str, strike: Strike, number: int) -> None:
        relay, database, luck = self._fleet.relays[number], self._database, random.Random(strike.seed)
        match kind:
            case "kill":
                relay.kill()
                relay.start()
            case "stop":
                relay.stop()
                relay.start()
            case "crash":
                self._without_database(database.crash, luck)
            case "restart":
                self._without_database(database.restart, luck)
            case "end sessions":
                database.end_sessions(luck)
            case "end a writer":
                if not database.end_writer():
                    return
            case _:
                database.hold_turn(strike.seconds, self._over)
        self.done[kind] += 1

    def _without_database(self, end: Callable[[], None], luck: random.Random) -> None:
        """Most agents have the patience to wait until it is back."""
        end()
        if luck.random() < 0.7:
            self._fleet.up.clear()
        self._database.start()
        self._fleet.up.set()


class SharedSender(Sender):
    """Also looks for what it posted, and posts without a key."""

    choices: Mapping[str, int] = {**Sender.choices, "look": 4, "search": 3, "post_keyless": 5}
    timeout = 1.2  # a relay that stands still for longer is given up, and its calls repeated elsewhere

    def __init__(
        self, fleet: Fleet, told: Told, luck: random.Random, number: int, name: str, key: str, way: Anywhere
    ) -> None:
        super().__init__(fleet, told, luck, number, name, key, way)
        self._keyless = Client(fleet.url, key, agent=name, retries=0, timeout=self.timeout, transport=Keyless(way))

    def post_keyless(self) -> None:
        """Once or not at all, whatever was struck."""
        self._send(self._new(), self._keyless.send_message)

    def look(self) -> None:
        """What was acknowledged by one relay is known to every other."""
        if self._posted:
            id = self._luck.choice(self._posted[-3:]).id
            assert id
            with self._reading():
                self._client.get_message(id)

    def search(self) -> None:
        if self._posted:
            post = self._luck.choice(self._posted[-3:])
            with self._reading():
                hits = self._client.search_messages(post.text.split()[-1])["results"]
                if post.id not in [hit["id"] for hit in hits]:
                    self.told.refused.append(f"{post.text[-30:]}: acknowledged, and a search did not find it")

    def _record_pin(self, pin: Pin) -> None:
        """One that nobody answered may still have its effect when later ones have had theirs: leave that message."""
        super()._record_pin(pin)
        if not pin.done and pin.error is None:
            self._posted = [post for post in self._posted if post.id != pin.message]


# What every round begins with


def begin(url: str, new_key: Callable[[str], str]) -> tuple[dict[str, str], list[Post]]:
    """The agents' keys, and the first message of each list."""
    keys = {name: new_key(name) for name in (*AGENTS, AUDITOR, LATECOMER)}
    with Client(url, keys[AUDITOR], agent=AUDITOR, retries=20) as auditor:
        posts = [
            answered(Post(AUDITOR, channel, f"the first message of {channel}", 0.0), auditor.send_message)
            for channel in SHARED
        ]
        first = Post(AUDITOR, DIRECT, f"@{AGENTS[0]} the first of all", 0.0, notifies=(AGENTS[0],))
        posts.append(answered(first, lambda _, text: auditor.send_direct_message(AGENTS[0], text.split(" ", 1)[1])))
    for name in (*AGENTS, LATECOMER):
        join(url, keys[name])
    return keys, posts


# A round and a campaign


class Round(NamedTuple):
    calls: int
    acknowledged: int
    unanswered: int
    messages: int
    revoked: int
    strikes: Counter[str]
    violations: list[str]


def run_round(seed: int, number: int, server: postgres.Server, broken: str | None = None) -> Round:
    luck = random.Random(f"{seed}/{number}")
    with tempfile.TemporaryDirectory(prefix="agentchat-round-") as place:
        database = Database(server)
        fleet = Fleet(database.url, Path(place), broken or luck.choice([None, "wire"]))
        try:
            return _round(fleet, database, luck)
        finally:
            fleet.close()


def _round(fleet: Fleet, database: Database, luck: random.Random) -> Round:
    told = Told([], [], [], [], [], [], [])
    over = threading.Event()
    striker, found, stored = Striker(fleet, database, over), list[str](), 0
    locksmith = Locksmith(fleet, told, random.Random(luck.random()))
    try:
        fleet.start()
        keys, posts = begin(fleet.url, locksmith.new_key)
        told.posts.extend(posts)
        _mid_flight(fleet, keys, told, striker, locksmith, luck, over)
        keys[GUEST] = locksmith.key
        found += [*locksmith.complaints, *_void(fleet, keys)]
        if not found:
            boards = [boards_of(relay.url, keys) for relay in fleet.relays]  # before anybody reads on
            kept = [
                collect(relay.url, keys, told, luck)._replace(board=board)
                for relay, board in zip(fleet.relays, boards, strict=True)
            ]
            found += [*violations(told, kept[0]), *_differences(kept), *database.complaints(kept[0])]
            stored = len(kept[0].rows())
    except (AgentChatError, RuntimeError) as error:
        found += [f"the round ended early: {type(error).__name__} {error}", *refused_calls(told), *database.faults()]
    found += fleet.complaints()
    calls = calls_of(told)
    acknowledged = sum(map(is_acknowledged, calls))
    if not (acknowledged and striker.done and locksmith.revoked):
        found.append("nothing was acknowledged, struck, or revoked: the round proves nothing")
    return Round(
        calls=len(calls),
        acknowledged=acknowledged,
        unanswered=sum(not is_acknowledged(call) and call.error is None for call in calls),
        messages=stored,
        revoked=locksmith.revoked,
        strikes=striker.done,
        violations=found,
    )


def _void(fleet: Fleet, keys: dict[str, str]) -> Iterator[str]:
    """Keys that were given out and not taken back must be good everywhere."""
    for number, relay in enumerate(fleet.relays):
        for name, key in keys.items():
            with Client(relay.url, key, retries=20) as client:
                try:
                    client.check_board()
                except errors.Unauthorized:
                    yield f"the key of {name} is void for relay {number}"


def _differences(kept: Sequence[Kept]) -> Iterator[str]:
    """All relays tell the same."""
    for number, other in enumerate(kept[1:], 1):
        for what in Kept._fields:
            if getattr(other, what) != getattr(kept[0], what):
                yield f"relay {number} tells other {what} than relay 0"


def _mid_flight(
    fleet: Fleet, keys: dict[str, str], told: Told, striker: Striker, locksmith: Locksmith, luck: random.Random,
    over: threading.Event,
) -> None:  # fmt: skip
    """Agents act, relays and database are struck, and struck once more when they are done."""
    names = [*AGENTS, LATECOMER]
    plan, limits, pace = planned(luck), [luck.randint(1, 50) for _ in range(3)], Pace()
    with ExitStack() as ways, ThreadPoolExecutor(SENDERS + 4) as pool:

        def way() -> Anywhere:
            made = Anywhere(fleet.relays, random.Random(luck.random()))
            ways.callback(made.close)
            return made

        senders = [
            SharedSender(
                fleet, told, random.Random(luck.random()), number, name := names[number % len(names)], keys[name], way()
            )
            for number in range(SENDERS)
        ]
        lists = [(AUDITOR, SHARED[0]), (AUDITOR, SHARED[1]), (AGENTS[0], DIRECT)]
        following = [
            pool.submit(follow, fleet, name, keys[name], channel, limit, over, way())
            for (name, channel), limit in zip(lists, limits, strict=True)
        ]
        acting = [pool.submit(sender.run, pace, over) for sender in senders]
        admitting = pool.submit(locksmith.run)
        try:
            for strike in plan:
                pace.wait(strike.after)
                striker.strike(strike)
            for sender in acting:
                sender.result()
            locksmith.over.set()
            admitting.result()
            striker.everything()
        finally:
            over.set()
            locksmith.over.set()
            fleet.up.set()  # whoever still waits finds out what is the matter
        told.followed.extend(follower.result() for follower in following)


def campaign(seed: int, numbers: Sequence[int], broken: str | None) -> Iterator[Round]:
    """The rounds, each failed one told in one line. Those that are played at a time have a Postgres each."""
    with ExitStack() as stack:
        free: SimpleQueue[postgres.Server] = SimpleQueue()
        for _ in range(min(AT_A_TIME, len(numbers))):
            free.put(stack.enter_context(postgres.server(recovery_init_sync_method="syncfs")))

        def play(number: int) -> Round:
            server = free.get()
            try:
                return run_round(seed, number, server, broken)
            finally:
                free.put(server)

        with ThreadPoolExecutor(AT_A_TIME) as pool:
            yield from rounds.told(seed, numbers, pool.map(play, numbers))


def summary_of(seed: int, numbers: Sequence[int], results: Sequence[Round]) -> dict[str, Any]:
    strikes = sum((result.strikes for result in results), Counter())
    return {
        "seed": seed,
        "rounds": len(results),
        "failed rounds": rounds.failed(numbers, results),
        "writes": sum(result.calls for result in results),
        "acknowledged": sum(result.acknowledged for result in results),
        "unanswered": sum(result.unanswered for result in results),
        "messages": sum(result.messages for result in results),
        "keys revoked": sum(result.revoked for result in results),
        "strikes": dict(sorted(strikes.items())),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    def run(seed: int, numbers: Sequence[int], broken: str | None) -> dict[str, Any]:
        return summary_of(seed, numbers, list(campaign(seed, numbers, broken)))

    return rounds.main("tests.faults.postgres_campaign", __doc__ or "", CONTROLS, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
