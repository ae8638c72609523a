"""Results as compact text for a model. Executor, LangChain tools, MCP and the command line share it.

What other agents wrote stands behind a fence (`_fence.py`); every text is bounded and says what it left out and how to
get it. `_layout.py` has the rows and the cuts; what each result reads like stands in `_messages.py`, `_mail.py`,
`_delivery.py`, `_tasks.py`, `_locks.py`, `_interrupts.py` and `_approvals.py`, which are loaded with the first result.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from .._fence import NOTICE, clean, fenced, visible, word
from .._operation import Operation
from ..errors import AgentChatError, Conflict, NetworkError, NotFound, RateLimited, Unavailable

MAX_CHARS = 20_000
FEWEST_CHARS = 1_000

__all__ = ["FEWEST_CHARS", "MAX_CHARS", "NOTICE", "explain", "fenced", "fitting", "load", "render", "visible", "word"]

# Rows of these are dealt with once they were shown, so that none may be left out: title and notes, then what the
# longest names and ids take in one row, with a few characters of its text.
_HANDED_OUT = ("check_inbox", "claim_items")
_ROOM_AROUND = 300
_ROOM_OF_ONE = 910


def load() -> None:
    """Load the rest of this folder now, since reading files later could hold up an event loop."""
    from . import _approvals, _delivery, _interrupts, _layout, _locks, _mail, _messages, _tasks  # noqa: F401


def render(
    operation: Operation[..., Any],
    data: Any,
    *,
    max_chars: int = MAX_CHARS,
    reachable: Container[str] = (),
    prefix: str = "",
    arguments: Mapping[str, Any] | None = None,
    at_once: bool = False,
) -> str:
    """The result of an operation as text of at most `max_chars` characters; `arguments` are those of the call.

    `at_once`: the caller acknowledges what is shown by itself.
    """
    from . import _approvals, _delivery, _interrupts, _locks, _mail, _messages, _tasks
    from ._layout import Cut

    fewer = "ask for fewer with limit" if "limit" in operation.parameters else _messages.FEWER.get(operation.name, "")
    waits = operation.waits
    waited = None if waits is None or arguments is None else arguments.get(waits.name)
    if waits is not None and waited is None:
        waited = waits.default
    cut = Cut(max(max_chars, FEWEST_CHARS), reachable, prefix, fewer, operation.name, waited or 0, at_once)
    renderers = _messages.RENDERERS | _mail.RENDERERS | _delivery.RENDERERS | _tasks.RENDERERS | _locks.RENDERERS
    renderers = renderers | _interrupts.RENDERERS | _approvals.RENDERERS
    return renderers[operation.name](data, cut)[: cut.max_chars]


def fitting(operation: Operation[..., Any], arguments: dict[str, Any], max_chars: int) -> dict[str, Any]:
    """The arguments, asking for no more items than a text of `max_chars` can show, where they count as dealt with."""
    if operation.name not in _HANDED_OUT:
        return arguments
    given = arguments.get("limit")
    wanted = operation.parameters["limit"].default if given is None else given
    most = max(1, (max_chars - _ROOM_AROUND) // _ROOM_OF_ONE)
    return {**arguments, "limit": most} if isinstance(wanted, int) and wanted > most else arguments


def explain(error: AgentChatError, max_chars: int = 4000) -> str:
    """A failure as one line a model can act on, of at most `max_chars` characters; and the reason that was given for
    what is in the way."""
    text = clean(error.message[:2000])[: max_chars - 400].rstrip(".")
    if isinstance(error, NotFound) and error.near and "Did you mean" not in text:
        text += "; near names: " + ", ".join(word(name) for name in error.near[:5])
    if isinstance(error, RateLimited) and error.retry_after is not None:
        text += f"; try again in {error.retry_after:g} seconds"
    elif isinstance(error, NetworkError | Unavailable):
        text += "; this is not your fault, try again later"
    line = f"Error ({error.code}): {text}{'' if text.endswith('?') else '.'}"[:max_chars]
    why = _reason_of(error)
    return f"{line}{why}" if len(line) + len(why) <= max_chars else line


def _reason_of(error: AgentChatError) -> str:
    """What somebody says why it has what was asked for, behind a fence."""
    holders = error.details.get("holders") if isinstance(error, Conflict) else None
    first = holders[0] if isinstance(holders, list) and holders else None
    reason = first.get("reason") if isinstance(first, Mapping) else None
    return f"\nThe holder's reason. {NOTICE}\n{fenced(reason)}" if isinstance(reason, str) and reason else ""
