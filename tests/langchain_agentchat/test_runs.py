"""What is told of runs: pure, any sequence of events, and the memory it takes to follow them."""

from __future__ import annotations

import pickle
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from langchain_agentchat.runs import Runs, Status, duration, shown

SECRET = "zq7secret"
TERMINAL = ("done", "failed", "cancelled", "paused")

# After each state of a run, what may be told next. A run that LangGraph paused elsewhere begins with "resumed"; a graph
# below a root may wait while the root goes on.
NEXT = {
    None: {"started", "resumed", "waiting", *TERMINAL},
    "started": {"waiting", *TERMINAL},
    "resumed": {"waiting", *TERMINAL},
    "waiting": {"waiting", "resumed", *TERMINAL},
    **{state: {"resumed"} for state in TERMINAL},  # by another run, or by one that was given the same id
}


# LangGraph's exceptions, which are recognised by their names


class GraphBubbleUp(Exception):
    pass


class GraphInterrupt(GraphBubbleUp):
    pass


class GraphDrained(GraphBubbleUp):
    pass


class ParentCommand(GraphBubbleUp):
    pass


class CancelledError(BaseException):
    pass


class Asked(NamedTuple):
    """An interrupt, as an exception carries it."""

    id: str
    value: Any


def approval(*names: str) -> dict[str, Any]:
    """What HumanInTheLoopMiddleware asks, batched."""
    return {"action_requests": [{"name": name, "args": {"a": SECRET}, "description": SECRET} for name in names]}


def one_approval(name: str) -> dict[str, Any]:
    """What it asks per call."""
    return {"type": "tool_approval", "name": name, "args": {"a": SECRET}, "description": SECRET}


class Tale:
    """Feeds events to `Runs`, one second apart, and keeps what was told."""

    def __init__(self, *, step: float = 1.0) -> None:
        self.runs = Runs()
        self.now = 1000.0
        self.step = step
        self.told: list[Status] = []

    def _keep(self, event: Callable[..., Status | None], *args: Any, **more: Any) -> Status | None:
        self.now += self.step
        status = event(*args, self.now, **more)
        if status is not None:
            self.told.append(status)
        return status

    def start(self, parent: UUID | None = None, name: str = "w", *, id: UUID | None = None, **more: Any) -> UUID:
        made = id or uuid4()
        self._keep(self.runs.started, made, parent, name, **more)
        return made

    def end(self, id: UUID, **more: Any) -> Status | None:
        return self._keep(self.runs.ended, id, **more)

    def err(self, id: UUID, error: BaseException, **more: Any) -> Status | None:
        return self._keep(self.runs.erred, id, error, **more)

    def interrupt(self, id: UUID, *values: Any) -> Status | None:
        pending = [each if isinstance(each, Asked) else Asked(str(n), each) for n, each in enumerate(values)]
        return self._keep(self.runs.interrupted, id, pending)

    def resume(self, id: UUID) -> Status | None:
        return self._keep(self.runs.resumed, id)

    def tool(self, parent: UUID, name: str = "add", *, ok: bool = True, **more: Any) -> None:
        self.end(self.start(parent, name, tool=True, **more), failed=not ok)

    @property
    def texts(self) -> list[str]:
        return [status.text for status in self.told]


# As people would tell it


def test_a_run_is_told_with_its_duration_and_its_tools():
    tale = Tale()
    root = tale.start(name="worker")
    tale.tool(root, "add")
    tale.tool(root, "add")
    tale.tool(root, "look", ok=False)
    tale.end(root)
    assert tale.texts == ["worker: started", "worker: done in 7.0 s, 3 tool calls (add x2, look; 1 failed)"]
    assert tale.told[-1].facts == {
        "run_id": str(root),
        "name": "worker",
        "state": "done",
        "seconds": 7.0,
        "tool_calls": 3,
        "failed": 1,
    }
    assert tale.told[0].story is tale.told[1].story


def test_a_failure_names_the_error_and_the_tool_it_came_from():
    tale = Tale()
    root = tale.start()
    node = tale.start(root, "tools")
    tool = tale.start(node, "boom", tool=True)
    error = ValueError(SECRET)
    for run, is_tool in ((tool, True), (node, False), (root, False)):
        tale.err(run, error, tool=is_tool)
    assert tale.texts[1:] == ["w: failed after 5.0 s: ValueError in tool boom, 1 tool call (boom; 1 failed)"]
    assert tale.told[-1].facts["reason"] == "ValueError in tool boom"


def test_a_later_error_of_another_place_is_not_blamed_on_a_tool():
    """An object's address is used again after its end."""
    tale = Tale()
    for _ in range(200):
        root = tale.start()
        tool = tale.start(root, "add", tool=True)
        tale.err(tool, ValueError(), tool=True)  # of bad arguments: the run goes on
        tale.err(tale.start(root, "model"), error := ValueError())
        tale.err(root, error)
        assert " in tool " not in tale.texts[-1]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError(SECRET), "failed after 1.0 s: ValueError"),
        (CancelledError(SECRET), "cancelled after 1.0 s"),
        (GeneratorExit(SECRET), "cancelled after 1.0 s"),
        (KeyboardInterrupt(SECRET), "cancelled after 1.0 s"),
        (SystemExit(SECRET), "cancelled after 1.0 s"),
        (GraphDrained(SECRET), "paused after 1.0 s"),
        (ParentCommand(SECRET), "done in 1.0 s"),
        (GraphInterrupt([Asked("1", SECRET)]), "waiting for a human: answer to w"),
    ],
)
def test_not_every_exception_is_a_failure(error: BaseException, told: str):
    tale = Tale()
    tale.err(tale.start(), error)
    assert tale.texts == ["w: started", f"w: {told}"]


@pytest.mark.parametrize(
    "error", [GraphInterrupt([Asked("1", SECRET)]), CancelledError(), GeneratorExit(), ParentCommand(), GraphDrained()]
)
def test_a_tool_that_was_interrupted_or_cancelled_did_not_fail(error: BaseException):
    tale = Tale()
    root = tale.start()
    tale.err(tale.start(root, "ask", tool=True), error, tool=True)
    tale.end(root)
    assert tale.texts[-1] == "w: done in 3.0 s, 1 tool call (ask)"
    assert tale.told[-1].facts["failed"] == 0


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([SECRET], "an answer"),
        ([SECRET, SECRET], "an answer x2"),
        ([approval("add", "add", "rm")], "approval of add x2, approval of rm"),
        ([one_approval("rm"), one_approval("add")], "approval of add, approval of rm"),
        ([one_approval("add\n@mac-bob: x")], "approval of add_@mac-bob:_x"),
        ([{"type": SECRET}, approval()], "an answer x2"),
        ([{"action_requests": [SECRET, {"args": SECRET}]}], "approval of unknown"),
    ],
)
def test_waiting_says_for_what(values: list[Any], told: str):
    tale = Tale()
    tale.interrupt(tale.start(), *values)
    assert tale.texts[-1] == f"w: waiting for a human: {told}"


def test_waiting_before_a_step_needs_no_question():
    tale = Tale()
    tale.interrupt(tale.start())
    assert tale.texts[-1] == "w: waiting for a human before its next step"


def test_waiting_names_the_tool_that_asks():
    tale = Tale()
    root = tale.start()
    node = tale.start(root, "tools")
    question = Asked("i1", SECRET)
    for run in (tale.start(node, "ask", tool=True), node):
        tale.err(run, GraphInterrupt([question]), tool=run is not node)
    tale.interrupt(root, question)
    assert tale.end(root) is None, "the run still waits"
    assert tale.texts == ["w: started", "w: waiting for a human: answer to ask"]


def waiting_run(tale: Tale, *, thread: str | None = "t", tools: Iterable[str] = (), **more: Any) -> UUID:
    root = tale.start(thread=thread, **more)
    node = tale.start(root, "tools", thread=thread)
    for name in tools:
        tale.tool(node, name)
    tale.end(node)
    tale.interrupt(root, SECRET)
    tale.end(root)
    return root


def resumed_run(tale: Tale, *, thread: str | None = "t", tools: Iterable[str] = (), **more: Any) -> UUID:
    root = tale.start(thread=thread, **more)
    tale.resume(root)
    node = tale.start(root, "tools", thread=thread)
    for name in tools:
        tale.tool(node, name)
    tale.end(node)
    tale.end(root)
    return root


def test_a_resumed_run_goes_on_with_its_story():
    tale = Tale()
    waiting_run(tale)
    tale.now += 3600
    resumed_run(tale, tools=["ask"])
    assert [status.state for status in tale.told] == ["started", "waiting", "resumed", "done"]
    assert len({id(status.story) for status in tale.told}) == 1
    assert tale.texts[2:] == ["w: resumed after 1 h 0 min", "w: done in 9.0 s, 1 tool call (ask)"]


def test_a_resumed_run_counts_the_tools_of_all_its_parts():
    """The duration is the whole run's, and so are the tools; a call that was interrupted and made again is one."""
    tale = Tale()
    root = tale.start(thread="t")
    tale.tool(root, "add")
    tale.err(tale.start(root, "ask", tool=True), GraphInterrupt([Asked("1", SECRET)]), tool=True)
    tale.interrupt(root, Asked("1", SECRET))
    tale.end(root)
    resumed_run(tale, tools=["ask"])
    assert tale.texts[-1].endswith(", 2 tool calls (add, ask)")
    assert tale.told[-1].facts["tool_calls"] == 2


@pytest.mark.parametrize("end", ["failed", "cancelled", "paused"])
def test_a_run_can_be_taken_up_where_it_broke_off(end: str):
    tale = Tale()
    root = tale.start(thread="t")
    tale.start(root, "tools")
    tale.err(root, {"failed": OSError(), "cancelled": CancelledError(), "paused": GraphDrained()}[end])
    resumed_run(tale)
    assert [status.state for status in tale.told] == ["started", end, "resumed", "done"]
    assert len({id(status.story) for status in tale.told}) == 1


def test_a_run_of_another_process_is_resumed_without_its_beginning():
    tale = Tale()
    resumed_run(tale)
    assert tale.texts == ["w: resumed", "w: done in 4.0 s"]


def test_new_input_instead_of_an_answer_is_a_new_story():
    tale = Tale()
    waiting_run(tale)
    root = tale.start(thread="t")
    tale.start(root, "model")
    tale.end(root)
    assert [status.state for status in tale.told] == ["started", "waiting", "started", "done"]
    assert tale.told[1].story is not tale.told[2].story
    resumed_run(tale)  # what waited was given up: this is no continuation of either
    assert tale.told[-1].story not in (tale.told[0].story, tale.told[2].story)


def test_threads_and_names_do_not_mix():
    tale = Tale()
    for name, thread in (("a", "1"), ("a", "2"), ("b", "1")):
        waiting_run(tale, name=name, thread=thread)
    for name, thread in (("b", "1"), ("a", "1"), ("a", "2")):
        resumed_run(tale, name=name, thread=thread)
    stories = defaultdict(list)
    for status in tale.told:
        stories[id(status.story)].append((status.text.split(":")[0], status.state))
    expected = ("started", "waiting", "resumed", "done")
    assert sorted(stories.values()) == [[(name, state) for state in expected] for name in ("a", "a", "b")]


def test_a_run_may_wait_again():
    tale = Tale()
    root = tale.start()
    for _ in range(3):
        tale.interrupt(root, SECRET)
        tale.resume(root)
    tale.end(root)
    assert [status.state for status in tale.told] == ["started", *["waiting", "resumed"] * 3, "done"]
    assert tale.texts[-1] == "w: done in 4.0 s", "the time it waited is not its own"


def test_an_interrupt_below_is_told_once():
    """LangGraph tells of the outermost graph, or of each."""
    tale = Tale()
    root = tale.start()
    inner = tale.start(root, "inner")
    tale.interrupt(inner, SECRET)
    tale.interrupt(inner, SECRET)
    tale.end(inner)
    tale.end(root, interrupted=True)
    assert [status.state for status in tale.told] == ["started", "waiting"]


def test_a_run_may_end_although_a_graph_below_it_waits():
    """It did not pass the question on."""
    tale = Tale()
    root = tale.start()
    inner = tale.start(root, "inner")
    tale.interrupt(inner, SECRET)
    tale.end(inner)
    tale.end(root)
    assert [status.state for status in tale.told] == ["started", "waiting", "done"]
    assert tale.texts[-1] == "w: done in 2.0 s; a graph in it still waits for a human: an answer"


def test_the_time_that_several_graphs_wait_is_counted_for_none():
    tale = Tale()
    root = tale.start()
    left, right = tale.start(root, "left"), tale.start(root, "right")
    tale.interrupt(left, SECRET)
    tale.interrupt(right, SECRET)
    tale.resume(right)
    tale.end(root)
    assert [status.state for status in tale.told] == ["started", "waiting", "waiting", "resumed", "done"]
    assert tale.texts[-1] == "w: done in 4.0 s"


def test_a_resumption_of_a_graph_below_a_resumed_root_is_told_once():
    tale = Tale()
    waiting_run(tale)
    root = tale.start(thread="t")
    tale.resume(root)
    inner = tale.start(root, "inner", thread="t")
    tale.resume(inner)
    tale.end(inner)
    tale.end(root)
    assert [status.state for status in tale.told] == ["started", "waiting", "resumed", "done"]


def test_a_chain_goes_on_with_its_story_when_the_graph_in_it_is_resumed():
    """Only the graph knows its thread; the chain around it starts anew."""
    tale = Tale()
    for again in (False, True):
        root = tale.start(name="chain")
        graph = tale.start(root, "worker", thread="t")
        if again:
            tale.resume(graph)
        tale.start(graph, "tools", thread="t")
        if not again:
            tale.interrupt(graph, SECRET)
        tale.end(graph)
        tale.end(root, interrupted=not again)
    waited = tale.told[1].story
    assert [status.state for status in tale.told if status.story is waited] == ["started", "waiting", "resumed", "done"]


# What is not told


def test_our_own_tools_are_neither_told_nor_counted():
    tale = Tale()
    root = tale.start()
    tale.tool(root, "agentchat_send_message", ignored=True)
    tale.tool(root, "agentchat_send_message", ignored=True, ok=False)
    tale.err(tale.start(root, "agentchat_send_message", tool=True, ignored=True), ValueError(), tool=True)
    tale.tool(root, "add")
    tale.end(root)
    assert tale.texts == ["w: started", "w: done in 9.0 s, 1 tool call (add)"]
    assert tale.told[-1].facts["failed"] == 0


def test_our_own_tool_as_a_root_is_silent():
    tale = Tale()
    for error in (None, ValueError()):
        root = tale.start(name="agentchat_check_board", tool=True, ignored=True)
        tale.end(tale.start(root, "below"))
        tale.err(root, error, tool=True) if error else tale.end(root)
    assert tale.told == []


@pytest.mark.parametrize("thread", [None, "t"])
@pytest.mark.parametrize("error", [None, ValueError()])
def test_what_begins_after_the_end_tells_nothing(thread: str | None, error: Exception | None):
    tale = Tale()
    root = tale.start(thread=thread)
    tale.err(root, error) if error else tale.end(root)
    before = [status.state for status in tale.told]
    late = tale.start(root, "late", tool=True, thread=thread)
    later = tale.start(late, "later", thread=thread)
    tale.interrupt(later, SECRET)
    tale.resume(later)
    for run in (later, late):
        tale.err(run, ValueError(), tool=True)
    tale.end(root)
    tale.err(root, ValueError())
    tale.interrupt(root, SECRET)
    assert [status.state for status in tale.told] == before
    resumed_run(tale, thread="t")
    assert "tool" not in tale.texts[-1], "what was late belongs to no story"


def test_what_ends_after_the_end_tells_nothing():
    tale = Tale()
    root = tale.start()
    early = tale.start(root, "early", tool=True)
    tale.end(root)
    tale.err(early, ValueError(), tool=True)
    assert [status.state for status in tale.told] == ["started", "done"]


def test_orphans_tell_nothing():
    tale = Tale()
    assert tale.end(uuid4()) is None
    assert tale.err(uuid4(), ValueError()) is None
    assert tale.interrupt(uuid4(), SECRET) is None
    assert tale.resume(uuid4()) is None


def test_a_start_that_is_told_twice_is_one_start():
    """A handler that is given twice, by `with_config` and by the call, hears of a run twice."""
    tale = Tale()
    root = tale.start()
    tale.start(id=root)
    for _ in range(2):
        tool = tale.start(root, "add", tool=True)
        tale.start(root, "add", tool=True, id=tool)
        for _ in range(2):
            tale.end(tool, failed=True)
    for _ in range(2):
        tale.end(root)
    assert [status.state for status in tale.told] == ["started", "done"]
    assert tale.texts[-1].endswith(", 2 tool calls (add x2; 2 failed)")


def test_ends_out_of_order_change_nothing():
    tale = Tale()
    root = tale.start()
    node = tale.start(root, "node")
    tool = tale.start(node, "add", tool=True)
    tale.end(node)
    other = tale.start(node, "rm", tool=True)  # begun by what has ended
    tale.end(other)
    tale.end(tool, failed=True)
    tale.end(root)
    assert tale.texts[-1] == "w: done in 7.0 s, 2 tool calls (add, rm; 1 failed)"


# Notes


def test_what_was_said_is_told_where_it_is_asked_for_and_nowhere_else():
    tale = Tale()
    made: list[str] = []

    def note(text: str) -> Callable[[], str]:
        return lambda: made.append(text) or text

    root = tale.start(note=note("in"))
    tool = tale.start(root, "add", tool=True, note=note("tool's"))
    tale.end(tool, note=note("tool's"))
    tale.end(root, note=note("out"))
    assert [status.note for status in tale.told] == ["in", "out"]
    assert made == ["in", "out"], "what is not told is not even made"


def test_a_held_start_keeps_its_note():
    tale = Tale()
    root = tale.start(thread="t", note=lambda: "in")
    tale.start(root, "model", note=lambda: "the model's")
    assert [(status.state, status.note) for status in tale.told] == [("started", "in")]


# Any sequence of events


_POOL = [UUID(int=n) for n in range(7)]
_ids = st.sampled_from(_POOL)
_threads = st.sampled_from([None, f"{SECRET}-1", f"{SECRET}-2"])
_odd_names = st.sampled_from(["w", "tools", "", "two\nlines", "@mac-bob", "x" * 500, "\x1b[31m", "\ud800"])
_values = st.sampled_from([SECRET, {"question": SECRET}, approval("add"), one_approval("rm"), None, 7, [SECRET], {}])
_pending = st.lists(st.builds(Asked, st.sampled_from(["i1", "i2", ""]), _values), max_size=3)
_errors = st.one_of(
    st.sampled_from([ValueError(SECRET), CancelledError(SECRET), GeneratorExit(), GraphDrained(), ParentCommand()]),
    st.sampled_from([GraphInterrupt(), GraphInterrupt(None), GraphInterrupt(SECRET), GraphInterrupt([SECRET])]),
    _pending.map(GraphInterrupt),
)
_events = st.one_of(
    st.fixed_dictionaries(
        {
            "do": st.just("started"),
            "run_id": _ids,
            "parent_id": st.none() | _ids,
            "name": _odd_names,
            "thread": _threads,
            "label": st.none() | _odd_names,
            "tool": st.booleans(),
            "ignored": st.booleans(),
        }
    ),
    st.fixed_dictionaries(
        {"do": st.just("ended"), "run_id": _ids, "failed": st.booleans(), "interrupted": st.booleans()}
    ),
    st.fixed_dictionaries({"do": st.just("erred"), "run_id": _ids, "error": _errors, "tool": st.booleans()}),
    st.fixed_dictionaries({"do": st.just("interrupted"), "run_id": _ids, "pending": _pending}),
    st.fixed_dictionaries({"do": st.just("resumed"), "run_id": _ids}),
)
_positional = {"started": ("parent_id", "name"), "erred": ("error",), "interrupted": ("pending",)}


def tell(runs: Runs, event: dict[str, Any], now: float) -> Status | None:
    more = dict(event)
    do, run_id = more.pop("do"), more.pop("run_id")
    between = [more.pop(name) for name in _positional.get(do, ())]
    return getattr(runs, do)(run_id, *between, now, **more)


@given(st.lists(st.tuples(_events, st.floats(-5, 5000)), max_size=60))
def test_any_events_tell_a_story_that_makes_sense(events: list[tuple[dict[str, Any], float]]):
    runs, now = Runs(), 0.0
    by_run: dict[Any, list[Status]] = defaultdict(list)
    for event, passed in events:
        now += passed
        if (status := tell(runs, event, now)) is not None:
            by_run[status.facts["run_id"], status.story].append(status)
            assert SECRET not in f"{status.text}{dict(status.facts)}"
            assert "\n" not in status.text
            assert len(status.text) < 1500
            assert status.note is None
    for statuses in by_run.values():
        assert_makes_sense([status.state for status in statuses])


def assert_makes_sense(states: list[str]) -> None:
    """One run's statuses in one story: in the order of the diagram, and at most two besides those of its pauses."""
    for before, after in zip([None, *states], states, strict=False):
        assert after in NEXT[before], states
    assert len(states) <= 2 + 2 * sum(state == "waiting" or state in TERMINAL for state in states[:-1]), states


# Real trees, interleaved


class _Branch(NamedTuple):
    name: str
    tool: bool
    ok: bool
    below: list[Any]


_branches = st.recursive(
    st.builds(_Branch, st.sampled_from(["add", "rm"]), st.just(True), st.booleans(), st.just([])),
    lambda below: st.builds(
        _Branch, st.sampled_from(["node", "sub"]), st.booleans(), st.booleans(), st.lists(below, max_size=4)
    ),
    max_leaves=12,
)


def walk(tale: Tale, parent: UUID, branch: _Branch, counts: list[int]) -> Iterator[None]:
    """The events of a branch, one by one, so that others may come between."""
    run = tale.start(parent, branch.name, tool=branch.tool)
    counts[0] += branch.tool
    yield
    for each in branch.below:
        yield from walk(tale, run, each, counts)
    if branch.ok:
        tale.end(run)
    elif branch.tool:
        counts[1] += 1
        tale.end(run, failed=True)
    else:
        tale.err(run, ValueError(SECRET))
    yield


@given(st.lists(st.lists(_branches, max_size=4), min_size=1, max_size=3), st.data())
def test_parallel_branches_of_parallel_runs_are_counted_for_their_root(forest: list[list[_Branch]], data: Any):
    tale = Tale()
    roots = [tale.start(name=f"root-{n}") for n in range(len(forest))]
    counts = [[0, 0] for _ in forest]
    running = [
        (walk(tale, root, branch, count))
        for root, branches, count in zip(roots, forest, counts, strict=True)
        for branch in branches
    ]
    while running:
        branch = data.draw(st.sampled_from(running))
        if next(branch, branch) is branch:
            running.remove(branch)
    assert [status.state for status in tale.told] == ["started"] * len(roots)
    for root, (called, failed) in zip(roots, counts, strict=True):
        status = tale.end(root)
        assert status is not None
        assert (status.facts["tool_calls"], status.facts["failed"]) == (called, failed)
        if called:
            assert f"{called} tool call{'s' if called > 1 else ''} (" in status.text
            assert ("failed)" in status.text) == bool(failed)


# Memory


def _roots_that_never_end(tale: Tale, n: int) -> None:
    tale.start(name=f"run-{n}")


def _runs_of_ever_new_threads(tale: Tale, n: int) -> None:
    waiting_run(tale, thread=f"thread-{n}")


def _strangers(tale: Tale, n: int) -> None:
    tale.end(uuid4())
    tale.err(uuid4(), ValueError())


def _below_one_root(tale: Tale, n: int) -> None:
    tale.tool(_only_root(tale), "add", thread="t")


def _below_one_root_without_an_end(tale: Tale, n: int) -> None:
    tale.start(_only_root(tale), "add", tool=True)


def _questions_of_one_run(tale: Tale, n: int) -> None:
    tool = tale.start(_only_root(tale), "ask", tool=True)
    tale.err(tool, GraphInterrupt([Asked(f"interrupt-{n}", SECRET)]), tool=True)


def _tools_of_ever_new_names(tale: Tale, n: int) -> None:
    tale.tool(_only_root(tale), f"tool-{n}")


def _only_root(tale: Tale) -> UUID:
    if not tale.told:
        tale.start(id=_POOL[0])
    return _POOL[0]


@pytest.mark.parametrize(
    ("event", "rounds"),
    [
        (_roots_that_never_end, 100_000),
        (_runs_of_ever_new_threads, 20_000),
        (_strangers, 50_000),
        (_below_one_root, 50_000),
        (_below_one_root_without_an_end, 100_000),
        (_questions_of_one_run, 50_000),
        (_tools_of_ever_new_names, 50_000),
    ],
)
def test_memory_stays_bounded_over_100_000_events(event: Callable[[Tale, int], None], rounds: int):
    tale = Tale(step=0)
    sizes = []
    for n in range(1, rounds + 1):
        event(tale, n)
        del tale.told[1:]
        if n in (rounds // 3, rounds):
            sizes.append(len(pickle.dumps(tale.runs)))
    assert sizes[1] <= sizes[0] * 1.1, sizes


def test_runs_at_work_are_not_forgotten_for_what_is_below_one_of_them():
    tale = Tale(step=0)
    roots = [tale.start(name=f"root-{n}") for n in range(5)]
    for _ in range(12_000):
        tale.tool(roots[2])
    for root in roots:
        status = tale.end(root)
        assert status is not None
        assert status.state == "done"
    assert tale.told[-3].facts["tool_calls"] == 12_000
    assert len(tale.told) == 10


def test_a_graph_below_a_root_is_not_forgotten_while_it_works():
    """Or else all its further steps would be taken for runs of their own."""
    tale = Tale(step=0)
    root = tale.start(name="outer")
    inner = tale.start(root, "inner")
    for _ in range(12_000):
        tale.tool(inner)
    tale.end(inner)
    tale.end(root)
    assert tale.texts == ["outer: started", "outer: done in 0.0 s, 12000 tool calls (add x12000)"]


# Words


@given(st.floats(0, 1e7))
@example(9.96)
@example(59.7)
@example(3599.6)
def test_durations_are_said_as_people_say_them(seconds: float):
    said = duration(seconds)
    units = {"h": 3600, "min": 60, "s": 1}
    parts = [(float(number), unit) for number, unit in re.findall(r"([\d.]+) (h|min|s)\b", said)]
    assert said == " ".join(f"{number:g} {unit}" if unit != "s" or "." not in said else said for number, unit in parts)
    heard = sum(number * units[unit] for number, unit in parts)
    assert abs(heard - seconds) <= (0.0501 if seconds < 10 else 0.501 if seconds < 3600 else 60)
    assert all(number < 60 for number, unit in parts if unit != "h"), said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-1, "0.0 s"), (0, "0.0 s"), (3.14, "3.1 s"), (42, "42 s"), (60, "1 min 0 s"), (3661, "1 h 1 min")],
)
def test_a_duration(seconds: float, said: str):
    assert duration(seconds) == said


@given(st.text() | st.none() | st.integers() | st.just(object()))
def test_a_name_is_one_short_harmless_word(name: Any):
    word = shown(name)
    assert 0 < len(word) <= 80
    assert not re.search(r"\s", word)
    word.encode()


def test_many_names_are_cut_and_counted():
    tale = Tale()
    root = tale.start()
    for n in range(20):
        tale.tool(root, f"tool_{n}")
    status = tale.end(root)
    assert status is not None
    assert status.text.endswith("20 tool calls (" + ", ".join(f"tool_{n}" for n in range(8)) + " and 12 more)")
