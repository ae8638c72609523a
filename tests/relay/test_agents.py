"""Cards, and finding agents by what their cards say and when they were here."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from agentchat import Client, errors
from agentchat_relay.embedded import Embedded
from agentchat_relay.service import administration
from tests.clients import conftest as colours
from tests.relay.conftest import MakeAgent, fresh, raw

WHOLE = {
    "role": "reviewer", "about": "Reads Python.\u00e9🙂", "status_line": "reading #42", "model": "model-x 4.5",
    "harness": "shell", "plan": "subscription", "capabilities": ["python", "code-review", "x1"],
}  # fmt: skip


def set_card(agent: Client, card: Any) -> tuple[int, Any]:
    return raw(agent, "POST", "/api/v2/agents/card", {"card": card})


def row_of(agent: Client, name: str | None) -> Any:
    """How the agent sees the one of this name."""
    (row,) = [row for row in agent.find_agents(name=name)["agents"] if row["name"] == name]
    return row


def names(agent: Client, **wanted: Any) -> list[str]:
    return [row["name"] for row in agent.find_agents(**wanted)["agents"]]


# Cards


def test_a_card_is_shown_to_others(either: colours.Driver, agent: MakeAgent):
    assert either("set_card", **WHOLE) == {"ok": True, "card": WHOLE}
    row = row_of(agent(), either.client.agent)
    assert isinstance(row.pop("last_seen_at"), str)
    assert row == {
        "name": either.client.agent, "active": True, "description": WHOLE["about"], "machine": None, "card": WHOLE,
        "presence": "online",
        # as other clients look for it
        "plan": "subscription", "effective_rate_per_mtok": None, "tokens_today": 0,
    }  # fmt: skip
    assert either("find_agents", name=either.client.agent)["has_more"] is False


def test_an_agent_without_a_card(either: colours.Driver, agent: MakeAgent):
    ann = agent()
    row = either("find_agents", name=ann.agent)["agents"][0]
    assert row == {
        "name": ann.agent, "active": True, "last_seen_at": None, "description": None, "machine": None, "card": None,
        "presence": "offline",
        "plan": None, "effective_rate_per_mtok": None, "tokens_today": 0,
    }  # fmt: skip


def test_a_card_replaces_the_one_before(either: colours.Driver, agent: MakeAgent):
    either("set_card", **WHOLE)
    assert either("set_card", role="writer")["card"] == {"role": "writer"}
    ann = agent()
    assert row_of(ann, either.client.agent)["card"] == {"role": "writer"}
    assert either.client.agent not in names(ann, capability="python")
    assert either.client.agent not in names(ann, role="reviewer")


def test_a_card_in_its_normal_form(agent: MakeAgent):
    ann = agent()
    sent = {
        "role": "  Reviewer ", "model": " m\t", "capabilities": ["Python", "python", "GO", "a-b"], "about": " x ",
        "status_line": None, "unknown": {"a": 1}, "name": "mac-other", "plan": None,
    }  # fmt: skip
    normal = {"role": "Reviewer", "model": "m", "about": "x", "capabilities": ["python", "go", "a-b"]}
    status, answer = set_card(ann, sent)
    assert (status, answer["data"]) == (200, {"ok": True, "card": normal})
    assert row_of(ann, ann.agent)["card"] == normal


EDGES = {"role": 100, "model": 100, "harness": 100, "about": 500, "status_line": 200}


@pytest.mark.parametrize(("member", "longest"), EDGES.items())
@pytest.mark.parametrize("letter", ["x", "é", "🙂"])
def test_how_long_a_text_of_a_card_may_be(
    either: colours.Driver, agent: MakeAgent, member: str, longest: int, letter: str
):
    assert either("set_card", **{member: letter * longest})["card"] == {member: letter * longest}
    ann = agent()
    assert set_card(ann, {member: letter * (longest + 1)})[0] == 400
    assert row_of(ann, ann.agent)["card"] is None


def test_how_many_tags_and_how_long(either: colours.Driver, agent: MakeAgent):
    most = [f"tag-{number}" for number in range(20)]
    assert either("set_card", capabilities=most)["card"] == {"capabilities": most}
    longest = ["t" * 50]
    assert either("set_card", capabilities=longest)["card"] == {"capabilities": longest}
    ann = agent()
    for tags in ([*most, "tag-20"], ["t" * 51], ["-a"], ["a_b"], ["a b"], [""], ["é"], [1], [None], "python", {"a": 1}):
        assert set_card(ann, {"capabilities": tags})[0] == 400, tags
    assert row_of(ann, ann.agent)["card"] is None


BAD_CARDS: list[Any] = [
    None, "text", 1, ["x"], True, {}, {"unknown": "x"}, {"role": None}, {"role": ""}, {"role": "  "}, {"role": 1},
    {"role": ["x"]}, {"model": "a\x00b"}, {"model": "a\x1bb"}, {"model": "a\nb"}, {"harness": "a\x7fb"},
    {"role": "a\tb"}, {"plan": "free"}, {"plan": 1}, {"plan": ""}, {"role": "ok", "plan": "free"},
    {"about": "\ud800"}, {"status_line": {"a": 1}},
]  # fmt: skip


@pytest.mark.parametrize("card", BAD_CARDS)
def test_a_bad_card_is_refused_and_the_old_one_stays(agent: MakeAgent, card: Any):
    ann = agent()
    ann.set_card(role="first")
    status, answer = set_card(ann, card)
    assert (status, answer["code"]) == (400, "bad_request")
    assert row_of(ann, ann.agent)["card"] == {"role": "first"}


@pytest.mark.parametrize("plan", ["api", "subscription", "local"])
def test_plans(either: colours.Driver, plan: str):
    assert either("set_card", plan=plan)["card"] == {"plan": plan}


def test_nobody_sets_the_card_of_another(agent: MakeAgent):
    ann, bob = agent(), agent()
    body = {"card": {"role": "x"}, "name": bob.agent, "agent": bob.agent, "from": bob.agent}
    assert raw(ann, "POST", "/api/v2/agents/card", body)[0] == 200
    assert row_of(ann, bob.agent)["card"] is None
    assert row_of(ann, ann.agent)["card"] == {"role": "x"}


def test_a_repeated_card_does_not_undo_a_newer_one(either: colours.Driver, agent: MakeAgent):
    keyed = either.with_options(idempotency_key=uuid4().hex)
    first = keyed("set_card", role="old")
    either("set_card", role="new")
    assert keyed("set_card", role="old") == first
    assert row_of(agent(), either.client.agent)["card"] == {"role": "new"}
    with pytest.raises(errors.Conflict) as caught:
        keyed("set_card", role="other")
    assert caught.value.code == "idempotency_mismatch"


# Finding agents


def test_the_last_seen_come_first_and_the_never_seen_last(either: colours.Driver, live: Embedded, agent: MakeAgent):
    part = fresh("order")
    ann, bob, cid = (agent(f"{part}-{name}") for name in ("ann", "bob", "cid"))
    live.token(f"{part}-aaa")
    live.token(f"{part}-zzz")
    for writer in (ann, bob, cid):
        writer.send_message("general", "here")
    never = [f"{part}-aaa", f"{part}-zzz"]
    found = [row["name"] for row in either("find_agents", name=part)["agents"]]
    assert found == [cid.agent, bob.agent, ann.agent, *never]
    ann.send_message("general", "again")  # every post counts
    rows = either("find_agents", name=part)["agents"]
    assert [row["name"] for row in rows] == [ann.agent, cid.agent, bob.agent, *never]
    times = [row["last_seen_at"] for row in rows]
    assert times[3:] == [None, None]
    assert times[:3] == sorted(times[:3], reverse=True)


def test_reading_is_presence_too(either: colours.Driver, agent: MakeAgent):
    reader = agent()
    reader.check_board()
    assert either("find_agents", name=reader.agent, active_within="15m")["agents"], "noted before the answer"
    assert either("find_agents", name=reader.agent)["agents"][0]["last_seen_at"] is not None


@pytest.mark.parametrize("period", ["15m", "1h", "6h", "1d", "7d"])
def test_active_within(either: colours.Driver, live: Embedded, agent: MakeAgent, period: str):
    part = fresh("active")
    ann = agent(f"{part}-ann")
    live.token(f"{part}-never")
    ann.send_message("general", "here")
    assert [row["name"] for row in either("find_agents", active_within=period, name=part)["agents"]] == [ann.agent]


def test_by_capability(either: colours.Driver, agent: MakeAgent):
    part = fresh("tags")
    ann, bob = agent(f"{part}-ann"), agent(f"{part}-bob")
    ann.set_card(capabilities=["python", "code-review"])
    bob.set_card(capabilities=["python3", "review"], role="python")

    def found(capability: str) -> list[str]:
        return sorted(row["name"] for row in either("find_agents", capability=capability, name=part)["agents"])

    assert found("python") == found("code-review") == [ann.agent]
    assert found("python3") == found("review") == [bob.agent]
    for part_of_one in ("pytho", "code", "ython", "python-3", "p", "java"):
        assert found(part_of_one) == []


def test_by_role(either: colours.Driver, agent: MakeAgent):
    part = fresh("role")
    ann, bob, cid = (agent(f"{part}-{name}") for name in ("ann", "bob", "cid"))
    ann.set_card(role="Reviewer 100%")
    bob.set_card(role="Reviewer 100x")
    cid.set_card(about="no role: reviewer 100%")

    def found(role: str) -> list[str]:
        return [row["name"] for row in either("find_agents", role=role, name=part)["agents"]]

    assert found("Reviewer 100%") == found("reviewer 100%") == found(" Reviewer 100% ") == [ann.agent]
    assert found("Reviewer 100x") == [bob.agent]
    for other in ("reviewer", "%", "reviewer 100_", "_", "reviewer%", "\\", "'", '"'):
        assert found(other) == []


def test_a_role_in_any_script_is_found_in_either_case(either: colours.Driver, agent: MakeAgent):
    part = fresh("role")
    ann = agent(f"{part}-ann")
    ann.set_card(role="Prüfer Ä")
    for role in ("Prüfer Ä", "prüfer ä", "PRÜFER Ä"):
        assert [row["name"] for row in either("find_agents", role=role, name=part)["agents"]] == [ann.agent]


def test_by_a_part_of_the_name(either: colours.Driver, agent: MakeAgent):
    ann = agent(fresh("nightly-build"))
    name = ann.agent
    for part in (name, name.upper(), name[3:], name[:-2], "ly-bu", f" {name} "):
        assert name in [row["name"] for row in either("find_agents", name=part)["agents"]]
    for part in ("%", "_", "nightly_build", "n%d", "ly bu", "\\", "'", "é"):
        assert either("find_agents", name=part)["agents"] == []


def test_conditions_are_joined_by_and(agent: MakeAgent):
    part = fresh("joined")
    ann, bob = agent(f"{part}-ann"), agent(f"{part}-bob")
    ann.set_card(role="tester", capabilities=["python"])
    bob.set_card(role="tester", capabilities=["go"])
    ann.send_message("general", "here")
    wanted = {"capability": "python", "role": "tester", "active_within": "1h", "name": part}
    assert names(bob, **wanted) == [ann.agent]
    for changed in ({"capability": "go", "role": "writer"}, {"name": "bob"}, {"role": "writer"}):
        assert names(bob, **{**wanted, **changed}) == []


def test_deactivated_agents_and_other_spaces_are_not_found(live: Embedded, agent: MakeAgent):
    space = fresh("space")
    live.space(space)
    ann, off, far = agent(), agent(fresh("hidden")), agent(fresh("hidden"), space=space)
    far.set_card(role="x", capabilities=["far-away"])
    live.ask(partial(administration.agent_deactivate, name=off.agent))
    assert names(ann, name="hidden") == []
    assert names(ann, capability="far-away") == []
    assert far.agent not in names(ann)
    assert names(far) == [far.agent]
    live.ask(partial(administration.agent_update, name=off.agent, active=True))
    assert names(ann, name="hidden") == [off.agent]


WRONG = [
    "active_within=1m", "active_within=2h", "active_within=15M", "active_within=junk", "capability=A_B",
    "capability=%25", f"capability={'t' * 51}", f"role={'x' * 101}", f"name={'x' * 101}", "role=%20",
    "sort=name", "sort=CHEAPEST", "max_cost_per_mtok=-1", "max_cost_per_mtok=x", "max_cost_per_mtok=nan",
    "max_cost_per_mtok=inf", "max_cost_per_mtok=1e13", "max_cost_per_mtok=1000000000001",
]  # fmt: skip


@pytest.mark.parametrize("query", WRONG)
def test_what_is_asked_wrongly_is_refused(agent: MakeAgent, query: str):
    status, answer = raw(agent(), "GET", f"/api/v2/agents?{query}")
    assert (status, answer["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    "query", ["sort=cheapest", "max_cost_per_mtok=0", "max_cost_per_mtok=1e12", "max_cost_per_mtok=0.5", "x=1", ""]
)
def test_what_other_clients_ask_is_answered(agent: MakeAgent, query: str):
    ann = agent()
    status, answer = raw(ann, "GET", f"/api/v2/agents?{query}")
    assert status == 200
    assert ann.agent in [row["name"] for row in answer["data"]["agents"]]


def test_a_long_list_says_that_there_is_more(live: Embedded, agent: MakeAgent):
    space = fresh("space")
    live.space(space)
    ann = agent(space=space)
    ann.send_message("general", "here")

    def crowd(tx: Any) -> None:
        for number in range(600):
            administration.agent_token(tx, name=f"crowd-{number}", space=space)

    live.ask(crowd)
    found = ann.find_agents()
    assert found["has_more"] is True
    assert len(found["agents"]) < 600
    assert found["agents"][0]["name"] == ann.agent
    assert names(ann, name="crowd-599") == ["crowd-599"]
