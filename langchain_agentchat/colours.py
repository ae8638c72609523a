"""Both colours of one agent's client: whoever calls synchronously gets the sync one, a coroutine the async one.

The colour that was not given is made from the other: same relay, key, options and session. A client that is not ours,
that has a transport of its own, or whose class does things its own way, cannot be made over; then a coroutine calls it
in a thread.
"""

from __future__ import annotations

import asyncio
import sys
from inspect import iscoroutinefunction
from typing import Any
from weakref import WeakKeyDictionary

from agentchat import Client
from agentchat._caller import Caller
from agentchat._operation import AsyncCaller, Operation, SyncCaller
from agentchat.contract import OPERATIONS

# The twin of each client, so that all its tools share one. A twin holds nothing that would keep its client alive.
_TWINS: WeakKeyDictionary[Caller, Caller] = WeakKeyDictionary()
_WHAT_A_CLIENT_DOES = {*OPERATIONS, "_invoke", "_steps", "with_options"}


def is_async(client: object) -> bool:
    """Whether a client's operations are coroutines. A client may be any object with methods of the contract's names."""
    if isinstance(client, SyncCaller | AsyncCaller):
        return isinstance(client, AsyncCaller)
    return any(iscoroutinefunction(getattr(client, name, None)) for name in ("check_board", "send_message"))


def sync_client(client: Any) -> Any:
    """The client for a thread that may wait."""
    if not is_async(client):
        return client
    from .client import AsyncClient  # here, and not above: httpx takes long to load, and not everybody awaits

    if not _can_be_made_over(client, AsyncClient):
        raise TypeError(f"{client!r} can only be awaited: use ainvoke, or make the tools with a sync client.")
    return _TWINS.get(client) or _TWINS.setdefault(client, Client.like(client))


def async_client(client: Any) -> Any | None:
    """The client for an event loop, or None if there is only a sync one, which needs a thread."""
    if is_async(client):
        return client
    if not _can_be_made_over(client, Client):
        return None
    from .client import AsyncClient

    return _TWINS.get(client) or _TWINS.setdefault(client, AsyncClient.like(client))


def _can_be_made_over(client: Any, kind: type[Caller]) -> bool:
    """Whether a client of the other colour would do the same: what a subclass guards, its twin would let through."""
    if not isinstance(client, kind) or client.custom_transport:
        return False
    own = type(client).__mro__[: type(client).__mro__.index(kind)]
    return not any(vars(one).keys() & _WHAT_A_CLIENT_DOES for one in own)


def call(client: Any, operation: Operation[..., Any], arguments: dict[str, Any], key: str | None) -> Any:
    """Run an operation and wait for it."""
    return _method(sync_client(client), operation, key)(**arguments)


async def acall(client: Any, operation: Operation[..., Any], arguments: dict[str, Any], key: str | None) -> Any:
    """Run an operation on an event loop."""
    native = client if is_async(client) else await _twin_of(client)
    if native is None:
        return await asyncio.to_thread(_method(client, operation, key), **arguments)
    return await _method(native, operation, key)(**arguments)


async def _twin_of(client: Any) -> Any | None:
    """The async client that goes with a sync one. Its modules are loaded in a thread: that reads files."""
    if not _can_be_made_over(client, Client):
        return None
    return (
        async_client(client)
        if f"{__package__}.client" in sys.modules
        else await asyncio.to_thread(async_client, client)
    )


def close(client: Any) -> None:
    """Close the connections of the sync colour, if there are any."""
    for one in _both(client):
        if not is_async(one) and hasattr(one, "close"):
            one.close()


async def aclose(client: Any) -> None:
    """Close the connections of both colours, as far as they belong to this loop."""
    close(client)
    for one in _both(client):
        if is_async(one) and hasattr(one, "close"):
            await one.close()


def _both(client: Any) -> list[Any]:
    twin = _TWINS.get(client) if isinstance(client, Caller) else None
    return [client] if twin is None else [client, twin]


def _method(client: Any, operation: Operation[..., Any], key: str | None) -> Any:
    if key is not None and hasattr(client, "with_options"):
        client = client.with_options(idempotency_key=key)
    return getattr(client, operation.name)
