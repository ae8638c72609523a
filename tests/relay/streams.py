"""The other end of a stream of events: bytes in, events out, with nothing of ours between."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

DEADLINE = 30.0


class Block(NamedTuple):
    """What stands between two blank lines."""

    id: int | None = None
    type: str = "message"
    data: Any = None

    @property
    def is_sign(self) -> bool:
        """No event: how far the log is looked through."""
        return self.data is None


class Parser:
    """Server-Sent Events from pieces of bytes, as the specification has it."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Block]:
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        for block in blocks:
            fields = dict(line.split(b": ", 1) for line in block.split(b"\n"))
            assert fields.keys() <= {b"id", b"event", b"data"}
            id = int(fields[b"id"]) if b"id" in fields else None
            data_ = json.loads(fields[b"data"]) if b"data" in fields else None
            yield Block(id, fields.get(b"event", b"message").decode(), data_)


class Chunks:
    """A chunked body from pieces of bytes."""

    def __init__(self) -> None:
        self._rest = b""
        self.is_over = False

    def feed(self, data: bytes) -> bytes:
        self._rest += data
        body = b""
        while not self.is_over:
            head, found, rest = self._rest.partition(b"\r\n")
            if not found or len(rest) < (size := int(head, 16)) + 2:
                break
            assert rest[size : size + 2] == b"\r\n"
            body, self._rest = body + rest[:size], rest[size + 2 :]
            self.is_over = size == 0
        assert not (self.is_over and self._rest), "something follows the end"
        return body


class Stream:
    """A stream that is open. Iterating gives its blocks; it ends when the relay says so."""

    def __init__(
        self, url: str, key: str, *, last: int | str | None = None, version: str = "1.1", more: bytes = b"",
        receive_buffer: int = 0, **query: Any,
    ) -> None:  # fmt: skip
        parts = urlsplit(url)
        self.sock = socket.socket()
        self.sock.settimeout(DEADLINE)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.connect((parts.hostname or "", parts.port or 0))
        query = {name: value for name, value in query.items() if value is not None}
        lines = [f"GET /api/v2/events?{urlencode(query)} HTTP/{version}", "host: x", "accept: text/event-stream"]
        lines += [f"x-agent-api-key: {key}", *([] if last is None else [f"last-event-id: {last}"]), "", ""]
        self.sock.sendall("\r\n".join(lines).encode() + more)
        self._chunks, self._parser = Chunks(), Parser()
        self.raw = b""  # the body so far
        self._waiting: list[Block] = []
        self.is_lost = False  # without an end
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self.sock.recv(65536)
            assert piece, head
            head += piece
        head, _, rest = head.partition(b"\r\n\r\n")
        status, *named = head.decode().split("\r\n")
        self.status = int(status.split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in named)}
        if self.status == 200 and "transfer-encoding" in self.headers:
            self._take(rest)
        else:
            while len(rest) < int(self.headers["content-length"]):
                rest += self.sock.recv(65536)
            self.refusal = json.loads(rest) if rest.startswith(b"{") else None

    def _take(self, data: bytes) -> None:
        body = self._chunks.feed(data)
        self.raw += body
        self._waiting += self._parser.feed(body)

    def __iter__(self) -> Iterator[Block]:
        while (block := self.next()) is not None:
            yield block

    def next(self) -> Block | None:
        """The next block; None if the stream is over."""
        while not self._waiting:
            if self._chunks.is_over:
                assert self.sock.recv(1) == b"", "the relay hangs up after the end"
                return None
            try:
                data = self.sock.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                self.is_lost = True
                return None
            self._take(data)
        return self._waiting.pop(0)

    def events(self, count: int) -> list[Any]:
        """The next so many events; signs of life are left out."""
        found: list[Any] = []
        while len(found) < count:
            block = self.next()
            assert block is not None and block.type == "message", block
            if not block.is_sign:
                assert block.id == block.data["position"]
                found.append(block.data)
        return found

    def through(self, position: int) -> list[Any]:
        """All events until the log was looked through so far."""
        found: list[Any] = []
        while True:
            block = self.next()
            assert block is not None and block.type == "message", block
            if not block.is_sign:
                found.append(block.data)
            if (block.id or 0) >= position:
                return found

    def ended(self) -> Any:
        """Why; whatever comes before is dropped."""
        last = None
        for block in self:
            last = block
        assert last is not None and last.type == "end", last
        return last.data

    def close(self) -> None:
        with suppress(OSError):
            self.sock.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
