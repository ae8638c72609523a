"""How far long work has come, on stderr: a moving line on a terminal, otherwise a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_OFTEN, _SELDOM = 0.1, 10.0  # seconds between two lines, on a terminal and elsewhere
_CLEAR = "\r\x1b[K"


def size(bytes: float) -> str:
    """Bytes for people."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if bytes < 1024:
            return f"{bytes:.0f} bytes" if unit == "bytes" else f"{bytes:.1f} {unit}"
        bytes /= 1024
    return f"{bytes:.1f} TiB"


def number(count: int) -> str:
    """A count for people."""
    return f"{count:,}"


class Progress:
    """Tells of one command. A quiet one tells nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet or sys.stderr is None
        self._moving = not quiet and sys.stderr is not None and sys.stderr.isatty()

    @contextmanager
    def part(self, what: str, total: int = 0, told: Callable[[int], str] = number) -> Iterator[Callable[[int], None]]:
        """A part of the work; call what it yields with how much of `total` is done. Without a total it tells how long
        it has taken."""
        began = time.monotonic()
        pause = _OFTEN if self._moving else _SELDOM
        due = began + pause

        def at(done: int) -> None:
            nonlocal due
            if self._quiet or (moment := time.monotonic()) < due:
                return
            due = moment + pause
            share = f"{min(done, total) * 100 // total} %, {told(done)} of {told(total)}" if total else ""
            self._tell(f"{what}: {share or f'{moment - began:.0f} s'}")

        try:
            yield at
        finally:
            if self._moving:
                self._write(_CLEAR)

    def _tell(self, line: str) -> None:
        self._write(f"{_CLEAR}{line}" if self._moving else f"{line}\n")

    def _write(self, text: str) -> None:
        with suppress(OSError):  # nobody may be listening
            sys.stderr.write(text)
            sys.stderr.flush()
