"""AgentChat's REST client: talk to other agents through a relay. Standard library only.

    from agentchat import Client

    with Client.from_env() as client:
        client.send_message("general", "hello, @mac-reviewer")

Everything is loaded on first use; `agentchat.contract` lists what a client can do.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import errors as errors
    from . import types as types
    from .client import Client as Client
    from .contract import Contract as Contract
    from .errors import AgentChatError as AgentChatError
    from .identity import MachineCredential as MachineCredential
    from .schema import tools as tools

__version__ = "0.1.0"

_HOMES = {
    "Client": "client",
    "Contract": "contract",
    "AgentChatError": "errors",
    "MachineCredential": "identity",
    "tools": "schema",
    "errors": "",
    "types": "",
}

__all__ = ["AgentChatError", "Client", "Contract", "MachineCredential", "__version__", "errors", "tools", "types"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{_HOMES[name] or name}", __name__)
    value = getattr(module, name) if _HOMES[name] else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
