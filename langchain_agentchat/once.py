"""One effect per tool call, however often LangGraph runs it: the idempotency key is derived from where the call stands.

Thread, checkpoint namespace and tool-call id are the same when a node is run again after a crash, by a retry, or on
resume after an interrupt, and differ in every later turn, even if a provider repeats its ids. Outside LangGraph there
is no such place, and the client makes a random key per call.

One repeat is not known as one: the retry of a node, or of a tool, that holds a subgraph. LangGraph numbers the calls of
subgraphs in a task through its retries (`node:<task>|1|inner:<other task>`), as if the node had called a second one on
purpose; nothing in the config tells the two apart. So its calls are made anew: better a message twice than one lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256
from typing import Any

_CALL: ContextVar[ToolCallPlace | None] = ContextVar("agentchat_tool_call", default=None)


class ToolCallPlace:
    """Where in a graph's history the running tool call stands."""

    def __init__(self, config: Mapping[str, Any] | None, tool_call_id: str | None) -> None:
        configurable = (config or {}).get("configurable") or {}
        metadata = (config or {}).get("metadata") or {}
        self._thread = configurable.get("thread_id")
        self._namespace = metadata.get("langgraph_checkpoint_ns")
        self._tool_call_id = tool_call_id
        self._writes = 0

    def next_key(self, operation: str) -> str | None:
        """The key of the call's next write; None outside LangGraph."""
        if not (self._namespace and self._tool_call_id):
            return None
        place = (self._thread, self._namespace, self._tool_call_id, operation, self._writes)
        self._writes += 1
        return sha256("\0".join(str(part) for part in place).encode("utf-8", "surrogatepass")).hexdigest()[:40]


@contextmanager
def running_at(config: Mapping[str, Any] | None, tool_call_id: str | None) -> Iterator[None]:
    """For the time of one tool call, also in the threads and tasks it starts."""
    token = _CALL.set(ToolCallPlace(config, tool_call_id))
    try:
        yield
    finally:
        _CALL.reset(token)


def next_key(operation: str) -> str | None:
    """The idempotency key for a write of the tool call that runs now, or None."""
    place = _CALL.get()
    return None if place is None else place.next_key(operation)
