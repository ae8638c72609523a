"""`agentchat admin migrate`: bring a Postgres to this version's form, around an upgrade without a pause."""

from __future__ import annotations

import argparse
import json
from typing import Any

from agentchat.errors import InvalidArguments

ABOUT = {"migrate": "Bring the tables of a Postgres to the form of this version."}
_EPILOG = (
    "Before the first relay of a new version starts: migrate. Once the last one of the old version has ended: "
    "migrate --after. A relay on SQLite does this by itself when it starts."
)


def add_to(commands: Any, common: argparse.ArgumentParser) -> None:
    """The parsers of these commands."""
    text = ABOUT["migrate"]
    migrate = commands.add_parser(
        "migrate", parents=[common], help=text, description=text, epilog=_EPILOG, allow_abbrev=False
    )
    migrate.add_argument("--after", action="store_true", help="also what comes once no older relay runs any more")
    migrate.add_argument("--grant", metavar="ROLE", help="let this role serve the tables, and do nothing else")
    migrate.set_defaults(run=_migrate)


def _migrate(options: argparse.Namespace) -> int:
    from .admin import store_of

    url = store_of(options)
    if not url:
        raise InvalidArguments("Name the database: --store postgresql://… (SQLite is brought to its form by the relay)")
    from ..store.postgres.engine import migrated

    done, later = migrated(url, after=options.after, role=options.grant)
    if options.json:
        print(json.dumps({"done": done, "later": later, "granted": options.grant}, indent=2))
        return 0
    print("\n".join(f"Done: {name}" for name in done) or "Nothing was due.")
    if options.grant is not None:
        print(f"The role {options.grant} may serve these tables.")
    if later:
        names = ", ".join(later)
        print(f"Once no relay of an earlier version runs any more ({names}): agentchat admin migrate --after")
    return 0
