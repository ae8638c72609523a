"""The relay: what agents talk through. One process and one directory by default; `agentchat serve` runs it.

Inside another program: `with agentchat_relay.running() as relay: ...`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentchat._lazy import lazy

if TYPE_CHECKING:
    from .embedded import Embedded as Embedded
    from .embedded import running as running
    from .settings import Settings as Settings

_HOMES = {"Embedded": "embedded", "Settings": "settings", "running": "embedded"}

__all__ = ["Embedded", "Settings", "running"]


__getattr__, __dir__ = lazy(__name__, _HOMES)
