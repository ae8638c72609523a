"""`backup.json`: what a backup holds, written last, so that it also says that the backup is whole."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable
from typing import Any, NotRequired, TypedDict, cast

from agentchat import __version__

from ..wire import iso
from . import contents, snapshot
from .contents import Lost
from .refusal import Refused

NAME = "backup.json"
FORMAT = 1
_CHUNK = 1 << 20
_COUNTED = ("spaces", "machines", "agents", "channels", "messages", "inbox", "files")


class Manifest(TypedDict):
    format: int
    version: str
    made_at: str  # whatever was acknowledged before is in it
    migration: int
    database_sha256: str
    database_bytes: int
    contents: int  # of files, each once
    contents_bytes: int
    counts: dict[str, int]  # rows
    lost: list[Lost]  # contents that were not there any more
    files: NotRequired[str]  # the bucket in which contents are instead of here


def describe(
    database: str, connection: sqlite3.Connection, made_at: int, lost: list[Lost], look: Callable[[int], object]
) -> Manifest:
    """The manifest of a copied database."""
    number, size = contents.total(connection)
    return {
        "format": FORMAT,
        "version": __version__,
        "made_at": iso(made_at),
        "migration": snapshot.migration_of(connection),
        "database_sha256": digest(database, look),
        "database_bytes": os.path.getsize(database),
        "contents": number,
        "contents_bytes": size,
        "counts": {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
            for table in _COUNTED
        },
        "lost": lost,
    }


def write(folder: str, manifest: Manifest) -> None:
    descriptor = os.open(os.path.join(folder, NAME), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(descriptor)


def read(folder: str) -> Manifest:
    """The manifest of a backup that this version can restore."""
    path = os.path.join(folder, NAME)
    try:
        with open(path, encoding="utf-8") as file:
            found: Any = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        raise Refused(f"{folder} is no backup: there is no {NAME} in it. Name the directory of one.") from None
    except ValueError as error:
        raise Refused(f"{path} cannot be understood ({error}). Take another backup.") from error
    form = found.get("format") if isinstance(found, dict) else None
    if isinstance(form, int) and form > FORMAT:
        raise Refused(f"{path} has format {form}, which a newer version made. Use the agentchat of that version.")
    if not _is_manifest(found):
        raise Refused(f"{path} is no manifest of a backup, or somebody changed it. Take another backup.")
    snapshot.refuse_newer(found["migration"], f"The backup in {folder}")
    return cast("Manifest", found)


def _is_manifest(found: Any) -> bool:
    kinds = {
        "format": int, "version": str, "made_at": str, "migration": int, "database_sha256": str,
        "database_bytes": int, "contents": int, "contents_bytes": int, "counts": dict, "lost": list,
    }  # fmt: skip
    return isinstance(found, dict) and all(isinstance(found.get(name), kind) for name, kind in kinds.items())


def digest(path: str, look: Callable[[int], object]) -> str:
    """The SHA-256 of a file; `look` is called with how much of it was read."""
    found, done = hashlib.sha256(), 0
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(_CHUNK):
            found.update(piece)
            done += len(piece)
            look(done)
    return found.hexdigest()
