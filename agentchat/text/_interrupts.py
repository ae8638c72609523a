"""Interrupts and pauses as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._fence import word
from ._layout import Cut, Row, already, count, fit, get, older, rows_of, shown_time, text_of, transition_row

_CHANGES = {
    "send_interrupt": "Sent: it comes first in the inbox",
    "acknowledge_interrupt": "Acknowledged",
    "withdraw_interrupt": "Withdrawn",
}
_PURPOSES = {"pause": " (a pause)", "resume": " (a pause is over)"}


def _row(interrupt: Any) -> Row:
    ours = f"{word(get(interrupt, 'id'))} {word(get(interrupt, 'state'), 20)}"
    ours += f", from @{word(get(interrupt, 'sender'))} to @{word(get(interrupt, 'target'))}"
    ours += f" {shown_time(get(interrupt, 'created_at'))}"
    ours += _PURPOSES.get(text_of(interrupt, "purpose"), "")
    if get(interrupt, "state") == "pending":
        ours += f" (void after {shown_time(get(interrupt, 'expires_at'))})"
    if (seen := get(interrupt, "seen_at")) is not None:
        ours += f" (seen {shown_time(seen)})"
    elif isinstance(interrupt, dict) and "seen_at" in interrupt and get(interrupt, "state") != "acknowledged":
        ours += " (not seen yet)"  # who acknowledged it may have seen it in a list, which counts as no look
    return Row(ours, _texts(interrupt))


def _texts(thing: Any) -> str:
    note = text_of(thing, "note")
    return "\n".join(text for text in (text_of(thing, "reason"), f"Note: {note}" if note else "") if text)


def _changed(data: Any, cut: Cut) -> str:
    tool = cut.tool("get_interrupt") if cut.asked == "send_interrupt" else None
    follows = f" {tool} says whether it was acknowledged." if tool else ""
    return fit(f"{_CHANGES[cut.asked]}{already(data)}.{follows}", [_row(get(data, "interrupt"))], cut)


def _listed(data: Any, cut: Cut) -> str:
    found = rows_of(data, "interrupts")
    if not found:
        return "No interrupts."
    tool = cut.tool("acknowledge_interrupt")
    waits = any(get(row, "state") == "pending" for row in found)
    how = f" {tool} acknowledges one that is for you." if tool and waits else ""
    title = f"{count(found, 'interrupt')}, newest first.{how}"
    return fit(title, [_row(row) for row in found], cut, note=older(data))


def _details(data: Any, cut: Cut) -> str:
    rows = [_row(get(data, "interrupt")), *map(transition_row, rows_of(data, "history"))]
    return fit("1 interrupt, and what happened to it.", rows, cut, evenly=True)


def pause_row(pause: Any) -> Row:
    where = f"#{word(get(pause, 'name'))}" if get(pause, "of") == "channel" else f"group {word(get(pause, 'name'))}"
    ours = f"{word(get(pause, 'id'))} {where} {word(get(pause, 'state'), 20)}, by @{word(get(pause, 'paused_by'))}"
    ours += f" {shown_time(get(pause, 'created_at'))}"
    if get(pause, "state") == "paused":
        ours += f", until {shown_time(get(pause, 'expires_at'))} at the latest"
    if get(pause, "told") is not None:
        ours += f": {word(get(pause, 'acknowledged'))} of {word(get(pause, 'told'))} agents acknowledged it"
    if get(pause, "pending") is True:
        ours += " (others are still being told)"
    return Row(ours, _texts(pause))


def _paused(data: Any, cut: Cut) -> str:
    pause = get(data, "pause")
    done = {"pause_agents": "Paused", "resume_agents": "Resumed"}[cut.asked]
    tool = cut.tool("resume_agents") if cut.asked == "pause_agents" else None
    follows = f" {tool} pause_id={word(get(pause, 'id'))} ends it." if tool else ""
    return fit(f"{done}{already(data)}.{follows}", [pause_row(pause)], cut)


def _pauses(data: Any, cut: Cut) -> str:
    found = rows_of(data, "pauses")
    return fit(f"{count(found, 'pause')}, newest first.", [*map(pause_row, found)], cut) if found else "No pauses."


RENDERERS: dict[str, Callable[[Any, Cut], str]] = {
    **dict.fromkeys(_CHANGES, _changed),
    "list_interrupts": _listed,
    "get_interrupt": _details,
    "pause_agents": _paused,
    "resume_agents": _paused,
    "list_pauses": _pauses,
}
