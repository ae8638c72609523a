"""A relay in the weather, under a service manager, and what may be said of its directory once it was stopped."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from agentchat_relay.keeping.doctor import examine
from agentchat_relay.keeping.progress import Progress
from agentchat_relay.keeping.visit import Finding
from tests.faults.load import PATIENCE
from tests.faults.relay_process import LONGEST_START, RelayProcess
from tests.faults.spells import DOWN, LONGEST_ANSWER, Span, Times
from tests.faults.weather import Weather

GAVE_UP = "nothing acknowledged gets lost"
# What the log says where nobody caught a fault.
UNCAUGHT = ("Traceback", "ends by a fault", "none can be raised", "Exception in thread")


class ManagedRelay(RelayProcess):
    """A relay in the weather, under a service manager: if it ends by itself it is started again."""

    limits = ("--agent-reads", "500")  # otherwise those of everybody: a clock that jumps must not use them up

    def __init__(self, data: Path, scratch: Path, build: str | None) -> None:
        super().__init__(data, scratch, build)
        self.weather, self.times = Weather(data, scratch), Times()
        self.complaints: list[str] = []
        self.ends: Counter[str] = Counter()
        self._fair = threading.Event()
        self._fair.set()
        self._turn = threading.RLock()
        self._down: Span | None = None

    def environment(self) -> dict[str, str]:
        return self.weather.environment(super().environment())

    def try_to_start(self) -> bool:
        """It may refuse, cleanly."""
        with self._turn:
            if self._process is not None:  # the service manager was faster
                return True
            before, began = len(self.log()), time.monotonic()
            process = self.launch()
            is_ready = self.is_ready(process)
            if (took := time.monotonic() - began) > LONGEST_ANSWER:
                self.complaints.append(f"it took {took:.1f} s to start, or to refuse that")
            if is_ready:
                self._is_up(process)
                return True
            self._reap(process)
            said = self.log()[before:].strip()
            if process.returncode in (0, None) or process.returncode < 0 or not said.startswith("Error ("):
                self.complaints.append(f"it did not start, and ended with {process.returncode}: {said[-300:]}")
            self.ends["refused to start"] += 1
            return False

    def is_stuck(self) -> bool:
        """Whether it waits for fair weather."""
        return self._process is None

    def must_start(self) -> None:
        if not self.try_to_start():
            raise RuntimeError(f"the relay did not start in fair weather: {self.log()[-500:]}")

    def strike(self, kind: str, luck: random.Random) -> bool:
        """Whether there was a relay to be struck."""
        with self._turn:
            if self._process is None or self._process.poll() is not None:
                return False
            self._is_down(before=0.1)  # it may have ended by itself, and nobody has noticed yet
            {"cut": self.cut, "torn cut": partial(self.cut, luck), "kill": self.kill, "stop": self.stop}[kind]()
            return True

    def stop(self) -> None:
        """A disk that fails while the relay stops may make it give up."""
        process = self._struck(signal.SIGTERM)
        late = threading.Timer(PATIENCE, process.kill)
        late.start()
        code = self._reap(process)
        late.cancel()
        if code != 0 and not (code == 1 and GAVE_UP in self.log()):
            self.complaints.append(f"it ended with {code} after SIGTERM: {self.log()[-500:]}")

    def uncaught(self) -> Iterator[str]:
        log = self.log()
        yield from (f"the relay's log: {log[-300:]}" for sign in UNCAUGHT if sign in log)

    def storms(self) -> None:
        self._fair.clear()

    def clears(self) -> None:
        self.weather.clear()
        self._fair.set()

    def close(self) -> None:
        with self._turn:
            super().close()
        self._fair.set()

    def _is_up(self, process: subprocess.Popen[str]) -> None:
        if self._down is not None:
            self.times.end(self._down)
            self._down = None
        threading.Thread(target=self._watch, args=(process,), daemon=True).start()

    def _is_down(self, before: float = 0.0) -> None:
        self.up.clear()
        if self._down is None:
            self._down = self.times.begin(DOWN, before)

    def _watch(self, process: subprocess.Popen[str]) -> None:
        code = process.wait()
        with self._turn:
            if self._process is not process:  # somebody struck it
                return
            self._is_down(before=1.0)
            self._reap(process)
            if code != 1 or GAVE_UP not in self.log():
                self.complaints.append(f"the relay ended by itself with {code}: {self.log()[-500:]}")
            self.ends["gave up"] += 1
        while not self.try_to_start():
            if not self._fair.wait(LONGEST_START):
                self.complaints.append("the relay did not come back")
                return


def whole(data: Path) -> Iterator[str]:
    """What SQLite finds wrong with the database of a relay that was stopped, and what the doctor does."""
    with closing(sqlite3.connect(data / "agentchat.db")) as connection:
        for (told,) in connection.execute("PRAGMA integrity_check"):
            if told != "ok":
                yield f"agentchat.db: {told}"
    found: list[Finding] = []
    examine(str(data), Progress(quiet=True), found.append)
    yield from (f"the doctor: {finding['text']}" for finding in found if finding["level"] == "problem")
