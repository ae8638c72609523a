"""Groups and what was sent, as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .._fence import word
from ._layout import Cut, Row, count, fit, get, more, rows_of, shown_time, text_of

_MOST_NAMES = 100


def _to_many(data: Any, cut: Cut) -> str:
    ids = ", ".join(word(get(row, "id")) for row in rows_of(data, "messages"))
    return f"Sent as {ids}.{_pending(data)}"


def _pending(data: Any) -> str:
    return " A large group is still being told." if get(data, "pending") is True else ""


def _sent(data: Any, cut: Cut) -> str:
    found = rows_of(data, "messages")
    if not found:
        return "You sent nothing to anybody."

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
    return Row(f"{ours}{_pending(row)}", text_of(row, "content"), message)


def _states(row: Any) -> str:
    states = get(row, "states")
    if not isinstance(states, Mapping) or not states:
        return "notified nobody"
    return ", ".join(f"{word(number)} {word(state, 40)}" for state, number in list(states.items())[:10])


def _groups(data: Any, cut: Cut) -> str:
    rows = []
    for row in rows_of(data, "groups"):
        ours = f"{word(get(row, 'name'))}: {_members(row)}"
        ours += ", you are in it" if get(row, "joined") is True else ""
        if names := [f"@{word(name)}" for name in rows_of(row, "agents")[:_MOST_NAMES]]:
            ours += f": {' '.join(names)}"
        rows.append(Row(ours))
    return fit(f"{count(rows, 'group')}{more(data)}.", rows, cut) if rows else "No groups."


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
