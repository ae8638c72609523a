"""What is told of a run, and in which words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from agentchat.text import visible

MOST_NAMES = 8
LONGEST_NAME = 80

Note = Callable[[], str]
State = Literal["started", "waiting", "resumed", "done", "failed", "cancelled", "paused"]
_PASSING = ("started", "resumed")  # soon overtaken by another; every other state is where a run rests


class Story:
    """All posts about one run and its resumptions: the first, and its replies."""

    __slots__ = ("active", "asking", "failed", "first_post", "given_up", "name", "since", "tools")

    def __init__(self, name: str) -> None:
        self.name = name
        self.first_post: str | None = None  # its id, once there is one
        self.given_up = False  # it was the beginning of another story: what is not posted yet need not be
        self.active = 0.0  # seconds at work before the latest pause
        self.since = 0.0  # when that pause began
        self.tools: Counter[str] = Counter()
        self.failed = 0
        self.asking: Counter[str] = Counter()  # tools that wait for an answer, and will be called again with it


class Status(NamedTuple):
    """One thing to tell."""

    story: Story
    state: State
    text: str
    facts: Mapping[str, Any]
    note: str | None  # what was said, if the caller wants it told

    @property
    def droppable(self) -> bool:
        return self.state in _PASSING


def shown(name: object) -> str:
    """A run's or tool's name as one word, in any script."""
    return _word(name) if isinstance(name, str) else "unknown"


@lru_cache(1024)  # the same few names come again with every event
def _word(name: str) -> str:
    return "_".join(visible(name).split())[:LONGEST_NAME] or "unknown"


def duration(seconds: float) -> str:
    """As people say it."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def listed(names: Counter[str]) -> str:
    most = [name if count == 1 else f"{name} x{count}" for name, count in names.most_common(MOST_NAMES)]
    left_out = len(names) - len(most)
    return ", ".join(most) + (f" and {left_out} more" if left_out else "")
