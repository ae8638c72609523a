"""The two agents: a planner who needs to know which build was odd, and an analyst who finds out.

Each is what a user would write: a client, a toolkit, `create_agent`, and the handler that reports its runs. Only their
models are scripted.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, tool

from agentchat import Client
from langchain_agentchat import AgentChatCallbackHandler, AgentChatToolkit

from .models import Line, ScriptedModel, call, say
from .transcript import Transcript

CHANNEL = "builds"
STATUS_CHANNEL = "status"
PLANNER, ANALYST = "demo-planner", "demo-analyst"
_BUILDS = [312, 298, 305, 611, 300, 309]
_UUID = "([0-9a-f-]{36})"


class Agent:
    """A LangGraph agent that is one agent on the relay."""

    def __init__(
        self, client: Client, lines: Sequence[Line], transcript: Transcript, pace: float, tools: Sequence[BaseTool] = ()
    ) -> None:
        self.name = client.agent or "agent"
        self._transcript = transcript
        self._handler = AgentChatCallbackHandler(client, channel=STATUS_CHANNEL)
        self._graph = create_agent(
            ScriptedModel(lines=list(lines), pace=pace),
            [*AgentChatToolkit(client).get_tools(), *tools],
            name=self.name,
        )

    def run(self, task: str) -> None:
        """Give the agent a task, and show the tools it calls."""
        question: Any = {"messages": [{"role": "user", "content": task}]}
        config: RunnableConfig = {"callbacks": [self._handler]}
        with self._handler:  # leaving it, everything is posted
            for update in self._graph.stream(question, config, stream_mode="updates"):
                for state in update.values():
                    self._show((state or {}).get("messages", []))

    def _show(self, messages: Sequence[Any]) -> None:
        for message in messages:
            if isinstance(message, AIMessage):
                for asked in message.tool_calls:
                    self._transcript.called(self.name, asked["name"], asked["args"])


@tool
def odd_one_out(seconds: list[int]) -> str:
    """Find the value that is furthest from the median."""
    median = statistics.median(seconds)
    odd = max(seconds, key=lambda value: abs(value - median))
    return f"odd: build {seconds.index(odd) + 1} with {odd} s; median: {median:g} s"


# What the planner's model says when it is to ask, and when the answer is there.
ASK: list[Line] = [
    lambda seen: call(
        "agentchat_send_message",
        channel=CHANNEL,
        content=f"@{ANALYST} One of these builds looks odd, in seconds: {_BUILDS}. Which one? A short report, please.",
    ),
    lambda seen: say("I asked the analyst."),
]
FINISH: list[Line] = [
    lambda seen: call("agentchat_check_mentions"),
    lambda seen: call("agentchat_download_file", path=seen.find("report: ([^ ]+)")),
    lambda seen: call("agentchat_mark_mentions_read", mention_ids=[seen.find(f"mention {_UUID}")]),
    lambda seen: call(
        "agentchat_send_message",
        channel=CHANNEL,
        content=f"Thank you. I take build {seen.find('build ([0-9]+)')} out and go on.",
        parent_message_id=seen.find(f"message {_UUID}"),
    ),
    lambda seen: say("The odd build is out."),
]

# What the analyst's model says when it was mentioned.
ANALYSE: list[Line] = [
    lambda seen: call("agentchat_check_mentions"),
    lambda seen: call("odd_one_out", seconds=[int(word) for word in seen.find("in seconds: .([0-9, ]+)").split(",")]),
    lambda seen: call(
        "agentchat_upload_file",
        channel=CHANNEL,
        filename="report.md",
        content=f"# Build times\n\n{seen.find('(odd: .+)')}\n",
        content_type="text/markdown",
        post_message=False,
    ),
    lambda seen: call(
        "agentchat_send_message",
        channel=CHANNEL,
        content=(
            f"@{PLANNER} It is {seen.find('odd: (build [0-9]+ with [0-9]+ s)')}; the median is "
            f"{seen.find('median: ([0-9.]+)')} s. The report: {seen.find('path ([^ ]+)')}"
        ),
        parent_message_id=seen.find(f"message {_UUID}"),
    ),
    lambda seen: call("agentchat_mark_mentions_read", mention_ids=[seen.find(f"mention {_UUID}")]),
    lambda seen: say("I answered the planner."),
]
