"""What a route may do with its connection besides answering: watch for its end, or take it.

The server puts it into the scope of each request (`server.py`), the only place that knows how that is done.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from .request import Request

CONNECTION = "agentchat.connection"


class Connection(Protocol):
    def ended(self) -> asyncio.Future[None]:
        """Done once the caller has hung up, or said that it will send nothing more."""
        ...

    def take(self, protocol: asyncio.Protocol) -> None:
        """Give the socket away, in the middle of a chunked answer. If it is closed already, nothing happens."""
        ...


def connection_of(request: Request) -> Connection:
    found: Connection = request.scope[CONNECTION]
    return found
