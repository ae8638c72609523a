"""The handler over LangGraph, event by event: exactly the posts a person would expect, and nothing that was said.

The models have scripts, the relay is real. Between two events the queue is flushed, so that each status is a post of
its own.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ToolRetryMiddleware
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import StructuredTool, tool
from langgraph.callbacks import GraphCallbackHandler
from langgraph.errors import GraphRecursionError
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from langchain_agentchat import AgentChatCallbackHandler, AgentChatToolkit
from tests.langchain_agentchat import scripted
from tests.langchain_agentchat.agents import (
    add,
    agent,
    ask,
    boom,
    config,
    consulting,
    handled,
    lasting,
    remove,
    thread,
)
from tests.langchain_agentchat.conftest import Colour, Scene, until
from tests.langchain_agentchat.scripted import (
    PATIENCE,
    SECRET,
    Board,
    Drive,
    Gate,
    Model,
    calls,
    question,
    secret,
)

pytestmark = pytest.mark.agents
board, drive, either, gate = scripted.board, scripted.drive, scripted.either, scripted.gate  # fixtures

# The table of what happens to a run


class Deny(AgentMiddleware):
    """Answers every call itself, so that no tool runs."""

    def wrap_tool_call(self, request: Any, handler: Any) -> ToolMessage:
        return ToolMessage(secret("denied"), tool_call_id=request.tool_call["id"])

    async def awrap_tool_call(self, request: Any, handler: Any) -> ToolMessage:
        return self.wrap_tool_call(request, handler)


@pytest.mark.parametrize(
    ("lines", "last", "raised", "options"),
    [
        ([], "done in T", None, {}),
        ([calls("add")], "done in T, 1 tool call (add)", None, {}),
        ([calls("add", "add"), calls("remove")], "done in T, 3 tool calls (add x2, remove)", None, {}),
        ([calls("handled")], "done in T, 1 tool call (handled; 1 failed)", None, {}),
        ([calls(("add", {"a": secret("argument")}))], "done in T, 1 tool call (add; 1 failed)", None, {}),
        ([calls(secret("unknown-tool"))], "done in T", None, {}),
        ([calls("add")], "done in T", None, {"middleware": [Deny()]}),
        (
            [calls("add"), calls("boom")],
            "failed after T: ValueError in tool boom, 2 tool calls (add, boom; 1 failed)",
            ValueError,
            {},
        ),
        ([RuntimeError(secret("model"))], "failed after T: RuntimeError", RuntimeError, {}),
        (
            [calls("handled"), OSError(secret("model"))],
            "failed after T: OSError, 1 tool call (handled; 1 failed)",
            OSError,
            {},
        ),
    ],
    ids=["ok", "tool", "tools", "handled", "arguments", "unknown", "denied", "raises", "model", "both"],
)
def test_what_becomes_of_a_run(
    board: Board, drive: Drive, lines: list[Any], last: str, raised: type[Exception] | None, options: dict[str, Any]
):
    run = agent(board, lines, add, remove, boom, handled, **options)
    if raised is None:
        drive(run, question(), config(board.handler()))
    else:
        with pytest.raises(raised, match=SECRET):
            drive(run, question(), config(board.handler()))
    assert board.story() == ["worker: started", f"worker: {last}"]


def test_too_many_steps(board: Board, either: Drive):
    run = agent(board, [calls("add") for _ in range(9)], add)
    with pytest.raises(GraphRecursionError):
        either(run, question(), config(board.handler(), recursion_limit=4))
    assert board.story() == ["worker: started", "worker: failed after T: GraphRecursionError, 2 tool calls (add x2)"]


def test_a_tool_that_is_tried_again(board: Board, either: Drive):
    attempts = []

    @tool
    def flaky() -> str:
        """Fail once."""
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError(secret("flaky"))
        return secret("fine")

    again = ToolRetryMiddleware(max_retries=1, initial_delay=0.0, jitter=False)
    either(agent(board, [calls("flaky")], flaky, middleware=[again]), question(), config(board.handler()))
    assert board.story() == ["worker: started", "worker: done in T, 2 tool calls (flaky x2; 1 failed)"]


def test_an_agent_that_hands_over_to_another(board: Board, drive: Drive):
    """It leaves its graph by an exception, which is no failure."""

    @tool
    def hand_over() -> Command[Any]:
        """Hand over."""
        return Command(goto="second", graph=Command.PARENT)

    graph = StateGraph(MessagesState)
    graph.add_node("first", agent(board, [calls("hand_over")], hand_over, name="first"))
    graph.add_node("second", agent(board, [calls("add")], add, name="second"))
    graph.add_edge(START, "first")
    drive(graph.compile(name="team"), question(), config(board.handler()))
    assert board.story() == ["team: started", "team: done in T, 2 tool calls (hand_over, add)"]


def test_every_turn_of_a_thread_is_a_story(board: Board, either: Drive):
    run, handler = lasting(board, [calls("add"), AIMessage("1"), calls("add", "add")], add), board.handler()
    for _ in range(2):
        either(run, question(), config(handler, thread()))
        board.flush()
    assert board.stories() == [
        ["worker: started", "worker: done in T, 1 tool call (add)"],
        ["worker: started", "worker: done in T, 2 tool calls (add x2)"],
    ]


def test_the_result_is_the_runs_own(board: Board):
    plain, told = (
        agent(board, [calls("add", "handled")], add, handled).invoke(question(), given)
        for given in ({}, config(board.handler()))
    )
    assert [message.content for message in told["messages"]] == [message.content for message in plain["messages"]]
    assert [message.type for message in told["messages"]] == ["human", "ai", "tool", "tool", "ai"]


def test_many_runs_at_once(board: Board):
    run = agent(board, [calls("add"), calls("add", "handled")], add, handled)
    run.batch([question() for _ in range(5)], config(handler := board.handler()))
    asyncio.run(run.abatch([question() for _ in range(5)], config(handler)))
    last = "worker: done in T, 3 tool calls (add x2, handled; 1 failed)"
    assert board.stories() == [["worker: started", last]] * 10


def test_parallel_tools(board: Board, drive: Drive):
    """Several threads, or tasks, tell of their tools at once."""
    met = threading.Barrier(3)

    def work() -> str:
        met.wait(PATIENCE)
        return secret("met")

    async def awork() -> str:
        return await asyncio.to_thread(work)

    tools = [
        StructuredTool.from_function(work, awork, name=name, description="Work.")
        for name in ("left", "middle", "right")
    ]
    drive(agent(board, [calls("left", "middle", "right")], *tools), question(), config(board.handler()))
    started, done = board.story()
    assert started == "worker: started"
    assert done.startswith("worker: done in T, 3 tool calls (")
    assert sorted(done.partition("(")[2].rstrip(")").split(", ")) == ["left", "middle", "right"]


# Below a root


def test_an_agent_in_a_tool(board: Board, drive: Drive):
    run = agent(board, [calls("consult")], consulting(board, add, handled, lines=[calls("add"), calls("handled")]))
    drive(run, question(), config(board.handler()))
    assert board.story() == [
        "worker: started",
        "worker: done in T, 3 tool calls (consult, add, handled; 1 failed)",
    ]


def test_an_agent_in_a_tool_that_fails(board: Board, either: Drive):
    run = agent(board, [calls("consult")], consulting(board, boom, lines=[calls("boom")]))
    with pytest.raises(ValueError):
        either(run, question(), config(board.handler()))
    failed = board.story()[1]
    assert failed.startswith("worker: failed after T: ValueError in tool ")
    assert failed.endswith(", 2 tool calls (consult, boom; 2 failed)")


def test_an_agent_in_a_sequence(board: Board, either: Drive):
    run = RunnableLambda(lambda given: given) | agent(board, [calls("add")], add) | RunnableLambda(lambda given: given)
    either(run.with_config(run_name="pipeline"), question(), config(board.handler()))
    assert board.story() == ["pipeline: started", "pipeline: done in T, 1 tool call (add)"]


# Where the handler may be


@pytest.mark.parametrize("place", ["model", "agent", "call", "everywhere"])
def test_wherever_the_handler_is_a_run_is_told_once(board: Board, either: Drive, place: str):
    handler = board.handler()
    model = Model(
        lines=[calls("add")], between=board.flush, callbacks=[handler] if place in ("model", "everywhere") else None
    )
    run = create_agent(model, [add], name="worker")
    if place in ("agent", "everywhere"):
        run = run.with_config(callbacks=[handler])
    either(run, question(), {"callbacks": [handler]} if place in ("call", "everywhere") else {})
    if place == "model":  # each of its turns is a run
        assert board.stories() == [["Model: started", "Model: done in T"]] * 2
    else:
        assert board.story() == ["worker: started", "worker: done in T, 1 tool call (add)"]


def test_only_heirs_of_langgraphs_handler_are_told_of_interrupts():
    assert issubclass(AgentChatCallbackHandler, GraphCallbackHandler)


def test_our_own_tools_in_an_agent(board: Board, colour: Colour, scene: Scene):
    """With the same handler: or else each send would be told by a send."""
    tools = AgentChatToolkit(colour.of(scene), preset="core").get_tools()
    sent = {"channel": scene.channel, "content": secret("sent")}
    bad = ("agentchat_read_messages", {"channel": f"{scene.channel}-nowhere"})
    lines = [calls(("agentchat_send_message", sent), "add", bad), calls(("agentchat_send_message", {"x": 1}))]
    colour.run(agent(board, lines, add, *tools), question(), config(board.handler()))
    assert board.story() == ["worker: started", "worker: done in T, 1 tool call (add)"]
    assert scene.stored() == [secret("sent")]


# Ends that nobody wrote


def test_a_cancelled_task(board: Board):
    handler = board.handler()

    async def main() -> None:
        working, never = asyncio.Event(), asyncio.Event()

        @tool
        async def slow() -> str:
            """Never end."""
            working.set()
            await never.wait()
            return secret("slow")

        run = agent(board, [calls("slow")], slow)
        task = asyncio.create_task(run.ainvoke(question(), config(handler)))
        await working.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert board.story() == ["worker: started", "worker: cancelled after T, 1 tool call (slow)"]


@pytest.mark.parametrize("where", ["model", "tool"])
def test_a_keyboard_interrupt(board: Board, where: str):
    @tool
    def stop() -> str:
        """As control-c does."""
        raise KeyboardInterrupt(secret("stop"))

    lines = [KeyboardInterrupt(secret("stop"))] if where == "model" else [calls("stop")]
    with pytest.raises(KeyboardInterrupt):
        agent(board, lines, stop).invoke(question(), config(board.handler()))
    called = ", 1 tool call (stop)" if where == "tool" else ""
    assert board.story() == ["worker: started", f"worker: cancelled after T{called}"]


def test_a_timeout_around_a_run(board: Board):
    handler = board.handler()

    async def main() -> None:
        @tool
        async def slow() -> str:
            """Never end."""
            limit.reschedule(0)
            await asyncio.Event().wait()
            return secret("slow")

        run = agent(board, [calls("slow")], slow)
        async with asyncio.timeout(PATIENCE) as limit:
            await run.ainvoke(question(), config(handler))

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert board.story() == ["worker: started", "worker: cancelled after T, 1 tool call (slow)"]


@pytest.mark.parametrize("how", ["closed", "forgotten"])
def test_an_abandoned_stream(board: Board, how: str):
    stream = agent(board, [calls("add")], add).stream(question(), config(board.handler()))
    next(iter(stream))
    if how == "closed":
        stream.close()
    del stream
    gc.collect()
    assert board.story() == ["worker: started", "worker: cancelled after T"]


@pytest.mark.parametrize("how", ["closed", "forgotten"])
def test_an_abandoned_asynchronous_stream(board: Board, how: str):
    async def main() -> None:
        stream = agent(board, [calls("add")], add).astream(question(), config(board.handler()))
        async for _ in stream:
            break
        if how == "closed":
            await stream.aclose()

    asyncio.run(main())
    assert board.story() == ["worker: started", "worker: cancelled after T"]


# Content


ALL = ("inputs", "outputs", "errors", "interrupts")


def test_included_content_is_all_there_is(board: Board):
    """Of the tools, of the model's thoughts, of metadata and tags nothing is told even so."""
    board.open = True
    run = lasting(board, [calls("add"), calls("ask"), AIMessage("the answer")], add, ask)
    handler = board.handler(include=ALL)
    run.invoke({"messages": [HumanMessage("the question")]}, config(handler, thread()))
    board.flush()
    run.invoke(Command(resume="the reply"), config(handler, thread()))
    started, waiting, resumed, done = board.story()
    assert started == "worker: started\ninputs: the question"
    assert waiting.startswith("worker: waiting for a human: answer to ask\ninterrupts: ")
    assert secret("question") in waiting
    assert resumed == "worker: resumed after T"
    assert done.endswith("\noutputs: the answer")
    told = "".join(post["content"] for post in board.posts())
    for hidden in ("sum", "thought", "metadata", "tag", "thread"):
        assert secret(hidden) not in told


@pytest.mark.parametrize("included", ALL)
def test_only_what_is_included_is_told(board: Board, included: str):
    board.open = True
    words = {"inputs": "the question", "outputs": "the answer", "errors": "the error", "interrupts": "the interrupt"}
    handler = board.handler(include=[included])

    @tool
    def inquire() -> str:
        """Ask."""
        return str(interrupt(words["interrupts"]))

    given: Any = {"messages": [HumanMessage(words["inputs"])]}
    run = lasting(board, [calls("inquire"), AIMessage(words["outputs"])], inquire)
    run.invoke(given, config(handler, thread()))
    board.flush()
    run.invoke(Command(resume="the reply"), config(handler, thread()))
    board.flush()
    with pytest.raises(ValueError):
        agent(board, [ValueError(words["errors"])], add).invoke(given, config(handler))
    told = "\n".join(post["content"] for post in board.posts())
    for kind, text in words.items():
        assert (text in told) == (kind == included), (kind, told)
    assert "the reply" not in told


def test_redaction_sees_all_content(board: Board):
    board.open = True
    seen: list[str] = []

    def redact(text: str) -> str:
        seen.append(text)
        return "[hidden]"

    run = agent(board, [calls("boom")], boom)
    with pytest.raises(ValueError):
        run.invoke(question(), config(board.handler(include=ALL, redact=redact)))
    assert board.story() == [
        "worker: started\n[hidden]",
        "worker: failed after T: ValueError in tool boom, 1 tool call (boom; 1 failed)\n[hidden]",
    ]
    assert board.silent
    assert [SECRET in text for text in seen] == [True, True]


# What a slow relay makes of it


def test_a_fast_run_is_one_post(board: Board, gate: Gate):
    """What was overtaken before it was sent is not told; the relay is held up until the runs are over."""
    handler = board.handler(board.client(gate.url))
    gate.opened.clear()
    for name in ("first", "second", "third"):
        run = create_agent(Model(lines=[calls("add")]), [add], name=name)
        run.invoke(question(), config(handler))
        until(gate.keys)
    gate.opened.set()
    last = "done in T, 1 tool call (add)"
    assert board.stories() == [[f"first: {last}"], [f"second: {last}"], [f"third: {last}"]]
    assert handler.stats == (3, 3, 0, 0)
