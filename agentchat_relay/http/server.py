"""The HTTP server under the application: uvicorn, with what it leaves open closed."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..process import notify
from .app import App
from .connection import CONNECTION

_KEEP_ALIVE = 75
_LONGEST_GOODBYE = 10  # seconds for requests that are under way when the relay is told to stop
_LONGEST_HEAD = 1 << 16
_CONTINUE = b"HTTP/1.1 100 "
_MOST_PIPELINED = 100
_LONGEST_STALL = 90.0  # seconds a connection may stand still because of its peer
_LOOK_EVERY = 10.0
_BACKLOG = 2048
Stopping = Callable[[], Awaitable[None]]
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Joined:
    """A transport for one answer: its head leaves together with the first piece of its body, in one system call."""

    __slots__ = ("_head", "_transport", "close", "is_closing")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None
        self.close, self.is_closing = transport.close, transport.is_closing

    def write(self, data: bytes) -> None:
        if self._head is None and not data.startswith(_CONTINUE):
            self._head = data
            return
        if self._head:
            data, self._head = self._head + data, b""
        self._transport.write(data)


class _Held:
    """What a route may do with its connection (`connection.py`). It leans on the inside of uvicorn."""

    __slots__ = ("_cycle", "_http")

    def __init__(self, http: _Guarded, cycle: Any) -> None:
        self._http, self._cycle = http, cycle

    def ended(self) -> asyncio.Future[None]:
        return self._http.end_of_input()

    def take(self, protocol: asyncio.Protocol) -> None:
        http, cycle = self._http, self._cycle
        cycle.response_complete = True  # as far as uvicorn is concerned
        if cycle.disconnected or http.transport.is_closing():
            return
        transport = http.transport
        http.connections.discard(http)
        http.server_state.total_requests += 1
        http.pipeline.clear()  # what came after the request is answered by nobody
        http.flow.resume_reading()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        # Nothing refers to the rest any more, and then it need not refer to itself either.
        for name in ("parser", "cycle", "scope"):
            setattr(http, name, None)


class _Guarded(HttpToolsProtocol):
    """A connection that keeps no more of a request head, and no more requests, than a client of ours ever sends; and
    that answers whoever has shut down the sending half already."""

    received = 0  # bytes, of everything
    _head = 0  # bytes of the head that is coming in, and of what a chunked body adds to it
    _in_head = False
    _in_body = False
    _has_ended = False
    _ended: asyncio.Future[None] | None = None

    def on_message_begin(self) -> None:
        self._in_head, self._head = True, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            super().on_header(name, value)  # a trailer is read by nobody

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body, self._head = False, True, 0
        super().on_headers_complete()
        cast("dict[str, Any]", self.scope)[CONNECTION] = _Held(self, self.cycle)
        if self.scope["method"] != "HEAD":  # whose answer has no body to wait for
            self.cycle.transport = cast("asyncio.Transport", _Joined(self.transport))

    def on_body(self, body: bytes) -> None:
        self._head = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._head, self._in_body = 0, False
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if self._in_body:  # what turns out to be body is taken back
            self._head += len(data)
        super().data_received(data)
        if self._in_head:
            self._head += len(data)
        if self._head > _LONGEST_HEAD or len(self.pipeline) > _MOST_PIPELINED:
            self.transport.abort()

    def standing(self) -> tuple[str, int] | None:
        """What the connection waits for from its peer, and how far that is; None while the relay is at work."""
        if unsent := self.transport.get_write_buffer_size():
            return "to take its answer", unsent
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body:
            return "to send a request", self.received
        return None

    def end_of_input(self) -> asyncio.Future[None]:
        """Done when the peer sends nothing more."""
        if self._ended is None:
            self._ended = self.loop.create_future()
            self._note_end(self._has_ended)
        return self._ended

    def _note_end(self, has_ended: bool = True) -> None:
        self._has_ended = has_ended
        if has_ended and self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._note_end()
        super().connection_lost(exc)

    def eof_received(self) -> Any:  # asyncio asks for a bool, uvicorn's says None
        self._note_end()
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body:
            return False
        cycle.keep_alive = False
        return True


class _Server(uvicorn.Server):
    """Says when it accepts connections, and closes those that never ask for anything."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], stopping: Stopping) -> None:
        super().__init__(config)
        self._ready, self._stopping = ready, stopping
        self._stalled: dict[Any, tuple[Any, float]] = {}
        self._looked = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            try:
                self._ready()
            except BaseException:
                for server in self.servers:  # the loop would wait for them for ever
                    server.close()
                raise

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._stopping()
        await super().shutdown(sockets=sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """A signal ends serving and nothing else: uvicorn would raise it again, before the store is closed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        numbers = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # nohup
        for number in numbers:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        notify("STOPPING=1", "STATUS=Stopping")
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._looked > _LOOK_EVERY:
            self._looked = now
            self._close_stalled(now)
        return await super().on_tick(counter)

    def _close_stalled(self, now: float) -> None:
        """uvicorn stops timing a connection at the first byte of a request. Whoever sends half of one and no more, or
        takes half an answer and no more, is cut off."""
        stalled: dict[Any, tuple[Any, float]] = {}
        for connection in self.server_state.connections:
            if (standing := cast("_Guarded", connection).standing()) is not None:
                before, since = self._stalled.get(connection, (None, now))
                since = since if before == standing else now
                stalled[connection] = (standing, since)
                if now - since > _LONGEST_STALL:
                    cast("_Guarded", connection).transport.abort()
        self._stalled = stalled


async def _nothing() -> None:
    pass


async def run(
    app: App,
    listener: socket.socket,
    ready: Callable[[], None],
    stop: asyncio.Event | None = None,
    stopping: Stopping = _nothing,
) -> None:
    """Serve until SIGTERM, SIGINT or `stop`. `stopping` ends what never ends by itself; other requests under way are
    finished."""
    config = uvicorn.Config(
        app,
        http=_Guarded,
        loop="none",
        interface="asgi3",
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_LONGEST_GOODBYE,
        backlog=_BACKLOG,
    )
    server = _Server(config, ready, stopping)
    app.metrics.gauge(
        "agentchat_connections",
        "Open HTTP connections.",
        lambda: len(server.server_state.connections) + app.metrics.streams.get("events", 0),
    )
    waiting = asyncio.create_task(_stop_with(server, stop)) if stop else None
    try:
        await server.serve(sockets=[listener])
    finally:
        if waiting is not None:
            waiting.cancel()


async def _stop_with(server: uvicorn.Server, stop: asyncio.Event) -> None:
    await stop.wait()
    server.should_exit = True
