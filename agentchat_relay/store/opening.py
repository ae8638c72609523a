"""Which engine a setting names, and what keeps its relays apart where files are concerned."""

from __future__ import annotations

from typing import Any

from ..blobs.guards import InProcess
from ..blobs.seam import Guard
from .seam import Store
from .sqlite.engine import Sqlite


def open_store(url: str, directory: str, **options: Any) -> Store:
    """The database that a URL names, or, without one, that of the data directory."""
    if not url:
        return Sqlite(directory, **options)
    from .postgres.engine import Postgres

    return Postgres(url, **options)


def open_guard(url: str) -> Guard:
    """What keeps uploads and removals apart for all relays on one database, if their files are in a bucket."""
    if not url:
        return InProcess()
    from .postgres.guard import guard_of

    return guard_of(url)
