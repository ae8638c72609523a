"""Starts on damaged directories: what happened to the files, and whether the relay did right."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from agentchat import AgentChatError, Client, errors
from tests.faults.damaged import (
    GONE,
    INDEX_DAMAGES,
    PAGE,
    REFUSED,
    TREES,
    TRUE,
    World,
    contents,
    hits,
    overwrite,
    reads,
    served,
)

Damage = Callable[[Path, random.Random], object]
OLDER = "older than search.db"


def cut(path: Path, luck: random.Random) -> None:
    size = path.stat().st_size
    os.truncate(path, luck.choice([luck.randrange(size), luck.randrange(size // PAGE) * PAGE]))


def pages(path: Path, luck: random.Random) -> None:
    """Pages of trees. What a page holds of a long text has no form: SQLite cannot know that it is another."""
    whole = path.read_bytes()
    trees = [at for at in range(PAGE, len(whole), PAGE) if whole[at] in TREES]
    for at in luck.sample(trees, luck.randint(1, 3)):
        overwrite(path, at, luck.choice([bytes(PAGE), luck.randbytes(PAGE)]))


def piece(path: Path, luck: random.Random) -> None:
    overwrite(path, luck.randrange(32, path.stat().st_size), luck.randbytes(luck.choice([1, 100, PAGE])))


def of_file(name: str, damage: Damage) -> Damage:
    return lambda path, luck: damage(path / name, luck)


def content(damage: Damage) -> Damage:
    """To one of the contents."""

    def happen(path: Path, luck: random.Random) -> None:
        found = sorted(file for file in (path / "blobs").glob("[0-9]*/*/*") if file.is_file())
        damage(luck.choice(found), luck)

    return happen


DATABASE: dict[str, Damage] = {
    "a cut database": of_file("agentchat.db", cut),
    "damaged pages": of_file("agentchat.db", pages),
    "an emptied database": of_file("agentchat.db", lambda path, luck: os.truncate(path, 0)),
    "a lost database": of_file("agentchat.db", lambda path, luck: path.unlink()),
    "a foreign file": of_file("agentchat.db", lambda path, luck: path.write_bytes(luck.randbytes(10_000))),
}
LOG: dict[str, Damage] = {
    "a cut log": of_file("agentchat.db-wal", cut),
    "a lost log": of_file("agentchat.db-wal", lambda path, luck: path.unlink()),
    "noise in the log": of_file("agentchat.db-wal", piece),
    "a log of noise": of_file("agentchat.db-wal", lambda path, luck: path.write_bytes(luck.randbytes(100_000))),
    "a log with another beginning": of_file(
        "agentchat.db-wal", lambda path, luck: overwrite(path, luck.randrange(0, 8), luck.randbytes(24))
    ),
}
INDEX: dict[str, Damage] = {
    f"a search index: {name}": of_file("search.db", damage) for name, damage in INDEX_DAMAGES.items()
}
HARMLESS: dict[str, Damage] = {
    "no admin.key": of_file("admin.key", lambda path, luck: path.unlink()),
    "no link.key": of_file("link.key", lambda path, luck: path.unlink()),
    "a short admin.key": of_file("admin.key", lambda path, luck: os.truncate(path, luck.randrange(32))),
    "a short link.key": of_file("link.key", lambda path, luck: os.truncate(path, luck.randrange(32))),
    "noise in relay.json": of_file("relay.json", lambda path, luck: path.write_bytes(luck.randbytes(100))),
    "noise in the lock": of_file("lock", lambda path, luck: path.write_bytes(luck.randbytes(100))),
}
UNREADABLE: dict[str, Damage] = {
    f"noise in {name}": of_file(name, lambda path, luck: path.write_bytes(b"\xff" + luck.randbytes(64)))
    for name in ("admin.key", "link.key")
}
CONTENT: dict[str, Damage] = {
    "a lost content": content(lambda path, luck: path.unlink()),
    "a cut content": content(lambda path, luck: os.truncate(path, luck.randrange(path.stat().st_size))),
    "noise in a content": content(piece),
    "no directory of contents": of_file("blobs", lambda path, luck: shutil.rmtree(path)),
}
KINDS = {
    "database": DATABASE,
    "log": LOG,
    "index": INDEX,
    "harmless": HARMLESS,
    "secret": UNREADABLE,
    "content": CONTENT,
}


class Start(NamedTuple):
    what: str
    outcome: str
    complaints: list[str]


def start(origin: World, killed: World, path: Path, luck: random.Random) -> Start:
    """Something happens to a copy of one of the directories, and a relay is started on it."""
    kind = luck.choice([*KINDS])
    what = luck.choice([*KINDS[kind]])
    world = (killed if kind == "log" or (kind != "database" and luck.random() < 0.3) else origin).copied(path)
    KINDS[kind][what](world.path, luck)
    before = content_of(database := world.path / "agentchat.db")
    with served(world.path) as end:
        if end.url is None:
            complaints = [*refusal(kind, end.code, end.said)]
            if kind == "database" and before != content_of(database):
                complaints.append("it refused to start, and changed the database all the same")
            return told(what, "refused", complaints)
        with closing(Client(end.url, world.key, retries=0)) as client:
            complaints = [*JUDGES[kind](client, world, lambda: end.said), *writes(client)]
        if "Traceback" in end.said or "ends by a fault" in end.said:
            complaints.append(f"its log: {end.said[-300:]}")
    return told(what, "served", complaints)


def content_of(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def told(what: str, outcome: str, complaints: list[str]) -> Start:
    return Start(what, outcome, [f"{what}: {complaint}" for complaint in complaints])


def refusal(kind: str, code: int | None, said: str) -> Iterator[str]:
    if code is None or code <= 0:
        yield f"it ended with {code}"
    if len(said.splitlines()) != 1 or not said.startswith("Error ("):
        yield f"it said {said[-500:]!r}"
    if kind in ("database", "log") and ("admin restore" not in said or "agentchat.db" not in said):
        yield f"it did not say what to do: {said}"
    if kind in ("index", "harmless", "content"):
        yield f"it did not start: {said}"


Said = Callable[[], str]


def of_database(client: Client, world: World, said: Said) -> Iterator[str]:
    """The truth, or a refusal; and the log tells of that."""
    outcomes = [*reads(client, world)]
    yield from (outcome for outcome in outcomes if outcome not in (TRUE, REFUSED))
    if REFUSED in outcomes and "damaged" not in said():
        yield "its log tells nothing of the damage"


def of_log(client: Client, world: World, said: Said) -> Iterator[str]:
    """A beginning of the history, and it is told that there was more."""
    missing = 0
    for channel, texts in world.texts.items():
        try:
            found = contents(client, channel)
        except (errors.NotFound, errors.Unauthorized):  # the channel, or the agent, is among what is missing
            found = []
        if found != texts[: len(found)]:
            yield f"#{channel} is no beginning of what was stored"
        missing += len(texts) - len(found)
    if missing and OLDER not in said():
        yield f"{missing} messages are missing, and its log says nothing of it"


def of_index(client: Client, world: World, said: Said) -> Iterator[str]:
    yield from whole(client, world, said)
    for text in (text for texts in world.texts.values() for text in texts):
        if (found := hits(client, text)) != [text]:
            yield f"a search for {text[-10:]} finds {len(found)}"


def whole(client: Client, world: World, said: Said) -> Iterator[str]:
    yield from (outcome for outcome in reads(client, world) if outcome != TRUE)


def of_content(client: Client, world: World, said: Said) -> Iterator[str]:
    outcomes = [*reads(client, world)]
    yield from (outcome for outcome in outcomes if outcome not in (TRUE, REFUSED, GONE))
    if outcomes[: len(world.texts)] != [TRUE] * len(world.texts):
        yield "messages are missing"
    if {*outcomes} == {TRUE}:
        yield "a damaged content was given out"
    if "content" not in said():
        yield "its log tells nothing of the damage"


JUDGES = {
    "database": of_database, "log": of_log, "index": of_index, "harmless": whole, "secret": whole,
    "content": of_content,
}  # fmt: skip


def writes(client: Client) -> Iterator[str]:
    """What is acknowledged now is there."""
    try:
        id = client.send_message("general", "after the damage")["message"]["id"]
        if client.get_message(id)["message"]["content"] != "after the damage":
            yield "what was posted on it is another thing"
    except errors.Unauthorized:
        return  # its log was lost, and the key with it
    except errors.Unavailable as error:
        if "operator" not in error.message:
            yield f"a post was refused: {error.message}"
    except AgentChatError as error:
        yield f"a post failed: {error.code}"
