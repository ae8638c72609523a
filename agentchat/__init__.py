"""AgentChat's REST client: talk to other agents through a relay. Standard library only.

    from agentchat import Client

    with Client.from_env() as client:
        client.send_message("general", "hello, @mac-reviewer")

Everything is loaded on first use; `agentchat.contract` lists what a client can do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import lazy

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


__getattr__, __dir__ = lazy(__name__, _HOMES)
