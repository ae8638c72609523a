"""What a process asked and was told, written down as it happens: a line before each attempt, a line after it.

Lines are handed to the kernel one by one, so a `kill -9` leaves at most one attempt without its outcome in a journal.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

FOREVER = float("inf")


class Attempt(NamedTuple):
    """One request. Times are seconds of a clock that all processes share, and microseconds since 1970. One with neither
    an answer nor a refusal took effect once or not at all, at any time after it began."""

    who: str
    session: str
    call: str
    key: str  # attempts with the same one are one call
    arguments: Mapping[str, Any]
    began: float
    began_at: int
    ended: float = FOREVER
    ended_at: int | None = None
    answer: Mapping[str, Any] | None = None
    refusal: str | None = None
    details: Mapping[str, Any] | None = None  # of the refusal

    @property
    def is_unknown(self) -> bool:
        return self.answer is None and self.refusal is None


def micros() -> int:
    return time.time_ns() // 1000


class Journal:
    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    def begun(self, attempt: Attempt) -> None:
        self._write(begun=attempt._asdict())

    def ended(
        self, key: str, answer: Mapping[str, Any] | None, refusal: str | None, details: Mapping[str, Any] | None = None
    ) -> None:
        told = {"answer": answer, "refusal": refusal, "details": details}
        self._write(ended={"key": key, "ended": time.monotonic(), "ended_at": micros(), **told})

    def close(self) -> None:
        self._file.close()

    def _write(self, **line: object) -> None:
        self._file.write(json.dumps(line) + "\n")


def read(paths: Iterable[Path]) -> list[Attempt]:
    """All attempts of some journals, in the order in which they began."""
    return sorted((attempt for path in paths for attempt in _attempts(path)), key=lambda attempt: attempt.began)


def _attempts(path: Path) -> Iterator[Attempt]:
    pending: Attempt | None = None
    for line in path.read_text().splitlines():
        try:
            found = json.loads(line)
        except ValueError:  # its writer was killed in the middle of it
            continue
        if "begun" in found:
            if pending is not None:
                yield pending
            pending = Attempt(**found["begun"])
        elif pending is not None and found["ended"]["key"] == pending.key:
            yield _with_outcome(pending, found["ended"])
            pending = None
    if pending is not None:
        yield pending


def _with_outcome(attempt: Attempt, told: Mapping[str, Any]) -> Attempt:
    attempt = attempt._replace(answer=told["answer"], refusal=told["refusal"], details=told["details"])
    return attempt if attempt.is_unknown else attempt._replace(ended=told["ended"], ended_at=told["ended_at"])
