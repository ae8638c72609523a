"""What our tools cost over LangChain's own machinery and a bare client call, and what they weigh.

    python bench/tools.py [--tiny] [--json] [--only calls|toolkit|imports|bytes]

`calls`: a tool call through `invoke` or `ainvoke` over the floor, an empty `BaseTool` with the same `args_schema` plus
the same call of our client: measured apart and added up, and as one tool that does nothing but make that call. The
server answers at once; then the real relay, in a process of its own, which stores what is sent. `toolkit`: making all
tools over making as many empty ones. `imports`: CPU of fresh processes over importing LangChain's base class.
`bytes`: the tools as OpenAI's JSON, minified, through LangChain's converter.
"""

# No `from __future__ import annotations`: LangChain would evaluate the floor's annotations again in every call.

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

import _measure as measure
import agentchat
from agentchat import Client, text
from agentchat.contract import OPERATIONS
from agentchat_relay import running
from imports import cpu_ms
from langchain_agentchat import AgentChatToolkit, AsyncClient
from langchain_agentchat.tools import TOOLS

GOAL = 1.15
ARGUMENTS: dict[str, dict[str, Any]] = {
    "send_message": {"channel": "general", "content": "a message of a usual length, with some words in it"},
    "read_messages": {"channel": "reading", "limit": 20},
}
RELAY = Path(__file__).with_name("_relay.py")


class Sizes(NamedTuple):
    rounds: int = 25
    calls: int = 100
    toolkits: int = 3
    imports: int = 10  # rounds
    processes: int = 2  # of each import and round


TINY = Sizes(rounds=2, calls=3, toolkits=1, imports=1, processes=1)
Found = dict[str, dict[str, list[float]]]  # case -> kind of figure -> one per round


# Calls


class EmptyTool(BaseTool):
    """LangChain's machinery around nothing, or around the bare call."""

    name: str = "empty"
    description: str = "Does nothing."
    response_format: Any = "content_and_artifact"
    call: Any = None

    def _run(self, **arguments: Any) -> tuple[str, Any]:
        return "ok", self.call(**arguments) if self.call else {}

    async def _arun(self, **arguments: Any) -> tuple[str, Any]:
        return "ok", await self.call(**arguments) if self.call else {}


@contextmanager
def real_relay() -> Iterator[tuple[str, str]]:
    """URL and key. The channel that is read has 20 messages."""
    with tempfile.TemporaryDirectory(prefix="agentchat-bench-") as path:
        with running(path) as relay:
            key = relay.token("mac-bench")
            with Client(relay.url, key) as client:
                for _ in range(20):
                    client.send_message("reading", ARGUMENTS["send_message"]["content"])
        command = [sys.executable, str(RELAY), "relay", path]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                yield f"http://127.0.0.1:{int(process.stdout.readline())}", key
            finally:
                process.terminate()


def cases(url: str, key: str, name: str, loop: asyncio.AbstractEventLoop) -> dict[str, Callable[[int], Any]]:
    """One operation in both colours: the parts, the floor in one piece, and ours."""
    clients = Client(url, key), AsyncClient(url, key)
    operation, arguments = OPERATIONS[name], ARGUMENTS[name]
    tool_call = {"type": "tool_call", "id": "call_1", "name": name, "args": arguments}
    bare, async_bare = (partial(getattr(client, name), **operation.set_by_tools) for client in clients)
    ours, async_ours = (TOOLS[name](client) for client in clients)
    empty, floor, async_floor = (
        EmptyTool(args_schema=ours.args_schema, call=call) for call in (None, bare, async_bare)
    )
    data = bare(**arguments)
    return {
        "empty tool": again(lambda: empty.invoke(tool_call)),
        "bare call": again(lambda: bare(**arguments)),
        "tool of the bare call": again(lambda: floor.invoke(tool_call)),
        "text for a model alone": again(lambda: text.render(operation, data)),
        "our tool": again(lambda: ours.invoke(tool_call)),
        "async empty tool": measure.on_loop(loop, lambda: empty.ainvoke(tool_call)),
        "async bare call": measure.on_loop(loop, lambda: async_bare(**arguments)),
        "async tool of the bare call": measure.on_loop(loop, lambda: async_floor.ainvoke(tool_call)),
        "async our tool": measure.on_loop(loop, lambda: async_ours.ainvoke(tool_call)),
    }


def again(call: Callable[[], Any]) -> Callable[[int], None]:
    def batch(calls: int) -> None:
        for _ in range(calls):
            call()

    return batch


def take_calls(sizes: Sizes) -> Found:
    loop = asyncio.new_event_loop()
    found: Found = {}
    with ExitStack() as stack:
        quick, (url, key) = stack.enter_context(measure.Relay()), stack.enter_context(real_relay())
        everywhere = {
            "send, server that answers at once": (quick, "k" * 64, "send_message"),
            "send, real relay": (url, key, "send_message"),
            "read 20, real relay": (url, key, "read_messages"),
        }
        every = {
            f"{where}: {case}": batch
            for where, (at, with_key, name) in everywhere.items()
            for case, batch in cases(at, with_key, name, loop).items()
        }
        samples = measure.in_turns(
            {"control (memory)": measure.control, **every}, rounds=sizes.rounds, calls=sizes.calls
        )
    loop.close()
    for name, taken in samples.items():
        found[name] = {"cpu us": [one.cpu for one in taken], "wall us": [one.wall for one in taken]}
    for where in everywhere:
        for colour in ("", "async "):
            ours, empty, bare, floor = (
                samples[f"{where}: {colour}{case}"]
                for case in ("our tool", "empty tool", "bare call", "tool of the bare call")
            )
            parts = [measure.Sample(*map(sum, zip(*both, strict=True))) for both in zip(empty, bare, strict=True)]
            found[f"{where}: {colour}our tool"] |= {
                "over the sum": measure.ratios(ours, parts)["cpu"],
                "over one tool": measure.ratios(ours, floor)["cpu"],
                "over one tool, wall": measure.ratios(ours, floor)["wall"],
            }
    return found


def told_calls(found: Found) -> None:
    kinds = ("cpu us", "wall us", "over the sum", "over one tool", "over one tool, wall")
    heads = ("per call", "CPU us", "wall us", "CPU / (empty + bare)", "CPU / tool of the bare call", "wall", "goal")
    rows: list[tuple[str, ...]] = [heads]
    for name, figures in found.items():
        cells = [measure.spread(figures[kind]) if kind in figures else "" for kind in kinds]
        rows.append((name, *cells, f"<= {GOAL}" if "over the sum" in figures else ""))
    measure.table(rows)


# The toolkit


def take_toolkit(sizes: Sizes) -> Found:
    client = Client("http://127.0.0.1:8790", "k" * 64)
    schemas = [tool.args_schema for tool in AgentChatToolkit(client, preset="all").get_tools()]

    def empty(count: int) -> None:
        for _ in range(count):
            for schema in schemas:
                EmptyTool(args_schema=schema)

    def ours(count: int) -> None:
        for _ in range(count):
            AgentChatToolkit(client, preset="all").get_tools()

    samples = measure.in_turns({"empty tools": empty, "toolkit": ours}, rounds=sizes.rounds, calls=sizes.toolkits)
    found = {name: {"cpu us": [one.cpu for one in taken]} for name, taken in samples.items()}
    found["toolkit"]["ratio"] = measure.ratios(samples["toolkit"], samples["empty tools"])["cpu"]
    return found


def told_toolkit(found: Found) -> None:
    rows: list[tuple[str, ...]] = [(f"making {len(TOOLS)} tools again", "CPU us", "ratio")]
    for name, figures in found.items():
        rows.append(
            (name, measure.spread(figures["cpu us"]), measure.spread(figures["ratio"]) if "ratio" in figures else "")
        )
    measure.table(rows)


# Imports

INTERPRETER, BASE_TOOL, HANDLER = "(nothing)", "BaseTool", "BaseCallbackHandler"
GRAPH_HANDLER = "GraphCallbackHandler"
STATEMENTS = {
    INTERPRETER: ("pass", ""),
    BASE_TOOL: ("from langchain_core.tools import BaseTool", ""),
    "import langchain_agentchat": ("import langchain_agentchat", BASE_TOOL),
    "AgentChatToolkit": ("from langchain_agentchat import AgentChatToolkit", BASE_TOOL),
    "AgentChatToolkit, its tools made": (
        "from langchain_agentchat import AgentChatToolkit as Toolkit; from agentchat import Client; "
        "Toolkit(Client('http://127.0.0.1:8790', 'KEY')).get_tools()",
        BASE_TOOL,
    ),
    HANDLER: ("from langchain_core.callbacks import BaseCallbackHandler", ""),
    GRAPH_HANDLER: ("from langgraph.callbacks import GraphCallbackHandler", ""),
    "AgentChatCallbackHandler": ("from langchain_agentchat import AgentChatCallbackHandler", GRAPH_HANDLER),
}


def take_imports(sizes: Sizes) -> Found:
    took: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for turn in range(-1, sizes.imports):
        for name, (statement, _) in STATEMENTS.items():
            mean = statistics.mean(cpu_ms(statement) for _ in range(sizes.processes))
            if turn >= 0:  # the first round writes the bytecode
                took[name].append(mean)
    found: Found = {name: {"cpu ms": taken} for name, taken in took.items()}
    for name, (_, base) in STATEMENTS.items():
        if base:
            parts = zip(took[name], took[base], took[INTERPRETER], strict=True)
            found[name]["ratio"] = [(mine - none) / (theirs - none) for mine, theirs, none in parts]
    return found


def told_imports(found: Found) -> None:
    rows: list[tuple[str, ...]] = [("import", "CPU ms with interpreter", "ratio over interpreter", "to")]
    for name, figures in found.items():
        ratio = measure.spread(figures["ratio"]) if "ratio" in figures else ""
        rows.append((name, measure.spread(figures["cpu ms"]), ratio, STATEMENTS[name][1]))
    measure.table(rows)


# Bytes


def take_bytes(sizes: Sizes) -> Found:
    client = Client("http://127.0.0.1:8790", "k" * 64)
    found: Found = {}
    for preset in ("core", "standard", "all"):
        tools = AgentChatToolkit(client, preset=preset).get_tools()
        converted = [minified(convert_to_openai_tool(tool)) for tool in tools]
        own = [minified(tool) for tool in agentchat.tools("openai", preset=preset)]
        found[preset] = {"tools": [len(tools)], "bytes": [sum(converted)], "bytes of agentchat.tools": [sum(own)]}
    return found


def minified(definition: dict[str, Any]) -> int:
    return len(json.dumps(definition, separators=(",", ":"), ensure_ascii=False).encode())


def told_bytes(found: Found) -> None:
    rows: list[tuple[str, ...]] = [("preset", "tools", "bytes through LangChain", "bytes of agentchat.tools('openai')")]
    rows += [(name, *(f"{values[0]:.0f}" for values in figures.values())) for name, figures in found.items()]
    measure.table(rows)


PARTS: dict[str, tuple[Callable[[Sizes], Found], Callable[[Found], None]]] = {
    "calls": (take_calls, told_calls),
    "toolkit": (take_toolkit, told_toolkit),
    "imports": (take_imports, told_imports),
    "bytes": (take_bytes, told_bytes),
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
        summaries = {
            name: {case: {kind: measure.summary(of) for kind, of in figures.items()} for case, figures in found.items()}
            for name, found in taken.items()
        }
        measure.printed({**summaries, "goal": GOAL})
        return
    for name, found in taken.items():
        PARTS[name][1](found)
        print()


if __name__ == "__main__":
    main()
