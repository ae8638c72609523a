"""A doctor's visit: what was looked at, what was found, and what was mended."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypedDict

from agentchat.errors import AgentChatError

from .progress import Progress

Level = Literal["ok", "warning", "problem"]
REPAIR = "With the relay stopped, agentchat admin doctor --repair mends it."
RESTORE = "Stop the relay, keep a copy of the directory, and restore a backup: agentchat admin restore."
_MOST_NAMED = 3


class Finding(TypedDict):
    check: str
    level: Level
    text: str
    advice: str  # what to do; empty if there is nothing to do
    repaired: bool


class Visit:
    """One visit to one directory. `told` hears of every finding as it is made."""

    way_back = RESTORE
    shares_contents = False  # whatever the setting: others may have theirs in the same place

    def __init__(
        self,
        path: str,
        *,
        files: str = "",
        repairing: bool,
        quick: bool,
        progress: Progress,
        told: Callable[[Finding], object],
    ) -> None:
        self.path = path
        self.files = files  # the setting: where contents are
        self.repairing = repairing  # the directory is held, and what is safe may be changed
        self.quick = quick
        self.progress = progress
        self.findings: list[Finding] = []
        self._told = told

    def fine(self, check: str, text: str) -> None:
        self._add({"check": check, "level": "ok", "text": text, "advice": "", "repaired": False})

    def warn(self, check: str, text: str, advice: str, mend: Callable[[], object] | None = None) -> None:
        self._found("warning", check, text, advice, mend)

    def problem(self, check: str, text: str, advice: str = "", mend: Callable[[], object] | None = None) -> None:
        self._found("problem", check, text, advice, mend)

    @property
    def owns_contents(self) -> bool:
        """Whether nobody else has contents of files where this relay has them."""
        return not self.files and not self.shares_contents

    def change(self, database: sqlite3.Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Mend rows."""
        database.executemany(sql, rows)

    def file(self, name: str) -> str:
        return os.path.join(self.path, name)

    def _found(self, level: Level, check: str, text: str, advice: str, mend: Callable[[], object] | None) -> None:
        repaired = False
        if mend is not None and self.repairing:
            try:
                mend()
                repaired, advice = True, ""
            except (OSError, sqlite3.Error, AgentChatError) as error:
                advice = f"It could not be repaired: {error}. {advice}"
        elif mend is not None:
            advice = f"{advice} {REPAIR}".strip()
        self._add({"check": check, "level": level, "text": text, "advice": advice.strip(), "repaired": repaired})

    def _add(self, finding: Finding) -> None:
        self.findings.append(finding)
        self._told(finding)


def some(names: Sequence[str]) -> str:
    """The first few of them."""
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")
