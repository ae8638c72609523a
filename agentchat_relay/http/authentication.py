"""Who is calling: an agent by its key, an operator by the admin credential. Identity comes from nowhere else."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import Any, NamedTuple

from agentchat._exchange import KEY_HEADER
from agentchat.errors import AgentChatError, Forbidden, Unauthorized, Unavailable

from ..service import agents, presence, retirement
from ..service.call import Agent
from ..store.seam import Lane, Reading, Store
from .allowance import Attempts
from .credentials import Credentials
from .request import Request

Ask = Callable[[Lane, Callable[[Any], Any]], Coroutine[Any, Any, Any]]
_KEY = KEY_HEADER.encode()
_UNKNOWN = "This agent key is unknown or no longer valid."
_MOST_CACHED = 100_000
_PATIENCE = 1.0  # seconds for a store that is busy


class Caller(NamedTuple):
    """An agent, as the hash of its key told, and the epoch in which it did."""

    agent: Agent
    key_hash: str
    epoch: int

    def confirm(self, tx: Reading) -> None:
        """Whether this is still so, in the transaction that does what was asked. A key may have been revoked since, by
        another process too."""
        if tx.epoch == self.epoch:
            return
        if not agents.holds(tx, self.key_hash, self.agent):
            raise Unauthorized(_UNKNOWN)


class Agents:
    """Agents by the hash of their key, and when their presence was noted last, by the clock of this process. The cache
    lasts until the store says that something about keys changed."""

    def __init__(self, store: Store, ask: Ask, clock: Callable[[], int]) -> None:
        self._store, self._ask, self._clock = store, ask, clock
        self._epoch = store.epoch
        self._cache: dict[bytes, tuple[Caller, int]] = {}

    async def caller(self, request: Request) -> Caller:
        key = request.headers.get(_KEY)
        if not key:
            raise Unauthorized(f"The header {KEY_HEADER} is missing: it holds the agent's key.")
        if self._epoch != self._store.epoch or len(self._cache) > _MOST_CACHED:
            self._cache.clear()
            self._epoch = self._store.epoch
        hash = hashlib.sha256(key).digest()
        found = self._cache.get(hash)
        if found is None:
            found = await self._look_up(hash, key)
        caller, seen_at = found
        unseen = (now := self._clock()) - seen_at
        if 0 <= unseen < presence.SEEN_EVERY:  # a clock may have been set back
            return caller
        if hash in self._cache:  # not what was looked up while its key was being revoked
            self._cache[hash] = (caller, now)
        if 0 <= unseen < presence.PRESENT:
            note = partial(presence.see, agent_id=caller.agent.id)
            with suppress(Unavailable):
                self._store.submit(Lane.APPEND, note, lambda result, error: None)
        elif not await self._arrived(caller):
            self._cache.pop(hash, None)  # so that the next call says it again
        return caller

    async def _arrived(self, caller: Caller) -> bool:
        """Others learn at once who is back after a while, and one that was retired is back before it goes on. A store
        that cannot write is no reason not to read."""
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._ask(Lane.WRITE, partial(retirement.arrive, agent_id=caller.agent.id))
        except (AgentChatError, TimeoutError):
            return False
        return True

    async def _look_up(self, hash: bytes, key: bytes) -> tuple[Caller, int]:
        caller, unseen = await self._ask(Lane.READ, partial(self._known, hash=hash, key=key))
        found = caller, self._clock() - unseen
        if caller.epoch == self._store.epoch == self._epoch:
            self._cache[hash] = found
        return found

    def _known(self, tx: Reading, *, hash: bytes, key: bytes) -> tuple[Caller, int]:
        """Whose key it is, and for how long that one was not seen."""
        found = agents.with_key(tx, hash.hex())
        if found is None:
            raise Unauthorized(_UNKNOWN)
        agent, unseen = found
        return Caller(agent, hash.hex(), tx.epoch), unseen


class Operators:
    """Who knows the admin credential. Whoever does not has only so many attempts."""

    def __init__(self, credentials: Credentials, attempts: Attempts) -> None:
        self._credentials, self._attempts = credentials, attempts

    async def check_bearer(self, request: Request, address: str) -> None:
        scheme, _, secret = (request.text(b"authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not secret:
            raise Unauthorized("The admin routes need: Authorization: Bearer <the content of admin.key>")
        if not await self._knows(secret.strip(), address):
            raise Unauthorized("This is not the admin credential.")

    async def check_secret(self, secret: str, address: str) -> None:
        if not await self._knows(secret, address):
            raise Forbidden("admin_secret is wrong.")

    async def _knows(self, secret: str, address: str) -> bool:
        if await self._credentials.knows(secret):
            return True  # whatever others tried from the same address
        await self._attempts.check(address)
        await self._attempts.count(address)
        return False


def address_of(request: Request, trusted: tuple[str, ...]) -> str:
    """The caller's address. Forwarded headers count only as far as trusted proxies vouch for them."""
    client = request.scope.get("client")
    address = str(client[0]) if client else "unknown"
    if trusted and address in trusted:
        forwarded = (request.text(b"x-forwarded-for") or "").split(",")
        for hop in (hop.strip() for hop in reversed(forwarded)):
            if not hop or hop not in trusted:
                return _normal(hop) or address
    return address


def _normal(text: str) -> str | None:
    try:
        return str(ip_address(text))
    except ValueError:
        return None
