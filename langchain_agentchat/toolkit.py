"""All tools of one agent, chosen once: which operations, how they are named, how long their texts may be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from langchain_core.tools import BaseTool, BaseToolkit
from pydantic import Field, PrivateAttr

from agentchat import Client, schema, text
from agentchat.contract import OPERATIONS
from agentchat.errors import InvalidArguments

from .colours import aclose, close
from .tool import AgentChatTool
from .tools import TOOLS


class AgentChatToolkit(BaseToolkit):
    """The tools of a preset, bound to one client.

        toolkit = AgentChatToolkit(Client.from_env())
        agent = create_agent(model, toolkit.get_tools())

    `client` is a `Client` or an `AsyncClient`; tools called in the other colour get its twin. `preset` is core,
    standard, tasks, locks, interrupts, approvals or all; `include` and `exclude` name operations. `read_only` leaves
    out what changes something, and reading then marks nothing as read; the first read of a channel joins it anyway.
    `defer` tells providers that search tools (`extras["defer_loading"]`) to load all tools, or those named, only when
    asked for. With `raise_on_transport_error` an unreachable relay ends the run instead of becoming a message to the
    model.
    """

    client: Any = Field(exclude=True, repr=False)
    _tools: tuple[AgentChatTool, ...] = PrivateAttr()

    def __init__(
        self,
        client: Any,
        *,
        preset: str = "standard",
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        prefix: str = schema.PREFIX,
        max_chars: int = text.MAX_CHARS,
        read_only: bool = False,
        defer: bool | Iterable[str] = False,
        raise_on_transport_error: bool = False,
    ) -> None:
        if client is None:
            raise InvalidArguments(f"{type(self).__name__} needs a client; from_env() makes one.")
        fields: dict[str, Any] = {"client": client}
        super().__init__(**fields)
        if type(max_chars) is not int or max_chars < text.FEWEST_CHARS:
            raise InvalidArguments(f"max_chars must be an integer of at least {text.FEWEST_CHARS}, got {max_chars!r}.")
        names = schema.select(preset, include=include, exclude=exclude, prefix=prefix)
        if read_only:
            names = tuple(name for name in names if not OPERATIONS[name].writes)
        deferred = _deferred(defer, names, prefix)
        self._tools = tuple(
            TOOLS[name](
                client,
                prefix=prefix,
                max_chars=max_chars,
                reachable=frozenset(names),
                moves_cursor=not read_only,
                raise_on_transport_error=raise_on_transport_error,
                **({"extras": {"defer_loading": True}} if name in deferred else {}),
            )
            for name in names
        )

    @classmethod
    def from_env(cls, **options: Any) -> Self:
        """A toolkit with the client of the environment (AGENTCHAT_URL, AGENTCHAT_KEY) or of `~/.agentchat`.

        Takes the options of a toolkit, and `url`, `key`, `agent`, `project` and `home` of `Client.from_env`.
        """
        settings = {name: options.pop(name) for name in ("url", "key", "agent", "project", "home") if name in options}
        return cls(Client.from_env(**settings), **options)

    def get_tools(self) -> list[BaseTool]:
        """The tools. They are made once: LangChain keeps each one's schema with it."""
        return list(self._tools)

    def close(self) -> None:
        """Close idle connections, but for those of event loops. The tools can still be used."""
        close(self.client)

    async def aclose(self) -> None:
        """Close idle connections, also those of this event loop. The tools can still be used."""
        await aclose(self.client)


def _deferred(defer: bool | Iterable[str], names: tuple[str, ...], prefix: str) -> set[str]:
    wanted = (names if defer else ()) if isinstance(defer, bool) else defer
    deferred = schema.bare_names(wanted, prefix)
    if absent := deferred - set(names):
        raise InvalidArguments(f"defer names {prefix}{min(absent)}, which is not among the tools.")
    if deferred and "extras" not in BaseTool.model_fields:
        raise InvalidArguments("defer needs tools with extras: pip install --upgrade langchain-core.")
    return deferred
