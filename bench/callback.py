"""What it costs a run to be reported: a scripted agent with our handler, without, and with other handlers.

    python bench/callback.py [--tiny] [--json] [--only runs|events|memory]

`runs`: the agent asks its model, calls a tool and asks its model again. Each way of running it is compared with the
same way without a handler, for relays that answer at once, after 200 ms, and never. A model that takes no time shows
the most a handler can add, one of 20 ms what a quick real one would show. Peers: a handler that does nothing, as it
comes and with `run_inline`, which spares async runs a thread hop per event, and one that posts four statuses a run
where it stands, as handlers usually do. All take turns, and each round in another order. Wall time ends with the
run, CPU when everything is posted.

`events`: a run's events once more through LangChain's dispatch, and what queueing a status costs. `memory`: what ten
thousand runs leave behind while the relay never answers, and then ten thousand more.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import http.server
import json
import socket
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from random import Random
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.callbacks.manager import handle_event
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool

import _measure as measure
from agentchat import Client
from langchain_agentchat import AgentChatCallbackHandler
from langchain_agentchat.poster import Poster
from langchain_agentchat.stories import Status, Story

KEY = "k" * 64
SLOW_RELAY, QUICK_MODEL = 0.2, 0.02  # seconds
AT_ONCE = 20
GOAL = 1.05


class Sizes(NamedTuple):
    rounds: int = 40
    runs: int = 8  # of the agent per batch
    replays: int = 200  # of a run's events per batch, and statuses queued
    waiting: int = 1_000  # statuses in a full queue: the handler's default
    kept: int = 10_000  # runs whose memory is measured


TINY = Sizes(rounds=2, runs=1, replays=2, waiting=10, kept=20)


# The agent


class Model(BaseChatModel):
    """Asks for the tool, then is content."""

    takes: float = 0.0

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        if self.takes:
            time.sleep(self.takes)
        return self.answer(messages)

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        if self.takes:
            await asyncio.sleep(self.takes)
        return self.answer(messages)

    def answer(self, messages: list[BaseMessage]) -> ChatResult:
        if isinstance(messages[-1], ToolMessage):
            answer = AIMessage("It is sunny.")
        else:
            answer = AIMessage("", tool_calls=[{"name": "weather", "args": {"city": "Wien"}, "id": "call_1"}])
        return ChatResult(generations=[ChatGeneration(message=answer)])


class Weather(BaseTool):
    name: str = "weather"
    description: str = "Tells the weather."

    def _run(self, city: str) -> str:
        return f"sunny in {city}"

    async def _arun(self, city: str) -> str:
        return self._run(city)


QUESTION = {"messages": [{"role": "user", "content": "How is the weather?"}]}
Batch = Callable[[int, Any], None]  # so many runs with a config


class Way(NamedTuple):
    """How the agent is run."""

    batch: Batch
    at_once: int = 1
    share: float = 1.0  # of a batch's usual size


def agent_of(takes: float = 0.0) -> Any:
    return create_agent(Model(takes=takes), [Weather()], name="weather-agent")


def sync(takes: float = 0.0) -> Batch:
    agent = agent_of(takes)

    def batch(runs: int, config: Any) -> None:
        for _ in range(runs):
            agent.invoke(QUESTION, config)

    return batch


def asynchronous(loop: asyncio.AbstractEventLoop, at_once: int = 1, takes: float = 0.0) -> Batch:
    agent = agent_of(takes)

    async def batch(runs: int, config: Any) -> None:
        for _ in range(0, runs, at_once):
            await asyncio.gather(*(agent.ainvoke(QUESTION, config) for _ in range(at_once)))

    return lambda runs, config: loop.run_until_complete(batch(runs, config))


def ways(loop: asyncio.AbstractEventLoop) -> dict[str, Way]:
    return {
        "sync": Way(sync()),
        "async": Way(asynchronous(loop)),
        f"async, {AT_ONCE} at once": Way(asynchronous(loop, AT_ONCE), AT_ONCE),
        "sync, model of 20 ms": Way(sync(QUICK_MODEL), share=0.25),
        "async, model of 20 ms": Way(asynchronous(loop, takes=QUICK_MODEL), share=0.25),
    }


# Relays and handlers


class SlowRelay(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    message_id = "0198f2c0-0000-7000-8000-000000000001"
    answer = json.dumps({"_airchat": "response", "data": {"message": {"id": message_id}}}).encode()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        time.sleep(SLOW_RELAY)
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def slow_relay() -> Iterator[str]:
    """On threads of this process: at five answers a second it takes nothing from what is measured."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), SlowRelay) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def hanging_relay() -> Iterator[str]:
    """The kernel accepts connections and requests, and nobody reads them."""
    with socket.create_server(("127.0.0.1", 0), backlog=1_000) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


class Inline(BaseCallbackHandler):
    """Posts where it stands, as handlers usually do: the root's start and end, and each tool's."""

    raise_error = True

    def __init__(self, client: Client) -> None:
        self._client = client
        self._root: UUID | None = None

    def on_chain_start(self, serialized: Any, inputs: Any, *, parent_run_id: UUID | None = None, **_: Any) -> None:
        if parent_run_id is None:
            self._client.send_message("status", "started")

    def on_chain_end(self, outputs: Any, *, parent_run_id: UUID | None = None, **_: Any) -> None:
        if parent_run_id is None:
            self._client.send_message("status", "done")

    def on_tool_start(self, *_: Any, **__: Any) -> None:
        self._client.send_message("status", "tool started")

    def on_tool_end(self, *_: Any, **__: Any) -> None:
        self._client.send_message("status", "tool done")


class Idle(BaseCallbackHandler):
    """Does nothing, right where it is called."""

    run_inline = True


class Variant(NamedTuple):
    """A handler, or none, and how to treat it."""

    handler: BaseCallbackHandler | None
    drained: bool = False  # what it posts later belongs to its own batch
    every: int = 1  # rounds; what takes seconds is not run in each


def variants(stack: ExitStack) -> dict[str, Variant]:
    relays = {
        "fast": stack.enter_context(measure.Relay()),
        "200 ms": stack.enter_context(slow_relay()),
        "hanging": stack.enter_context(hanging_relay()),
    }

    def ours(relay: str) -> BaseCallbackHandler:
        return AgentChatCallbackHandler(Client(relays[relay], KEY), channel="status", drain_seconds=0)

    return {
        "none": Variant(None),
        "does nothing": Variant(BaseCallbackHandler()),
        "does nothing, run_inline": Variant(Idle()),
        "ours, fast relay": Variant(ours("fast"), drained=True),
        "ours, relay of 200 ms": Variant(ours("200 ms")),
        "ours, hanging relay": Variant(ours("hanging")),
        "inline, fast relay": Variant(Inline(Client(relays["fast"], KEY))),
        "inline, relay of 200 ms": Variant(Inline(Client(relays["200 ms"], KEY)), every=20),
    }


# Runs


Round = dict[tuple[str, str], measure.Sample]  # by way and variant


def take_runs(sizes: Sizes) -> list[Round]:
    loop = asyncio.new_event_loop()
    rounds: list[Round] = []
    with ExitStack() as stack:
        # As time passes, the queues for the relays that are slow or hang fill up, and stay full.
        chosen, everyway, chance = variants(stack), ways(loop), Random(1)
        for turn in range(-1, sizes.rounds):  # the first one warms up
            taken: Round = {}
            for way, how in everyway.items():
                names = [name for name, variant in chosen.items() if turn % variant.every == 0]
                order = chance.sample(names, len(names))  # nobody always follows the same one
                took = {name: sample(how, chosen[name], sizes.runs) for name in order}
                taken |= {(way, name): took[name] for name in names}
            taken["control (memory)", "none"] = sample(CONTROL, Variant(None), sizes.runs)
            if turn >= 0:
                rounds.append(taken)
            progress(turn, sizes.rounds)
    loop.close()
    return rounds


CONTROL = Way(lambda runs, config: measure.control(runs))


def sample(way: Way, variant: Variant, runs: int) -> measure.Sample:
    """Microseconds per run."""
    config = {"callbacks": [variant.handler]} if variant.handler else {}
    if variant.every > 1:
        runs = way.at_once
    else:
        runs = max(round(runs * way.share), way.at_once)
        way.batch(way.at_once, config)  # finds the caches full of another's things
        drain(variant)
    cpu, wall = time.process_time(), time.perf_counter()
    way.batch(runs, config)
    wall = time.perf_counter() - wall
    drain(variant)
    cpu = time.process_time() - cpu
    return measure.Sample(cpu / runs * 1e6, wall / runs * 1e6)


def drain(variant: Variant) -> None:
    if variant.drained:
        assert isinstance(variant.handler, AgentChatCallbackHandler)
        variant.handler.flush()


def run_ratios(rounds: Sequence[Round]) -> dict[tuple[str, str], dict[str, list[float]]]:
    """Each case over the same way without a handler, round by round."""
    found = {}
    for way, name in rounds[0]:
        pairs = [(taken[way, name], taken[way, "none"]) for taken in rounds if (way, name) in taken]
        mine, base = zip(*pairs, strict=True)
        found[way, name] = measure.ratios(list(mine), list(base))
    return found


def progress(turn: int, rounds: int) -> None:
    if sys.stderr.isatty():
        print(f"\rround {turn + 1}/{rounds}", end="\n" if turn + 1 == rounds else "", file=sys.stderr, flush=True)


# Events


class Event(NamedTuple):
    name: str
    ignored_by: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Recorder(BaseCallbackHandler):
    """Keeps the events of a run as they are dispatched."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_"):
            return super().__getattribute__(name)
        ignored_by = {"chat": "ignore_chat_model", "llm": "ignore_llm", "tool": "ignore_agent"}.get(
            name.split("_")[1], "ignore_chain"
        )
        return lambda *args, **kwargs: self.events.append(Event(name, ignored_by, args, kwargs))


def recorded() -> list[Event]:
    recorder = Recorder()
    agent_of().invoke(QUESTION, {"callbacks": [recorder]})
    return recorder.events


def replayed(events: Sequence[Event], runs: int) -> list[list[Event]]:
    """The events again, as of other runs."""
    made = []
    for _ in range(runs):
        ids: dict[UUID, UUID] = {}
        again = []
        for event in events:
            kwargs = {
                name: ids.setdefault(value, uuid4()) if isinstance(value, UUID) else value
                for name, value in event.kwargs.items()
            }
            again.append(event._replace(kwargs=kwargs))
        made.append(again)
    return made


def dispatch(handlers: list[BaseCallbackHandler], runs: Sequence[Sequence[Event]]) -> None:
    for run in runs:
        for event in run:
            handle_event(handlers, event.name, event.ignored_by, *event.args, **event.kwargs)


def take_events(sizes: Sizes) -> dict[str, list[float]]:
    """Microseconds of CPU of the thread that dispatches, per event, and per status that is queued."""
    events = recorded()
    found: dict[str, list[float]] = {}
    with ExitStack() as stack:
        url = stack.enter_context(hanging_relay())
        handlers = {
            name: [variant.handler] if variant.handler else []
            for name, variant in variants(stack).items()
            if not isinstance(variant.handler, Inline)
        }
        # The hanging relay's queue is to be full from the beginning, as it would be after some minutes.
        dispatch(handlers["ours, hanging relay"], replayed(events, sizes.waiting))
        for turn in range(-1, sizes.rounds):
            for name, handler in handlers.items():
                took = cpu_of(partial(dispatch, handler, replayed(events, sizes.replays)))
                if turn >= 0:
                    found.setdefault(name, []).append(took / (sizes.replays * len(events)))
            for name, waiting in {"put(), queue with room": 1, "put(), full queue": sizes.waiting}.items():
                took = put(url, waiting, sizes.replays, room=waiting == 1)
                if turn >= 0:
                    found.setdefault(name, []).append(took / sizes.replays)
            progress(turn, sizes.rounds)
    return found


def put(url: str, waiting: int, count: int, *, room: bool) -> float:
    """Queue so many statuses, each of another run, behind others that wait already."""
    most = waiting + count if room else waiting
    poster = Poster(Client(url, KEY), "status", redact=None, max_pending=most, drain_seconds=0)
    for status in statuses(waiting):
        poster.put(status)
    more = statuses(count)

    def batch() -> None:
        for status in more:
            poster.put(status)

    took = cpu_of(batch)
    poster.close()
    return took


def statuses(count: int) -> list[Status]:
    return [Status(Story("weather-agent"), "done", "weather-agent: done in 1.0 s", {}, None) for _ in range(count)]


def cpu_of(batch: Callable[[], None]) -> float:
    before = time.thread_time()
    batch()
    return (time.thread_time() - before) * 1e6


# Memory


def take_memory(sizes: Sizes) -> dict[str, float]:
    """KiB of Python objects that are left."""
    events = recorded()
    with hanging_relay() as url:
        handler = AgentChatCallbackHandler(Client(url, KEY), channel="status", drain_seconds=0)
        dispatch([handler], replayed(events, 1))
        tracemalloc.start()
        first, second = left_after(handler, events, sizes.kept), left_after(handler, events, sizes.kept)
        tracemalloc.stop()
    return {f"after {sizes.kept:,} runs": first, f"after {2 * sizes.kept:,}": second}


def left_after(handler: BaseCallbackHandler, events: Sequence[Event], runs: int) -> float:
    for _ in range(runs):
        dispatch([handler], replayed(events, 1))
    gc.collect()
    return tracemalloc.get_traced_memory()[0] / 1024


# What is told


def told_runs(rounds: Sequence[Round]) -> None:
    found = run_ratios(rounds)
    rows: list[tuple[str, ...]] = [("run", "handler", "wall us", "wall ratio", "CPU ratio", "goal")]
    for way, name in found:
        took = measure.summary([taken[way, name].wall for taken in rounds if (way, name) in taken])
        ratios = ["", ""] if name == "none" else [measure.spread(values) for values in found[way, name].values()][::-1]
        goal = f"<= {GOAL}" if name.startswith("ours") else ""
        rows.append((way, name, f"{took['median']:.0f}", *ratios, goal))
    measure.table(rows)


def told_events(found: dict[str, list[float]]) -> None:
    idle = found["does nothing, run_inline"]
    rows = [("per event", "CPU us", "ratio to a handler that does nothing")]
    for name, took in found.items():
        ratio = [mine / theirs for mine, theirs in zip(took, idle, strict=True)]
        rows.append((name, measure.spread(took), measure.spread(ratio)))
    measure.table(rows)


def as_json(taken: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"goal": GOAL}
    if "runs" in taken:
        told["runs"] = {
            f"{way}: {name}": {kind: measure.summary(values) for kind, values in kinds.items()}
            for (way, name), kinds in run_ratios(taken["runs"]).items()
        }
    if "events" in taken:
        told["us of CPU per event"] = {name: measure.summary(took) for name, took in taken["events"].items()}
    if "memory" in taken:
        told["KiB"] = taken["memory"]
    return told


def told_memory(found: dict[str, float]) -> None:
    measure.table([("left while the relay hangs", "KiB"), *((name, f"{kib:.0f}") for name, kib in found.items())])


PARTS: dict[str, tuple[Callable[[Sizes], Any], Callable[[Any], None]]] = {
    "runs": (take_runs, told_runs),
    "events": (take_events, told_events),
    "memory": (take_memory, told_memory),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="prove that it runs; the figures mean nothing")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--only", choices=PARTS, help="this part only")
    options = parser.parse_args()
    sizes = TINY if options.tiny else Sizes()
    taken = {name: take(sizes) for name, (take, _) in PARTS.items() if options.only in (None, name)}
    if options.json:
        measure.printed(as_json(taken))
        return
    for name, found in taken.items():
        PARTS[name][1](found)
        print()


if __name__ == "__main__":
    main()
