"""What other relay processes have committed, as soon as they tell.

A notification says which epoch it is and how far spaces have come, never what was written: whoever wants to know reads.
It is a hint, since any role of the database could send one: an epoch that nobody knew is looked up. One that gets lost
is made up for by looking after a few seconds, and whenever the connection had to be made anew.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

import psycopg

from ..groups import NoDatabase
from ..statements import statements
from .connection import SIZES, Connection, Link, control

# Each process of a relay shares this lock of its schema, so that others can see that it is there. Nobody waits for it.
RELAY_LOCK = "hashtextextended('agentchat relay ' || current_schema(), 0)"
_LOOK_EVERY = 5.0  # seconds
_PAUSE = 0.5
_log = logging.getLogger("agentchat.relay")


class Extent(NamedTuple):
    """How much there is."""

    messages: int  # the highest id
    bytes: Mapping[str, int]


class Heard(NamedTuple):
    """The epoch, the newest positions of spaces that are known to have grown, and, now and then, how much there is."""

    epoch: int
    positions: Mapping[int, int]
    extent: Extent | None = None


def read(payload: str) -> Heard:
    """What a notification says; nothing at all if it is none of ours."""
    try:
        epoch, _, places = payload.partition(";")
        pairs = (place.split(":") for place in places.split(",") if place)
        return Heard(int(epoch), {int(space_id): int(position) for space_id, position in pairs})
    except ValueError:
        return Heard(0, {})


def look(connection: Connection) -> Heard:
    """How things are."""
    ((epoch,),) = control(connection, "SELECT epoch FROM epochs")
    rows = control(connection, "SELECT id, position FROM spaces")
    ((newest,),) = control(connection, statements("postgres")["newest_message"].sql)
    ((tables, fulltext),) = control(connection, SIZES)
    positions = {int(id or 0): int(position or 0) for id, position in rows}
    extent = Extent(int(newest or 0), {"rows": int(tables or 0), "fulltext": int(fulltext or 0)})
    return Heard(int(epoch or 0), positions, extent)


class Listener:
    """A thread with a connection of its own, which calls `told` with every piece of news."""

    def __init__(self, link: Link, channel: str, told: Callable[[Heard], None]) -> None:
        self._link, self._channel, self._told = link, channel, told
        self._epoch = 0
        self._stopping, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._run, name="agentchat-listener", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        os.write(self._stop, b".")
        self._thread.join()
        os.close(self._stop)
        os.close(self._stopping)

    def _run(self) -> None:
        listening: Connection | None = None
        while True:
            try:
                connection = self._link.get()
                if connection is not listening:
                    control(connection, f'LISTEN "{self._channel}"; SELECT pg_advisory_lock_shared({RELAY_LOCK})')
                    listening = connection
                self._tell(look(connection))  # what was told while nobody listened
                if self._listen(connection):
                    break
            except Exception as error:
                if not isinstance(error, psycopg.OperationalError | NoDatabase):  # which were told of
                    _log.warning("Listening to the other relays failed: %s", type(error).__name__)
                if self._wait(None):
                    break
        self._link.close()

    def _listen(self, connection: Connection) -> bool:
        """For a while; whether the relay is to stop."""
        until = time.monotonic() + _LOOK_EVERY
        while (left := until - time.monotonic()) > 0:
            if self._wait(connection, left):
                return True
            connection.pgconn.consume_input()
            while (notification := connection.pgconn.notifies()) is not None:
                news = read(notification.extra.decode("ascii", "replace"))
                self._tell(news if news.epoch <= self._epoch else look(connection))
        return False

    def _wait(self, connection: Connection | None, seconds: float = _PAUSE) -> bool:
        """For a word of Postgres, if there is a connection; whether the relay is to stop."""
        poll = select.poll()  # select() knows no descriptor above 1023, and streams may have taken all below
        poll.register(self._stopping, select.POLLIN)
        if connection is not None:
            poll.register(connection.pgconn.socket, select.POLLIN)
        return any(ready == self._stopping for ready, _ in poll.poll(seconds * 1000))

    def _tell(self, news: Heard) -> None:
        self._epoch = max(self._epoch, news.epoch)
        with suppress(Exception):  # whoever listens has to cope by themselves
            self._told(news)
