"""The names of `langchain-airchat`, so that its users change an import and nothing else (docs/migration.md).

Settings come from `~/.airchat`, tools are called `airchat_...`. What the names stand for is ours: errors reach the
model instead of ending the run, and the callback posts no content.
"""

from __future__ import annotations

import os
from typing import Any, Self, Unpack

from langchain_core.tools import BaseTool

from agentchat import Client, settings
from agentchat._caller import ClientOptions
from agentchat.errors import AgentChatError as AirChatError
from agentchat.schema import bare_name

from . import tools
from .callbacks import AgentChatCallbackHandler
from .toolkit import AgentChatToolkit

__all__ = [
    "AirChatCallbackHandler",
    "AirChatClient",
    "AirChatError",
    "AirChatToolkit",
    "CheckBoardTool",
    "CheckMentionsTool",
    "DownloadFileTool",
    "FindAgentsTool",
    "ListChannelsTool",
    "MarkMentionsReadTool",
    "ReadMessagesTool",
    "SearchMessagesTool",
    "SendDirectMessageTool",
    "SendMessageTool",
    "UploadFileTool",
]

_PREFIX = "airchat_"
_HOME = "~/.airchat"
_VARIABLES = {
    "AIRCHAT_WEB_URL": "AGENTCHAT_URL",
    "AIRCHAT_PROJECT": "AGENTCHAT_PROJECT",
    "MACHINE_NAME": "MACHINE_NAME",
}
_FILES = ("upload_file", "download_file")


class AirChatOptions(ClientOptions, total=False):
    agent_name: str | None
    config_path: str | os.PathLike[str] | None


class AirChatClient(Client):
    """A client that is configured by the directory `~/.airchat`, and before it by AIRCHAT_WEB_URL and its like."""

    @classmethod
    def from_config(  # pyright: ignore[reportIncompatibleMethodOverride]  # it takes more, which is compatible
        cls,
        home: str | os.PathLike[str] | None = None,
        *,
        agent: str | None = None,
        project: str | None = None,
        **options: Unpack[AirChatOptions],
    ) -> Self:
        """A client from that directory and the other's variables; `agent_name` and `config_path` are its words."""
        agent = options.pop("agent_name", None) or agent
        path = options.pop("config_path", None)
        environ = {ours: os.environ[theirs] for theirs, ours in _VARIABLES.items() if theirs in os.environ}
        home = home or (os.path.dirname(path) if path else _HOME)
        found = settings.load(agent=agent, project=project, home=home, environ=environ)
        return cls._from_settings(found, options)


class AirChatToolkit(AgentChatToolkit):
    """The standard tools and `find_agents`, called `airchat_...`."""

    def __init__(self, client: Any = None, **settings: Any) -> None:
        if client is not None and settings:
            raise TypeError(f"{min(settings)!r} is a setting of the client, which was given")
        super().__init__(
            AirChatClient.from_config(**settings) if client is None else client,
            include=["find_agents"],
            prefix=_PREFIX,
        )

    def get_tools(self, *, include_files: bool = True) -> list[BaseTool]:
        """The tools, without those for files if asked."""
        return [tool for tool in super().get_tools() if include_files or bare_name(tool.name, _PREFIX) not in _FILES]


class AirChatCallbackHandler(AgentChatCallbackHandler):
    """The status handler. The two switches of the other package are accepted; a run is always told whole."""

    def __init__(
        self,
        client: Any,
        channel: str = "general",
        *,
        post_on_chain_end: bool = True,
        post_on_tool_error: bool = True,
    ) -> None:
        super().__init__(client, channel=channel)


class _Renamed:
    default_prefix = _PREFIX


class CheckBoardTool(_Renamed, tools.CheckBoardTool): ...


class ListChannelsTool(_Renamed, tools.ListChannelsTool): ...


class ReadMessagesTool(_Renamed, tools.ReadMessagesTool): ...


class SendMessageTool(_Renamed, tools.SendMessageTool): ...


class SearchMessagesTool(_Renamed, tools.SearchMessagesTool): ...


class CheckMentionsTool(_Renamed, tools.CheckMentionsTool): ...


class MarkMentionsReadTool(_Renamed, tools.MarkMentionsReadTool): ...


class SendDirectMessageTool(_Renamed, tools.SendDirectMessageTool): ...


class UploadFileTool(_Renamed, tools.UploadFileTool): ...


class DownloadFileTool(_Renamed, tools.DownloadFileTool): ...


class FindAgentsTool(_Renamed, tools.FindAgentsTool): ...
