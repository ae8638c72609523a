"""Temporary copies, in a directory of this user only that is gone afterwards. TMPDIR says where."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from ..store.sqlite.engine import connect as connect_to_write
from . import snapshot
from .progress import Progress, size
from .refusal import Refused, database_faults, faults

if TYPE_CHECKING:
    from .server import Server


@contextmanager
def folder(needed: int) -> Iterator[str]:
    """A directory with room for so many bytes."""
    with tempfile.TemporaryDirectory(prefix="agentchat-") as path:
        if (free := shutil.disk_usage(path).free) < needed:
            raise Refused(
                f"A temporary copy needs {size(needed)}, and only {size(free)} are free in {os.path.dirname(path)}. "
                "Name another directory in TMPDIR."
            )
        yield path


@contextmanager
def copied(url: str, progress: Progress) -> Iterator[sqlite3.Connection]:
    """What a Postgres holds at one moment, as a SQLite that can be asked as a relay's own can. Postgres itself is left
    alone as soon as it is copied."""
    from . import server

    with ExitStack() as stack:
        with server.connected(url, "Reading the Postgres") as found, server.snapshot(found):
            database = stack.enter_context(copy_of(found, progress))
        with database_faults("Reading the copy"):
            yield database


@contextmanager
def copy_of(server: Server, progress: Progress) -> Iterator[sqlite3.Connection]:
    """The same of what the transaction sees that a connection is in."""
    from .carrying.carry import carry
    from .carrying.postgres import State
    from .carrying.sqlite import new_file

    state = State(server)
    with folder(state.bytes()) as path, faults("Making a temporary copy"):
        file = os.path.join(path, snapshot.DATABASE)
        with new_file(file) as made:
            carry(state, made, progress)
        with closing(connect_to_write(file)) as database:
            yield database
