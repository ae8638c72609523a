"""What those are told who do not get a lock: whose it is, until when, and what they can do. Why, which is another's own
words, goes along in the details.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from agentchat import types
from agentchat.errors import Conflict
from agentchat.text import word

from .lock import HELD, WITHDRAWN

_MOST_NAMES = 3
_LONGEST_NAME = 80


class Refused(Conflict):
    """Somebody else has what was asked for, or came before. `mine` is the caller's request that waited in vain."""

    def __init__(
        self, holders: Sequence[types.Lock], *, now: int, mine: types.Lock | None = None, is_own: bool = False
    ) -> None:
        if is_own:
            text = f"{_has(holders[0], 'You', now)} yourself. {_what_you_can(holders[0])}"
        elif holders:
            first, over = holders[0], "; your wait is over" if mine else ""
            text = f"{_has(first, '@' + word(first['holder']), now)}{_and_others(holders)}. Nothing was locked{over}. "
            text += _instead(first)
        elif mine and mine["state"] == WITHDRAWN:
            text = "Your request was taken back by release_lock while it waited. Nothing was locked."
        else:
            text = "Your wait was over before it was your turn. Nothing was locked; call acquire_lock again."
        super().__init__(text, details={"current": mine or holders[0], "holders": list(holders)})


def _has(lock: types.Lock, who: str, now: int) -> str:
    listed = [word(name, _LONGEST_NAME) for name in lock["names"][:_MOST_NAMES]]
    left = len(lock["names"]) - len(listed)
    what = ", ".join(listed) + (f" and {left} more" if left else "")
    s = "" if who == "You" else "s"
    if lock["state"] != HELD:
        return f"{who} wait{s} for {what} until {_short(lock['waits_until'])}"
    shared = ", shared," if lock["shared"] else ""
    left_over = f" ({_seconds(lock['lease_until'], now)} s from now)"
    return f"{who} hold{s} {what}{shared} until {_short(lock['lease_until'])}{left_over}"


def _and_others(holders: Sequence[types.Lock]) -> str:
    others = len(holders) - 1
    return f"; {others} more {'is' if others == 1 else 'are'} in the way" if others else ""


def _what_you_can(lock: types.Lock) -> str:
    if lock["state"] != HELD:
        return f"It is your request {lock['id']}; release_lock takes it back."
    return (
        f"It is your lock {lock['id']} with fence {lock['fence']}: go on with it; renew_lock keeps it for longer, "
        "release_lock gives it back."
    )


def _instead(lock: types.Lock) -> str:
    return (
        f"Call acquire_lock with wait (as wait=60) to get it once it is free, ask @{word(lock['holder'])}, or do "
        "something else first."
    )


def _short(time: str | None) -> str:
    return "?" if time is None else f"{time[:19]}Z"


def _seconds(time: str | None, now: int) -> int:
    until = datetime.now(UTC) if time is None else datetime.fromisoformat(time)
    return max(round(until.timestamp() - now / 1e6), 0)
