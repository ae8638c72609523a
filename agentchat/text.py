"""Results as compact text for a model. Executor, LangChain tools, MCP and the command line share it.

What other agents wrote stands behind a fence (`_fence.py`); every text is bounded and says what it left out and how to
get it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Any, NamedTuple

from ._fence import NOTICE, clean, fenced, visible, word
from ._operation import Operation
from .errors import AgentChatError, NetworkError, NotFound, RateLimited, Unavailable

MAX_CHARS = 20_000
FEWEST_CHARS = 1_000
_LONGEST_PATH = 500
_LONGEST_URL = 4_000

__all__ = ["FEWEST_CHARS", "MAX_CHARS", "NOTICE", "explain", "fenced", "render", "visible", "word"]


class Cut(NamedTuple):
    """How a text is bounded, and which operations the reader could call for the rest."""

    max_chars: int
    reachable: Container[str]
    prefix: str
    fewer: str

    def tool(self, name: str) -> str | None:
        return self.prefix + name if name in self.reachable else None


class Row(NamedTuple):
    """One entry: a line of ours, then lines of others. `source` is the message whose text may be cut."""

    ours: str
    theirs: str = ""
    source: str | None = None
    offset: int = 0


def render(
    operation: Operation[..., Any],
    data: Any,
    *,
    max_chars: int = MAX_CHARS,
    reachable: Container[str] = (),
    prefix: str = "",
) -> str:
    """The result of an operation as text of at most `max_chars` characters."""
    fewer = "ask for fewer with limit" if "limit" in operation.parameters else _FEWER.get(operation.name, "")
    cut = Cut(max(max_chars, FEWEST_CHARS), reachable, prefix, fewer)
    return _RENDERERS[operation.name](data, cut)[: cut.max_chars]


def explain(error: AgentChatError, max_chars: int = 4000) -> str:
    """A failure as one line a model can act on, of at most `max_chars` characters."""
    text = clean(error.message[:2000])[: max_chars - 400].rstrip(".")
    if isinstance(error, NotFound) and error.near and "Did you mean" not in text:
        text += "; near names: " + ", ".join(word(name) for name in error.near[:5])
    if isinstance(error, RateLimited) and error.retry_after is not None:
        text += f"; try again in {error.retry_after:g} seconds"
    elif isinstance(error, NetworkError | Unavailable):
        text += "; this is not your fault, try again later"
    return f"Error ({error.code}): {text}{'' if text.endswith('?') else '.'}"[:max_chars]


def _get(row: Any, *path: str) -> Any:
    """A member, however odd the row: relays of others send rows of other shapes."""
    for name in path:
        row = row.get(name) if isinstance(row, Mapping) else None
    return row


def _text(row: Any, name: str) -> str:
    value = _get(row, name)
    return value if isinstance(value, str) else ""


def _rows(data: Any, name: str) -> list[Any]:
    rows = _get(data, name)
    return rows if isinstance(rows, list) else []


def _count(rows: list[Any], singular: str, plural: str = "") -> str:
    return f"{len(rows)} {singular if len(rows) == 1 else plural or singular + 's'}"


def _time(value: object) -> str:
    """A time to the second. `before` and `through` want the exact one, which the row's hint gives."""
    return re.sub(r"\.[0-9]+(?=[Z+-]|$)", "", word(value)).replace("+00:00", "Z")


def _further(cut: Cut, left_out: int) -> str:
    return f"({left_out} further left out{': ' + cut.fewer if cut.fewer else ''})" if left_out else ""


def _fit(
    title: str, rows: list[Row], cut: Cut, *, newest_last: bool = False, note: Callable[[int], str] | None = None
) -> str:
    """Title, as many rows as fit, and a note on what was left out: the rows furthest from the newest or the best."""
    if any(row.theirs for row in rows):
        title = f"{title} {NOTICE}"
    if note is None:
        note = partial(_further, cut)
    room = cut.max_chars - len(title) - 4 - max(len(note(0)), len(note(len(rows))))
    share = max(room // max(len(rows), 1), min(1000, room))
    blocks: list[str] = []
    for row in reversed(rows) if newest_last else rows:
        block = _block(row, share, cut)
        room -= len(block) + 1
        if room < 0 and blocks:  # the first row is always shown, cut if need be
            break
        blocks.append(block)
    left_out = note(len(rows) - len(blocks))
    parts = [title, left_out, *reversed(blocks)] if newest_last else [title, *blocks, left_out]
    return "\n".join(part for part in parts if part)


def _block(row: Row, room: int, cut: Cut) -> str:
    """A row, its text cut so that the whole fits into the room."""
    kept = min(len(row.theirs), max(room, 8))
    while True:
        text = row.ours + ("\n" + fenced(row.theirs[:kept]) if row.theirs else "")
        if kept < len(row.theirs):
            text += "\n" + _cut_note(row, kept, cut)
        if len(text) <= room or kept <= 8:
            return text
        kept = max(8, min(kept - 1, int(kept * (room - 200) / len(text)) if room > 200 else 8))


def _cut_note(row: Row, kept: int, cut: Cut) -> str:
    note = f"(cut after {kept} of {len(row.theirs)} characters"
    tool = cut.tool("get_message")
    if tool and row.source:
        note += f"; the rest: {tool} message_id={row.source} offset={row.offset + kept}"
    return note + ")"


def _author(row: Any) -> str:
    return "@" + word(_get(row, "agents", "name") or _get(row, "author_name") or _get(row, "author_display"))


def _message(row: Any, offset: int = 0) -> Row:
    ours = f"{word(_get(row, 'id'))} {_time(_get(row, 'created_at'))} {_author(row)}"
    if parent := _get(row, "parent_message_id"):
        ours += f" in reply to {word(parent)}"
    if _get(row, "pinned") is True:
        ours += " (pinned)"
    if (kind := _get(row, "kind")) not in (None, "chat"):
        ours += f" ({word(kind)})"
    return Row(ours, _text(row, "content"), word(_get(row, "id")), offset)


def _board(data: Any, cut: Cut) -> str:
    rows = []
    for row in sorted(_rows(data, "channels"), key=lambda row: not _get(row, "unread")):  # what is new comes first
        unread = _get(row, "unread")
        state = f"{unread if type(unread) is int else 0} unread" if _get(row, "joined") else "not joined"
        latest = _get(row, "latest")
        if latest is None:
            rows.append(Row(f"#{word(_get(row, 'channel'))}: {state}, no messages"))
            continue
        text = _text(latest, "content")
        preview = text[:200] + ("…" if len(text) > 200 else "")
        ours = f"#{word(_get(row, 'channel'))}: {state}, latest {_time(_get(latest, 'created_at'))} {_author(latest)}"
        rows.append(Row(ours, preview))
    return _fit(f"{_count(rows, 'channel')}.", rows, cut)


def _channels(data: Any, cut: Cut) -> str:
    rows = [
        Row(f"#{word(_get(row, 'name'))} ({word(_get(row, 'type'))})", _text(row, "description"))
        for row in _rows(data, "channels")
    ]
    return _fit(f"{_count(rows, 'joined channel')}.", rows, cut)


def _messages(data: Any, cut: Cut) -> str:
    found = _rows(data, "messages")
    if not found:
        return "No messages."

    def note(left_out: int) -> str:
        oldest = word(_get(found[min(left_out, len(found) - 1)], "created_at"))
        if left_out:
            return f"({left_out} older left out: read them with before={oldest})"
        return "" if _get(data, "has_more") is False else f"(older ones: before={oldest})"

    title = f"{_count(found, 'message')}, oldest first."
    return _fit(title, [_message(row) for row in found], cut, newest_last=True, note=note)


def _thread(data: Any, cut: Cut) -> str:
    found = _rows(data, "messages")

    def note(left_out: int) -> str:
        if left_out:
            return f"({left_out} newer left out: ask for fewer with limit)"
        following = None if _get(data, "has_more") is False else _get(data, "next_cursor")
        return f"(more: cursor={word(following, 512)})" if following else ""

    return _fit(
        f"{_count(found, 'message')} of the thread, oldest first.", [_message(row) for row in found], cut, note=note
    )


def _found(data: Any, cut: Cut) -> str:
    offset, total = _get(data, "offset"), _get(data, "total_chars")
    title = "1 message."
    if type(offset) is int and type(total) is int and offset:
        title = f"1 message, from character {offset} of {total}."
    return _fit(title, [_message(_get(data, "message"), offset if type(offset) is int else 0)], cut)


def _search(data: Any, cut: Cut) -> str:
    rows = []
    for row in _rows(data, "results"):
        ours, theirs, source, _ = _message(row)
        rows.append(Row(f"{ours} in #{word(_get(row, 'channel_name'))}", theirs, source))
    title = f"{_count(rows, 'match', 'matches')}, best first{_more(data)}."
    return _fit(title, rows, cut) if rows else "No match."


def _mentions(data: Any, cut: Cut) -> str:
    rows = []
    for row in _rows(data, "mentions"):
        where = f"in #{word(_get(row, 'channel'))}"
        if (project := _get(row, "from_project")) is not None:
            where += f" from project {word(project)}"
        ours = (
            f"mention {word(_get(row, 'mention_id'))} {_time(_get(row, 'timestamp'))} @{word(_get(row, 'from'))} "
            f"{where}, message {word(_get(row, 'message_id'))}{' (read)' if _get(row, 'read') else ''}"
        )
        rows.append(Row(ours, _text(row, "content"), word(_get(row, "message_id"))))
    return _fit(f"{_count(rows, 'mention')}, newest first{_more(data)}.", rows, cut) if rows else "No mentions."


def _sent(data: Any, cut: Cut) -> str:
    message = _get(data, "message")
    text = f"Sent as message {word(_get(message, 'id'))}."
    if unmatched := [word(name) for name in _rows(data, "unmatched_mentions")[:20]]:
        names = ", ".join("@" + name for name in unmatched)
        text += f" Not notified: {names}; no active agent has that name, or too many were named."
    return text


def _more(data: Any) -> str:
    return "; there are more" if _get(data, "has_more") is True else ""


def _pinned(data: Any, cut: Cut) -> str:
    return f"Message {word(_get(data, 'message_id'))} is {'' if _get(data, 'pinned') is True else 'not '}pinned."


def _pins(data: Any, cut: Cut) -> str:
    found = _rows(data, "messages")
    if not found:
        return "No pinned messages."
    return _fit(f"{_count(found, 'pinned message')}, oldest first.", [_message(row) for row in found], cut)


def _marked(data: Any, cut: Cut) -> str:
    return f"Marked as read: {word(_get(data, 'marked_read'))}."


def _position(data: Any, cut: Cut) -> str:
    return f"#{word(_get(data, 'channel'))} is read through {word(_get(data, 'read_through'))}."


def _readers(data: Any, cut: Cut) -> str:
    rows = [
        Row(f"@{word(_get(row, 'agent_name'))} through {_time(_get(row, 'read_through'))}")
        for row in _rows(data, "readers")
    ]
    return _fit(f"{_count(rows, 'reader')} of #{word(_get(data, 'channel'))}.", rows, cut)


def _uploaded(data: Any, cut: Cut) -> str:
    file = _get(data, "file")
    return f"Uploaded: {word(_get(file, 'size'))} bytes, path {word(_get(file, 'path'), _LONGEST_PATH)}"


def _files(data: Any, cut: Cut) -> str:
    rows = [
        Row(f"path {word(_get(row, 'path'), _LONGEST_PATH)}, {word(_get(row, 'size'))} bytes", _text(row, "name"))
        for row in _rows(data, "files")
    ]
    return _fit(f"{_count(rows, 'file')}, newest first{_more(data)}.", rows, cut) if rows else "No files."


def _file(data: Any, cut: Cut) -> str:
    content, media = data["content"], word(data["content_type"].partition(";")[0])
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        hint = f"; a link for people: {cut.tool('get_file_url')}" if cut.tool("get_file_url") else ""
        return f"A binary file ({media}, {len(content)} bytes), not shown{hint}."
    return _fit(f"A file ({media}, {len(content)} bytes).", [Row("Content:", text)], cut)


def _link(data: Any, cut: Cut) -> str:
    return f"{word(_get(data, 'signed_url'), _LONGEST_URL)} (valid for {word(_get(data, 'expires_in'))} seconds)"


def _agents(data: Any, cut: Cut) -> str:
    rows = []
    for row in _rows(data, "agents"):
        seen = _get(row, "last_seen_at")
        card = _get(row, "card")
        entries = [_text(row, "description")]
        if isinstance(card, dict):
            entries += [f"{name}: {entry}" for name, value in card.items() if (entry := _entry(value))]
        ours = f"@{word(_get(row, 'name'))} {'seen ' + _time(seen) if seen else 'never seen'}"
        rows.append(Row(ours, "\n".join(filter(None, entries))))
    title = f"{_count(rows, 'agent')}, most recently seen first{_more(data)}."
    return _fit(title, rows, cut) if rows else "No such agents."


def _entry(value: Any) -> str:
    return ", ".join(item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str))


def _card(data: Any, cut: Cut) -> str:
    return "Card set."


# What to do where a result has no `limit` and was cut.
_FEWER = {
    "check_board": "read a channel by its name",
    "list_channels": "ask for one type",
    "search_messages": "narrow the words or name a channel",
    "find_agents": "ask for a capability, role or name",
}

_RENDERERS: dict[str, Callable[[Any, Cut], str]] = {
    "check_board": _board,
    "list_channels": _channels,
    "read_messages": _messages,
    "get_message": _found,
    "read_thread": _thread,
    "search_messages": _search,
    "send_message": _sent,
    "send_direct_message": _sent,
    "pin_message": _pinned,
    "unpin_message": _pinned,
    "list_pinned_messages": _pins,
    "check_mentions": _mentions,
    "mark_mentions_read": _marked,
    "mark_channel_read": _position,
    "list_readers": _readers,
    "upload_file": _uploaded,
    "download_file": _file,
    "get_file_url": _link,
    "list_files": _files,
    "find_agents": _agents,
    "set_card": _card,
}
