"""A Postgres from which a backup is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..contents import ALL
from ..progress import Progress
from ..server import Server, check_form, connected, numbers, snapshot
from .carry import carry
from .postgres import State
from .sqlite import new_file


class _Rows:
    def __init__(self, server: Server) -> None:
        self._server = server

    def sizes(self) -> tuple[int, int]:
        return State(self._server).bytes(), int(numbers(self._server, ALL)[0][1])

    def copy(self, path: str, progress: Progress) -> None:
        with snapshot(self._server), new_file(path) as made:
            carry(State(self._server), made, progress)


@contextmanager
def opened(url: str) -> Iterator[_Rows]:
    """What is copied is the state of that moment, with relays running."""
    with connected(url, "Reading the Postgres") as server:
        check_form(server)
        yield _Rows(server)
