"""Operations that are JSON both ways: a request becomes checked arguments, a service call, and an enveloped answer."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import msgspec

from agentchat._exchange import IDEMPOTENCY_HEADER, SCOPES_HEADER, SESSION_HEADER
from agentchat._operation import Operation
from agentchat.errors import BadRequest

from ..service import groups, scopes
from ..service.call import Agent, Call, Unjudged
from ..service.operations import Entry
from ..store.seam import Lane
from . import compat
from .arguments import Arguments
from .asked import Asked
from .authentication import Caller
from .parts import Parts
from .reply import Reply, enveloped, json_reply
from .request import Request

_FREELY = nullcontext()
_KEY, _SESSION, _SCOPES = (name.encode() for name in (IDEMPOTENCY_HEADER, SESSION_HEADER, SCOPES_HEADER))
_is_key = re.compile(rb"[ -~]{1,128}").fullmatch  # or a session
_canonical = msgspec.json.Encoder(order="sorted").encode


class OperationRoute:
    """An operation of agents."""

    def __init__(self, parts: Parts, entry: Entry) -> None:
        self._parts = parts
        self._operation, self._lane, self._service = entry
        self._arguments = Arguments(entry.operation)
        self._allowance = parts.writes if entry.operation.writes else parts.reads
        self._loops = parts.settings.loops
        self._answer = enveloped if entry.operation.path.startswith("/api/v2/") else json_reply

    async def __call__(self, request: Request) -> Reply:
        parts = self._parts
        caller = await parts.agents.caller(request)
        agent = caller.agent
        await self._allowance.take(agent.id)
        arguments = await self._arguments.read(request)
        call = call_of(self._operation, agent, request, arguments)._replace(loops=self._loops)
        with parts.at_a_time(agent.id) if self._lane == Lane.SEARCH else _FREELY:
            result = await self._ask(caller, call, arguments)
        if self._lane == Lane.APPEND and result.get("pending"):
            parts.go_on(groups.fan_out)
        return self._answer(compat.given_out(self._operation.name, result))

    async def _ask(self, caller: Caller, call: Call, arguments: dict[str, Any]) -> Any:
        parts, lane, service = self._parts, self._lane, self._service
        try:
            return await parts.ask(lane, Asked(caller, call, lambda tx: service(tx, call, **arguments)))
        except Unjudged as found:
            with parts.at_a_time(caller.agent.id):
                await asyncio.to_thread(found.judge)
        judged = call._replace(is_judged=True)
        return await parts.ask(lane, Asked(caller, judged, lambda tx: service(tx, judged, **arguments)))


class AdminRoute:
    """An operation of the relay's operator."""

    def __init__(self, parts: Parts, entry: Entry) -> None:
        self._parts = parts
        self._operation, self._lane, self._service = entry
        self._arguments = Arguments(entry.operation)

    async def __call__(self, request: Request) -> Reply:
        parts, service = self._parts, self._service
        await parts.operators.check_bearer(request, parts.address_of(request))
        arguments = await self._arguments.read(request)
        return enveloped(await parts.ask(self._lane, lambda tx: service(tx, **arguments)))


def call_of(operation: Operation[..., Any], agent: Agent, request: Request, arguments: Mapping[str, Any]) -> Call:
    """The caller, and the key by which a repeat of this very call is known."""
    key, session = request.headers.get(_KEY), request.headers.get(_SESSION)
    if session is not None and _is_key(session) is None:
        raise BadRequest(f"{SESSION_HEADER} must be 1 to 128 printable ASCII characters.")
    label = None if session is None else session.decode()
    presented = request.headers.get(_SCOPES)
    given = () if presented is None else scopes.read(presented.decode("latin-1"))
    if key is None:
        return Call(agent, session=label, scopes=given)
    if _is_key(key) is None:
        raise BadRequest(f"{IDEMPOTENCY_HEADER} must be 1 to 128 printable ASCII characters.")
    if operation.overlooked:
        arguments = {name: value for name, value in arguments.items() if name not in operation.overlooked}
    what = f"{operation.name} ".encode() + _canonical(arguments)
    return Call(agent, key.decode(), hashlib.blake2b(what, digest_size=16).digest(), label, given)
