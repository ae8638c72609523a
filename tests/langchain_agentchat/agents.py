"""Agents for the tests of the handler: tools that work, fail and ask, and graphs around them. Needs LangGraph."""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import BaseTool, ToolException, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt

from tests.langchain_agentchat.scripted import Board, Model, question, secret


@tool
def add(a: int = 1) -> str:
    """Add."""
    return secret("sum")


@tool
def remove(a: int = 1) -> str:
    """Remove."""
    return secret("removed")


@tool
def boom() -> str:
    """Fail."""
    raise ValueError(secret("boom"))


@tool
def handled() -> str:
    """Fail, and tell it."""
    raise ToolException(secret("handled"))


handled.handle_tool_error = True


@tool
def ask(about: str = "") -> str:
    """Ask a human."""
    return secret(str(interrupt({"question": secret("question"), "about": about})))


def agent(board: Board, lines: list[Any], *tools: BaseTool, name: str | None = "worker", **options: Any) -> Any:
    """Before each of its model's turns, all that was told is posted, unless `between` is something else."""
    model = Model(lines=lines, between=options.pop("between", board.flush))
    return create_agent(model, list(tools), name=name, **options)


def config(handler: Any, thread: str | None = None, **more: Any) -> dict[str, Any]:
    made = {"callbacks": [handler], "metadata": {"note": secret("metadata")}, "tags": [secret("tag")], **more}
    return made if thread is None else {**made, "configurable": {"thread_id": thread}}


def thread(name: str = "one") -> str:
    return secret(f"thread-{name}")


def lasting(board: Board, lines: list[Any], *tools: BaseTool, **options: Any) -> Any:
    """An agent whose runs can be resumed."""
    return agent(board, lines, *tools, checkpointer=InMemorySaver(), **options)


def outer(board: Board, node: Any) -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node("inner", node)
    graph.add_edge(START, "inner")
    graph.add_edge("inner", END)
    return graph.compile(checkpointer=InMemorySaver(), name="outer")


def consulting(board: Board, *tools: BaseTool, lines: list[Any]) -> BaseTool:
    """A tool that asks another agent."""
    inner = agent(board, lines, *tools, name="researcher")

    @tool
    def consult() -> str:
        """Consult."""
        return str(inner.invoke(question())["messages"][-1].content)

    return consult
