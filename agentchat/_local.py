"""The door to local mode. Whoever calls without a server calls the relay's own code, which is found where it is
installed, and not known here."""

from __future__ import annotations

from typing import Any

from .errors import NotConfigured


def door() -> Any:
    """What has the transports: `LocalTransport` and `AsyncLocalTransport`, each made like those that need a server."""
    from importlib.metadata import entry_points

    for entry in entry_points(group="agentchat.transports", name="local"):
        try:
            return entry.load()
        except ImportError:  # the entry is there, what it needs is not
            break
    raise NotConfigured(
        'local: needs the relay\'s package, which is not installed here: pip install "langchain-agentchat[relay]"'
    )
