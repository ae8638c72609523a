"""Which engine a setting names."""

from __future__ import annotations

from typing import Any

from .seam import Store
from .sqlite.engine import Sqlite


def open_store(url: str, directory: str, **options: Any) -> Store:
    """The database that a URL names, or, without one, that of the data directory."""
    if not url:
        return Sqlite(directory, **options)
    from .postgres.engine import Postgres

    return Postgres(url, **options)
