"""`agentchat serve --daemon`: a relay in the background, and an honest answer to whether it runs.

The relay is a fork of the command that was typed, so it has its settings and its environment without writing them down
again. The command itself stays until the relay answers, has ended, or takes too long.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from agentchat.errors import NotConfigured

from ..directory import Directory
from .control import health

_LONG = 1.0  # seconds of silence
_SHOWN = 4000  # bytes of a log


def start(
    serve: Callable[[], int], directory: Directory, log_file: str, wait: float, ready: Callable[[str], None]
) -> int:
    """Run `serve` in the background; `ready` is told the relay's URL. It returns in both processes."""
    if holder := directory.holder():
        raise directory.in_use(holder)
    directory.make()
    log = _opened(log_file)
    before = os.fstat(log).st_size
    for stream in (sys.stdout, sys.stderr):
        if stream:
            stream.flush()
    child = os.fork()
    if not child:
        _leave(log)
        return serve()
    os.close(log)
    try:
        url = _wait_for(child, directory, wait)
    except KeyboardInterrupt:
        print(f"The relay goes on starting as process {child}. {_look(directory)}", file=sys.stderr)
        raise
    except _Ended as ended:
        told = f"{_since(before, log_file)}The relay did not start: {ended}. Its log is {log_file}"
        print(told, file=sys.stderr)
        return ended.code
    if not url:
        return 1
    ready(url)
    stop = f"agentchat serve stop --data {shlex.quote(directory.path)}"
    print(f"It runs in the background as process {child} and logs to {log_file}\nStop it:              {stop}")
    return 0


def _opened(log_file: str) -> int:
    try:
        return os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as error:
        reason = f"Cannot write the log to {log_file}: {error.strerror}. Choose another --log-file."
        raise NotConfigured(reason) from error


def _leave(log: int) -> None:
    """Depend on nothing of who started us: not its terminal, its directory, its files, its mask."""
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.umask(0o077)
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDONLY)
    for ours, theirs in ((null, 0), (log, 1), (log, 2)):
        os.dup2(ours, theirs)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))


class _Ended(Exception):
    """The relay is gone before it was ready."""

    def __init__(self, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        super().__init__(f"exit code {code}" if code >= 0 else f"ended by {signal.Signals(-code).name}")
        self.code = max(code, 0) or 1


def _wait_for(child: int, directory: Directory, wait: float) -> str | None:
    """The URL on which the relay answers, or None if that takes too long."""
    started, told = time.monotonic(), False
    while True:
        url = _answering(child, directory)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            raise _Ended(status)
        if url:
            return url
        waited = time.monotonic() - started
        if waited >= wait:
            print(
                f"After {wait:g} s the relay is not ready, and still starting as process {child}. {_look(directory)}",
                file=sys.stderr,
            )
            return None
        if waited >= _LONG and not told:
            told = True
            print(
                f"The relay is still starting as process {child}; bringing a large database up to date takes time. "
                f"Waiting up to {wait:g} s.",
                file=sys.stderr,
            )
        time.sleep(0.02)


def _answering(child: int, directory: Directory) -> str | None:
    """The relay's URL, once this very process has the directory, has announced itself, and answers."""
    announced = directory.announced()
    if announced is None or announced.pid != child or health(announced.url, _LONG) is None:
        return None
    holder = directory.holder()
    return announced.url if holder and holder.is_proven and holder.pid == child else None


def _look(directory: Directory) -> str:
    return f"See: agentchat serve status --data {shlex.quote(directory.path)}"


def _since(before: int, log_file: str) -> str:
    """What was logged since then."""
    with suppress(OSError), open(log_file, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(before, end - _SHOWN))
        return file.read().decode("utf-8", "replace")
    return ""
