"""A relay inside another program, on a thread of its own: for tests, demos and notebooks.

with running() as relay:
    client = Client(relay.url, relay.token("mac-ann"))
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from .directory import Directory
from .process import listen, new_runner, url_of
from .relay import Relay, serve
from .service import administration
from .settings import Settings
from .store.seam import Lane


class Embedded:
    """A relay that runs. `close` stops it as SIGTERM would."""

    def __init__(self, path: str, settings: Settings, host: str, port: int, more: dict[str, Any]) -> None:
        self.directory = Directory(path)
        self.directory.hold("an embedded relay")
        try:
            self._listener = listen(host, port)
        except BaseException:
            self.directory.release()
            raise
        self.url = url_of(host, self._listener.getsockname()[1])
        self._settings = settings if settings.public_url else settings._replace(public_url=self.url)
        self._more = more
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self.relay: Relay | None = None
        self._thread = threading.Thread(target=self._run, name="agentchat-relay", daemon=True)
        self._thread.start()
        if (failure := self._outcome()) is not None:
            self.close()
            raise failure

    def _outcome(self) -> BaseException | None:
        self._started.wait()
        return self._failure

    def _run(self) -> None:
        try:
            with new_runner() as runner:
                runner.run(self._serve())
        except BaseException as error:
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()

        def ready(relay: Relay) -> None:
            self.relay = relay
            self.directory.announce(self.url)
            self._started.set()

        await serve(self.directory, self._settings, self._listener, ready, stop=self._stop, **self._more)

    def token(self, name: str, *, space: str = "main", kind: str | None = None) -> str:
        """A new key for an agent, which is made if it is new."""
        made = self.ask(lambda tx: administration.agent_token(tx, name=name, kind=kind, space=space))
        return str(made["key"])

    def space(self, name: str) -> None:
        """Make a space."""
        self.ask(lambda tx: administration.space_add(tx, name=name))

    def ask(self, call: Any) -> Any:
        """Run a service function in a transaction that writes."""
        if self.relay is None:
            raise RuntimeError("the relay does not run")
        return self.relay.store.ask(Lane.WRITE, call)

    def close(self) -> None:
        if self.relay is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self.relay = None
        self._listener.close()
        self.directory.retract()
        self.directory.release()


@contextmanager
def running(
    path: str | None = None, *, settings: Settings | None = None, host: str = "127.0.0.1", port: int = 0, **more: Any
) -> Iterator[Embedded]:
    """A relay in a directory, by default a temporary one."""
    with ExitStack() as stack:
        if path is None:
            path = stack.enter_context(tempfile.TemporaryDirectory(prefix="agentchat-"))
        relay = Embedded(path, settings or Settings(), host, port, more)
        stack.callback(relay.close)
        yield relay
