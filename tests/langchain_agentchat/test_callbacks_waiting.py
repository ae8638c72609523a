"""Runs that wait for a human, and runs that go on: one story, whoever asks, wherever, and however often."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphDrained
from langgraph.func import entrypoint
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import RunControl
from langgraph.types import Command, interrupt

from tests.langchain_agentchat import scripted
from tests.langchain_agentchat.agents import (
    add,
    agent,
    ask,
    config,
    consulting,
    handled,
    lasting,
    outer,
    remove,
    thread,
)
from tests.langchain_agentchat.conftest import until
from tests.langchain_agentchat.scripted import Board, Drive, Gate, calls, question, secret

pytestmark = pytest.mark.agents
board, drive, either, gate = scripted.board, scripted.drive, scripted.either, scripted.gate  # fixtures

MODES = ["batched", "per_call"]
if "interrupt_mode" not in inspect.signature(HumanInTheLoopMiddleware).parameters:  # langchain before 1.3.18
    MODES = ["batched"]


@tool
def inquire() -> str:
    """Ask a human, too."""
    return secret(interrupt(secret("inquiry")))


def test_a_tool_that_asks(board: Board, drive: Drive):
    run = lasting(board, [calls("ask")], ask)
    drive(run, question(), config(handler := board.handler(), thread()))
    board.flush()
    assert board.story() == ["worker: started", "worker: waiting for a human: answer to ask"]
    drive(run, Command(resume=secret("answer")), config(handler, thread()))
    assert board.story()[2:] == ["worker: resumed after T", "worker: done in T, 1 tool call (ask)"]
    assert board.posts()[1]["metadata"]["agentchat_status"]["waits_for"] == ["answer to ask"]


def test_a_resumed_run_counts_the_tools_of_all_its_parts(board: Board, either: Drive):
    run = lasting(board, [calls("add"), calls("ask"), calls("add")], add, ask)
    either(run, question(), config(handler := board.handler(), thread()))
    board.flush()
    either(run, Command(resume=secret("answer")), config(handler, thread()))
    assert board.story()[-1] == "worker: done in T, 3 tool calls (add x2, ask)"


def test_a_run_that_waits_twice(board: Board, either: Drive):
    run = lasting(board, [calls("ask"), calls("ask")], ask)
    handler = board.handler()
    for given in (question(), Command(resume=secret("1")), Command(resume=secret("2"))):
        either(run, given, config(handler, thread()))
        board.flush()
    *told, last = board.story()
    waiting, resumed = "worker: waiting for a human: answer to ask", "worker: resumed after T"
    assert told == ["worker: started", waiting, resumed, waiting, resumed]
    assert last.startswith("worker: done in T, ")


def test_questions_that_are_answered_one_by_one(board: Board, either: Drive):
    run = lasting(board, [calls("ask", "ask")], ask)
    given = config(handler := board.handler(), thread())
    either(run, question(), given)
    for pending in run.get_state(given).interrupts:
        board.flush()
        either(run, Command(resume={pending.id: secret("answer")}), given)
    told = board.story()  # the first resumption is over so soon that nobody is told of it
    assert [text for text in told if "resumed" not in text] == [
        "worker: started",
        "worker: waiting for a human: answer to ask x2",
        "worker: waiting for a human: answer to ask",
        "worker: done in T, 2 tool calls (ask x2)",
    ]
    assert handler.stats.posted + handler.stats.merged == 6


def test_branches_that_ask_at_once(board: Board, drive: Drive):
    def review(state: MessagesState) -> None:
        board.flush()
        interrupt(secret("review"))

    graph = StateGraph(MessagesState)
    for name in ("left", "right"):
        graph.add_node(name, review)
        graph.add_edge(START, name)
    run, given = graph.compile(checkpointer=InMemorySaver(), name="flow"), config(board.handler(), thread())
    drive(run, question(), given)
    board.flush()
    drive(run, Command(resume={each.id: secret("answer") for each in run.get_state(given).interrupts}), given)
    assert board.story() == [
        "flow: started",
        "flow: waiting for a human: answer to left, answer to right",
        "flow: resumed after T",
        "flow: done in T",
    ]


def test_a_flow_that_is_a_function(board: Board, either: Drive):
    @entrypoint(checkpointer=InMemorySaver())
    def flow(given: Any) -> str:
        board.flush()
        return secret(interrupt(secret("question")))

    handler = board.handler(name="flow")
    for given in (secret("in"), Command(resume=secret("answer"))):
        either(flow, given, config(handler, thread()))
        board.flush()
    assert board.story() == [
        "flow: started",
        "flow: waiting for a human: answer to flow",
        "flow: resumed after T",
        "flow: done in T",
    ]


def test_a_step_that_asks(board: Board, either: Drive):
    def review(state: MessagesState) -> dict[str, Any]:
        board.flush()
        return {"messages": [AIMessage(secret(interrupt(secret("review"))))]}

    graph = StateGraph(MessagesState)
    graph.add_node("review", review)
    graph.add_edge(START, "review")
    run = graph.compile(checkpointer=InMemorySaver(), name="flow")
    handler = board.handler()
    for given in (question(), Command(resume=secret("answer"))):
        either(run, given, config(handler, thread()))
        board.flush()
    assert board.story() == [
        "flow: started",
        "flow: waiting for a human: answer to review",
        "flow: resumed after T",
        "flow: done in T",
    ]


DECISIONS: dict[str, dict[str, Any]] = {
    "approve": {"type": "approve"},
    "edit": {"type": "edit", "edited_action": {"name": "add", "args": {"a": 2}}},
    "reject": {"type": "reject", "message": secret("rejected")},
    "respond": {"type": "respond", "message": secret("responded")},
}


def gated(mode: str, *names: str) -> HumanInTheLoopMiddleware:
    options: dict[str, Any] = {"interrupt_mode": mode} if len(MODES) > 1 else {}
    return HumanInTheLoopMiddleware(dict.fromkeys(names, True), **options)


def decided(run: Any, given: Any, mode: str, *decisions: str) -> Command[Any]:
    """The answer to all gated calls."""
    chosen = [DECISIONS[each] for each in decisions]
    if mode == "batched":
        return Command(resume={"decisions": chosen})
    pending = run.get_state(given).interrupts
    return Command(resume={each.id: decision for each, decision in zip(pending, chosen, strict=True)})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("decision", DECISIONS)
def test_a_gated_call(board: Board, drive: Drive, mode: str, decision: str):
    run = lasting(board, [calls(("add", {"a": 7}))], add, middleware=[gated(mode, "add")])
    given = config(board.handler(), thread())
    drive(run, question(), given)
    board.flush()
    drive(run, decided(run, given, mode, decision), given)
    called = ", 1 tool call (add)" if decision in ("approve", "edit") else ""
    assert board.story() == [
        "worker: started",
        "worker: waiting for a human: approval of add",
        "worker: resumed after T",
        f"worker: done in T{called}",
    ]


@pytest.mark.parametrize("mode", MODES)
def test_several_gated_calls_at_once(board: Board, either: Drive, mode: str):
    run = lasting(
        board,
        [calls("add", "remove", "add", "handled")],
        add,
        remove,
        handled,
        middleware=[gated(mode, "add", "remove")],
    )
    given = config(board.handler(), thread())
    either(run, question(), given)
    board.flush()
    either(run, decided(run, given, mode, "approve", "reject", "approve"), given)
    _, waiting, _, done = board.story()
    assert waiting == "worker: waiting for a human: approval of add x2, approval of remove"
    assert done == "worker: done in T, 3 tool calls (add x2, handled; 1 failed)"


if "per_call" in MODES:

    def test_gated_calls_that_are_approved_one_by_one(board: Board, either: Drive):
        run = lasting(board, [calls("add", "remove")], add, remove, middleware=[gated("per_call", "add", "remove")])
        given = config(board.handler(), thread())
        either(run, question(), given)
        for pending in run.get_state(given).interrupts:
            board.flush()
            either(run, Command(resume={pending.id: DECISIONS["approve"]}), given)
        first, second = (text for text in board.story() if "waiting" in text)
        both = ["approval of add", "approval of remove"]
        assert sorted(first.removeprefix("worker: waiting for a human: ").split(", ")) == both
        assert second.removeprefix("worker: waiting for a human: ") in both
        done = board.story()[-1]
        assert done in [f"worker: done in T, 2 tool calls ({names})" for names in ("add, remove", "remove, add")]


def test_a_pause_before_a_step(board: Board, drive: Drive):
    run = lasting(board, [calls("add")], add, interrupt_before=["tools"])
    handler = board.handler()
    for given in (question(), None):
        drive(run, given, config(handler, thread()))
        board.flush()
    assert board.story() == [
        "worker: started",
        "worker: waiting for a human before its next step",
        "worker: resumed after T",
        "worker: done in T, 1 tool call (add)",
    ]


def test_a_run_that_another_process_resumes(board: Board, either: Drive):
    """Its handler knows nothing of the beginning."""
    run = lasting(board, [calls("ask")], ask)
    either(run, question(), config(board.handler(), thread()))
    board.flush()
    either(run, Command(resume=secret("answer")), config(board.handler(), thread()))
    assert board.stories() == [
        ["worker: started", "worker: waiting for a human: answer to ask"],
        ["worker: resumed", "worker: done in T, 1 tool call (ask)"],
    ]


def test_new_input_instead_of_an_answer(board: Board, either: Drive):
    run = lasting(board, [calls("ask")], ask)
    handler = board.handler()
    for _ in range(2):
        either(run, question(), config(handler, thread()))
        board.flush()
    first, second = board.stories()
    assert first == ["worker: started", "worker: waiting for a human: answer to ask"]
    assert (second[0], len(second)) == ("worker: started", 2)


def test_threads_wait_by_themselves(board: Board, either: Drive):
    run = lasting(board, [calls("ask")], ask)
    handler = board.handler()
    for name in ("one", "two"):
        either(run, question(), config(handler, thread(name)))
        board.flush()
    for name in ("two", "one"):
        either(run, Command(resume=secret(name)), config(handler, thread(name)))
        board.flush()
        assert [len(story) for story in board.stories()] == ([2, 4] if name == "two" else [4, 4])


def test_graphs_of_one_name_wait_by_themselves(board: Board, either: Drive):
    """Without a name they are all called LangGraph, and a thread's id is often 1."""
    handler = board.handler()
    runs = [lasting(board, [calls(name)], named, name=None) for name, named in (("ask", ask), ("inquire", inquire))]
    for run in runs:
        either(run, question(), config(handler, "1"))
        board.flush()
    for run in runs:
        either(run, Command(resume=secret("answer")), config(handler, "1"))
        board.flush()
    assert board.stories() == [
        [
            "LangGraph: started",
            f"LangGraph: waiting for a human: answer to {name}",
            "LangGraph: resumed after T",
            f"LangGraph: done in T, 1 tool call ({name})",
        ]
        for name in ("ask", "inquire")
    ]


# Runs that broke off


def test_a_drained_run_can_go_on(board: Board, either: Drive):
    control = RunControl()

    @tool
    def drain() -> str:
        """Ask the run to stop after this step."""
        control.request_drain(secret("reason"))
        return secret("drained")

    run = lasting(board, [calls("drain")], drain)
    with pytest.raises(GraphDrained):
        either(run, question(), config(handler := board.handler(), thread()), control=control)
    board.flush()
    either(run, None, config(handler, thread()))
    states = [text.split()[1] for text in board.story()]
    assert states == ["started", "paused", "resumed", "done"]


def test_a_run_that_broke_off_can_go_on(board: Board, either: Drive):
    attempts = []

    @tool
    def flaky() -> str:
        """Fail once."""
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError(secret("flaky"))
        return secret("fine")

    run = lasting(board, [calls("flaky")], flaky)
    with pytest.raises(OSError):
        either(run, question(), config(handler := board.handler(), thread()))
    board.flush()
    either(run, None, config(handler, thread()))
    started, failed, resumed, done = board.story()
    assert (started, resumed) == ("worker: started", "worker: resumed after T")
    assert failed == "worker: failed after T: OSError in tool flaky, 1 tool call (flaky; 1 failed)"
    assert done.startswith("worker: done in T, ")


def test_a_run_that_breaks_off_after_it_was_resumed(board: Board, either: Drive):
    answers = []

    @tool
    def flaky() -> str:
        """Ask, and fail at the first answer."""
        answers.append(interrupt(secret("question")))
        if len(answers) == 1:
            raise OSError(secret("flaky"))
        return secret("fine")

    run, handler = lasting(board, [calls("flaky")], flaky), board.handler()
    either(run, question(), config(handler, thread()))
    board.flush()
    with pytest.raises(OSError):
        either(run, Command(resume=secret("answer")), config(handler, thread()))
    board.flush()
    either(run, None, config(handler, thread()))
    assert [text for text in board.story() if "resumed" not in text] == [
        "worker: started",
        "worker: waiting for a human: answer to flaky",
        "worker: failed after T: OSError in tool flaky, 1 tool call (flaky; 1 failed)",
        "worker: done in T, 2 tool calls (flaky x2; 1 failed)",
    ]
    assert handler.stats.posted + handler.stats.merged == 6


# Where the graph is, and the handler


def watched(inner: Any, handler: Any) -> Any:
    """A step that runs a graph with a handler of its own."""

    def step(state: MessagesState) -> Any:
        return inner.invoke(state, {"callbacks": [handler]})

    return step


def test_a_graph_in_a_graph_that_asks(board: Board, drive: Drive):
    run = outer(board, agent(board, [calls("ask")], ask))
    handler = board.handler()
    for given in (question(), Command(resume=secret("answer"))):
        drive(run, given, config(handler, thread()))
        board.flush()
    assert board.story() == [
        "outer: started",
        "outer: waiting for a human: answer to ask",
        "outer: resumed after T",
        "outer: done in T, 1 tool call (ask)",
    ]


def test_a_handler_that_sees_the_inner_graph_only(board: Board, either: Drive):
    run = outer(board, watched(agent(board, [calls("ask")], ask), board.handler()))
    for given in (question(), Command(resume=secret("answer"))):
        either(run, given, {"configurable": {"thread_id": thread()}})
        board.flush()
    assert board.story() == [
        "worker: started",
        "worker: waiting for a human: answer to ask",
        "worker: resumed after T",
        "worker: done in T, 1 tool call (ask)",
    ]


def test_an_agent_in_a_tool_that_asks(board: Board, either: Drive):
    run = lasting(board, [calls("consult")], consulting(board, ask, lines=[calls("ask")]))
    handler = board.handler()
    for given in (question(), Command(resume=secret("answer"))):
        either(run, given, config(handler, thread()))
        board.flush()
    assert board.story() == [
        "worker: started",
        "worker: waiting for a human: answer to ask",
        "worker: resumed after T",
        "worker: done in T, 2 tool calls (consult, ask)",
    ]


def test_an_agent_in_a_sequence_that_asks(board: Board):
    """The sequence begins anew, but a person who was told that it waits wants to hear that it goes on."""
    run = RunnableLambda(lambda given: given) | lasting(board, [calls("ask")], ask)
    run, handler = run.with_config(run_name="pipeline"), board.handler()
    run.invoke(question(), config(handler, thread()))
    board.flush()
    assert board.story() == ["pipeline: started", "pipeline: waiting for a human: answer to ask"]
    run.invoke(Command(resume=secret("answer")), config(handler, thread()))
    assert board.stories()[0][2:] == ["pipeline: resumed after T", "pipeline: done in T, 1 tool call (ask)"]


def test_a_fast_resumption_in_a_sequence_leaves_no_beginning_behind(board: Board, gate: Gate):
    """What was not posted yet is not posted any more, once it is known to go on with another story."""
    run = (RunnableLambda(lambda given: given) | lasting(board, [calls("ask")], ask, between=None)).with_config(
        run_name="pipeline"
    )
    given = config(board.handler(board.client(gate.url)), thread())
    run.invoke(question(), given)
    board.flush()
    gate.opened.clear()
    before = len(gate.keys())
    RunnableLambda(lambda given: given, name="other").invoke(secret("in"), given)
    until(lambda: len(gate.keys()) > before)
    run.invoke(Command(resume=secret("answer")), given)
    gate.opened.set()
    first, other = board.stories()
    assert (first[0].split()[0], first[-1]) == ("pipeline:", "pipeline: done in T, 1 tool call (ask)")
    assert other[-1] == "other: done in T"


def test_everywhere_and_in_a_thread(board: Board, either: Drive):
    handler = board.handler()
    run = lasting(board, [calls("ask")], ask).with_config(callbacks=[handler])
    for given in (question(), Command(resume=secret("answer"))):
        either(run, given, config(handler, thread()))
        board.flush()
    assert board.story() == [
        "worker: started",
        "worker: waiting for a human: answer to ask",
        "worker: resumed after T",
        "worker: done in T, 1 tool call (ask)",
    ]


# What is asked


def test_all_questions_are_told_if_interrupts_are_included(board: Board):
    board.open = True
    run = lasting(board, [calls(("ask", {"about": "apples"}), ("ask", {"about": "pears"}))], ask)
    run.invoke(question(), config(board.handler(include=["interrupts"]), thread()))
    waiting = board.story()[-1]
    assert "apples" in waiting
    assert "pears" in waiting


def test_a_question_is_told_by_a_handler_that_sees_the_inner_graph_only(board: Board):
    board.open = True
    inner = agent(board, [calls(("ask", {"about": "apples"}))], ask)
    run = outer(board, watched(inner, board.handler(include=["interrupts"])))
    run.invoke(question(), {"configurable": {"thread_id": thread()}})
    assert "apples" in board.story()[-1]


def test_a_state_that_a_person_edits_is_no_run(board: Board, either: Drive):
    """`update_state` takes the config of the run, and with it the handler."""
    run, handler = lasting(board, [calls("ask")], ask), board.handler()
    either(run, question(), config(handler, thread()))
    run.update_state(config(handler, thread()), {"messages": []})
    either(run, None, config(handler, thread()))
    assert [text.split()[1] for text in board.story()][:2] == ["started", "waiting"]
    assert not [post for post in board.posts() if "UpdateState" in post["content"]]
