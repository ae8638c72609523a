"""A chat model that needs no network: it says its lines, and finds what they need in what it was shown.

It reads tool results as text, as any model does; nothing is passed to it behind the agent's back.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable

Line = Callable[["Seen"], AIMessage]


class Seen:
    """The conversation so far, as the model was given it."""

    def __init__(self, messages: Sequence[BaseMessage]) -> None:
        self.messages = messages

    def find(self, pattern: str) -> str:
        """What the pattern's group matches in the latest text that has it."""
        for message in reversed(self.messages):
            if isinstance(message, ToolMessage | HumanMessage) and (found := re.search(pattern, str(message.content))):
                return found[1]
        raise LookupError(f"the conversation has nothing like {pattern}")

    @property
    def turn(self) -> int:
        """How often the model has spoken since it was last spoken to."""
        turns = 0
        for message in self.messages:
            turns = 0 if isinstance(message, HumanMessage) else turns + isinstance(message, AIMessage)
        return turns


class ScriptedModel(BaseChatModel):
    """Plays a list of lines, one per turn, thinking `pace` seconds before each."""

    lines: list[Line]
    pace: float = 0.0

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> Runnable[Any, AIMessage]:
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **_: Any,
    ) -> ChatResult:
        time.sleep(self.pace)
        seen = Seen(messages)
        return ChatResult(generations=[ChatGeneration(message=self.lines[seen.turn](seen))])


def call(tool: str, /, **arguments: Any) -> AIMessage:
    """The model asks for a tool."""
    return AIMessage("", tool_calls=[{"name": tool, "args": arguments, "id": f"call-{time.monotonic_ns():x}"}])


def say(words: str) -> AIMessage:
    """The model is done."""
    return AIMessage(words)
