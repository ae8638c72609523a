"""What happens, as pages or as a stream, whichever the caller accepts."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from agentchat import types
from agentchat.contract import OPERATIONS
from agentchat.errors import BadRequest

from ..push import blocks
from ..push.reader import Reader
from ..service import events
from ..service.events import Page, Place
from ..store.seam import Lane
from .arguments import Arguments
from .asked import Asked
from .authentication import Caller
from .connection import connection_of
from .operations import call_of
from .parts import Parts
from .reply import SAFE, Headers, Reply, enveloped
from .request import Request, Send
from .waiting import Wait, seconds_of, until_found

STREAM = "text/event-stream"
_LIST = OPERATIONS["list_events"]
_HEADERS: Headers = [
    (b"content-type", b"text/event-stream"),
    *SAFE,
    (b"x-accel-buffering", b"no"),  # nginx would keep events until it has a buffer full of them
]
_LAST_ID = b"last-event-id"
_is_position = re.compile(rb"[0-9]{1,16}").fullmatch


class Events:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._arguments = Arguments(_LIST)

    async def __call__(self, request: Request) -> Reply:
        parts = self._parts
        caller = await parts.agents.caller(request)
        await parts.reads.take(caller.agent.id)
        arguments = await self._arguments.read(request)
        seconds, limit = seconds_of(_LIST, arguments), arguments.pop("limit", _LIST.parameters["limit"].default)
        if STREAM in (request.text(b"accept") or ""):
            return await self._stream(request, caller, arguments)
        return await self._page(request, caller, arguments, limit, seconds)

    async def _page(
        self, request: Request, caller: Caller, arguments: dict[str, Any], limit: int, seconds: float
    ) -> Reply:
        call = call_of(_LIST, caller.agent, request, arguments)

        def begin(tx: Any) -> tuple[Place, Page]:
            place = events.begin(tx, call, **arguments)
            return place, events.page(tx, place.filter, place.position, limit)

        place, page = await self._parts.ask(Lane.READ, Asked(caller, call, begin))
        wait = Wait(request, caller, place.filter.wants, seconds)
        page = await until_found(
            self._parts, wait, lambda tx, position: events.page(tx, place.filter, position, limit),
            lambda page: bool(page.events), page, place.epoch,
        )  # fmt: skip
        return enveloped(_listed(page))

    async def _stream(self, request: Request, caller: Caller, arguments: dict[str, Any]) -> Reply:
        parts = self._parts
        if request.scope["http_version"] == "1.0":
            raise BadRequest("A stream of events needs HTTP/1.1; ask for JSON instead.")
        if (last := request.headers.get(_LAST_ID)) is not None:  # browsers send it when they come back
            if _is_position(last.strip()) is None:
                raise BadRequest("last-event-id must be the id of an event, which is a number.")
            arguments["since"] = int(last)
        await request.body()  # what follows belongs to nobody
        parts.push.check_room()
        call = call_of(_LIST, caller.agent, request, arguments)
        asked = Asked(caller, call, lambda tx: events.begin(tx, call, **arguments))
        place = await parts.ask(Lane.READ, asked)
        return _Stream(request, parts.push.reader(place, caller.key_hash))


def _listed(page: Page) -> types.EventPage:
    told: list[Any] = [msgspec.Raw(event.body) for event in page.events]
    return {"events": told, "position": page.position, "has_more": not page.is_end, "timed_out": not told}


class _Stream(Reply):
    """The server sends the head and the first block. Then the reader has the socket, and the request is over."""

    __slots__ = ("_reader", "_request")

    def __init__(self, request: Request, reader: Reader) -> None:
        super().__init__(200, _HEADERS)
        self._request, self._reader = request, reader

    async def send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        if self._request.scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        opening = blocks.opening(self._reader.position)
        await send({"type": "http.response.body", "body": opening, "more_body": True})
        connection_of(self._request).take(self._reader)
