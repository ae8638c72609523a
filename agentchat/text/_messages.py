"""Channels, messages, files and agents as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._fence import word
from ._layout import (
    Cut,
    Row,
    author_of,
    count,
    fit,
    get,
    interrupts_left,
    message_row,
    more,
    pending,
    rows_of,
    shown_time,
    text_of,
)

_LONGEST_PATH = 500
_LONGEST_URL = 4_000


def _board(data: Any, cut: Cut) -> str:
    rows = []
    for row in sorted(rows_of(data, "channels"), key=lambda row: not get(row, "unread")):  # what is new comes first
        unread = get(row, "unread")
        state = f"{unread if type(unread) is int else 0} unread" if get(row, "joined") else "not joined"
        state += _ephemeral(row)
        latest = get(row, "latest")
        if latest is None:
            rows.append(Row(f"#{word(get(row, 'channel'))}: {state}, no messages"))
            continue
        text = text_of(latest, "content")
        preview = text[:200] + ("…" if len(text) > 200 else "")
        ours = (
            f"#{word(get(row, 'channel'))}: {state}, latest {shown_time(get(latest, 'created_at'))} {author_of(latest)}"
        )
        rows.append(Row(ours, preview))
    return fit(f"{count(rows, 'channel')}.", rows, cut)


def _ephemeral(row: Any) -> str:
    """Of a channel whose posts vanish."""
    return ", ephemeral" if type(get(row, "vanish_after")) is int else ""


def _channels(data: Any, cut: Cut) -> str:
    rows = [
        Row(f"#{word(get(row, 'name'))} ({word(get(row, 'type'))}{_ephemeral(row)})", text_of(row, "description"))
        for row in rows_of(data, "channels")
    ]
    return fit(f"{count(rows, 'joined channel')}.", rows, cut)


def _messages(data: Any, cut: Cut) -> str:
    found = rows_of(data, "messages")
    if not found:
        return "No messages."

    def note(left_out: int) -> str:
        oldest = word(get(found[min(left_out, len(found) - 1)], "created_at"))
        if left_out:
            return f"({left_out} older left out: read them with before={oldest})"
        return "" if get(data, "has_more") is False else f"(older ones: before={oldest})"

    title = f"{count(found, 'message')}{_ephemeral(data)}, oldest first."
    return fit(title, [message_row(row) for row in found], cut, newest_last=True, note=note)


def _thread(data: Any, cut: Cut) -> str:
    found = rows_of(data, "messages")

    def note(left_out: int) -> str:
        if left_out:
            return f"({left_out} newer left out: ask for fewer with limit)"
        following = None if get(data, "has_more") is False else get(data, "next_cursor")
        return f"(more: cursor={word(following, 512)})" if following else ""

    return fit(
        f"{count(found, 'message')} of the thread, oldest first.", [message_row(row) for row in found], cut, note=note
    )


def _found(data: Any, cut: Cut) -> str:
    offset, total = get(data, "offset"), get(data, "total_chars")
    title = "1 message."
    if type(offset) is int and type(total) is int and offset:
        title = f"1 message, from character {offset} of {total}."
    return fit(title, [message_row(get(data, "message"), offset if type(offset) is int else 0)], cut)


def _search(data: Any, cut: Cut) -> str:
    rows = []
    for row in rows_of(data, "results"):
        ours, theirs, source, _ = message_row(row)
        rows.append(Row(f"{ours} in #{word(get(row, 'channel_name'))}", theirs, source))
    title = f"{count(rows, 'match', 'matches')}, best first{more(data)}."
    return fit(title, rows, cut) if rows else "No match."


def _mentions(data: Any, cut: Cut) -> str:
    rows = []
    for row in rows_of(data, "mentions"):
        where = f"in #{word(get(row, 'channel'))}"
        if (project := get(row, "from_project")) is not None:
            where += f" from project {word(project)}"
        ours = (
            f"mention {word(get(row, 'mention_id'))} {shown_time(get(row, 'timestamp'))} @{word(get(row, 'from'))} "
            f"{where}, message {word(get(row, 'message_id'))}{' (read)' if get(row, 'read') else ''}"
        )
        rows.append(Row(ours, text_of(row, "content"), word(get(row, "message_id"))))
    return fit(f"{count(rows, 'mention')}, newest first{more(data)}.", rows, cut) if rows else "No mentions."


def _sent(data: Any, cut: Cut) -> str:
    message = get(data, "message")
    text = f"Sent as message {word(get(message, 'id'))}.{pending(data)}"
    if get(message, "vanished") is True:
        text += " It was ephemeral and has vanished since."
    if unmatched := [word(name) for name in rows_of(data, "unmatched_mentions")[:20]]:
        names = ", ".join("@" + name for name in unmatched)
        text += f" Not notified: {names}; no active agent has that name, or too many were named."
    return text


def _pinned(data: Any, cut: Cut) -> str:
    return f"Message {word(get(data, 'message_id'))} is {'' if get(data, 'pinned') is True else 'not '}pinned."


def _pins(data: Any, cut: Cut) -> str:
    found = rows_of(data, "messages")
    if not found:
        return "No pinned messages."
    return fit(f"{count(found, 'pinned message')}, oldest first.", [message_row(row) for row in found], cut)


def _marked(data: Any, cut: Cut) -> str:
    return f"Marked as read: {word(get(data, 'marked_read'))}.{interrupts_left(data, cut)}"


def _position(data: Any, cut: Cut) -> str:
    return f"#{word(get(data, 'channel'))} is read through {word(get(data, 'read_through'))}."


def _readers(data: Any, cut: Cut) -> str:
    rows = [
        Row(f"@{word(get(row, 'agent_name'))} through {shown_time(get(row, 'read_through'))}")
        for row in rows_of(data, "readers")
    ]
    return fit(f"{count(rows, 'reader')} of #{word(get(data, 'channel'))}.", rows, cut)


def _uploaded(data: Any, cut: Cut) -> str:
    file = get(data, "file")
    return f"Uploaded: {word(get(file, 'size'))} bytes, path {word(get(file, 'path'), _LONGEST_PATH)}"


def _files(data: Any, cut: Cut) -> str:
    rows = [
        Row(f"path {word(get(row, 'path'), _LONGEST_PATH)}, {word(get(row, 'size'))} bytes", text_of(row, "name"))
        for row in rows_of(data, "files")
    ]
    return fit(f"{count(rows, 'file')}, newest first{more(data)}.", rows, cut) if rows else "No files."


def _file(data: Any, cut: Cut) -> str:
    content, media = data["content"], word(data["content_type"].partition(";")[0])
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        hint = f"; a link for people: {cut.tool('get_file_url')}" if cut.tool("get_file_url") else ""
        return f"A binary file ({media}, {len(content)} bytes), not shown{hint}."
    return fit(f"A file ({media}, {len(content)} bytes).", [Row("Content:", text)], cut)


def _link(data: Any, cut: Cut) -> str:
    return f"{word(get(data, 'signed_url'), _LONGEST_URL)} (valid for {word(get(data, 'expires_in'))} seconds)"


def _agents(data: Any, cut: Cut) -> str:
    rows = [agent_row(row) for row in rows_of(data, "agents")]
    title = f"{count(rows, 'agent')}, most recently seen first{more(data)}."
    return fit(title, rows, cut) if rows else "No such agents."


def agent_row(row: Any) -> Row:
    seen = get(row, "last_seen_at")
    card = get(row, "card")
    entries = [text_of(row, "description")]
    if isinstance(card, dict):
        entries += [f"{name}: {entry}" for name, value in card.items() if (entry := _entry(value))]
    here = "" if (presence := get(row, "presence")) is None else f"{word(presence)}, "
    ours = f"@{word(get(row, 'name'))} {here}{'seen ' + shown_time(seen) if seen else 'never seen'}"
    if (retired := get(row, "retired_at")) is not None:
        ours += f", retired {shown_time(retired)}: gets no mail until it is back"
    return Row(ours, "\n".join(filter(None, entries)))


def _entry(value: Any) -> str:
    return ", ".join(item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str))


def _card(data: Any, cut: Cut) -> str:
    return "Card set."


# What to do where a result has no `limit` and was cut.
FEWER = {
    "check_board": "read a channel by its name",
    "list_channels": "ask for one type",
    "search_messages": "narrow the words or name a channel",
    "find_agents": "ask for a capability, role or name",
}

RENDERERS: dict[str, Callable[[Any, Cut], str]] = {
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
