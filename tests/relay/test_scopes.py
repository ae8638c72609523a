"""Scopes: an item is given to a session that stands where it is meant for, or further in, and to no other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentchat import Client
from agentchat_relay.embedded import Embedded
from agentchat_relay.service import scopes
from agentchat_relay.store.seam import Lane
from agentchat_relay.store.statements import statements
from tests.relay.conftest import Clock, MakeAgent, raw

REPO = "repo:github.com/org/proj"


def texts(found: Any) -> list[str]:
    return [item["content"].partition(" ")[2] for item in found["items"]]


def at(client: Client, *presented: str, session: str | None = None) -> Client:
    return client.with_options(scopes=presented, session=session or "-".join(presented) or "nowhere")


@pytest.mark.parametrize(
    ("presented", "is_given"),
    [
        ([REPO], True),
        ([f"{REPO}/packages/one"], True),
        (["thread:7", REPO], True),
        ([], False),
        (["repo:github.com/org"], False),
        (["repo:github.com/org/proj-two"], False),
        (["repo:github.com/org/pro"], False),
        (["repo:GitHub.com/org/proj"], False),
        (["issue:github.com/org/proj"], False),
        (["repo:github.com"], False),
    ],
)
def test_who_is_given_what_is_meant_for_a_place(agent: MakeAgent, presented: Sequence[str], is_given: bool) -> None:
    ann, bob = agent(), agent()
    ann.send_direct_message(bob.agent or "", "here", scope=REPO)
    session = at(bob, *presented)
    assert texts(session.check_inbox()) == (["here"] if is_given else [])
    assert texts(session.claim_items()) == []
    assert texts(at(bob, REPO, session="other").check_inbox()) == ([] if is_given else ["here"])


def test_it_waits_for_a_session_that_does_not_exist_yet(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    ann.send_direct_message(bob.agent or "", "first, for anybody")
    ann.send_direct_message(bob.agent or "", "there", scope=REPO)
    ann.send_direct_message(bob.agent or "", "last, for anybody")
    page = at(bob).peek_inbox()
    assert (texts(page), page["scopes"]) == (["first, for anybody", "last, for anybody"], [REPO])
    assert at(bob).check_mentions()["mentions"][0]["content"].endswith("last, for anybody")
    assert at(bob).get_briefing()["inbox"]["direct"] == 2
    assert at(bob, REPO).get_briefing()["inbox"]["direct"] == 3
    assert texts(at(bob).claim_items(acknowledge=True)) == ["first, for anybody", "last, for anybody"]
    found = at(bob, REPO).claim_items()
    assert [(item["content"].partition(" ")[2], item["scope"]) for item in found["items"]] == [("there", REPO)]
    assert at(bob, REPO).peek_inbox()["scopes"] == []


def test_a_scope_in_which_everything_expired_is_not_listed(agent: MakeAgent, clock: Clock) -> None:
    ann, bob = agent(), agent()
    ann.send_direct_message(bob.agent or "", "soon over", scope="repo:a", expires_in=60)
    ann.send_direct_message(bob.agent or "", "soon over", scope=REPO, expires_in=60, urgent=True)
    ann.send_direct_message(bob.agent or "", "stays", scope=REPO, expires_in=600)
    assert bob.peek_inbox()["scopes"] == ["repo:a", REPO]
    clock.ahead = 61
    assert at(bob).peek_inbox()["scopes"] == [REPO]
    assert texts(at(bob, REPO).peek_inbox()) == ["stays"]
    clock.ahead = 601
    assert at(bob).peek_inbox()["scopes"] == []


def test_what_has_a_place_is_in_one_order_with_the_rest(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    for number, scope in enumerate([None, REPO, "thread:1", None, "repo:github.com/org", "thread:2"]):
        ann.send_direct_message(bob.agent or "", str(number), scope=scope, urgent=number in (3, 4, 5))
    session = at(bob, f"{REPO}/deep", "thread:1")
    assert texts(session.peek_inbox()) == ["3", "4", "0", "1", "2"]
    pages = [session.peek_inbox(limit=2)]
    while cursor := pages[-1]["next_cursor"]:
        pages.append(session.peek_inbox(limit=2, cursor=cursor))
    assert [texts(page) for page in pages] == [["3", "4"], ["0", "1"], ["2"]]
    first = session.claim_items(limit=2)
    assert (texts(first), first["has_more"]) == (["3", "4"], True)
    second = session.claim_items(limit=3)
    assert (texts(second), second["has_more"]) == (["0", "1", "2"], False)


def test_a_mention_may_have_a_place(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    ann.send_message("general", f"look, @{bob.agent}", scope=REPO)
    assert at(bob).check_inbox()["items"] == []
    assert [item["scope"] for item in at(bob, REPO).check_inbox()["items"]] == [REPO]


def test_a_wait_is_for_what_this_session_is_given(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    since = bob.get_briefing()["position"]
    ann.send_direct_message(bob.agent or "", "elsewhere", scope=REPO)
    assert at(bob).wait_for_message(wait=0, since=since)["message"] is None
    found = at(bob, REPO).wait_for_message(wait=0, since=since)["message"]
    assert found is not None and found["content"].endswith("elsewhere")
    ann.send_direct_message(bob.agent or "", "for anybody")
    found = at(bob).wait_for_message(wait=0, since=since)["message"]
    assert found is not None and found["content"].endswith("for anybody")


def test_receipts_tell_the_place(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    sent = ann.send_direct_message(bob.agent or "", "here", scope=REPO)["message"]
    (receipt,) = ann.get_receipts(sent["id"])["receipts"]
    assert (receipt["state"], receipt["scope"]) == ("stored", REPO)


def test_a_dead_letter_keeps_its_place(agent: MakeAgent) -> None:
    ann, bob = agent(), agent()
    ann.send_direct_message(bob.agent or "", "poison", scope=REPO)
    there = at(bob, REPO)
    for _ in range(5):
        there.return_items(there.claim_items()["claim_id"] or "")
    (letter,) = bob.list_dead_letters()["items"]
    bob.requeue_items([letter["item_id"]])
    assert at(bob).claim_items()["items"] == []
    assert texts(there.claim_items()) == ["poison"]


@pytest.mark.parametrize(
    "scope",
    ["repo", "repo:", ":x", "Repo:x", "repo:/x", "repo:x/", "repo:x//y", "repo:x y", "repo:x,y", 'repo:"', "repo:ä"],
)
def test_what_is_no_scope_is_refused(agent: MakeAgent, scope: str) -> None:
    ann = agent()
    body = {"target_agent": ann.agent, "content": "x", "scope": scope}
    assert raw(ann, "POST", "/api/v2/dm", body)[0] == 400
    if "," not in scope:
        header = scope.encode("utf-8").decode("latin-1")
        assert raw(ann, "GET", "/api/v2/inbox", **{"x-agent-scopes": header})[0] == 400


def test_too_many_scopes_are_refused(agent: MakeAgent) -> None:
    ann = agent()
    for header in (",".join(f"t:{number}" for number in range(9)), "t:" + "/".join("x" * 41), "t:" + "x" * 300):
        status, answer = raw(ann, "GET", "/api/v2/inbox", **{"x-agent-scopes": header})
        assert (status, answer["code"]) == (400, "bad_request")
    assert raw(ann, "GET", "/api/v2/inbox", **{"x-agent-scopes": " , t:1 ,"})[0] == 200


PART = st.text(alphabet="ab.-_%", min_size=1, max_size=3)
SCOPE = st.builds(
    lambda kind, steps: f"{kind}:{'/'.join(steps)}", st.sampled_from("tr"), st.lists(PART, min_size=1, max_size=4)
)


@given(st.lists(SCOPE, max_size=4), SCOPE)
def test_a_scope_matches_itself_and_what_is_below(presented: list[str], scope: str) -> None:
    """Told in another way than the code does it: by whole steps from the left."""
    wanted = scope.split("/")
    is_given = any(one.split("/")[: len(wanted)] == wanted for one in presented)
    assert (scope in scopes.read(",".join(presented))) == is_given


@pytest.mark.sqlite  # whose plans are read here
def test_foreign_places_are_never_looked_through(live: Embedded) -> None:
    """Whatever waits elsewhere, a claim asks an index for its own lanes."""
    assert live.relay is not None
    found = statements("sqlite")["claim_items"]

    def plan(tx: Any) -> str:
        values = dict.fromkeys(found.names)
        return "\n".join(str(row[3]) for row in tx._execute(f"EXPLAIN QUERY PLAN {found.sql}", found.bind(values)))

    told = live.relay.store.ask(Lane.WRITE, plan)
    assert "SEARCH x USING INDEX inbox_lanes (agent_id=? AND urgent=? AND scope=?)" in told
    assert "SCAN i" not in told and "SCAN x" not in told
