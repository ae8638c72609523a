"""Bad weather over a relay: which spells a round has, and whether each single answer was right for its weather.

An answer is judged by itself here, by its time, status and code; what all of them come to is for `histories.py`.
"""

from __future__ import annotations

import errno
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from agentchat import errors
from agentchat._exchange import Request, Response
from agentchat._transport import StdlibTransport
from tests.faults.weather import ALWAYS, BLOBS, DATABASE, EVERYWHERE, FOLDERS, LOG, SEARCH, Weather

LONGEST_ANSWER = 15.0  # seconds; anything near it is a hang
LONGEST_RECOVERY = 10.0
FULL, FSYNC, CHECKPOINT, CLOCK = "full disk", "failing fsync", "failing checkpoint", "clock"
DISK = {
    FULL: 4,
    FSYNC: 4,
    CHECKPOINT: 3,
    "failing writes": 2,
    "failing reads": 2,
    "read-only disk": 2,
    "no permission": 1,
}
KINDS = {**DISK, CLOCK: 5}


class Spell(NamedTuple):
    """Weather from one call of a round to another. The relay may be struck in its middle, and started again in it."""

    after: int
    through: int
    kind: str
    seed: float  # of its details
    strike: str | None
    in_it: bool  # whether the relay is started while it lasts


def planned(luck: random.Random, calls: int, only: str | None = None) -> list[Spell]:
    """Two to four spells, with fair weather between them; for a control of the kind that it needs."""
    number = luck.randint(2, 4)
    marks = sorted(luck.sample(range(calls // 20, calls * 9 // 10), 2 * number))
    return [
        Spell(
            after=after,
            through=through,
            kind=only or luck.choices([*KINDS], [*KINDS.values()])[0],
            seed=luck.random(),
            strike=luck.choice(["cut", "torn cut", "kill", "stop"]) if luck.random() < 0.5 else None,
            in_it=luck.random() < 0.5,
        )
        for after, through in zip(marks[::2], marks[1::2], strict=True)
    ]


def begin(weather: Weather, kind: str, luck: random.Random) -> None:
    times = luck.choice([1, 1, 3, 10, ALWAYS])
    match kind:
        case "full disk":
            weather.full(luck.choice([0, 0, 5_000, 100_000]))
        case "failing fsync":
            places = luck.choice([LOG, LOG, LOG | DATABASE, SEARCH, BLOBS | FOLDERS, EVERYWHERE])
            weather.failing("syncs", errno.EIO, places, times=times)
        case "failing checkpoint":
            weather.failing("syncs", errno.EIO, DATABASE, times=luck.choice([1, 1, 3]))
        case "failing writes":
            places = luck.choice([LOG, DATABASE, SEARCH, BLOBS, EVERYWHERE])
            weather.failing("writes", errno.EIO, places, times=times)
        case "failing reads":
            weather.failing("reads", errno.EIO, luck.choice([DATABASE | LOG, SEARCH, BLOBS, EVERYWHERE]), times=times)
        case "read-only disk":
            weather.read_only()
        case "no permission":
            weather.failing("names", errno.EACCES)
        case _:
            weather.clock(hours=luck.choice([1, -1]) * luck.choice([0.1, 2, 24, 24 * 40, 24 * 365 * 5]))


# When it was what


class Span:
    """A while, told by its kind; open until it is ended."""

    def __init__(self, kind: str, began: float) -> None:
        self.kind, self.began, self.ended = kind, began, float("inf")

    def meets(self, began: float, ended: float) -> bool:
        return began <= self.ended and ended >= self.began


class Times:
    """When the weather was bad, and when the relay was down."""

    def __init__(self) -> None:
        self._spans: list[Span] = []

    def begin(self, kind: str, before: float = 0.0) -> Span:
        span = Span(kind, time.monotonic() - before)
        self._spans.append(span)
        return span

    def end(self, span: Span) -> None:
        span.ended = time.monotonic()

    @contextmanager
    def during(self, kind: str) -> Iterator[None]:
        span = self.begin(kind)
        try:
            yield
        finally:
            self.end(span)

    def meeting(self, began: float, ended: float) -> set[str]:
        return {span.kind for span in [*self._spans] if span.meets(began, ended)}


# What was answered


class Answer(NamedTuple):
    """One exchange; no status means that none came back."""

    began: float
    ended: float
    what: str
    status: int | None
    code: str


class Witness:
    """A client's transport that writes down what came back."""

    def __init__(self, url: str, answers: list[Answer]) -> None:
        self._inner = StdlibTransport(url)
        self._answers = answers

    def send(self, request: Request) -> Response:
        began = time.monotonic()
        try:
            response = self._inner.send(request)
        except errors.NetworkError as error:
            self._write_down(began, request, None, f"{type(error).__name__}: {error.message}")
            raise
        self._write_down(began, request, response.status, "" if response.status < 400 else _code(response))
        return response

    def attempts_since(self, moment: float) -> int:
        return sum(answer.began >= moment for answer in self._answers)

    def close(self) -> None:
        self._inner.close()

    def _write_down(self, began: float, request: Request, status: int | None, code: str) -> None:
        what = f"{request.method} {request.path.partition('?')[0]}"
        self._answers.append(Answer(began, time.monotonic(), what, status, code))


def _code(response: Response) -> str:
    try:
        return str(json.loads(response.body)["code"])
    except (ValueError, KeyError, TypeError):
        return f"no code: {response.body[:100]!r}"


DOWN = "down"


def misfits(answers: Sequence[Answer], times: Times) -> Iterator[str]:
    """Answers that were wrong for their weather."""
    for answer in answers:
        weather = times.meeting(answer.began, answer.ended)
        if not _fits(answer, weather):
            told = "no answer" if answer.status is None else f"{answer.status}"
            yield f"{answer.what}: {told} ({answer.code}) in {' and '.join(sorted(weather)) or 'fair weather'}"
        if (took := answer.ended - answer.began) > LONGEST_ANSWER:
            yield f"{answer.what}: answered after {took:.1f} s in {' and '.join(sorted(weather)) or 'fair weather'}"


def _fits(answer: Answer, weather: set[str]) -> bool:
    match answer.status, answer.code:
        case None, _:
            return DOWN in weather
        case 503, "unavailable":
            return DOWN in weather or bool(weather & DISK.keys())
        case 507, "storage_full":
            return FULL in weather
        case 409, "idempotency_mismatch":
            return True  # whether it is one, the history says
        case status, _:
            return status is not None and status < 400


def recovery(probe: Callable[[], bool]) -> float:
    """Seconds until a call goes through again."""
    began = time.monotonic()
    while not probe():
        if time.monotonic() - began > LONGEST_RECOVERY:
            raise RuntimeError("the relay did not recover when the weather cleared")
    return time.monotonic() - began
