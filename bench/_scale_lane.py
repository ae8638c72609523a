"""Calls of the service on a lane's own thread, and what they cost there. For `scale.py`."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import _measure as measure
from agentchat_relay.http.reply import enveloped
from agentchat_relay.service.call import Agent, Call
from agentchat_relay.store.seam import Lane, Store


class Ask:
    """A call of the service, answered as it would travel."""

    def __init__(self, service: Callable[..., Any], agent: Agent, **arguments: Any) -> None:
        self._service, self._call, self._arguments = service, Call(agent), arguments

    def result(self, tx: Any) -> Any:
        return self._service(tx, self._call, **self._arguments)

    def __call__(self, tx: Any) -> Any:
        return enveloped(self.result(tx))


def timed(store: Store, lane: Lane, calls: Sequence[Callable[[Any], Any]], size: int = 1) -> list[measure.Sample]:
    """CPU and wall time in us per call, on the lane's own thread, in groups of `size`. The last call of a group submits
    the next group, so that the lane finds a whole one; the submitting is not counted."""
    samples: list[measure.Sample] = []
    failures: list[BaseException] = []
    over = threading.Event()
    left = iter(calls)
    waiting = 0
    began = measure.Sample(0, 0)

    def feed(result: Any, error: BaseException | None) -> None:
        nonlocal waiting, began
        group = list(itertools.islice(left, size))
        waiting = len(group)
        for call in group:
            store.submit(lane, call, done)
        began = measure.Sample(time.thread_time(), time.perf_counter())
        if not group:
            over.set()

    def done(result: Any, error: BaseException | None) -> None:
        nonlocal waiting
        waiting -= 1
        if error is not None:
            failures.append(error)
        if not waiting:
            cpu, wall = time.thread_time() - began.cpu, time.perf_counter() - began.wall
            samples.append(measure.Sample(cpu / size * 1e6, wall / size * 1e6))
            feed(None, None)

    store.submit(lane, lambda tx: None, feed)
    over.wait()
    if failures:
        raise failures[0]
    return samples


def controlled(calls: int) -> list[measure.Sample]:
    cpu, wall = time.thread_time(), time.perf_counter()
    measure.control(calls)
    return [measure.Sample((time.thread_time() - cpu) / calls * 1e6, (time.perf_counter() - wall) / calls * 1e6)]


def mean(samples: list[measure.Sample]) -> float:
    return statistics.fmean(sample.cpu for sample in samples)


def median(rounds: Sequence[list[measure.Sample]], column: int) -> float:
    return statistics.median(sample[column] for taken in rounds for sample in taken)


def told_control(found: dict[str, Any]) -> str:
    return f"Control (memory): {measure.spread(found['control'])} us."
