"""The handler that reports runs by itself: LangChain's events in, status posts out.

It only takes notes and queues what there is to tell (`runs.py` decides what, `poster.py` sends it), never raises, and
tells nothing about our own tools, whose sends would otherwise be reported by a send.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, get_args
from uuid import UUID

from agentchat._arguments import check
from agentchat.contract import Contract
from agentchat.errors import InvalidArguments

from .colours import sync_client
from .poster import Poster, Redact, Stats
from .runs import Runs
from .stories import Note, Status

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseCallbackHandler as GraphCallbackHandler
else:
    try:  # only its heirs are told of interrupts; without LangGraph there are none
        from langgraph.callbacks import GraphCallbackHandler
    except ImportError:
        from langchain_core.callbacks import BaseCallbackHandler as GraphCallbackHandler

R = TypeVar("R")
_LOG = logging.getLogger("agentchat.status")
_LONGEST_QUOTE = 20_000  # that `redact` looks through; what is posted is shorter

Content = Literal["inputs", "outputs", "errors", "interrupts"]


class AgentChatCallbackHandler(GraphCallbackHandler):
    """Posts to a channel what becomes of each run: started, waiting for a human, resumed, done, failed, cancelled.

        handler = AgentChatCallbackHandler(client, channel="status")
        agent.invoke(question, {"callbacks": [handler]})

    The first post of a run is followed by replies. By default it holds names, counts and durations; `include` adds
    "inputs", "outputs", "errors" or "interrupts", each passed through `redact(text) -> text`, which runs on the
    handler's thread; a text of more than 20,000 characters is left out then. `name` replaces the run's own. At most
    `max_pending` statuses wait for a slow relay. At exit, what is left is sent within `drain_seconds`; `flush()` and
    `close()` do it earlier.
    """

    run_inline = True  # a status is queued in microseconds: a thread would cost more
    raise_error = False

    def __init__(
        self,
        client: Any,
        channel: str = "general",
        *,
        name: str | None = None,
        include: Content | Iterable[Content] = (),
        redact: Redact | None = None,
        max_pending: int = 1_000,
        drain_seconds: float = 2.0,
    ) -> None:
        super().__init__()
        self._include = frozenset([include] if isinstance(include, str) else include)
        if unknown := self._include - set(get_args(Content)):
            raise InvalidArguments(f"include has no {min(unknown)!r}; there are: {', '.join(get_args(Content))}.")
        if max_pending < 1 or drain_seconds < 0:
            raise InvalidArguments("max_pending must be at least 1 and drain_seconds at least 0.")
        # What could never be posted fails here, not later.
        check(Contract.send_message, {"channel": channel, "content": "a status"})
        if channel == "direct-messages" or not hasattr(client, "send_message"):
            raise InvalidArguments("The handler needs a client, and a channel that is not direct-messages.")
        self._name = name
        self._redacts = redact is not None
        self._runs = Runs()
        self._poster = Poster(
            sync_client(client), channel, redact=redact, max_pending=max_pending, drain_seconds=drain_seconds
        )

    @property
    def stats(self) -> Stats:
        """How many statuses were posted, merged into later ones, dropped, and are still queued."""
        return self._poster.stats

    def flush(self, timeout: float | None = 30.0) -> bool:
        """Wait until everything is posted; false if the time ran out before. On an event loop, do it in a thread."""
        return self._poster.flush(timeout)

    def close(self) -> None:
        """Post what is left, for at most `drain_seconds`, and end the thread. The handler can still be used."""
        self._poster.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __copy__(self) -> Self:
        """A copy of a model or a chain reports through the same handler."""
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    # LangChain's events

    def on_chain_start(self, serialized: dict[str, Any] | None, inputs: Any, **event: Any) -> None:
        self._start(serialized, inputs, event, chain=True)

    def on_chat_model_start(self, serialized: dict[str, Any] | None, messages: Any, **event: Any) -> None:
        self._start(serialized, messages, event)

    def on_llm_start(self, serialized: dict[str, Any] | None, prompts: Any, **event: Any) -> None:
        self._start(serialized, prompts, event)

    def on_retriever_start(self, serialized: dict[str, Any] | None, query: Any, **event: Any) -> None:
        self._start(serialized, query, event)

    def on_tool_start(self, serialized: dict[str, Any] | None, input_str: Any, **event: Any) -> None:
        self._start(serialized, input_str, event, tool=True)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        waits = _read(lambda: isinstance(outputs, Mapping) and bool(outputs.get("__interrupt__")))
        self._end(outputs, run_id, interrupted=waits or False)

    def on_llm_end(self, response: Any, *, run_id: UUID, **_: Any) -> None:
        self._end(response, run_id)

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **_: Any) -> None:
        self._end(documents, run_id)

    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        self._end(output, run_id, failed=_read(lambda: bool(output.status == "error")) or False)

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
        pending = _read(lambda: [(str(one.id), one.value) for one in event.interrupts]) or []
        note = self._note("interrupts", *(value for _, value in pending))
        self._tell(
            lambda now: self._runs.interrupted(
                event.run_id, pending, now, checkpoint=_read(lambda: str(event.checkpoint_id)), note=note
            )
        )

    def on_resume(self, event: Any) -> None:
        self._tell(
            lambda now: self._runs.resumed(event.run_id, now, checkpoint=_read(lambda: str(event.checkpoint_id)))
        )

    # What they have in common

    def _start(
        self,
        serialized: Mapping[str, Any] | None,
        inputs: Any,
        event: Mapping[str, Any],
        *,
        chain: bool = False,
        tool: bool = False,
    ) -> None:
        found = event.get("metadata")
        metadata = found if isinstance(found, Mapping) else {}
        thread = metadata.get("thread_id") if chain else None  # only graphs resume
        note = None if self._runs.knows(event.get("parent_run_id")) else self._note("inputs", inputs)
        self._tell(
            lambda now: self._runs.started(
                event["run_id"],
                event.get("parent_run_id"),
                event.get("name") or _read(lambda: _named(serialized)) or "run",
                now,
                label=self._name,
                thread=None if thread is None else _read(lambda: str(thread)),
                tool=tool,
                ignored=(tool and "agentchat_op" in metadata) or _edits_state(event.get("name")),
                note=note,
            )
        )

    def _end(self, outputs: Any, run_id: UUID, *, failed: bool = False, interrupted: bool = False) -> None:
        note = self._note("outputs", outputs) if self._runs.is_root(run_id) else None
        self._tell(lambda now: self._runs.ended(run_id, now, failed=failed, interrupted=interrupted, note=note))

    def _error(self, error: BaseException, run_id: UUID, *, tool: bool = False) -> None:
        kind: Content = "interrupts" if type(error).__name__ == "GraphInterrupt" else "errors"
        note = self._note(kind, error) if self._runs.is_root(run_id) else None
        self._tell(lambda now: self._runs.erred(run_id, error, now, tool=tool, note=note))

    def _tell(self, happened: Callable[[float], Status | None]) -> None:
        """Note an event, and queue what there is to tell. Whatever goes wrong here is not the run's business."""
        try:
            with self._poster.lock:  # parallel tools report from several threads
                status = happened(time.monotonic())
                if status is not None:
                    self._poster.put(status)
        except Exception as error:  # its text may be anything, so only its kind is logged
            self._poster.lost(f"{type(error).__name__} in the handler")

    def _note(self, kind: Content, *values: Any) -> Note | None:
        """What was said, for those who asked for it. Made at once, without the lock: it runs code of the caller's."""
        if kind not in self._include:
            return None
        note = f"{kind}: {'; '.join(preview(value, whole=self._redacts) for value in values)}"
        return lambda: note


def preview(value: Any, *, whole: bool) -> str:
    """An input, an output or an error as people would quote it: of a conversation, the latest message.

    A redact hook gets it whole or not at all: it knows no secret whose end is missing.
    """
    try:
        quoted = _quoted(value)
    except Exception as error:
        return f"({type(value).__name__} that cannot be shown: {type(error).__name__})"
    if whole and len(quoted) > _LONGEST_QUOTE:
        return f"(a text of {len(quoted)} characters, too long to be redacted)"
    return quoted[:_LONGEST_QUOTE]


def _quoted(value: Any) -> str:
    if isinstance(value, Mapping) and isinstance(value.get("messages"), list | tuple):
        value = value["messages"]
    while isinstance(value, list | tuple) and len(value) and not isinstance(value[-1], str | int | float):
        value = value[-1]
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], str):  # ("user", "what was said")
        value = value[1]
    elif isinstance(value, Mapping) and isinstance(value.get("content"), str):
        value = value["content"]
    generations = getattr(value, "generations", None)  # what a model's run ends with
    if generations:
        return _quoted(getattr(generations[0][0], "message", None) or generations[0][0].text)
    text = value if isinstance(value, str) else getattr(value, "content", None) or value
    if isinstance(text, str | BaseException):
        return str(text)
    return json.dumps(text, default=repr, ensure_ascii=False)


def _edits_state(name: object) -> bool:
    """Whether a run is LangGraph's `update_state`, which takes the config of the run whose state a person edits."""
    return isinstance(name, str) and name.endswith("UpdateState")


def _named(serialized: Mapping[str, Any] | None) -> str | None:
    found = serialized or {}
    path = found.get("id")
    return found.get("name") or (path[-1] if isinstance(path, list) and path else None)


def _read(read: Callable[[], R]) -> R | None:
    """What an object of the caller's says about itself; it may say anything, or raise."""
    try:
        return read()
    except Exception:
        return None
