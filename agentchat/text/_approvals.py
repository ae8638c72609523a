"""Approvals as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._fence import NOTICE, word
from ._layout import (
    Cut,
    Row,
    already,
    block,
    count,
    fit,
    fit_below,
    get,
    json_of,
    older,
    rows_of,
    shown_time,
    text_of,
    transition_row,
)

_ROOM_OF_REST = 1500  # beside the arguments, of which the longest have room in an ordinary text
_EDITED = "edited"
_VERDICTS = {
    "allow": "It may be called, exactly as asked.",
    "edit": "It may be called, but only with the allowed arguments.",
    "deny": "It may not be called.",
    "respond": "It is not to be called: the message is the answer instead.",
}


def _row(approval: Any, *, preview: bool = True) -> Row:
    ours = f"{word(get(approval, 'id'))} {word(get(approval, 'tool_name'), 200)} {word(get(approval, 'state'), 20)}"
    ours += f", asked by @{word(get(approval, 'requester'))} {shown_time(get(approval, 'created_at'))}"
    if get(approval, "urgent") is True:
        ours += " (urgent)"
    if (by := get(approval, "decided_by")) is not None:
        ours += f" (decided by @{word(by)} {shown_time(get(approval, 'ended_at'))})"
    elif get(approval, "state") == "pending":
        ours += f" (denied after {shown_time(get(approval, 'deadline_at'))})"
    ours += f" (call {word(get(approval, 'call_hash'))})"
    what = "Arguments before the edit" if get(approval, "state") == _EDITED else "Arguments"
    texts = [_said(what, _preview(approval)) if preview else ""]
    texts += [_said("For", text_of(approval, "reason")), _said("Message", text_of(approval, "message"))]
    return Row(ours, "\n".join(text for text in texts if text))


def _said(what: str, text: str) -> str:
    return f"{what}: {text}" if text else ""


def _preview(approval: Any) -> str:
    shown, size = text_of(approval, "preview"), get(approval, "arguments_size")
    return f"{shown} (cut: {size} characters)" if type(size) is int and size > len(shown) else shown


def _changed(data: Any, cut: Cut) -> str:
    approval = get(data, "approval")
    match cut.asked:
        case "request_approval":
            title = _asked(data, cut)
        case "dismiss_approval":
            title = f"Out of your inbox{already(data)}; no verdict."
        case "withdraw_approval":
            title = f"Withdrawn{already(data)}."
        case _:
            yours = get(data, "yours") is True
            title = f"Decided{already(data)}{'' if yours else ', by somebody else'}."
    return fit(f"{title}{_where_edited([approval], cut)}", [_row(approval)], cut)


def _where_edited(approvals: list[Any], cut: Cut) -> str:
    """That other arguments are allowed than those that are shown, and where they are."""
    if all(get(approval, "state") != _EDITED for approval in approvals):
        return ""
    tool = cut.tool("get_approval")
    return f" Only the edited arguments are allowed{f'; {tool} shows them' if tool else ''}."


def _asked(data: Any, cut: Cut) -> str:
    reviewers = get(data, "reviewers")
    if reviewers == 0:
        told = "Nobody may decide it yet: an operator grants the role reviewer, and it waits until then"
    else:
        told = f"Asked: {word(reviewers)} {'reviewer' if reviewers == 1 else 'reviewers'} told"
    tool = cut.tool("get_approval")
    return f"{told}.{f' Do not make the call before {tool} says that you may (wait=60).' if tool else ''}"


def _listed(data: Any, cut: Cut) -> str:
    found = rows_of(data, "approvals")
    if not found:
        return "No requests for approval."
    title = f"{count(found, 'request')} for approval, newest first.{_where_edited(found, cut)}"
    return fit(title, [_row(row) for row in found], cut, note=older(data))


def _details(data: Any, cut: Cut) -> str:
    approval = get(data, "approval")
    verdict = _VERDICTS.get(text_of(approval, "verdict"))
    if verdict is None:
        waited = f" within {cut.waited} s" if cut.waited else ""
        verdict = f"No verdict yet{waited}." if get(approval, "state") == "pending" else "It was withdrawn."
    rows: list[Row] = []
    call = Row("The arguments that were asked for:", json_of(data, "arguments"))
    if get(approval, "verdict") == "edit" and get(data, "allowed_arguments") is not None:
        rows.append(call)
        call = Row("The allowed arguments:", json_of(data, "allowed_arguments"))
    rows += map(transition_row, rows_of(data, "history"))
    verdict += f" {NOTICE}"
    room = cut.max_chars - len(verdict)
    # What is to be decided, or may be called, takes its room first; then who asked and what for.
    shown = block(call, max(room // 2, room - _ROOM_OF_REST), cut)
    about = block(_row(approval, preview=False), room - len(shown) - _ROOM_OF_REST // 2, cut)
    return fit_below(f"{verdict}\n{about}\n{shown}", rows, cut, evenly=True)


RENDERERS: dict[str, Callable[[Any, Cut], str]] = {
    "request_approval": _changed,
    "decide_approval": _changed,
    "dismiss_approval": _changed,
    "withdraw_approval": _changed,
    "list_approvals": _listed,
    "get_approval": _details,
}
