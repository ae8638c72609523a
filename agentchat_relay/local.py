"""Local mode: the relay's own application, called without a server by the agents of one machine.

All clients of a process that name the same directory share a `Host`: the application on an event loop of a thread of
its own, opened with the first call and closed when the last of them is. Processes share the directory
(`Directory.share`, `store/sqlite/neighbours.py`). Whoever may open the directory may be any agent in it; so the key of
an agent is its name, and an agent is there from its first call on.

A fork finds every directory closed: neither SQLite's locks nor threads outlive one. Parent and child open it again with
their next call.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from agentchat import settings as client_settings
from agentchat import types
from agentchat._exchange import Request, Response
from agentchat._transport import MAX_RESPONSE_BYTES
from agentchat.errors import (
    AgentChatError,
    BadRequest,
    Conflict,
    ConnectionFailed,
    TimedOut,
    Unauthorized,
)

from .chores import Errands
from .directory import Directory
from .http.app import Handler, routes
from .http.authentication import Agents, Caller
from .http.direct import Direct
from .http.links import Links
from .http.parts import Parts
from .relay import Relay
from .service import administration, briefing
from .service.call import Call
from .service.operations import SERVICES
from .settings import Settings
from .store.seam import Reading
from .wire import now

_PATIENCE = 5.0  # seconds, with whoever has the directory for a moment
_FAREWELL = 5.0  # for calls that are under way when it is closed
_LONGEST_END = 1.0  # of a thread
_LONGEST_CLOSE = 30.0  # another process may stand still in its turn to write
SETTINGS = Settings(agent_reads=0, agent_writes=0, all_reads=0, all_writes=0)


# What is different from a relay that serves


class Named(Caller):
    """An agent that said its name."""

    def confirm(self, tx: Reading) -> None:
        if tx.epoch != self.epoch and administration.named(tx, self.agent.name)[0].id != self.agent.id:
            raise Unauthorized(f"There is another {self.agent.name} by now.")


class ByName(Agents):
    def _known(self, tx: Reading, *, hash: bytes, key: bytes) -> tuple[Caller, int]:
        agent, unseen = administration.named(tx, key.decode("ascii"))
        return Named(agent, hash.hex(), tx.epoch), unseen


class NoLinks(Links):
    def __init__(self) -> None:
        pass

    def make(self, file_id: int, now: int) -> str:
        raise BadRequest("There is no server to link to in local mode; download the file instead.")


class NoCredentials:
    """Nobody is an operator, and nothing is signed."""

    async def open(self) -> bytes:
        return bytes(32)

    async def knows(self, secret: str) -> bool:
        return False


def _get_briefing(tx: Reading, call: Call) -> types.Briefing:
    """It says that names are taken on trust here."""
    return {**briefing.get_briefing(tx, call), "provenance": "local"}


def _routes(parts: Parts) -> dict[tuple[str, str], Handler]:
    told = SERVICES["get_briefing"]._replace(service=_get_briefing)
    return routes(parts, {**SERVICES, "get_briefing": told})


class LocalRelay(Relay):
    def __init__(self, directory: Directory, lost: Callable[[], None]) -> None:
        errands = partial(Errands, directory=directory.path)
        super().__init__(directory, SETTINGS, make_routes=_routes, make_chores=errands, neighbours=True, lost=lost)
        self.parts.agents = ByName(self.store, self.parts.ask, now)
        self.parts.credentials = NoCredentials()

    async def open(self) -> None:
        await super().open()
        self.parts.links = NoLinks()

    async def close(self) -> None:
        """On this thread: at the end of a process others cannot be started any more."""
        await self._chores.stop()
        self.store.close()
        self.parts.blobs.close()


# One of each directory in a process


class Host:
    """A directory that is open. It ends by itself with the first call that finds the directory removed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.users: set[object] = set()
        self.is_over = self._is_removed = False
        self._gate = threading.Lock()  # between the last calls and the end
        self._directory = Directory(path)
        self._directory.share(patience=_PATIENCE)
        self._calls: set[asyncio.Task[Response]] = set()
        self._started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, name="agentchat-local", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._directory.release()
            raise
        try:
            self._started.result()
        except BaseException:
            self._started.cancel()
            self._thread.join()
            raise

    def submit(self, request: Request, most: int) -> concurrent.futures.Future[Response] | None:
        """The answer to come; None if it is too late to ask."""
        _check_time(self.path)
        with self._gate:
            if self.is_over:
                return None
            return asyncio.run_coroutine_threadsafe(self._answer(request, most), self._loop)

    def close(self) -> None:
        """Finish what is under way, then let go of the directory."""
        self.end()
        self._thread.join(_LONGEST_CLOSE)

    def end(self) -> None:
        with self._gate:
            if not self.is_over:
                self.is_over = True
                self._loop.call_soon_threadsafe(self._stop.set)

    def was_dropped(self, user: object) -> None:
        """Without being closed, in the middle of anything: here nothing can be waited for."""
        with suppress(RuntimeError):  # it is over
            self._loop.call_soon_threadsafe(self._go_without, user)

    def _was_removed(self) -> None:
        """On any thread. Whoever calls next is told, if nobody is calling."""
        self._is_removed = True
        if self._calls:
            self.end()

    # On the thread

    def _go_without(self, user: object) -> None:
        self.users.discard(user)
        if not self.users:
            self.end()

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._serve())
        except BaseException as error:
            self.is_over = True
            if not self._started.done():
                self._started.set_exception(error)
        finally:
            self._directory.release()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        relay = LocalRelay(self._directory, self._was_removed)
        self._app = relay.app
        try:
            await relay.open()
            self._started.set_result(None)
            await self._stop.wait()
            await relay.parts.push.stop()
            if self._calls:
                await asyncio.wait(self._calls, timeout=_FAREWELL)
        finally:
            await relay.close()

    async def _answer(self, request: Request, most: int) -> Response:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - every coroutine that was submitted has one
        self._calls.add(task)
        try:
            answer = Direct(request, most)
            await self._app(answer.scope, answer.receive, answer.send)
            response = answer.response()
            if self._is_removed and response.status < 400:  # a wait that would go on from there
                raise ConnectionFailed(f"{self.path} was removed before the call was answered.")
            return response
        finally:
            self._calls.discard(task)


_hosts: dict[str, Host] = {}
_guard = threading.Lock()


def _check_time(path: str) -> None:
    """Once the interpreter takes itself apart no other thread runs: its answer would be waited for for ever."""
    if sys.is_finalizing():
        raise Conflict(f"This process is ending, so it cannot use {path} any more.")


def _host_of(path: str, user: object) -> Host:
    _check_time(path)
    with _guard:
        host = _hosts.get(path)
        if host is None or host.is_over:
            if host is not None:
                host.close()  # a fork waits for those in the list only
            host = _hosts[path] = Host(path)
        host.users.add(user)
        return host


def _let_go(host: Host, user: object) -> None:
    with _guard:
        host.users.discard(user)
        if host.users:
            return
        host.end()
        if _hosts.get(host.path) is host:
            del _hosts[host.path]
    host.close()


def _close_all() -> None:
    while _hosts:
        _, host = _hosts.popitem()
        host.close()


def _before_fork() -> None:
    """A thread that was joined still runs for a moment, in which it may have locks of C libraries: a child would find
    them taken for ever."""
    _guard.acquire()
    if not _hosts:
        return
    before = _threads()
    _close_all()
    ended, deadline = before - _threads(), time.monotonic() + _LONGEST_END
    while any(os.path.exists(f"/proc/self/task/{thread}") for thread in ended) and time.monotonic() < deadline:
        time.sleep(0.001)


def _threads() -> set[int | None]:
    return {thread.native_id for thread in threading.enumerate()}


atexit.register(_close_all)
os.register_at_fork(before=_before_fork, after_in_parent=_guard.release, after_in_child=_guard.release)


# Transports


class _Way:
    """To the host of a directory. `ssl_context` is what those with a server have."""

    def __init__(self, url: str, *, ssl_context: object = None, max_response_bytes: int = MAX_RESPONSE_BYTES) -> None:
        self._path = client_settings.directory_of(url)
        self._most = max_response_bytes
        self._host: Host | None = None
        self._me = object()

    def _opened(self) -> Host:
        host = self._host
        if host is None or host.is_over:
            host = self._host = _host_of(self._path, self._me)
            weakref.finalize(self, host.was_dropped, self._me).atexit = False
        return host

    def _close(self) -> None:
        host, self._host = self._host, None
        if host is not None:
            _let_go(host, self._me)

    @contextmanager
    def in_words(self, request: Request) -> Iterator[None]:
        """What went wrong, as errors of ours."""
        call = f"{request.method} {request.path.partition('?')[0]}"
        try:
            yield
        except concurrent.futures.CancelledError:
            raise ConnectionFailed(f"{self._path} was closed before {call} was answered.") from None
        except TimeoutError:
            raise TimedOut(f"No answer from {self._path} to {call} within {request.timeout:g} s.") from None
        except AgentChatError:
            raise
        except Exception as error:  # of the relay's code, which has logged it
            raise ConnectionFailed(f"{call} in {self._path} broke off.") from error


class Begun:
    """A call under way. Another thread may close it."""

    def __init__(self, way: _Way, request: Request, answer: concurrent.futures.Future[Response]) -> None:
        self._way, self._request, self._answer = way, request, answer

    def response(self) -> Response:
        try:
            with self._way.in_words(self._request):
                return self._answer.result(self._request.timeout)
        finally:
            self.close()

    def close(self) -> None:
        self._answer.cancel()


class LocalTransport(_Way):
    """What a sync client sends through."""

    def send(self, request: Request) -> Response:
        return self.begin(request).response()

    def begin(self, request: Request) -> Begun:
        while (answer := self._opened().submit(request, self._most)) is None:
            pass  # closed meanwhile: by a fork, or because the process ends
        return Begun(self, request, answer)

    def close(self) -> None:
        self._close()


class AsyncLocalTransport(_Way):
    """What an async client sends through."""

    async def send(self, request: Request) -> Response:
        while (answer := (await self._ready()).submit(request, self._most)) is None:
            pass
        with self.in_words(request):
            async with asyncio.timeout(request.timeout):
                try:
                    await asyncio.wait({asyncio.wrap_future(answer)})
                    return answer.result(0)
                finally:
                    answer.cancel()

    async def _ready(self) -> Host:
        host = self._host
        return host if host is not None and not host.is_over else await asyncio.to_thread(self._opened)

    async def close(self) -> None:
        await asyncio.to_thread(self._close)
