"""The HTTP server under the application: uvicorn, with what it leaves open closed."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

_KEEP_ALIVE = 75
_LONGEST_GOODBYE = 20  # seconds for requests that are under way when the relay is told to stop
_LONGEST_SILENCE = 90.0  # seconds a connection may stand without a whole request
_LOOK_EVERY = 10.0
_BACKLOG = 2048


class _Server(uvicorn.Server):
    """Says when it accepts connections, and closes those that never ask for anything."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready
        self._silent: dict[Any, tuple[Any, float]] = {}
        self._looked = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """A signal ends serving and nothing else: uvicorn would raise it again, before the store is closed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def on_tick(self, counter: int) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._looked > _LOOK_EVERY:
            self._looked = now
            self._close_silent(now)
        return await super().on_tick(counter)

    def _close_silent(self, now: float) -> None:
        """uvicorn stops timing a connection at the first byte of a request. Whoever has sent none that is whole for
        this long, be it nothing or half a head, is cut off."""
        silent: dict[Any, tuple[Any, float]] = {}
        for connection in self.server_state.connections:
            cycle = getattr(connection, "cycle", None)
            if cycle is None or cycle.response_complete:
                before, since = self._silent.get(connection, (None, now))
                since = since if before is cycle else now
                silent[connection] = (cycle, since)
                if now - since > _LONGEST_SILENCE:
                    connection.transport.close()
        self._silent = silent


async def run(app: Any, listener: socket.socket, ready: Callable[[], None], stop: asyncio.Event | None = None) -> None:
    """Serve until SIGTERM, SIGINT or `stop`; requests under way are finished."""
    config = uvicorn.Config(
        app,
        http="httptools",
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
    server = _Server(config, ready)
    waiting = asyncio.create_task(_stop_with(server, stop)) if stop else None
    try:
        await server.serve(sockets=[listener])
    finally:
        if waiting is not None:
            waiting.cancel()


async def _stop_with(server: uvicorn.Server, stop: asyncio.Event) -> None:
    await stop.wait()
    server.should_exit = True
