"""A relay's directory with as many messages as wanted, made by the service itself, in the lane that sends go through.

What a team of agents leaves behind: 100 agents, 1,000 channels of which an agent is in 200, half of all messages in the
50 busiest. Texts of some 37 words with a mention in every third, replies, status posts, direct messages, a few files;
now and then everybody acknowledges what waits and marks some channels as read.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import re
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

import _load
from agentchat._exchange import new_idempotency_key
from agentchat_relay.blobs.directory import DirectoryBlobs
from agentchat_relay.blobs.seam import Blobs
from agentchat_relay.directory import Directory
from agentchat_relay.service import (
    administration,
    agents,
    channels,
    files,
    mail,
    mentions,
    messages,
    read_state,
    upkeep,
)
from agentchat_relay.service.call import Agent, Call
from agentchat_relay.settings import Loops
from agentchat_relay.store.seam import Lane
from agentchat_relay.store.sqlite.engine import Sqlite
from relay import indexed

GROUP, GROUPS_AHEAD = 64, 4
BLOCKS = 100  # of messages; people read after each
STILL_OPEN = 20  # mentions of an agent that wait
MARKED = 10  # channels an agent marks as read after a block
FILES = 10
LONG = 100_000
# Words that the prose does not have, and how many messages in a hundred hold them. The rare one is in RARE of all.
COMMON, SECOND, SOME, RARE_WORD, RARE = "deploy", "pipeline", "rollback", "zeppelin", 20
SHARES = {COMMON: 97, SECOND: 90, SOME: 7}
WORDS = _load.WORDS_OF_A_TEXT - 2

Function = Callable[[Any], Any]


class Team(NamedTuple):
    agents: int = 100
    busy: int = 50  # channels everybody is in
    channels: int = 1000
    joined: int = 200  # by each agent


SMALL = Team(agents=20, busy=5, channels=60, joined=15)


class Author:
    """Calls as a team makes them, one after the other, for ever."""

    def __init__(self, people: list[Agent], names: list[str], joined: list[list[int]], busy: int, seed: int) -> None:
        from pydoc_data.topics import topics

        self._people, self._names, self._joined, self._busy = people, names, joined, busy
        self._prose = re.findall(r"[A-Za-z][A-Za-z'-]*[a-z]", " ".join(topics.values()))
        self._chance = random.Random(seed)
        self._recent: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=20))
        self.rare_every = 0

    def calls(self) -> Iterator[Function]:
        for number in itertools.count(1):
            rare = bool(self.rare_every) and number % self.rare_every == 0
            yield self._direct() if number % 20 == 0 and not rare else self._post(number, rare)

    def _text(self, number: int, rare: bool) -> str:
        chance = self._chance
        start = chance.randrange(len(self._prose) - WORDS)
        text = self._prose[start : start + WORDS]
        text += [word for word, share in SHARES.items() if chance.randrange(100) < share]
        if number % _load.ONE_IN_MENTIONS == 0:
            text[chance.randrange(WORDS)] = f"@{chance.choice(self._people).name}"
        if number % 4 == 0:
            text[chance.randrange(WORDS)] = f"{chance.getrandbits(28):07x}"  # a commit, say
        if rare:
            text[0] = RARE_WORD
        return " ".join(text)

    def _post(self, number: int, rare: bool) -> Function:
        chance = self._chance
        who = chance.randrange(len(self._people))
        mine = self._joined[who]
        busy = rare or chance.randrange(2)
        place = chance.randrange(self._busy) if busy else mine[chance.randrange(self._busy, len(mine))]
        channel, text = self._names[place], self._text(number, rare)
        recent = self._recent[channel]
        parent = chance.choice(recent) if recent and chance.randrange(100) < 15 else None
        kind = "status" if chance.randrange(20) == 0 and not rare else "chat"
        call = self._call(self._people[who])

        def post(tx: Any) -> Any:
            metadata = {"project": "bench"}
            sent = messages.send_message(
                tx, call, channel=channel, content=text, parent_message_id=parent, metadata=metadata, kind=kind
            )
            if number % 5 == 0 and kind == "chat":
                recent.append(msgspec.json.decode(msgspec.json.encode(sent["message"]))["id"])
            return sent

        return post

    def _call(self, author: Any) -> Call:
        """What a team says in months is said here in minutes, which no loop guard would let pass."""
        return Call(author, new_idempotency_key(), os.urandom(16), loops=Loops(0, 0, 0))

    def _direct(self) -> Function:
        author, target = self._chance.sample(self._people, 2)
        call, text = self._call(author), self._text(1, False)
        return lambda tx: mail.send_direct_message(tx, call, target_agent=target.name, content=text)


class Made:
    """A directory of ours, open."""

    def __init__(self, path: str) -> None:
        self.path = path
        described = json.loads(Path(path, "people.json").read_text())
        self.people: _load.People = {"keys": described["keys"], "channels": described["channels"]}
        self.names: list[str] = described["all_channels"]
        self.joined: list[list[int]] = described["joined"]
        self.busy = len(self.people["channels"])
        self._directory = Directory(path)
        self._directory.hold("a bench")
        self.store = Sqlite(path)
        keys = self.people["keys"].values()
        self.agents: list[Agent] = self.store.ask(Lane.READ, lambda tx: [_agent(tx, key) for key in keys])

    def author(self, seed: int) -> Author:
        return Author(self.agents, self.names, self.joined, self.busy, seed)

    def close(self) -> None:
        self.store.close()
        self._directory.release()


def _agent(tx: Any, key: str) -> Agent:
    found = agents.with_key(tx, hashlib.sha256(key.encode()).hexdigest())
    assert found is not None
    return found[0]


def build(path: str, size: int, team: Team) -> None:
    """Make a directory of `size` messages. One that was not finished is not taken for one."""
    begun = path + ".part"
    with ExitStack() as stack:
        directory = Directory(begun)
        directory.hold("a bench")
        stack.callback(directory.release)
        DirectoryBlobs(os.path.join(begun, "blobs")).close()  # as a relay does when it starts
        store = Sqlite(begun)
        stack.callback(store.close)
        store.ask(Lane.WRITE, upkeep.seed)
        described = store.ask(Lane.WRITE, lambda tx: _found(tx, team))
        Path(begun, "people.json").write_text(json.dumps(described))
    made = Made(begun)
    try:
        _live(made, size)
    finally:
        made.close()
    os.rename(begun, path)


def _found(tx: Any, team: Team) -> dict[str, Any]:
    """Everybody and every channel, before the first message."""
    chance = random.Random(1)
    names = [f"project-{number}" for number in range(team.channels)]
    keys = {f"bench-{n}": administration.agent_token(tx, name=f"bench-{n}")["key"] for n in range(team.agents)}
    people = [_agent(tx, key) for key in keys.values()]
    places = [channels.create(tx, people[0].space_id, name, by=None) for name in names]
    joined = []
    for agent in people:
        mine = [*range(team.busy), *chance.sample(range(team.busy, team.channels), team.joined - team.busy)]
        for number in mine:
            channels.join(tx, agent.id, places[number])
        joined.append(mine)
    return {"keys": keys, "channels": names[: team.busy], "all_channels": names, "joined": joined}


def _live(made: Made, size: int) -> None:
    author = made.author(size)
    author.rare_every = max(size // RARE, 1)
    calls, chance, began = author.calls(), random.Random(2), time.monotonic()
    block = max(size // BLOCKS, 100)
    for sent in range(0, size, block):
        send(made.store, calls, min(block, size - sent))
        for who, agent in enumerate(made.agents):
            _catch_up(made, agent, chance.sample(made.joined[who], MARKED))
        _progress(size, sent + block, began)
    blobs = DirectoryBlobs(os.path.join(made.path, "blobs"))
    for number in range(FILES if size else 0):
        _upload(made, blobs, number)
    blobs.close()
    indexed(made.store)


def _progress(size: int, sent: int, began: float) -> None:
    """A line that moves; or, in a file, ten lines for what takes long."""
    moves = sys.stderr.isatty()
    if moves or (size >= LONG and sent % (size // 10) == 0):
        line = f"{size} messages: {min(sent, size)} made after {time.monotonic() - began:.0f} s"
        print(line, end="\r" if moves and sent < size else "\n", file=sys.stderr, flush=True)


def send(store: Sqlite, calls: Iterator[Function], count: int) -> None:
    """Send so many, always with a few groups ahead."""
    room = threading.Semaphore(GROUP * GROUPS_AHEAD)
    failures: list[BaseException] = []

    def done(result: Any, error: BaseException | None) -> None:
        if error is not None:
            failures.append(error)
        room.release()

    for call in itertools.islice(calls, count):
        room.acquire()
        store.submit(Lane.APPEND, call, done)
    for _ in range(GROUP * GROUPS_AHEAD):
        room.acquire()
    if failures:
        raise failures[0]


def _catch_up(made: Made, agent: Agent, marked: list[int]) -> None:
    """Acknowledge what waits, but for the newest; mark some channels as read."""

    def run(tx: Any) -> None:
        call = Call(agent)
        while len(found := mentions.check_mentions(tx, call, limit=100)["mentions"]) > STILL_OPEN:
            mentions.mark_mentions_read(tx, call, mention_ids=[row["mention_id"] for row in found[STILL_OPEN:]])
        for number in marked:
            read_state.mark_channel_read(tx, call, channel=made.names[number])

    made.store.ask(Lane.WRITE, run)


def _upload(made: Made, blobs: Blobs, number: int) -> None:
    agent = made.agents[number % len(made.agents)]
    with blobs.writer(agent.space_id) as writer:
        writer.write(b"%d\n" % number * 1000)
        content = files.Content(writer.finish(), writer.size, "text/plain")
    call = Call(agent, new_idempotency_key(), os.urandom(16))
    made.store.ask(
        Lane.WRITE,
        lambda tx: files.upload_file(tx, call, channel=made.names[number], filename=f"{number}.txt", content=content),
    )
    writer.hold.release()
