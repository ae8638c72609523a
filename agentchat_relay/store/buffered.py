"""What the writing transactions of all engines have in common: they count in memory and write at the end of a group.

A call that appends gets its numbers at once, from counters that were read when they were first needed; the rows and
the counters themselves are written down by `flush`, one statement for each kind, however many calls there were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from .cache import Shared
from .seam import Place, Standing
from .statements import Statement

LARGEST_MEMO = 50_000
Pending = Mapping[str, Sequence[tuple[Any, ...]]]


class Counters:
    """Where a channel stands, with what this group added."""

    __slots__ = ("at", "chats", "latest", "number")

    def __init__(self, number: int, chats: int, at: int, latest: int | None) -> None:
        self.number, self.chats, self.at, self.latest = number, chats, at, latest


class Buffered:
    """An engine adds how statements are run, and how a transaction begins and ends."""

    now: int
    _statements: dict[str, Statement]

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self.encoded = shared.current
        self.memo: dict[Any, Any] = {}
        self.tallies: dict[Any, Any] = {}
        self.steps = 0  # grows with every write of any kind
        self.forgot = False
        self._pending: dict[str, list[tuple[Any, ...]]] = {}
        self._tokens: set[object] = set()
        self._channels: dict[int, Counters] = {}
        self._moved: set[int] = set()  # channels whose counters are ahead of their rows
        self._positions: dict[int, int] = {}
        self._grown: set[int] = set()  # the same for spaces
        self._reached: dict[int, int] = {}  # where spaces stand that grew in this group
        self._grown_lately: dict[int, int] = {}  # the same, committed, since the engine looked
        self._next_message = 0

    # What an engine adds

    def the(self, statement: str, /, **values: Any) -> Any:
        raise NotImplementedError

    def _newest(self) -> int:
        """The highest id that a message ever had."""
        raise NotImplementedError

    def _write_down(self, pending: Pending) -> None:
        raise NotImplementedError

    def _control(self, sql: str) -> None:
        raise NotImplementedError

    # What service functions use

    def later(self, statement: str, /, **values: Any) -> None:
        self.steps += 1
        row = self._statements[statement].bind(values)
        rows = self._pending.get(statement)
        if rows is None:
            self._pending[statement] = [row]
        else:
            rows.append(row)

    def mark(self, token: object) -> None:
        self._tokens.add(token)

    def settle(self, token: object) -> None:
        if token in self._tokens:
            self.flush()

    def place(self, channel_id: int, *, chat: bool) -> Place:
        self.steps += 1
        counters = self._channels.get(channel_id) or self._load(channel_id)
        if not self._next_message:
            self._next_message = 1 + self._newest()
        id = self._next_message
        self._next_message += 1
        counters.number += 1
        if chat:
            counters.chats += 1
            counters.latest = id
        counters.at = max(self.now, counters.at + 1)
        self._moved.add(channel_id)
        return Place(id, counters.number, counters.chats, counters.at)

    def standing(self, channel_id: int) -> Standing:
        counters = self._channels.get(channel_id) or self._load(channel_id)
        return Standing(counters.chats, counters.at)

    def event(
        self,
        space_id: int,
        kind: str,
        *,
        actor_id: int | None,
        subject: str,
        channel_id: int | None = None,
        audience_id: int | None = None,
        payload: str = "",
    ) -> None:
        position = self._positions.get(space_id)
        if position is None:
            position = self.the("space_position", id=space_id)["position"]
        self._positions[space_id] = position = position + 1
        self._grown.add(space_id)
        self.later(
            "insert_event",
            space_id=space_id,
            position=position,
            kind=kind,
            actor_id=actor_id,
            subject=subject,
            channel_id=channel_id,
            audience_id=audience_id,
            created_at=self.now,
            hash=hashlib.blake2b(f"{subject}\n{payload}".encode(), digest_size=16).digest(),
        )

    def forget(self) -> None:
        self.steps += 1
        self.forgot = True
        self.memo.clear()
        self.flush()  # what tallies say is about to be written
        self.tallies.clear()

    # What the engine uses

    @property
    def newest(self) -> int:
        """The highest id that a message ever had."""
        return self._next_message - 1 if self._next_message else self._newest()

    def committed(self) -> dict[int, int]:
        """Where spaces stand that grew since this was asked before."""
        positions, self._grown_lately = self._grown_lately, {}
        return positions

    def flush(self) -> None:
        """Write down what was buffered."""
        pending: dict[str, Sequence[tuple[Any, ...]]] = {**self._pending}
        if self._moved:
            moved = [(id, self._channels[id]) for id in self._moved]
            pending["move_channel"] = [
                (counters.number, counters.chats, counters.at, counters.latest, id) for id, counters in moved
            ]
        if self._grown:
            pending["move_space"] = [(self._positions[id], id) for id in self._grown]
            self._reached.update((id, self._positions[id]) for id in self._grown)
        if pending:
            self._write_down(pending)
        self._settled()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Whatever raises in here leaves nothing behind."""
        self.flush()
        before = self.steps
        reached = {**self._reached}
        self._control("SAVEPOINT call")
        try:
            yield
            self.flush()
        except BaseException:
            self._reached = reached
            self._control("ROLLBACK TO call")
            self._control("RELEASE call")
            if self.steps != before:
                self._settled()
                self._drop_caches()
            raise
        self._control("RELEASE call")

    def _load(self, channel_id: int) -> Counters:
        found = self._channels[channel_id] = self._counters(self.the("channel_counters", id=channel_id))
        return found

    @staticmethod
    def _counters(row: Any) -> Counters:
        return Counters(row["number"], row["chats"], row["last_at"], row["latest_id"])

    def _commit_positions(self) -> None:
        self._grown_lately.update(self._reached)
        self._reached.clear()

    def _settled(self) -> None:
        self._pending.clear()
        self._tokens.clear()
        self._moved.clear()
        self._grown.clear()

    def _drop_counters(self) -> None:
        """Somebody else may have counted on."""
        self._channels.clear()
        self._positions.clear()
        self.tallies.clear()
        self._next_message = 0

    def _drop_caches(self) -> None:
        self._drop_counters()
        self.memo.clear()
        self.encoded = self._shared.renew()
