"""`agentchat admin move`: a stopped relay's rows from SQLite into Postgres, or back."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from agentchat.errors import InvalidArguments

from .keeping import add_files, files_of, tell_lost, tell_start
from .options import directory, postgres
from .serve import default_directory

if TYPE_CHECKING:
    from ..keeping.move import Moved

ABOUT = {"move": "Copy a stopped relay's rows into an empty Postgres, or from one into a new directory; verified."}
_EPILOG = (
    "SOURCE and TARGET are data directories or postgresql://… of a database (with ?options=-csearch_path%3DNAME: of a "
    "schema). --data is the directory of the relay that had the Postgres SOURCE. exit codes: 0 fine, 1 refused or "
    "contents missing, 2 wrong usage, 5 in use"
)


def add_to(commands: Any, common: argparse.ArgumentParser) -> None:
    """The parser of this command."""
    options: dict[str, Any] = {"parents": [common], "help": ABOUT["move"], "description": ABOUT["move"]}
    move = commands.add_parser("move", allow_abbrev=False, epilog=_EPILOG.replace("%", "%%"), **options)
    move.add_argument("source", type=_place, metavar="SOURCE", help="where the rows are, and stay")
    move.add_argument("target", type=_place, metavar="TARGET", help="an empty schema, or a new or empty directory")
    add_files(move)
    move.add_argument("--anyway", action="store_true", help="although a relay is connected to the SOURCE")
    move.set_defaults(run=_move)


def _place(text: str) -> str:
    return postgres(text) if "://" in text else directory(text)


def _move(options: argparse.Namespace) -> int:
    from ..keeping.move import is_postgres, move
    from ..keeping.progress import Progress

    if options.store is not None:
        raise InvalidArguments("move takes its databases as SOURCE and TARGET, not as --store.")
    home = options.source if not is_postgres(options.source) else options.data or default_directory()
    files = files_of(options, home)
    progress = Progress(quiet=options.json)
    moved = move(options.source, options.target, progress, home=home, files=files, anyway=options.anyway)
    if options.json:
        print(json.dumps(moved, indent=2))
    else:
        _tell(moved, home, files, to_postgres=is_postgres(options.target))
    return tell_lost(moved["lost"], "are not there", "If they lie elsewhere, name it: --files PLACE, or --data DIR.")


def _tell(moved: Moved, home: str, files: str, *, to_postgres: bool) -> None:
    from ..keeping.progress import number

    tables = moved["tables"]
    if moved["again"]:
        print("An interrupted move was begun again.")
    rows = sum(table["rows"] for table in tables.values())
    print(
        f"Moved {number(tables['messages']['rows'])} messages, {number(rows)} rows in all, to {moved['target']}; what "
        "is there was compared with what was sent."
    )
    if to_postgres:
        tell_start(home, files, store=True)
        print("The contents of files stayed where they are.")
    else:
        tell_start(moved["target"], files, store=False)
        print("The contents of files were copied." if moved["copied"] else f"The contents of files stay in {files}.")
    print("SOURCE is as it was; see that nobody starts a relay on it again.")
