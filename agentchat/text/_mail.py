"""Groups and what was sent, as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .._fence import word
from ._layout import Cut, Row, count, fit, get, more, pending, rows_of, shown_time, text_of


def _to_many(data: Any, cut: Cut) -> str:
    rows = [Row(f"message {word(get(row, 'id'))}") for row in rows_of(data, "messages")]
    return fit(f"Sent as {count(rows, 'message')}.{pending(data)}", rows, cut)


def _sent(data: Any, cut: Cut) -> str:
    found = rows_of(data, "messages")
    if not found:
        return "Nothing that you sent to somebody is here."

    def note(left_out: int) -> str:
        if left_out:
            return f"({left_out} older left out: ask for fewer with limit)"
        following = None if get(data, "has_more") is False else get(data, "next_cursor")
        return f"(older ones: cursor={word(following, 512)})" if following else ""

    return fit(f"{count(found, 'message')}, newest first.", [_sent_row(row) for row in found], cut, note=note)


def _sent_row(row: Any) -> Row:
    message = word(get(row, "message_id"))
    group = "group " if get(row, "is_group") is True else ""
    ours = f"message {message} {shown_time(get(row, 'created_at'))} to {group}@{word(get(row, 'to'))}: {_states(row)}"
    return Row(f"{ours}{'.' if pending(row) else ''}{pending(row)}", text_of(row, "content"), message)


def _states(row: Any) -> str:
    states = get(row, "states")
    if not isinstance(states, Mapping) or not states:
        return "notified nobody"
    return ", ".join(f"{word(number)} {word(state, 40)}" for state, number in list(states.items())[:10])


def _groups(data: Any, cut: Cut) -> str:
    """A list of groups, or who is in the one that was asked for."""
    found = rows_of(data, "groups")
    if not found:
        return "No groups."
    if len(found) == 1 and isinstance(get(found[0], "agents"), list):
        return fit(f"{_group(found[0])}.", [Row(f"@{word(name)}") for name in rows_of(found[0], "agents")], cut)
    return fit(f"{count(found, 'group')}{more(data)}.", [Row(_group(row)) for row in found], cut)


def _group(row: Any) -> str:
    return f"{word(get(row, 'name'))}: {_members(row)}{', you are in it' if get(row, 'joined') is True else ''}"


def _members(row: Any) -> str:
    number = get(row, "members")
    return f"{word(number)} {'member' if number == 1 else 'members'}"


def _changed(data: Any, cut: Cut) -> str:
    now = "in" if get(data, "joined") is True else "not in"
    already = " already" if get(data, "idempotent") is True else ""
    return f"You are {now} the group {word(get(data, 'group'))}{already}. It has {_members(data)}."


RENDERERS: dict[str, Callable[[Any, Cut], str]] = {
    "send_to_many": _to_many,
    "list_sent": _sent,
    "list_groups": _groups,
    "join_group": _changed,
    "leave_group": _changed,
}
