"""A small history in a data directory, what may happen to the files of such a directory, and ways to look whether a
relay that is started on it tells anything else than what was stored."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from agentchat import Client
from agentchat.errors import AgentChatError, NotFound, Unavailable
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.settings import Settings
from agentchat_relay.store.sqlite import engine as sqlite

UNLIMITED = Settings(agent_reads=0, agent_writes=0, all_reads=0, all_writes=0)
ROOT = Path(__file__).resolve().parents[2]
PAGE = 4096
TREES = (2, 5, 10, 13)  # what a page of SQLite begins with that SQLite knows by its form
TRUE, REFUSED, GONE = "true", "refused", "gone"
PATIENCE = 60.0


class World(NamedTuple):
    """A directory in which something happened, and what was told there."""

    path: Path
    key: str
    texts: dict[str, list[str]]  # by channel
    files: dict[str, bytes]

    def copied(self, path: Path) -> World:
        shutil.copytree(self.path, path)
        return self._replace(path=path, files={**self.files})


def stopped(place: Path) -> World:
    """A relay that was stopped."""
    with running(str(place / "relay"), settings=UNLIMITED) as relay:
        return _fill(relay)


def killed(place: Path) -> World:
    """What a relay leaves that is killed before it ever brought its database up to date: everything is in the log."""
    before = sqlite._BETWEEN_CHECKPOINTS
    sqlite._BETWEEN_CHECKPOINTS = 1e6
    try:
        with running(str(place / "relay"), settings=UNLIMITED) as relay:
            return _fill(relay).copied(place / "left")
    finally:
        sqlite._BETWEEN_CHECKPOINTS = before


def _fill(relay: Embedded) -> World:
    luck, key = random.Random(1), relay.token("mac-ann")
    texts: dict[str, list[str]] = {"general": [], "busy": []}
    files: dict[str, bytes] = {}
    with closing(Client(relay.url, key)) as client:
        for number in range(120):
            channel = luck.choice([*texts])
            padding = luck.randbytes(luck.choice([5, 50, 4000])).hex()
            texts[channel].append(f"{padding} word{number}")
            client.send_message(channel, texts[channel][-1])
        for number in range(3):
            content = luck.randbytes(20_000).hex()
            path = client.upload_file("general", f"{number}.txt", content, post_message=False)["file"]["path"]
            files[path] = content.encode()
        client.search_messages("word1")  # the index has caught up
    return World(Path(relay.directory.path), key, texts, files)


# What a relay tells


def reads(client: Client, world: World) -> Iterator[str]:
    """Of everything that can be read whether it is what was stored, or was refused as it should be; else a sentence."""
    for channel, texts in world.texts.items():
        yield _told(f"#{channel}", lambda channel=channel: contents(client, channel), texts)
    for path, content in world.files.items():
        yield _told(path, lambda path=path: client.download_file(path)["content"], content)


def _told(what: str, read: Callable[[], object], truth: object) -> str:
    try:
        found = read()
    except Unavailable as error:
        return REFUSED if "operator" in error.message else f"{what}: {error.message}"
    except NotFound as error:
        return GONE if "disk" in error.message else f"{what}: {error.message}"
    except AgentChatError as error:
        return f"{what}: {error.code}"
    return TRUE if found == truth else f"{what}: not what was stored"


def contents(client: Client, channel: str) -> list[str]:
    found: list[str] = []
    cursor, more = None, True
    while more:
        page = client.read_messages(channel, limit=50, cursor=cursor)
        found = [*(message["content"] for message in page["messages"]), *found]
        cursor, more = page["previous_cursor"], page["has_more"]
    return found


def hits(client: Client, text: str) -> list[str]:
    """A search for the last word of a text may say, twice in a row at most, that the index is being made again."""
    for _ in range(2):
        try:
            return [hit["content"] for hit in client.search_messages(text.split()[-1])["results"]]
        except Unavailable as error:
            if "index" not in error.message:
                raise
    return [hit["content"] for hit in client.search_messages(text.split()[-1])["results"]]


class Served(NamedTuple):
    """How a start of `agentchat serve` went: its URL, or its end."""

    url: str | None
    code: int | None
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()


@contextmanager
def served(path: Path, environment: dict[str, str] | None = None) -> Iterator[Served]:
    command = [sys.executable, "-m", "agentchat", "serve", "--data", str(path), "--port", "0"]
    log = path.parent / f"{path.name}.said"
    with (
        log.open("w") as said,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=said, text=True) as process,
    ):
        late = threading.Timer(PATIENCE, process.kill)
        late.start()
        try:
            assert process.stdout
            greeting = process.stdout.readline()
            if " is ready on " in greeting:
                yield Served(greeting.partition(" is ready on ")[2].partition(",")[0], None, log)
            else:
                yield Served(None, process.wait(), log)
        finally:
            late.cancel()
            process.kill()


# What may happen to files


def overwrite(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def noisy(path: Path, luck: random.Random) -> None:
    for _ in range(3):
        overwrite(path, luck.randrange(0, path.stat().st_size // PAGE) * PAGE, luck.randbytes(PAGE))


INDEX_DAMAGES: dict[str, Callable[[Path, random.Random], object]] = {
    "gone": lambda path, luck: path.unlink(),
    "empty": lambda path, luck: os.truncate(path, 0),
    "no database": lambda path, luck: path.write_bytes(b"no database" * 1000),
    "cut to a page": lambda path, luck: os.truncate(path, PAGE),
    "cut to the half": lambda path, luck: os.truncate(path, path.stat().st_size // PAGE // 2 * PAGE),
    "cut within a page": lambda path, luck: os.truncate(path, path.stat().st_size - luck.randrange(1, PAGE)),
    "noise": noisy,
    "zeros": lambda path, luck: overwrite(path, PAGE, bytes(path.stat().st_size - PAGE)),
    "a log of noise": lambda path, luck: path.with_name("search.db-wal").write_bytes(luck.randbytes(50_000)),
    "of another database": lambda path, luck: shutil.copy(path.with_name("agentchat.db"), path),
}
