"""Groups: a name for several agents. A message to it is one row, and an item in the inbox of each member at that time.

A group is a row among the agents, so that no agent can have its name and nothing that is meant for it is public. Those
who join and leave are its only rules. `all` is everybody in the space. A small group is told in the transaction of the
send; of a large one the rest is written down, and told in portions after it, whatever happens to the relay meanwhile.

Each message has the time of its send in everybody's list of direct messages, so a member who was told late could find
it behind a cursor. Therefore whoever reads that list is told first (`tell_now`), and so is who leaves or is deleted.
A group that is deleted is told the rest before (`before_deletion`).
"""

from __future__ import annotations

from typing import cast

from agentchat import types
from agentchat.errors import BadRequest, Conflict, Forbidden, NotFound

from ..store.seam import NeedsWrite, Reading, Row, Writing
from ..wire import new_id
from . import agents, channels, notices
from .agents import Known
from .call import Call
from .guess import near
from .notices import Posted, Terms

ALL = "all"
_MOST_JOINED = 100  # groups of one agent
_MOST_MEMBERS = 10_000
_MOST_LISTED = 500
_AT_ONCE = 50  # members who are told in the transaction of the send
_PORTION = 200


def join_group(tx: Writing, call: Call, *, group: str) -> types.GroupChange:
    found = _look_up(tx, call, group)
    if found is None:
        channels.check_may_create(tx, call)
        found = _insert(tx, call, group)
        tx.run("count_channel_of", id=call.agent.id)
    me = call.agent.id
    changed = tx.one("membership_in", group_id=found.id, agent_id=me) is None
    if changed:
        if tx.the("count_groups_of", agent_id=me)["groups"] >= _MOST_JOINED:
            raise Conflict(f"You are in {_MOST_JOINED} groups, which is the limit; leave one first.")
        if tx.the("count_members", group_id=found.id)["members"] >= _MOST_MEMBERS:
            raise Conflict(f"{_MOST_MEMBERS} agents are in {group}, which is the limit.")
        tx.run("insert_member", group_id=found.id, agent_id=me, joined_at=tx.now)
        _tell(tx, call, "group.joined", found)
    return _change(tx, group, found.id, True, changed)


def leave_group(tx: Writing, call: Call, *, group: str) -> types.GroupChange:
    found = _look_up(tx, call, group)
    if found is None:
        raise unknown(tx, call, group)
    tell_now(tx, call.agent.id)
    changed = bool(tx.run("delete_member", group_id=found.id, agent_id=call.agent.id))
    if changed:
        _tell(tx, call, "group.left", found)
    return _change(tx, group, found.id, False, changed)


def list_groups(tx: Reading, call: Call, *, group: str | None = None) -> types.GroupList:
    if group == ALL:
        raise BadRequest("Everybody is in all, so it is in no list of groups. find_agents lists who is here.")
    me = call.agent
    rows = tx.all(
        "list_groups", space_id=me.space_id, agent_id=me.id, name=group or "", limit=_MOST_LISTED + 1
    )  # fmt: skip
    if group is not None and not rows:
        raise unknown(tx, call, group)
    listed: list[types.Group] = [
        {"name": row["name"], "members": row["members"], "joined": row["joined"] is not None}
        for row in rows[:_MOST_LISTED]
    ]
    if group is not None:
        members = tx.all("member_names", group_id=rows[0]["id"], limit=_MOST_LISTED)
        listed[0]["agents"] = [row["name"] for row in members]
    return {"groups": listed, "has_more": len(rows) > _MOST_LISTED}


def unknown(tx: Reading, call: Call, name: str) -> NotFound:
    """The error for a name that is no group's, with the group that may have been meant."""
    names = near(name, (row["name"] for row in tx.all("group_names", space_id=call.agent.space_id, limit=_MOST_LISTED)))
    hint = f"Did you mean {names[0]}?" if names else "list_groups lists them."
    return NotFound(f"There is no group {name}. {hint}", details={"near": names})


def is_group(name: str, found: Known | None) -> bool:
    """Whether a name is a group's. That of the whole space always is, though it may not have been made yet."""
    return name == ALL or (found is not None and found.is_group)


def _look_up(tx: Writing, call: Call, name: str) -> Known | None:
    if name == ALL:
        raise BadRequest("Everybody is in all; nobody joins or leaves it.")
    found = agents.known(tx, call.agent.space_id, name)
    if found is None and agents.is_reserved(name):
        raise Forbidden(f"The name {name} is reserved.")
    if found is not None and not found.is_group:
        raise Conflict(f"{name} is an agent; a group needs a name of its own.")
    return found


def _insert(tx: Writing, call: Call, name: str) -> Known:
    public_id = new_id(tx.now)
    id = tx.run("insert_group", public_id=public_id, space_id=call.agent.space_id, name=name, created_at=tx.now)
    tx.forget()
    return Known(id, public_id, True, False, True, None)


def _tell(tx: Writing, call: Call, kind: str, group: Known) -> None:
    agent = call.agent
    tx.event(agent.space_id, kind, actor_id=agent.id, subject=group.public_id)


def _change(tx: Reading, name: str, id: int, joined: bool, changed: bool) -> types.GroupChange:
    members = tx.the("count_shown_members", group_id=id)["members"]
    return {"group": name, "joined": joined, "members": members, "idempotent": not changed}


def of_all(tx: Writing, call: Call) -> Known:
    """That of the whole space, which is made when somebody first writes to it."""
    return agents.known(tx, call.agent.space_id, ALL) or _insert(tx, call, ALL)


# Telling the members


def to_be_told(tx: Writing, call: Call, name: str, group: Known | None) -> tuple[Known, list[int]]:
    """The group, and who is in it besides the caller: one more than are told at once, if there are more."""
    members: list[int] = []
    if name == ALL:
        group = of_all(tx, call)
    if group is not None:
        posted = Posted(0, tx.now, 0, call.agent.space_id, call.agent.id)
        members = _members(tx, posted, group.id, is_all=name == ALL, limit=_AT_ONCE + 1)
    if group is None or not members:
        raise Conflict(f"Nobody else is in the group {name}, so nothing was sent.")
    return group, members


def tell(tx: Writing, posted: Posted, members: list[int], terms: Terms, told: set[int]) -> bool:
    """Tell the members, or write down that they are to be told; whether it is done. Who was told of this call's other
    messages is left out, and added are those who are told now."""
    if len(members) > _AT_ONCE:
        tx.later(
            "insert_fan_out", message_id=posted.id, after_id=0, urgent=terms.urgent, expires_at=terms.expires_at,
            scope=terms.scope,
        )  # fmt: skip
        return False
    for agent_id in members:
        if agent_id not in told:
            _put(tx, posted, agent_id, terms)
    told.update(members)
    return True


def is_telling(tx: Reading) -> bool:
    """Whether a large group has something that not all of it was told."""
    return tx.one("next_fan_out") is not None


def fan_out(tx: Writing) -> int:
    """Tell the next members of the first large group that has something; how many that were."""
    row = tx.one("next_fan_out")
    if row is None:
        return 0
    posted, terms = _written_down(row)
    members = _members(
        tx, posted, row["group_id"], is_all=row["name"] == ALL, after=row["after_id"], first_id=row["first_id"],
        limit=_PORTION,
    )  # fmt: skip
    for agent_id in members:
        _put(tx, posted, agent_id, terms)
    if len(members) < _PORTION:
        tx.run("delete_fan_out", message_id=posted.id)
    else:
        tx.run("move_fan_out", message_id=posted.id, after_id=members[-1])
    return max(len(members), 1)


def before_deletion(tx: Writing, row: Row) -> None:
    """Tell a member what it is still to be told, and all of a group: it is about to have no members."""
    if row["name"] == ALL:
        raise Conflict(f"{ALL} is everybody in the space; it cannot be deleted.")
    if not row["is_group"]:
        tell_now(tx, row["id"])
    while tx.one("fan_out_to", group_id=row["id"]) is not None:
        fan_out(tx)
        tx.mark(fan_out)
        tx.settle(fan_out)  # the next portion looks who was told already


def tell_now(tx: Reading, agent_id: int) -> None:
    """Tell an agent, before its turn, what it is still to be told: for whoever reads on from a place in time, or is
    about to be no member."""
    rows = tx.all("untold", agent_id=agent_id)
    if rows and not tx.writes:
        raise NeedsWrite
    told: set[int] = set()
    for row in rows:
        if row["first_id"] not in told:
            posted, terms = _written_down(row)
            notices.put(cast("Writing", tx), posted, agent_id, "group", terms, at_once=True)
            told.add(row["first_id"])


def _written_down(row: Row) -> tuple[Posted, Terms]:
    is_persons = row["author_kind"] == "person"
    posted = Posted(
        row["message_id"], row["created_at"], row["channel_id"], row["space_id"], row["author_id"], is_persons
    )
    return posted, Terms(row["urgent"], row["expires_at"], row["scope"], row["vanishes_at"] is not None)


def _members(
    tx: Reading, posted: Posted, group_id: int, *, is_all: bool, after: int = 0, first_id: int = 0, limit: int
) -> list[int]:
    """Members as of the message, by their ids, who were told of none of its call: who came later gets the next one."""
    found = tx.all(
        "everybody" if is_all else "members",
        **({"space_id": posted.space_id} if is_all else {"group_id": group_id}),
        after=after, until=posted.at, author_id=posted.author_id, first_id=first_id, limit=limit,
    )  # fmt: skip
    return [row["agent_id"] for row in found]


def _put(tx: Writing, posted: Posted, agent_id: int, terms: Terms) -> None:
    notices.put(tx, posted, agent_id, "group", terms)
