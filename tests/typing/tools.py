"""What both type checkers must see on tools and toolkit. Checked by `make check`, never run.

Lines marked `type: ignore` must be errors: mypy refuses an ignore that is not needed.
"""

from typing import Any, assert_type

from langchain_core.tools import BaseTool, BaseToolkit

from agentchat import Client
from agentchat._operation import Operation
from langchain_agentchat import AgentChatTool, AgentChatToolkit, AsyncClient, SendMessageTool
from langchain_agentchat.compat import AirChatClient, AirChatToolkit
from langchain_agentchat.tools import TOOLS


def made(client: Client, other: AsyncClient) -> None:
    toolkit = AgentChatToolkit(client, preset="core", include=["find_agents"], defer=True)
    base: BaseToolkit = toolkit
    assert_type(base.get_tools(), list[BaseTool])
    assert_type(toolkit.get_tools(), list[BaseTool])
    assert_type(AgentChatToolkit.from_env(prefix=""), AgentChatToolkit)
    tool: BaseTool = SendMessageTool(client=other, max_chars=5000)
    assert_type(SendMessageTool(client=client).max_chars, int)
    assert_type(TOOLS, dict[str, type[AgentChatTool]])
    operation: Operation[..., Any] = SendMessageTool.operation
    del tool, operation


async def closed(toolkit: AgentChatToolkit) -> None:
    await toolkit.aclose()


def compatible() -> None:
    assert_type(AirChatClient.from_config(project="demo"), AirChatClient)
    assert_type(AirChatToolkit().get_tools(include_files=False), list[BaseTool])


def refused(client: Client) -> None:
    AgentChatToolkit()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    AgentChatToolkit(client, "core")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    AgentChatToolkit(client, max_char=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    AgentChatToolkit(client, max_chars="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    AgentChatToolkit(client).get_tools(include_files=False)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    SendMessageTool(client=client, max_char=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
