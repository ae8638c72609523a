"""A server for `relay.py`, in a process of its own: `python bench/_relay.py VARIANT DIRECTORY [--store URL]`.
Prints its port.

    raw      uvicorn and nothing else: reads and parses the same body, answers the same bytes
    no-op    our relay, but what a send does is answered with a constant, right on the loop
    relay    our relay
    normal   our relay, which does not wait for the disk (synchronous=NORMAL)
    purging  our relay, which deletes every message after two seconds
    stepping uvicorn and an application that sends whatever is posted to it to everybody who reads, one after another;
             or writes it into a SQLite of its own, on disk before it answers

All of them run on the same loop and memory settings; raw and stepping are uvicorn as it comes, the others run on the
relay's own server.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import uvicorn

from agentchat_relay import chores
from agentchat_relay.directory import Directory
from agentchat_relay.http.app import Handler, routes
from agentchat_relay.http.parts import Parts
from agentchat_relay.http.reply import enveloped
from agentchat_relay.http.request import Receive, Scope, Send
from agentchat_relay.process import listen, new_runner, settle
from agentchat_relay.relay import serve
from agentchat_relay.service import retention
from agentchat_relay.service.operations import SERVICES
from agentchat_relay.settings import Settings
from agentchat_relay.store.seam import Call, Done, Lane, Store

UNLIMITED = Settings(agent_reads=0, agent_writes=0, all_reads=0, all_writes=0)
MESSAGE = {
    "id": "0198f2c0-0000-7000-8000-000000000001",
    "channel_id": "0198f2c0-0000-7000-8000-000000000002",
    "channel_name": "project-1",
    "author_agent_id": "0198f2c0-0000-7000-8000-000000000003",
    "author_name": "bench-1",
    "agents": {"id": "0198f2c0-0000-7000-8000-000000000003", "name": "bench-1"},
    "author_display": None,
    "content": "a message of a usual length, " * 8,
    "metadata": {"project": "bench"},
    "parent_message_id": None,
    "kind": "chat",
    "created_at": "2026-11-20T10:00:00.000000+00:00",
    "updated_at": None,
    "pinned": False,
}
SENT = {"message": msgspec.Raw(msgspec.json.encode(MESSAGE)), "unmatched_mentions": []}


def constant(tx: Any, call: Any, **arguments: Any) -> Any:
    return SENT


class OnTheLoop:
    """A store whose APPEND calls are answered at once by whoever submits them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def submit(self, lane: Lane, call: Call, done: Done) -> None:
        if lane == Lane.APPEND:
            done(call(self), None)  # of a transaction it is asked the epoch only
        else:
            self._store.submit(lane, call, done)


def constant_routes(parts: Parts) -> dict[tuple[str, str], Handler]:
    parts.store = OnTheLoop(parts.store)
    return routes(parts, {**SERVICES, "send_message": SERVICES["send_message"]._replace(service=constant)})


ANSWER = enveloped(SENT).body
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))],
}
_decode = msgspec.json.Decoder().decode


async def raw(scope: Scope, receive: Receive, send: Send) -> None:
    message = await receive()
    body = message["body"]
    while message["more_body"]:
        message = await receive()
        body += message["body"]
    _decode(body)
    await send(START)
    await send({"type": "http.response.body", "body": ANSWER})


_STREAM = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}


class Stepping:
    """What is posted to /step goes out to all, to /append on disk. Other paths are a bare round trip."""

    def __init__(self, directory: str) -> None:
        self._readers: dict[int, Send] = {}
        self._writer = ThreadPoolExecutor(1)  # while it waits for the disk, others are served
        self._rows = sqlite3.connect(
            os.path.join(directory, "rows.db"), isolation_level=None, check_same_thread=False
        )  # fmt: skip
        self._rows.execute("PRAGMA journal_mode = WAL")
        self._rows.execute("PRAGMA synchronous = FULL")
        self._rows.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, content TEXT)")
        # A log that was long once is written again from its beginning, as a relay's is: to grow would cost more.
        self._rows.execute("INSERT INTO rows (content) VALUES (randomblob(8000000))")
        self._rows.execute("PRAGMA wal_checkpoint(RESTART)")

    def _append(self, text: str) -> None:
        self._rows.execute("INSERT INTO rows (content) VALUES (?)", (text,))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive())["body"]
        if scope["method"] == "POST":
            if scope["path"] == "/step":
                block = {"type": "http.response.body", "body": body, "more_body": True}
                for each in [*self._readers.values()]:
                    await each(block)
            elif scope["path"] == "/append":
                await asyncio.get_running_loop().run_in_executor(self._writer, self._append, body.decode())
            await send(START)
            await send({"type": "http.response.body", "body": ANSWER})
            return
        await send(_STREAM)
        await send({"type": "http.response.body", "body": b"id: 0\n\n", "more_body": True})
        self._readers[id(send)] = send
        try:
            await receive()  # until they hang up
        finally:
            del self._readers[id(send)]


BARE: dict[str, Callable[[str], Any]] = {"raw": lambda directory: raw, "stepping": Stepping}


class _Raw(uvicorn.Server):
    """uvicorn as it comes, which says when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[..., None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready()


def purging_routes(parts: Parts) -> dict[tuple[str, str], Handler]:
    """Days last two seconds here, and what is to be done in a minute is done all the time."""
    retention.DAY = 2_000_000
    chores._AT_FIRST = chores._BETWEEN = 0.02
    parts.store.submit(Lane.WRITE, lambda tx: tx.run("keep_space", retention=1, id=1), lambda result, error: None)
    return routes(parts)


VARIANTS: dict[str, dict[str, Any]] = {
    "no-op": {"make_routes": constant_routes},
    "purging": {"make_routes": purging_routes},
    "relay": {},
    "normal": {"synchronous": "NORMAL"},
}


async def served(variant: str, path: str, store: str, listener: socket.socket, ready: Callable[..., None]) -> None:
    if (bare := BARE.get(variant)) is not None:
        config = uvicorn.Config(
            bare(path), http="httptools", lifespan="off", access_log=False, log_config=None, timeout_keep_alive=75
        )  # fmt: skip
        await _Raw(config, ready).serve(sockets=[listener])
        return
    directory = Directory(path)
    directory.hold("a bench")
    await serve(directory, UNLIMITED._replace(store=store), listener, ready, **VARIANTS[variant])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=[*BARE, *VARIANTS])
    parser.add_argument("directory")
    parser.add_argument("--store", default="", help="URL of a Postgres; else SQLite in the directory")
    options = parser.parse_args()
    listener = listen("127.0.0.1", 0)

    def ready(*_: object) -> None:
        print(listener.getsockname()[1], flush=True)

    settle()
    with new_runner() as runner:
        runner.run(served(options.variant, options.directory, options.store, listener, ready))


if __name__ == "__main__":
    main()
