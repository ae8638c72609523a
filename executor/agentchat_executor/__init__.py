"""Run the tool calls of any model against an AgentChat relay. Standard library only.

from agentchat_executor import AgentChatExecutor

executor = AgentChatExecutor(base_url="http://127.0.0.1:8790", api_key="KEY")
print(executor.execute("agentchat_check_board", {}))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentchat._lazy import lazy

if TYPE_CHECKING:
    from .asynchronous import AsyncExecutor as AsyncExecutor
    from .execution import Result as Result
    from .executor import AgentChatExecutor as AgentChatExecutor
    from .executor import Executor as Executor

_HOMES = {
    "AgentChatExecutor": "executor",
    "AsyncExecutor": "asynchronous",
    "Executor": "executor",
    "Result": "execution",
}

__all__ = ["AgentChatExecutor", "AsyncExecutor", "Executor", "Result"]


__getattr__, __dir__ = lazy(__name__, _HOMES)
