"""A running relay: a directory, its store, and a server on a socket. `serve` returns when it was told to stop."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from .blobs.opening import open_blobs
from .chores import Chores
from .directory import Directory
from .http.app import App, Handler, routes
from .http.parts import Parts
from .push.feed import Pace
from .service import files, upkeep
from .settings import Settings
from .store.lane import tell
from .store.opening import open_guard, open_store
from .store.seam import Lane, Outcome

_log = logging.getLogger("agentchat.relay")
MakeRoutes = Callable[[Parts], dict[tuple[str, str], Handler]]


class Relay:
    """Everything of one relay, open. Made and closed inside a running event loop."""

    def __init__(
        self,
        directory: Directory,
        settings: Settings,
        *,
        make_routes: MakeRoutes = routes,
        make_chores: Callable[[Parts], Chores] = Chores,
        pace: Pace | None = None,
        **store: Any,
    ) -> None:
        loop = asyncio.get_running_loop()

        def deliver(outcomes: Sequence[Outcome]) -> None:
            loop.call_soon_threadsafe(tell, outcomes)

        self.directory = directory
        self.store = open_store(settings.store, directory.path, deliver=deliver, **store)
        try:
            blobs = open_blobs(settings.files, directory.path, partial(open_guard, settings.store))
        except BaseException:
            self.store.close()
            raise
        self.parts = Parts(self.store, blobs, settings, directory, pace)
        self.app = App(make_routes(self.parts), self.parts)
        self._chores = make_chores(self.parts)
        self.is_new = False

    async def open(self) -> None:
        """Make what a new relay has."""
        self.is_new = await self.parts.ask(Lane.WRITE, upkeep.seed)
        if self.parts.blobs.is_new and await self.parts.ask(Lane.READ, files.are_there):
            where = self.parts.settings.files or "blobs"
            _log.warning("The directory %s was missing, with the contents of all files; it is in your backups.", where)
        await self.parts.open()
        self._chores.start()
        self.parts.push.start()

    async def close(self) -> None:
        """Finish every accepted write."""
        await self._chores.stop()
        await self.parts.push.stop()
        await asyncio.to_thread(self.store.close)
        await asyncio.to_thread(self.parts.blobs.close)


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
    from .http.server import run  # nobody else needs a server

    relay = Relay(directory, settings, **more)
    try:
        await relay.open()
        await run(relay.app, listener, lambda: ready(relay), stop, relay.parts.push.stop)
    finally:
        await relay.close()
