"""`agentchat admin export`: one space as JSON lines, of one state of the database.

Each line is `{"kind": …, …: {…}}`, the second member called as the kind. The first line is the space, the last one is
`end`, so that a cut export can be told from a whole one. Nobody's key is in it, nor a hash of one; direct messages are.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec

from agentchat import __version__
from agentchat.errors import NotFound

from ..durable import sync_directory
from ..service.guess import near
from ..wire import iso, now
from . import scratch, snapshot
from .progress import Progress
from .refusal import Refused, faults

FORMAT = 1
_BATCH = 500  # lines written at once
Write = Callable[[bytes], object]

_AGENTS = """
SELECT a.public_id AS id, a.name, CASE WHEN a.is_group = 1 THEN 'group' ELSE a.kind END AS kind, a.roles,
    m.name AS machine, a.active, a.card, a.created_at, a.last_seen_at
FROM agents a LEFT JOIN machines m ON m.id = a.machine_id WHERE a.space_id = ? ORDER BY a.id
"""
_MEMBERS = """
SELECT g.name AS "group", a.name AS agent, m.joined_at
FROM agents g CROSS JOIN group_members m ON m.group_id = g.id JOIN agents a ON a.id = m.agent_id
WHERE g.space_id = ? AND g.is_group = 1 ORDER BY m.group_id, m.agent_id
"""
_CHANNELS = """
SELECT c.public_id AS id, c.name, c.type, c.scope, c.description, c.metadata, a.name AS created_by, c.archived,
    c.created_at, c.retention, c.number - c.purged AS messages, c.purged
FROM channels c LEFT JOIN agents a ON a.id = c.created_by WHERE c.space_id = ? ORDER BY c.id
"""
_MEMBERSHIPS = """
SELECT a.name AS agent, c.name AS channel, m.joined_at, nullif(m.read_at, 0) AS read_through,
    CASE WHEN c.name = 'direct-messages' THEN (
        SELECT count(*) FROM inbox i WHERE i.agent_id = m.agent_id AND i.kind = 'direct' AND i.done_at IS NULL
    ) ELSE c.chats - m.read_chats - m.own_above END AS unread
FROM channels c JOIN memberships m ON m.channel_id = c.id JOIN agents a ON a.id = m.agent_id
WHERE c.space_id = ? ORDER BY c.id, m.agent_id
"""
# From the messages on, in their order: nothing is sorted, so that the first line comes at once.
_MESSAGES = """
SELECT m.public_id AS id, m.kind, c.public_id AS channel_id, c.name AS channel, m.number, a.public_id AS author_id,
    a.name AS author, r.name AS recipient, p.public_id AS parent_id, m.content, m.metadata,
    EXISTS (SELECT 1 FROM pins WHERE message_id = m.id) AS pinned, m.created_at
FROM messages m CROSS JOIN channels c ON c.id = m.channel_id LEFT JOIN agents a ON a.id = m.author_id
LEFT JOIN agents r ON r.id = m.recipient_id LEFT JOIN messages p ON p.id = m.parent_id
WHERE c.space_id = ? ORDER BY m.id
"""
_INBOX = """
SELECT i.public_id AS id, a.name AS agent, i.kind, m.public_id AS message_id, i.done_at IS NULL AS open, i.urgent,
    i.deliveries, CASE WHEN i.done_at IS NOT NULL THEN coalesce(i.outcome, 'acknowledged') END AS outcome, i.created_at,
    i.expires_at, i.claimed_at, i.done_at, nullif(i.scope, '') AS scope
FROM inbox i CROSS JOIN agents a ON a.id = i.agent_id LEFT JOIN messages m ON m.id = i.message_id
WHERE a.space_id = ? ORDER BY i.id
"""
_FILES = """
SELECT f.path, f.name, f.type, f.size, f.hash AS sha256, c.name AS channel, a.name AS author, f.created_at
FROM files f LEFT JOIN channels c ON c.id = f.channel_id LEFT JOIN agents a ON a.id = f.author_id
WHERE f.space_id = ? ORDER BY f.id
"""
_WORK = """
SELECT w.public_id AS id, w.kind AS type, w.state, w.version, w.fence, w.title, w.body, w.tags AS capability_tags,
    w.details, w.result, w.reason, c.name AS channel, a.name AS creator, t.name AS target, o.name AS owner,
    w.message AS message_id, w.result_message AS result_message_id, x.content AS context, w.created_at, w.deadline_at,
    w.claimed_at, w.lease_until, w.ended_at
FROM work w JOIN agents a ON a.id = w.creator_id LEFT JOIN channels c ON c.id = w.channel_id
LEFT JOIN agents t ON t.id = w.target_id LEFT JOIN agents o ON o.id = w.owner_id
LEFT JOIN work_contexts x ON x.work_id = w.id WHERE w.space_id = ? ORDER BY w.id
"""
_TRANSITIONS = """
SELECT w.public_id AS id, w.kind AS type, l.version, l.action, a.name AS actor, l.before, l.after, l.fence, l.note, l.at
FROM work_log l JOIN work w ON w.id = l.work_id LEFT JOIN agents a ON a.id = l.actor_id
WHERE l.space_id = ? ORDER BY l.id
"""
_TABLES = {
    "agent": _AGENTS,
    "member": _MEMBERS,
    "channel": _CHANNELS,
    "membership": _MEMBERSHIPS,
    "message": _MESSAGES,
    "inbox": _INBOX,
    "file": _FILES,
    "work": _WORK,
    "transition": _TRANSITIONS,
}
_MESSAGE_COUNT = "SELECT coalesce(sum(number - purged), 0) FROM channels WHERE space_id = ?"

_TIMES = (
    "created_at",
    "last_seen_at",
    "joined_at",
    "read_through",
    "expires_at",
    "claimed_at",
    "done_at",
    "deadline_at",
    "lease_until",
    "ended_at",
    "at",
)
_JSON = ("card", "metadata", "details")
_FLAGS = ("active", "archived", "pinned", "open", "urgent")
_encode = msgspec.json.encode


def export(data: str, space: str, write: Write, progress: Progress, *, store: str = "") -> dict[str, int]:
    """Write one space; returns how many lines of each kind there were."""
    with scratch.copied(store, progress) if store else snapshot.snapshot(data) as database:
        snapshot.refuse_older(database)
        row = _space(database, space)
        counts = Counter(dict.fromkeys(_TABLES, 0))
        (messages,) = database.execute(_MESSAGE_COUNT, (row["id"],)).fetchone()
        with progress.part(f"Exporting {space}", messages) as at:
            for batch in _batched(_lines(database, row, counts)):
                write(b"".join(batch))
                at(counts["message"])
    return dict(counts)


def export_to(data: str, space: str, file: str, progress: Progress, *, store: str = "") -> dict[str, int]:
    """The same into a new file, which is there whole or not at all, unless this process is killed."""
    path = os.path.abspath(os.path.expanduser(file))
    with faults(f"Writing {path}"):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise Refused(f"{path} is there already. Name a new file, or remove that one.") from None
        try:
            with open(descriptor, "wb") as output:
                counts = export(data, space, output.write, progress, store=store)
                output.flush()
                os.fsync(descriptor)
            sync_directory(os.path.dirname(path))
        except BaseException:
            with suppress(OSError):
                os.unlink(path)
            raise
    return counts


def _space(database: sqlite3.Connection, name: str) -> sqlite3.Row:
    row: sqlite3.Row | None = database.execute("SELECT * FROM spaces WHERE name = ?", (name,)).fetchone()
    if row is None:
        alike = near(name, [row["name"] for row in database.execute("SELECT name FROM spaces")])
        hint = f"Did you mean {alike[0]}?" if alike else "agentchat admin space list shows them."
        raise NotFound(f"There is no space {name}. {hint}", details={"near": alike})
    return row


def _lines(database: sqlite3.Connection, space: sqlite3.Row, counts: Counter[str]) -> Iterator[bytes]:
    told = {name: space[name] for name in ("name", "retention", "created_at")}
    yield _line("space", _telling(told), format=FORMAT, version=__version__, exported_at=iso(now()))
    for kind, statement in _TABLES.items():
        for row in database.execute(statement, (space["id"],)):
            counts[kind] += 1
            yield _line(kind, _telling(dict(row)))
    yield _encode({"kind": "end", "counts": counts}) + b"\n"


def _line(kind: str, row: dict[str, Any], **more: Any) -> bytes:
    return _encode({"kind": kind, **more, kind: row}) + b"\n"


def _telling(row: dict[str, Any]) -> dict[str, Any]:
    """A row in the forms that travel."""
    for name in row:
        value = row[name]
        if value is None:
            continue
        if name in _TIMES:
            row[name] = iso(value)
        elif name in _JSON:
            row[name] = msgspec.Raw(value.encode())
        elif name in _FLAGS:
            row[name] = bool(value)
        elif name == "capability_tags":
            row[name] = msgspec.json.decode(value) if value else []
        elif name == "roles":
            row[name] = value.split()
    return row


def _batched(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for line in lines:
        batch.append(line)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    yield batch
