"""What the role of a relay may do with the tables, when another role owns them.

It cannot change their form, nor what was said: messages and events are appended and have their time, but never change.
Of an ephemeral message it may erase the text; that its UPDATE is nothing else, a trigger of the owner's sees to.
"""

from __future__ import annotations

from psycopg import sql

from .connection import Connection, control

_READ, _ADD, _CHANGE, _REMOVE = "SELECT", "INSERT", "UPDATE", "DELETE"
_ALL = (_READ, _ADD, _CHANGE, _REMOVE)
GRANTS: dict[str, tuple[str, ...]] = {
    "migrations": (_READ,),
    "spaces": (_READ, _ADD, _CHANGE),
    "machines": (_READ, _ADD, _CHANGE),
    "agents": (_READ, _ADD, _CHANGE),
    "nonces": _ALL,
    "channels": (_READ, _ADD, _CHANGE),
    "memberships": _ALL,
    "messages": _ALL,
    "pins": (_READ, _ADD, _REMOVE),
    "inbox": _ALL,
    "files": (_READ, _ADD, _REMOVE),
    "answers": (_READ, _ADD, _REMOVE),
    "events": (_READ, _ADD, _REMOVE),
    "marks": (_READ, _CHANGE),
    "dropped_blobs": (_READ, _ADD, _REMOVE),
    "group_members": (_READ, _ADD, _REMOVE),
    "fan_outs": _ALL,
    "turns": _ALL,
    "work": _ALL,
    "work_offers": (_READ, _ADD, _REMOVE),
    "work_contexts": (_READ, _ADD, _REMOVE),
    "work_log": (_READ, _ADD, _REMOVE),
    "work_names": (_READ, _ADD, _REMOVE),
    "fences": (_READ, _ADD, _CHANGE),
    "work_parts": (_READ, _ADD, _REMOVE),
    "spreads": _ALL,
    "epochs": (_READ, _CHANGE),
    "secrets": (_READ, _ADD, _CHANGE),
    "allowances": _ALL,
    "attempts": (_READ, _ADD, _REMOVE),
    "fulltext": _ALL,
    "fulltext_progress": (_READ, _CHANGE),
}
VACUUMED = ("messages", "files")  # when something vanished from them; before Postgres 17 only their owner may
SEQUENCES: dict[str, tuple[str, ...]] = {"turn_writer": (_READ, _CHANGE)}


def grant(connection: Connection, role: str) -> None:
    """Let a role serve, and do nothing else. What it had before is taken away first."""
    name = sql.Identifier(role).as_string(connection)
    commands = [
        "BEGIN",
        f"DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO %s', current_schema(), '{_quoted(name)}'); END $$",
    ]
    for kind, grants in (("TABLE", GRANTS), ("SEQUENCE", SEQUENCES)):
        for thing, rights in grants.items():
            commands.append(f"REVOKE ALL ON {kind} {thing} FROM {name}")
            commands.append(f"GRANT {', '.join(rights)} ON {kind} {thing} TO {name}")
    if connection.info.server_version >= 170_000:
        commands.append(f"GRANT MAINTAIN ON TABLE {', '.join(VACUUMED)} TO {name}")
    try:
        control(connection, ";".join([*commands, "COMMIT"]))
    except BaseException:
        control(connection, "ROLLBACK")
        raise


def _quoted(text: str) -> str:
    return text.replace("'", "''")
