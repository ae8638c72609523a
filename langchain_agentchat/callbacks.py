"""The handler that reports runs by itself: LangChain's events in, status posts out.

It only takes notes and queues what there is to tell (`runs.py` decides what, `poster.py` sends it), never raises, and
tells nothing about our own tools, whose sends would otherwise be reported by a send.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self, get_args
from uuid import UUID

from agentchat._arguments import check
from agentchat.contract import Contract
from agentchat.errors import InvalidArguments

from .colours import sync_client
from .poster import Poster, Redact, Stats
from .runs import Note, Runs, Status

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseCallbackHandler as GraphCallbackHandler
else:
    try:  # only its heirs are told of interrupts; without LangGraph there are none
        from langgraph.callbacks import GraphCallbackHandler
    except ImportError:
        from langchain_core.callbacks import BaseCallbackHandler as GraphCallbackHandler

_LOG = logging.getLogger("agentchat.status")
_LONGEST_PREVIEW = 600

Content = Literal["inputs", "outputs", "errors", "interrupts"]


class AgentChatCallbackHandler(GraphCallbackHandler):
    """Posts to a channel what becomes of each run: started, waiting for a human, resumed, done, failed, cancelled.

        handler = AgentChatCallbackHandler(client, channel="status")
        agent.invoke(question, {"callbacks": [handler]})

    The first post of a run is followed by replies. By default it holds names, counts and durations; `include` adds
    "inputs", "outputs", "errors" or "interrupts", each passed through `redact(text) -> text`, which runs on the
    handler's thread. `name` replaces the run's own. At most `max_pending` statuses wait for a slow relay. At exit,
    what is left is sent within `drain_seconds`; `flush()` and `close()` do it earlier.
    """

    run_inline = True  # a status is queued in microseconds: a thread would cost more
    raise_error = False

    def __init__(
        self,
        client: Any,
        channel: str = "general",
        *,
        name: str | None = None,
        include: Iterable[Content] = (),
        redact: Redact | None = None,
        max_pending: int = 1_000,
        drain_seconds: float = 2.0,
    ) -> None:
        super().__init__()
        self._include = frozenset(include)
        if unknown := self._include - set(get_args(Content)):
            raise InvalidArguments(f"include has no {min(unknown)!r}; there are: {', '.join(get_args(Content))}.")
        if max_pending < 1 or drain_seconds < 0:
            raise InvalidArguments("max_pending must be at least 1 and drain_seconds at least 0.")
        check(Contract.send_message, {"channel": channel, "content": "a status"})  # a wrong name fails here, not later
        self._name = name
        self._runs = Runs()
        self._poster = Poster(
            sync_client(client), channel, redact=redact, max_pending=max_pending, drain_seconds=drain_seconds
        )

    @property
    def stats(self) -> Stats:
        """How many statuses were posted, merged into later ones, dropped, and are still queued."""
        return self._poster.stats

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything is posted; false if the time ran out before."""
        return self._poster.flush(timeout)

    def close(self) -> None:
        """Post what is left, for at most `drain_seconds`, and end the thread. The handler can still be used."""
        self._poster.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # LangChain's events

    def on_chain_start(self, serialized: dict[str, Any] | None, inputs: Any, **event: Any) -> None:
        self._start(serialized, inputs, event)

    def on_chat_model_start(self, serialized: dict[str, Any] | None, messages: Any, **event: Any) -> None:
        self._start(serialized, messages, event)

    def on_llm_start(self, serialized: dict[str, Any] | None, prompts: Any, **event: Any) -> None:
        self._start(serialized, prompts, event)

    def on_retriever_start(self, serialized: dict[str, Any] | None, query: Any, **event: Any) -> None:
        self._start(serialized, query, event)

    def on_tool_start(self, serialized: dict[str, Any] | None, input_str: Any, **event: Any) -> None:
        self._start(serialized, input_str, event, tool=True)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        waits = isinstance(outputs, Mapping) and bool(outputs.get("__interrupt__"))
        self._end(outputs, run_id, interrupted=waits)

    def on_llm_end(self, response: Any, *, run_id: UUID, **_: Any) -> None:
        self._end(response, run_id)

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **_: Any) -> None:
        self._end(documents, run_id)

    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        self._end(output, run_id, failed=getattr(output, "status", None) == "error")

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._error(error, run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._error(error, run_id)

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._error(error, run_id)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._error(error, run_id, tool=True)

    # LangGraph's

    def on_interrupt(self, event: Any) -> None:
        pending = [(str(one.id), one.value) for one in event.interrupts]
        note = self._note("interrupts", [value for _, value in pending])
        self._tell(lambda now: self._runs.interrupted(event.run_id, pending, now, note=note))

    def on_resume(self, event: Any) -> None:
        self._tell(lambda now: self._runs.resumed(event.run_id, now))

    # What they have in common

    def _start(
        self, serialized: Mapping[str, Any] | None, inputs: Any, event: Mapping[str, Any], *, tool: bool = False
    ) -> None:
        metadata = event.get("metadata") or {}
        thread = metadata.get("thread_id")
        self._tell(
            lambda now: self._runs.started(
                event["run_id"],
                event.get("parent_run_id"),
                event.get("name") or _named(serialized),
                now,
                label=self._name,
                thread=None if thread is None else str(thread),
                tool=tool,
                ignored=tool and "agentchat_op" in metadata,
                note=self._note("inputs", inputs),
            )
        )

    def _end(self, outputs: Any, run_id: UUID, *, failed: bool = False, interrupted: bool = False) -> None:
        note = self._note("outputs", outputs)
        self._tell(lambda now: self._runs.ended(run_id, now, failed=failed, interrupted=interrupted, note=note))

    def _error(self, error: BaseException, run_id: UUID, *, tool: bool = False) -> None:
        note = self._note("interrupts" if type(error).__name__ == "GraphInterrupt" else "errors", error)
        self._tell(lambda now: self._runs.erred(run_id, error, now, tool=tool, note=note))

    def _tell(self, happened: Callable[[float], Status | None]) -> None:
        """Note an event, and queue what there is to tell. Whatever goes wrong here is not the run's business."""
        try:
            with self._poster.lock:  # parallel tools report from several threads
                status = happened(time.monotonic())
                if status is not None:
                    self._poster.put(status)
        except Exception:
            _LOG.warning("A status was lost.", exc_info=True)

    def _note(self, kind: Content, value: Any) -> Note | None:
        """What was said, for those who asked for it: made only where there is a status to add it to."""
        return (lambda: f"{kind}: {preview(value)}") if kind in self._include else None


def preview(value: Any) -> str:
    """The beginning of an input, an output or an error, as people would quote it."""
    if isinstance(value, Mapping) and isinstance(value.get("messages"), list | tuple):
        value = value["messages"]
    while isinstance(value, list | tuple) and len(value) and not isinstance(value[-1], str | int | float):
        value = value[-1]  # the latest message is what a run is about
    text = value if isinstance(value, str) else getattr(value, "content", None) or value
    if not isinstance(text, str):
        text = str(text) if isinstance(text, BaseException) else json.dumps(text, default=repr, ensure_ascii=False)
    return text[:_LONGEST_PREVIEW] + ("…" if len(text) > _LONGEST_PREVIEW else "")


def _named(serialized: Mapping[str, Any] | None) -> str:
    found = serialized or {}
    path = found.get("id")
    return str(found.get("name") or (path[-1] if isinstance(path, list) and path else "run"))
