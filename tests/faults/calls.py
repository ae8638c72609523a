"""What journals say, put together call by call, for the checkers. It shares nothing with the relay or the clients.

Times named `_at` are microseconds since 1970; others are seconds of one clock. Of a call that got no answer nobody
knows whether, or when, it took effect after it began.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from tests.faults.journal import FOREVER, Attempt

SECOND = 1_000_000
SLACK = SECOND  # by which the time of a transaction may lie before that of a call in it


def micros(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * SECOND + moment.microsecond


def brief(id: str | None) -> str:
    return (id or "none")[-6:]


def by_key(attempts: Iterable[Attempt]) -> list[list[Attempt]]:
    """Those of one call each."""
    found: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        found[attempt.key].append(attempt)
    return [*found.values()]


class Call:
    """All attempts under one key. It took effect once or not at all, and after the first of them began."""

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        first = attempts[0]
        self.attempts = attempts
        self.who, self.session, self.name, self.key = first.who, first.session, first.call, first.key
        self.arguments: Mapping[str, Any] = first.arguments
        self.began, self.began_at = first.began, first.began_at
        self.answered = [attempt for attempt in attempts if attempt.answer is not None]
        told = self.answered[:1]
        self.answer: Mapping[str, Any] | None = told[0].answer if told else None
        self.ended = told[0].ended if told else FOREVER
        self.ended_at = told[0].ended_at if told else None
        self.refusals = [attempt for attempt in attempts if attempt.refusal]

    @property
    def may_have_effect(self) -> bool:
        return bool(self.answered) or any(attempt.is_unknown for attempt in self.attempts)

    @property
    def is_unknown(self) -> bool:
        """Whether it may have had an effect of which nobody was told."""
        return not self.answered and self.may_have_effect
