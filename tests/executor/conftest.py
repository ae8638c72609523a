"""Executors of both colours for plain tests, so that each promise about them is written once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentchat.client import Client
from agentchat_executor import AsyncExecutor, Executor, Result
from langchain_agentchat import AsyncClient
from tests.conftest import KEY
from tests.servers import FakeRelay


class Driven:
    """An executor and the way to run it."""

    def __init__(self, executor: Any, run: Callable[[Any], Any]) -> None:
        self.executor = executor
        self._run = run

    def execute(self, name: str, arguments: object = None) -> Result:
        result = self._run(self.executor.execute(name, arguments))
        assert isinstance(result, Result)
        return result

    def turn(self, *calls: tuple[str, Any], response_id: str | None = "r1", ids: str | None = "c") -> list[str]:
        """The texts that answer one response with these calls."""
        asked = [
            {"id": f"{ids}{number}" if ids else None, "function": {"name": name, "arguments": arguments}}
            for number, (name, arguments) in enumerate(calls)
        ]
        response = {"id": response_id, "choices": [{"message": {"tool_calls": asked}}]}
        return [reply["content"] for reply in self._run(self.executor.handle_openai_chat(response))]


class Either:
    """Executors of one colour, each with a client of the same colour."""

    def __init__(self, asynchronous: bool, url: str, runner: asyncio.Runner) -> None:
        self.asynchronous = asynchronous
        self.url = url
        self.run: Callable[[Any], Any] = runner.run if asynchronous else lambda result: result
        self.opened: list[Any] = []

    def client(self, url: str | None = None, **options: Any) -> Any:
        kind = AsyncClient if self.asynchronous else Client
        self.opened.append(kind(url or self.url, KEY, **{"retries": 0, **options}))
        return self.opened[-1]

    def executor(self, client: Any = None, **rules: Any) -> Driven:
        kind = AsyncExecutor if self.asynchronous else Executor
        return Driven(kind(client or self.client(), **rules), self.run)

    def close(self) -> None:
        for client in self.opened:
            self.run(client.close())


@pytest.fixture(params=["sync", "async"])
def either(request: pytest.FixtureRequest, relay: FakeRelay) -> Iterator[Either]:
    with asyncio.Runner() as runner:
        made = Either(request.param == "async", relay.url, runner)
        yield made
        made.close()
