"""The application called without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import unquote

from agentchat._exchange import Request, Response
from agentchat.errors import ProtocolError

from .connection import CONNECTION


class Direct:
    """One request as the application sees it, and what it answers."""

    def __init__(self, request: Request, most: int) -> None:
        path, _, query = request.path.partition("?")
        self.scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": request.method,
            "path": unquote(path),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in request.headers.items()],
            "client": None,
            CONNECTION: self,
        }
        self._request, self._most = request, most
        self._status, self._headers, self._pieces, self._size = 0, dict[str, str](), list[bytes](), 0

    async def receive(self) -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": self._request.body or b"", "more_body": False}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = {name.decode(): value.decode("latin-1") for name, value in message["headers"]}
            return
        self._size += len(message["body"])
        if self._size <= self._most:
            self._pieces.append(message["body"])

    def response(self) -> Response:
        if self._size > self._most:
            raise ProtocolError(f"The answer has {self._size} bytes; at most {self._most} are read.")
        return Response(self._status, self._headers, b"".join(self._pieces))

    def ended(self) -> asyncio.Future[None]:
        """Never: whoever gives up cancels the task."""
        return asyncio.get_running_loop().create_future()

    def take(self, protocol: asyncio.Protocol) -> None:
        raise RuntimeError("there is no socket to take")
