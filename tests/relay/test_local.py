"""A directory that agents share without a relay: who may have it, who wakes whom, what is left when all are gone."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from agentchat import Client, errors
from agentchat.contract import OPERATIONS
from agentchat.text import render
from agentchat_relay import chores, local
from agentchat_relay.blobs.directory import DirectoryBlobs
from agentchat_relay.chores import DoubtedClock, Known
from agentchat_relay.directory import Directory
from agentchat_relay.embedded import running
from agentchat_relay.service import administration, groups
from agentchat_relay.store.seam import Lane, News
from agentchat_relay.store.sqlite.engine import Sqlite
from agentchat_relay.store.sqlite.neighbours import Turn
from langchain_agentchat import AsyncClient
from tests.relay.conftest import UNLIMITED, until
from tests.relay.peek import Peek
from tests.relay.test_vanishing import unlike, words_in

pytestmark = pytest.mark.sqlite

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Of a new directory, which nobody has open at the end of the test."""
    before = {*threading.enumerate()}  # those of a relay that other modules share
    yield f"local:{tmp_path / 'shared'}"
    assert not local._hosts
    assert not [thread.name for thread in {*threading.enumerate()} - before if thread.name.startswith("agentchat")]


@contextmanager
def process(code: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Another process, which is gone at the end."""
    command = [sys.executable, "-W", "error", "-c", code, *words]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


def heard(other: subprocess.Popen[str]) -> str:
    assert other.stdout is not None
    return other.stdout.readline().strip()


STAY = """
import sys
from agentchat import Client
client = Client(sys.argv[1], agent="mac-other")
client.send_message("general", "here I am, @mac-ann")
print("there", flush=True)
sys.stdin.read()
"""


# One process


def test_clients_of_both_colours_share_one_host(url: str) -> None:
    async def bob() -> Any:
        async with AsyncClient(url, agent="mac-bob") as client:
            await client.send_direct_message("mac-ann", "from another loop")
            return await client.read_messages("general")

    with Client(url, agent="mac-ann") as ann:
        ann.send_message("general", "hello")
        assert [message["content"] for message in asyncio.run(bob())["messages"]] == ["hello"]
        assert [item["content"] for item in ann.check_inbox()["items"]] == ["@mac-ann from another loop"]
        assert len(local._hosts) == 1


def test_a_client_can_be_used_again_after_its_end_and_its_copies_with_it(url: str) -> None:
    client = Client(url, agent="mac-ann")
    with client.with_options(timeout=5) as copy:
        copy.send_message("general", "one")
    client.close()
    client.send_message("general", "two")
    with Client.like(client) as twin:
        client.close()
        assert [message["content"] for message in twin.read_messages("general")["messages"]] == ["one", "two"]


def test_a_client_that_is_dropped_lets_go_of_the_directory(url: str) -> None:
    Client(url, agent="mac-ann").send_message("general", "hello")
    until(lambda: all(host.is_over and not host._thread.is_alive() for host in local._hosts.values()))
    Directory(url.removeprefix("local:")).hold("a test")
    local._hosts.clear()


def test_nothing_stays_behind_but_the_directory(url: str) -> None:
    path = Path(url.removeprefix("local:"))
    with Client(url, agent="mac-ann") as ann:
        ann.upload_file("general", "a.txt", "hello")
    assert path.stat().st_mode & 0o777 == 0o700
    assert {"agentchat.db", "search.db", "blobs", "lock", "turn"} <= {*os.listdir(path)}
    assert not [name for name in os.listdir(path) if name.endswith(("-wal", "-shm", ".key", ".json"))]
    assert os.listdir(path / "blobs" / "tmp") == ["lock"]


def test_a_link_needs_a_server_and_says_so(url: str) -> None:
    with Client(url, agent="mac-ann") as ann:
        path = ann.upload_file("general", "a.txt", "hello")["file"]["path"]
        with pytest.raises(errors.BadRequest, match="no server to link to in local mode; download the file"):
            ann.get_file_url(path)
        assert ann.download_file(path)["content"] == b"hello"


def test_an_answer_that_is_too_long_is_refused(url: str) -> None:
    with Client(url, agent="mac-ann", max_response_bytes=5000) as ann:
        path = ann.upload_file("general", "a.txt", "x" * 6000)["file"]["path"]
        with pytest.raises(errors.ProtocolError, match="at most 5000 are read"):
            ann.download_file(path)


@pytest.mark.parametrize("name", ["admin", "deleted-1234"])
def test_a_reserved_name_is_nobodys(url: str, name: str) -> None:
    with Client(url, agent=name) as client, pytest.raises(errors.BadRequest, match="reserved"):
        client.check_board()


def test_without_a_name_there_is_no_client(url: str) -> None:
    with pytest.raises(errors.NotConfigured, match="No agent name"):
        Client(url)
    with pytest.raises(errors.NotConfigured, match="is no agent name"):
        Client(url, agent="Mac Ann")


def test_no_key_is_asked_for_and_none_is_shown(url: str) -> None:
    with Client(url, "a-key-of-a-relay", agent="mac-ann") as ann:
        told = ann.get_briefing()
        assert (told["agent"], told.get("provenance")) == ("mac-ann", "local")
        assert "No server here checks who writes" in render(OPERATIONS["get_briefing"], told)


def test_a_wait_is_given_up_in_time(url: str) -> None:
    with Client(url, agent="mac-ann", retries=0) as ann:
        ann.check_board()
        with pytest.raises(errors.TimedOut, match="No answer from"):
            ann._transport.send(
                ann._request(
                    Client.wait_for_message, {"wait": 50, "since": 1}, "mac-ann", 0.05, accept="application/json"
                )
            )
        assert ann.check_board()["channels"]


def test_without_the_relays_package_the_error_names_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **about: [])
    with pytest.raises(errors.NotConfigured, match=re.escape('pip install "langchain-agentchat[relay]"')):
        Client(url, agent="mac-ann")


LAST_WORDS = """
import atexit, sys
from agentchat import Client, errors
class Agent:
    def __init__(self):
        self.client = Client(sys.argv[1], agent="mac-ann")
        self.client.send_message("general", "hello")
    def __del__(self):
        try:
            self.client.send_message("general", "bye")
        except errors.Conflict as error:
            print(error.message, flush=True)
agent = None
if sys.argv[2] == "open again":
    atexit.register(lambda: agent.client.check_board())
agent = Agent()
"""


@pytest.mark.parametrize("state", ["closed", "open again"])
def test_a_call_while_the_interpreter_takes_itself_apart_is_refused(url: str, state: str) -> None:
    """It waited for a thread that could not run any more."""
    with process(LAST_WORDS, url, state) as other:
        assert other.wait(20) == 0
        path = url.removeprefix("local:")
        assert heard(other) == f"This process is ending, so it cannot use {path} any more."
    with Client(url, agent="mac-ann") as ann:
        assert [message["content"] for message in ann.read_messages("general")["messages"]] == ["hello"]


# A fork


def test_parent_and_child_go_on_after_a_fork(url: str) -> None:
    with Client(url, agent="mac-ann") as ann:
        ann.send_message("general", "before")
        if not (child := os.fork()):
            try:
                ann.send_message("general", "by the child")
            finally:
                os._exit(0)
        ann.send_message("general", "by the parent")
        os.waitpid(child, 0)
        said = {message["content"] for message in ann.read_messages("general")["messages"]}
    assert said == {"before", "by the child", "by the parent"}


def test_a_wait_survives_a_fork(url: str) -> None:
    with Client(url, agent="mac-ann") as ann, Client(url, agent="mac-bob") as bob:
        bob.check_board()
        got: list[Any] = []
        waiting = threading.Thread(target=lambda: got.append(ann.wait_for_message(channel="general", wait=50)))
        waiting.start()
        until(lambda: any(host._calls for host in local._hosts.values()))
        if not (child := os.fork()):
            os._exit(0)
        os.waitpid(child, 0)
        bob.send_message("general", "there you are")
        waiting.join(30)
    assert got[0]["message"]["content"] == "there you are"


# Several processes


WAIT = """
import sys
from agentchat import Client
with Client(sys.argv[1], agent="mac-bob") as bob:
    print(bob.check_board()["channels"][0]["channel"], flush=True)
    print(bob.wait_for_message(channel="general", wait=50)["message"]["content"], flush=True)
"""


def test_who_waits_is_woken_by_another_process(url: str) -> None:
    """Long before the wait looks by itself."""
    with Client(url, agent="mac-ann") as ann, process(WAIT, url) as other:
        assert heard(other)
        said = threading.Event()

        def say() -> None:
            while not said.wait(0.2):
                ann.send_message("general", "wake up")

        saying = threading.Thread(target=say)
        saying.start()
        assert heard(other) == "wake up"
        said.set()
        saying.join()


def test_events_of_another_process_come_as_they_happen(url: str) -> None:
    with Client(url, agent="mac-ann") as ann:
        ann.check_board()
        with ann.events(kind="message") as events, process(STAY, url) as other:
            until(lambda: ann.check_board()["channels"] != [])
            events.position = 0
            event: Any = next(iter(events))
            assert heard(other) == "there"
    assert (event["actor"], event["data"]["message"]["content"]) == ("mac-other", "here I am, @mac-ann")


def test_events_that_are_closed_end_at_once(url: str) -> None:
    """There is a request under way, which would be answered after most of a minute."""

    def waits() -> bool:
        return any(host._calls for host in local._hosts.values())

    with Client(url, agent="mac-ann") as ann:
        ann.check_board()
        events = ann.events(kind="message", since=0)
        reading = threading.Thread(target=lambda: list(events), daemon=True)
        reading.start()
        until(waits)
        events.close()
        reading.join(20)
        assert not reading.is_alive()
        assert ann.check_board()["channels"], "and the client goes on"

    async def bob() -> Any:
        async with AsyncClient(url, agent="mac-bob") as client:
            await client.check_board()
            events = client.events(kind="message", since=0)
            reading = asyncio.ensure_future(anext(events, "it ended"))
            await asyncio.to_thread(until, waits)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reading, 0.01)  # who is cancelled is cancelled
            reading = asyncio.ensure_future(anext(events, "it ended"))
            await asyncio.to_thread(until, waits)
            await events.close()
            return await asyncio.wait_for(reading, 20)

    assert asyncio.run(bob()) == "it ended"


def test_a_relay_is_refused_while_agents_share_the_directory(url: str) -> None:
    path = url.removeprefix("local:")
    with process(STAY, url) as first, process(STAY, url) as second:
        assert heard(first) == heard(second) == "there"
        with pytest.raises(errors.Conflict) as caught:
            Directory(path).hold("a relay")
        assert re.search(r"in use by agents without a relay \(process (\d+) and 1 more\)", caught.value.message)
        holder = Directory(path).holder()
        assert holder is not None
        assert holder.pid in (first.pid, second.pid)
        second.kill()
        second.wait()
        with pytest.raises(errors.Conflict, match=rf"\(process {first.pid}\)"), running(path):
            pass
        first.kill()
        first.wait()
    assert Directory(path).holder() is None
    with running(path):
        pass


def test_an_agent_is_refused_while_a_relay_serves_the_directory(tmp_path: Path) -> None:
    with running(str(tmp_path)) as relay, Client(f"local:{tmp_path}", agent="mac-ann") as ann:
        with pytest.raises(errors.Conflict) as caught:
            ann.check_board()
        assert "in use by an embedded relay" in caught.value.message
        assert caught.value.message.endswith(f"Set AGENTCHAT_URL={relay.url}")
    with pytest.raises(errors.Conflict):  # and it says so again and again
        Directory(tmp_path).hold("first") or Directory(tmp_path).share()


def test_a_relay_may_serve_it_later_and_the_agents_carry_on(url: str) -> None:
    path = url.removeprefix("local:")
    with Client(url, agent="mac-ann") as ann, Client(url, agent="mac-bob") as bob:
        bob.check_board()
        ann.send_direct_message("mac-bob", "for later")
    with running(path, settings=UNLIMITED) as relay:
        with Client(relay.url, "mac-bob", agent="mac-bob", retries=0) as nobody, pytest.raises(errors.Unauthorized):
            nobody.check_board()
        with Client(relay.url, relay.token("mac-bob"), agent="mac-bob") as bob:
            assert [item["content"] for item in bob.check_inbox()["items"]] == ["@mac-bob for later"]
            bob.send_direct_message("mac-ann", "by the relay")
    with Client(url, agent="mac-ann") as ann:
        assert [item["content"] for item in ann.check_inbox()["items"]] == ["@mac-ann by the relay"]


def test_an_operator_works_beside_agents(url: str) -> None:
    path = url.removeprefix("local:")
    with Client(url, agent="mac-ann", retries=0) as ann:
        ann.send_message("general", "hello")
        command = [sys.executable, "-m", "agentchat", "admin", "--data", path, "agent", "deactivate", "mac-ann"]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
        with pytest.raises(errors.Unauthorized, match="mac-ann is deactivated"):
            ann.send_message("general", "still here")


def test_a_process_that_is_killed_leaves_the_others_alone(url: str) -> None:
    with Client(url, agent="mac-ann") as ann:
        ann.check_board()
        for _ in range(3):
            with process(STAY, url) as other:
                assert heard(other) == "there"
                other.send_signal(signal.SIGKILL)
                other.wait()
            assert ann.check_inbox()["items"]


PROMISE = """
import sys
from agentchat import Client
client = Client(sys.argv[1], agent="mac-other")
print(client.create_task("count", channel="work", deadline_in=1)["task"]["id"], flush=True)
sys.stdin.read()
"""


def test_the_deadline_of_a_process_that_is_gone_is_kept_by_who_is_there(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chores, "_UNTOLD", 0.2)
    with Client(url, agent="mac-ann") as ann:
        ann.check_board()
        with process(PROMISE, url) as other:
            id = heard(other)
        until(lambda: ann.get_task(id)["history"][-1]["action"] == "expire")  # though ann has only looked on


ACKNOWLEDGE = """
import sys
from agentchat import Client
bob = Client(sys.argv[1], agent="mac-other")
print(bob.claim_items(acknowledge=True)["items"][0]["content"], flush=True)
"""


def test_what_was_acknowledged_has_vanished_when_its_process_ends(url: str) -> None:
    """Though another one has the directory open, and whether the client was closed or the process just ended."""
    word = unlike()
    with process(STAY, url) as other, Client(url, agent="mac-ann") as ann:
        assert heard(other) == "there"
        for close in (False, True):
            ann.send_direct_message("mac-other", f"{word} {close}", ephemeral=True)
            assert words_in(Path(url.removeprefix("local:")), [word])
            with process(ACKNOWLEDGE + "bob.close()" * close, url) as bob:
                assert heard(bob) == f"@mac-other {word} {close}"
                assert bob.wait(20) == 0
            assert words_in(Path(url.removeprefix("local:")), [word]) == []


TELL = """
import os, sys
from agentchat import Client
assert Client(sys.argv[1], agent="mac-ann").send_direct_message("all", "hello")["pending"]
if sys.argv[2] == "killed":
    os._exit(0)
"""


@pytest.mark.parametrize("how", ["ended", "killed"])
def test_a_large_group_is_told_though_the_author_is_gone(url: str, tmp_path: Path, how: str) -> None:
    """Before it is gone; or else as soon as the next one comes, though the chores were done a moment ago."""
    with Client(url, agent="mac-ann") as ann:
        ann.check_board()
        path = tmp_path / "shared"
        until((path / "chores").exists)
    with closing(Sqlite(path, neighbours=True)) as store:
        store.ask(Lane.WRITE, lambda tx: [administration.named(tx, f"mac-{number}") for number in range(2000)])
        with process(TELL, url, how) as author:
            assert author.wait(60) == 0
        waiting = store.ask(Lane.READ, lambda tx: groups.is_telling(tx))
        assert waiting == (how == "killed")
        with Client(url, agent="mac-ann") as ann:
            until(lambda: not ann.list_sent()["messages"][0]["pending"])
            assert ann.list_sent()["messages"][0]["states"] == {"stored": 2000}


# Stores side by side


@contextmanager
def neighbours(path: Path) -> Iterator[tuple[Peek, Sqlite]]:
    """Two of one directory, as two processes have them."""
    one, other = Peek(path, neighbours=True), Sqlite(path, neighbours=True)
    try:
        yield one, other
    finally:
        other.close()
        one.close()


def test_what_one_has_counted_the_other_counts_on_from(tmp_path: Path) -> None:
    with neighbours(tmp_path) as (one, other):
        for number in range(20):
            (one.ask if number % 3 else other.ask)(Lane.APPEND, one.post(f"{number}"))
        assert one.contents() == [f"{number}" for number in range(20)]
        one.check_numbers()


def test_what_is_to_be_forgotten_is_forgotten_by_all(tmp_path: Path) -> None:
    with neighbours(tmp_path) as (one, other):
        other.ask(Lane.READ, lambda tx: tx.encoded.put(7, b"old"))
        before = other.ask(Lane.READ, lambda tx: tx.epoch)
        assert other.ask(Lane.READ, lambda tx: tx.encoded.get(7)) == b"old"
        one.ask(Lane.APPEND, one.post("changes nothing that is kept"))
        assert other.ask(Lane.READ, lambda tx: tx.encoded.get(7)) == b"old"
        one.ask(Lane.WRITE, lambda tx: tx.forget())
        assert other.ask(Lane.READ, lambda tx: (tx.encoded.get(7), tx.epoch)) == (None, before + 1)
        assert other.epoch == before + 1
        assert other.ask(Lane.WRITE, lambda tx: (tx.encoded.get(7), tx.epoch)) == (None, before + 1)


def test_news_of_the_other_come_while_somebody_wants_them(tmp_path: Path) -> None:
    with neighbours(tmp_path) as (one, other):
        told: list[News] = []
        came = threading.Event()
        other.watch(lambda news: (told.append(news), came.set()))
        one.ask(Lane.APPEND, one.post("nobody listens"))
        assert other._lookout is not None
        assert other._lookout._thread is None, "and nothing looks"
        other.listen(True)
        assert came.wait(20)
        came.clear()
        one.ask(Lane.APPEND, one.post("somebody does"))
        assert came.wait(20)
        ((position,),) = one.on_disk("SELECT position FROM spaces")
        until(lambda: told[-1].positions == {1: position})


def test_turns_go_to_whoever_waits_longest(tmp_path: Path) -> None:
    order: list[int] = []
    first = Turn(str(tmp_path))
    waiting: list[threading.Thread] = []

    def take(number: int) -> None:
        with Turn(str(tmp_path)):
            order.append(number)

    with first:
        for number in range(5):
            waiting.append(threading.Thread(target=take, args=(number,)))
            waiting[-1].start()
            until(lambda: _blocked(tmp_path / "turn") == len(waiting))
    for thread in waiting:
        thread.join()
    assert order == [0, 1, 2, 3, 4]


def test_who_gets_no_turn_is_told_so_at_once(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing of it is written, neither then nor later."""
    turn = Path(url.removeprefix("local:"), "turn")
    with Client(url, agent="mac-ann", retries=0) as ann:
        ann.send_message("general", "before")
        turn.unlink()
        turn.mkdir()
        told: list[str] = []

        def say(number: int) -> None:
            with pytest.raises(errors.Unavailable) as refused:
                ann.send_message("general", f"{number}")
            told.append(refused.value.message)

        saying = [threading.Thread(target=say, args=(number,)) for number in range(8)]
        for thread in saying:
            thread.start()
        for thread in saying:
            thread.join(20)
        assert told == [f"Cannot write in {turn.parent}: Is a directory. Nothing was stored."] * 8
        turn.rmdir()
        ann.send_message("general", "after")
        assert [message["content"] for message in ann.read_messages("general")["messages"]] == ["before", "after"]
    with Client(url, agent="mac-ann", retries=0) as ann:
        ann.check_board()
        shutil.rmtree(turn.parent)
        with pytest.raises(errors.Unavailable, match="No such file or directory"):
            ann.send_message("general", "to nowhere")
    assert not [record for record in caplog.records if record.exc_info]


def test_a_store_that_gets_no_turn_to_scrub_says_so(tmp_path: Path) -> None:
    with closing(Sqlite(tmp_path, neighbours=True)) as store:
        (tmp_path / "turn").unlink()
        (tmp_path / "turn").mkdir()
        done: list[bool] = []
        store.scrub(done.append)
        until(lambda: done == [False])
        with pytest.raises(errors.Unavailable, match="Cannot write in"):
            store.ask(Lane.WRITE, lambda tx: tx.forget())
        (tmp_path / "turn").rmdir()
        store.scrub(done.append)
        until(lambda: done == [False, True])


def removed(path: Path) -> None:
    """At once: what is deleted file by file may be made again in between, by who has it open."""
    path.rename(path.with_name("removed"))
    shutil.rmtree(path.with_name("removed"))


def test_a_directory_that_was_made_anew_is_opened_anew(url: str) -> None:
    """Whoever had it open wrote on in the files that were removed, and was told that all was well."""
    path = Path(url.removeprefix("local:"))
    with Client(url, agent="mac-ann", retries=0) as ann, Client(url, agent="mac-bob", retries=0) as bob:
        ann.send_message("general", "before")
        bob.check_board()
        removed(path)
        with process(STAY, url) as other:
            assert heard(other) == "there"
            with pytest.raises(errors.Unavailable, match=r"it was removed and made anew\. Nothing was stored\."):
                ann.send_message("general", "refused")
            ann.send_message("general", "after")
            assert (path / "agentchat.db-wal").stat().st_size, "what was closed left the other's log alone"
            said = [message["content"] for message in bob.read_messages("general")["messages"]]
            assert said == ["here I am, @mac-ann", "after"]
            with closing(sqlite3.connect(path / "agentchat.db")) as looking:
                assert looking.execute("SELECT content FROM messages ORDER BY id").fetchall() == [(it,) for it in said]
    with Client(url, agent="mac-ann") as ann:  # which tries again by itself
        ann.check_board()
        removed(path)
        ann.send_message("general", "in a new one")
        assert [message["content"] for message in ann.read_messages("general")["messages"]] == ["in a new one"]


def test_who_reads_or_waits_notices_that_the_directory_was_removed(url: str) -> None:
    path = Path(url.removeprefix("local:"))
    with Client(url, agent="mac-ann", retries=0) as ann:
        ann.send_message("general", "hello")
        removed(path)
        with pytest.raises(errors.Unavailable, match=r"any more: No such file or directory\."):
            ann.read_messages("general")
        assert ann.read_messages("general")["messages"] == [], "of the one that it made"
        told: list[str] = []

        def wait() -> None:
            with pytest.raises((errors.ConnectionFailed, errors.Unavailable)) as caught:  # under way, or just begun
                ann.wait_for_message(channel="general", wait=50)
            told.append(caught.value.message)

        waiting = threading.Thread(target=wait)
        waiting.start()
        until(lambda: any(host._calls for host in local._hosts.values()))
        removed(path)
        waiting.join(20)
        (why,) = told
        assert re.search(r"was removed before the call was answered|any more: No such file", why)


@pytest.mark.parametrize("shared", [True, False])
def test_a_group_is_not_begun_once_the_directory_is_another(
    tmp_path: Path, shared: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is looked at again when the turn has come: it may have been waited for."""
    path, told, lost = tmp_path / "shared", list[Any](), threading.Event()
    path.mkdir()
    with closing(Sqlite(path, neighbours=shared, lost=lost.set)) as store:
        with Turn(str(path)) if shared else nullcontext():
            if shared:
                store.submit(Lane.WRITE, lambda tx: tx.forget(), lambda result, error: told.append(error))
                until(lambda: _blocked(path / "turn") == 1)
            path.rename(tmp_path / "elsewhere")
            path.mkdir()
            Sqlite(path).close()
        if not shared:
            store.submit(Lane.WRITE, lambda tx: tx.forget(), lambda result, error: told.append(error))
        until(lambda: told)
        assert told[0].message == f"Cannot use {path} any more: it was removed and made anew. Nothing was stored."
        assert lost.is_set()
        with pytest.raises(errors.Unavailable):
            store.ask(Lane.WRITE, lambda tx: tx.forget())
    assert [record.getMessage() for record in caplog.records if "any more" in record.getMessage()] == [
        f"Cannot use {path} any more: it was removed and made anew."
    ]


def _blocked(path: Path) -> int:
    """How many wait for the lock of a file, by the kernel's own list."""
    inode = f":{path.stat().st_ino} "
    return sum("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


def test_a_broken_index_waits_for_whoever_has_the_directory_alone(tmp_path: Path) -> None:
    with Client(f"local:{tmp_path}", agent="mac-ann", retries=0) as ann:
        ann.send_message("general", "a needle")
    (tmp_path / "search.db").write_bytes(b"this is no database\n" * 500)
    with Client(f"local:{tmp_path}", agent="mac-ann", retries=0) as ann:
        ann.send_message("general", "another needle")
        with pytest.raises(errors.Unavailable, match="doctor --repair"):
            ann.search_messages("needle")
    with running(str(tmp_path), settings=UNLIMITED) as relay, Client(relay.url, relay.token("mac-ann")) as ann:
        assert len(ann.search_messages("needle")["results"]) == 2


# What comes and goes does the chores


def test_what_one_has_learnt_of_the_clock_the_next_one_knows() -> None:
    steady = [1000.0]
    clock = DoubtedClock(lambda: steady[0])
    assert clock.believed(5_000_000_000) is None
    steady[0] += chores._AT_FIRST
    known = clock.known
    later = DoubtedClock(lambda: steady[0], known)
    reading = 5_000_000_000 + int(chores._AT_FIRST * 1e6)
    assert later.believed(reading) == reading, "the ten minutes are over"
    jumped = DoubtedClock(lambda: steady[0], known)
    assert jumped.believed(reading + 7_200_000_000) is None, "it is not the clock that was known"
    booted = DoubtedClock(lambda: 5.0, Known(known.difference, 1e9, 1e9))
    assert booted._until == 5.0 + chores._AT_FIRST, "a machine that started anew does not wait for ever"


def test_short_lives_do_the_chores(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(url.removeprefix("local:"))
    done = threading.Event()
    monkeypatch.setattr(chores.upkeep, "sweep", lambda tx, at: done.set() or 0)
    with Client(url, agent="mac-ann") as ann:
        ann.check_board()
        until((path / "chores").exists)
        assert {file.stat().st_mode & 0o077 for file in path.iterdir() if file.is_file()} == {0}, "for this user only"
    assert not done.is_set(), "the clock is in doubt"
    known = Known(*json.loads((path / "chores").read_text()))
    (path / "chores").write_text(json.dumps(known._replace(until=0, at=known.at - 100)))
    with Client(url, agent="mac-ann") as ann:
        ann.check_board()
        assert done.wait(20)
    done.clear()
    with Client(url, agent="mac-ann") as ann:
        ann.check_board()
    assert not done.is_set(), "somebody has just done them"


def test_contents_of_files_are_everybodys(url: str) -> None:
    with Client(url, agent="mac-ann") as ann:
        path = ann.upload_file("general", "a.txt", "hello")["file"]["path"]
        other = DirectoryBlobs(str(Path(url.removeprefix("local:"), "blobs")))
        other.close()
        assert ann.download_file(path)["content"] == b"hello"


def test_commands_in_a_project_find_each_other(tmp_path: Path) -> None:
    (tmp_path / ".agentchat").mkdir()
    (tmp_path / "src").mkdir()
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "MACHINE_NAME": "mac"}

    def say(where: Path, *words: str) -> str:
        command = [sys.executable, "-W", "error", "-m", "agentchat", *words]
        done = subprocess.run(command, cwd=where, env=environ, capture_output=True, text=True, timeout=60, check=True)
        assert done.stderr == ""
        return done.stdout

    say(tmp_path, "check-board", "--agent", "mac-reader")
    say(tmp_path / "src", "send-direct-message", "mac-reader", "the build is green")
    assert "@mac-src" in (told := say(tmp_path, "check-inbox", "--agent", "mac-reader"))
    assert "the build is green" in told
    assert {"agentchat.db", "lock"} <= {*os.listdir(tmp_path / ".agentchat")}
