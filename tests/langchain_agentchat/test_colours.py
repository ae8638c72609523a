"""Who calls synchronously gets a sync client, a coroutine an async one, whichever the tools were made with."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockingError, blockbuster_ctx
from langchain_core.callbacks import CallbackManagerForToolRun
from langchain_core.tools import ToolException

from agentchat import Client, errors
from agentchat._exchange import Request, Response
from agentchat._transport import StdlibTransport
from agentchat.contract import OPERATIONS
from langchain_agentchat import AgentChatToolkit, AsyncClient
from langchain_agentchat.colours import async_client, is_async, sync_client
from langchain_agentchat.tools import CheckBoardTool, SendMessageTool
from tests.conftest import KEY
from tests.langchain_agentchat.conftest import Scene, closing, says, tool_call, until
from tests.servers import FakeRelay, Scripted, answer, refusing, replies

ROOT = Path(__file__).resolve().parents[2]
POST = {"channel": "general", "content": "hello"}
SHOWN = "1 channel."


def open_connections(server: Scripted) -> int:
    """A server's thread lives as long as its connection."""
    return sum(thread.is_alive() for thread in server._threads)


# The twin


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_both_ways_of_calling_work_with_either_client(scene: Scene, kind: Any):
    client = scene.client(kind)
    tool = SendMessageTool(client)

    async def awaited() -> str:
        text = await tool.ainvoke({"channel": scene.channel, "content": "two"})
        await closing(client)
        return str(text)

    assert tool.invoke({"channel": scene.channel, "content": "one"}).startswith("Sent as message")
    assert asyncio.run(awaited()).startswith("Sent as message")
    assert tool.invoke({"channel": scene.channel, "content": "three"}).startswith("Sent as message")
    assert scene.stored() == ["one", "two", "three"]
    asyncio.run(closing(client))


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_the_tools_of_a_client_share_one_twin_with_its_key_session_and_options(relay: FakeRelay, kind: Any):
    client = kind(relay.url, KEY, agent="mac-ann", project="demo", timeout=3.0, retries=0)
    tools = AgentChatToolkit(client, preset="core").get_tools()
    post = {tool.name: tool for tool in tools}["agentchat_send_message"]

    async def awaited() -> None:
        for tool in (tools[0], tools[1], post):
            await tool.ainvoke(POST if tool is post else {})
        await closing(client)

    for tool in (tools[0], tools[1], post):
        tool.invoke(POST if tool is post else {})
    asyncio.run(awaited())
    assert relay.connections == 2  # one per colour
    assert len({seen.headers["x-agent-session"] for seen in relay.seen}) == 1
    assert {seen.headers["x-agent-api-key"] for seen in relay.seen} == {KEY}
    assert [seen.json()["metadata"] for seen in relay.seen if seen.body] == [{"project": "demo"}] * 2
    twin = async_client(client) if kind is Client else sync_client(client)
    assert twin is (async_client(client) if kind is Client else sync_client(client))
    assert repr(twin) == repr(client).replace(kind.__name__, type(twin).__name__)
    assert is_async(twin) is not is_async(client)
    asyncio.run(closing(client))


def test_two_clients_have_twins_of_their_own(relay: FakeRelay):
    one, other = Client(relay.url, KEY), Client(relay.url, KEY)
    assert async_client(one) is not async_client(other)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_twin_lives_no_longer_than_its_client(kind: Any):
    client = kind("http://127.0.0.1:1", KEY)
    twin = weakref.ref(async_client(client) if kind is Client else sync_client(client))
    assert twin() is not None
    del client
    gc.collect()
    assert twin() is None


def test_threads_that_start_at_once_share_one_twin(relay: FakeRelay):
    client = AsyncClient(relay.url, KEY)
    start = threading.Barrier(16)

    def twin() -> Any:
        start.wait(10)
        return sync_client(client)

    with ThreadPoolExecutor(16) as pool:
        found = [each.result() for each in [pool.submit(twin) for _ in range(16)]]
    assert len({id(each) for each in found}) == 1


async def test_a_sync_call_works_on_a_thread_whose_loop_runs(relay: FakeRelay):
    """As in a notebook."""
    client = AsyncClient(relay.url, KEY)
    assert CheckBoardTool(client).invoke({}).startswith(SHOWN)
    await closing(client)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_renewed_key_is_used_by_both_colours(kind: Any):
    """They share the credential, so that neither registers anew what the other has."""

    class Renewed:
        held = "1" * 64

        def obtain(self, refused: str | None, timeout: float) -> str | None:
            self.held = KEY
            return self.held

    with FakeRelay(keys={KEY}) as relay:
        client = kind(relay.url, Renewed())
        tool = CheckBoardTool(client)
        assert tool.invoke({}).startswith(SHOWN)

        async def awaited() -> None:
            assert (await tool.ainvoke({})).startswith(SHOWN)
            await closing(client)

        asyncio.run(awaited())
        assert [seen.headers["x-agent-api-key"] for seen in relay.seen] == ["1" * 64, KEY, KEY]


# Clients that have no twin


class Watched(StdlibTransport):
    """A transport of somebody's own, which waits until it is let through and knows its thread."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.threads: list[int] = []
        self.go = threading.Event()

    def send(self, request: Request) -> Response:
        self.threads.append(threading.get_ident())
        assert self.go.wait(20)
        return super().send(request)


def test_a_sync_client_with_its_own_transport_is_awaited_in_a_thread(relay: FakeRelay):
    transport = Watched(relay.url)
    client = Client(relay.url, KEY, transport=transport)
    tool = SendMessageTool(client)
    place = {"configurable": {"thread_id": "t"}, "metadata": {"langgraph_checkpoint_ns": "tools:1"}}

    async def awaited() -> Any:
        task = asyncio.create_task(tool.ainvoke(tool_call(tool, POST), place))
        await asyncio.to_thread(until, lambda: transport.threads)  # the loop goes on while the transport waits
        transport.go.set()
        return await task

    assert asyncio.run(awaited()).status == "success"
    assert threading.get_ident() not in transport.threads
    tool.invoke(tool_call(tool, POST), place)
    assert transport.threads[-1] == threading.get_ident()
    first, second = (seen.headers["idempotency-key"] for seen in relay.seen)  # the place is known in the thread, too
    assert first == second
    client.close()


def test_an_async_client_with_its_own_transport_can_only_be_awaited(relay: FakeRelay):
    class Own:
        async def send(self, request: Request) -> Response:
            return Response(200, {"content-type": "application/json"}, b'{"channels": []}')

        async def close(self) -> None: ...

    tool = CheckBoardTool(AsyncClient(relay.url, KEY, transport=Own()))
    assert asyncio.run(tool.ainvoke({})).startswith("0 channels.")
    with pytest.raises(TypeError, match="use ainvoke, or make the tools with a sync client"):
        tool.invoke({})


class Duck:
    """Somebody's stand-in for a client."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def check_board(self) -> Any:
        self.threads.append(threading.get_ident())
        return {"channels": []}

    def send_message(self, channel: str, content: str, parent_message_id: str | None = None) -> Any:
        raise errors.NotFound(f"There is no channel #{channel}.")


class AsyncDuck:
    async def check_board(self) -> Any:
        return {"channels": []}

    async def send_message(self, channel: str, content: str, parent_message_id: str | None = None) -> Any:
        raise errors.NotFound(f"There is no channel #{channel}.")


NOT_FOUND = "Error (not_found): There is no channel #general."


def test_any_object_with_the_operations_is_a_client():
    duck = Duck()
    look, post = CheckBoardTool(duck), SendMessageTool(duck)
    assert look.invoke({}) == "0 channels."
    assert asyncio.run(look.ainvoke({})) == "0 channels."
    assert duck.threads[0] == threading.get_ident() != duck.threads[1]
    for got in (post.invoke(tool_call(post, POST)), asyncio.run(post.ainvoke(tool_call(post, POST)))):
        assert (got.status, got.content) == ("error", NOT_FOUND)


def test_an_object_with_coroutines_can_only_be_awaited():
    look, post = CheckBoardTool(AsyncDuck()), SendMessageTool(AsyncDuck())
    assert asyncio.run(look.ainvoke({})) == "0 channels."
    assert asyncio.run(post.ainvoke(tool_call(post, POST))).content == NOT_FOUND
    for tool in (look, post):
        with pytest.raises(TypeError, match=r"AsyncDuck .* can only be awaited: use ainvoke"):
            tool.invoke({} if tool is look else POST)


# Tools that do things their own way


class Guarding:
    """A policy in one colour: what it refuses, no way of calling may let through."""

    def _run(self, *args: Any, run_manager: CallbackManagerForToolRun, **arguments: Any) -> Any:
        assert run_manager.run_id
        if "secret" in arguments["content"]:
            raise ToolException("refused by policy")
        return super()._run(*args, **arguments)


class GuardedSend(Guarding, SendMessageTool):
    pass


class GuardedFurther(GuardedSend):
    """What an heir adds to both colours is done once in each."""

    def _run(self, *, content: str, run_manager: Any, **arguments: Any) -> Any:
        return super()._run(content=f"{content}!", run_manager=run_manager, **arguments)

    async def _arun(self, *, content: str, run_manager: Any, **arguments: Any) -> Any:
        return await super()._arun(content=f"{content}!", run_manager=run_manager, **arguments)


@pytest.mark.parametrize(("tool", "ending"), [(GuardedSend, ""), (GuardedFurther, "!")])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_what_a_tool_refuses_in_its_run_it_refuses_in_both_colours(scene: Scene, kind: Any, tool: Any, ending: str):
    send = tool(scene.client(kind))
    place = {"configurable": {"thread_id": "t"}, "metadata": {"langgraph_checkpoint_ns": "tools:1"}}

    async def awaited(text: str) -> Any:
        got = await send.ainvoke(tool_call(send, {"channel": scene.channel, "content": text}), place)
        await closing(send.client)
        return got

    def called(text: str) -> Any:
        return send.invoke(tool_call(send, {"channel": scene.channel, "content": text}), place)

    for got in (called("the secret"), asyncio.run(awaited("the secret"))):
        assert (got.status, got.content) == ("error", "refused by policy")
    assert scene.stored() == []
    for got in (asyncio.run(awaited("the news")), called("the news")):  # one place, so one message
        assert got.status == "success"
    assert scene.stored() == [f"the news{ending}"]


# Event loops


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_event_loops_one_after_another_share_a_toolkit(relay: FakeRelay, kind: Any):
    toolkit = AgentChatToolkit(kind(relay.url, KEY))
    board = toolkit.get_tools()[0]

    async def twice() -> None:
        for _ in range(2):
            assert (await board.ainvoke({})).startswith(SHOWN)
        await toolkit.aclose()

    for loops in (1, 2, 3):
        asyncio.run(twice())
        assert relay.connections == loops
    until(lambda: open_connections(relay) == 0)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_event_loops_at_once_share_a_toolkit(scene: Scene, kind: Any):
    client = scene.client(kind)
    toolkit = AgentChatToolkit(client, prefix="")
    tools = {tool.name: tool for tool in toolkit.get_tools()}
    loops, calls = 6, 8
    start = threading.Barrier(loops + 1)

    async def post(number: int) -> None:
        texts = [f"{number}: {call}" for call in range(calls)]
        posting = [tools["send_message"].ainvoke({"channel": scene.channel, "content": text}) for text in texts]
        assert all(text.startswith("Sent") for text in await asyncio.gather(*posting))
        await toolkit.aclose()

    def loop(number: int) -> None:
        start.wait(10)
        asyncio.run(post(number))

    with ThreadPoolExecutor(loops) as pool:
        running = [pool.submit(loop, number) for number in range(loops)]
        start.wait(10)
        assert "channel" in tools["check_board"].invoke({})  # and a plain thread beside them
        for each in running:
            each.result()
    assert sorted(scene.stored()) == sorted(f"{n}: {c}" for n in range(loops) for c in range(calls))
    asyncio.run(closing(client))


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_closing_a_toolkit_closes_the_connections_of_both_colours_and_it_can_be_used_again(relay: FakeRelay, kind: Any):
    toolkit = AgentChatToolkit(kind(relay.url, KEY))
    board = toolkit.get_tools()[0]

    async def both() -> None:
        board.invoke({})
        await board.ainvoke({})
        assert open_connections(relay) == 2
        await toolkit.aclose()
        await asyncio.to_thread(until, lambda: open_connections(relay) == 0)

    for times in (1, 2):
        asyncio.run(both())
        assert relay.connections == 2 * times


@pytest.mark.parametrize("close", [AgentChatToolkit.close, AgentChatToolkit.aclose])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_closing_a_toolkit_that_was_never_used_is_fine(kind: Any, close: Any):
    toolkit = AgentChatToolkit(kind("http://127.0.0.1:1", KEY))

    async def closed() -> None:
        waiting = close(toolkit)
        if waiting is not None:
            await waiting

    asyncio.run(closed())


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_sync_close_closes_what_was_used_synchronously(relay: FakeRelay, kind: Any):
    """Without an event loop anywhere, and without a coroutine that nobody awaits."""
    toolkit = AgentChatToolkit(kind(relay.url, KEY))
    toolkit.get_tools()[0].invoke({})
    assert open_connections(relay) == 1
    toolkit.close()
    until(lambda: open_connections(relay) == 0, seconds=5)


MANY_LOOPS = """
import asyncio, gc, os, sys
from agentchat import Client
from langchain_agentchat import AgentChatToolkit
board = AgentChatToolkit(Client(sys.argv[1], sys.argv[2])).get_tools()[0]
def opened():
    gc.collect()
    return len(os.listdir("/dev/fd"))
asyncio.run(board.ainvoke({}))
before = opened()
for _ in range(30):
    asyncio.run(board.ainvoke({}))
print(opened() - before)
"""


def test_loops_that_end_without_closing_pile_nothing_up(relay: FakeRelay):
    """A script that calls asyncio.run for every question."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{MANY_LOOPS}", relay.url, KEY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    assert int(done.stdout) <= 3


# Nothing blocks the loop


def test_a_blocking_call_would_be_noticed(relay: FakeRelay):
    """The watchman is awake: the sync client on the loop is caught."""

    async def blocks() -> None:
        Client(relay.url, KEY).check_board()

    with blockbuster_ctx(), pytest.raises(BlockingError):
        asyncio.run(blocks())


FIRST_USE = """
import asyncio, json, os, sys
from agentchat import Client
from langchain_agentchat import AgentChatToolkit, AsyncClient
import blockbuster

url, key, kind, arguments = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
client = {"Client": Client, "AsyncClient": AsyncClient}[kind](url, key, retries=1)
toolkit = AgentChatToolkit(client, preset="all", prefix="")
told = []  # printing is itself a blocking call

async def main():
    for tool in toolkit.get_tools():
        call = {"name": tool.name, "args": arguments[tool.name], "id": "c", "type": "tool_call"}
        got = await tool.ainvoke(call)
        told.append(f"{tool.name} {got.status}")
    for tool in toolkit.get_tools()[:3]:
        bad = {"name": tool.name, "args": {"chanel": 5, "channel": "no-such-channel-anywhere"}, "id": "c"}
        told.append(f"{tool.name} {(await tool.ainvoke({**bad, 'type': 'tool_call'})).status}")
    await toolkit.aclose()

with blockbuster.blockbuster_ctx():
    asyncio.run(main())
print("\\n".join(told), flush=True)
os._exit(0)  # blockbuster's patches of built-in types crash some interpreters at their end
"""


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_no_awaited_tool_blocks_the_loop_not_even_when_first_used(scene: Scene, kind: Any):
    """In a process of its own, where nothing was used before. (Over https a trust store is read once.)"""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{FIRST_USE}"
    arguments = [scene.relay.url, scene.key, kind.__name__, json.dumps(scene.all_arguments())]
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.split("\n")
    assert lines[: len(OPERATIONS)] == [f"{name} success" for name in OPERATIONS]
    assert lines[len(OPERATIONS) :] == ["check_board error", "list_channels error", "read_messages error", ""]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_no_failure_blocks_the_loop(kind: Any):
    """Retries wait on the loop, and a relay that cannot be reached is reported from it."""
    unavailable = answer({"error": "No.", "code": "unavailable"}, status=503)

    async def failing(url: str) -> None:
        client = kind(url, KEY, retries=1)
        tool = CheckBoardTool(client)
        assert (await tool.ainvoke(tool_call(tool))).status == "error"
        await closing(client)

    with Scripted(replies(unavailable)) as server, refusing() as nowhere, blockbuster_ctx():
        asyncio.run(failing(server.url))
        asyncio.run(failing(nowhere))


@pytest.mark.agents
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_agent_that_is_awaited_does_not_block_the_loop_for_our_tools(scene: Scene, kind: Any):
    from langchain.agents import create_agent

    client = scene.client(kind)
    toolkit = AgentChatToolkit(client)
    read = tool_call("agentchat_read_messages", {"channel": scene.channel}, id="a")
    post = tool_call("agentchat_send_message", {"channel": scene.channel, "content": "done"}, id="b")
    agent = create_agent(says([read, post], "ready"), toolkit.get_tools())

    async def run() -> Any:
        state = await agent.ainvoke({"messages": [("user", "go")]})
        await toolkit.aclose()
        return state

    with blockbuster_ctx(scanned_modules=["agentchat", "langchain_agentchat"]):
        state = asyncio.run(run())
    assert state["messages"][-1].content == "ready"
    assert scene.stored() == ["done"]
