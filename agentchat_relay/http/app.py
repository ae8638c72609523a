"""The relay as an ASGI application: every route, in order, and what surrounds each call.

A request goes: route -> who is calling -> how often -> arguments -> service -> answer. The relay takes no other step.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from itertools import count
from time import perf_counter
from typing import Any

from agentchat import __version__
from agentchat.contract import OPERATIONS, Admission
from agentchat.errors import AgentChatError, NotFound, RelayError, Unavailable

from ..administration import ADMINISTRATION
from ..metrics import Tally
from ..service import waiting
from ..service.operations import ADMIN_SERVICES, SERVICES, Entry
from . import compat
from .admission import Register, RegisterMachine
from .approvals import VerdictRoute
from .byhand import ROUTES
from .events import Events
from .files import DownloadFile, LinkedFile, UploadFile
from .locks import AcquireRoute
from .metrics import MetricsPage
from .openapi import Description
from .operations import AdminRoute, OperationRoute
from .parts import Parts
from .record import REQUEST_ID, Record, failed
from .reply import Reply, failure, json_reply, refusal
from .request import Disconnected, Receive, Request, Scope, Send
from .waiting import WaitRoute

Handler = Callable[[Request], Awaitable[Reply]]
CONTRACT = "v2"
_STOPPING = "The relay is stopping. The call may or may not have been done; try again with the same key."
_is_id = re.compile(rb"[A-Za-z0-9._-]{1,64}").fullmatch


def routes(parts: Parts, services: dict[str, Entry] = SERVICES) -> dict[tuple[str, str], Handler]:
    """All there is, by method and path; names in braces stand for one segment each."""
    operations = {name: OperationRoute(parts, entry) for name, entry in services.items()}
    return {
        ("GET", "/"): _root,
        ("GET", "/health"): _health,
        ("GET", "/metrics"): MetricsPage(parts, CONTRACT),
        ("GET", "/openapi.json"): Description(parts.settings.public_url),
        **{_route(services[name]): route for name, route in operations.items()},
        _route(services["list_tasks"]): compat.ForMe(operations["list_tasks"], operations["check_work"]),
        ("POST", "/api/v2/tasks/{task_id}"): compat.ByAction(parts, operations),
        _route(services["acquire_lock"]): AcquireRoute(parts, services["acquire_lock"]),
        _route(services["get_approval"]): VerdictRoute(parts, services["get_approval"]),
        _route_of(OPERATIONS["list_events"]): Events(parts),
        _route_of(OPERATIONS["wait_for_reply"]): WaitRoute(parts, "wait_for_reply", waiting.reply),
        _route_of(OPERATIONS["wait_for_message"]): WaitRoute(parts, "wait_for_message", waiting.message),
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


def _names() -> dict[tuple[str, str], str]:
    """What each route is called in metrics and in the log."""
    declared = (*OPERATIONS.values(), Admission.register, *ADMINISTRATION.values())
    names = {_route_of(operation): operation.name for operation in declared if "?" not in operation.path}
    return names | {(route.verb, route.path): route.name for route in ROUTES}


async def _root(request: Request) -> Reply:
    return json_reply({"name": "AgentChat relay", "version": __version__, "contract": CONTRACT})


async def _health(request: Request) -> Reply:
    return json_reply({"status": "ok", "version": __version__, "contract": CONTRACT})


_NAME = re.compile(r"\{(\w+)\}")


class App:
    """One relay."""

    def __init__(self, handlers: dict[tuple[str, str], Handler], parts: Parts) -> None:
        self.metrics = parts.metrics
        self._log_requests, self._trusted = parts.settings.log_requests, parts.settings.trusted_proxies
        names = _names()
        found = {route: (handler, self.metrics.tally(names.get(route, "other"))) for route, handler in handlers.items()}
        self._unknown = self.metrics.tally("unknown")
        self._fixed = {route: entry for route, entry in found.items() if "{" not in route[1]}
        # Of a route with names in its path: where these stand, and what is left without them.
        self._named = {
            (method, places, _without(path.split("/"), places)): (_NAME.findall(path), entry)
            for (method, path), entry in found.items()
            if (places := _places(path))
        }
        self._places = {places for _, places, _ in self._named}
        self._methods = {method for method, _ in found}
        self._boot = os.urandom(4).hex()
        self._numbers = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("the relay speaks HTTP only")
        began = perf_counter()
        request = Request(scope, receive)
        self.metrics.in_progress += 1
        try:
            if self._log_requests:
                await self._recorded(request, send, began)
            else:
                await self._answer(request, send, began, None)
        finally:
            self.metrics.in_progress -= 1

    async def _answer(self, request: Request, send: Send, began: float, record: Record | None) -> None:
        tally, code, reply = self._unknown, "ok", None
        id = record.id if record else ""
        try:
            handler, tally = self._fixed.get((request.scope["method"], request.path)) or self._find(request)
            reply = await handler(request)
        except AgentChatError as error:
            code, reply = error.code, refusal(error, id or self._id_of(request))
        except Disconnected:
            code = "disconnected"
        except asyncio.CancelledError:  # the relay stops, and this call took too long to be waited for
            code, reply = Unavailable.code, refusal(Unavailable(_STOPPING), id or self._id_of(request))
        except Exception as error:
            id = id or self._id_of(request)
            failed("request %s failed", id, tally.name, error)
            code, reply = RelayError.code, failure(id)
        tally.count(code, perf_counter() - began)
        if record:
            record.operation, record.code = tally.name, code
        if reply is None:
            return
        try:
            await (reply.send(send) if reply.pieces is None else self._stream(reply, send))
        except Exception as error:  # the answer has begun and cannot be taken back: the connection is cut
            failed("the answer to request %s broke off", id or self._id_of(request), tally.name, error)
            if record:
                record.code = RelayError.code
            raise

    async def _stream(self, reply: Reply, send: Send) -> None:
        streams = self.metrics.streams
        streams["download"] += 1
        try:
            await reply.send(send)
        finally:
            streams["download"] -= 1

    async def _recorded(self, request: Request, send: Send, began: float) -> None:
        """An answer of which the log has a record, by the id that the answer carries."""
        record = Record(self._id_of(request))
        try:
            await self._answer(request, record.watching(send, request.scope["method"] != "HEAD"), began, record)
        finally:
            record.write(perf_counter() - began)

    def _id_of(self, request: Request) -> str:
        """What a request is called, in the answer and in the log: as a proxy of ours calls it, or by a new name."""
        client = request.scope.get("client")
        if client and client[0] in self._trusted:
            given = request.headers.get(REQUEST_ID, b"")
            if _is_id(given):
                return given.decode()
        return f"{self._boot}-{next(self._numbers):x}"

    def _find(self, request: Request) -> tuple[Handler, Tally]:
        """A route with names in its path, or what is wrong with the request."""
        method = request.scope["method"]
        if method == "HEAD":  # answered as GET; the server sends no body
            method = "GET"
            if found := self._fixed.get((method, request.path)):
                return found
        if found := self._with_names(method, request):
            return found
        allowed = {
            verb for verb in self._methods if (verb, request.path) in self._fixed or self._with_names(verb, request)
        }
        if not allowed:
            raise NotFound("There is no such route on this relay.", code="unknown_operation")
        raise _WrongMethod(allowed)

    def _with_names(self, method: str, request: Request) -> tuple[Handler, Tally] | None:
        segments = request.path.split("/")
        for places in self._places:
            found = self._named.get((method, places, _without(segments, places)))
            if found and all(values := [segments[place] for place in places]):
                names, entry = found
                request.segments = dict(zip(names, values, strict=True))
                return entry
        return None


def _places(path: str) -> tuple[int, ...]:
    return tuple(place for place, segment in enumerate(path.split("/")) if segment.startswith("{"))


def _without(segments: list[str], places: tuple[int, ...]) -> str:
    """The path without what stands in these places, or as it is, if it has not got so many."""
    if places[-1] < len(segments):
        segments = segments.copy()
        for place in places:
            segments[place] = "{}"
    return "/".join(segments)


class _WrongMethod(NotFound):
    """The path exists, the method does not."""

    def __init__(self, allowed: set[str]) -> None:
        names = ", ".join(sorted(allowed))
        super().__init__(f"This route takes {names}.", code="unknown_operation", status=405, details={"allow": names})
