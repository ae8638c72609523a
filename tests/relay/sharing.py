"""What stands for a relay in tests that run without one (`--mode local`): a directory, and names for keys."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, cast

import pytest

from agentchat_relay.directory import Directory
from agentchat_relay.embedded import Embedded
from agentchat_relay.service import administration, upkeep
from agentchat_relay.store.seam import Lane
from agentchat_relay.store.sqlite.engine import Sqlite


class Shared:
    """As much of an embedded relay as a client's tests ask of one. What only a server has, they skip."""

    def __init__(self) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="agentchat-")
        self.directory = Directory(self._place.name)
        self.directory.share()
        self.url = f"local:{self.directory.path}"
        self.store = Sqlite(self.directory.path, neighbours=True)
        self.store.ask(Lane.WRITE, upkeep.seed)

    def token(self, name: str, *, space: str = "main", kind: str | None = None) -> str:
        """An agent is there from its first call on; tests expect it from here on."""
        if space != "main":
            pytest.skip("other spaces need a relay")
        self.ask(lambda tx: administration.named(tx, name))
        if kind is not None:
            self.ask(lambda tx: administration.agent_update(tx, name=name, kind=kind))
        return name

    def ask(self, call: Any) -> Any:
        return self.store.ask(Lane.WRITE, call)

    def space(self, name: str) -> None:
        pytest.skip("other spaces need a relay")

    @property
    def relay(self) -> Any:
        pytest.skip("there is no relay to look into")

    def close(self) -> None:
        self.store.close()
        self.directory.release()
        self._place.cleanup()


@contextmanager
def apart(live: Embedded, name: str) -> Iterator[tuple[Embedded, str]]:
    """A space of a test's own, and where it is: without a relay that is another directory."""
    if isinstance(live, Shared):
        with closing(Shared()) as shared:
            yield cast("Embedded", shared), "main"
    else:
        live.space(name)
        yield live, name
