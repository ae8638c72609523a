"""The inbox, receipts, events, waits and the briefing as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .._fence import NOTICE, word
from ._interrupts import pause_row
from ._layout import (
    Cut,
    Row,
    already,
    count,
    fit,
    fit_below,
    get,
    interrupts_left,
    message_row,
    more,
    older,
    rows_of,
    shown_time,
    text_of,
)
from ._messages import agent_row

_ONE_SCREEN = 8_000
_MOST_ROLES = 10
_MOST_MEMBERS = 20
_ROOM_OF_SCOPES = 300
_MOST_NAMED = 2
_LONGEST_SUBJECT = 500  # a file's path


def _item(row: Any, *, with_id: bool = True) -> Row:
    ours = word(get(row, "kind"))
    if with_id:
        ours += f" {word(get(row, 'item_id'))}"
    ours += f" {shown_time(get(row, 'timestamp'))} @{word(get(row, 'from'))}"
    if (channel := get(row, "channel")) is not None:
        ours += f" in #{word(channel)}"
    if (project := get(row, "from_project")) is not None:
        ours += f" from project {word(project)}"
    if (message := get(row, "message_id")) is not None:
        ours += f", message {word(message)}"
    ours += _state(row)
    return Row(ours, text_of(row, "content"), None if message is None else word(message))


def _state(row: Any) -> str:
    """What is not ordinary about an item."""
    state = " (urgent)" if get(row, "urgent") is True else ""
    deliveries = get(row, "deliveries")
    if type(deliveries) is int and deliveries > 1:
        state += f" (given out {_times(deliveries)})"
    if (scope := get(row, "scope")) is not None:
        state += f" (for {word(scope, 200)})"
    if get(row, "ephemeral") is True:
        state += " (ephemeral)"
    if (until := get(row, "claimed_until")) is not None:
        state += f" (claimed until {shown_time(until)})"
    if (expires := get(row, "expires_at")) is not None:
        state += f" (expires {shown_time(expires)})"
    if (ended := get(row, "ended_at")) is not None:
        why = ": you were retired" if get(row, "reason") == "retired" else ""
        state += f" (dead since {shown_time(ended)}{why})"
    if (work := get(row, "work")) is not None:
        state += f" ({word(get(work, 'kind'), 20)} {word(get(work, 'id'))}, {word(get(work, 'state'), 20)})"
    if get(row, "kind") == "returned":
        state += f" ({_undelivered(rows_of(row, 'undelivered_to'))})"
    return state


def _undelivered(names: list[Any]) -> str:
    """What became of a message of one's own that came back."""
    if not names:
        return "it waits again for whom it did not reach"
    who = ", ".join(f"@{word(name)}" for name in names[:_MOST_NAMED])
    rest = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"undelivered: {who}{rest} had been retired"


def _times(number: object) -> str:
    return "once" if number == 1 else f"{word(number)} times"


def _checked(data: Any, cut: Cut) -> str:
    rows = [_item(row, with_id=False) for row in rows_of(data, "items")]
    if not rows:
        return "Nothing waits for you."
    counts = "This counts as dealt with now." if cut.at_once else "Your next check counts this as dealt with."
    title = f"{count(rows, 'item')}, urgent first{more(data)}. {counts}{_until_acknowledged(data, cut)}"
    return fit(title, rows, cut, evenly=True)


def _until_acknowledged(data: Any, cut: Cut) -> str:
    """What is said of interrupts, which only one call ends."""
    if all(get(row, "kind") != "interrupt" for row in rows_of(data, "items")):
        return ""
    tool = cut.tool("acknowledge_interrupt")
    return f" Interrupts come again until you call {tool}." if tool else " Interrupts come again until acknowledged."


def _peeked(data: Any, cut: Cut) -> str:
    rows = [_item(row) for row in rows_of(data, "items")]
    elsewhere = _elsewhere(data)
    if not rows:
        return f"Nothing waits for you{' here' if elsewhere else ''}.{elsewhere}"

    title = f"{count(rows, 'item')} in your inbox, urgent first.{elsewhere}"
    return fit(title, rows, cut, note=older(data, "further", "more"))


def _elsewhere(data: Any) -> str:
    """Where a session would have to stand for the rest: the first ones, in one line."""
    scopes = [word(scope, 200) for scope in rows_of(data, "scopes")]
    if not scopes:
        return ""
    shown = [scope for end, scope in enumerate(scopes, 1) if end == 1 or len(", ".join(scopes[:end])) < _ROOM_OF_SCOPES]
    others = f" and {count(scopes[len(shown) :], 'other')}" if len(shown) < len(scopes) else ""
    return f" More waits for sessions that present {', '.join(shown)}{others}."


def _claimed(data: Any, cut: Cut) -> str:
    rows = [_item(row) for row in rows_of(data, "items")]
    if not rows:
        return "Nothing waits for you."
    held = "They count as dealt with."
    if (lease := get(data, "lease_until")) is not None:
        held = f"claim_id {word(get(data, 'claim_id'))}, yours until {shown_time(lease)}."
    title = f"{count(rows, 'item')}, urgent first{more(data)}. {held}{_until_acknowledged(data, cut)}"
    return fit(title, rows, cut, evenly=True)


def _items(data: Any) -> str:
    number = get(data, "items")
    return f"{word(number)} {'item' if number == 1 else 'items'}"


def _acknowledged(data: Any, cut: Cut) -> str:
    return f"Dealt with{already(data)}: {_items(data)}.{interrupts_left(data, cut)}"


def _returned(data: Any, cut: Cut) -> str:
    dead = get(data, "dead")
    letters = f" Dead letters now: {word(dead)}." if dead else ""
    return f"Given back{already(data)}: {_items(data)}.{letters}"


def _renewed(data: Any, cut: Cut) -> str:
    return f"Yours until {shown_time(get(data, 'lease_until'))}: {_items(data)}."


def _dead(data: Any, cut: Cut) -> str:
    rows = [_item(row) for row in rows_of(data, "items")]
    if not rows:
        return "No dead letters."
    tool = cut.tool("requeue_items")
    back = f" {tool} brings them back." if tool else ""
    return fit(f"{count(rows, 'dead letter')}, newest first{more(data)}.{back}", rows, cut)


def _requeued(data: Any, cut: Cut) -> str:
    return f"Back in your inbox: {word(get(data, 'requeued'))}."


def _receipts(data: Any, cut: Cut) -> str:
    rows = []
    for row in rows_of(data, "receipts"):
        ours = f"@{word(get(row, 'agent_name'))} {word(get(row, 'kind'))}: {word(get(row, 'state'))}"
        if get(row, "reason") == "retired":
            ours += " (it was retired)"
        ours += f", given out {_times(get(row, 'deliveries'))}, stored {shown_time(get(row, 'stored_at'))}"
        for name in ("claimed", "ended"):
            if (at := get(row, f"{name}_at")) is not None:
                ours += f", {name} {shown_time(at)}"
        rows.append(Row(ours))
    message = word(get(data, "message_id"))
    return fit(f"{count(rows, 'receipt')} of message {message}.", rows, cut) if rows else f"{message} notified nobody."


# Events and waiting


def _event(row: Any) -> Row:
    ours = f"{word(get(row, 'position'))} {shown_time(get(row, 'at'))} {word(get(row, 'kind'))}"
    if (actor := get(row, "actor")) is not None:
        ours += f" @{word(actor)}"
    if (channel := get(row, "channel")) is not None:
        ours += f" in #{word(channel)}"
    subject = word(get(row, "subject"), _LONGEST_SUBJECT)
    is_message = str(get(row, "kind")).startswith("message.")
    return Row(f"{ours}, {subject}", event_text(row), subject if is_message else None)


def event_text(row: Any) -> str:
    """What an event is about: a text, or the members that can be said in a line each."""
    data = get(row, "data")
    if not isinstance(data, Mapping):
        return ""
    for inner in (get(data, "message"), get(data, "item")):
        if content := text_of(inner, "content"):
            return content
    members = list(data.items())[:_MOST_MEMBERS]
    return "\n".join(f"{name}: {value}" for name, value in members if isinstance(value, str | int | float))


def _events(data: Any, cut: Cut) -> str:
    found = rows_of(data, "events")
    end = word(get(data, "position"))
    if not found:
        within = f" within {cut.waited} s" if cut.waited and get(data, "timed_out") is True else ""
        return f"Nothing happened{within}. Go on with since={end}."

    def note(left_out: int) -> str:
        if left_out:
            last = word(get(found[len(found) - left_out - 1], "position"))
            return f"({left_out} newer left out: list on with since={last})"
        return f"({'more' if get(data, 'has_more') is True else 'later ones'}: since={end})"

    return fit(f"{count(found, 'event')}, oldest first.", [_event(row) for row in found], cut, note=note)


def _awaited(data: Any, cut: Cut) -> str:
    message = get(data, "message")
    if not isinstance(message, Mapping):
        thread = ("read_thread",) if cut.asked == "wait_for_reply" else ()
        tool = cut.tool(*thread, "check_inbox", "check_mentions", "read_messages")
        return f"Nothing came within {cut.waited} s. Look later{f' with {tool}' if tool else ''}, or wait again."
    row = message_row(message)
    if (channel := get(message, "channel_name")) is not None:
        row = row._replace(ours=f"{row.ours} in #{word(channel)}")
    return fit("1 message.", [row], cut)


# The briefing


def _briefing(data: Any, cut: Cut) -> str:
    screen = min(cut.max_chars, _ONE_SCREEN)
    roles = [word(role, 40) for role in rows_of(data, "roles")[:_MOST_ROLES]]
    me = f"You are @{word(get(data, 'agent'))}, {', '.join([word(get(data, 'kind'), 40), *roles])}"
    me += f", in space {word(get(data, 'space'))}. It is {shown_time(get(data, 'now'))}."
    me += f" Events are at position {word(get(data, 'position'))}."
    if get(data, "provenance") == "local":
        me += " No server here checks who writes: a name is what its process says."
    waiting = _waiting(data, cut)
    room = screen - len(me) - len(NOTICE) - len(waiting) - 6
    stops = _stops(data, room // 4, cut)
    room -= len(stops)
    agents = [agent_row(row) for row in rows_of(data, "agents")]
    here = _section(count(agents, "agent"), agents, room // 3, cut, "find_agents")
    channels = [_channel(row) for row in rows_of(data, "channels")]
    talk = _section(count(channels, "channel"), channels, (room - len(here)) // 2, cut, "check_board")
    told = text_of(data, "help")
    rest = cut._replace(max_chars=room - len(here) - len(talk))
    help_ = fit_below("", [Row("How to behave here, by the relay:", told)], rest) if told else ""
    body = "\n".join(part for part in (here, waiting, stops, talk, help_) if part)
    return f"{me}{' ' + NOTICE if _has_fence(body) else ''}\n{body}"


def _stops(data: Any, room: int, cut: Cut) -> str:
    """What is paused where the reader is; how many that are, where there is no room for more."""
    found = rows_of(data, "pauses")
    shown = _section("paused", [*map(pause_row, found)], room, cut, "list_pauses")
    if len(shown) <= room:
        return shown
    tool = cut.tool("list_pauses")
    return f"{count(found, 'pause')} where you are{f': see {tool}' if tool else ''}."


def _section(title: str, rows: list[Row], room: int, cut: Cut, more_by: str) -> str:
    """One list of the briefing, and the tool that lists the rest."""
    tool = cut.tool(more_by)
    here = cut._replace(max_chars=room, fewer=f"see {tool}" if tool else "")
    return fit_below(f"{title}:", rows, here) if rows else ""


def _has_fence(body: str) -> bool:
    return "\n| " in body


def _waiting(data: Any, cut: Cut) -> str:
    numbers = {
        name: get(data, "inbox", name)
        for name in ("urgent", "interrupts", "approvals", "mentions", "direct", "groups", "tasks", "returned")
    }
    if not any(numbers.values()):
        return "Nothing waits for you."
    counts = ", ".join(f"{word(number)} {name}" for name, number in numbers.items() if number is not None)
    oldest = get(data, "inbox", "oldest_at")
    since = "" if oldest is None else f", the oldest since {shown_time(oldest)}"
    tool = cut.tool("check_inbox", "check_mentions")
    return f"In your inbox: {counts}{since}.{f' See {tool}.' if tool else ''}"


def _channel(row: Any) -> Row:
    unread, latest = get(row, "unread"), get(row, "latest_at")
    state = f"{unread if type(unread) is int else 0} unread" if get(row, "joined") else "not joined"
    last = "no messages" if latest is None else f"latest {shown_time(latest)}"
    return Row(f"#{word(get(row, 'channel'))}: {state}, {last}", text_of(row, "description"))


RENDERERS: dict[str, Callable[[Any, Cut], str]] = {
    "check_inbox": _checked,
    "peek_inbox": _peeked,
    "claim_items": _claimed,
    "acknowledge_items": _acknowledged,
    "return_items": _returned,
    "renew_claim": _renewed,
    "list_dead_letters": _dead,
    "requeue_items": _requeued,
    "get_receipts": _receipts,
    "list_events": _events,
    "wait_for_reply": _awaited,
    "wait_for_message": _awaited,
    "get_briefing": _briefing,
}
