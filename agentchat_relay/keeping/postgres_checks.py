"""What only Postgres can have wrong: settings that lose messages, old tables, ids, the full-text index."""

from __future__ import annotations

from typing import NamedTuple

from agentchat.errors import NotConfigured

from ..store.postgres.connection import control
from ..store.postgres.migrate import due
from .carrying.tables import tables
from .progress import number
from .server import Server, numbers
from .visit import Visit

_SETTINGS = (
    "SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit')"
)
_SEQUENCE = "SELECT pg_get_serial_sequence('{0}', 'id')"
_IS_OURS = "SELECT has_sequence_privilege('{0}', 'SELECT')"
_NEXT = "SELECT last_value + is_called::int, (SELECT coalesce(max(id), 0) FROM {0}) FROM {1}"
_AHEAD = "SELECT setval('{1}', max(id)) FROM {0}"
_INDEX = """
SELECT (SELECT id FROM fulltext_progress),
    greatest((SELECT max(id) FROM messages), (SELECT value FROM marks WHERE name = 'purged_message'), 0),
    (SELECT count(*) FROM messages m WHERE m.kind <> 'status' AND m.vanishes_at IS NULL
        AND m.id <= (SELECT id FROM fulltext_progress) AND NOT EXISTS (SELECT 1 FROM fulltext f WHERE f.id = m.id)),
    (SELECT count(*) FROM fulltext f WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.id = f.id)),
    (SELECT count(*) FROM messages WHERE id > (SELECT id FROM fulltext_progress))
"""
_INDEX_AGAIN = """
DELETE FROM fulltext f WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.id = f.id);
UPDATE fulltext_progress SET id = 0
"""


class _Index(NamedTuple):
    progress: int
    newest: int
    missing: int
    spare: int
    behind: int


def check_settings(visit: Visit, server: Server) -> None:
    """Whether what is acknowledged survives a power loss."""
    fsync, pages, commit = server.one(_SETTINGS)
    told = f"fsync = {fsync}, full_page_writes = {pages}, synchronous_commit = {commit}"
    if fsync == "on" and pages == "on" and commit != "off":
        visit.fine("server", f"Postgres keeps what it acknowledges ({told}).")
    else:
        visit.warn(
            "server",
            f"A power loss may take messages that were acknowledged ({told}).",
            "Set all of them to on, for this role, this database and the server.",
        )


def check_form(visit: Visit, server: Server) -> bool:
    """Whether this version knows the tables."""
    if server.one("SELECT to_regclass('migrations')") == (None,):
        visit.problem("form", f"There is no relay in {server.name}.", "Name the right one: --store URL.")
        return False
    try:
        steps = due(server.connection)
    except NotConfigured as error:
        visit.problem("form", error.message, "Use the agentchat of that version.")
        return False
    before, after = ([str(step) for step in steps if step.is_after is late] for late in (False, True))
    if before:
        text = f"The tables have the form of an earlier version ({', '.join(before)} due); they were not looked at."
        visit.warn("form", text, "agentchat admin migrate --store URL")
    elif after:
        visit.warn(
            "form",
            f"An upgrade is not finished: {', '.join(after)} is due.",
            "Once no relay of an earlier version runs any more: agentchat admin migrate --after --store URL",
        )
    else:
        visit.fine("form", "The tables have the form of this version.")
    return not before


def check_sequences(visit: Visit, server: Server) -> None:
    """New rows must get ids that no row has."""
    found = {table.name: server.one(_SEQUENCE.format(table.name))[0] for table in tables() if "id" in table.key}
    sequences = {name: sequence for name, sequence in found.items() if sequence}
    if any(server.one(_IS_OURS.format(sequence)) == ("f",) for sequence in sequences.values()):
        visit.fine("ids", "Which ids come next, this role may not see; that of the tables' owner may.")
        return
    behind: dict[str, str] = {}
    for name, sequence in sequences.items():
        upcoming, highest = numbers(server, _NEXT.format(name, sequence))[0]
        if upcoming <= highest:
            behind[name] = sequence
    if behind:
        visit.problem(
            "ids",
            f"The next rows of {', '.join(behind)} would get ids that others have, and be refused.",
            mend=lambda: [server.one(_AHEAD.format(*pair)) for pair in behind.items()],
        )
    else:
        visit.fine("ids", "New rows get ids that nobody has.")


def check_index(visit: Visit, server: Server) -> None:
    """Whether searches find what is there. What is newer than the progress a running relay is about to add."""
    found = _Index(*numbers(server, _INDEX)[0])
    wrong = [
        f"{number(found.missing)} messages are not in it" if found.missing else "",
        f"{number(found.spare)} entries are of no message" if found.spare else "",
        "it is ahead of the newest message" if found.progress > found.newest else "",
    ]
    if any(wrong):
        visit.warn(
            "index",
            f"The full-text index is not right: {', '.join(filter(None, wrong))}.",
            "A repair has the relay make it again.",
            lambda: control(server.connection, _INDEX_AGAIN),
        )
        return
    lag = f"{number(found.behind)} messages behind; a running relay catches up" if found.behind else "up to date"
    visit.fine("index", f"The full-text index is complete and {lag}.")
