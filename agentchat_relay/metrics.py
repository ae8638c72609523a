"""What a relay counts about itself, and the page on which Prometheus reads it (its text format, version 0.0.4).

Whoever has something to tell keeps plain numbers and says how they are read; all of them are read when the page is
asked for. So counting is an addition on the thread where the thing happens, without a lock. A label takes its values
from a closed set (operations, codes, lanes, files of the store), never a name that an agent or a person chose.
"""

from __future__ import annotations

import logging
import math
import os
import resource
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]
Labels = Mapping[str, str]
Sample = tuple[str, Labels, float]  # what follows the family's name, labels, value

REQUEST_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
COMMIT_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
GROUP_CALLS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
# Codes that are told before they were met: Prometheus sees no increase in what was not there before.
_AT_ONCE = ("ok", "internal_error", "unavailable", "storage_full")
_NONE: Labels = {}


class Family(NamedTuple):
    """Samples of one name."""

    name: str
    kind: Kind
    help: str
    samples: Iterable[Sample]


Source = Callable[[], Iterable[Family]]
Read = Callable[[], float | Mapping[str, float]]


class Histogram:
    """How many of what was observed were at most so large. One thread observes, any may read."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def samples(self, labels: Labels = _NONE) -> Iterator[Sample]:
        counts, so_far = self.counts.copy(), 0
        for bound, count in zip((*self.bounds, math.inf), counts, strict=True):
            so_far += count
            yield "_bucket", {**labels, "le": _number(bound)}, so_far
        yield "_sum", labels, self.sum
        yield "_count", labels, so_far


class Tally:
    """The requests of one operation: answers by their code, and how long it took to make them."""

    __slots__ = ("codes", "name", "seconds")

    def __init__(self, name: str) -> None:
        self.name = name
        self.codes: dict[str, int] = dict.fromkeys(_AT_ONCE, 0)
        self.seconds = Histogram(REQUEST_SECONDS)

    def count(self, code: str, seconds: float) -> None:
        self.codes[code] = self.codes.get(code, 0) + 1
        self.seconds.observe(seconds)


class Metrics:
    """The measures of one relay. Requests are counted here; `gauge`, `counter` and `add` take what others count."""

    def __init__(self) -> None:
        self.in_progress = 0
        self.streams = {"download": 0}  # answers that go out piece by piece, by what they are
        self._tallies: dict[str, Tally] = {}
        self._sources: list[Source] = [self._requests]
        self.gauge(
            "agentchat_requests_in_progress",
            "Requests under way, downloads until their last byte.",
            lambda: self.in_progress,
        )
        self.gauge("agentchat_streams", "Answers that go out piece by piece.", lambda: self.streams, "kind")
        _add_process(self)

    def tally(self, operation: str) -> Tally:
        """Where the requests of an operation are counted."""
        return self._tallies.setdefault(operation, Tally(operation))

    def gauge(self, name: str, help: str, read: Read, label: str = "") -> None:
        """A number that goes up and down; with `label`, `read` gives one for each of its values."""
        self.add(lambda: [Family(name, "gauge", help, samples(read(), label))])

    def counter(self, name: str, help: str, read: Read, label: str = "") -> None:
        """A number that only grows; its name ends in `_total`."""
        self.add(lambda: [Family(name, "counter", help, samples(read(), label))])

    def add(self, source: Source) -> None:
        """Families that are read together."""
        self._sources.append(source)

    def page(self) -> bytes:
        """Everything, as text. What cannot be read at the moment is left out."""
        lines: list[str] = []
        for source in self._sources:
            try:
                for family in source():
                    lines += [*_lines(family)]
            except Exception as error:
                logging.getLogger("agentchat.relay").debug("A measure cannot be read: %s", error)
        return "\n".join([*lines, ""]).encode()

    def _requests(self) -> Iterator[Family]:
        tallies = [*self._tallies.values()]
        yield Family(
            "agentchat_requests_total",
            "counter",
            "Answers made, by operation and by `ok` or the code of the error.",
            [
                ("", {"operation": tally.name, "code": code}, count)
                for tally in tallies
                for code, count in tally.codes.items()
            ],
        )
        yield Family(
            "agentchat_request_seconds",
            "histogram",
            "Time from the head of a request until its answer was made, by operation.",
            [
                sample
                for tally in tallies
                if any(tally.seconds.counts)
                for sample in tally.seconds.samples({"operation": tally.name})
            ],
        )


def samples(found: float | Mapping[str, float], label: str) -> list[Sample]:
    if isinstance(found, Mapping):
        return [("", {label: value}, number) for value, number in found.items()]
    return [("", _NONE, found)]


def _lines(family: Family) -> Iterator[str]:
    yield f"# HELP {family.name} {family.help}"
    yield f"# TYPE {family.name} {family.kind}"
    for suffix, labels, value in family.samples:
        inside = ",".join([f'{name}="{text}"' for name, text in labels.items()])
        braces = f"{{{inside}}}" if inside else ""
        yield f"{family.name}{suffix}{braces} {_number(value)}"


def _number(value: float) -> str:
    return "+Inf" if value == math.inf else repr(value)


# What Prometheus' own libraries tell of a process; a system without /proc has half of it


def _add_process(metrics: Metrics) -> None:
    started = _started()
    metrics.gauge("process_resident_memory_bytes", "Memory that the process holds.", _resident)
    metrics.counter("process_cpu_seconds_total", "CPU time that the process used.", time.process_time)
    metrics.gauge("process_open_fds", "Open files and sockets.", _open_files)
    metrics.gauge("process_max_fds", "Open files and sockets allowed.", _most_files)
    if started is not None:
        metrics.gauge("process_start_time_seconds", "When the process began, since 1970.", lambda: started)


def _resident() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd")) - 1  # the listing itself has one open


def _most_files() -> int:
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most


def _started() -> float | None:
    """Asked once: the answer moves when the clock is set. Of /proc it needs what systemd's ProcSubset=pid leaves."""
    try:
        with open("/proc/self/stat", "rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[19])  # since the machine was booted
        running = time.clock_gettime(time.CLOCK_BOOTTIME)
    except (OSError, AttributeError):
        return None
    return time.time() - running + ticks / os.sysconf("SC_CLK_TCK")
