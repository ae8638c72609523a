"""Who is here, for those who read: an agent is seen as long as it has a stream or a wait open, and readers that ask for
it are told who came and who went.

What is told is of the moment. It stands in no log, has no position, and whoever does not take it in time misses it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from agentchat.errors import AgentChatError

from ..service import agents, attendance, presence
from ..service.attendance import Attending, Change, Looked
from ..service.call import Agent
from ..store.seam import Lane, Reading
from . import blocks
from .feed import Ask, Counts, Pace
from .reader import Reader

_PORTION = 1000  # agents that are noted in one transaction
_log = logging.getLogger("agentchat.relay")


class Attendance:
    """Notes who reads, and looks who is here where somebody asked to be told."""

    def __init__(self, ask: Ask, pace: Pace, counts: Counts, readers: Callable[[], Iterable[int]]) -> None:
        self._ask, self._pace, self._counts, self._readers = ask, pace, counts, readers
        self._rolls: dict[int, Roll] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(_every(self._pace.note, self._note)),
            asyncio.create_task(_every(self._pace.glance, self._glance)),
        ]

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for roll in self._rolls.values():
            roll.close()

    def came(self, reader: Reader) -> None:
        space_id = reader.agent.space_id
        if reader.filter.asks_presence:
            if space_id not in self._rolls:
                self._rolls[space_id] = Roll(space_id, self._ask, self._counts)
            self._rolls[space_id].readers.add(reader)
        if (roll := self._rolls.get(space_id)) is not None and not roll.has_online(reader.agent.id):
            roll.look()

    def left(self, reader: Reader) -> None:
        roll = self._rolls.get(reader.agent.space_id)
        if roll is not None:
            roll.readers.discard(reader)
            if not roll.readers:
                roll.close()
                del self._rolls[reader.agent.space_id]

    async def _note(self) -> None:
        """One write for all of them."""
        here = sorted({*self._readers()})
        for start in range(0, len(here), _PORTION):
            note = partial(presence.see_all, agent_ids=here[start : start + _PORTION])
            await self._ask(Lane.APPEND, note)

    async def _glance(self) -> None:
        for roll in self._rolls.values():
            roll.look()


async def _every(seconds: float, do: Callable[[], Any]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await do()
        except AgentChatError as error:  # the store is busy or full: next time
            _log.warning("Who reads events could not be noted: %s", error)


class Roll:
    """Who is here in one space, as its `readers` know it. It exists while one of them reads."""

    def __init__(self, space_id: int, ask: Ask, counts: Counts) -> None:
        self._space_id, self._ask, self._counts = space_id, ask, counts
        self.readers: set[Reader] = set()
        self._attending: Attending | None = None
        self._is_stale = False
        self._task: asyncio.Task[None] | None = None

    def has_online(self, agent_id: int) -> bool:
        return self._attending is not None and self._attending.get(agent_id) == "online"

    def look(self) -> None:
        self._is_stale = True
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            while self._is_stale:
                self._is_stale = False
                await self._tell()
        except AgentChatError as error:
            _log.warning("Who is here could not be looked at: %s", error)
        except Exception as error:
            _log.error("Who is here could not be looked at", exc_info=error)
        finally:
            self._task = None

    async def _tell(self) -> None:
        """Those who read when the look began; who came later knows better. Keys that were revoked by then get nothing:
        the feed ends them."""
        readers = [*self.readers]
        holders = {reader.key_hash: (reader.agent, reader.epoch) for reader in readers}
        (self._attending, changes), void = await self._ask(
            Lane.READ, partial(_look, space_id=self._space_id, before=self._attending, holders=holders)
        )
        if changes:
            for reader in readers:
                if reader.key_hash not in void:
                    self._hand_over(reader, changes)

    def _hand_over(self, reader: Reader, changes: list[Change]) -> None:
        told = [change.body for change in changes if change.agent_id != reader.agent.id]
        if told and not (reader.is_paused or reader.is_over):
            self._counts.delivered += len(told)
            reader.write(b"".join(map(blocks.live, told)))


def _look(
    tx: Reading, *, space_id: int, before: Attending | None, holders: dict[str, tuple[Agent, int]]
) -> tuple[Looked, set[str]]:
    void = {
        key_hash
        for key_hash, (agent, epoch) in holders.items()
        if epoch < tx.epoch and not agents.holds(tx, key_hash, agent)
    }
    return attendance.look(tx, space_id, before), void
