"""A running relay: a directory, its store, and a server on a socket. `serve` returns when it was told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from .blobs import Blobs
from .directory import Directory
from .http.app import App, Handler, routes
from .http.parts import Parts
from .http.server import run
from .service import upkeep
from .settings import Settings
from .store.lane import tell
from .store.seam import Lane, Outcome, Store
from .store.sqlite import Sqlite

_BETWEEN_SWEEPS = 3600.0
_BETWEEN_PORTIONS = 0.1  # so that nobody waits for one
MakeRoutes = Callable[[Parts], dict[tuple[str, str], Handler]]


class Relay:
    """Everything of one relay, open. Made and closed inside a running event loop."""

    def __init__(
        self, directory: Directory, settings: Settings, *, make_routes: MakeRoutes = routes, **store: Any
    ) -> None:
        loop = asyncio.get_running_loop()

        def deliver(outcomes: Sequence[Outcome]) -> None:
            loop.call_soon_threadsafe(tell, outcomes)

        self.directory = directory
        blobs = Blobs(os.path.join(directory.path, "blobs"))
        link_secret = directory.link_secret()
        self.store: Store = Sqlite(directory.path, deliver=deliver, **store)
        self.parts = Parts(
            self.store, blobs, settings, link_secret=link_secret, admin_secret=directory.admin_secret
        )  # fmt: skip
        self.app = App(make_routes(self.parts))
        self._upkeep: asyncio.Task[None] | None = None
        self.is_new = False

    async def open(self) -> None:
        """Make what a new relay has."""
        self.is_new = await self.parts.ask(Lane.WRITE, upkeep.seed)
        self.directory.admin_secret()
        self._upkeep = asyncio.create_task(self._sweep())

    async def _sweep(self) -> None:
        while True:
            try:
                swept = await self.parts.ask(Lane.WRITE, upkeep.sweep)
            except Exception as error:  # a full disk: next time, perhaps
                swept = 0
                logging.getLogger("agentchat.relay").warning("Sweeping failed: %s", error)
            await asyncio.sleep(_BETWEEN_PORTIONS if swept else _BETWEEN_SWEEPS)

    async def close(self) -> None:
        """Finish every accepted write."""
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.wait([self._upkeep])
        await asyncio.to_thread(self.store.close)


async def serve(
    directory: Directory,
    settings: Settings,
    listener: socket.socket,
    ready: Callable[[Relay], None],
    *,
    stop: asyncio.Event | None = None,
    **more: Any,
) -> None:
    """Run a relay on a listening socket until a signal or `stop` ends it. `ready` is called once it can be reached."""
    relay = Relay(directory, settings, **more)
    try:
        await relay.open()
        await run(relay.app, listener, lambda: ready(relay), stop)
    finally:
        await relay.close()
