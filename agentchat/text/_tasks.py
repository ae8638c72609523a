"""Tasks as text."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from .._fence import NOTICE, word
from ..contract import MOST_WORK, MOST_WORK_MENTIONS
from ._layout import (
    Cut,
    Row,
    already,
    count,
    fit,
    fit_below,
    further,
    get,
    json_of,
    older,
    rows_of,
    shown_time,
    text_of,
    transition_row,
)

_ROOM_OF_ONE = 500
_SECTIONS = (
    ("offered_to_me", "offered to you"),
    ("mine_claimed", "that you have"),
    ("open_matching", "that anybody may claim"),
    ("declined_for_me", "of yours, declined"),
    ("completed_for_me", "of yours, done"),
    ("failed_for_me", "of yours, ended without a result"),
)

_CHANGES = {
    "create_task": "Offered",
    "offer_task": "Offered",
    "claim_task": "It is yours",
    "decline_task": "Declined",
    "renew_task": "Yours until {lease_until}",
    "report_progress": "Noted",
    "return_task": "Given back",
    "complete_task": "Done",
    "fail_task": "Failed",
    "cancel_task": "Cancelled",
}


def _row(task: Any, *, whole: bool = False, reason: bool = True, result: bool = True) -> Row:
    """A task as one entry; `whole` has all of its text. Who gave a reason needs no telling."""
    ours = f"{word(get(task, 'id'))} {word(get(task, 'state') or get(task, 'status'), 20)}"
    ours += f", by @{word(get(task, 'creator') or get(task, 'created_by'))} {shown_time(get(task, 'created_at'))}"
    if (target := get(task, "target")) is not None:
        ours += f", for @{word(target)}"
    if (channel := get(task, "channel") or get(task, "channels", "name")) is not None:
        ours += f", in #{word(channel)}"
    ours += _terms(task)
    texts = [text_of(task, "title")]
    if whole:
        texts.append(text_of(task, "body"))
    if reason:
        texts.append(_said("Reason", task, "reason"))
    if result:
        texts.append(_said("Result", task, "result"))
    return Row(ours, "\n".join(text for text in texts if text))


def _result(task: Any) -> Row:
    """What came of it, whose rest is in the message that told it, below a line of words."""
    told = get(task, "result_message_id")
    words = f"Task done: {text_of(task, 'title')}\n\n"
    return Row("Its result:", text_of(task, "result"), None if told is None else word(told), len(words))


def _said(what: str, task: Any, name: str) -> str:
    text = text_of(task, name)
    return f"{what}: {text}" if text else ""


def _terms(task: Any) -> str:
    """What is not ordinary about a task."""
    terms = " (urgent)" if get(task, "urgent") is True else ""
    tags = [word(tag, 50) for tag in rows_of(task, "capability_tags")[:10]]
    if tags:
        terms += f" (takes {', '.join(tags)})"
    if get(task, "state") == "claimed":
        terms += f" (claimed by @{word(get(task, 'claimant'))}, fence {word(get(task, 'fence'))}"
        terms += f", until {shown_time(get(task, 'lease_until'))})"
    if (deadline := get(task, "deadline_at")) is not None and get(task, "completed_at") is None:
        terms += f" (deadline {shown_time(deadline)})"
    if size := get(task, "context_size"):
        terms += f" (context of {word(size)} characters)"
    return terms


def _changed(data: Any, cut: Cut) -> str:
    task = get(data, "task")
    done = _CHANGES[cut.asked].format(lease_until=shown_time(get(task, "lease_until")))
    title = f"{done}{already(data)}.{_what_next(task, cut)}"
    return fit(title, [_row(task, whole=cut.asked == "claim_task", reason=False)], cut)


def _what_next(task: Any, cut: Cut) -> str:
    if cut.asked != "claim_task":
        return ""
    following = ""
    if get(task, "context_size") and (tool := cut.tool("read_task_context")):
        following += f" {tool} reads its context."
    if get(task, "result_schema") and (tool := cut.tool("get_task")):
        following += f" {tool} shows the schema its result must fit."
    return following


def _listed(data: Any, cut: Cut) -> str:
    found = rows_of(data, "tasks")
    if not found:
        return "No tasks."

    return fit(f"{count(found, 'task')}, newest first.", [_row(task) for task in found], cut, note=older(data))


def _details(data: Any, cut: Cut) -> str:
    task = get(data, "task")
    rows = [_row(task, whole=True, result=False)]
    if text_of(task, "result"):
        rows.append(_result(task))
    if get(task, "result_schema") is not None:
        rows.append(Row("Its result must be JSON that fits this JSON Schema:", json_of(task, "result_schema")))
    rows += [transition_row(line) for line in rows_of(data, "history")]
    earlier = " Earlier transitions are left out." if get(data, "has_more") is True else ""
    return fit(f"1 task, and what happened to it.{earlier}", rows, cut, evenly=True)


def _context(data: Any, cut: Cut) -> str:
    offset, size = get(data, "offset"), get(data, "size")
    begin = offset if type(offset) is int else 0
    text = text_of(data, "context")
    title = f"Context of task {word(get(data, 'task_id'))}, from character {begin} of {word(size)}."

    def shown(kept: int) -> str:
        row = Row("It says:", text[:kept])
        is_all = kept == len(text) and get(data, "has_more") is not True
        rest = "" if is_all else f"\n(the rest: offset={begin + kept})"
        return fit(title, [row], cut._replace(max_chars=1 << 40)) + rest

    if len(answer := shown(len(text))) <= cut.max_chars:
        return answer
    # Each line takes the fence's characters too, so what fits is looked for; some of it always does.
    fits = bisect_right(range(min(len(text), cut.max_chars)), cut.max_chars, key=lambda kept: len(shown(kept))) - 1
    return shown(max(8, fits))


def _work(data: Any, cut: Cut) -> str:
    sections = [(words, [_row(task) for task in rows_of(data, name)]) for name, words in _SECTIONS]
    sections = [(words, rows) for words, rows in sections if rows]
    mentions = rows_of(data, "mentions")
    if not sections and not mentions:
        return "No work: nothing is offered to you, you have nothing, and nothing of yours has ended."
    end = []
    if mentions:
        tool = cut.tool("check_inbox", "check_mentions")
        end = [f"{_at_least(mentions, 'unread mention', MOST_WORK_MENTIONS)}{f': see {tool}' if tool else ''}."]
    title = f"What concerns you. {NOTICE}" if sections else "What concerns you."
    return "\n".join([title, *_sections(sections, len("\n".join([title, *end])) + 1, cut), *end])


def _at_least(rows: list[Any], singular: str, most: int) -> str:
    """How many there are. A list that is as long as the relay makes one does not say it."""
    return f"{len(rows)} or more {singular}s" if len(rows) >= most else count(rows, singular)


def _rest(cut: Cut, rows: list[Row]) -> Callable[[int], str]:
    """The note below a section of `rows`."""

    def note(left_out: int) -> str:
        if len(rows) < MOST_WORK:
            return further(cut, left_out)
        what = f"{left_out} or more further left out" if left_out else "there may be more"
        return f"({what}{': ' + cut.fewer if cut.fewer else ''})"

    return note


def _sections(sections: list[tuple[str, list[Row]]], taken: int, cut: Cut) -> list[str]:
    """Each as far as it goes. Where not even its first row has room, it says how many there are."""
    tool = cut.tool("list_tasks")
    part = cut._replace(fewer=f"see {tool}" if tool else "")
    titles = [f"{_at_least(rows, 'task', MOST_WORK)} {words}:" for words, rows in sections]
    notes = [_rest(part, rows) for _, rows in sections]
    bare = [f"{title}\n{note(len(rows))}" for title, note, (_, rows) in zip(titles, notes, sections, strict=True)]
    room = cut.max_chars - taken - sum(len(text) + 1 for text in bare)
    shown = []
    for number, (_, rows) in enumerate(sections):
        share = max(room // (len(sections) - number), min(room, _ROOM_OF_ONE)) + len(bare[number])
        text = fit_below(titles[number], rows, part._replace(max_chars=share), note=notes[number])
        shown.append(text if len(text) <= share else bare[number])
        room -= len(shown[-1]) - len(bare[number])
    return shown


RENDERERS: dict[str, Callable[[Any, Cut], str]] = {
    "list_tasks": _listed,
    "check_work": _work,
    "get_task": _details,
    "read_task_context": _context,
    **dict.fromkeys(_CHANGES, _changed),
}
