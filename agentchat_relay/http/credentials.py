"""Where a relay's own secrets are: in its data directory, or, where several relays serve one store, in that."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from agentchat.errors import NotConfigured, Unavailable

from ..directory import Directory
from ..service import credentials
from ..store.seam import Lane

Ask = Callable[[Lane, Callable[[Any], Any]], Coroutine[Any, Any, Any]]
_log = logging.getLogger("agentchat.relay")


class Credentials(Protocol):
    """The admin credential, as it is now, so that a rotated one works at once; and what links are signed with."""

    async def open(self) -> bytes:
        """Make what is missing; returns the secret of links."""
        ...

    async def knows(self, secret: str) -> bool:
        """Whether this is the admin credential."""
        ...


class InDirectory:
    """Of the one relay of a data directory."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    async def open(self) -> bytes:
        self._directory.admin_secret()
        return self._directory.link_secret()

    async def knows(self, secret: str) -> bool:
        try:
            known = self._directory.admin_secret(make=False)
        except NotConfigured as error:  # which names a path: for the log only
            _log.error("%s", error.message)
            raise Unavailable("The relay cannot read its admin credential; its operator must look.") from None
        return hmac.compare_digest(secret.encode("utf-8", "replace"), known.encode())


class InStore:
    """Of all relays of a store. The first one's directory holds what it made; of the admin credential the store keeps
    the hash only."""

    def __init__(self, directory: Directory, ask: Ask) -> None:
        self._directory, self._ask = directory, ask

    async def open(self) -> bytes:
        mine = self._directory.admin_secret()
        if not await self._ask(Lane.WRITE, partial(credentials.admit, secret=mine)):
            self._directory.forget_admin_secret()
            _log.info(
                "The admin credential of this database was made by another relay. Give admin commands the database "
                "itself (--store), or make a new one: agentchat admin credential rotate --store URL"
            )
        links = self._directory.link_secret().decode()
        secret: str = await self._ask(Lane.WRITE, partial(credentials.link_secret, mine=links))
        return secret.encode()

    async def knows(self, secret: str) -> bool:
        known: bool = await self._ask(Lane.READ, partial(credentials.is_admin, secret=secret))
        return known
