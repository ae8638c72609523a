"""The handler with langchain-core alone: chains, models, tools, retrievers; content; events that are odd."""

from __future__ import annotations

import asyncio
import copy
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableGenerator, RunnableLambda, RunnableParallel
from langchain_core.tools import BaseTool, ToolException, tool

from agentchat import Client
from agentchat.errors import InvalidArguments
from langchain_agentchat import AgentChatCallbackHandler, AgentChatToolkit, AsyncClient
from tests.langchain_agentchat import scripted
from tests.langchain_agentchat.conftest import Colour, Scene, fresh, tool_call
from tests.langchain_agentchat.scripted import PATIENCE, SECRET, Board, Drive, Model, secret
from tests.servers import refusing

board, drive = scripted.board, scripted.drive  # fixtures


@tool
def add(a: int = 1) -> str:
    """Add."""
    return secret("sum")


@tool
def boom() -> str:
    """Fail."""
    raise ValueError(secret("boom"))


@tool
def handled() -> str:
    """Fail, and tell it."""
    raise ToolException(secret("handled"))


handled.handle_tool_error = True


class Retriever(BaseRetriever):
    def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
        return [Document(secret("document"))]


def chain(board: Board, *tools: BaseTool, name: str = "chain") -> Any:
    """Calls each tool, one after another."""

    def work(given: Any) -> Any:
        board.flush()
        return [each.invoke(tool_call(each)).content for each in tools] or given

    return RunnableLambda(work, name=name)


# What is told


def test_a_chain(board: Board, drive: Drive):
    drive(chain(board, add, handled, add), secret("in"), {"callbacks": [board.handler()]})
    assert board.story() == ["chain: started", "chain: done in T, 3 tool calls (add x2, handled; 1 failed)"]


def test_a_chain_whose_tool_raises(board: Board, drive: Drive):
    with pytest.raises(ValueError):
        drive(chain(board, add, boom), secret("in"), {"callbacks": [board.handler()]})
    assert board.story() == [
        "chain: started",
        "chain: failed after T: ValueError in tool boom, 2 tool calls (add, boom; 1 failed)",
    ]


def test_a_sequence_is_one_run(board: Board, drive: Drive):
    run = chain(board) | RunnableParallel(left=chain(board, add), right=chain(board, add)) | RunnableLambda(str)
    drive(run.with_config(run_name="pipeline"), secret("in"), {"callbacks": [board.handler()]})
    assert board.story() == ["pipeline: started", "pipeline: done in T, 2 tool calls (add x2)"]


def test_a_model(board: Board, drive: Drive):
    model = Model(lines=[AIMessage(secret("said"))], between=board.flush)
    drive(model, secret("in"), {"callbacks": [board.handler()]})
    assert board.story() == ["Model: started", "Model: done in T"]


def test_a_model_that_fails(board: Board, drive: Drive):
    model = Model(lines=[OSError(secret("in"))], between=board.flush)
    with pytest.raises(OSError):
        drive(model, secret("in"), {"callbacks": [board.handler()]})
    assert board.story() == ["Model: started", "Model: failed after T: OSError"]


def test_a_retriever(board: Board, drive: Drive):
    """It works too fast for its beginning to be told apart, unless the poster is faster."""
    drive(Retriever(), secret("query"), {"callbacks": [board.handler()]})
    assert board.story()[-1] == "Retriever: done in T"


def test_a_tool(board: Board, colour: Colour):
    handler = board.handler()
    colour.run(add, {"a": 1}, {"callbacks": [handler]})
    with pytest.raises(ValueError):
        colour.run(boom, {}, {"callbacks": [handler]})
    assert [story[-1] for story in board.stories()] == ["add: done in T", "boom: failed after T: ValueError"]


def test_several_runs_at_once_are_several_stories(board: Board, colour: Colour):
    met = threading.Barrier(4)

    def work(given: Any) -> Any:
        met.wait(PATIENCE)
        board.flush()
        add.invoke({})
        met.wait(PATIENCE)
        return given

    run, config = RunnableLambda(work, name="chain"), {"callbacks": [board.handler()], "max_concurrency": 4}
    inputs = [secret(str(n)) for n in range(4)]
    if colour.asynchronous:
        assert colour.runner.run(run.abatch(inputs, config)) == inputs
    else:
        assert run.batch(inputs, config) == inputs
    assert board.stories() == [["chain: started", "chain: done in T, 1 tool call (add)"]] * 4


def test_the_result_and_the_error_are_the_runs_own(board: Board, colour: Colour):
    error = ValueError(secret("boom"))

    def fail(given: Any) -> Any:
        raise error

    config = {"callbacks": [board.handler()]}
    given = {"deep": [secret("in")]}
    assert colour.run(RunnableLambda(lambda given: given), given, config) is given
    with pytest.raises(ValueError) as caught:
        colour.run(RunnableLambda(fail), given, config)
    assert caught.value is error


def test_a_cancelled_task(board: Board):
    handler = board.handler()

    async def main() -> None:
        working, never = asyncio.Event(), asyncio.Event()

        async def work(given: Any) -> Any:
            working.set()
            await never.wait()

        task = asyncio.create_task(RunnableLambda(work, name="chain").ainvoke(secret("in"), {"callbacks": [handler]}))
        await working.wait()
        await asyncio.to_thread(board.flush)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert board.story() == ["chain: started", "chain: cancelled after T"]


def test_an_abandoned_stream(board: Board):
    """Of a plain chain, LangChain reports the synchronous one as an ordinary end."""

    async def work(given: Any) -> Any:
        await asyncio.to_thread(board.flush)
        yield secret("one")
        yield secret("two")

    async def main() -> None:
        stream = RunnableGenerator(work, name="chain").astream(secret("in"), {"callbacks": [board.handler()]})
        async for _ in stream:
            break
        await stream.aclose()

    asyncio.run(main())
    assert board.story() == ["chain: started", "chain: cancelled after T"]


# Where the handler may be


def test_the_handler_of_a_model(board: Board, colour: Colour):
    """The model's constructor: the chain around it is not seen."""
    model = Model(lines=[AIMessage(secret("said"))], between=board.flush, callbacks=[board.handler()])
    colour.run(chain(board) | model, secret("in"))
    assert board.story() == ["Model: started", "Model: done in T"]


@pytest.mark.parametrize("places", [("with",), ("call",), ("with", "call"), ("with", "with", "call", "call")])
def test_wherever_the_handler_is_a_run_is_told_once(board: Board, drive: Drive, places: tuple[str, ...]):
    handler = board.handler()
    model = Model(lines=[], between=board.flush, callbacks=[handler])
    run = (model | chain(board, add)).with_config(run_name="chain")
    for _ in range(places.count("with")):
        run = run.with_config(callbacks=[handler])
    drive(run, secret("in"), {"callbacks": [handler] * places.count("call")})
    assert board.story() == ["chain: started", "chain: done in T, 1 tool call (add)"]


def test_two_handlers_do_not_disturb_each_other(board: Board, colour: Colour):
    handlers = [board.handler(name="one"), board.handler(name="two")]
    colour.run(chain(board, add), secret("in"), {"callbacks": handlers})
    assert sorted(board.stories()) == [
        [f"{name}: started", f"{name}: done in T, 1 tool call (add)"] for name in ("one", "two")
    ]


def test_a_handler_has_a_client_of_either_colour(board: Board, colour: Colour):
    client: Any = AsyncClient if colour.asynchronous else Client
    handler = board.handler(colour.keep(client(board.relay.url, board.key)))
    colour.run(chain(board, add), secret("in"), {"callbacks": [handler]})
    assert board.story() == ["chain: started", "chain: done in T, 1 tool call (add)"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"channel": "no such\nname"}, "channel"),
        ({"channel": ""}, "channel"),
        ({"include": ["input"]}, "inputs"),
        ({"include": "secrets"}, "include"),
        ({"channel": "direct-messages"}, "direct-messages"),
        ({"max_pending": 0}, "max_pending"),
        ({"drain_seconds": -1}, "drain_seconds"),
    ],
)
def test_wrong_options_are_refused_at_once(board: Board, options: dict[str, Any], problem: str):
    with pytest.raises(InvalidArguments, match=problem):
        AgentChatCallbackHandler(board.client(), **options)


def test_a_copied_model_reports_through_the_same_handler(board: Board, colour: Colour):
    """As LangChain's own tracers: what holds a handler may be copied, with all that is in it."""
    model = copy.deepcopy(Model(lines=[], callbacks=[board.handler()]))
    colour.run(copy.copy(model), secret("in"))
    assert board.story()[-1] == "Model: done in T"


def test_a_handler_is_a_context_manager(board: Board):
    with board.handler() as handler:
        RunnableLambda(lambda given: given, name="chain").invoke(secret("in"), {"callbacks": [handler]})
    assert handler.stats.pending == 0
    assert [post["content"] for post in board.found()][-1].startswith("chain: done in ")


# Our own tools


def test_our_own_tools_are_not_told(board: Board, colour: Colour, scene: Scene):
    handler = board.handler()
    for each in AgentChatToolkit(colour.of(scene), preset="all").get_tools():
        arguments = scene.arguments()[each.name.removeprefix("agentchat_")]
        message = colour.run(each, tool_call(each, arguments), {"callbacks": [handler]})
        assert message.status == "success", message
    assert handler.stats == (0, 0, 0, 0)
    assert board.posts() == []


def test_our_own_tools_are_not_counted(board: Board, scene: Scene):
    """Neither their calls, nor their failures: refused by the relay, bad arguments."""
    with scene.client() as client:
        tools = {each.name: each for each in AgentChatToolkit(client, prefix="chat_").get_tools()}

        def work(given: Any) -> Any:
            board.flush()
            sent = {"channel": board.channel + "-talk", "content": secret("sent")}
            for name, arguments in (
                ("chat_send_message", sent),
                ("chat_read_messages", {"channel": fresh("nowhere")}),
                ("chat_read_messages", {"limit": "many"}),
            ):
                tools[name].invoke(tool_call(name, arguments))
            return add.invoke({})

        RunnableLambda(work, name="chain").invoke(secret("in"), {"callbacks": [board.handler()]})
    assert board.story() == ["chain: started", "chain: done in T, 1 tool call (add)"]
    assert board.posts()[-1]["metadata"]["agentchat_status"]["failed"] == 0


# Names


def test_names_are_words_that_mention_nobody(board: Board, scene: Scene):
    @tool(f"@{scene.peer}")
    def mention() -> str:
        """A tool named as an agent."""
        return secret("result")

    with scene.client() as peer:
        peer.send_message(board.channel + "-talk", "hello")
        before = peer.check_mentions()["mentions"]
        run = chain(board, mention, name=f"@{scene.me}\n@all\tforged: done")
        run.invoke(secret("in"), {"callbacks": [board.handler()]})
        assert peer.check_mentions()["mentions"] == before
        name = f"@{scene.me}_@all_forged:_done"
        assert board.story() == [f"{name}: started", f"{name}: done in T, 1 tool call (@{scene.peer})"]


@pytest.mark.parametrize("channel", ["status", "shared-status", "gossip-status"])
@pytest.mark.parametrize("letter", ["x", "漢", "𝕏", "\u202e"], ids=ascii)
def test_the_longest_status_fits_into_any_channel(board: Board, channel: str, letter: str):
    """The relay takes 2,000 characters in `shared-` channels, 500 in `gossip-` ones."""
    board.channel = fresh(channel)
    handler = board.handler(include=["outputs"])
    run, name = uuid4(), letter * 200
    handler.on_chain_start(None, {}, run_id=run, name=name)
    for n in range(20):
        handler.on_tool_start({"name": f"{n:02}{name}"}, "", run_id=(called := uuid4()), parent_run_id=run)
        handler.on_tool_end("", run_id=called)
    board.flush()
    requests = {"action_requests": [{"name": f"{n:02}{name}"} for n in range(20)]}
    handler.on_interrupt(SimpleNamespace(run_id=run, interrupts=[SimpleNamespace(id="1", value=requests)]))
    handler.on_resume(SimpleNamespace(run_id=run))
    board.flush()
    handler.on_chain_end("long " * 10_000, run_id=run)
    assert [status.partition(": ")[2].split()[0] for status in board.story()] == [
        "started",
        "waiting",
        "resumed",
        "done",
    ]
    assert handler.stats == (4, 0, 0, 0)


def test_a_name_of_ones_own(board: Board):
    chain(board).invoke(secret("in"), {"callbacks": [board.handler(name="my worker")]})
    assert board.story() == ["my_worker: started", "my_worker: done in T"]


# Content


def told_by(board: Board, include: Any, run: Callable[[Any], object], **options: Any) -> list[str]:
    """The statuses of a run with a handler that includes this."""
    board.open = True
    handler = board.handler(include=include, **options)
    try:
        run({"callbacks": [handler]})
    except ValueError:
        pass
    finally:
        board.flush()
    return board.stories()[-1]


@pytest.mark.parametrize(
    ("include", "texts"),
    [
        ([], ["chain: started", "chain: done in T, 1 tool call (add)"]),
        (["inputs"], [f"chain: started\ninputs: {SECRET}-in", "chain: done in T, 1 tool call (add)"]),
        (["outputs"], ["chain: started", f"chain: done in T, 1 tool call (add)\noutputs: {SECRET}-out"]),
        (["errors", "interrupts"], ["chain: started", "chain: done in T, 1 tool call (add)"]),
    ],
)
def test_exactly_what_is_included_is_told(board: Board, include: list[str], texts: list[str]):
    def work(given: Any) -> str:
        board.flush()
        add.invoke({"a": 7})
        return secret("out")

    run = RunnableLambda(work, name="chain")
    assert told_by(board, include, lambda config: run.invoke(secret("in"), config)) == texts


@pytest.mark.parametrize(
    ("include", "last"),
    [
        (["errors"], f"\nerrors: {SECRET}-boom"),
        (["inputs", "outputs", "interrupts"], ""),
    ],
)
def test_the_text_of_an_error_is_told_if_it_is_included(board: Board, include: list[str], last: str):
    told = told_by(board, include, lambda config: chain(board, boom).invoke("x", config))
    assert told[-1] == "chain: failed after T: ValueError in tool boom, 1 tool call (boom; 1 failed)" + last


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain", "plain"),
        ({"messages": [HumanMessage("first"), HumanMessage("latest")]}, "latest"),
        ({"question": "what?", "n": 1}, '{"question": "what?", "n": 1}'),
        (["a", "b"], '["a", "b"]'),
        ({"name": "Zoë"}, '{"name": "Zoë"}'),
        (7, "7"),
        (True, "true"),
    ],
)
def test_content_reads_as_people_would_quote_it(board: Board, given: Any, shown: str):
    told = told_by(board, ["inputs"], lambda config: chain(board).invoke(given, config))
    assert told == [f"chain: started\ninputs: {shown}", "chain: done in T"]


def test_what_a_model_said_is_its_text(board: Board):
    model = Model(lines=[AIMessage("hello there")], between=board.flush)
    told = told_by(board, ["inputs", "outputs"], lambda config: model.invoke([HumanMessage("hi")], config))
    assert told == ["Model: started\ninputs: hi", "Model: done in T\noutputs: hello there"]


def test_long_content_is_cut(board: Board):
    told = told_by(board, ["inputs"], lambda config: chain(board).invoke("long " * 10_000, config))
    assert told[0].startswith("chain: started\ninputs: long long")
    assert told[0].endswith("…")
    assert len(told[0]) < 3_000


@pytest.mark.parametrize(
    ("length", "told"),
    [
        (20_000, "***"),
        (20_001, "(a text of 20001 characters, too long to be redacted)"),
        (4_000_000, "(a text of 4000000 characters, too long to be redacted)"),
    ],
)
def test_redaction_sees_a_text_whole_or_the_text_is_left_out(board: Board, length: int, told: str):
    """A hook knows a secret by its end, too."""
    seen: list[str] = []

    def redact(text: str) -> str:
        seen.append(text)
        return text.partition(SECRET)[0] + "***" if text.endswith("END") else text

    said = secret("begins").ljust(length - 3, ".") + "END"
    posts = told_by(board, ["inputs"], lambda config: chain(board).invoke(said, config), redact=redact)
    assert posts[0] == f"chain: started\ninputs: {told}"
    assert len(seen[0]) < 20_100
    board.open = False  # nothing of it was told


def test_content_is_redacted(board: Board):
    def work(given: Any) -> Any:
        board.flush()
        return secret("out")

    run = RunnableLambda(work, name="chain")
    told = told_by(
        board,
        ["inputs", "outputs"],
        lambda config: run.invoke(secret("in"), config),
        redact=lambda text: text.replace(SECRET, "***"),
    )
    assert told == ["chain: started\ninputs: ***-in", "chain: done in T\noutputs: ***-out"]


def test_content_that_cannot_be_redacted_is_left_out(board: Board):
    def fail(text: str) -> str:
        raise ValueError(text)

    told = told_by(board, ["inputs"], lambda config: chain(board).invoke(secret("in"), config), redact=fail)
    assert told[0].startswith("chain: started")
    assert told[1] == "chain: done in T"
    assert board.silent


class _Unprintable:
    def __repr__(self) -> str:
        raise ValueError(SECRET)


class _OddContent:
    @property
    def content(self) -> Any:
        raise ValueError(SECRET)


class _Array:
    """As of numpy: comparing gives no truth."""

    def __eq__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise ValueError(SECRET)

    __hash__ = None  # type: ignore[assignment]


class _OddMapping(Mapping[str, Any]):
    def __getitem__(self, name: str) -> Any:
        raise ValueError(SECRET)

    def __iter__(self) -> Any:
        raise ValueError(SECRET)

    def __len__(self) -> int:
        return 1


def _circle() -> dict[str, Any]:
    made: dict[str, Any] = {}
    made["self"] = made
    return made


@pytest.mark.parametrize(
    "odd",
    [
        {("a", 1): 2},
        _circle(),
        _Unprintable(),
        [_Unprintable()],
        _OddContent(),
        _OddMapping(),
        SimpleNamespace(content=_Array()),
        {"messages": [_Unprintable()]},
        "half \ud800 of a pair",
        "NUL \0",
        b"\xff",
        float("nan"),
        None,
        [],
        {"messages": []},
    ],
    ids=lambda odd: type(odd).__name__,
)
def test_odd_content_costs_no_status(board: Board, odd: Any):
    board.open = True

    def work(given: Any) -> Any:
        board.flush()
        add.invoke({})
        return odd

    handler = board.handler(include=["inputs", "outputs"])
    RunnableLambda(work, name="chain").invoke(odd, {"callbacks": [handler]})
    first_lines = [[text.splitlines()[0] for text in story] for story in board.stories()]
    assert first_lines == [["chain: started", "chain: done in T, 1 tool call (add)"]]
    assert handler.stats.dropped == 0


# The handler never raises


@pytest.mark.parametrize(
    "start",
    [
        {"serialized": None},
        {"serialized": {}},
        {"serialized": {"id": ["langchain", "Thing"]}},
        {"serialized": {"id": "no list"}},
        {"serialized": {"id": [], "name": None}},
        {"serialized": {"name": 7}},
        {"serialized": ["odd"]},
        {"name": ""},
        {"name": None},
        {"name": 7},
        {"name": object()},
        {"name": "x" * 100_000},
        {"name": "a\nb: done\r\n\x1b[31m\u2028@all"},
        {"name": "\ud800"},
        {"name": "𝕏" * 100},
        {"metadata": None},
        {"metadata": []},
        {"metadata": {"thread_id": 7}},
        {"metadata": {"thread_id": uuid4()}},
        {"metadata": {"thread_id": ["a"]}},
        {"metadata": {"thread_id": _Unprintable()}},
        {"metadata": {"thread_id": _Array()}},
    ],
    ids=lambda start: ",".join(f"{name}={type(value).__name__}" for name, value in start.items()),
)
def test_odd_starts_are_told_all_the_same(board: Board, start: dict[str, Any]):
    handler = board.handler()
    run = uuid4()
    handler.on_chain_start(
        start.get("serialized"), {}, run_id=run, name=start.get("name"), metadata=start.get("metadata")
    )
    handler.on_tool_start(None, "", run_id=(called := uuid4()), parent_run_id=run)
    board.flush()
    handler.on_tool_end("", run_id=called)
    handler.on_chain_end({}, run_id=run)
    first, last = board.story()
    assert first.endswith(": started")
    assert ": done in T, 1 tool call (run)" in last
    for text in (first, last):
        assert "\n" not in text
        assert len(text) < 300


@pytest.mark.parametrize(
    "output",
    [
        None,
        SimpleNamespace(status=_Array()),
        SimpleNamespace(status=["error"]),
        _OddMapping(),
        _Unprintable(),
        type("Odd", (), {"status": property(lambda self: 1 / 0)})(),
        type("Odd", (), {"__getattr__": lambda self, name: 1 / 0})(),
    ],
    ids=lambda output: type(output).__name__,
)
def test_odd_results_are_told_all_the_same(board: Board, output: Any):
    handler = board.handler()
    run, called = uuid4(), uuid4()
    handler.on_chain_start(None, {}, run_id=run, name="chain")
    handler.on_tool_start(None, "", run_id=called, parent_run_id=run, name="odd")
    handler.on_tool_end(output, run_id=called)
    handler.on_chain_end(output, run_id=run)
    assert board.story()[-1] == "chain: done in T, 1 tool call (odd)"


class _OddEvent:
    interrupts = ()

    @property
    def run_id(self) -> Any:
        raise ValueError(SECRET)


def test_events_of_unknown_runs_and_odd_events_tell_nothing(board: Board, caplog: pytest.LogCaptureFixture):
    """Not even the log hears what they say."""
    handler = board.handler()
    for event in (
        lambda: handler.on_chain_end(None, run_id=uuid4()),
        lambda: handler.on_tool_end(None, run_id=uuid4()),
        lambda: handler.on_llm_end(None, run_id=uuid4()),
        lambda: handler.on_retriever_end(None, run_id=uuid4()),
        lambda: handler.on_chain_error(ValueError(SECRET), run_id=uuid4()),
        lambda: handler.on_tool_error(ValueError(SECRET), run_id=uuid4(), tool_call_id="x"),
        lambda: handler.on_interrupt(SimpleNamespace(run_id=uuid4(), interrupts=())),
        lambda: handler.on_interrupt(SimpleNamespace(run_id=uuid4(), interrupts=None)),
        lambda: handler.on_interrupt(SimpleNamespace(interrupts=[SimpleNamespace()])),
        lambda: handler.on_interrupt(None),
        lambda: handler.on_resume(SimpleNamespace(run_id=uuid4())),
        lambda: handler.on_resume(None),
        lambda: handler.on_interrupt(_OddEvent()),
        lambda: handler.on_resume(_OddEvent()),
    ):
        event()
    assert board.posts() == []
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "error", [ValueError(SECRET), RuntimeError(), OSError()], ids=lambda error: type(error).__name__
)
def test_a_client_that_fails_is_not_the_runs_business(
    board: Board, colour: Colour, error: Exception, caplog: pytest.LogCaptureFixture
):
    class Failing:
        def send_message(self, *args: Any, **options: Any) -> Any:
            raise error

    handler = board.handler(Failing())
    run = chain(board, add)
    assert colour.run(run, secret("in"), {"callbacks": [handler]}) == [secret("sum")]
    board.flush()
    assert handler.stats == (0, 0, 2, 0)
    assert not [record for record in caplog.records if record.name.startswith("langchain")]


def test_a_relay_that_is_away_is_not_the_runs_business(board: Board, colour: Colour):
    with refusing() as url:
        handler = AgentChatCallbackHandler(board.client(url), board.channel, drain_seconds=0.1)
    run = RunnableLambda(lambda given: given, name="chain")
    assert colour.run(run, secret("in"), {"callbacks": [handler]}) == secret("in")
    handler.close()
    assert handler.stats.posted == 0
    assert handler.stats.pending >= 1


def test_events_from_many_threads_are_all_counted(board: Board):
    handler = board.handler()
    handler.on_chain_start(None, {}, run_id=(run := uuid4()), name="chain")

    def work() -> None:
        for _ in range(500):
            handler.on_tool_start(None, "", run_id=(called := uuid4()), parent_run_id=run, name="add")
            handler.on_tool_end("", run_id=called)

    workers = [threading.Thread(target=work) for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(interval)
    handler.on_chain_end({}, run_id=run)
    assert board.story()[-1] == "chain: done in T, 4000 tool calls (add x4000)"


def test_an_event_in_the_middle_of_an_event(board: Board):
    """An abandoned stream reports its end from the garbage collector, which may run anywhere."""
    board.open = True
    handler = board.handler(include=["inputs"])
    abandoned = uuid4()
    handler.on_chain_start(None, "x", run_id=abandoned, name="abandoned")

    class Collected:
        def __repr__(self) -> str:
            handler.on_chain_error(GeneratorExit(), run_id=abandoned)
            return "collected"

    handler.on_chain_start(None, Collected(), run_id=(run := uuid4()), name="chain")
    handler.on_chain_end(None, run_id=run)
    last = [story[-1].splitlines()[0] for story in board.stories()]
    assert last == ["abandoned: cancelled after T", "chain: done in T"]


def test_the_handler_is_one_of_langchains():
    assert issubclass(AgentChatCallbackHandler, BaseCallbackHandler)
    assert AgentChatCallbackHandler.run_inline, "or else each event costs a thread"
    assert not AgentChatCallbackHandler.raise_error


# Processes

SCRIPT = """
import os, signal, sys, threading
url, key, channel = sys.argv[1:]
from uuid import uuid4
from langchain_core.runnables import RunnableLambda
from agentchat import Client
from langchain_agentchat import AgentChatCallbackHandler
client = Client(url, key, retries=0)
"""


def process(board: Board, script: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + script, board.relay.url, board.key, board.channel],
        env=scripted.environ(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_run_that_ends_with_the_program_is_told(board: Board):
    script = """
handler = AgentChatCallbackHandler(client, channel)
RunnableLambda(lambda given: sys.exit(3), name="chain").invoke("x", {"callbacks": [handler]})
"""
    code, errors = process(board, script)
    assert code == 3, errors
    assert board.story()[-1] == "chain: cancelled after T"


def test_a_fork_in_the_middle_of_an_event(board: Board):
    """Another thread notes an event, and so holds a lock, which the child has a copy of."""
    board.open = True
    script = """
handler = AgentChatCallbackHandler(client, channel, include=["inputs"])
noting, forked = threading.Event(), threading.Event()
class Slow:
    def __repr__(self):
        noting.set()
        forked.wait(60)
        return "slow"
thread = threading.Thread(target=lambda: handler.on_chain_start(None, Slow(), run_id=uuid4(), name="parent"))
thread.start()
noting.wait(60)
pid = os.fork()
if pid == 0:
    signal.alarm(30)
    run = uuid4()
    handler.on_chain_start(None, "x", run_id=run, name="child")
    handler.on_chain_end(None, run_id=run)
    os._exit(0 if handler.flush(20) else 1)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
forked.set()
thread.join()
sys.exit(code)
"""
    code, errors = process(board, script)
    assert code == 0, errors
    assert sorted(story[-1].splitlines()[0] for story in board.stories()) == ["child: done in T", "parent: started"]
