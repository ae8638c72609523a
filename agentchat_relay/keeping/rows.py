"""What must hold among the rows of a database, whatever happened: nothing hangs in the air, and counts are true."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from . import snapshot
from .progress import number
from .visit import RESTORE, Visit, some

_CHUNK = 20_000
_MOST_ERRORS = 5

# Table -> what makes a row of it hang in the air. Rows of the first kind mean nothing without what they hang on; those
# of the second are what people wrote, or own, and are never deleted here. A reply may outlive what it answers; ids are
# negative in what has vanished.
_SPARE = {
    "memberships": ("agent_id agents", "channel_id channels"),
    "inbox": ("agent_id agents", "message_id messages"),
    "pins": ("message_id messages", "channel_id channels", "pinned_by agents"),
    "answers": ("agent_id agents",),
    "group_members": ("group_id agents", "agent_id agents"),
    "fan_outs": ("message_id messages",),
    "turns": ("low_id agents", "high_id agents"),
    "work_offers": ("work_id work",),
    "work_contexts": ("work_id work",),
    "work_log": ("work_id work",),
    "work_names": ("work_id work",),
    "fences": ("space_id spaces",),
    "work_parts": ("parent_id work", "work_id work"),
    "spreads": ("work_id work",),
}
_DEAR = {
    "messages": ("channel_id channels", "author_id agents", "recipient_id agents"),
    "files": ("space_id spaces", "channel_id channels", "author_id agents"),
    "work": ("space_id spaces", "creator_id agents", "target_id agents", "owner_id agents", "channel_id channels"),
    "channels": ("space_id spaces",),
    "agents": ("space_id spaces",),
    "machines": ("space_id spaces",),
}

_COUNTED = """
SELECT abs(channel_id), sum(channel_id > 0), max(number), max(chats), max(created_at),
    max(CASE WHEN kind <> 'status' AND channel_id > 0 THEN id END)
FROM messages WHERE id > ? AND id <= ? GROUP BY abs(channel_id)
"""
_CHANNELS = """
SELECT c.id, s.name || ':' || c.name, c.number, c.purged, c.chats, c.last_at, c.latest_id,
    c.vanish_after IS NOT NULL OR c.name = 'direct-messages' AS may_vanish
FROM channels c LEFT JOIN spaces s ON s.id = c.space_id
"""
_MEND_CHANNEL = "UPDATE channels SET number = ?, purged = ?, chats = ?, last_at = ?, latest_id = ? WHERE id = ?"
_NEGATIVE = """
SELECT m.agent_id, m.channel_id, m.read_at, c.chats FROM memberships m JOIN channels c ON c.id = m.channel_id
WHERE m.own_above < 0 OR m.read_chats > c.chats OR c.chats - m.read_chats - m.own_above < 0
"""
_READ = """
SELECT chats FROM messages WHERE channel_id = ? AND (kind = 'status') = 0 AND created_at <= ?
ORDER BY created_at DESC LIMIT 1
"""
_FIRST = "SELECT chats FROM messages WHERE channel_id = ? AND (kind = 'status') = 0 ORDER BY created_at LIMIT 1"
# What vanished is left out as an own one is (service/vanishing.py).
_OWN = """
SELECT (
    SELECT count(*) FROM messages
    WHERE channel_id = ?1 AND (kind = 'status') = 0 AND created_at > ?2 AND author_id = ?3
) + (SELECT count(*) FROM messages WHERE channel_id = -?1 AND (kind = 'status') = 0 AND created_at > ?2)
"""
_MEND_MEMBER = "UPDATE memberships SET read_chats = ?, own_above = ? WHERE agent_id = ? AND channel_id = ?"


class Counters(NamedTuple):
    """Where a channel stands."""

    number: int
    purged: int
    chats: int
    last_at: int
    latest_id: int | None


def check_integrity(visit: Visit, database: sqlite3.Connection) -> bool:
    """Whether the file is what SQLite wrote."""
    check = "quick_check" if visit.quick else "integrity_check"
    with visit.progress.part("Checking the database") as at, snapshot.watched(database, lambda: at(0)):
        errors = [row[0] for row in database.execute(f"PRAGMA {check}({_MOST_ERRORS})")]
    if errors == ["ok"]:
        visit.fine("database", f"agentchat.db passed SQLite's {check}.")
        return True
    visit.problem("database", f"agentchat.db is damaged: {some(errors)}.", RESTORE)
    return False


def check_form(visit: Visit, database: sqlite3.Connection) -> bool:
    """Whether this version knows the tables."""
    found = snapshot.migration_of(database)
    if found > snapshot.NEWEST:
        visit.problem(
            "form",
            f"A newer version of the relay wrote this database (migration {found}, known are {snapshot.NEWEST}).",
            "Use the agentchat of that version.",
        )
    elif not found and database.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        visit.problem(
            "form", "agentchat.db is the database of another program.", "Name the right directory: --data DIR."
        )
    elif not found:
        visit.problem("form", "agentchat.db is empty.", f"Unless the relay never ended its first start: {RESTORE}")
    elif found < snapshot.NEWEST:
        visit.warn(
            "form",
            f"The database has the form of an earlier version (migration {found} of {snapshot.NEWEST}); what is in it "
            "was not looked at.",
            "The relay brings it up to date when it starts.",
        )
    else:
        visit.fine("form", f"The database has the form of this version (migration {found}).")
    return found == snapshot.NEWEST


def check_orphans(visit: Visit, database: sqlite3.Connection) -> None:
    with (
        visit.progress.part("Looking for rows that hang in the air") as at,
        snapshot.watched(database, lambda: at(0)),
    ):
        found = [_check_table(visit, database, table, links) for table, links in {**_SPARE, **_DEAR}.items()]
    if not any(found):
        visit.fine("orphans", "Every row has what it hangs on.")


def _check_table(visit: Visit, database: sqlite3.Connection, table: str, links: tuple[str, ...]) -> bool:
    where = " OR ".join(_broken(table, *link.split()) for link in links)
    (orphans,) = database.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()  # noqa: S608
    if orphans and table in _SPARE:
        visit.problem(
            "orphans",
            f"{number(orphans)} rows of {table} hang in the air.",
            mend=lambda: visit.change(database, f"DELETE FROM {table} WHERE {where}", [()]),  # noqa: S608
        )
    elif orphans:
        visit.problem("orphans", f"{number(orphans)} rows of {table} hang in the air.", visit.way_back)
    return bool(orphans)


def _broken(table: str, column: str, target: str) -> str:
    there = f"SELECT 1 FROM {target} AS there WHERE there.id = abs({table}.{column})"  # noqa: S608
    return f"({table}.{column} IS NOT NULL AND NOT EXISTS ({there}))"


def check_counters(visit: Visit, database: sqlite3.Connection) -> None:
    """A channel's counters against its messages. What had its time is counted in `purged`, and gone."""
    counted = _counted(visit, database)
    wrong: dict[str, tuple[Counters, int]] = {}
    missing = 0
    for id, name, *rest, may_vanish in database.execute(_CHANNELS):
        stored = Counters(*rest)
        true = _true(stored, counted.get(id), database)
        if may_vanish:
            true = _with_holes(stored, true, database)
        if true != stored:
            missing += max(0, (stored.number - stored.purged) - (true.number - true.purged))
            wrong[name or f"channel {id}"] = (true, id)
    if not wrong:
        visit.fine("counters", "The counters of all channels agree with their messages.")
        return
    visit.problem(
        "counters",
        f"The counters of {some([f'#{name}' for name in wrong])} do not agree with the messages"
        + (f": they tell of {number(missing)} more than there are." if missing else "."),
        "If messages were lost, a backup may have them." if missing else "",
        mend=lambda: visit.change(database, _MEND_CHANNEL, [(*true, id) for true, id in wrong.values()]),
    )


def _counted(visit: Visit, database: sqlite3.Connection) -> dict[int, tuple[int, Counters]]:
    """By channel: how many messages there are, and the counters that follow from them."""
    found: dict[int, tuple[int, Counters]] = {}
    (newest,) = database.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()
    with visit.progress.part("Counting messages", newest) as at:
        for after in range(0, newest, _CHUNK):
            at(after)
            for id, count, highest, chats, last_at, latest in database.execute(_COUNTED, (after, after + _CHUNK)):
                before, counters = found.get(id, (0, Counters(0, 0, 0, 0, None)))
                found[id] = (
                    before + count,
                    Counters(
                        max(highest, counters.number),
                        0,
                        max(chats, counters.chats),
                        max(last_at, counters.last_at),
                        latest or counters.latest_id,
                    ),
                )
    return found


def _true(stored: Counters, counted: tuple[int, Counters] | None, database: sqlite3.Connection) -> Counters:
    """What the counters should be. Where messages are gone, only the counters know how far it had come."""
    if counted is None:
        return stored._replace(purged=stored.number, latest_id=_if_gone(stored.latest_id, database))
    count, true = counted
    latest = true.latest_id or _if_gone(stored.latest_id, database)
    return true._replace(purged=true.number - count, latest_id=latest)


def _with_holes(stored: Counters, true: Counters, database: sqlite3.Connection) -> Counters:
    """The same where the newest messages may be gone, and older ones not: if there are as many as there should be, the
    counters alone know how far it had come."""
    latest = true.latest_id if (gone := _if_gone(stored.latest_id, database)) is None else gone
    if stored.number < true.number or stored.number - stored.purged != true.number - true.purged:
        return true._replace(latest_id=latest)
    return stored._replace(
        chats=max(stored.chats, true.chats), last_at=max(stored.last_at, true.last_at), latest_id=latest
    )


def _if_gone(id: int | None, database: sqlite3.Connection) -> int | None:
    """A channel whose newest post was purged still names it. A message of another channel is no such."""
    there = database.execute("SELECT 1 FROM messages WHERE id = ? AND channel_id > 0", (id,)).fetchone()
    return None if there else id


def check_unread(visit: Visit, database: sqlite3.Connection) -> None:
    """Nobody has read more than there is."""
    wrong = database.execute(_NEGATIVE).fetchall()
    if not wrong:
        visit.fine("unread", "Nobody's unread count is negative.")
        return
    visit.problem(
        "unread",
        f"{number(len(wrong))} members of channels have read more than there is.",
        mend=lambda: visit.change(database, _MEND_MEMBER, [_counted_again(database, row) for row in wrong]),
    )


def _counted_again(database: sqlite3.Connection, row: sqlite3.Row) -> tuple[int, ...]:
    """A member's counts, from the time of the last message that was read."""
    read = _chats_through(database, row["channel_id"], row["read_at"], row["chats"])
    (own,) = database.execute(_OWN, (row["channel_id"], row["read_at"], row["agent_id"])).fetchone()
    return read, own, row["agent_id"], row["channel_id"]


def _chats_through(database: sqlite3.Connection, channel_id: int, read_at: int, chats: int) -> int:
    row = database.execute(_READ, (channel_id, read_at)).fetchone()
    if row is not None:
        return int(row[0])
    first = database.execute(_FIRST, (channel_id,)).fetchone()  # everything up to there is gone
    return chats if first is None else int(first[0]) - 1
