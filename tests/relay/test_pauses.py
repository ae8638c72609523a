"""Pauses over the wire: who may, whom they reach, also when those are many, and what their end brings to each."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agentchat import Client, types
from agentchat.errors import AgentChatError, BadRequest, Conflict, Forbidden, LimitReached, NotFound
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.service import administration, vanishing
from agentchat_relay.service.work import kinds, pauses
from tests.relay import database

from .conftest import UNLIMITED, Clock, fresh, settle_all, until
from .sharing import Shared, apart


class Team:
    """A space of a test's own, with whoever it needs."""

    def __init__(self, live: Embedded, space: str) -> None:
        self.live, self.space = live, space
        self.made: list[Client] = []

    def agent(self, name: str | None = None, *, kind: str | None = None, role: str | None = None) -> Client:
        name = name or fresh()
        key = self.live.token(name, space=self.space, kind=kind)
        if role is not None:
            self.grant(name, role)
        client = Client(self.live.url, key, agent=name, retries=0)
        self.made.append(client)
        return client

    def person(self) -> Client:
        return self.agent(kind="person")

    def admin(self) -> Client:
        return self.agent(role="admin")

    def grant(self, name: str, role: str, *, revoke: bool = False) -> None:
        self.live.ask(lambda tx: administration.agent_grant(tx, name=name, role=role, space=self.space, revoke=revoke))

    def crowd(self, number: int) -> list[str]:
        """Names of many agents."""
        names = [fresh("one-of-many") for _ in range(number)]

        def make(tx: Any) -> None:
            for name in names:
                administration.agent_token(tx, name=name, space=self.space)

        self.live.ask(make)
        return names

    def retire(self, client: Client) -> None:
        def call(tx: Any) -> None:
            (id,) = (row[0] for row in rows)
            tx.run("retire_agent", id=id, now=tx.now)
            tx.forget()

        rows = database.ask(self.live, "SELECT id FROM agents WHERE name = ?", client.agent)
        self.live.ask(call)

    def close(self) -> None:
        for client in self.made:
            client.close()


@pytest.fixture
def team(live: Embedded) -> Iterator[Team]:
    with apart(live, fresh("space")) as where, closing(Team(*where)) as made:
        yield made


def pause(leader: Client, reason: str = "stop", **where: Any) -> types.CountedPause:
    return leader.pause_agents(reason, **where)["pause"]


def items(client: Client) -> list[types.InboxItem]:
    return client.peek_inbox(limit=100)["items"]


def work(client: Client) -> list[tuple[str, str]]:
    """What an agent is to acknowledge: purpose and reason, newest first."""
    return [(one["purpose"], one["reason"]) for one in client.list_interrupts(limit=200)["interrupts"]]


def acknowledge(client: Client) -> types.Interrupt:
    """The one that waits."""
    (one,) = client.list_interrupts()["interrupts"]
    return client.acknowledge_interrupt(one["id"])["interrupt"]


def counted(leader: Client, id: str) -> tuple[int, int, bool]:
    """Told, acknowledged, pending; of one that is on."""
    (one,) = [one for one in leader.list_pauses()["pauses"] if one["id"] == id]
    return one["told"], one["acknowledged"], one["pending"]


def parts(leader: Client, id: str, **which: Any) -> list[types.SeenInterrupt]:
    """The interrupts of a pause, page by page."""
    page = leader.list_interrupts(pause_id=id, limit=50, **which)
    found = page["interrupts"]
    while page["has_more"]:
        page = leader.list_interrupts(pause_id=id, limit=50, cursor=page["next_cursor"], **which)
        found += page["interrupts"]
    return found


def reached(leader: Client, id: str, **which: Any) -> Counter[str]:
    return Counter(one["target"] for one in parts(leader, id, **which))


# Whom it reaches


def test_a_channel_is_paused_and_resumed(team: Team) -> None:
    mira, ann, bob, eve = team.person(), team.agent(), team.agent(), team.agent()
    for client in (ann, bob, mira):
        client.send_message("project", "here")
    answer = mira.pause_agents("migrating\nthe database", channel="project", expires_in=600)
    made = answer["pause"]
    assert answer["idempotent"] is False
    assert (made["of"], made["name"], made["state"], made["version"]) == ("channel", "project", "paused", 1)
    assert (made["reason"], made["paused_by"], made["note"], made["ended_at"]) == (
        "migrating\nthe database", mira.agent, None, None,
    )  # fmt: skip
    assert (made["told"], made["acknowledged"], made["pending"]) == (2, 0, False)
    assert eve.list_pauses()["pauses"] == [made]
    post = eve.read_messages("project")["messages"][-1]
    assert post["content"] == "Paused: #project, until it is resumed.\n\nmigrating\nthe database"
    assert (post["kind"], post["metadata"]) == ("system", {"pause_id": made["id"], "pause_event": "created"})
    for client in (ann, bob):
        (item,) = items(client)
        assert (item["kind"], item["urgent"], item["from"]) == ("interrupt", True, mira.agent)
        assert item["content"].split("\n")[0] == "Pause: stop until you are told to go on, and acknowledge it."
        (one,) = client.list_interrupts()["interrupts"]
        assert (one["purpose"], one["pause_id"], one["expires_at"]) == ("pause", made["id"], made["expires_at"])
    assert work(eve) == work(mira) == []
    acknowledge(ann)
    assert counted(bob, made["id"]) == (2, 1, False)
    assert items(mira) == [], "they are counted, not written about"
    done = mira.resume_agents(made["id"], note="pull first")
    assert (done["pause"]["state"], done["pause"]["version"], done["pause"]["note"]) == ("resumed", 2, "pull first")
    assert (done["pause"]["told"], done["pause"]["acknowledged"], done["idempotent"]) == (2, 1, False)
    assert mira.list_pauses()["pauses"] == []
    last = eve.read_messages("project")["messages"][-1]
    assert (last["content"], last["parent_message_id"]) == ("The pause is over.\n\npull first", post["id"])
    assert work(ann) == [("resume", "pull first")]
    (item,) = items(ann)
    assert item["content"] == "The pause is over: go on, and acknowledge it.\n\npull first"
    assert (items(bob), work(bob)) == ([], []), "who had not stopped yet need not any more"
    assert acknowledge(ann)["purpose"] == "resume"
    assert items(ann) == items(mira) == []


def test_a_group_is_paused(team: Team) -> None:
    lead, ann, bob, eve = team.admin(), team.agent(), team.agent(), team.agent()
    for client in (lead, ann, bob):
        client.join_group("builders")
    made = pause(lead, group="builders")
    assert (made["of"], made["name"], made["told"]) == ("group", "builders", 2)
    assert reached(lead, made["id"]) == {ann.agent: 1, bob.agent: 1}
    assert work(eve) == work(lead) == []
    acknowledge(bob)
    lead.resume_agents(made["id"])
    assert work(bob) == [("resume", "Paused for: stop")]


def test_everybody_is_paused_but_persons_and_those_who_read_nothing(team: Team) -> None:
    lead, mira, ann = team.admin(), team.person(), team.agent()
    other, retired, off, deleted = team.admin(), team.agent(), team.agent(), team.agent()
    for client in (mira, retired, off, deleted):
        client.join_group("builders")
        client.send_message("project", "here")
    team.retire(retired)
    team.live.ask(lambda tx: administration.agent_deactivate(tx, name=off.agent or "", space=team.space))
    team.live.ask(lambda tx: administration.agent_delete(tx, name=deleted.agent or "", space=team.space))
    made = pause(lead, group="all")
    assert reached(lead, made["id"]) == {ann.agent: 1, other.agent: 1}
    assert made["told"] == 2
    for where in ({"group": "builders"}, {"channel": "project"}):
        with pytest.raises(Conflict, match="no other agent"):
            pause(lead, **where)
    assert len(lead.list_pauses()["pauses"]) == 1


def test_another_space_is_another_world(team: Team, live: Embedded) -> None:
    live.space(space := fresh("else"))
    elsewhere = Team(live, space)
    mira, eve, far = team.person(), elsewhere.agent(), elsewhere.person()
    team.agent()
    made = pause(mira, group="all")
    assert (work(eve), eve.list_pauses()["pauses"], eve.get_briefing()["pauses"]) == ([], [], [])
    for ask in (far.resume_agents, partial(parts, far)):
        with pytest.raises(NotFound, match=f"There is no pause {made['id']}"):
            ask(made["id"])
    elsewhere.close()


def test_where_there_is_nobody_nothing_is_done(team: Team) -> None:
    mira, ann = team.person(), team.agent()
    ann.create_task("count", channel="empty")
    lead = team.admin()
    lead.send_message("lonely", "nobody here")
    lead.join_group("alone")
    before = lead.list_events()["position"]
    for where in ({"channel": "lonely"}, {"group": "alone"}):
        with pytest.raises(Conflict, match=r"There is no other agent in \w+ that could be paused\. Nothing was done"):
            pause(lead, **where)
    for where, told in (
        ({"channel": "nowhere"}, "nowhere"),
        ({"group": "nobody"}, r"There is no group nobody\. list_groups lists them"),
        ({"group": "aloen"}, r"There is no group aloen\. Did you mean alone\?"),
    ):
        with pytest.raises(NotFound, match=told):
            pause(lead, **where)
    with pytest.raises(BadRequest, match="interrupt it with send_interrupt"):
        pause(mira, group=ann.agent)
    with pytest.raises(BadRequest):
        pause(mira, channel="direct-messages")
    for where in ({}, {"channel": "lonely", "group": "all"}):
        with pytest.raises(BadRequest, match="either channel or group"):
            pause(mira, **where)
    assert lead.list_pauses()["pauses"] == []
    assert lead.list_events()["position"] == before
    assert [post["kind"] for post in lead.read_messages("lonely")["messages"]] == ["chat"]


@pytest.mark.parametrize("channel", ["gossip-here", "shared-work"])
def test_a_channel_of_many_relays_is_not_paused(team: Team, channel: str) -> None:
    """What is posted there is short, and read elsewhere."""
    mira, ann = team.person(), team.agent()
    ann.send_message(channel, "here")
    with pytest.raises(BadRequest, match=f"#{channel} is shared with other relays"):
        pause(mira, channel=channel)
    assert len(mira.read_messages(channel)["messages"]) == 1


def test_a_channel_that_keeps_nothing_can_be_paused_too(team: Team, clock: Clock) -> None:
    mira, ann = team.person(), team.agent()
    ann.send_message("brief", "here", vanish_after=60)
    made = pause(mira, channel="brief")
    acknowledge(ann)
    clock.ahead += 61
    while team.live.ask(lambda tx: vanishing.vanish(tx, tx.now)):
        pass
    assert mira.read_messages("brief")["messages"] == []
    assert mira.resume_agents(made["id"])["pause"]["state"] == "resumed"
    assert work(ann) == [("resume", "Paused for: stop")]


def test_who_comes_later_is_told_by_the_briefing(team: Team) -> None:
    mira, ann, bob = team.person(), team.agent(), team.agent()
    ann.send_message("project", "here")
    ann.join_group("builders")
    of_channel, of_group, of_all = (
        pause(mira, channel="project"), pause(mira, group="builders"), pause(mira, group="all"),
    )  # fmt: skip
    late = team.agent()

    def briefed(client: Client) -> list[str]:
        return [one["id"] for one in client.get_briefing()["pauses"]]

    assert briefed(ann) == [of_all["id"], of_group["id"], of_channel["id"]]
    assert briefed(late) == briefed(bob) == [of_all["id"]]
    assert briefed(mira) == []
    late.read_messages("project", mark_read=True)
    late.join_group("builders")
    late.send_message("project", "here")
    assert briefed(late) == [of_all["id"], of_group["id"], of_channel["id"]]
    assert work(late) == []
    shown = late.get_briefing()["pauses"][0]
    assert (shown["reason"], shown["paused_by"], shown["state"]) == ("stop", mira.agent, "paused")
    mira.resume_agents(of_all["id"])
    assert briefed(late) == [of_group["id"], of_channel["id"]]


# Who may


def test_only_persons_and_admins_may(team: Team) -> None:
    mira, ann, bob = team.person(), team.agent(), team.agent()
    made = pause(mira, group="all")
    with pytest.raises(Forbidden, match=f"agent grant {ann.agent} admin"):
        pause(ann, group="all")
    with pytest.raises(Forbidden, match="only a person, or who holds the role admin, may"):
        ann.resume_agents(made["id"])
    with pytest.raises(Forbidden, match="persons and admins"):
        ann.list_interrupts(pause_id=made["id"])
    team.grant(ann.agent or "", "reviewer")
    with pytest.raises(Forbidden):
        pause(ann, group="all")
    team.grant(ann.agent or "", "admin")
    assert reached(ann, made["id"]) == {ann.agent: 1, bob.agent: 1}
    theirs = pause(ann, group="all")
    assert reached(mira, theirs["id"]) == {bob.agent: 1}
    team.grant(ann.agent or "", "admin", revoke=True)
    with pytest.raises(Forbidden):
        ann.resume_agents(theirs["id"])
    mira.resume_agents(theirs["id"])
    with pytest.raises(Forbidden):
        ann.resume_agents(theirs["id"])
    team.live.ask(lambda tx: administration.agent_update(tx, name=mira.agent or "", kind="agent", space=team.space))
    with pytest.raises(Forbidden):
        mira.resume_agents(made["id"])


def test_another_leader_resumes_it(team: Team) -> None:
    mira, lead, ann, bob = team.person(), team.admin(), team.agent(), team.agent()
    made = pause(mira, group="all")
    acknowledge(ann)
    done = lead.resume_agents(made["id"], note="go")["pause"]
    assert (done["state"], done["paused_by"]) == ("resumed", mira.agent)
    assert work(ann) == [("resume", "go")]
    assert work(bob) == work(lead) == []
    again = mira.resume_agents(made["id"])
    assert (again["idempotent"], again["pause"]) == (True, done)
    assert len(items(ann)) == 1
    (one,) = parts(mira, made["id"], state="acknowledged")
    assert one["target"] == ann.agent
    assert reached(mira, made["id"], state="withdrawn") == {bob.agent: 1, lead.agent: 1}
    assert mira.list_interrupts(sent=True)["interrupts"] == [], "what a pause sent is listed with the pause"


def test_who_ends_a_pause_says_so_in_its_own_name(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    mira, lead, agents = team.person(), team.admin(), [team.agent() for _ in range(4)]
    made = pause(mira, group="all")
    for agent in (*agents, lead):
        acknowledge(agent)
    monkeypatch.setattr(pauses, "_AT_ONCE", 2)  # and the others after it
    lead.resume_agents(made["id"], note="go")
    for agent in agents:
        until(lambda agent=agent: work(agent) == [("resume", "go")])
        (told,) = agent.list_interrupts()["interrupts"]
        assert told["sender"] == lead.agent
        assert agent.get_interrupt(told["id"])["history"][0]["actor"] == lead.agent
        assert [item["from"] for item in items(agent)] == [lead.agent]
    assert work(lead) == [], "it knows"


def test_one_of_a_pause_is_between_two_like_any_other(team: Team) -> None:
    mira, lead, ann, bob = team.person(), team.admin(), team.agent(), team.agent()
    made = pause(mira, group="all")
    (one,) = ann.list_interrupts()["interrupts"]
    for client in (bob, lead):
        with pytest.raises(NotFound):
            client.get_interrupt(one["id"])
    ann.check_inbox()
    (seen,) = [part for part in parts(lead, made["id"]) if part["target"] == ann.agent]
    assert (seen["state"], seen["seen_at"] is not None) == ("pending", True)
    assert ann.get_interrupt(one["id"])["history"][0]["actor"] == mira.agent


def test_what_a_pause_sent_leaves_room_for_interrupts(team: Team) -> None:
    mira, ann = team.person(), team.agent()
    for _ in range(21):
        pause(mira, group="all")
    assert len(items(ann)) == 21
    assert mira.send_interrupt(ann.agent or "", "stop")["interrupt"]["state"] == "pending"


def test_there_is_a_limit(asleep: None, team: Team, clock: Clock) -> None:
    """Of those that are on; what is over by the clock is not."""
    mira, lead, ann = team.person(), team.admin(), team.agent()
    ann.join_group("builders")
    ids = [pause(mira, group="builders", expires_in=60 if number else 3600)["id"] for number in range(50)]
    for leader in (mira, lead):
        with pytest.raises(LimitReached, match="50 pauses are on"):
            pause(leader, group="builders")
    assert len(mira.list_pauses()["pauses"]) == 50
    mira.resume_agents(ids[0])
    pause(lead, group="builders")
    clock.ahead += 61
    assert len(mira.list_pauses()["pauses"]) == 1
    pause(mira, group="builders")


def test_the_same_key_pauses_once(team: Team) -> None:
    mira, ann = team.person(), team.agent()
    ann.send_message("project", "here")
    keyed = mira.with_options(idempotency_key="k1")
    first = keyed.pause_agents("stop", channel="project")
    acknowledge(ann)
    again = keyed.pause_agents("stop", channel="project")
    assert again["pause"] == {**first["pause"], "acknowledged": 1}
    with pytest.raises(Conflict) as caught:
        keyed.pause_agents("stop", group="all")
    assert caught.value.code == "idempotency_mismatch"
    keyed = mira.with_options(idempotency_key="k2")
    assert keyed.resume_agents(first["pause"]["id"]) == keyed.resume_agents(first["pause"]["id"])
    assert work(ann) == [("resume", "Paused for: stop")]
    assert len(ann.read_messages("project")["messages"]) == 3


# How it ends


def test_its_time_is_over_though_nobody_has_looked(asleep: None, team: Team, clock: Clock) -> None:
    mira, ann = team.person(), team.agent()
    made = pause(mira, group="all", expires_in=60)
    clock.ahead += 61
    assert (mira.list_pauses()["pauses"], ann.get_briefing()["pauses"]) == ([], [])
    assert (items(ann), work(ann)) == ([], [])
    with pytest.raises(Conflict) as caught:
        mira.resume_agents(made["id"])
    assert (caught.value.current or {})["state"] == "expired"
    with pytest.raises(Forbidden):
        ann.resume_agents(made["id"])


def test_whose_time_is_over_is_told_the_same(asleep: None, team: Team, clock: Clock) -> None:
    mira, ann, bob = team.person(), team.agent(), team.agent()
    for client in (ann, bob):
        client.send_message("project", "here")
    made = pause(mira, channel="project", expires_in=60)
    acknowledge(ann)
    clock.ahead += 61
    settle_all(team.live)
    assert work(ann) == [("resume", "Paused for: stop")]
    assert (work(bob), items(bob)) == ([], [])
    assert mira.read_messages("project")["messages"][-1]["content"] == "The time of the pause is over."
    with pytest.raises(Conflict) as caught:
        mira.resume_agents(made["id"])
    current: Any = caught.value.current
    assert (current["state"], current["version"], current["note"]) == ("expired", 2, None)
    assert current["ended_at"] is not None
    rows = team.live.ask(lambda tx: administration.audit(tx, id=made["id"], space=team.space))["transitions"]
    assert [(row["action"], row["actor"]) for row in rows] == [("create", mira.agent), ("expire", None)]
    assert items(mira) == []


def test_the_relay_looks_by_itself(team: Team, clock: Clock) -> None:
    mira, ann = team.person(), team.agent()
    pause(mira, group="all", expires_in=60)
    acknowledge(ann)
    clock.ahead += 61
    ann.set_card(role="whatever is committed stirs it")
    until(lambda: work(ann) == [("resume", "Paused for: stop")])


def test_who_stopped_long_ago_is_told_to_go_on(team: Team, asleep: None, clock: Clock) -> None:
    """Though what ended is kept for less time than the pause lasts."""
    team.live.ask(lambda tx: administration.space_update(tx, name=team.space, retention=1))
    mira, ann, bob = team.person(), team.agent(), team.agent()
    made = pause(mira, group="all", expires_in=604_800)
    acknowledge(ann)
    clock.ahead += 3 * 86_400
    while team.live.ask(lambda tx: kinds.purge(tx, tx.now)):
        pass
    assert counted(mira, made["id"]) == (2, 1, False)
    mira.resume_agents(made["id"])
    assert work(ann) == [("resume", "Paused for: stop")]
    assert work(bob) == []


def test_a_pause_that_is_purged_leaves_nothing(team: Team, asleep: None) -> None:
    team.live.ask(lambda tx: administration.space_update(tx, name=team.space, retention=1))
    mira, ann, _ = team.person(), team.agent(), team.agent()
    made, on = pause(mira, group="all"), pause(mira, group="all")
    for one in ann.list_interrupts()["interrupts"]:
        ann.acknowledge_interrupt(one["id"])
    mira.resume_agents(made["id"])
    acknowledge(ann)

    def rows(sql: str) -> int:
        space = f"(SELECT w.id FROM work w JOIN spaces s ON s.id = w.space_id WHERE s.name = '{team.space}')"
        return int(database.ask(team.live, sql.replace("SPACE", space))[0][0])

    def purge() -> None:
        while team.live.ask(lambda tx: kinds.purge(tx, tx.now + 2 * 86_400_000_000)):
            pass

    purge()
    assert rows("SELECT count(*) FROM work WHERE id IN SPACE") == 3, "the other one, and its parts"
    assert rows("SELECT count(*) FROM work_parts WHERE work_id IN SPACE OR parent_id IN SPACE") == 2
    mira.resume_agents(on["id"])
    acknowledge(ann)
    purge()
    for table in ("work_parts", "spreads", "work_log"):
        orphans = f"SELECT count(*) FROM {table} WHERE work_id NOT IN (SELECT id FROM work)"
        assert int(database.ask(team.live, orphans)[0][0]) == 0, table
    assert rows("SELECT count(*) FROM work WHERE id IN SPACE") == 0
    parents = "SELECT count(*) FROM work_parts WHERE parent_id NOT IN (SELECT id FROM work)"
    assert int(database.ask(team.live, parents)[0][0]) == 0
    with pytest.raises(NotFound):
        parts(mira, made["id"])


@pytest.mark.parametrize("gone", ["deleted", "deactivated"])
def test_it_ends_though_who_made_it_is_gone(asleep: None, team: Team, clock: Clock, gone: str) -> None:
    mira, ann = team.person(), team.agent()
    ann.send_message("project", "here")
    pause(mira, channel="project", expires_in=60)
    acknowledge(ann)
    end = administration.agent_delete if gone == "deleted" else administration.agent_deactivate
    team.live.ask(lambda tx: end(tx, name=mira.agent or "", space=team.space))
    clock.ahead += 61
    settle_all(team.live)
    assert work(ann) == [("resume", "Paused for: stop")]


@pytest.mark.parametrize("gone", ["deleted", "deactivated", "retired"])
def test_it_ends_though_some_who_stopped_are_gone(team: Team, gone: str) -> None:
    mira, ann, bob, cy = team.person(), team.agent(), team.agent(), team.agent()
    made = pause(mira, group="all")
    acknowledge(ann)
    acknowledge(cy)
    for client in (ann, bob):
        name = client.agent or ""
        if gone == "retired":
            team.retire(client)
        else:
            end = administration.agent_delete if gone == "deleted" else administration.agent_deactivate
            team.live.ask(partial(end, name=name, space=team.space))
    done = mira.resume_agents(made["id"])["pause"]
    assert (done["told"], done["acknowledged"], done["pending"]) == (3, 2, False)
    assert work(cy) == [("resume", "Paused for: stop")]
    if gone == "retired":  # and back
        assert work(ann) == [("resume", "Paused for: stop")]
        assert work(bob) == []


@pytest.mark.sqlite
def test_agents_that_share_a_directory_are_paused() -> None:
    with closing(Shared()) as shared:
        lead, ann, bob = (
            Client(shared.url, shared.token(name), agent=name) for name in ("mac-lead", "mac-ann", "mac-bob")
        )
        with lead, ann, bob:
            with pytest.raises(Forbidden):
                pause(lead, group="all")
            shared.ask(lambda tx: administration.agent_grant(tx, name="mac-lead", role="admin"))
            for number in range(58):
                shared.token(f"mac-{number}")
            made = pause(lead, group="all")
            assert (made["told"], made["pending"]) == (50, True)
            until(lambda: counted(bob, made["id"]) == (60, 0, False))
            acknowledge(ann)
            lead.resume_agents(made["id"])
            assert (work(ann), work(bob)) == ([("resume", "Paused for: stop")], [])


# Events


def test_everybody_is_told_of_a_pause_and_each_of_its_own_part(team: Team) -> None:
    mira, ann, bob = team.person(), team.agent(), team.agent()
    position = bob.list_events()["position"]
    made = pause(mira, group="all")
    one = acknowledge(ann)
    mira.resume_agents(made["id"], note="go")

    def told(client: Client) -> list[tuple[str, str | None]]:
        events = client.list_events(since=position, limit=500)["events"]
        return [(e["kind"], e["actor"]) for e in events if e["kind"].split(".")[0] in ("pause", "interrupt")]

    whole = [("pause.created", mira.agent), ("pause.resumed", mira.agent)]
    sent = ("interrupt.created", mira.agent)
    assert [event for event in told(bob) if event[0].startswith("pause")] == whole
    assert Counter(told(bob)) == Counter([*whole, sent])
    assert Counter(told(ann)) == Counter([*whole, sent, ("interrupt.acknowledged", ann.agent), sent])
    resumed = mira.list_events(since=position, kind="pause.resumed")["events"][0]
    assert resumed["subject"] == made["id"]
    data = resumed["data"] or {}
    assert (data["before"], data["after"], data["version"], data["note"]) == ("paused", "resumed", 2, "go")
    assert data["pause"]["state"] == "resumed"
    assert one["pause_id"] == made["id"]


# Many


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Portions that a test can count."""
    monkeypatch.setattr(pauses, "_AT_ONCE", 3)
    monkeypatch.setattr(pauses, "_PORTION", 4)


@pytest.mark.parametrize("where", ["all", "group", "channel"])
def test_many_are_told_in_portions(asleep: None, small: None, team: Team, where: str) -> None:
    lead, agents = team.admin(), [team.agent() for _ in range(9)]
    for client in agents:
        client.join_group("builders")
        client.send_message("project", "here")
    made = pause(lead, **({"channel": "project"} if where == "channel" else {"group": "builders"}))
    if where == "all":
        lead.resume_agents(made["id"])
        settle_all(team.live)
        made = pause(lead, group="all")
    assert (made["told"], made["pending"]) == (3, True)
    told = []
    while counted(lead, made["id"])[2]:
        team.live.ask(kinds.settle)
        told.append(counted(lead, made["id"])[0])
    assert told == [7, 9]
    assert reached(lead, made["id"]) == {client.agent: 1 for client in agents}
    assert team.live.ask(kinds.settle) == 0


def test_as_many_as_are_told_at_once(asleep: None, small: None, team: Team) -> None:
    lead = team.admin()
    names = team.crowd(3)
    made = pause(lead, group="all")
    settle_all(team.live)
    assert counted(lead, made["id"]) == (3, 0, False)
    assert reached(lead, made["id"]) == dict.fromkeys(names, 1)


def test_resumed_before_all_are_told(asleep: None, small: None, team: Team) -> None:
    """Those who were not told yet never are; the others are released, in portions as well."""
    mira, lead, agents = team.person(), team.admin(), [team.agent() for _ in range(12)]
    made = pause(mira, group="all")
    team.live.ask(kinds.settle)
    assert counted(mira, made["id"]) == (7, 0, True)
    stopped = [client for client in agents if work(client)]
    for client in stopped[::2]:
        acknowledge(client)
    done = lead.resume_agents(made["id"], note="go")["pause"]
    assert (done["told"], done["acknowledged"], done["pending"]) == (7, len(stopped[::2]), True)
    settle_all(team.live)
    assert mira.resume_agents(made["id"])["pause"]["pending"] is False
    for client in agents:
        wanted = [("resume", "go")] if client in stopped[::2] else []
        assert (work(client), len(items(client))) == (wanted, len(wanted))
    assert len(reached(mira, made["id"])) == 7


def test_acknowledged_while_it_is_being_released(asleep: None, small: None, team: Team) -> None:
    """A pause that is over is not acknowledged any more, and whoever does nevertheless is told to go on."""
    mira, agents = team.person(), [team.agent() for _ in range(9)]
    made = pause(mira, group="all")
    settle_all(team.live)
    mira.resume_agents(made["id"])
    waiting = [client for client in agents if work(client)]
    assert len(waiting) == 6
    for client in waiting:
        acknowledge(client)
    settle_all(team.live)
    for client in agents:
        assert work(client) == ([("resume", "Paused for: stop")] if client in waiting else [])


def test_over_before_all_are_told(asleep: None, small: None, team: Team, clock: Clock) -> None:
    mira, agents = team.person(), [team.agent() for _ in range(9)]
    made = pause(mira, group="all", expires_in=60)
    first = [client for client in agents if work(client)]
    acknowledge(first[0])
    clock.ahead += 61
    settle_all(team.live)
    assert [client for client in agents if work(client)] == first[:1]
    assert len(reached(mira, made["id"])) == 3
    assert reached(mira, made["id"], state="expired") == {client.agent: 1 for client in first[1:]}


def test_who_joins_and_leaves_meanwhile(asleep: None, small: None, team: Team) -> None:
    mira, agents = team.person(), [team.agent() for _ in range(6)]
    for client in agents:
        client.join_group("builders")
    made = pause(mira, group="builders")
    agents[0].leave_group("builders")
    agents[5].leave_group("builders")
    team.retire(agents[4])
    late = team.agent()
    late.join_group("builders")
    settle_all(team.live)
    assert reached(mira, made["id"]) == {client.agent: 1 for client in (*agents[:4], late)}


def test_two_pauses_are_told_one_after_the_other(asleep: None, small: None, team: Team) -> None:
    mira, lead, names = team.person(), team.admin(), team.crowd(9)
    first, second, third = pause(mira, "1", group="all"), pause(lead, "2", group="all"), pause(mira, "3", group="all")
    mira.resume_agents(second["id"])
    settle_all(team.live)
    everybody = dict.fromkeys([*names, lead.agent], 1)
    for made in (first, third):
        assert counted(mira, made["id"]) == (10, 0, False)
        assert reached(mira, made["id"], state="pending") == everybody
    assert sum(reached(mira, second["id"], state="withdrawn").values()) == second["told"] == 3


@pytest.mark.parametrize("least", [3, 8, 20])
def test_resumed_while_the_relay_tells(small: None, team: Team, least: int) -> None:
    """However far it is by then, nobody is left with a pause that is over."""
    mira = team.person()
    team.crowd(40)
    made = pause(mira, group="all")
    until(lambda: counted(mira, made["id"])[0] >= least)
    mira.resume_agents(made["id"])
    until(lambda: not mira.resume_agents(made["id"])["pause"]["pending"])
    told = mira.resume_agents(made["id"])["pause"]["told"]
    found = reached(mira, made["id"], state="withdrawn")
    assert {*found.values()} == {1}
    assert sum(reached(mira, made["id"]).values()) == sum(found.values()) == told >= least


def test_a_hundred_and_thirty_are_told_by_the_relay_itself(team: Team) -> None:
    mira, names = team.person(), team.crowd(130)
    made = pause(mira, group="all")
    assert (made["told"], made["pending"]) == (50, True)
    until(lambda: not counted(mira, made["id"])[2])
    assert reached(mira, made["id"]) == dict.fromkeys(names, 1)
    done = mira.resume_agents(made["id"])["pause"]
    until(lambda: len(parts(mira, made["id"], state="withdrawn")) == 130)
    assert done["told"] == 130


def test_portions_outlive_the_relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends after the first portions, and goes on with the next; nobody is told twice, nobody missed."""
    path = str(tmp_path / "relay")
    monkeypatch.setattr(pauses, "_PORTION", 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kinds, "due", lambda tx: kinds.Due(0, None))
        with running(path, settings=UNLIMITED) as relay:
            team = Team(relay, "main")
            mira, names = team.person(), team.crowd(130)
            made = pause(mira, group="all")
            relay.ask(kinds.settle)
            assert counted(mira, made["id"]) == (80, 0, True)
            key = mira.credential.held
            team.close()
        with running(path, settings=UNLIMITED) as relay, Client(relay.url, key, agent=mira.agent) as mira:
            assert counted(mira, made["id"]) == (80, 0, True)
            relay.ask(kinds.settle)
            assert counted(mira, made["id"]) == (110, 0, True)
    with running(path, settings=UNLIMITED) as relay, Client(relay.url, key, agent=mira.agent) as mira:
        until(lambda: counted(mira, made["id"]) == (130, 0, False))
        assert reached(mira, made["id"]) == dict.fromkeys(names, 1)
        mira.resume_agents(made["id"])
    with running(path, settings=UNLIMITED) as relay, Client(relay.url, key, agent=mira.agent) as mira:
        until(lambda: len(parts(mira, made["id"], state="withdrawn")) == 130)


# At once


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Answers, or errors of ours, of calls that start together."""
    together = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        together.wait(30)
        try:
            return call()
        except AgentChatError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_acknowledged_and_resumed_at_once(team: Team) -> None:
    """Whoever stopped is told to go on, and nobody else; it is resumed once."""
    mira, lead, agents = team.person(), team.admin(), [team.agent() for _ in range(6)]
    for client in agents:
        client.join_group("builders")
    for turn in range(8):
        made = pause(mira, f"turn {turn}", group="builders")
        ids = [client.list_interrupts()["interrupts"][0]["id"] for client in agents]
        position = mira.list_events()["position"]
        calls: list[Callable[[], Any]] = [
            *(partial(client.acknowledge_interrupt, id) for client, id in zip(agents, ids, strict=True)),
            partial(mira.resume_agents, made["id"], note="by mira"),
            partial(lead.resume_agents, made["id"], note="by lead"),
        ]
        *acknowledged, one, other = at_once(calls)
        assert sorted([one["idempotent"], other["idempotent"]]) == [False, True]
        assert one["pause"]["version"] == other["pause"]["version"] == 2
        assert one["pause"]["note"] == other["pause"]["note"]
        events = mira.list_events(since=position, kind="pause", limit=500)["events"]
        assert [event["kind"] for event in events] == ["pause.resumed"]
        for client, answer in zip(agents, acknowledged, strict=True):
            if isinstance(answer, AgentChatError):
                assert isinstance(answer, Conflict)
                assert (answer.current or {})["state"] == "withdrawn"
                assert (work(client), items(client)) == ([], [])
            else:
                assert work(client) == [("resume", one["pause"]["note"])]
                acknowledge(client)
