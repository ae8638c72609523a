"""What an operator does: machines, agents, spaces. Each function belongs to one operation of `Administration`."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, cast

from agentchat import __version__, types
from agentchat.errors import BadRequest, Conflict, NotFound, Unauthorized

from ..administration import (
    AgentRow,
    AgentRows,
    Audit,
    AuditRow,
    ChannelRow,
    ChannelRows,
    Deleted,
    LetterRows,
    LockRow,
    LockRows,
    MachineList,
    MachineRow,
    RequeuedLetter,
    SpaceList,
    SpaceRow,
    SpaceStats,
    Stats,
    Token,
)
from ..store.seam import NeedsWrite, Reading, Row, Writing
from ..wire import iso, new_id
from . import agents, channels, groups, inbox, retirement, upkeep, vanishing
from .call import Agent
from .guess import near
from .work import approvals, locks

_MOST_LETTERS = 500


def machine_add(tx: Writing, *, name: str, public_key: str, space: str = upkeep.MAIN) -> MachineRow:
    space_id = _space_id(tx, space)
    row = tx.one("machine_by_name", name=name)
    if row is None:
        tx.run("insert_machine", name=name, space_id=space_id, public_key=public_key, created_at=tx.now)
    elif row["space_id"] != space_id:
        raise Conflict(f"Machine {name} lives in space {row['space']}, which cannot be changed; choose another name.")
    else:
        tx.run("update_machine", id=row["id"], public_key=public_key)
    tx.forget()
    return {"name": name, "space": space, "active": True}


def register_machine(tx: Writing, name: str, public_key: str) -> None:
    """The same, wherever the machine lives."""
    row = tx.one("machine_by_name", name=name)
    machine_add(tx, name=name, public_key=public_key, space=upkeep.MAIN if row is None else row["space"])


def machine_list(tx: Reading) -> MachineList:
    return {
        "machines": [
            {
                "name": row["name"],
                "space": row["space"],
                "active": bool(row["active"]),
                "public_key": row["public_key"],
                "agents": row["agents"],
                "created_at": iso(row["created_at"]),
            }
            for row in tx.all("list_machines")
        ]
    }


def machine_revoke(tx: Writing, *, name: str) -> MachineRow:
    row = tx.one("machine_by_name", name=name)
    if row is None:
        raise _not_found("machine", name, [row["name"] for row in tx.all("list_machines")])
    tx.run("revoke_machine", id=row["id"])
    agents_off = tx.run("revoke_agents_of_machine", machine_id=row["id"])
    tx.run("end_waits", space_id=row["space_id"], now=tx.now)
    tx.forget()
    return {"name": name, "space": row["space"], "active": False, "agents": agents_off}


def agent_token(tx: Writing, *, name: str, kind: str | None = None, space: str = upkeep.MAIN) -> Token:
    if agents.is_reserved(name):
        raise BadRequest(f"The name {name} is reserved.")
    key = secrets.token_hex(32)
    key_hash = hashlib.sha256(key.encode()).hexdigest()
    space_id = _space_id(tx, space)
    row = tx.one("agent_by_name", space_id=space_id, name=name)
    if row is None:
        _join(tx, space_id, name, kind or "agent", key_hash)
    elif row["is_group"]:
        raise Conflict(f"{name} is a group of agents; choose another name.")
    elif not row["active"]:
        where = "" if space == upkeep.MAIN else f" --space {space}"
        raise Conflict(f"{name} is deactivated; first: agentchat admin agent update {name} --active{where}")
    else:
        tx.run("set_key", id=row["id"], key_hash=key_hash, machine_id=row["machine_id"])
        if kind is not None:
            tx.run("update_agent", id=row["id"], kind=kind, active=1)
    tx.forget()
    return {"name": name, "space": space, "key": key, "replaced": row is not None and row["key_hash"] is not None}


def _join(tx: Writing, space_id: int, name: str, kind: str, key_hash: str | None) -> None:
    public_id = new_id(tx.now)
    known = {"public_id": public_id, "space_id": space_id, "name": name, "kind": kind, "key_hash": key_hash}
    agent_id = tx.run("insert_agent", **known, machine_id=None, created_at=tx.now)
    tx.event(space_id, "agent.joined", actor_id=agent_id, subject=public_id, payload=name)


def named(tx: Reading, name: str) -> tuple[Agent, int]:
    """The agent of a name in the first space, made if there is none, and for how long it was not seen: who it is where
    nobody has a key."""
    if agents.is_reserved(name):
        raise BadRequest(f"The name {name} is reserved.")
    space_id = _space_id(tx, upkeep.MAIN)
    row = tx.one("agent_by_name", space_id=space_id, name=name)
    if row is None:
        if not tx.writes:
            raise NeedsWrite
        _join(cast("Writing", tx), space_id, name, "agent", None)
        cast("Writing", tx).forget()
        row = tx.the("agent_by_name", space_id=space_id, name=name)
    if row["is_group"]:
        raise Conflict(f"{name} is a group of agents; choose another name.")
    if not row["active"]:
        raise Unauthorized(f"{name} is deactivated.")
    unseen = tx.now - (row["last_seen_at"] or 0)
    return Agent(row["id"], row["public_id"], name, space_id, row["kind"] == "person"), unseen


def agent_list(tx: Reading, *, space: str | None = None) -> AgentRows:
    if space is not None:
        _space_id(tx, space)
    return {"agents": [_row(row) for row in tx.all("list_agents", space=space or "%", grave=f"{agents.GRAVE}%")]}


def agent_grant(
    tx: Writing, *, name: str, role: str, revoke: bool = False, space: str = upkeep.MAIN
) -> AgentRow:  # fmt: skip
    row = _agent(tx, space, name)
    before = {*row["roles"].split()}
    roles = before - {role} if revoke else before | {role}
    tx.run("set_roles", id=row["id"], roles=" ".join(sorted(roles)))
    if "reviewer" in before ^ roles:
        (approvals.dismiss_all if revoke else approvals.welcome)(tx, row["space_id"], row["id"])
    return _changed(tx, space, name)


def agent_deactivate(tx: Writing, *, name: str, space: str = upkeep.MAIN) -> AgentRow:
    return agent_update(tx, name=name, active=False, space=space)


def agent_update(
    tx: Writing, *, name: str, kind: str | None = None, active: bool | None = None, space: str = upkeep.MAIN
) -> AgentRow:
    row = _agent(tx, space, name)
    if kind is None and active is None:
        raise BadRequest("Nothing to change: give kind or active.")
    on = int(row["active"] if active is None else active)
    tx.run("update_agent", id=row["id"], kind=kind or row["kind"], active=on)
    tx.run("end_waits", space_id=row["space_id"], now=tx.now)
    if on and not row["active"] and "reviewer" in row["roles"].split():
        approvals.welcome(tx, row["space_id"], row["id"])
    return _changed(tx, space, name)


def agent_delete(tx: Writing, *, name: str, space: str = upkeep.MAIN) -> Deleted:
    row = _agent(tx, space, name, or_group=True)
    groups.before_deletion(tx, row)
    grave = f"{agents.GRAVE}{secrets.token_hex(6)}"
    tx.run("bury_agent", id=row["id"], name=grave, now=tx.now)
    for statement in ("delete_memberships", "delete_memberships_in_groups", "delete_answers", "end_leases"):
        tx.run(statement, agent_id=row["id"], now=tx.now)
    tx.run("end_waits", space_id=row["space_id"], now=tx.now)
    retirement.for_good(tx, row["id"])
    tx.event(row["space_id"], "agent.deleted", actor_id=None, subject=row["public_id"])
    tx.forget()
    return {"name": name, "messages_now_by": grave}


def space_add(tx: Writing, *, name: str, retention: int = 0) -> SpaceRow:
    if tx.one("space_by_name", name=name) is not None:
        raise Conflict(f"There is a space {name} already.")
    upkeep.make_space(tx, name)
    return space_update(tx, name=name, retention=retention)


def space_update(tx: Writing, *, name: str, retention: int | None = None) -> SpaceRow:
    if retention is None:
        raise BadRequest("Nothing to change: give retention, in days.")
    tx.run("keep_space", retention=retention, id=_space_id(tx, name))
    return next(row for row in space_list(tx)["spaces"] if row["name"] == name)


def space_list(tx: Reading) -> SpaceList:
    return {
        "spaces": [
            {
                "name": row["name"],
                "agents": row["agents"],
                "channels": row["channels"],
                "retention": row["retention"],
                "created_at": iso(row["created_at"]),
            }
            for row in tx.all("list_spaces")
        ]
    }


def channel_list(tx: Reading, *, space: str = upkeep.MAIN) -> ChannelRows:
    return {"channels": [_channel(row) for row in tx.all("list_channels", space_id=_space_id(tx, space))]}


def channel_update(
    tx: Writing, *, name: str, retention: int | None = None, as_space: bool = False, vanish_after: int | None = None,
    space: str = upkeep.MAIN,
) -> ChannelRow:  # fmt: skip
    if (retention is not None) + as_space + (vanish_after is not None) != 1:
        raise BadRequest("Give either retention, in days, or as_space, or vanish_after, in seconds.")
    space_id = _space_id(tx, space)
    channel = channels.look_up(tx, space_id, name)
    if channel is None:
        raise _not_found("channel", name, [row["name"] for row in tx.all("list_channels", space_id=space_id)])
    if vanish_after is None:
        tx.run("keep_channel", retention=retention, space_id=space_id, name=name)
    elif channel.is_direct:
        raise BadRequest("Of the direct messages each one's sender says whether it vanishes.")
    elif not vanishing.set_channel(tx, space_id, channel, vanish_after or None):
        raise Conflict(f"#{name} is not empty: an ephemeral channel holds nothing else. Make a new one.")
    return next(row for row in channel_list(tx, space=space)["channels"] if row["name"] == name)


def _channel(row: Any) -> ChannelRow:
    return {
        "name": row["name"],
        "space": row["space"],
        "messages": row["number"] - row["purged"],
        "retention": row["retention"],
        "own_retention": bool(row["own_retention"]),
        "vanish_after": row["vanish_after"],
        "created_at": iso(row["created_at"]),
        "last_at": iso(row["last_at"]) if row["last_at"] else None,
    }


def letter_list(tx: Reading, *, name: str, space: str = upkeep.MAIN) -> LetterRows:
    return {
        "letters": [
            {
                "item_id": item["item_id"],
                "kind": item["kind"],
                "sender": item["from"],
                "channel": item["channel"] or "",
                "deliveries": item["deliveries"],
                "created_at": item["timestamp"],
                "ended_at": item["ended_at"],
                "reason": item["reason"],
            }
            for item in inbox.dead_letters(tx, _agent(tx, space, name)["id"], _MOST_LETTERS)["items"]
        ]
    }


def letter_requeue(tx: Writing, *, name: str, item_id: str, space: str = upkeep.MAIN) -> RequeuedLetter:
    row = _agent(tx, space, name)
    if not inbox.requeue(tx, row["space_id"], row["id"], item_id, by=None):
        raise NotFound(f"{item_id} is no dead letter of {name}. agentchat admin letter list {name} shows them.")
    return {"item_id": item_id, "agent": name}


def audit(
    tx: Reading, *, id: str | None = None, actor: str | None = None, after: int | None = None, limit: int = 100,
    space: str = upkeep.MAIN,
) -> Audit:  # fmt: skip
    actor_id = 0 if actor is None else _named(tx, space, actor)["id"]
    which = {"space_id": _space_id(tx, space), "public_id": id or "", "actor_id": actor_id, "limit": limit + 1}
    rows = tx.all("newest_transitions", **which) if after is None else tx.all("transitions_after", **which, after=after)
    is_cut, rows = len(rows) > limit, rows[:limit]
    if after is None:
        rows.reverse()
    members = ("number", "kind", "id", "version", "action", "actor", "before", "after", "fence", "note")
    found = [cast("AuditRow", {"at": iso(row["at"]), **{name: row[name] for name in members}}) for row in rows]
    return {
        "transitions": found,
        "after": found[-1]["number"] if found else after or 0,
        "has_more": is_cut and after is not None,
        "has_older": is_cut and after is None,
    }


def lock_list(
    tx: Reading, *, name: str | None = None, limit: int = 100, space: str = upkeep.MAIN
) -> LockRows:  # fmt: skip
    return {"locks": [_lock(lock) for lock in locks.listed(tx, _space_id(tx, space), name, None, limit)[0]]}


def lock_break(tx: Writing, *, id: str, reason: str | None = None, space: str = upkeep.MAIN) -> LockRow:
    return _lock(locks.break_lock(tx, _space_id(tx, space), id, reason))


def _lock(lock: types.Lock) -> LockRow:
    return {
        "id": lock["id"],
        "names": lock["names"],
        "shared": lock["shared"],
        "state": lock["state"],
        "holder": lock["holder"],
        "fence": lock["fence"],
        "since": lock["granted_at"] or lock["created_at"],
        "until": lock["lease_until"] or lock["waits_until"],
        "reason": lock["reason"],
    }


def stats(tx: Reading) -> Stats:
    relay, sizes = tx.the("stats_relay"), tx.sizes()
    oldest = {row["name"]: row["oldest"] for row in tx.all("stats_oldest")}
    return {
        "relay": {
            "version": __version__,
            "spaces": relay["spaces"],
            "machines": relay["machines"],
            "database_bytes": sizes.database,
            "index_bytes": sizes.fulltext,
        },
        "spaces": [_stats(row, oldest.get(row["name"])) for row in tx.all("stats_spaces")],
    }


def _stats(row: Any, oldest: int | None) -> SpaceStats:
    return {
        "name": row["name"],
        "agents": row["agents"],
        "channels": row["channels"],
        "messages": row["messages"],
        "files": row["files"],
        "file_bytes": row["file_bytes"],
        "open_inbox": row["open_inbox"],
        "oldest_message_at": iso(oldest) if oldest else None,
        "newest_message_at": iso(row["newest"]) if row["newest"] else None,
    }


def _space_id(tx: Reading, name: str) -> int:
    row = tx.one("space_by_name", name=name)
    if row is None:
        raise _not_found("space", name, [row["name"] for row in tx.all("list_spaces")])
    return int(row["id"])


def _agent(tx: Reading, space: str, name: str, *, or_group: bool = False) -> Row:
    if name.startswith(agents.GRAVE):
        raise Conflict(f"{name} stands for an agent that was deleted; nothing about it can change.")
    row = _named(tx, space, name)
    if row["is_group"] and not or_group:
        raise Conflict(f"{name} is a group of agents, not an agent.")
    return row


def _named(tx: Reading, space: str, name: str) -> Row:
    """Whoever has this name, or had another one before it was deleted."""
    space_id = _space_id(tx, space)
    row = tx.one("agent_by_name", space_id=space_id, name=name)
    if row is None:
        raise _not_found("agent", name, [row["name"] for row in tx.all("agent_names", space_id=space_id)])
    return row


def _not_found(what: str, name: str, names: list[str]) -> NotFound:
    alike = near(name, names)
    hint = f"Did you mean {alike[0]}?" if alike else f"agentchat admin {what} list shows them."
    return NotFound(f"There is no {what} {name}. {hint}", details={"near": alike})


def _changed(tx: Writing, space: str, name: str) -> AgentRow:
    tx.forget()
    return next(_row(row) for row in tx.all("list_agents", space=space, grave="") if row["name"] == name)


def _row(row: Any) -> AgentRow:
    return {
        "name": row["name"],
        "space": row["space"],
        "kind": row["kind"],
        "roles": row["roles"].split(),
        "active": bool(row["active"]),
        "machine": row["machine"],
        "has_key": bool(row["has_key"]),
        "created_at": iso(row["created_at"]),
        "last_seen_at": iso(row["last_seen_at"]) if row["last_seen_at"] else None,
        "retired_at": iso(row["retired_at"]) if row["retired_at"] else None,
    }
