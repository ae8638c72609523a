"""The relay as an ASGI application: every route, in order, and what surrounds each call.

A request goes: route -> who is calling -> how often -> arguments -> service -> answer. The relay takes no other step.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

from agentchat import __version__
from agentchat.contract import OPERATIONS, Admission
from agentchat.errors import AgentChatError, NotFound, Unavailable

from ..service.operations import ADMIN_SERVICES, SERVICES, Entry
from .admission import Register, RegisterMachine
from .files import DownloadFile, LinkedFile, UploadFile
from .operations import AdminRoute, OperationRoute
from .parts import Parts
from .reply import Reply, failure, json_reply, refusal
from .request import Disconnected, Receive, Request, Scope, Send

Handler = Callable[[Request], Awaitable[Reply]]
_log = logging.getLogger("agentchat.relay")
CONTRACT = "v2"


def routes(parts: Parts, services: dict[str, Entry] = SERVICES) -> dict[tuple[str, str], Handler]:
    """All there is, by method and path; names in braces stand for one segment each."""
    return {
        ("GET", "/"): _root,
        ("GET", "/health"): _health,
        **{_route(entry): OperationRoute(parts, entry) for entry in services.values()},
        _route_of(OPERATIONS["upload_file"]): UploadFile(parts),
        _route_of(OPERATIONS["download_file"]): DownloadFile(parts),
        ("GET", "/api/files/signed/{token}"): LinkedFile(parts),
        _route_of(Admission.register): Register(parts),
        ("POST", "/api/v2/admin/register-machine"): RegisterMachine(parts),
        **{_route(entry): AdminRoute(parts, entry) for entry in ADMIN_SERVICES.values()},
    }


def _route(entry: Entry) -> tuple[str, str]:
    return _route_of(entry.operation)


def _route_of(operation: Any) -> tuple[str, str]:
    return operation.verb, operation.path.partition("?")[0]


async def _root(request: Request) -> Reply:
    return json_reply({"name": "AgentChat relay", "version": __version__, "contract": CONTRACT})


async def _health(request: Request) -> Reply:
    return json_reply({"status": "ok", "version": __version__, "contract": CONTRACT})


class App:
    """One relay."""

    def __init__(self, handlers: dict[tuple[str, str], Handler]) -> None:
        self._fixed = {route: handler for route, handler in handlers.items() if "{" not in route[1]}
        self._patterns = [
            (method, re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)), handler)
            for (method, path), handler in handlers.items()
            if "{" in path
        ]
        self._boot = os.urandom(4).hex()
        self._numbers = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("the relay speaks HTTP only")
        request = Request(scope, receive)
        try:
            handler = self._fixed.get((scope["method"], request.path)) or self._find(scope["method"], request)
            reply = await handler(request)
        except AgentChatError as error:
            reply = refusal(error, self._new_id())
        except Disconnected:
            return
        except asyncio.CancelledError:  # the relay stops, and this call took too long to be waited for
            reply = refusal(
                Unavailable(
                    "The relay is stopping. The call may or may not have been done; try again with the same key."
                ),
                self._new_id(),
            )
        except Exception as error:
            id = self._new_id()
            _log.error("request %s: %s %s failed", id, scope["method"], request.path[:200], exc_info=error)
            reply = failure(id)
        try:
            await reply.send(send)
        except Exception as error:  # the answer has begun and cannot be taken back: the connection is cut
            _log.error("answering %s %s failed", scope["method"], request.path[:200], exc_info=error)
            raise

    def _new_id(self) -> str:
        """What a refusal is called, in the answer and in the log."""
        return f"{self._boot}-{next(self._numbers):x}"

    def _find(self, method: str, request: Request) -> Handler:
        """A route with names in its path, or what is wrong with the request."""
        if method == "HEAD":  # answered as GET; the server sends no body
            method = "GET"
            if found := self._fixed.get((method, request.path)):
                return found
        allowed = {verb for verb, path in self._fixed if path == request.path}
        for verb, pattern, handler in self._patterns:
            if match := pattern.fullmatch(request.path):
                if verb == method:
                    request.segments = match.groupdict()
                    return handler
                allowed.add(verb)
        if not allowed:
            raise NotFound("There is no such route on this relay.", code="unknown_operation")
        raise _WrongMethod(allowed)


class _WrongMethod(NotFound):
    """The path exists, the method does not."""

    def __init__(self, allowed: set[str]) -> None:
        names = ", ".join(sorted(allowed))
        super().__init__(f"This route takes {names}.", code="unknown_operation", status=405, details={"allow": names})
