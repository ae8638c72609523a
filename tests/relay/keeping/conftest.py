"""Data directories with something in them, and the commands that keep them, in this process and in others."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agentchat import Client, cli
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.service import administration
from tests.relay.conftest import UNLIMITED

PATIENCE = 60.0
OK, WRONG, USAGE, MISSING, TAKEN = 0, 1, 2, 4, 5
THERE = "repo:example.org/proj"  # where what ann sent to the group is for
BIG = bytes(range(256)) * 4096  # a megabyte


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Admin = Callable[..., Ran]


@pytest.fixture
def admin(capfdbinary: pytest.CaptureFixture[bytes]) -> Admin:
    """`agentchat admin` with words, in this process."""

    def run(*words: object) -> Ran:
        capfdbinary.readouterr()
        code = cli.main(["admin", *map(str, words)])
        return Ran(code, *(text.decode() for text in capfdbinary.readouterr()))

    return run


def start(*words: object, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "agentchat", "admin", *map(str, words)]
    # On a small disk Python 3.11 caches half a module, which nobody can import afterwards.
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, **more)


def finish(process: subprocess.Popen[str]) -> Ran:
    out, err = process.communicate(timeout=PATIENCE)
    return Ran(process.returncode, out, err)


def strike(process: subprocess.Popen[str], when: Callable[[], bool], number: int = signal.SIGKILL) -> bool:
    """Send a signal as soon as something is so; whether the process was still there."""
    deadline = time.monotonic() + PATIENCE
    while not when() and process.poll() is None:
        assert time.monotonic() < deadline
        select.select([], [], [], 0.0005)
    process.send_signal(number)
    finish(process)
    return process.returncode == -number


def clients(relay: Embedded, stack: contextlib.ExitStack, *names: str, space: str = "main") -> list[Client]:
    made = [Client(relay.url, relay.token(name, space=space), agent=name) for name in names]
    return [stack.enter_context(client) for client in made]


def upload(client: Client, channel: str, name: str, content: bytes) -> str:
    """The path of the new file."""
    file = client.upload_file(channel, name, b64encode(content).decode(), encoding="base64")["file"]
    return file["path"]


class Board(NamedTuple):
    """A directory that was lived in, and who lived there: keys by name."""

    path: Path
    keys: dict[str, str]
    files: dict[str, bytes]  # of space main, by path


def hand_over(ann: Client, bob: Client) -> None:
    """Tasks that are open, declined, and done."""
    about: dict[str, Any] = {"body": "all of it", "capability_tags": ["ci", "sql"], "context": "what is known"}
    ann.create_task("mend the build", channel="tech-web", result_schema={"type": "object"}, **about)
    declined = ann.create_task("mend the test", target_agent="bob", urgent=True)["task"]["id"]
    bob.decline_task(declined, "no time")
    done = ann.create_task("read the log", channel="tech-web", target_agent="bob", scope=THERE)["task"]["id"]
    bob.claim_task(done)
    bob.report_progress(done, "half of it")
    bob.complete_task(done, "it is read")


def lock_up(ann: Client, bob: Client) -> None:
    """Locks that are held, shared, and given back."""
    given_back = ann.acquire_lock(["été/x"], reason="for a moment")["lock"]["id"]
    ann.release_lock(given_back)
    ann.acquire_lock(["src/**", "été/x"], reason="moving it", lease=86_400)
    bob.acquire_lock(["docs/a"], shared=True, lease=86_400)


def stop(relay: Embedded, ann: Client, bob: Client) -> None:
    """Interrupts that wait and that do not, a pause that is on and one that is over."""
    _grant(relay, "ann", "admin")
    ann.send_interrupt("bob", "look at this", expires_in=86_400)
    seen = bob.send_interrupt("ann", "look at that")["interrupt"]["id"]
    ann.acknowledge_interrupt(seen, note="I see it")
    ann.resume_agents(ann.pause_agents("a moment", group="crew")["pause"]["id"], note="it is over")
    ann.pause_agents("it moves", channel="tech-web")


def ask_for_approval(relay: Embedded, ann: Client, bob: Client) -> None:
    """Requests that wait, are allowed with other arguments, and are withdrawn."""
    _grant(relay, "bob", "reviewer")
    ids = [
        ann.request_approval("deploy", f'{{"to": "prod", "n": {number}}}', reason="it is tested", expires_in=86_400)[
            "approval"
        ]["id"]
        for number in range(3)
    ]
    bob.decide_approval(ids[1], "edit", message="not that far", arguments='{"to": "été"}')
    ann.withdraw_approval(ids[2], reason="never mind")


def _grant(relay: Embedded, name: str, role: str) -> None:
    relay.ask(lambda tx: administration.agent_grant(tx, name=name, role=role))


@pytest.fixture(scope="session")
def _lived_in(tmp_path_factory: pytest.TempPathFactory) -> Board:
    path = tmp_path_factory.mktemp("lived") / "relay"
    files = {}
    with running(str(path), settings=UNLIMITED) as relay, contextlib.ExitStack() as stack:
        relay.space("team")
        ann, bob = clients(relay, stack, "ann", "bob")
        (eve,) = clients(relay, stack, "eve", space="team")
        first = ann.send_message("tech-web", "@bob the build is green", metadata={"build": 7})["message"]
        bob.send_message("tech-web", "thanks", parent_message_id=first["id"])
        ann.pin_message(first["id"])
        bob.send_message("tech-web", "step done", kind="status")
        ann.send_direct_message("bob", "a word in private")
        for one in (ann, bob):
            one.join_group("crew")
        ann.send_direct_message("crew", "to all of you", scope=THERE)
        bob.mark_mentions_read([bob.check_mentions()["mentions"][-1]["mention_id"]])
        for number in range(30):
            ann.send_message("general", f"note {number} of the day")
        bob.read_messages("general", limit=10, mark_read=True)
        for number in range(6):
            content = f"file {number}".encode() * 1000
            files[upload(ann, "general", f"f{number}.txt", content)] = content
        files[upload(bob, "tech-web", "same.txt", b"file 0" * 1000)] = b"file 0" * 1000  # a content that is there
        eve.send_message("general", "elsewhere")
        upload(eve, "general", "e.bin", b"elsewhere")
        ann.set_card(role="builder", capabilities=["ci"])
        hand_over(ann, bob)
        lock_up(ann, bob)
        stop(relay, ann, bob)
        ask_for_approval(relay, ann, bob)
        keys = {client.agent or "": client.credential.held or "" for client in (ann, bob, eve)}
    return Board(path, keys, files)


@pytest.fixture
def board(_lived_in: Board, tmp_path: Path) -> Board:
    """A copy to break."""
    shutil.copytree(_lived_in.path, tmp_path / "relay")
    os.chmod(tmp_path / "relay", 0o700)
    return _lived_in._replace(path=tmp_path / "relay")


@contextlib.contextmanager
def database(path: Path, name: str = "agentchat.db") -> Iterator[sqlite3.Connection]:
    """To look into, and to break."""
    with contextlib.closing(sqlite3.connect(path / name, isolation_level=None)) as connection:
        yield connection


def rows(path: Path, sql: str, *values: Any) -> list[Any]:
    with database(path) as connection:
        return connection.execute(sql, values).fetchall()


def blobs(path: Path) -> dict[str, Path]:
    """Every content on disk, by space and hash. What is removed meanwhile is not there."""
    found = (Path(folder, name) for folder, _, names in os.walk(path / "blobs") for name in names)
    return {f"{file.parts[-3]}/{file.name}": file for file in found if re.fullmatch("[0-9a-f]{2}", file.parts[-2])}


def check_consistent(path: Path) -> None:
    """What must hold for any database and its contents, said without our own code."""
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    wrong = rows(
        path,
        "SELECT name FROM channels c WHERE number - purged <> (SELECT count(*) FROM messages WHERE channel_id = c.id)"
        " OR number <> coalesce((SELECT max(number) FROM messages WHERE channel_id = c.id), purged)",
    )
    assert wrong == []
    there = blobs(path)
    named = rows(path, "SELECT DISTINCT space_id, hash FROM files")
    assert {f"{space}/{hash}" for space, hash in named} <= set(there)
    for name, file in there.items():
        assert hashlib.sha256(file.read_bytes()).hexdigest() == name.partition("/")[2]


def check_private(path: Path) -> None:
    for file in [path, *path.rglob("*")]:
        assert file.stat().st_mode & 0o777 == (0o700 if file.is_dir() else 0o600), file


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that takes a while to copy. It is only read."""
    path = tmp_path_factory.mktemp("large") / "relay"
    with running(str(path), settings=UNLIMITED) as relay, contextlib.ExitStack() as stack:
        (ann,) = clients(relay, stack, "ann")
        for number in range(20):
            upload(ann, "general", f"{number}.bin", BIG + bytes([number]))
    with database(path) as connection:  # half as much again in rows, quickly
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) INSERT INTO answers"
            " (agent_id, key, digest, answer, created_at) SELECT 1, i, zeroblob(16), hex(randomblob(12500)), i FROM n"
        )
    return path


@pytest.fixture(scope="session")
def _with_everything(tmp_path_factory: pytest.TempPathFactory) -> Board:
    from tests.relay.keeping import everything  # which needs this module

    return everything.fill(tmp_path_factory.mktemp("everything") / "relay")


@pytest.fixture
def full(_with_everything: Board, tmp_path: Path) -> Board:
    """A copy of a directory with a row of every kind."""
    shutil.copytree(_with_everything.path, tmp_path / "relay")
    os.chmod(tmp_path / "relay", 0o700)
    return _with_everything._replace(path=tmp_path / "relay")
