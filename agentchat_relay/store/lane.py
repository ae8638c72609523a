"""A thread that takes whatever calls are waiting as one group."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from agentchat.errors import Unavailable

from .seam import Done, Outcome

_LARGEST_GROUP = 512
_MOST_WAITING = 20_000


class Waiting:
    """One submitted call."""

    __slots__ = ("call", "done", "lane")

    def __init__(self, lane: int, call: Callable[[Any], Any], done: Done) -> None:
        self.lane = lane
        self.call = call
        self.done = done


class LaneThread:
    """Runs `process(group)` on a thread of its own. After a `wake` it waits up to `pause` seconds for calls, and
    processes what has come by then, be it nothing."""

    def __init__(
        self,
        name: str,
        process: Callable[[Sequence[Waiting]], None],
        *,
        start: Callable[[], None] = lambda: None,
        stop: Callable[[], None] = lambda: None,
        pause: float = 0.0,
    ) -> None:
        self.calls = 0  # begun
        self._process = process
        self._start, self._stop, self._pause = start, stop, pause
        self._calls: SimpleQueue[Waiting | None] = SimpleQueue()
        self._running = 0
        self._closed = False
        self._failed: BaseException | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"agentchat-{name}", daemon=True)

    @property
    def waiting(self) -> int:
        return self._calls.qsize()

    @property
    def load(self) -> int:
        """How many calls are to be run before a new one."""
        return self._calls.qsize() + self._running

    def start(self) -> None:
        """Returns once the thread is ready, or raises what kept it from becoming so."""
        self._thread.start()
        self._ready.wait()
        if self._failed is not None:
            self._thread.join()
            raise self._failed

    def submit(self, call: Waiting) -> None:
        if self._closed:
            raise Unavailable("The relay is shutting down; try again soon.")
        if self._calls.qsize() > _MOST_WAITING:
            raise Unavailable("The relay is overloaded; try again soon.", retry_after=1)
        self._calls.put(call)

    def wake(self) -> None:
        """There is something to do, even without a call."""
        self._calls.put(None)

    def close(self) -> None:
        """Refuse new calls, finish those that wait."""
        if not self._closed:
            self._closed = True
            self._calls.put(None)
            self._thread.join()

    def _run(self) -> None:
        try:
            self._start()
        except BaseException as error:
            self._failed = error
            return
        finally:
            self._ready.set()
        get, empty = self._calls.get, self._calls.empty
        while True:
            first = get()
            if first is None and self._pause and not self._closed:
                with suppress(Empty):
                    first = get(timeout=self._pause)
            group = [] if first is None else [first]
            self._take_along(group)
            if group or not self._closed:
                self.calls += len(group)
                self._running = len(group)
                self._safely(group)
                self._running = 0
            if self._closed and empty():
                break
        self._stop()

    def take_along(self, group: list[Waiting]) -> None:
        """Add what has come since. For `process` only, on the thread itself."""
        before = len(group)
        self._take_along(group)
        self.calls += len(group) - before

    def _take_along(self, group: list[Waiting]) -> None:
        get, empty = self._calls.get, self._calls.empty
        while len(group) < _LARGEST_GROUP and not empty():
            if (following := get()) is not None:
                group.append(following)

    def _safely(self, group: Sequence[Waiting]) -> None:
        """A fault of ours must not end the thread: everybody would wait for it for ever."""
        try:
            self._process(group)
        except Exception:
            logging.getLogger("agentchat.relay").exception("The %s failed", self._thread.name)


def tell(outcomes: Sequence[Outcome]) -> None:
    """Deliver outcomes right here; a listener that fails must not keep the others from theirs."""
    for done, result, error in outcomes:
        try:
            done(result, error)
        except Exception as problem:
            logging.getLogger("agentchat.relay").error("An outcome's listener failed", exc_info=problem)
