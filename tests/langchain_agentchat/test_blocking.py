"""Nothing of ours blocks an event loop: blockbuster watches async runs with the handler and the tools."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from blockbuster import BlockingError, blockbuster_ctx
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

from agentchat import Client
from langchain_agentchat import AgentChatCallbackHandler, AgentChatToolkit, AsyncClient
from tests.langchain_agentchat import scripted
from tests.langchain_agentchat.conftest import Scene, closing, until
from tests.langchain_agentchat.scripted import SECRET, Board, Gate, Model, calls, question, secret
from tests.servers import Scripted

pytestmark = pytest.mark.agents
board, gate, hanging = scripted.board, scripted.gate, scripted.hanging  # fixtures


@pytest.fixture(autouse=True)
def _nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A blocking call in a handler raises, is caught and logged: by us, or by LangChain."""
    yield
    assert not [record.getMessage() for record in caplog.get_records("call") if record.levelname != "DEBUG"]


def watched(work: Callable[[], Awaitable[Any]]) -> Any:
    """Run on a loop where every blocking call raises."""

    async def main() -> Any:
        with blockbuster_ctx():
            return await work()

    return asyncio.run(main())


def agent(lines: list[Any], *tools: Any, **options: Any) -> Any:
    return create_agent(Model(lines=lines), list(tools), name="worker", **options)


@tool
async def add(a: int = 1) -> str:
    """Add."""
    await asyncio.sleep(0)
    return secret("sum")


@tool
async def ask() -> str:
    """Ask a human."""
    return str(interrupt(secret("question")))


def test_the_watchdog_barks(caplog: pytest.LogCaptureFixture):
    """A handler that sleeps on the loop is found."""
    found: list[BaseException] = []

    class Slow(BaseCallbackHandler):
        run_inline = True

        def on_chain_start(self, *args: Any, **event: Any) -> None:
            try:
                time.sleep(0.001)
            except BlockingError as error:
                found.append(error)

    watched(lambda: agent([], add).ainvoke(question(), {"callbacks": [Slow()]}))
    assert found


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_the_handler(board: Board, kind: Any):
    client = kind(board.relay.url, board.key)
    handler = board.handler(client)
    run = agent([calls("add", "add"), calls("add")], add)

    async def work() -> None:
        for _ in range(3):
            await run.ainvoke(question(), {"callbacks": [handler]})
        assert [chunk async for chunk in run.astream(question(), {"callbacks": [handler]})]

    watched(work)
    assert [story[-1] for story in board.stories()] == ["worker: done in T, 3 tool calls (add x3)"] * 4
    asyncio.run(closing(client))


def test_many_runs_at_once(board: Board):
    handler = board.handler()
    run = agent([calls("add")], add)
    watched(lambda: asyncio.gather(*(run.ainvoke(question(), {"callbacks": [handler]}) for _ in range(20))))
    assert [story[-1] for story in board.stories()] == ["worker: done in T, 1 tool call (add)"] * 20


def test_waiting_and_resuming(board: Board):
    run = agent([calls("ask")], ask, checkpointer=InMemorySaver())
    config = {"callbacks": [board.handler()], "configurable": {"thread_id": "one"}}

    async def work() -> None:
        await run.ainvoke(question(), config)
        await run.ainvoke(Command(resume=secret("answer")), config)

    watched(work)
    assert board.story()[-1] == "worker: done in T, 1 tool call (ask)"


def test_content(board: Board):
    """Redaction may take its time: it runs elsewhere."""
    board.open = True

    def redact(text: str) -> str:
        time.sleep(0.001)
        return text.replace(SECRET, "")

    handler = board.handler(include=["inputs", "outputs"], redact=redact)
    watched(lambda: agent([], add).ainvoke(question(), {"callbacks": [handler]}))
    assert board.story()[-1].endswith("outputs: -answer")
    assert board.silent


def test_a_relay_that_hangs(hanging: Scripted, board: Board, caplog: pytest.LogCaptureFixture):
    handler = AgentChatCallbackHandler(board.client(hanging.url), board.channel, max_pending=2, drain_seconds=0.1)
    run = agent([calls("add")], add)

    async def work() -> None:
        for _ in range(5):
            await run.ainvoke(question(), {"callbacks": [handler]})

    watched(work)
    assert handler.stats.posted == 0
    assert handler.stats.merged >= 2
    handler.close()
    assert "were not posted in time" in caplog.text
    caplog.clear()


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_the_tools_of_either_client(scene: Scene, board: Board, kind: Any):
    """A sync client's tools use its asynchronous twin."""
    client = scene.client(kind)
    toolkit = AgentChatToolkit(client, preset="all")
    given = scene.all_arguments()
    lines = [calls((f"agentchat_{name}", given[name])) for name in given]
    handler = board.handler()

    async def work() -> Any:
        result = await agent(lines, *toolkit.get_tools()).ainvoke(
            question(), {"callbacks": [handler], "recursion_limit": 3 * len(given)}
        )
        await closing(client)
        return result

    answered = [message for message in watched(work)["messages"] if message.type == "tool"]
    assert len(answered) == len(given)
    assert [message.content for message in answered if message.status == "error"] == []
    assert board.story()[-1] == "worker: done in T"


def test_a_tool_that_waits_for_a_slow_relay_lets_others_work(scene: Scene, gate: Gate):
    """While a send waits for its answer, the loop goes on."""
    gate.opened.clear()

    async def work() -> Any:
        async with AsyncClient(gate.url, scene.key, retries=0) as client:
            tools = AgentChatToolkit(client).get_tools()
            send = ("agentchat_send_message", {"channel": scene.channel, "content": secret("slow")})
            running = asyncio.create_task(agent([calls(send)], *tools).ainvoke(question()))
            await asyncio.to_thread(until, gate.keys)
            assert not running.done()
            gate.opened.set()
            return await running

    assert watched(work)["messages"][-2].status == "success"
    assert scene.stored() == [secret("slow")]
