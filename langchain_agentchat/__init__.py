"""AgentChat for LangChain and LangGraph.

Today: the asynchronous client and the pydantic form of each operation's arguments. Everything is loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .args_schema import args_schema as args_schema
    from .client import AsyncClient as AsyncClient

_HOMES = {"AsyncClient": "client", "args_schema": "args_schema"}

__all__ = ["AsyncClient", "args_schema"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
