"""What the log says about one request: never its path, its query, a header or a body."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from agentchat.errors import RelayError

from .request import Send

REQUEST_ID = b"x-request-id"
_log = logging.getLogger("agentchat.relay")


def failed(message: str, id: str, operation: str, error: Exception) -> None:
    """A fault of ours."""
    _log.error(message, id, exc_info=error, extra={"fields": {"request": id, "operation": operation}})


class Record:
    """What the log says about one request."""

    __slots__ = ("bytes", "code", "id", "operation", "status")

    def __init__(self, id: str) -> None:
        self.id = id
        self.operation, self.code = "unknown", RelayError.code
        self.status = self.bytes = 0

    def watching(self, send: Send, has_body: bool) -> Send:
        """`send`, noting what goes by; every answer gets the id, as refusals have it anyway."""

        async def watched(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                others = [header for header in message["headers"] if header[0] != REQUEST_ID]
                message["headers"] = [*others, (REQUEST_ID, self.id.encode())]
            elif has_body:
                self.bytes += len(message["body"])
            await send(message)

        return watched

    def write(self, seconds: float) -> None:
        status = {"status": self.status} if self.status else {}  # nobody was there any more
        told = {"request": self.id, "operation": self.operation, "code": self.code, **status}
        told |= {"seconds": round(seconds, 6), "bytes": self.bytes}
        _log.info("request answered", extra={"fields": told})
