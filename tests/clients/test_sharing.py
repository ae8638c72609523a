"""What shares one client: calls its connections, copies with other options, threads, forked processes, event loops."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentchat import Client
from langchain_agentchat import AsyncClient
from tests.clients.conftest import BOARD, OK, Connect, Driver
from tests.conftest import KEY
from tests.servers import FakeRelay, Peer, Scripted, Seen, answer, enveloped, message, replies

THREADS = 16


class Echo(Scripted):
    """Answers each message with its own text and the number of the connection it came by; knows what is open."""

    def __init__(self, together: int = 1) -> None:
        self._numbers = itertools.count(1)
        self._first = threading.Barrier(together)
        self._changed = threading.Condition()
        self._now_open = 0
        super().__init__(self._echo)

    def _echo(self, peer: Peer) -> None:
        number = next(self._numbers)
        self._opened(1)
        try:
            while (seen := peer.read()) is not None:
                if number <= self._first.parties:
                    self._first.wait(10)
                text = seen.json()["content"] if seen.body else ""
                peer.send(answer(enveloped({"message": message(text, connection=number), "channels": []})))
        finally:
            self._opened(-1)

    def _opened(self, change: int) -> None:
        with self._changed:
            self._now_open += change
            self._changed.notify_all()

    def settles(self, fits: Callable[[int], bool]) -> bool:
        """Whether the number of open connections comes to fit."""
        with self._changed:
            return self._changed.wait_for(lambda: fits(self._now_open), timeout=10)


# Calls


def test_many_calls_use_one_connection_also_with_other_options(connect: Connect):
    with Scripted(replies(OK)) as server:
        driver = connect(server.url)
        other = driver.with_options(timeout=9, retries=2, session="other")
        assert [driver(), other(), driver(), other()] == [BOARD] * 4
        assert server.connections == 1


def test_a_connection_the_server_closed_meanwhile_is_replaced_unnoticed(connect: Connect):
    closed = threading.Semaphore(0)

    def once(peer: Peer) -> None:
        peer.read()
        peer.send(OK)
        peer.close()
        closed.release()

    with Scripted(once) as server:
        driver = connect(server.url)
        for calls in (1, 2, 3):
            assert driver() == BOARD
            assert closed.acquire(timeout=10)
            assert server.connections == calls


def leave(driver: Driver) -> Any:
    """Call inside the client's context, then leave it."""

    async def inside() -> Any:
        async with driver.client as same:
            return await same.check_board()

    if isinstance(driver.client, AsyncClient):
        return driver.run(inside())
    with driver.client as same:
        return same.check_board()


@pytest.mark.parametrize("end", [leave, lambda driver: driver.close()], ids=["leave", "close"])
def test_leaving_or_closing_a_client_closes_its_connections_and_it_can_be_used_again(
    connect: Connect, end: Callable[[Driver], Any]
):
    with Echo() as server:
        driver = connect(server.url)
        for calls in (1, 2):
            driver()
            assert server.connections == calls
            end(driver)
            assert server.settles(lambda number: number == 0)


def test_closing_a_copy_leaves_the_connections_to_the_first(connect: Connect):
    with Echo() as server:
        driver = connect(server.url)
        driver()
        leave(driver.with_options(timeout=9))
        driver()
        assert server.connections == 1


def test_a_forgotten_client_leaves_no_connection_behind():
    """Warnings are errors in this suite, so this one is silent, too."""
    with Echo() as server:
        client = Client(server.url, KEY)
        client.check_board()
        del client
        gc.collect()
        assert server.settles(lambda number: number == 0)


def test_an_async_client_serves_one_event_loop_after_another():
    async def twice(client: AsyncClient) -> None:
        async with client:
            await client.check_board()
            await client.check_board()

    with Echo() as server:
        client = AsyncClient(server.url, KEY)
        for loops in (1, 2, 3):
            asyncio.run(twice(client))
            assert server.connections == loops


def test_an_async_clients_calls_run_side_by_side():
    async def together(url: str) -> list[str]:
        async with AsyncClient(url, KEY) as client:
            sent = await asyncio.gather(*(client.send_message("general", str(n)) for n in range(THREADS)))
            return [each["message"]["content"] for each in sent]

    with Echo(together=THREADS) as server:
        assert asyncio.run(together(server.url)) == [str(n) for n in range(THREADS)]
        assert server.connections == THREADS


# Threads


def test_threads_that_share_a_client_each_get_their_own_answers_over_few_connections():
    calls = 25
    with Echo(together=THREADS) as server, Client(server.url, KEY, retries=0) as client:

        def talk(thread: int) -> list[str]:
            texts = [f"{thread}: {number}" for number in range(calls)]
            return [text for text in texts if client.send_message("general", text)["message"]["content"] == text]

        with ThreadPoolExecutor(THREADS) as pool:
            understood = list(pool.map(talk, range(THREADS)))
        assert [len(texts) for texts in understood] == [calls] * THREADS
        assert THREADS <= server.connections <= THREADS * calls / 4
        assert server.settles(lambda number: 1 <= number <= 8)
        client.close()
        assert server.settles(lambda number: number == 0)


# Forks

FORK = """
import json, os, sys
from agentchat import Client

client = Client.from_env(url=sys.argv[1], retries=0)
client.check_board()
child = os.fork()
os.read(0, 1)  # both wait for the test
TALK
os.write(1, json.dumps(["parent" if child else "child", result]).encode() + b"\\n")
if child:
    sys.exit(os.waitpid(child, 0)[1])
"""


def forked(talk: str, url: str, home: Path, meanwhile: Callable[[], object] = bool, **environ: str) -> dict[str, Any]:
    """What `talk` makes of `result` in a process and in its forked child. Both are silent and end well."""
    command = [sys.executable, "-W", "error", "-c", FORK.replace("TALK", talk), url]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, env={"AGENTCHAT_HOME": str(home), **environ}) as process:
        meanwhile()
        out, err = process.communicate(b"go", timeout=60)
    assert (process.returncode, err.decode()) == (0, "")
    return dict(json.loads(line) for line in out.splitlines())


def test_a_forked_child_and_its_parent_talk_over_different_connections(tmp_path: Path):
    """Both use the client at the same time; neither gets an answer of the other."""
    talk = """
me = "parent" if child else "child"
sent = [client.send_message("general", f"{me} {n}")["message"] for n in range(50)]
assert [message["content"] for message in sent] == [f"{me} {n}" for n in range(50)]
result = sorted({message["connection"] for message in sent})
"""
    with Echo() as server:
        assert forked(talk, server.url, tmp_path, AGENTCHAT_KEY=KEY) == {"parent": [1], "child": [2]}
        assert len({seen.headers["x-agent-session"] for seen in server.seen}) == 2


def test_after_a_fork_each_process_reads_the_key_again_that_another_has_renewed(tmp_path: Path):
    old, new = "1" * 64, "2" * 64
    file = tmp_path / "agents" / "mac-demo.key"
    file.parent.mkdir()
    file.write_text(old)
    warm = threading.Event()

    def board(seen: Seen) -> bytes:
        warm.set()
        return OK

    with FakeRelay(keys={old}) as relay:
        relay.override["GET", "/api/v2/board"] = board

        def renew() -> None:
            assert warm.wait(30)
            relay.keys = {new}
            file.write_text(new)

        talk = 'result = [client.list_channels()["channels"][0]["name"] for _ in range(3)]'
        results = forked(talk, relay.url, tmp_path, renew, AGENTCHAT_AGENT="mac-demo")
        assert results == {"parent": ["general"] * 3, "child": ["general"] * 3}
        assert relay.calls("/api/v2/register") == []
        keys = [seen.headers["x-agent-api-key"] for seen in relay.calls("/api/v2/channels")]
        assert sorted(keys) == [old] * 2 + [new] * 6
