"""What never changes needs to be encoded once: a bounded cache by number."""

from __future__ import annotations

import threading
from collections.abc import Sized

_MOST_BYTES = 32 << 20
_OVERHEAD = 150  # of one entry, about


class Encoded:
    """Begins anew when it is full. Threads may share it: a race costs no more than a wrong guess of how full it is."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._entries: dict[int, Sized] = {}
        self._room = self._most = most_bytes
        self.get = self._entries.get

    def put(self, id: int, content: Sized, /) -> None:
        self._room -= len(content) + _OVERHEAD
        self._entries[id] = content
        if self._room < 0:
            self._entries.clear()
            self._room = self._most


class Shared:
    """The cache all threads of a store use. A thread takes `current` before its snapshot, so that what it read under
    an older state never enters a newer cache.

    An epoch lasts until something was to be forgotten. Where several processes write, the database counts them: each
    transaction learns from it which one it is in, and takes the cache of that.
    """

    def __init__(self, *, counted: bool = False) -> None:
        self.is_counted = counted  # by a database that has to be asked for it
        self.epoch = 0
        self.current = Encoded()
        self._guard = threading.Lock()

    def renew(self) -> Encoded:
        self.current = Encoded()
        return self.current

    def moved(self, epoch: int) -> None:
        """This epoch has begun, or a later one."""
        with self._guard:
            if epoch > self.epoch:
                self.renew()
                self.epoch = epoch

    def at(self, epoch: int) -> Encoded:
        """The cache for a snapshot of this epoch: for an older one than is known by now, one that nobody else sees."""
        self.moved(epoch)
        with self._guard:
            return self.current if epoch == self.epoch else Encoded()
