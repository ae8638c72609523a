"""A store on the engine of this run, calls that wait for it together, and an eye on what is on disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from hashlib import sha256
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from agentchat.errors import BadRequest
from agentchat_relay.service import administration, agents, messages, upkeep
from agentchat_relay.service.call import Agent, Call
from agentchat_relay.store.seam import Lane, Store
from tests.relay import database

DEADLINE = 60.0
Function = Callable[[Any], Any]
Told = tuple[Any, BaseException | None]
REFUSAL = BadRequest("refused")


class Peek:
    """A store in a directory or a schema, an agent in it, and an eye on what is on disk."""

    def __init__(self, directory: Path | str, **options: Any) -> None:
        self.directory = directory
        self.store: Store = database.open_store("", str(directory), **options)
        self.store.ask(Lane.WRITE, upkeep.seed)
        key = self.store.ask(Lane.WRITE, lambda tx: administration.agent_token(tx, name="mac-store"))["key"]
        found = self.store.ask(Lane.READ, lambda tx: agents.with_key(tx, sha256(key.encode()).hexdigest()))
        self.agent: Agent = found[0]

    def close(self) -> None:
        self.store.close()

    def post(self, text: str, channel: str = "general", key: str | None = None) -> Function:
        call = Call(self.agent, key, sha256(text.encode()).digest()[:16] if key else None)
        return lambda tx: messages.send_message(tx, call, channel=channel, content=text)

    def ask(self, lane: Lane, call: Function) -> Any:
        return self.store.ask(lane, call)

    def on_disk(self, sql: str, *values: Any) -> list[Any]:
        """What another process would see."""
        return database.ask(self.directory, sql, *values)

    def contents(self, channel: str = "general") -> list[str]:
        sql = "SELECT content FROM messages WHERE channel_id = (SELECT id FROM channels WHERE name = ?) ORDER BY id"
        return [row[0] for row in self.on_disk(sql, channel)]

    def spaces(self) -> set[str]:
        return {row[0] for row in self.on_disk("SELECT name FROM spaces")}

    def check_numbers(self) -> None:
        """Nothing that was refused has left a hole."""
        for channel, number, chats in self.on_disk("SELECT id, number, chats FROM channels"):
            sql = "SELECT number, chats, created_at, kind FROM messages WHERE channel_id = ? ORDER BY id"
            rows = self.on_disk(sql, channel)
            counted = list(accumulate(int(row[3] != "status") for row in rows))
            assert [row[0] for row in rows] == list(range(1, number + 1))
            assert [row[1] for row in rows] == counted
            assert chats == (counted or [0])[-1]
            assert all(one[2] < other[2] for one, other in pairwise(rows))
        for space, position in self.on_disk("SELECT id, position FROM spaces"):
            positions = self.on_disk("SELECT position FROM events WHERE space_id = ? ORDER BY position", space)
            assert [row[0] for row in positions] == list(range(1, position + 1))

    def together(self, *calls: tuple[Lane, Function]) -> list[Told]:
        """The outcomes of calls that wait for the writer at the same time."""
        gate, busy, over = threading.Event(), threading.Event(), threading.Semaphore(0)
        told: dict[int, Told] = {}

        def block(tx: Any) -> None:
            busy.set()
            gate.wait(DEADLINE)

        def listener(number: int) -> Callable[[Any, BaseException | None], None]:
            def done(result: Any, error: BaseException | None) -> None:
                assert number not in told, "told twice"
                told[number] = result, error
                over.release()

            return done

        self.store.submit(Lane.WRITE, block, lambda result, error: None)
        assert busy.wait(DEADLINE)
        for number, (lane, call) in enumerate(calls):
            self.store.submit(lane, call, listener(number))
        gate.set()
        for _ in calls:
            assert over.acquire(timeout=DEADLINE)
        return [told[number] for number in range(len(calls))]


def space(name: str) -> Function:
    return lambda tx: tx.run("insert_space", name=name, created_at=tx.now)


def then(first: Function, error: Exception) -> Function:
    """A call that has written something when it fails."""

    def call(tx: Any) -> None:
        first(tx)
        raise error

    return call


def failing(error: Exception) -> Function:
    def call(tx: Any) -> None:
        raise error

    return call


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("agentchat-")]
