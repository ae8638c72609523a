"""What happened to each run, as a person would tell it. No I/O, no clock, no LangChain: events in, statuses out.

A root is a run whose parent was never seen here, so that a handler works on a model, in a config and on a chain alike.
Everything below a root is counted for it: parallel tools, subgraphs, nested agents, and what outlives its parent.

    started ──> waiting ──> (the process may end here) ──> resumed ──> done | failed | cancelled

A run that waits for a human ends, as LangGraph sees it; its resumption is another run of the same thread, and goes on
with the same story. Names, counts and durations are all that is told; what was said is the caller's to add.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple
from uuid import UUID

from agentchat.text import word

Note = Callable[[], str]
State = Literal["started", "waiting", "resumed", "done", "failed", "cancelled", "paused"]
_PASSING = ("started", "resumed")  # soon overtaken by another; every other state is where a run rests
_MOST_KNOWN = 10_000
_MOST_THREADS = 1_000
_MOST_NAMES = 8
_LONGEST_NAME = 80
_LONGEST_FACT = 40  # so that a status' facts fit into a message's metadata in any script


class Story:
    """All posts about one run: the first, and its replies."""

    __slots__ = ("active", "first_post", "name", "since")

    def __init__(self, name: str) -> None:
        self.name = name
        self.first_post: str | None = None  # its id, once there is one
        self.active = 0.0  # seconds at work before the latest pause
        self.since = 0.0  # when that pause began


class Status(NamedTuple):
    """One thing to tell."""

    story: Story
    state: State
    text: str
    facts: Mapping[str, Any]
    note: str | None  # what was said, if the caller wants it told

    @property
    def droppable(self) -> bool:
        return self.state in _PASSING


class _Run:
    """A root and what was counted below it."""

    __slots__ = (
        "asked",
        "began",
        "culprit",
        "failed",
        "held",
        "id",
        "note",
        "over",
        "story",
        "thread",
        "tools",
        "waiting",
    )

    def __init__(self, id: UUID, name: str, thread: str | None, now: float, note: str | None) -> None:
        self.id = id
        self.note = note  # of its start
        self.story = Story(name)
        self.thread = thread
        self.began = now
        # A run of a thread may be the resumption of an earlier one; the very next event tells.
        self.held = thread is not None
        self.over = False
        self.waiting: UUID | None = None  # the graph that waits: the root itself, or one below it
        self.tools: Counter[str] = Counter()
        self.failed = 0
        self.asked: dict[str, str] = {}  # interrupt id -> where it came up
        self.culprit: tuple[int, str] | None = None  # the latest tool's error, by identity, and the tool

    @property
    def key(self) -> tuple[str, str | None]:
        """What its resumption has in common with it."""
        return self.story.name, self.thread


class _Known(NamedTuple):
    run: _Run
    name: str


class Runs:
    """Follows the runs of one handler."""

    def __init__(self) -> None:
        self._known: OrderedDict[UUID, _Known] = OrderedDict()
        self._threads: OrderedDict[tuple[str, str | None], Story] = OrderedDict()  # stories that may be resumed

    def started(
        self,
        run_id: UUID,
        parent_id: UUID | None,
        name: str,
        now: float,
        *,
        label: str | None = None,
        thread: str | None = None,
        tool: bool = False,
        ignored: bool = False,
        note: Note | None = None,
    ) -> Status | None:
        """A run began. `label` is a root's name; what is ignored is neither told nor counted."""
        name = shown(name)
        parent = self._known.get(parent_id) if parent_id is not None else None
        if parent is None:
            run = _Run(run_id, shown(label) if label else name, thread, now, note and note())
            run.over = ignored
            self._remember(run_id, _Known(run, name))
            return None if ignored or run.held else _status(run, "started", note=run.note)
        run = parent.run
        self._remember(run_id, _Known(run, name))
        if run.over:  # it outlived its root: the story is told
            return None
        if tool and not ignored:
            run.tools[name] += 1
        if thread is not None and run.thread is None:
            run.thread = thread
        return self._release(run)

    def ended(
        self,
        run_id: UUID,
        now: float,
        *,
        failed: bool = False,
        interrupted: bool = False,
        note: Note | None = None,
    ) -> Status | None:
        """A run ended well. `failed` marks a tool whose error was handled; `interrupted` an answer that still waits."""
        known = self._known.get(run_id)
        if known is None or known.run.over:
            return None
        run = known.run
        if run.id != run_id:
            run.failed += failed
            return None
        run.over = True
        if run.waiting is not None and (run.waiting == run_id or interrupted):
            return None
        return self._closed(run, "done", now, note=note)

    def erred(
        self, run_id: UUID, error: BaseException, now: float, *, tool: bool = False, note: Note | None = None
    ) -> Status | None:
        """A run ended with an exception, which may be none of a failure."""
        known = self._known.get(run_id)
        if known is None or known.run.over:
            return None
        run, kinds = known.run, {kind.__name__ for kind in type(error).__mro__}
        pending = _pending(error) if "GraphInterrupt" in kinds else ()
        for interrupt_id, _ in pending:
            run.asked.setdefault(interrupt_id, f"answer to {known.name}")
        if run.id != run_id:
            if tool and "GraphBubbleUp" not in kinds:
                run.failed += 1
                run.culprit = (id(error), known.name)
            return None
        run.over = True
        if "GraphInterrupt" in kinds:  # this handler sees a subgraph only
            return self._waits(run, run_id, pending, now, note)
        if "ParentCommand" in kinds:
            return self._closed(run, "done", now)
        if "GraphDrained" in kinds:
            return self._closed(run, "paused", now)
        if kinds & {"CancelledError", "GeneratorExit", "KeyboardInterrupt", "SystemExit"}:
            return self._closed(run, "cancelled", now)
        reason = word(type(error).__name__, _LONGEST_NAME)
        if run.culprit is not None and run.culprit[0] == id(error):
            reason += f" in tool {run.culprit[1]}"
        return self._closed(run, "failed", now, reason, note)

    def interrupted(
        self, run_id: UUID, pending: Sequence[tuple[str, Any]], now: float, *, note: Note | None = None
    ) -> Status | None:
        """A graph pauses for a human. `pending` are the ids and values of its interrupts."""
        known = self._known.get(run_id)
        if known is None or known.run.over:
            return None
        return self._waits(known.run, run_id, pending, now, note)

    def resumed(self, run_id: UUID, now: float) -> Status | None:
        """A graph goes on from where it paused, or from where it failed."""
        known = self._known.get(run_id)
        if known is None or known.run.over:
            return None
        run = known.run
        if run.waiting is not None:
            run.waiting, run.began = None, now
        elif run.held:
            run.held = False
            story = self._threads.pop(run.key, None)
            if story is None:  # another process began it
                return _status(run, "resumed")
            run.story = story
        else:  # a graph below the root, of which the root's resumption told already
            return None
        return _status(run, "resumed", f" after {duration(now - run.story.since)}")

    def _release(self, run: _Run) -> Status | None:
        """The start of a run that turned out to be a new one."""
        if not run.held:
            return None
        run.held = False
        self._threads.pop(run.key, None)  # whatever waited there was given up
        return _status(run, "started", note=run.note)

    def _waits(
        self, run: _Run, graph: UUID, pending: Sequence[tuple[str, Any]], now: float, note: Note | None
    ) -> Status | None:
        if run.waiting == graph:
            return None
        run.waiting = graph
        run.held = False
        run.story.active += now - run.began
        run.began = now
        self._pause(run, now)
        names = Counter(name for id, value in pending for name in _asked_for(value, run.asked.get(id)))
        what = f": {_listed(names)}" if names else " before its next step"
        facts = {"waits_for": [name[:_LONGEST_FACT] for name, _ in names.most_common(_MOST_NAMES)]}
        return _status(run, "waiting", f" for a human{what}", facts, note and note())

    def _closed(self, run: _Run, state: State, now: float, reason: str = "", note: Note | None = None) -> Status:
        run.story.active += 0.0 if run.waiting else now - run.began
        took = duration(run.story.active)
        if state == "done":
            self._threads.pop(run.key, None)
        else:
            self._pause(run, now)
        detail = f" in {took}" if state == "done" else f" after {took}"
        if reason:
            detail += f": {reason}"
        calls = sum(run.tools.values())
        if calls:
            detail += f", {calls} tool call{'' if calls == 1 else 's'} ({_listed(run.tools)}"
            detail += f"; {run.failed} failed)" if run.failed else ")"
        facts: dict[str, Any] = {"seconds": round(run.story.active, 3), "tool_calls": calls, "failed": run.failed}
        if reason:
            facts["reason"] = reason
        return _status(run, state, detail, facts, note and note())

    def _pause(self, run: _Run, now: float) -> None:
        run.story.since = now
        if run.thread is not None:
            self._threads[run.key] = run.story
            self._threads.move_to_end(run.key)
            if len(self._threads) > _MOST_THREADS:
                self._threads.popitem(last=False)

    def _remember(self, run_id: UUID, known: _Known) -> None:
        """Ids stay known after their end, since something below may begin later; the oldest are forgotten."""
        self._known[run_id] = known
        if len(self._known) > _MOST_KNOWN:
            oldest, kept = self._known.popitem(last=False)
            if kept.run.id == oldest and not kept.run.over:  # a root at work is not forgotten for the many below it
                self._known[oldest] = kept
                self._known.popitem(last=False)


def shown(name: object) -> str:
    """A run's or tool's name as one harmless word."""
    return word(name, _LONGEST_NAME)


def duration(seconds: float) -> str:
    """As people say it."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _status(
    run: _Run, state: State, detail: str = "", facts: Mapping[str, Any] | None = None, note: str | None = None
) -> Status:
    about = {"run_id": str(run.id), "name": run.story.name, "state": state, **(facts or {})}
    return Status(run.story, state, f"{run.story.name}: {state}{detail}", about, note)


def _listed(names: Counter[str]) -> str:
    most = [name if count == 1 else f"{name} x{count}" for name, count in names.most_common(_MOST_NAMES)]
    left_out = len(names) - len(most)
    return ", ".join(most) + (f" and {left_out} more" if left_out else "")


def _pending(error: BaseException) -> list[tuple[str, Any]]:
    """Ids and values of the interrupts an exception carries."""
    found = error.args[0] if error.args else ()
    return [(str(getattr(one, "id", "")), getattr(one, "value", None)) for one in found] if _is_list(found) else []


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _asked_for(value: Any, asked: str | None) -> list[str]:
    """What a human is asked for, by name: the calls to approve, or the tool or step that asks."""
    if isinstance(value, Mapping):
        requests = value.get("action_requests")
        calls = requests if _is_list(requests) else [value] if value.get("type") == "tool_approval" else []
        if calls:
            return [f"approval of {shown(call.get('name'))}" for call in calls if isinstance(call, Mapping)]
    return [asked or "an answer"]
