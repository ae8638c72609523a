"""Does a relay keep what it acknowledged, when its power is cut and its process killed again and again?

    python -m tests.faults.relay_campaign --rounds 200 --seed 1 [--json]
    python -m tests.faults.relay_campaign --seed 1 --round 17           # that one again
    python -m tests.faults.relay_campaign --rounds 5 --broken fsync     # a control: rounds must fail

In each round agents post, repeat themselves, answer, mention, read, mark, pin and upload, and write down what they
were told, while the relay is struck in mid-flight and started again on its directory and port. The last strike is a
power cut after everything. Then the checker (`histories.py`) compares what they were told with what the relay tells.
The agents' choices and the strikes follow from seed and round; which call a strike hits is up to the machine.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from agentchat import AgentChatError, Client, errors
from tests.faults import powercut, rounds
from tests.faults.collecting import collect, follow
from tests.faults.histories import DIRECT, Post, Told, violations
from tests.faults.load import (
    AGENTS,
    AUDITOR,
    CALLS,
    NEWCOMER,
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
from tests.faults.relay_process import RelayProcess, token

AT_A_TIME = 2


class Strike(NamedTuple):
    """What happens to the relay when so many calls were made; `again` is when the next start is struck as well."""

    after: int
    kind: str
    again: float | None


def planned(luck: random.Random) -> list[Strike]:
    """One to three strikes in mid-flight; a power cut at the end follows in any case."""
    total = SENDERS * CALLS
    moments = sorted(luck.sample(range(total // 20, total * 9 // 10), luck.randint(1, 3)))
    return [
        Strike(
            after=moment,
            kind=luck.choices(["cut", "kill", "stop"], [5, 3, 2])[0],
            again=luck.uniform(0, 0.4) if luck.random() < 0.2 else None,
        )
        for moment in moments
    ]


def strike(relay: RelayProcess, kind: str, again: float | None) -> Iterator[str]:
    """Do it and start the relay again; tells what was done."""
    {"cut": relay.cut, "kill": relay.kill, "stop": relay.stop}[kind]()
    yield kind
    if again is not None:
        starting = relay.launch()
        try:
            starting.wait(again)
        except subprocess.TimeoutExpired:
            relay.cut()
            yield "cut while starting"
        else:
            raise RuntimeError(f"the relay ended by itself: {relay.log()[-500:]}")
    relay.start()


# What every round begins with


class Beginning(NamedTuple):
    """A data directory in which the agents are, with their keys, and the first message of each list."""

    data: Path
    keys: dict[str, str]
    posts: list[Post]
    library: Path  # the power-cut simulator, compiled


def begin(home: Path) -> Beginning:
    data, scratch = home / "beginning", home / "beginning-scratch"
    relay = RelayProcess(data, scratch)
    try:
        relay.start()
        keys = {name: token(relay.url, data, name) for name in (*AGENTS, AUDITOR)}
        with Client(relay.url, keys[AUDITOR]) as auditor:
            posts = [
                answered(Post(AUDITOR, channel, f"the first message of {channel}", 0.0), auditor.send_message)
                for channel in SHARED
            ]
            first = Post(AUDITOR, DIRECT, f"@{AGENTS[0]} the first of all", 0.0, notifies=(AGENTS[0],))
            posts.append(answered(first, lambda _, text: auditor.send_direct_message(AGENTS[0], text.split(" ", 1)[1])))
        for name in AGENTS:
            join(relay.url, keys[name])
        relay.stop()
    finally:
        relay.close()
    return Beginning(data, keys, posts, powercut.build(scratch))


# A round and a campaign


class Round(NamedTuple):
    calls: int
    acknowledged: int
    unanswered: int
    messages: int
    strikes: Counter[str]
    violations: list[str]


def run_round(seed: int, number: int, home: Path, beginning: Beginning, broken: str | None = None) -> Round:
    luck = random.Random(f"{seed}/{number}")
    with tempfile.TemporaryDirectory(prefix="round-", dir=home) as place:
        data, scratch = Path(place, "data"), Path(place, "scratch")
        shutil.copytree(beginning.data, data)
        scratch.mkdir()
        shutil.copy(beginning.library, scratch)
        relay = RelayProcess(data, scratch, broken)
        try:
            return _round(relay, beginning, luck)
        finally:
            relay.close()


def _round(relay: RelayProcess, beginning: Beginning, luck: random.Random) -> Round:
    told = Told([*beginning.posts], [], [], [], [], [], [])
    strikes: Counter[str] = Counter()
    found: list[str] = []
    stored = 0
    try:
        relay.start()
        keys = {**beginning.keys, NEWCOMER: token(relay.url, relay.power.data, NEWCOMER)}
        join(relay.url, keys[NEWCOMER])
        _mid_flight(relay, keys, told, strikes, luck)
        found += _renewed(relay, keys)
        kept = collect(relay.url, keys, told, luck)
        found += violations(told, kept)
        stored = len(kept.rows())
    except (AgentChatError, RuntimeError) as error:
        found += [f"the round ended early: {type(error).__name__} {error}", *refused_calls(told)]
    if "Traceback" in relay.log():
        found.append(f"the relay's log: {relay.log()[-300:]}")
    calls = calls_of(told)
    acknowledged = sum(map(is_acknowledged, calls))
    if not (acknowledged and strikes):
        found.append("nothing was acknowledged, or nothing was struck: the round proves nothing")
    return Round(
        calls=len(calls),
        acknowledged=acknowledged,
        unanswered=sum(not is_acknowledged(call) and call.error is None for call in calls),
        messages=stored,
        strikes=strikes,
        violations=found,
    )


def _renewed(relay: RelayProcess, keys: dict[str, str]) -> Iterator[str]:
    """Keys that were given out must still be good. The round goes on with new ones."""
    for name, key in keys.items():
        with Client(relay.url, key) as client:
            try:
                client.check_board()
            except errors.Unauthorized:
                yield f"the key of {name} is void"
                keys[name] = token(relay.url, relay.power.data, name)


def _mid_flight(
    relay: RelayProcess, keys: dict[str, str], told: Told, strikes: Counter[str], luck: random.Random
) -> None:
    """Agents act, the relay is struck, and struck once more when they are done."""
    names = [*AGENTS, NEWCOMER]
    senders = [
        Sender(relay, told, random.Random(luck.random()), number, name := names[number % len(names)], keys[name])
        for number in range(SENDERS)
    ]
    plan, limits, over, pace = planned(luck), [luck.randint(1, 50) for _ in range(3)], threading.Event(), Pace()
    with ThreadPoolExecutor(SENDERS + 3) as pool:
        lists = [(AUDITOR, SHARED[0]), (AUDITOR, SHARED[1]), (AGENTS[0], DIRECT)]
        following = [
            pool.submit(follow, relay, name, keys[name], channel, limit, over)
            for (name, channel), limit in zip(lists, limits, strict=True)
        ]
        acting = [pool.submit(sender.run, pace, over) for sender in senders]
        try:
            for after, kind, again in plan:
                pace.wait(after)
                strikes.update(strike(relay, kind, again))
            for sender in acting:
                sender.result()
            strikes.update(strike(relay, "cut", None))
        finally:
            over.set()
            relay.up.set()  # whoever still waits finds out what is the matter
        told.followed.extend(follower.result() for follower in following)


def campaign(seed: int, numbers: Sequence[int], broken: str | None) -> Iterator[Round]:
    """The rounds, each failed one told in one line."""
    with tempfile.TemporaryDirectory(prefix="agentchat-faults-") as place:
        home = Path(place)
        beginning = begin(home)
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            results = pool.map(lambda number: run_round(seed, number, home, beginning, broken), numbers)
            yield from rounds.told(seed, numbers, results)


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
        "strikes": dict(sorted(strikes.items())),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    def run(seed: int, numbers: Sequence[int], broken: str | None) -> dict[str, Any]:
        return summary_of(seed, numbers, list(campaign(seed, numbers, broken)))

    return rounds.main("tests.faults.relay_campaign", __doc__ or "", ["fsync", "dedupe", "early"], run, arguments)


if __name__ == "__main__":
    sys.exit(main())
