"""One effect per tool call, however often LangGraph runs it; and another effect for every other call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypedDict

import pytest

from agentchat import Client
from agentchat.contract import OPERATIONS
from langchain_agentchat import AgentChatToolkit
from langchain_agentchat.once import ToolCallPlace, next_key, running_at
from langchain_agentchat.tools import TOOLS, CheckBoardTool, ReadMessagesTool, SendMessageTool
from tests.conftest import KEY
from tests.langchain_agentchat.conftest import Colour, Front, Scene, fresh, says, tool_call
from tests.servers import FakeRelay, Seen, answer

POST = {"channel": "general", "content": "hello"}


def place(thread: object = "t1", namespace: str = "tools:7f") -> dict[str, Any]:
    """The part of LangGraph's config that says where a call stands."""
    return {"configurable": {"thread_id": thread}, "metadata": {"langgraph_checkpoint_ns": namespace}}


# The key


@pytest.mark.parametrize("name", OPERATIONS)
def test_whatever_changes_something_carries_the_key_of_its_place(colour: Colour, front: Front, scene: Scene, name: str):
    """Reading messages marks some as read, so it counts."""
    tool = TOOLS[name](colour.of(scene, url=front.url))
    arguments = scene.arguments()[name]
    for _ in range(2):
        assert colour.call(tool, arguments, place()).status == "success"
    first, second = (seen.headers.get("idempotency-key") for seen in front.seen)
    assert first == second
    assert (first is not None) is (OPERATIONS[name].writes or name == "read_messages")


def test_any_difference_of_place_makes_another_key(colour: Colour, relay: FakeRelay):
    client = colour.client(relay.url)
    send = SendMessageTool(client)
    colour.call(send, POST, place())
    colour.call(send, POST, place(thread="t2"))
    colour.call(send, POST, place(thread=None))
    colour.call(send, POST, place(namespace="tools:8a"))
    colour.call(send, POST, place(namespace="tools:7f|tools:7f"))
    colour.call(send, POST, place(), id="call_2")
    colour.call(TOOLS["upload_file"](client), {"channel": "general", "filename": "a", "content": "x"}, place())
    assert len({seen.headers["idempotency-key"] for seen in relay.seen}) == 7


@pytest.mark.parametrize("thread", ["t\0\n", "\ud800", 7, None, "ü" * 500, b"x", ("a", 1)])
def test_a_key_is_one_the_relay_takes_whatever_the_thread_is_called(thread: object):
    key = ToolCallPlace(place(thread), "call\ud800").next_key("send_message")
    assert key is not None
    assert key.isascii() and key.isalnum() and 32 <= len(key) <= 128
    assert key == ToolCallPlace(place(thread), "call\ud800").next_key("send_message")


def test_the_writes_of_one_call_have_keys_of_their_own_in_the_same_order_again():
    one, again = ToolCallPlace(place(), "c"), ToolCallPlace(place(), "c")
    keys = [one.next_key("send_message") for _ in range(3)]
    assert len({*keys}) == 3
    assert [again.next_key("send_message") for _ in range(3)] == keys


@pytest.mark.parametrize(
    ("config", "call"),
    [
        (None, "c"),
        ({}, "c"),
        ({"configurable": {"thread_id": "t1"}}, "c"),
        ({"configurable": None, "metadata": None}, "c"),
        (place(), None),
    ],
)
def test_outside_a_graph_there_is_no_place_and_no_key(config: Any, call: str | None):
    assert ToolCallPlace(config, call).next_key("send_message") is None
    with running_at(config, call):
        assert next_key("send_message") is None


def test_after_a_call_there_is_no_place():
    assert next_key("send_message") is None
    with running_at(place(), "c"):
        outer = next_key("send_message")
        with running_at(place(), "d"):
            assert next_key("send_message") not in (outer, None)
        assert next_key("send_message") not in (outer, None)
    assert next_key("send_message") is None
    with pytest.raises(ZeroDivisionError), running_at(place(), "c"):
        1 / 0  # noqa: B018
    assert next_key("send_message") is None


def test_calls_side_by_side_do_not_mix_their_places(relay: FakeRelay):
    """In threads, and on one event loop."""
    with Client(relay.url, KEY) as client:
        toolkit = AgentChatToolkit(client, prefix="")
        (send,) = [tool for tool in toolkit.get_tools() if tool.name == "send_message"]
        calls = [(tool_call(send, {**POST, "content": f"n{n}"}, id=f"c{n}"), place(f"t{n % 3}")) for n in range(30)]
        start = threading.Barrier(6)

        def some(number: int) -> None:
            start.wait(10)
            for call, config in calls[number::6]:
                send.invoke(call, config)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(some, range(6)))

        async def together() -> None:
            await asyncio.gather(*(send.ainvoke(call, config) for call, config in calls))
            await toolkit.aclose()

        asyncio.run(together())
    keys: dict[str, list[str]] = {}
    for seen in relay.seen:
        keys.setdefault(seen.json()["content"], []).append(seen.headers["idempotency-key"])
    assert len(keys) == 30
    assert all(len(pair) == 2 and pair[0] == pair[1] for pair in keys.values())  # the thread's and the loop's
    assert len({pair[0] for pair in keys.values()}) == 30


def test_outside_a_graph_the_same_call_twice_is_two_messages(colour: Colour, front: Front, scene: Scene):
    """Nobody knows whether it was meant as a repeat."""
    send = SendMessageTool(colour.of(scene, url=front.url))
    arguments = {"channel": scene.channel, "content": "again"}
    for config in (None, {"configurable": {"thread_id": "t1"}}):
        colour.call(send, arguments, config)
        colour.call(send, arguments, config)
        colour.run(send, arguments, config)
    assert scene.stored() == ["again"] * 6
    assert len({*front.keys_of()}) == 6 and None not in front.keys_of()


def test_a_replay_that_says_something_else_is_refused_and_told(colour: Colour, scene: Scene):
    """The same place, but other arguments: the relay knows that it is no repeat."""
    send = SendMessageTool(colour.of(scene))
    colour.call(send, {"channel": scene.channel, "content": "first"}, place())
    got = colour.call(send, {"channel": scene.channel, "content": "second"}, place())
    assert got.status == "error"
    assert got.content.startswith("Error (idempotency_mismatch): ")
    assert scene.stored() == ["first"]


def test_a_replayed_read_marks_nothing_and_a_new_one_does(colour: Colour, front: Front, scene: Scene):
    read = ReadMessagesTool(colour.of(scene, url=front.url))
    arguments = {"channel": scene.channel}
    with scene.client() as own, Client(scene.relay.url, scene.relay.token(fresh())) as other:
        own.read_messages(scene.channel)  # joins
        other.send_message(scene.channel, "news")

        def unread() -> int:
            return {row["channel"]: row["unread"] for row in own.check_board()["channels"]}[scene.channel]

        first = colour.call(read, arguments, place())
        again = colour.call(read, arguments, place())
        assert again.artifact == first.artifact
        assert again.content == first.content
        assert unread() == 1  # the first page may never have reached the model
        colour.call(read, arguments, place(), id="call_2")
        assert unread() == 0


def test_the_relays_own_retries_of_a_call_keep_its_key(colour: Colour, front: Front, scene: Scene):
    front.spoil = lose_first(front)
    send = SendMessageTool(colour.of(scene, url=front.url, retries=2))
    assert colour.call(send, {"channel": scene.channel, "content": "done"}).status == "success"
    assert len(front.keys_of()) == 2 and len({*front.keys_of()}) == 1
    assert scene.stored() == ["done"]


def lose_first(front: Front) -> Callable[[Seen], bytes | None]:
    """Keep the answer to the first write from its caller. The relay has stored it."""
    lost = answer({"error": "Went down.", "code": "unavailable"}, status=503)
    return lambda seen: lost if seen.method == "POST" and len(front.seen) == 1 else None


# In graphs


class Crash(Exception):
    """The process dies here."""


class State(TypedDict, total=False):
    done: bool


Steps = Callable[[], Iterator[tuple[Any, Any]]]


def graph_of(colour: Colour, steps: Steps, *, saved: bool = True, retried: bool = False) -> Any:
    """A graph with one node, which makes the calls that `steps` yields. `retried`: again, as long as it crashes."""
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import START, StateGraph
    from langgraph.types import RetryPolicy

    def node(state: State) -> State:
        for tool, call in steps():
            tool.invoke(call)
        return {"done": True}

    async def asynchronous(state: State) -> State:
        for tool, call in steps():
            await tool.ainvoke(call)
        return {"done": True}

    policy = RetryPolicy(initial_interval=0.0, jitter=False, retry_on=Crash) if retried else None
    builder = StateGraph(State).add_node("work", asynchronous if colour.asynchronous else node, retry_policy=policy)
    return builder.add_edge(START, "work").compile(checkpointer=InMemorySaver() if saved else None)


def agent_of(model: Any, tools: list[Any], *middleware: Any, saved: bool = True) -> Any:
    from langchain.agents import create_agent
    from langgraph.checkpoint.memory import InMemorySaver

    return create_agent(model, tools, middleware=middleware, checkpointer=InMemorySaver() if saved else None)


def ask(colour: Colour, agent: Any, thread: str = "t1") -> Any:
    return colour.run(agent, {"messages": [("user", "go")]}, at(thread))


def at(thread: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": thread}}


def once_per_process() -> Callable[[], None]:
    """Crashes when it is called first, and then no more."""
    lives = iter([Crash("power cut")])

    def crash() -> None:
        for failure in lives:
            raise failure

    return crash


class Twice(SendMessageTool):
    """Somebody's own tool, which posts twice."""

    def _run(self, **arguments: Any) -> Any:
        super()._run(**arguments)
        return super()._run(**arguments)

    async def _arun(self, **arguments: Any) -> Any:
        await super()._arun(**arguments)
        return await super()._arun(**arguments)


@pytest.mark.agents
@pytest.mark.parametrize(("kind", "messages"), [(SendMessageTool, 1), (Twice, 2)])
def test_a_node_that_is_run_again_after_a_crash_posts_nothing_again(
    colour: Colour, front: Front, scene: Scene, kind: Any, messages: int
):
    send = kind(colour.of(scene, url=front.url))
    call = tool_call(send, {"channel": scene.channel, "content": "done"})
    crash = once_per_process()

    def steps() -> Iterator[Any]:
        yield send, call
        crash()

    graph = graph_of(colour, steps)
    with pytest.raises(Crash):
        colour.run(graph, {"done": False}, at("t1"))
    assert colour.run(graph, None, at("t1")) == {"done": True}
    keys = front.keys_of()
    assert keys[:messages] == keys[messages:]
    assert len({*keys}) == messages and None not in keys
    assert scene.stored() == ["done"] * messages


@pytest.mark.agents
def test_a_read_that_is_run_again_after_a_crash_counts_nothing_as_read(colour: Colour, front: Front, scene: Scene):
    read = ReadMessagesTool(colour.of(scene, url=front.url))
    crash = once_per_process()

    def steps() -> Iterator[Any]:
        yield read, tool_call(read, {"channel": scene.channel})
        crash()

    with scene.client() as own, Client(scene.relay.url, scene.relay.token(fresh())) as other:
        own.read_messages(scene.channel)  # joins
        other.send_message(scene.channel, "news")
        graph = graph_of(colour, steps)
        with pytest.raises(Crash):
            colour.run(graph, {"done": False}, at("t1"))
        colour.run(graph, None, at("t1"))
        board = {row["channel"]: row["unread"] for row in own.check_board()["channels"]}
    first, second = front.keys_of()
    assert first == second is not None
    assert board[scene.channel] == 1


def crashing_middleware() -> Any:
    """Lets the tool run, then the process dies before anything is saved."""
    from langchain.agents.middleware import AgentMiddleware

    crash = once_per_process()

    class Crashing(AgentMiddleware):
        def wrap_tool_call(self, request: Any, handler: Any) -> Any:
            result = handler(request)
            crash()
            return result

        async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
            result = await handler(request)
            crash()
            return result

    return Crashing()


@pytest.mark.agents
def test_an_agent_that_crashed_after_a_tool_posted_posts_nothing_again(colour: Colour, front: Front, scene: Scene):
    call = tool_call("agentchat_send_message", {"channel": scene.channel, "content": "done"})
    tools = AgentChatToolkit(colour.of(scene, url=front.url)).get_tools()
    agent = agent_of(says([call], "ready"), tools, crashing_middleware())
    with pytest.raises(Crash):
        ask(colour, agent)
    state = colour.run(agent, None, at("t1"))
    assert state["messages"][-1].content == "ready"
    assert len(front.keys_of()) == 2 and len({*front.keys_of()}) == 1
    assert scene.stored() == ["done"]


@pytest.mark.agents
def test_langchains_retries_of_a_tool_store_one_message(colour: Colour, front: Front, scene: Scene):
    from langchain.agents.middleware import ToolRetryMiddleware

    front.spoil = lose_first(front)
    call = tool_call("agentchat_send_message", {"channel": scene.channel, "content": "done"})
    toolkit = AgentChatToolkit(colour.of(scene, url=front.url), raise_on_transport_error=True)
    retrying = ToolRetryMiddleware(max_retries=2, initial_delay=0.0, jitter=False)
    state = ask(colour, agent_of(says([call], "ready"), toolkit.get_tools(), retrying))
    assert state["messages"][-2].status == "success"
    assert len(front.keys_of()) == 2 and len({*front.keys_of()}) == 1
    assert scene.stored() == ["done"]


@pytest.mark.agents
def test_resuming_after_an_interrupt_posts_nothing_again(colour: Colour, front: Front, scene: Scene):
    from langgraph.types import Command, interrupt

    send = SendMessageTool(colour.of(scene, url=front.url))
    call = tool_call(send, {"channel": scene.channel, "content": "may I?"})
    answers: list[str] = []

    def steps() -> Iterator[Any]:
        yield send, call
        answers.append(interrupt("may I?"))
        yield send, tool_call(send, {"channel": scene.channel, "content": "thanks"}, id="call_2")

    graph = graph_of(colour, steps)
    colour.run(graph, {"done": False}, at("t1"))
    assert colour.run(graph, Command(resume="yes"), at("t1")) == {"done": True}
    first, second, third = front.keys_of()
    assert first == second != third
    assert answers == ["yes"]
    assert scene.stored() == ["may I?", "thanks"]


@pytest.mark.agents
def test_an_interrupt_inside_a_tool_pauses_the_run_and_is_no_failure(colour: Colour, front: Front, scene: Scene):
    """Tools of ours turn failures into messages; a pause is none."""
    from langgraph.types import Command, interrupt

    class Asking(SendMessageTool):
        def _run(self, **arguments: Any) -> Any:
            sent = super()._run(**arguments)
            interrupt("sure?")
            return sent

        async def _arun(self, **arguments: Any) -> Any:
            sent = await super()._arun(**arguments)
            interrupt("sure?")
            return sent

    tool = Asking(colour.of(scene, url=front.url))
    model = says([tool_call(tool, {"channel": scene.channel, "content": "done"})], "ready")
    agent = agent_of(model, [tool])
    paused = ask(colour, agent)
    assert [each.value for each in paused["__interrupt__"]] == ["sure?"]
    state = colour.run(agent, Command(resume="yes"), at("t1"))
    assert state["messages"][-1].content == "ready"
    assert len(front.keys_of()) == 2 and len({*front.keys_of()}) == 1
    assert scene.stored() == ["done"]


@pytest.mark.agents
@pytest.mark.parametrize("saved", [True, False])
def test_a_later_call_posts_even_if_the_provider_repeats_its_ids(
    colour: Colour, front: Front, scene: Scene, saved: bool
):
    """Later in the same turn, in a later turn, in another thread; with and without a checkpointer."""
    call = tool_call("agentchat_send_message", {"channel": scene.channel, "content": "again"}, id="call_1")
    model = says([call], [call], "ready", [call], "ready", [call], "ready")
    agent = agent_of(model, AgentChatToolkit(colour.of(scene, url=front.url)).get_tools(), saved=saved)
    for thread in ("t1", "t1", "t2"):
        ask(colour, agent, thread)
    assert len({*front.keys_of()}) == len(front.keys_of()) == 4
    assert scene.stored() == ["again"] * 4


@pytest.mark.agents
def test_parallel_calls_are_calls_of_their_own(colour: Colour, front: Front, scene: Scene):
    arguments = {"channel": scene.channel, "content": "same"}
    calls = [tool_call("agentchat_send_message", arguments, id=id) for id in ("a", "b", "c", "c")]
    ask(colour, agent_of(says(calls, "ready"), AgentChatToolkit(colour.of(scene, url=front.url)).get_tools()))
    assert len({*front.keys_of()}) == len(front.keys_of()) == 4
    assert scene.stored() == ["same"] * 4


@pytest.mark.agents
def test_a_tool_node_gives_each_call_its_key(colour: Colour, front: Front, scene: Scene):
    from langchain_core.messages import AIMessage
    from langgraph.graph import START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode

    tools = AgentChatToolkit(colour.of(scene, url=front.url)).get_tools()
    graph = StateGraph(MessagesState).add_node("tools", ToolNode(tools)).add_edge(START, "tools").compile()
    arguments = {"channel": scene.channel, "content": "same"}
    calls = [tool_call("agentchat_send_message", arguments, id=id) for id in ("a", "b", "c")]
    colour.run(graph, {"messages": [AIMessage("", tool_calls=calls)]})
    assert len({*front.keys_of()}) == len(front.keys_of()) == 3
    assert scene.stored() == ["same"] * 3


@pytest.mark.agents
def test_calls_without_an_id_in_a_node_are_as_random_as_elsewhere(colour: Colour, front: Front, scene: Scene):
    """Two of them with the same arguments are two messages: a node's own calls have no id that tells repeats."""
    send = SendMessageTool(colour.of(scene, url=front.url))

    def steps() -> Iterator[Any]:
        for _ in range(2):
            yield send, {"channel": scene.channel, "content": "again"}

    colour.run(graph_of(colour, steps), {"done": False}, at("t1"))
    assert len({*front.keys_of()}) == 2
    assert scene.stored() == ["again"] * 2


@pytest.mark.agents
def test_an_agent_inside_a_node_that_is_run_again_posts_nothing_again(colour: Colour, front: Front, scene: Scene):
    call = tool_call("agentchat_send_message", {"channel": scene.channel, "content": "done"})
    tools = AgentChatToolkit(colour.of(scene, url=front.url)).get_tools()
    inner = agent_of(says([call], "ready", [call], "ready"), tools, saved=False)
    crash = once_per_process()

    def steps() -> Iterator[Any]:
        yield inner, {"messages": [("user", "go")]}
        crash()

    graph = graph_of(colour, steps)
    with pytest.raises(Crash):
        colour.run(graph, {"done": False}, at("t1"))
    colour.run(graph, None, at("t1"))
    assert len({*front.keys_of()}) == 1
    assert scene.stored() == ["done"]


@pytest.mark.agents
@pytest.mark.parametrize(
    ("retried", "stored"),
    [("inner", ["derived", "by hand"]), ("outer", ["derived", "by hand", "derived"])],
)
def test_a_retried_node_posts_nothing_again_but_what_a_subgraph_in_it_posted_without_a_key_by_hand(
    colour: Colour, front: Front, scene: Scene, retried: str, stored: list[str]
):
    """LangGraph counts the retry of what holds a subgraph as a second call of that subgraph (see the next test)."""
    send = SendMessageTool(colour.of(scene, url=front.url))
    call = tool_call(send, {"channel": scene.channel, "content": "derived"})
    crash = once_per_process()

    def inside() -> Iterator[Any]:
        yield send, call
        with scene.client() as client:
            client.with_options(idempotency_key=f"by-hand-{scene.channel}").send_message(scene.channel, "by hand")
        crash()

    inner = graph_of(colour, inside, saved=False, retried=retried == "inner")

    def steps() -> Iterator[Any]:
        yield inner, {"done": False}

    outer = graph_of(colour, steps, retried=retried == "outer")
    assert colour.run(outer, {"done": False}, at("t1")) == {"done": True}
    assert len(front.keys_of()) == 2
    assert scene.stored() == stored


@pytest.mark.agents
def test_a_subgraph_that_a_node_calls_twice_posts_twice(colour: Colour, front: Front, scene: Scene):
    """A lost message would be worse than a doubled one."""
    send = SendMessageTool(colour.of(scene, url=front.url))
    call = tool_call(send, {"channel": scene.channel, "content": "again"})
    inner = graph_of(colour, lambda: iter([(send, call)]), saved=False)
    colour.run(graph_of(colour, lambda: iter([(inner, {"done": False})] * 2)), {"done": False}, at("t1"))
    assert scene.stored() == ["again"] * 2


def test_a_read_only_tool_sends_no_key(colour: Colour, relay: FakeRelay):
    tools = AgentChatToolkit(colour.client(relay.url), read_only=True, prefix="").get_tools()
    for tool in tools:
        if tool.name in ("read_messages", "check_board"):
            colour.call(tool, {"channel": "general"} if tool.name == "read_messages" else {}, place())
    assert len(relay.seen) == 2
    assert not any("idempotency-key" in seen.headers for seen in relay.seen)


def test_a_tool_inside_a_tool_has_a_place_of_its_own(colour: Colour, relay: FakeRelay):
    """Somebody's tool that looks at the board through another tool before it posts."""
    board = CheckBoardTool(colour.client(relay.url))

    class LookingFirst(SendMessageTool):
        def _run(self, **arguments: Any) -> Any:
            board.invoke({})
            return super()._run(**arguments)

        async def _arun(self, **arguments: Any) -> Any:
            await board.ainvoke({})
            return await super()._arun(**arguments)

    tool = LookingFirst(board.client)
    for _ in range(2):
        colour.call(tool, POST, place())
    first, second = (seen.headers["idempotency-key"] for seen in relay.calls("/api/v2/messages"))
    assert first == second == ToolCallPlace(place(), "call_1").next_key("send_message")
