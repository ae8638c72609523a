"""How a text is laid out: a title, as many rows as fit, and a note on what was left out and how to get it."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Any, NamedTuple

from .._arguments import json_text
from .._fence import NOTICE, fenced, word


class Cut(NamedTuple):
    """How a text is bounded, and which operations the reader could call for the rest.

    `fewer` is how to get less at a time, `asked` the operation, `waited` the seconds that it was to wait. `at_once`:
    what is shown counts as dealt with now, not only with the next check.
    """

    max_chars: int
    reachable: Container[str]
    prefix: str
    fewer: str
    asked: str = ""
    waited: int = 0
    at_once: bool = False

    def tool(self, *names: str) -> str | None:
        """The first of these operations that the reader can call, by the name it has there."""
        return next((self.prefix + name for name in names if name in self.reachable), None)


class Row(NamedTuple):
    """One entry: a line of ours, then lines of others. `source` is the message whose text may be cut."""

    ours: str
    theirs: str = ""
    source: str | None = None
    offset: int = 0


def get(row: Any, *path: str) -> Any:
    """A member, however odd the row: relays of others send rows of other shapes."""
    for name in path:
        row = row.get(name) if isinstance(row, Mapping) else None
    return row


def text_of(row: Any, name: str) -> str:
    value = get(row, name)
    return value if isinstance(value, str) else ""


def json_of(row: Any, name: str) -> str:
    """What of an answer only a relay that is none could have sent, infinity or a depth without end, is not shown."""
    try:
        return json_text(get(row, name))
    except (ValueError, RecursionError):
        return "(no JSON)"


def rows_of(data: Any, name: str) -> list[Any]:
    rows = get(data, name)
    return rows if isinstance(rows, list) else []


def count(rows: list[Any], singular: str, plural: str = "") -> str:
    return f"{len(rows)} {singular if len(rows) == 1 else plural or singular + 's'}"


def shown_time(value: object) -> str:
    """A time to the second. `before` and `through` want the exact one, which the row's hint gives."""
    return re.sub(r"\.[0-9]+(?=[Z+-]|$)", "", word(value)).replace("+00:00", "Z")


def further(cut: Cut, left_out: int) -> str:
    return f"({left_out} further left out{': ' + cut.fewer if cut.fewer else ''})" if left_out else ""


def fit(
    title: str,
    rows: list[Row],
    cut: Cut,
    *,
    newest_last: bool = False,
    evenly: bool = False,
    note: Callable[[int], str] | None = None,
) -> str:
    """Title, as many rows as fit, and a note on what was left out: the rows furthest from the newest or the best.

    `evenly` cuts the longest texts first, so that every row is shown that can be.
    """
    if any(row.theirs for row in rows):
        title = f"{title} {NOTICE}"
    return fit_below(title, rows, cut, newest_last=newest_last, evenly=evenly, note=note)


def fit_below(
    title: str,
    rows: list[Row],
    cut: Cut,
    *,
    newest_last: bool = False,
    evenly: bool = False,
    note: Callable[[int], str] | None = None,
) -> str:
    """As `fit`, below a line that has the notice already."""
    if note is None:
        note = partial(further, cut)
    room = cut.max_chars - len(title) - 4 - max(len(note(0)), len(note(len(rows))))
    share = _even_share(rows, room, cut) if evenly else max(room // max(len(rows), 1), min(1000, room))
    blocks: list[str] = []
    for row in reversed(rows) if newest_last else rows:
        shown = block(row, share, cut)
        room -= len(shown) + 1
        if room < 0 and blocks:  # the first row is always shown, cut if need be
            break
        blocks.append(shown)
    left_out = note(len(rows) - len(blocks))
    parts = [title, left_out, *reversed(blocks)] if newest_last else [title, *blocks, left_out]
    return "\n".join(part for part in parts if part)


def _even_share(rows: list[Row], room: int, cut: Cut) -> int:
    """The most characters a row may have if all are to fit: what short ones leave goes to the long ones."""
    sizes = sorted(len(block(row, room, cut)) + 1 for row in rows)
    for position, size in enumerate(sizes):
        share = room // (len(sizes) - position)
        if size > share:
            return share - 1
        room -= size
    return sizes[-1] if sizes else room


def block(row: Row, room: int, cut: Cut) -> str:
    """A row, its text cut so that the whole fits into the room."""
    kept = min(len(row.theirs), max(room, 8))
    while True:
        text = row.ours + ("\n" + fenced(row.theirs[:kept]) if row.theirs else "")
        if kept < len(row.theirs):
            text += "\n" + cut_note(row, kept, cut)
        if len(text) <= room or kept <= 8:
            return text
        kept = max(8, min(kept - 1, int(kept * (room - 200) / len(text)) if room > 200 else 8))


def cut_note(row: Row, kept: int, cut: Cut) -> str:
    note = f"(cut after {kept} of {len(row.theirs)} characters"
    tool = cut.tool("get_message")
    if tool and row.source:
        note += f"; the rest: {tool} message_id={row.source} offset={row.offset + kept}"
    return note + ")"


def more(data: Any) -> str:
    return "; there are more" if get(data, "has_more") is True else ""


def older(data: Any, what: str = "older", ones: str = "older ones") -> Callable[[int], str]:
    """The note below a list that has a cursor: what of it was left out, or how to go on."""

    def note(left_out: int) -> str:
        if left_out:
            return f"({left_out} {what} left out: ask for fewer with limit)"
        following = None if get(data, "has_more") is False else get(data, "next_cursor")
        return f"({ones}: cursor={word(following, 512)})" if following else ""

    return note


def already(data: Any) -> str:
    return " already" if get(data, "idempotent") is True else ""


def interrupts_left(data: Any, cut: Cut) -> str:
    """Of what was to be dealt with and waits on."""
    kept = rows_of(data, "kept")
    tool = cut.tool("acknowledge_interrupt") or "acknowledge_interrupt"
    return f" {count(kept, 'interrupt')} left, which only {tool} ends." if kept else ""


def pending(data: Any) -> str:
    return " A large group is still being told." if get(data, "pending") is True else ""


def author_of(row: Any) -> str:
    return "@" + word(get(row, "agents", "name") or get(row, "author_name") or get(row, "author_display"))


def message_row(row: Any, offset: int = 0) -> Row:
    ours = f"{word(get(row, 'id'))} {shown_time(get(row, 'created_at'))} {author_of(row)}"
    if parent := get(row, "parent_message_id"):
        ours += f" in reply to {word(parent)}"
    if get(row, "pinned") is True:
        ours += " (pinned)"
    if (kind := get(row, "kind")) not in (None, "chat"):
        ours += f" ({word(kind)})"
    return Row(ours, text_of(row, "content"), word(get(row, "id")), offset)


def transition_row(line: Any) -> Row:
    actor = get(line, "actor")
    who = "the relay" if actor is None else f"@{word(actor)}"
    states = " -> ".join(word(get(line, name), 20) for name in ("before", "after") if get(line, name) is not None)
    ours = (
        f"{word(get(line, 'version'))} {shown_time(get(line, 'at'))} {word(get(line, 'action'), 20)} by {who}: {states}"
    )
    return Row(ours, text_of(line, "note"))
