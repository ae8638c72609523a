"""The users of `langchain-airchat` change an import and nothing else: every line they wrote goes on working."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import BaseToolkit

from agentchat import Client, errors
from langchain_agentchat import compat, tools
from langchain_agentchat.compat import AirChatCallbackHandler, AirChatClient, AirChatToolkit
from tests.langchain_agentchat.conftest import Colour, Scene, closing, fresh, until

FILES = {"airchat_upload_file", "airchat_download_file"}
NAMES = {
    "airchat_check_board",
    "airchat_list_channels",
    "airchat_read_messages",
    "airchat_send_message",
    "airchat_search_messages",
    "airchat_check_mentions",
    "airchat_mark_mentions_read",
    "airchat_send_direct_message",
    "airchat_find_agents",
    *FILES,
}


@pytest.fixture
def airchat(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A home directory as the other package leaves it. The name of the agent of project `demo`."""
    machine = fresh("mac")
    folder = tmp_path / ".airchat"
    (folder / "agents").mkdir(parents=True)
    (folder / "config").write_text(f"# AirChat\nMACHINE_NAME={machine}\nAIRCHAT_WEB_URL={scene.relay.url}\n")
    (folder / "agents" / f"{machine}-demo.key").write_text(scene.relay.token(f"{machine}-demo"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("AGENTCHAT_HOME")
    yield f"{machine}-demo"


# Imports


@pytest.mark.parametrize("name", sorted({*compat.__all__} - {"AirChatError"}))
def test_a_name_of_the_other_package_is_there_and_is_ours(name: str):
    value = getattr(compat, name)
    assert value.__module__ == "langchain_agentchat.compat"
    assert value.__name__ == name


def test_the_tools_of_the_other_package_are_all_there():
    found = {getattr(compat, name) for name in compat.__all__ if name.endswith("Tool")}
    client = Client("http://127.0.0.1:1", "k" * 64)
    assert {tool(client=client).name for tool in found} == NAMES
    for tool in found:
        assert issubclass(tool, getattr(tools, tool.__name__))


# Toolkit


def test_a_toolkit_takes_a_client_and_has_their_names(colour: Colour, scene: Scene):
    client = colour.of(scene)
    for toolkit in (AirChatToolkit(client), AirChatToolkit(client=client)):
        assert isinstance(toolkit, BaseToolkit)
        assert toolkit.client is client
        found = toolkit.get_tools()
        assert {tool.name for tool in found} == NAMES
        assert [one is other for one, other in zip(found, toolkit.get_tools(), strict=True)] == [True] * len(found)
    board = next(tool for tool in found if tool.name == "airchat_check_board")
    assert "channel" in colour.run(board, {})


def test_the_tools_for_files_can_be_left_out(scene: Scene):
    with scene.client() as client:
        toolkit = AirChatToolkit(client)
        assert {tool.name for tool in toolkit.get_tools(include_files=False)} == NAMES - FILES
        assert {tool.name for tool in toolkit.get_tools(include_files=True)} == NAMES


def test_a_toolkit_is_configured_by_their_directory(airchat: str, scene: Scene):
    toolkit = AirChatToolkit(project="demo")
    assert toolkit.client.agent == airchat
    send = next(tool for tool in toolkit.get_tools() if tool.name == "airchat_send_message")
    assert send.invoke({"channel": scene.channel, "content": "hello"}).startswith("Sent as message")
    with scene.client() as reader:
        last = reader.read_messages(scene.channel)["messages"][-1]
    assert (last["author_name"], last["metadata"]) == (airchat, {"project": "demo"})
    toolkit.close()


def test_without_their_directory_nothing_is_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(errors.NotConfigured, match="No relay URL"):
        AirChatToolkit(project="demo")


# Client


def test_a_client_is_configured_by_their_directory_and_by_nothing_else(
    airchat: str, scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AGENTCHAT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AGENTCHAT_KEY", "k" * 64)
    monkeypatch.setenv("AGENTCHAT_HOME", "/nowhere")
    with AirChatClient.from_config(project="demo") as client:
        assert isinstance(client, Client)
        assert (client.url, client.agent, client.project) == (scene.relay.url, airchat, "demo")
        assert client.check_board()["channels"]


def test_another_directory_and_options_can_be_given(airchat: str, tmp_path: Path):
    folder = tmp_path / ".airchat"
    elsewhere = folder.rename(tmp_path / "elsewhere")
    with AirChatClient.from_config(elsewhere, project="demo", timeout=3.0) as client:
        assert client.check_board()["channels"]
    with AirChatClient.from_config(elsewhere, agent=airchat) as client:
        assert client.agent == airchat


def test_their_error_is_what_our_client_raises(scene: Scene):
    with scene.client() as client, pytest.raises(compat.AirChatError, match="no-such-channel"):
        client.read_messages("no-such-channel")


def test_their_client_is_awaited_natively(airchat: str):
    """It is ours, so it has a twin, and its key is not read from its file on the event loop."""
    client = AirChatClient.from_config(project="demo")

    async def awaited() -> str:
        text = await compat.CheckBoardTool(client).ainvoke({})
        await closing(client)
        return str(text)

    with blockbuster_ctx(scanned_modules=["agentchat", "langchain_agentchat"]):
        assert "channel" in asyncio.run(awaited())


# Tools


@pytest.mark.parametrize("name", sorted(name for name in compat.__all__ if name.endswith("Tool")))
def test_a_tool_of_their_name_works(colour: Colour, scene: Scene, name: str):
    kind = getattr(compat, name)
    tool = kind(client=colour.of(scene))
    got = colour.call(tool, scene.arguments()[kind.operation.name])
    assert got.status == "success", got.content
    assert got.name == tool.name == "airchat_" + kind.operation.name


def test_what_ended_their_runs_is_told_to_the_model(colour: Colour, scene: Scene):
    got = colour.call(compat.ReadMessagesTool(client=colour.of(scene)), {"channel": "no-such-channel"})
    assert got.status == "error"
    assert got.content.startswith("Error (not_found): There is no channel #no-such-channel.")


# Callback handler


@pytest.mark.parametrize(
    "options", [{}, {"post_on_chain_end": False}, {"post_on_tool_error": False, "post_on_chain_end": True}]
)
def test_a_handler_reports_a_run_to_the_channel(colour: Colour, scene: Scene, options: dict[str, Any]):
    """Whatever switch of theirs is given, the run is told whole and without its content."""
    with scene.client() as client:
        handler = AirChatCallbackHandler(client, channel=scene.channel, **options)
        assert isinstance(handler, BaseCallbackHandler)
        chain = RunnableLambda(lambda text: text.upper(), lambda_of_loop).with_config(run_name="shout")
        assert colour.run(chain, "top-secret", {"callbacks": [handler]}) == "TOP-SECRET"
        assert handler.flush(20)
        handler.close()
    until(lambda: scene.stored())
    posted = "\n".join(scene.stored())
    assert "shout" in posted
    assert "secret" not in posted.lower()


async def lambda_of_loop(text: str) -> str:
    return text.upper()


def test_a_handler_posts_to_general_by_default(scene: Scene):
    with scene.client() as client:
        with AirChatCallbackHandler(client) as handler:
            RunnableLambda(str).with_config(run_name=scene.channel).invoke("x", {"callbacks": [handler]})
            assert handler.flush(20)
        page = client.read_messages("general", limit=200, include_status=True)
    posted = [each for each in page["messages"] if each["author_name"] == scene.me]
    assert posted and scene.channel in posted[0]["content"]
    assert {each["kind"] for each in posted} == {"status"}


def test_a_misspelt_switch_is_refused_by_name(scene: Scene):
    with scene.client() as client, pytest.raises(TypeError, match="post_on_chain_start"):
        AirChatCallbackHandler(client, post_on_chain_start=True)  # type: ignore[call-arg]


def test_the_other_s_variables_come_before_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "config").write_text("MACHINE_NAME=box\nAIRCHAT_WEB_URL=http://127.0.0.1:1\nAGENTCHAT_KEY=k\n")
    monkeypatch.setenv("AIRCHAT_WEB_URL", "http://localhost:1")
    monkeypatch.setenv("AIRCHAT_PROJECT", "zoo")
    monkeypatch.setenv("AGENTCHAT_URL", "http://127.0.0.1:2")  # is ours, and not asked
    with compat.AirChatClient.from_config(config_path=tmp_path / "config", agent_name="box-zoo") as client:
        assert (client.url, client.project, client.agent) == ("http://localhost:1", "zoo", "box-zoo")
