"""What happened to each run, as a person would tell it. No I/O, no clock, no LangChain: events in, statuses out.

A root is a run whose parent was never seen here, so that a handler works on a model, in a config and on a chain alike.
Everything below a root is counted for it: parallel tools, subgraphs, nested agents, and what outlives its parent.

    started ──> waiting ──> (the process may end here) ──> resumed ──> done | failed | cancelled

A run that waits for a human ends, as LangGraph sees it; its resumption is another run of the same thread, and goes on
with the same story. Names, counts and durations are all that is told; what was said is the caller's to add.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from agentchat.text import word

from .stories import LONGEST_NAME, MOST_NAMES, Note, State, Status, Story, duration, listed, shown

_MOST_ROOTS = 10_000
_MOST_OPEN = 10_000  # below one root
_MOST_PAST = 10_000
_MOST_RESTING = 2_000
_MOST_TOOLS = 100  # told apart within one run
_MOST_ASKED = 100
_LONGEST_FACT = 40  # so that a status' facts fit into a message's metadata in any script
_CANCELLED = {"CancelledError", "GeneratorExit", "KeyboardInterrupt", "SystemExit"}


class _Run:
    """A root and what is going on below it."""

    __slots__ = (
        "asked", "began", "culprit", "held", "id", "note", "open", "over", "resumed", "story", "thread",
        "unanswered", "waiting",
    )  # fmt: skip

    def __init__(self, id: UUID, name: str, thread: str | None, now: float, note: str | None) -> None:
        self.id = id
        self.note = note  # of its start
        self.story = Story(name)
        self.thread = thread
        self.began = now
        # A run of a thread may be the resumption of an earlier one; the very next event tells.
        self.held = thread is not None
        self.over = False
        self.resumed = False
        self.waiting: UUID | None = (
            None  # the graph that waits: the root itself, or one below while nothing else goes on
        )
        self.unanswered = ""  # what a graph waits for
        self.open: dict[UUID, None] = {}
        self.asked: dict[str, str] = {}  # interrupt id -> where it came up
        self.culprit: tuple[BaseException, str] | None = None  # the latest error of a tool, and the tool

    @property
    def key(self) -> tuple[str, str | None]:
        """What its resumption has in common with it."""
        return self.story.name, self.thread


class _Known(NamedTuple):
    run: _Run
    name: str
    ignored: bool


class Runs:
    """Follows the runs of one handler."""

    def __init__(self) -> None:
        self._roots: OrderedDict[UUID, _Run] = OrderedDict()
        self._open: dict[UUID, _Known] = {}
        self._past: OrderedDict[UUID, _Known] = OrderedDict()  # what is below them may begin, or end, later
        # Stories that may be resumed, by checkpoint where one is known, and by name and thread.
        self._resting: OrderedDict[object, Story] = OrderedDict()

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
        if run_id in self._open:  # a handler that was given twice hears all twice
            return None
        name = shown(name)
        parent = None if parent_id is None else self._open.get(parent_id) or self._past.get(parent_id)
        if parent is None:
            return self._root(run_id, label or name, name, now, thread, ignored, note)
        run = parent.run
        known = _Known(run, name, ignored)
        if run.over:  # it outlived its root: the story is told
            self._bury(run_id, known)
            return None
        self._enter(run_id, known)
        run.culprit = None  # whatever went wrong, the run goes on
        if run.waiting is not None:  # a graph below waits, the run does not
            run.waiting, run.began = None, now
        if tool and not ignored:
            tools = run.story.tools
            tools[name if name in tools or len(tools) < _MOST_TOOLS else "other tools"] += 1
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
        known = self._leave(run_id)
        if known is None or known.run.over:
            return None
        run = known.run
        if run.id != run_id:
            run.story.failed += failed and not known.ignored
            return None
        if interrupted and not run.unanswered:  # nobody told of an interrupt: LangGraph before 1.1.10
            status = self._waits(run, run_id, [(asked, None) for asked in run.asked], now, note)
            self._close(run)
            return status
        if run.waiting == run_id or (run.unanswered and interrupted):
            self._close(run)
            return None
        return self._told(run, "done", now, note=note)

    def erred(
        self, run_id: UUID, error: BaseException, now: float, *, tool: bool = False, note: Note | None = None
    ) -> Status | None:
        """A run ended with an exception, which may be none of a failure."""
        known = self._leave(run_id)
        if known is None or known.run.over:
            return None
        run, kinds = known.run, {kind.__name__ for kind in type(error).__mro__}
        pending = _pending(error) if "GraphInterrupt" in kinds else []
        for interrupt_id, _ in pending[:_MOST_ASKED]:
            if len(run.asked) < _MOST_ASKED:
                run.asked.setdefault(interrupt_id, f"answer to {known.name}")
        if run.id != run_id:
            if tool and not known.ignored:
                _tool_erred(run, known.name, error, kinds)
            return None
        if "GraphInterrupt" in kinds:  # this handler sees a subgraph only
            status = self._waits(run, run_id, pending, now, note)
            self._close(run)
            return status
        if "ParentCommand" in kinds:
            return self._told(run, "done", now)
        if "GraphDrained" in kinds:
            return self._told(run, "paused", now)
        if kinds & _CANCELLED:
            return self._told(run, "cancelled", now)
        reason = word(type(error).__name__, LONGEST_NAME)
        if run.culprit is not None and run.culprit[0] is error:
            reason += f" in tool {run.culprit[1]}"
        return self._told(run, "failed", now, reason, note)

    def interrupted(
        self,
        run_id: UUID,
        pending: Sequence[tuple[str, Any]],
        now: float,
        *,
        checkpoint: str | None = None,
        note: Note | None = None,
    ) -> Status | None:
        """A graph pauses for a human. `pending` are the ids and values of its interrupts."""
        known = self._open.get(run_id)
        if known is None or known.run.over:
            return None
        return self._waits(known.run, run_id, pending, now, note, checkpoint)

    def resumed(self, run_id: UUID, now: float, *, checkpoint: str | None = None) -> Status | None:
        """A graph goes on from where it paused, or from where it failed."""
        known = self._open.get(run_id)
        if known is None or known.run.over:
            return None
        run = known.run
        if run.unanswered:  # within one run, whoever answered
            if run.waiting is not None:
                run.waiting, run.began = None, now
            run.unanswered = ""
        elif run.resumed:  # a graph below the one whose resumption was told
            return None
        else:
            story = self._taken_up(run, checkpoint)
            if story is None:
                if not run.held:
                    return None
                run.held, run.resumed = False, True  # another process began it
                return _status(run, "resumed")
            run.story.given_up = not run.held
            run.story, run.held = story, False
        run.resumed = True
        run.story.tools -= run.story.asking
        run.story.asking.clear()
        return _status(run, "resumed", f" after {duration(now - run.story.since)}")

    def _root(
        self,
        run_id: UUID,
        label: str,
        name: str,
        now: float,
        thread: str | None,
        ignored: bool,
        note: Note | None,
    ) -> Status | None:
        run = _Run(run_id, shown(label), thread, now, note and note())
        run.over = ignored
        self._roots[run_id] = run
        self._enter(run_id, _Known(run, name, ignored))
        if len(self._roots) > _MOST_ROOTS:
            self._close(next(iter(self._roots.values())))
        return None if ignored or run.held else self._begun(run)

    def _release(self, run: _Run) -> Status | None:
        """The start of a run that turned out to be a new one."""
        if not run.held:
            return None
        run.held = False
        self._resting.pop(run.key, None)  # whatever waited there was given up
        return self._begun(run)

    def _begun(self, run: _Run) -> Status:
        note, run.note = run.note, None
        return _status(run, "started", note=note)

    def _waits(
        self,
        run: _Run,
        graph: UUID,
        pending: Sequence[tuple[str, Any]],
        now: float,
        note: Note | None,
        checkpoint: str | None = None,
    ) -> Status | None:
        if run.waiting == graph:
            return None
        if run.waiting is None:
            run.story.active += now - run.began
        run.waiting, run.began, run.held = graph, now, False
        self._rest(run, now, checkpoint)
        asked = [name for id, value in pending for name in _asked_for(value, run.asked.pop(id, None))]
        names = Counter(sorted(asked))  # parallel calls come in any order
        what = f": {listed(names)}" if names else " before its next step"
        run.unanswered = f"waits for a human{what}"
        facts = {"waits_for": [name[:_LONGEST_FACT] for name, _ in names.most_common(MOST_NAMES)]}
        return _status(run, "waiting", f" for a human{what}", facts, note and note())

    def _told(self, run: _Run, state: State, now: float, reason: str = "", note: Note | None = None) -> Status:
        """The end of a story, or where it rests until somebody takes it up again."""
        story = run.story
        story.active += 0.0 if run.waiting else now - run.began
        if state != "done":
            self._rest(run, now)
        elif not run.unanswered:
            self._resting.pop(run.key, None)
        detail = f" {'in' if state == 'done' else 'after'} {duration(story.active)}"
        if reason:
            detail += f": {reason}"
        calls = story.tools.total()
        if calls:
            failed = f"; {story.failed} failed" if story.failed else ""
            detail += f", {calls} tool call{'' if calls == 1 else 's'} ({listed(story.tools)}{failed})"
        if run.unanswered and state == "done":
            detail += f"; a graph in it still {run.unanswered}"
        facts: dict[str, Any] = {"seconds": round(story.active, 3), "tool_calls": calls, "failed": story.failed}
        if reason:
            facts["reason"] = reason
        self._close(run)
        return _status(run, state, detail, facts, note and note())

    def _rest(self, run: _Run, now: float, checkpoint: str | None = None) -> None:
        run.story.since = now
        if run.thread is None:
            return
        for key in filter(None, (run.key, checkpoint)):
            self._resting[key] = run.story
            self._resting.move_to_end(key)
        while len(self._resting) > _MOST_RESTING:
            self._resting.popitem(last=False)

    def _taken_up(self, run: _Run, checkpoint: str | None) -> Story | None:
        """The story that goes on. Graphs without a name share theirs, and often a thread's id, but no checkpoint."""
        story = self._resting.get(checkpoint) or self._resting.get(run.key)
        for key in [key for key, resting in self._resting.items() if resting is story]:
            del self._resting[key]
        return story

    # Who is known

    def is_root(self, run_id: UUID) -> bool:
        return run_id in self._roots

    def knows(self, run_id: UUID | None) -> bool:
        return run_id in self._open or run_id in self._past

    def _enter(self, run_id: UUID, known: _Known) -> None:
        self._open[run_id] = known
        known.run.open[run_id] = None
        if len(known.run.open) > _MOST_OPEN:  # LangChain does not end every run it starts
            self._leave(next(one for one in known.run.open if one != known.run.id))

    def _leave(self, run_id: UUID) -> _Known | None:
        known = self._open.pop(run_id, None)
        if known is not None:
            known.run.open.pop(run_id, None)
            self._bury(run_id, known)
        return known

    def _bury(self, run_id: UUID, known: _Known) -> None:
        self._past[run_id] = known
        if len(self._past) > _MOST_PAST:
            self._past.popitem(last=False)

    def _close(self, run: _Run) -> None:
        run.over, run.culprit, run.note = True, None, None
        self._roots.pop(run.id, None)
        for run_id in list(run.open):
            self._leave(run_id)


def _tool_erred(run: _Run, name: str, error: BaseException, kinds: set[str]) -> None:
    story = run.story
    if "GraphInterrupt" in kinds:
        story.asking[name] += name in story.tools
    elif not kinds & {"GraphBubbleUp", *_CANCELLED}:
        story.failed += 1
        run.culprit = (error, name)


def _status(
    run: _Run, state: State, detail: str = "", facts: Mapping[str, Any] | None = None, note: str | None = None
) -> Status:
    about = {"run_id": str(run.id), "name": run.story.name, "state": state, **(facts or {})}
    return Status(run.story, state, f"{run.story.name}: {state}{detail}", about, note)


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
