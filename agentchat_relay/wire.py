"""Ids, times, cursors and JSON as they travel."""

from __future__ import annotations

import os
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from agentchat.errors import BadRequest

DEEPEST = 32  # objects and lists in each other
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now() -> int:
    """This process's clock, in microseconds since 1970."""
    return time.time_ns() // 1000


def new_id(at: int) -> str:
    """A UUIDv7 of a time in microseconds: milliseconds, their fraction, then randomness."""
    milliseconds, rest = divmod(at, 1000)
    random = int.from_bytes(os.urandom(8), "big") >> 2
    text = f"{milliseconds << 80 | 7 << 76 | rest << 66 | 0b10 << 62 | random:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def iso(at: int) -> str:
    """Microseconds as ISO 8601, always with six digits."""
    seconds, fraction = divmod(at, 1_000_000)
    return f"{_minute(seconds // 60)}:{seconds % 60:02}.{fraction:06}+00:00"


_minutes: dict[int, str] = {}


def _minute(minute: int) -> str:
    found = _minutes.get(minute)
    if found is None:
        if len(_minutes) > 10_000:
            _minutes.clear()
        found = _minutes[minute] = (_EPOCH + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M")
    return found


def micros(text: str, name: str) -> int:
    """An ISO 8601 time in microseconds. Without a zone it is UTC; digits after the sixth are dropped."""
    try:
        # Where a T divides date and time, a blank can only be the plus of a zone that was not quoted in a URL.
        moment = datetime.fromisoformat(text.strip().replace(" ", "+"))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise BadRequest(f"{name} must be an ISO 8601 time like 2026-01-31T12:00:00Z, got {text[:60]!a}.") from None


class Cursor(NamedTuple):
    """A place in a list: which list, from which row, and which way."""

    place: str
    at: int
    newer: bool = False

    def __str__(self) -> str:
        return urlsafe_b64encode(f"{self.place}/{self.at:x}/{int(self.newer)}".encode()).decode().rstrip("=")


def read_cursor(text: str, place: str, *, any_place: bool = False) -> Cursor:
    """A cursor that was given out for this very list, or, where the list's own name is lost, for any."""
    try:
        found, at, newer = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii").split("/")
        cursor = Cursor(found, int(at, 16), newer == "1")
    except ValueError:
        raise BadRequest(
            "This is no cursor; send a next_cursor or previous_cursor unchanged.", code="bad_cursor"
        ) from None
    if (found != place and not any_place) or not 0 <= cursor.at < 2**62:
        raise BadRequest("This cursor belongs to another list; send one that came with this one.", code="bad_cursor")
    return cursor


def depth(value: object) -> int:
    """How deep objects and lists are nested."""
    found, level = 0, [value]
    while level := [one for one in level if isinstance(one, dict | list)]:
        found += 1
        level = [inner for outer in level for inner in _members(outer)]
    return found


def _members(outer: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return outer.values() if isinstance(outer, dict) else outer
