"""All tools of one agent: which there are, what they are called, that they can be made anywhere, what they cost."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import BaseTool, BaseToolkit
from langchain_core.utils.function_calling import convert_to_openai_tool

import langchain_agentchat
from agentchat import Client, errors
from agentchat.contract import OPERATIONS, PRESETS
from agentchat_relay.embedded import Embedded
from langchain_agentchat import AgentChatTool, AgentChatToolkit
from langchain_agentchat.tools import TOOLS
from tests.conftest import KEY
from tests.langchain_agentchat.conftest import Colour, Scene, fresh, until
from tests.servers import FakeRelay

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = Client("http://127.0.0.1:1", KEY)


def names(toolkit: AgentChatToolkit) -> list[str]:
    return [tool.name for tool in toolkit.get_tools()]


def toolkit(**options: Any) -> AgentChatToolkit:
    return AgentChatToolkit(NOWHERE, **options)


def in_order(preset: str, prefix: str = "agentchat_") -> list[str]:
    """A preset's tools as the contract lists them."""
    return [prefix + name for name in OPERATIONS if name in PRESETS[preset]]


# The table of tools


def test_there_is_a_tool_for_every_operation_named_after_it():
    assert {name: tool.__name__ for name, tool in TOOLS.items()} == {
        name: name.title().replace("_", "") + "Tool" for name in OPERATIONS
    }
    for name, tool in TOOLS.items():
        assert tool.operation is OPERATIONS[name]
        assert issubclass(tool, AgentChatTool)


def test_the_package_exports_every_tool_under_its_name():
    for tool in TOOLS.values():
        assert tool.__name__ in langchain_agentchat.__all__
        assert getattr(langchain_agentchat, tool.__name__) is tool


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_tool_says_what_its_operation_says(name: str):
    tool = TOOLS[name](NOWHERE)
    assert tool.description == OPERATIONS[name].description
    assert tool.response_format == "content_and_artifact"
    assert set(tool.args) == {each.name for each in OPERATIONS[name].parameters.values() if not each.client_only}


# The client


def test_a_toolkit_is_one_of_langchains_and_takes_its_client_by_position():
    made = AgentChatToolkit(NOWHERE)
    assert isinstance(made, BaseToolkit)
    assert made.client is NOWHERE
    for tool in made.get_tools():
        assert isinstance(tool, BaseTool)
        assert tool.client is NOWHERE


def test_a_toolkit_needs_a_client(monkeypatch: pytest.MonkeyPatch):
    """Else each tool would make one of its own from the environment."""
    monkeypatch.setenv("AGENTCHAT_URL", NOWHERE.url)
    monkeypatch.setenv("AGENTCHAT_KEY", KEY)
    with pytest.raises((TypeError, ValueError, errors.AgentChatError)):
        AgentChatToolkit(None)
    with pytest.raises(TypeError):
        AgentChatToolkit()  # type: ignore[call-arg]


def test_from_env_takes_client_and_options(live: Embedded, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AGENTCHAT_URL", live.url)
    monkeypatch.setenv("AGENTCHAT_KEY", live.token(fresh()))
    made = AgentChatToolkit.from_env(preset="core", prefix="", max_chars=5000)
    assert names(made) == in_order("core", prefix="")
    assert made.get_tools()[0].max_chars == 5000
    assert "channels." in made.get_tools()[0].invoke({})
    assert len({id(tool.client) for tool in made.get_tools()}) == 1
    made.close()


def test_from_env_takes_the_clients_settings_as_arguments(relay: FakeRelay, tmp_path: Path):
    made = AgentChatToolkit.from_env(url=relay.url, key=KEY, agent="mac-ann", project="demo", home=str(tmp_path))
    assert (made.client.url, made.client.agent, made.client.project) == (relay.url, "mac-ann", "demo")
    made.get_tools()[0].invoke({})
    assert relay.seen[0].headers["x-agent-api-key"] == KEY
    made.close()


def test_from_env_without_settings_says_what_to_set():
    with pytest.raises(errors.NotConfigured, match="AGENTCHAT_URL"):
        AgentChatToolkit.from_env()


@pytest.mark.parametrize("make", [toolkit, AgentChatToolkit.from_env])
def test_a_misspelt_option_is_refused_by_name(make: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AGENTCHAT_URL", NOWHERE.url)
    monkeypatch.setenv("AGENTCHAT_KEY", KEY)
    with pytest.raises(TypeError, match="max_char"):
        make(max_char=1000)


# Which tools


def test_the_standard_tools_are_the_default():
    assert names(toolkit()) == in_order("standard")
    assert names(toolkit()) == names(toolkit(preset="standard"))


@pytest.mark.parametrize(("preset", "count"), [("core", 7), ("standard", 10), ("all", len(OPERATIONS))])
def test_a_preset_is_a_list_of_operations(preset: str, count: int):
    found = names(toolkit(preset=preset))
    assert found == in_order(preset)
    assert len(found) == len({*found}) == count


def test_tools_are_added_and_left_out_by_bare_or_prefixed_name():
    found = names(toolkit(preset="core", include=["find_agents", "agentchat_pin_message", "check_board"]))
    assert {*found} == {"agentchat_" + name for name in (*PRESETS["core"], "find_agents", "pin_message")}
    assert len(found) == 9
    found = names(toolkit(preset="core", exclude=["check_board", "agentchat_send_message"]))
    assert {*found} == {"agentchat_" + name for name in PRESETS["core"]} - {
        "agentchat_check_board",
        "agentchat_send_message",
    }
    assert names(toolkit(preset="core", include=["find_agents"], exclude=["find_agents"])) == names(
        toolkit(preset="core")
    )
    assert "team_pin_message" in names(toolkit(include=["team_pin_message"], prefix="team_"))


@pytest.mark.parametrize("option", ["include", "exclude", "defer"])
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("send_mesage", "did you mean agentchat_send_message?"),
        ("agentchat_chek_board", "did you mean agentchat_check_board?"),
        ("zzz", "There is no tool 'zzz'."),
    ],
)
def test_an_unknown_tool_is_refused_with_a_near_name(option: str, name: str, hint: str):
    with pytest.raises(errors.InvalidArguments, match=re.escape(hint)):
        toolkit(**{option: [name]})


def test_an_unknown_preset_is_refused_with_those_there_are():
    with pytest.raises(errors.InvalidArguments, match="core, standard, tasks, locks, interrupts, approvals, all"):
        toolkit(preset="most")


def test_tools_are_made_once():
    """LangChain keeps each tool's schema with the object."""
    made = toolkit()
    first, second = made.get_tools(), made.get_tools()
    assert first is not second
    assert all(one is other for one, other in zip(first, second, strict=True))
    first.clear()
    assert len(made.get_tools()) == 10


# What they are called


@pytest.mark.parametrize("prefix", ["", "team_", "A-1_", "x" * 32])
def test_the_prefix_can_be_chosen(colour: Colour, live: Embedded, prefix: str):
    made = AgentChatToolkit(colour.client(live.url, live.token(fresh())), preset="all", prefix=prefix, max_chars=1000)
    assert names(made) == [prefix + name for name in OPERATIONS]
    tools = {tool.name: tool for tool in made.get_tools()}
    colour.call(tools[prefix + "send_message"], {"channel": "general", "content": "x" * 5000})
    shown = colour.run(tools[prefix + "read_messages"], {"channel": "general", "limit": 1})
    assert f"the rest: {prefix}get_message message_id=" in shown  # hints name tools as they are called


@pytest.mark.parametrize("prefix", ["a b", "ü", "team.", "x" * 33, "\n", "team/"])
def test_a_prefix_that_providers_refuse_is_refused(prefix: str):
    with pytest.raises(errors.InvalidArguments, match="prefix"):
        toolkit(prefix=prefix)


def test_every_name_is_one_providers_take():
    for prefix in ("agentchat_", "x" * 32):
        assert all(re.fullmatch("[a-zA-Z0-9_-]{1,64}", name) for name in names(toolkit(preset="all", prefix=prefix)))


# How they behave


@pytest.mark.parametrize("max_chars", [999, 0, -1, True, "1000", None, 1000.0])
def test_a_bound_that_makes_no_sense_is_refused(max_chars: Any):
    with pytest.raises(errors.InvalidArguments, match="max_chars"):
        toolkit(max_chars=max_chars)


def test_every_tool_gets_the_toolkits_bound_and_its_view_of_failures():
    made = toolkit(preset="all", max_chars=1234, raise_on_transport_error=True)
    assert {(tool.max_chars, tool.raise_on_transport_error) for tool in made.get_tools()} == {(1234, True)}


def test_a_toolkit_names_every_preset():
    told = (AgentChatToolkit.__doc__ or "").partition("`preset` is ")[2].partition(";")[0]
    assert {*re.findall(r"\w+", told)} - {"or"} == {*PRESETS}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_toolkit_that_only_reads_has_no_operation_that_writes(preset: str):
    found = {tool.operation.name for tool in toolkit(preset=preset, read_only=True).get_tools()}
    assert found == {name for name in PRESETS[preset] if not OPERATIONS[name].writes}
    assert names(toolkit(preset=preset, read_only=True, include=["send_message"])) == names(
        toolkit(preset=preset, read_only=True)
    )


@pytest.mark.parametrize("read_only", [True, False])
def test_who_only_reads_leaves_everything_unread(colour: Colour, scene: Scene, read_only: bool):
    """An ordinary reader's pages count as read, one call later."""
    client = colour.of(scene)
    tools = {tool.name: tool for tool in AgentChatToolkit(client, read_only=read_only, prefix="").get_tools()}
    with scene.client() as own, Client(scene.relay.url, scene.relay.token(fresh())) as other:
        own.read_messages(scene.channel)  # joins
        for n in range(3):
            other.send_message(scene.channel, f"news {n} @{scene.me}")
        for _ in range(3):
            colour.call(tools["read_messages"], {"channel": scene.channel})
            colour.call(tools["check_mentions"])
            colour.call(tools["check_board"])
        (unread,) = [row["unread"] for row in own.check_board()["channels"] if row["channel"] == scene.channel]
        assert unread == (3 if read_only else 0)
        assert len(own.check_mentions()["mentions"]) == 4  # reading a channel acknowledges no mention


def test_who_only_reads_joins_what_it_reads_all_the_same(colour: Colour, scene: Scene):
    """As the pages say: a channel's first read joins it, and others see who reads it."""
    tools = {tool.name: tool for tool in AgentChatToolkit(colour.of(scene), read_only=True, prefix="").get_tools()}
    with Client(scene.relay.url, scene.peer_key) as peer:

        def readers() -> set[str]:
            return {row["agent_name"] for row in peer.list_readers(scene.channel)["readers"]}

        assert scene.me not in readers()
        colour.call(tools["read_messages"], {"channel": scene.channel})
        assert scene.me in readers()


@pytest.mark.parametrize(
    ("defer", "deferred"),
    [
        (False, set()),
        ([], set()),
        (True, {*PRESETS["core"]}),
        (["send_message", "agentchat_check_board"], {"send_message", "check_board"}),
    ],
)
def test_deferred_tools_are_marked_for_the_provider(defer: Any, deferred: set[str]):
    if deferred and "extras" not in BaseTool.model_fields:
        with pytest.raises(errors.InvalidArguments, match="pip install --upgrade langchain-core"):
            toolkit(preset="core", defer=defer)
        return
    for tool in toolkit(preset="core", defer=defer).get_tools():
        expected = {"defer_loading": True} if tool.operation.name in deferred else None
        assert getattr(tool, "extras", None) == expected
        assert convert_to_openai_tool(tool)["function"]["name"] == tool.name


# What they cost


def minified(tools: list[BaseTool]) -> int:
    return len(json.dumps([convert_to_openai_tool(tool) for tool in tools], separators=(",", ":")).encode())


def test_the_core_tools_cost_a_model_less_than_4000_bytes():
    assert minified(toolkit(preset="core").get_tools()) < 4000


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_tool_becomes_a_definition_for_openai(name: str):
    tool = TOOLS[name](NOWHERE)
    definition = convert_to_openai_tool(tool)
    assert definition["type"] == "function"
    assert definition["function"]["name"] == tool.name
    assert definition["function"]["description"] == tool.description
    parameters = definition["function"]["parameters"]
    visible = {each.name: each for each in OPERATIONS[name].parameters.values() if not each.client_only}
    assert set(parameters["properties"]) == set(visible)
    assert set(parameters.get("required", [])) == {each.name for each in visible.values() if each.required}
    for each in parameters["properties"].values():
        assert each["description"]


# Made anywhere


def run(code: str, *flags: str) -> str:
    """What a fresh interpreter prints that has seen nothing else."""
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error", *flags, "-c", start + code], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


EACH_ALONE = """
import os
import langchain_agentchat.tools  # which defines them all, and makes none
from agentchat import Client
for name in {names!r}:
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            tool = getattr(langchain_agentchat, name)(Client("http://127.0.0.1:1", "k" * 64))
            assert tool.name and tool.args is not None and tool.tool_call_schema.model_json_schema()
            print(name, flush=True)
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    if os.waitpid(child, 0)[1]:
        sys.exit(name)
"""


def test_every_tool_can_be_made_first_thing_in_a_process():
    """Each in a process where no tool was made before, so that none needs another."""
    classes = [tool.__name__ for tool in TOOLS.values()]
    assert run(EACH_ALONE.format(names=classes)).split() == classes


@pytest.mark.parametrize(
    "code",
    [
        "from langchain_agentchat import SendMessageTool as T; T(C).invoke",
        "from langchain_agentchat.tools import ReadMessagesTool as T; T(client=C).tool_call_schema",
        "from langchain_agentchat import AgentChatToolkit as T; T(C, preset='all').get_tools()[0].args",
        "import langchain_agentchat; langchain_agentchat.AgentChatToolkit(C).get_tools()",
    ],
)
def test_tools_and_toolkit_can_be_made_by_a_script_that_does_nothing_else(code: str):
    assert run(f"from agentchat import Client; C = Client('http://127.0.0.1:1', 'k' * 64)\n{code}\nprint('made')") == (
        "made\n"
    )


def loaded(code: str) -> set[str]:
    return {*run(f"{code}\nprint(*sys.modules)").split()}


def test_importing_the_package_loads_no_framework():
    found = loaded("import langchain_agentchat")
    assert "langchain_agentchat" in found
    assert not found & {"pydantic", "langchain_core", "langchain", "langgraph", "httpx", "langchain_agentchat.tool"}


def test_importing_the_tools_loads_neither_langchain_nor_langgraph():
    found = loaded("import langchain_agentchat.tools, langchain_agentchat.toolkit")
    assert {"langchain_core", "langchain_agentchat.tools"} <= found
    assert {name.partition(".")[0] for name in found} & {"langchain", "langgraph", "agentchat_relay"} == set()


def test_closing_a_toolkit_closes_the_connections_of_both_colours():
    import asyncio

    with FakeRelay() as server:

        def open_now() -> int:
            return sum(thread.is_alive() for thread in server._threads)

        made = AgentChatToolkit(Client(server.url, KEY))
        board = made.get_tools()[0]

        async def both() -> None:
            await board.ainvoke({})
            await made.aclose()

        board.invoke({})
        assert open_now() == 1
        made.close()
        until(lambda: open_now() == 0)
        board.invoke({})
        asyncio.run(both())
        until(lambda: open_now() == 0)


def test_a_deferred_tool_that_is_not_chosen_is_a_mistake():
    with pytest.raises(errors.InvalidArguments, match="agentchat_pin_message, which is not among the tools"):
        AgentChatToolkit(NOWHERE, preset="core", defer=["pin_message"])


def test_a_single_name_is_one_name():
    made = AgentChatToolkit(NOWHERE, preset="core", include="pin_message", exclude="agentchat_check_board")
    chosen = {*PRESETS["core"], "pin_message"} - {"check_board"}
    assert names(made) == [f"agentchat_{name}" for name in OPERATIONS if name in chosen]
