"""What happens before there is a key: machines register agents, an operator admits machines. Neither is enveloped."""

from __future__ import annotations

import re
from typing import Any

from agentchat.errors import AgentChatError, BadRequest, RateLimited, TooLarge

from ..service import administration, agents, machines
from ..service.machines import Registration, Rules
from ..store.seam import Lane
from .parts import Parts
from .reply import Reply, json_reply
from .request import Request, read_json

_NAME = re.compile("[a-z0-9][a-z0-9-]{1,99}")
_HEX = re.compile("[0-9a-f]{64}")
_MEMBERS = ("machine_name", "agent_name", "derived_key_hash", "timestamp", "nonce", "signature")
_LONGEST = 200
_TOO_MANY = "Too many registrations failed from this address; wait."


class Register:
    """Every attempt counts against its address until it proves to be signed by a machine. Once an address had too many,
    only what a machine really signed gets through, so that nobody's junk locks anybody out."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._rules = Rules(parts.settings.most_agents, parts.settings.own_names)

    async def __call__(self, request: Request) -> Reply:
        parts, rules = self._parts, self._rules
        address = parts.address_of(request)
        attempts = parts.bad_registrations
        if not (wait := await attempts.wait(address)):
            await attempts.count(address)
        try:
            sent = _registration(read_json(await request.body()))
            if wait and not await parts.ask(Lane.READ, lambda tx: machines.is_signed(tx, sent)):
                raise machines.NotSigned
            result = await parts.ask(Lane.WRITE, lambda tx: machines.register(tx, sent, rules))
        except TooLarge:
            raise
        except (BadRequest, machines.NotSigned, machines.Replayed):
            if wait:
                raise RateLimited(_TOO_MANY, retry_after=wait) from None
            raise
        except AgentChatError:
            await self._was_signed(address, wait)
            raise
        await self._was_signed(address, wait)
        return json_reply(result)

    async def _was_signed(self, address: str, wait: float) -> None:
        if not wait:
            await self._parts.bad_registrations.uncount(address)


def _registration(given: dict[str, Any]) -> Registration:
    card = given.get("card")
    if card is not None and not isinstance(card, dict):
        raise BadRequest("card must be an object.")
    checked = None if card is None else agents.checked_card(card)
    texts: dict[str, str] = {}
    for name in _MEMBERS:
        value = given.get(name)
        if not isinstance(value, str) or not value:
            raise BadRequest(f"{name} is required, as text.")
        if len(value) > _LONGEST or not value.isascii():
            raise BadRequest(f"{name} must be at most {_LONGEST} ASCII characters.")
        texts[name] = value
    sent = Registration(**texts, card=checked)
    if not _NAME.fullmatch(sent.agent_name):
        raise BadRequest("agent_name must be 2 to 100 of a-z, 0-9 and '-', starting with a letter or digit.")
    if not _HEX.fullmatch(sent.derived_key_hash):
        raise BadRequest("derived_key_hash must be 64 lowercase hex digits.")
    return sent


class RegisterMachine:
    """`admin_secret` is the admin credential."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def __call__(self, request: Request) -> Reply:
        given = read_json(await request.body())
        name, key, secret = (given.get(member) for member in ("machine_name", "public_key", "admin_secret"))
        if not isinstance(name, str) or not re.fullmatch("[a-z0-9][a-z0-9-]{0,49}", name):
            raise BadRequest("machine_name must be 1 to 50 of a-z, 0-9 and '-', starting with a letter or digit.")
        if not isinstance(key, str) or not _HEX.fullmatch(key):
            raise BadRequest("public_key must be 64 lowercase hex digits.")
        if not isinstance(secret, str) or not secret:
            raise BadRequest("admin_secret is required, as text.")
        await self._parts.operators.check_secret(secret, self._parts.address_of(request))
        await self._parts.ask(Lane.WRITE, lambda tx: administration.register_machine(tx, name, key))
        return json_reply({"machine_name": name, "registered": True})
