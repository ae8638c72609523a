"""A real relay as a process of its own, which may be struck and started again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import httpx

from tests.faults.powercut import PowerCut

ROOT = Path(__file__).resolve().parents[2]
LONGEST_START = 60.0
NO_LIMITS = [f"--{whose}-{what}=0" for whose in ("agent", "all") for what in ("reads", "writes")]


class Process:
    """A relay on one directory and one port, through all its ends. `more` are options of `agentchat serve`."""

    limits: Sequence[str] = NO_LIMITS
    builds = "tests.faults.relay_build"

    def __init__(self, data: Path, log: Path, broken: str | None = None, more: Sequence[str] = ()) -> None:
        self.data = data
        self.url = ""
        self.up = threading.Event()
        self._log = log
        build = [self.builds, broken] if broken else ["agentchat", "serve"]
        self._command = [sys.executable, "-m", *build, "--data", str(data), *self.limits, *more, "--port"]
        self._process: subprocess.Popen[str] | None = None

    def launch(self) -> subprocess.Popen[str]:
        port = self.url.rpartition(":")[2] or "0"
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [*self._command, port], cwd=ROOT, env=self.environment(), stdout=subprocess.PIPE, stderr=log, text=True
            )  # fmt: skip
        return self._process

    def environment(self) -> dict[str, str]:
        return {**os.environ}

    def start(self) -> None:
        """Returns when it is ready."""
        if not self.is_ready(self.launch()):
            raise RuntimeError(f"the relay did not start: {self.log()[-500:]}")

    def is_ready(self, process: subprocess.Popen[str]) -> bool:
        """Waits for that, or for its end."""
        assert process.stdout
        late = threading.Timer(LONGEST_START, process.kill)
        late.start()
        greeting = process.stdout.readline()
        late.cancel()
        if " is ready on " not in greeting:
            return False
        self.url = greeting.partition(" is ready on ")[2].partition(",")[0]
        self.up.set()
        return True

    def kill(self) -> None:
        process = self._struck(signal.SIGKILL)
        self._reap(process)

    def stop(self) -> None:
        """SIGTERM: calls that are under way are finished."""
        process = self._struck(signal.SIGTERM)
        if self._reap(process) != 0:
            raise RuntimeError(f"the relay ended with {process.returncode} after SIGTERM: {self.log()[-500:]}")

    def has_ended(self) -> bool:
        """By itself."""
        return self._process is not None and self._process.poll() is not None

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._reap(self._process)

    def _struck(self, number: signal.Signals) -> subprocess.Popen[str]:
        """First the signal, so that calls are under way when it comes."""
        assert self._process
        self._process.send_signal(number)
        self.up.clear()
        return self._process

    def _reap(self, process: subprocess.Popen[str]) -> int:
        self._process = None
        assert process.stdout
        process.stdout.close()
        return process.wait()


class RelayProcess(Process):
    """One whose power can go."""

    def __init__(self, data: Path, scratch: Path, broken: str | None = None) -> None:
        super().__init__(data, scratch / "relay.log", broken)
        self.power = PowerCut(data, scratch)

    def environment(self) -> dict[str, str]:
        return self.power.environment()

    def cut(self, torn: random.Random | None = None) -> None:
        """The power goes: only what was synced remains."""
        process = self._struck(signal.SIGKILL)
        self.power.cut(process, torn=torn)
        self._reap(process)


def token(url: str, data: Path, name: str) -> str:
    return str(administer(url, data, "agents/token", name=name).raise_for_status().json()["data"]["key"])


def administer(url: str, data: Path, path: str, **body: object) -> httpx.Response:
    """What an operator asks of a relay, with its admin credential."""
    bearer = f"Bearer {(data / 'admin.key').read_text().strip()}"
    return httpx.post(
        f"{url}/api/v2/admin/{path}", json=body, headers={"authorization": bearer}, trust_env=False, timeout=10
    )
