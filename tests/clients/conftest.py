"""Clients of both colours for plain tests, so that each promise about them is written once."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentchat import Client, errors
from langchain_agentchat import AsyncClient
from tests.conftest import KEY
from tests.servers import answer, enveloped, message

BOARD = {"channels": []}
OK = answer(enveloped(BOARD))
SENT = answer(enveloped({"message": message()}))


class Driver:
    """A client whose operations are plain calls by name, whichever client it is."""

    def __init__(self, client: Any, run: Callable[[Any], Any]) -> None:
        self.client = client
        self.run = run

    def __call__(self, operation: str = "check_board", *args: Any, **arguments: Any) -> Any:
        return self.run(getattr(self.client, operation)(*args, **arguments))

    def fails(self, kind: type[errors.AgentChatError], operation: str = "check_board", *args: Any) -> Any:
        """The error of exactly this kind. Neither it nor what caused it shows the key."""
        with pytest.raises(kind) as caught:
            self(operation, *args)
        assert type(caught.value) is kind
        assert KEY not in "".join(traceback.format_exception(caught.value))
        return caught.value

    def with_options(self, **options: Any) -> Driver:
        return Driver(self.client.with_options(**options), self.run)

    def close(self) -> None:
        self.run(self.client.close())

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


Connect = Callable[..., Driver]


@pytest.fixture(params=[Client, AsyncClient])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes clients of either colour; they try once unless told otherwise."""
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(asyncio.Runner(loop_factory=asyncio.new_event_loop)).run

        def make(url: str, key: Any = KEY, **options: Any) -> Driver:
            client = request.param(url, key, **{"retries": 0, "timeout": 5.0, **options})
            driver = Driver(client, run if request.param is AsyncClient else lambda result: result)
            stack.callback(driver.close)
            return driver

        yield make
