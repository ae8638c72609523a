"""Locks as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._fence import word
from ._layout import Cut, Row, already, count, fit, get, older, rows_of, shown_time, text_of

_MOST_NAMES = 20
_ENDS = {
    "released": "released",
    "lapsed": "lapsed: its lease is over",
    "broken": "broken by an admin",
    "expired": "expired: its wait is over",
    "withdrawn": "withdrawn",
}


def _row(lock: Any) -> Row:
    ours = f"{word(get(lock, 'id'))} {_names(lock)}: {_standing(lock)}"
    texts = [text_of(lock, "reason")]
    if why := text_of(lock, "break_reason"):
        texts.append(f"Broken: {why}")
    return Row(ours, "\n".join(text for text in texts if text))


def _names(lock: Any) -> str:
    shown = [word(name, 200) for name in rows_of(lock, "names")[:_MOST_NAMES]]
    return ", ".join(shown) + (" (shared)" if get(lock, "shared") is True else "")


def _standing(lock: Any) -> str:
    holder, state = f"@{word(get(lock, 'holder'))}", get(lock, "state")
    if state == "held":
        return f"held by {holder} until {shown_time(get(lock, 'lease_until'))}, fence {word(get(lock, 'fence'))}"
    if state == "waiting":
        return f"wanted by {holder}, who waits until {shown_time(get(lock, 'waits_until'))}"
    return f"of {holder}, {_ENDS.get(state, word(state, 20)) if isinstance(state, str) else 'unknown'}"


def _acquired(data: Any, cut: Cut) -> str:
    lock, state = get(data, "lock"), get(data, "lock", "state")
    if state == "held":
        tool = cut.tool("release_lock")
        title = f"It is yours until {shown_time(get(lock, 'lease_until'))}, with fence {word(get(lock, 'fence'))}."
        if tool:
            title += f" {tool} gives it back."
        return fit(title, [_row(lock)], cut)
    if state == "waiting":
        holders = [_row(holder) for holder in rows_of(data, "holders")]
        return fit("It is not yours yet: you wait for it, behind these.", [_row(lock), *holders], cut)
    return fit("You had it, and have it no more.", [_row(lock)], cut)


def _changed(data: Any, cut: Cut) -> str:
    lock = get(data, "lock")
    if cut.asked == "renew_lock":
        return fit(f"Yours until {shown_time(get(lock, 'lease_until'))}.", [_row(lock)], cut)
    done = "You wait no longer" if get(lock, "state") == "withdrawn" else "Given back"
    return fit(f"{done}{already(data)}.", [_row(lock)], cut)


def _listed(data: Any, cut: Cut) -> str:
    found = rows_of(data, "locks")
    if not found:
        return "No locks: nobody holds that or waits for it."
    title = f"{count(found, 'lock')}, first come first."
    return fit(title, [_row(lock) for lock in found], cut, note=older(data, "further", "more"))


RENDERERS: dict[str, Callable[[Any, Cut], str]] = {
    "acquire_lock": _acquired,
    "list_locks": _listed,
    "renew_lock": _changed,
    "release_lock": _changed,
}
