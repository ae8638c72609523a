"""The asynchronous executor: the same rules over any client with the contract's operations as methods."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, Unpack

from agentchat import text
from agentchat._operation import AsyncCaller
from agentchat.errors import AgentChatError

from . import vendors
from .execution import Call, Planned, Result, RuleOptions, Rules, batches

text.load()

_PARALLEL_READS = 32  # of one turn: with a sync client each takes a thread


class AsyncExecutor(Rules):
    """Runs a model's tool calls on an event loop.

    The client is an async one (`langchain_agentchat.AsyncClient`, or any object with async methods of the contract's
    names), or a sync one, which is then called in threads. There a cancelled call goes on until the relay answers, and
    holds nobody up. Options as of `Executor`; `others` may be async.
    """

    def __init__(self, client: Any, **options: Unpack[RuleOptions]) -> None:
        super().__init__(**options)
        self.client = client

    async def execute(self, name: str, arguments: object = None) -> Result:
        """Run one tool call. `arguments` is an object, or JSON text as some vendors send it."""
        return await self._run(Call(name, arguments))

    async def handle_openai_chat(self, response: Any) -> list[vendors.Message]:
        """As `Executor.handle_openai_chat`."""
        return await self._handle(vendors.OPENAI_CHAT, response)

    async def handle_openai_responses(self, response: Any) -> list[vendors.Message]:
        """As `Executor.handle_openai_responses`."""
        return await self._handle(vendors.OPENAI_RESPONSES, response)

    async def handle_anthropic(self, response: Any) -> list[vendors.Message]:
        """As `Executor.handle_anthropic`."""
        return await self._handle(vendors.ANTHROPIC, response)

    async def handle_gemini(self, response: Any) -> list[vendors.Message]:
        """As `Executor.handle_gemini`."""
        return await self._handle(vendors.GEMINI, response)

    async def _handle(self, vendor: vendors.Vendor, response: Any) -> list[vendors.Message]:
        calls = vendor.calls(response)
        return vendor.results(calls, await self._run_all(calls))

    async def _run_all(self, calls: Sequence[Call]) -> list[Result]:
        results: dict[int, Result] = {}
        room = asyncio.Semaphore(_PARALLEL_READS)

        async def run(call: Call) -> Result:
            async with room:
                return await self._run(call)

        for batch in batches(calls, self):
            done = await asyncio.gather(*(run(calls[position]) for position in batch))
            results.update(zip(batch, done, strict=True))
        return [results[position] for position in range(len(calls))]

    async def _run(self, call: Call) -> Result:
        planned = self.plan(call)
        if isinstance(planned, Result):
            return planned
        try:
            if not isinstance(planned, Planned):
                return Result(True, str(await _called(planned, {})))
            data = await _called(self.method(self.client, planned), planned.arguments, self.client)
            return self.done(planned, data)
        except AgentChatError as error:
            return self.failed(error)
        except Exception as error:
            if isinstance(planned, Planned):
                raise
            return self.broken(call.name, error)


async def _called(function: Callable[..., Any], arguments: dict[str, Any], client: object = None) -> Any:
    """Call an async function on the loop, any other one in a thread."""
    if isinstance(client, AsyncCaller) or inspect.iscoroutinefunction(function):
        return await function(**arguments)
    threaded = asyncio.to_thread if client is None else _in_daemon
    outcome = await threaded(function, **arguments)
    return await outcome if inspect.isawaitable(outcome) else outcome


async def _in_daemon(function: Callable[..., Any], **arguments: Any) -> Any:
    """As `asyncio.to_thread`, whose threads asyncio.run waits for: a wait for the relay takes up to ten minutes."""
    future, context = Future[Any](), copy_context()

    def run() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(context.run(function, **arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="agentchat-call", daemon=True).start()
    return await asyncio.wrap_future(future)
