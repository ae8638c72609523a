"""What the tests of the handler share: a model with a script, ways of driving a run, and the channel it posts to.

Everything a run reads, says, raises or asks holds `SECRET`, so that one look at the relay tells whether any of it got
there. Needs langchain-core only.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from agentchat import Client
from agentchat.errors import NotFound
from agentchat_relay.embedded import Embedded
from langchain_agentchat import AgentChatCallbackHandler
from langchain_agentchat.poster import Poster
from tests.langchain_agentchat.conftest import Front, fresh, tool_call
from tests.servers import Peer, Scripted, Seen

SECRET = "zq7secret"
PATIENCE = 20.0  # for what should happen at once
MESSAGES = "/api/v2/messages"
_calls = itertools.count(1)
_DURATION = re.compile(r"\b(\d+ h \d+ min|\d+ min \d+ s|\d+(\.\d)? s)")
_FACTS = {"run_id", "name", "state", "seconds", "tool_calls", "failed", "reason", "waits_for"}


def secret(what: str) -> str:
    """A text that must not reach the relay."""
    return f"{SECRET}-{what}"


def question() -> dict[str, Any]:
    """An input for an agent."""
    return {"messages": [HumanMessage(secret("question"))]}


def calls(*asked: Any) -> AIMessage:
    """A model's turn that calls tools: names, or pairs of a name and its arguments."""
    pairs = [(each, {}) if isinstance(each, str) else each for each in asked]
    turn = [tool_call(name, arguments, id=f"call_{next(_calls)}") for name, arguments in pairs]
    return AIMessage(secret("thought"), tool_calls=turn)


class Model(BaseChatModel):
    """Says one line per turn; which one follows from the conversation, so that runs can be resumed or be parallel.

    A line may be an exception, which is raised. Before each, `between` is called.
    """

    lines: list[Any]
    between: Any = None

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        if self.between is not None:
            self.between()
        said = sum(isinstance(each, AIMessage) for each in messages)
        line = self.lines[said] if said < len(self.lines) else AIMessage(secret("answer"))
        if isinstance(line, BaseException):
            raise line
        return ChatResult(generations=[ChatGeneration(message=line.model_copy())])


class Board:
    """A channel of its own on a real relay, the handlers that post to it, and what a reader finds there."""

    def __init__(self, relay: Embedded) -> None:
        self.relay = relay
        self.channel = fresh("status")
        self.author = fresh("worker")
        self.key = relay.token(self.author)
        self.open = False
        self.writers: list[Any] = []  # what has `flush` and `close`
        self._clients: list[Client] = []

    def client(self, url: str | None = None, **options: Any) -> Client:
        client = Client(url or self.relay.url, self.key, agent=self.author, **{"retries": 0, **options})
        self._clients.append(client)
        return client

    def handler(self, client: Any = None, **options: Any) -> AgentChatCallbackHandler:
        made = AgentChatCallbackHandler(client or self.client(), self.channel, **options)
        self.writers.append(made)
        return made

    def poster(self, client: Any = None, *, url: str | None = None, **options: Any) -> Poster:
        """What is behind a handler."""
        standard = {"redact": None, "max_pending": 1000, "drain_seconds": 2.0}
        made = Poster(client or self.client(url), self.channel, **{**standard, **options})
        self.writers.append(made)
        return made

    def flush(self) -> None:
        """Wait until everything told so far is on the relay."""
        for each in self.writers:
            assert each.flush(PATIENCE), "the statuses were not posted"

    def posts(self) -> list[dict[str, Any]]:
        """All posts, oldest first. None of them is anything but a status."""
        self.flush()
        return self.found()

    def found(self) -> list[dict[str, Any]]:
        """The posts that have arrived by now."""
        with Client(self.relay.url, self.key) as reader:
            try:
                found = reader.read_messages(self.channel, limit=200, include_status=True)["messages"]
            except NotFound:  # nobody posted yet
                return []
        for post in found:
            assert post["kind"] == "status"
            assert post["author_name"] == self.author
            assert set(post["metadata"]) <= {"agentchat_status", "project"}
            assert set(post["metadata"]["agentchat_status"]) <= _FACTS
        return [dict(post) for post in sorted(found, key=lambda post: post["created_at"])]

    def stories(self) -> list[list[str]]:
        """The texts of each first post with its replies, oldest first, without the digits of durations."""
        told: dict[str, list[str]] = {}
        for post in self.posts():
            first = post["parent_message_id"]
            text = timeless(post["content"])
            if first is None:
                told[post["id"]] = [text]
            else:
                told[first].append(text)  # a reply to anything but a first post is an error
        return list(told.values())

    def story(self) -> list[str]:
        """The only story there is."""
        stories = self.stories()
        assert len(stories) == 1, stories
        return stories[0]

    @property
    def silent(self) -> bool:
        """Neither texts nor metadata hold anything that was said."""
        return SECRET not in json.dumps(self.found())

    def close(self) -> None:
        for each in (*self.writers, *self._clients):
            each.close()


@pytest.fixture
def board(live: Embedded) -> Iterator[Board]:
    """A board that nothing that was said may reach, unless the test calls it `open`."""
    made = Board(live)
    yield made
    made.close()
    assert made.open or made.silent


def environ() -> dict[str, str]:
    """For a process that imports what this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def timeless(text: str) -> str:
    return _DURATION.sub("T", text)


# Relays that take their time


class _HangUp(Exception):
    """The caller loses the connection instead of getting an answer."""


class Gate(Front):
    """A front that keeps the answers to posts back while it is closed, and loses the next few."""

    def __init__(self, url: str) -> None:
        self.opened = threading.Event()
        self.opened.set()
        self.holds = b""  # only posts that contain this
        self.losses = 0
        super().__init__(url)
        self.spoil = self._fate

    def _pass_on(self, peer: Peer) -> None:
        with suppress(_HangUp):
            super()._pass_on(peer)

    def _fate(self, seen: Seen) -> None:
        if (seen.method, seen.path) != ("POST", MESSAGES) or self.holds not in seen.body:
            return
        self.opened.wait(PATIENCE)
        if self.losses:
            self.losses -= 1
            raise _HangUp

    def keys(self) -> list[str]:
        """The idempotency keys of the posts that were tried so far."""
        return [seen.headers["idempotency-key"] for seen in self.seen if seen.path == MESSAGES]


@pytest.fixture
def gate(live: Embedded) -> Iterator[Gate]:
    with Gate(live.url) as made:
        yield made
        made.opened.set()


@pytest.fixture
def hanging() -> Iterator[Scripted]:
    """A server that reads and never answers."""
    end = threading.Event()

    def handle(peer: Peer) -> None:
        if peer.read() is not None:
            end.wait(PATIENCE * 3)

    with Scripted(handle) as server:
        yield server
        end.set()


# Ways of driving a run to its end


def _invoke(run: Any, given: Any, config: Any, **more: Any) -> Any:
    return run.invoke(given, config, **more)


def _ainvoke(run: Any, given: Any, config: Any, **more: Any) -> Any:
    return asyncio.run(run.ainvoke(given, config, **more))


def _stream(run: Any, given: Any, config: Any, **more: Any) -> Any:
    return list(run.stream(given, config, **more))


def _astream(run: Any, given: Any, config: Any, **more: Any) -> Any:
    async def collect() -> list[Any]:
        return [chunk async for chunk in run.astream(given, config, **more)]

    return asyncio.run(collect())


def _astream_events(run: Any, given: Any, config: Any, **more: Any) -> Any:
    async def collect() -> list[Any]:
        return [event async for event in run.astream_events(given, config, version="v2", **more)]

    return asyncio.run(collect())


Drive = Callable[..., Any]
DRIVES: dict[str, Drive] = {
    "invoke": _invoke,
    "ainvoke": _ainvoke,
    "stream": _stream,
    "astream": _astream,
    "astream_events": _astream_events,
}


@pytest.fixture(params=sorted(DRIVES))
def drive(request: pytest.FixtureRequest) -> Drive:
    return DRIVES[request.param]


@pytest.fixture(params=["ainvoke", "stream"])
def either(request: pytest.FixtureRequest) -> Drive:
    """One of each colour, where the others add nothing."""
    return DRIVES[request.param]
