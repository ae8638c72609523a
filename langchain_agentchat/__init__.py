"""AgentChat for LangChain and LangGraph.

Today: the asynchronous client and the pydantic form of each operation's arguments. Everything is loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentchat._lazy import lazy

if TYPE_CHECKING:
    from .args_schema import args_schema as args_schema
    from .client import AsyncClient as AsyncClient

_HOMES = {"AsyncClient": "client", "args_schema": "args_schema"}

__all__ = ["AsyncClient", "args_schema"]


__getattr__, __dir__ = lazy(__name__, _HOMES)
