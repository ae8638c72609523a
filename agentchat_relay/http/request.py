"""One request as routes see it, and the reading of its body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from agentchat.errors import BadRequest, TooLarge

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MOST_BODY = 1 << 20
_LONGEST_SILENCE = 30.0  # seconds between two pieces of a body
_LONGEST_BODY = 600.0  # seconds for all of them
_decode = msgspec.json.Decoder().decode


class Disconnected(Exception):
    """The caller hung up before its request was whole."""


class Request:
    """Headers by lowercase name, as bytes; the body comes when it is asked for."""

    __slots__ = ("headers", "path", "receive", "scope", "segments")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.receive = receive
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.segments: dict[str, str] = {}

    def text(self, header: bytes) -> str | None:
        value = self.headers.get(header)
        return None if value is None else value.decode("latin-1")

    def query(self) -> dict[str, Any]:
        """The query's members; the last of a name counts, and a blank one is absent."""
        raw = self.scope["query_string"]
        if not raw:
            return {}
        try:
            return dict(parse_qsl(raw.decode("ascii", "replace"), max_num_fields=100))
        except ValueError:
            raise BadRequest("The query has too many members.") from None

    async def body(self, most: int = MOST_BODY) -> bytes:
        """The whole body, which must be small."""
        message = await self.receive()
        if not message.get("more_body"):
            return self._piece(message, most)
        pieces = [self._piece(message, most)]
        room = most - len(pieces[0])
        async for piece in self.pieces():
            room -= len(piece)
            if room < 0:
                raise _too_large(most)
            pieces.append(piece)
        return b"".join(pieces)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. A caller that falls silent, or never ends, is given up."""
        more = True
        deadline = asyncio.get_running_loop().time() + _LONGEST_BODY
        while more:
            try:
                async with asyncio.timeout_at(min(deadline, asyncio.get_running_loop().time() + _LONGEST_SILENCE)):
                    message = await self.receive()
            except TimeoutError:
                raise BadRequest("The body did not come in time; send it without pauses.") from None
            yield self._piece(message, 1 << 62)
            more = message.get("more_body", False)

    def _piece(self, message: MutableMapping[str, Any], most: int) -> bytes:
        if message["type"] == "http.disconnect":
            raise Disconnected
        piece: bytes = message.get("body", b"")
        if len(piece) > most:
            raise _too_large(most)
        return piece


def read_json(body: bytes) -> dict[str, Any]:
    try:
        found = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadRequest(f"The body must be a JSON object in UTF-8: {reason}.") from None
    if not isinstance(found, dict):
        raise BadRequest("The body must be a JSON object.")
    return found


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"The body must have at most {most} bytes.")
