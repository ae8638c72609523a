"""Does a message that was acknowledged exist exactly once, whatever the network does?

    python -m tests.faults.campaign --rounds 200 --seed 1 [--json]
    python -m tests.faults.campaign --seed 1 --round 17        # that one again

Each round starts a relay that misbehaves over real sockets. Threads that share a client, tasks of an async client, and
a process that is killed in mid-flight and replaced send numbered messages and record what was acknowledged. Then the
checker compares those histories with what the relay stored.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Unpack

from agentchat import AgentChatError, Client
from agentchat._exchange import IDEMPOTENCY_HEADER, Request, Response, new_idempotency_key
from agentchat._transport import StdlibTransport
from agentchat.client import ClientOptions
from tests.faults import rounds
from tests.faults.checker import Sent, violations
from tests.faults.faulty_relay import FaultyRelay

ROOT = Path(__file__).resolve().parents[2]
KEY = "0" * 64
TIMEOUT = 0.3  # seconds a client waits for one answer; an answer that never comes costs as much
THREADS, TASKS, MESSAGES = 6, 6, 4
CHILD_MESSAGES = 5
AT_A_TIME = 4


class Rekeying:
    """A control: a transport that gives each attempt an idempotency key of its own, as no client may."""

    def __init__(self, url: str) -> None:
        self._inner = StdlibTransport(url)
        self.close = self._inner.close

    def send(self, request: Request) -> Response:
        headers = {**request.headers, IDEMPOTENCY_HEADER: new_idempotency_key()}
        return self._inner.send(request._replace(headers=headers))


def _outcome(content: str, error: Exception) -> Sent:
    ours = isinstance(error, AgentChatError)
    name = f"{type(error).__name__} {error.code}" if isinstance(error, AgentChatError) else repr(error)
    return Sent(content, error=name, ours=ours)


def send(client: Client, content: str) -> Sent:
    try:
        return Sent(content, id=client.send_message("general", content)["message"]["id"])
    except Exception as error:
        return _outcome(content, error)


async def send_all(
    url: str, names: Sequence[Sequence[str]], record: Callable[[Sent], None], **options: Unpack[ClientOptions]
) -> None:
    """A task for each list of messages, all sharing one async client."""
    from langchain_agentchat import AsyncClient

    async with AsyncClient(url, KEY, **options) as client:

        async def task(contents: Sequence[str]) -> None:
            for content in contents:
                try:
                    sent = await client.send_message("general", content)
                except Exception as error:
                    record(_outcome(content, error))
                else:
                    record(Sent(content, id=sent["message"]["id"]))

        await asyncio.gather(*(task(contents) for contents in names))


def child(url: str, retries: str, *contents: str) -> None:
    """The process that is killed, and its successor: every message has a key that both know."""
    with Client(url, KEY, timeout=TIMEOUT, retries=int(retries)) as client:
        for content in contents:
            sent = send(client.with_options(idempotency_key=f"key-of-{content}"), content)
            print(json.dumps(sent), flush=True)


def _killed_and_replaced(
    relay: FaultyRelay, contents: Sequence[str], retries: int, struck: str
) -> tuple[list[Sent], bool]:
    """What both processes told, and whether the first was killed: it dies while the relay handles a message of its."""
    code = "import sys; from tests.faults.campaign import child; child(*sys.argv[1:])"
    command = [sys.executable, "-c", code, relay.url, str(retries), *contents]
    started = threading.Event()

    def strike() -> None:
        started.wait()
        first.kill()
        first.wait()

    relay.strikes[struck] = strike
    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    started.set()
    told = first.communicate()[0]
    relay.strikes.clear()  # the message may never have arrived
    told += subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [Sent(*json.loads(line)) for line in told.splitlines()], first.returncode == -signal.SIGKILL


# A round and a campaign


class Round(NamedTuple):
    sends: int
    acknowledged: int
    retried: int
    killed: int
    faults: Counter[str]
    violations: list[str]


class _Senders:
    """All that send in one round, and what they were told."""

    def __init__(self, relay: FaultyRelay, luck: random.Random, rekey: bool) -> None:
        self.relay = relay
        self.history: list[Sent] = []
        self.killed = False
        self.threads = [[f"thread-{worker}-{n}" for n in range(MESSAGES)] for worker in range(THREADS)]
        self.tasks = [[f"task-{worker}-{n}" for n in range(MESSAGES)] for worker in range(TASKS)]
        self.orphans = [f"child-{n}" for n in range(CHILD_MESSAGES)]
        self.expected = [name for names in (*self.threads, *self.tasks, self.orphans) for name in names]
        self._retries = luck.randrange(5)
        self._struck = luck.choice(self.orphans)
        self._rekey = rekey

    def run(self) -> None:
        transport = Rekeying(self.relay.url) if self._rekey else None
        with Client(self.relay.url, KEY, timeout=TIMEOUT, retries=self._retries, transport=transport) as client:
            jobs = [threading.Thread(target=self._thread, args=(client, names)) for names in self.threads]
            jobs += [threading.Thread(target=self._loop), threading.Thread(target=self._processes)]
            for job in jobs:
                job.start()
            for job in jobs:
                job.join()

    def _thread(self, client: Client, names: Sequence[str]) -> None:
        for name in names:
            self.history.append(send(client, name))

    def _loop(self) -> None:
        asyncio.run(send_all(self.relay.url, self.tasks, self.history.append, timeout=TIMEOUT, retries=self._retries))

    def _processes(self) -> None:
        told, self.killed = _killed_and_replaced(self.relay, self.orphans, self._retries, self._struck)
        self.history += told


def run_round(seed: int, number: int, *, dedupe: bool = True, rekey: bool = False) -> Round:
    with FaultyRelay(f"{seed}/{number}", dedupe=dedupe) as relay:
        senders = _Senders(relay, random.Random(f"{seed}/{number}"), rekey)
        senders.run()
    acknowledged = sum(sent.id is not None for sent in senders.history)
    found = relay.bugs + violations(senders.expected, senders.history, relay.rows)
    if not (acknowledged and relay.faults):
        found.append("nothing was acknowledged, or nothing went wrong: the round proves nothing")
    return Round(
        sends=len(senders.history),
        acknowledged=acknowledged,
        retried=sum(relay.attempts.values()) - len(relay.attempts),
        killed=int(senders.killed),
        faults=relay.faults,
        violations=found,
    )


def campaign(seed: int, numbers: Sequence[int], broken: str | None) -> Iterator[Round]:
    """The rounds, each failed one told in one line. Some run at a time, since they mostly wait."""

    def run(number: int) -> Round:
        return run_round(seed, number, dedupe=broken != "dedupe", rekey=broken == "key")

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield from rounds.told(seed, numbers, pool.map(run, numbers))


def summary_of(seed: int, numbers: Sequence[int], results: Sequence[Round]) -> dict[str, Any]:
    faults = sum((result.faults for result in results), Counter())
    return {
        "seed": seed,
        "rounds": len(results),
        "failed rounds": rounds.failed(numbers, results),
        "sends": sum(result.sends for result in results),
        "acknowledged": sum(result.acknowledged for result in results),
        "retried requests": sum(result.retried for result in results),
        "killed processes": sum(result.killed for result in results),
        "faults": dict(sorted(faults.items())),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    def run(seed: int, numbers: Sequence[int], broken: str | None) -> dict[str, Any]:
        return summary_of(seed, numbers, list(campaign(seed, numbers, broken)))

    return rounds.main("tests.faults.campaign", __doc__ or "", ["dedupe", "key"], run, arguments)


if __name__ == "__main__":
    sys.exit(main())
