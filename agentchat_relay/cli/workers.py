"""`agentchat serve --workers N`: several relay processes on one socket, watched over by the one that was started.

Each serves by itself what it accepts; what they have in common is in Postgres. One that dies is replaced. They end with
the first process, however that ends.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PAUSE = 1.0  # seconds before one that died is replaced
_READY, _READY_AND_NEW = b"r", b"n"
_log = logging.getLogger("agentchat.relay")
Tell = Callable[[bool], None]
Serve = Callable[[Tell, int], None]


class Workers:
    """Runs `serve(ready, alive)` in each of `count` processes: it calls `ready` with whether the relay is new, and ends
    when the pipe `alive` does."""

    def __init__(self, count: int, serve: Serve) -> None:
        self._count, self._serve = count, serve
        self._alive, self._mine = os.pipe()  # the other end of which ends with this process
        self._told, self._tell = os.pipe()
        self._running: set[int] = set()
        self._stopping = False

    def run(self, ready: Tell) -> bool:
        """Until told to stop; False if the relay could not be started. `ready` is called once all are."""
        before = {number: signal.signal(number, self._stop) for number in _SIGNALS if not _is_ignored(number)}
        try:
            for _ in range(self._count):
                self._begin()
            if self._are_ready(ready):
                self._watch()
                return True
            return self._stopping
        finally:
            self._end()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _begin(self) -> None:
        child = os.fork()
        if child:
            self._running.add(child)
            return
        status = 1
        try:
            for number in _SIGNALS:
                if not _is_ignored(number):
                    signal.signal(number, signal.SIG_DFL)
            os.close(self._mine)
            os.close(self._told)
            self._serve(lambda is_new: _write(self._tell, _READY_AND_NEW if is_new else _READY), self._alive)
            status = 0
        except KeyboardInterrupt:
            status = 0
        except BaseException as error:
            _log.critical("%s", getattr(error, "message", f"A worker failed: {error!r}"))
        finally:
            os._exit(status)

    def _are_ready(self, ready: Tell) -> bool:
        told = b""
        while len(told) < self._count and not self._stopping:
            os.set_blocking(self._told, False)
            with suppress(BlockingIOError):
                told += os.read(self._told, self._count)
            if self._reap():
                return False
            time.sleep(0.02)
        if not self._stopping:
            ready(_READY_AND_NEW in told)
        return not self._stopping

    def _reap(self) -> int:
        """How many have ended by themselves."""
        ended = 0
        while self._running:
            child, _ = os.waitpid(-1, os.WNOHANG)
            if not child:
                break
            self._running.discard(child)
            ended += 1
        return ended

    def _watch(self) -> None:
        while not self._stopping:
            try:
                child, status = os.waitpid(-1, 0)
            except InterruptedError:
                continue
            except ChildProcessError:
                return
            self._running.discard(child)
            if not self._stopping:
                code = os.waitstatus_to_exitcode(status)
                _log.error("Worker %d ended (%s); another one takes its place", child, code)
                time.sleep(_PAUSE)
                self._begin()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        for child in [*self._running]:
            with suppress(ProcessLookupError):
                os.kill(child, number)

    def _end(self) -> None:
        self._signal(signal.SIGTERM)
        while self._running:
            try:
                child, _ = os.waitpid(-1, 0)
            except ChildProcessError:
                break
            self._running.discard(child)
        for end in (self._alive, self._mine, self._told, self._tell):
            os.close(end)


def _is_ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN  # nohup


def _write(end: int, told: bytes) -> None:
    os.write(end, told)
