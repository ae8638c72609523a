"""Operations that are JSON both ways: a request becomes checked arguments, a service call, and an enveloped answer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from agentchat._arguments import check
from agentchat._exchange import IDEMPOTENCY_HEADER, SESSION_HEADER
from agentchat._operation import Operation
from agentchat.errors import BadRequest

from ..service.call import Agent, Call
from ..service.operations import Entry
from . import compat
from .parts import Parts
from .reply import Reply, enveloped, json_reply
from .request import Request

_KEY = IDEMPOTENCY_HEADER.encode()
_SESSION = SESSION_HEADER.encode()
_LONGEST_KEY = 128
_canonical = msgspec.json.Encoder(order="sorted").encode
Given = dict[str, Any]


class OperationRoute:
    """An operation of agents."""

    def __init__(self, parts: Parts, entry: Entry) -> None:
        self._parts = parts
        self._operation = entry.operation
        self._lane = entry.lane
        self._service = entry.service
        self._renamed = renamed(entry.operation)
        self._buckets = parts.writes if entry.operation.writes else parts.reads
        self._enveloped = entry.operation.path.startswith("/api/v2/")

    async def __call__(self, request: Request) -> Reply:
        operation, service = self._operation, self._service
        agent = await self._parts.agents.agent(request)
        self._buckets.take(agent.id)
        given = request.query() if operation.verb == "GET" else await request.json()
        arguments = arguments_of(operation, given, request.segments, self._renamed)
        call = call_of(operation, agent, request, arguments)
        result = await self._parts.ask(self._lane, lambda tx: service(tx, call, **arguments))
        result = compat.given_out(operation.name, result)
        return enveloped(result) if self._enveloped else json_reply(result)


class AdminRoute:
    """An operation of the relay's operator."""

    def __init__(self, parts: Parts, entry: Entry) -> None:
        self._parts = parts
        self._entry = entry

    async def __call__(self, request: Request) -> Reply:
        self._parts.operators.check_bearer(request, self._parts.address_of(request))
        operation, lane, service = self._entry
        given = request.query() if operation.verb == "GET" else await request.json()
        arguments = check(operation, given, lenient=True)
        return enveloped(await self._parts.ask(lane, lambda tx: service(tx, **arguments)))


def renamed(operation: Operation[..., Any]) -> list[tuple[str, tuple[str, ...]]]:
    """Parameters that travel under another name."""
    return [
        (name, parameter.wire) for name, parameter in operation.parameters.items() if parameter.wire != (name,)
    ]  # fmt: skip


def arguments_of(
    operation: Operation[..., Any],
    given: Given,
    segments: Mapping[str, str],
    other_names: list[tuple[str, tuple[str, ...]]],
) -> Given:
    """What was sent, by the names of the declaration, checked."""
    given = compat.taken_in(operation.name, given)
    for name, wire in other_names:
        value: Any = given
        for step in wire:
            value = value.get(step) if isinstance(value, dict) else None
        given[name] = value
    if segments:
        given.update(segments)
    arguments = check(operation, given, lenient=True)
    for name, value in arguments.items():
        if isinstance(value, str) and "\0" in value:  # not every engine can store it
            raise BadRequest(f"{operation.name}: {name} must not hold a NUL character; take it out.")
    return arguments


def call_of(operation: Operation[..., Any], agent: Agent, request: Request, arguments: Mapping[str, Any]) -> Call:
    """The caller, and the key by which a repeat of this very call is known."""
    session = request.headers.get(_SESSION)
    label = None if session is None else session[:128].decode("latin-1")
    key = request.headers.get(_KEY)
    if key is None:
        return Call(agent, session=label)
    if not 1 <= len(key) <= _LONGEST_KEY or not key.isascii() or not key.decode().isprintable():
        raise BadRequest(f"{IDEMPOTENCY_HEADER} must be 1 to {_LONGEST_KEY} printable ASCII characters.")
    digest = hashlib.blake2b(operation.name.encode() + _canonical(arguments), digest_size=16).digest()
    return Call(agent, key.decode(), digest, label)
