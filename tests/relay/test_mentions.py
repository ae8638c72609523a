"""Who is told of a message: mentions and their grammar, direct messages and who may see them."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from agentchat import Client, errors
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.service import administration
from tests.clients import conftest as colours
from tests.relay.conftest import MakeAgent, fresh, raw

DIRECT = "direct-messages"


def texts(agent: Client, channel: str = DIRECT, **more: Any) -> list[str]:
    return [row["content"] for row in agent.read_messages(channel, limit=200, **more)["messages"]]


def mentions(agent: Client) -> list[str]:
    """The texts that wait for an agent, oldest first."""
    return [row["content"] for row in agent.check_mentions(limit=100)["mentions"]][::-1]


# Mentions


def test_a_row_of_the_mentions(either: colours.Driver, agent: MakeAgent):
    ann = agent()
    channel = fresh("room")
    text = f"please look, @{either.client.agent}: " + "long " * 500 + "end"
    sent = ann.send_message(channel, text, metadata={"project": "atlas", "a": 1})
    assert sent["unmatched_mentions"] == []
    (row,) = either("check_mentions")["mentions"]
    mention_id = row.pop("mention_id")
    assert mention_id != sent["message"]["id"]
    assert row == {
        "message_id": sent["message"]["id"], "channel": channel, "from": ann.agent, "from_project": "atlas",
        "content": text, "timestamp": sent["message"]["created_at"], "read": False,
    }  # fmt: skip
    assert either("get_message", row["message_id"])["message"] == sent["message"]
    assert either("list_channels")["channels"] == []  # being mentioned joins nobody


@pytest.mark.parametrize("metadata", [None, {}, {"a": 1}, {"project": 1}, {"project": None}, {"project": ["x"]}])
def test_a_project_is_a_text(agent: MakeAgent, metadata: dict[str, Any] | None):
    ann, bob = agent(), agent()
    ann.send_message("general", f"@{bob.agent}", metadata=metadata)
    assert bob.check_mentions()["mentions"][0]["from_project"] is None


def test_the_client_names_its_project(live: Embedded, connect: colours.Connect, agent: MakeAgent):
    bob = agent()
    name = fresh()
    ann = connect(live.url, live.token(name), agent=name, project="Atlas 2")
    ann("send_message", "general", f"@{bob.agent}")
    ann("send_direct_message", bob.agent, "hi")
    assert [row["from_project"] for row in bob.check_mentions()["mentions"]] == ["Atlas 2", "Atlas 2"]


def test_mentions_are_newest_first_and_reading_them_marks_nothing(either: colours.Driver, agent: MakeAgent):
    ann, me = agent(), either.client.agent
    for number in range(120):
        ann.send_message(("general", "global")[number % 2], f"{number} @{me}")
    for _ in range(2):
        assert [row["content"] for row in either("check_mentions")["mentions"]] == [
            f"{number} @{me}" for number in range(119, 99, -1)
        ]
    rows = either("check_mentions", limit=100)["mentions"]
    assert [row["content"] for row in rows] == [f"{number} @{me}" for number in range(119, 19, -1)]
    assert either("mark_mentions_read", [row["mention_id"] for row in rows]) == {"marked_read": 100}
    assert [row["content"] for row in either("check_mentions", limit=100)["mentions"]] == [
        f"{number} @{me}" for number in range(19, -1, -1)
    ]
    every = either("check_mentions", unread=False, limit=100)["mentions"]
    assert every == [{**row, "read": True} for row in rows]


def test_limits_and_flags_are_read_leniently(agent: MakeAgent):
    ann, bob = agent(), agent()
    for number in range(101):
        bob.send_message("general", f"{number} @{ann.agent}")
    ann.mark_mentions_read([ann.check_mentions()["mentions"][0]["mention_id"]])

    def rows(query: str) -> list[Any]:
        status, answer = raw(ann, "GET", f"/api/v2/mentions?{query}")
        assert status == 200
        return list(answer["data"]["mentions"])

    expected = {"": 20, "limit=0": 20, "limit=x": 20, "limit=": 20, "limit=-5": 1, "limit=1": 1, "limit=100": 100,
                "limit=101": 100, "limit=99999": 100}  # fmt: skip
    assert {query: len(rows(query)) for query in expected} == expected
    for text in ("false", "False", "FALSE"):
        assert rows(f"unread={text}")[0]["content"] == f"100 @{ann.agent}"
    for text in ("true", "True", "", "junk", "no", "null"):
        assert rows(f"unread={text}")[0]["content"] == f"99 @{ann.agent}"


GRAMMAR = [
    ("@{}", True), ("hi @{}", True), ("hi @{} there", True), ("a\n@{}\nb", True), ("(@{}),", True), ("[@{}]", True),
    ("<@{}>", True), ("**@{}**", True), ("`@{}`", True), ('"@{}"', True), ("@{}.", True), ("@{}, please", True),
    ("@{}: please", True), ("@{}!", True), ("@{}?", True), ("@{}'s", True), ("@{}/x", True), ("cc:@{}", True),
    ("@{}-", True), ("@{}--", True), ("@{}- look", True), ("你好@{}", True), ("你好@{}你好", True), ("、@{}。", True),
    ("see @{}…", True), ("🙂@{}🙂", True), ("@@ @{}", True), ("@nobody-a @{}", True),
    ("foo@{}", False), ("foo@{}.example", False), ("foo.bar@{}", False), ("foo-bar@{}.example.org", False),
    ("1@{}", False), ("foo_@{}", False), ("<foo@{}>", False), ("@{}x", False), ("@{}-x", False), ("@{}1", False),
    ("@{}_x", False), ("@x{}", False), ("@x-{}", False), ("@ {}", False), ("{}", False), ("#{}", False),
]  # fmt: skip


@pytest.mark.parametrize(("text", "told"), GRAMMAR)
def test_the_grammar_of_mentions(agent: MakeAgent, text: str, told: bool):
    ann, bob = agent(), agent()
    name = bob.agent
    for form in (name, name.upper(), name.title()):
        sent = ann.send_message("general", text.format(form))
        assert name not in sent["unmatched_mentions"]
        assert mentions(bob) == ([text.format(form)] if told else [])
        bob.mark_mentions_read([row["mention_id"] for row in bob.check_mentions()["mentions"]] or [str(uuid4())])


def test_one_row_per_message_and_agent(either: colours.Driver, agent: MakeAgent):
    ann, bob, me = agent(), agent(), either.client.agent
    text = f"@{me} @{bob.agent} @{me.upper()} and @{me}, @{bob.agent}"
    ann.send_message("general", text)
    assert [row["content"] for row in either("check_mentions")["mentions"]] == [text]
    assert mentions(bob) == [text]


def test_nobody_mentions_itself(either: colours.Driver):
    sent = either("send_message", "general", f"I am @{either.client.agent}")
    assert sent["unmatched_mentions"] == []
    assert either("check_mentions", unread=False)["mentions"] == []


def test_a_status_post_mentions_nobody(either: colours.Driver, agent: MakeAgent):
    bob = agent()
    sent = either("send_message", "general", f"waiting for @{bob.agent} and @nobody-x", kind="status")
    assert sent["unmatched_mentions"] == []
    assert bob.check_mentions(unread=False)["mentions"] == []


def test_unmatched_mentions_are_told(either: colours.Driver, live: Embedded, agent: MakeAgent):
    bob, off = agent(), agent()
    live.ask(partial(administration.agent_deactivate, name=off.agent))
    text = f"@{bob.agent} @Nobody-Z @nobody-a foo@nobody-b.example @nobody-z- (@{off.agent}) @{bob.agent}x"
    sent = either("send_message", "general", text)
    assert sent["unmatched_mentions"] == ["nobody-z", "nobody-a", off.agent, f"{bob.agent}x"]
    assert mentions(bob) == [text]
    assert either("send_message", "general", "nobody is named")["unmatched_mentions"] == []


def test_a_deactivated_agent_is_not_told_and_an_agent_made_later_neither(live: Embedded, agent: MakeAgent):
    ann, bob = agent(), agent()
    late = fresh()
    live.ask(partial(administration.agent_deactivate, name=bob.agent))
    ann.send_message("general", f"@{bob.agent} @{late}")
    live.ask(partial(administration.agent_update, name=bob.agent, active=True))
    assert mentions(bob) == []
    assert mentions(agent(late)) == []
    ann.send_message("general", f"again @{bob.agent}")
    assert mentions(bob) == [f"again @{bob.agent}"]


def test_mentions_stay_in_their_space(live: Embedded, agent: MakeAgent):
    space = fresh("space")
    live.space(space)
    ann, bob = agent(), agent()
    far = agent(space=space)
    twin = agent(bob.agent, space=space)
    assert far.send_message("general", f"@{twin.agent} @{ann.agent}")["unmatched_mentions"] == [ann.agent]
    assert (mentions(bob), mentions(ann)) == ([], [])
    assert mentions(twin) == [f"@{twin.agent} @{ann.agent}"]
    far.send_direct_message(twin.agent, "hi")
    assert (mentions(bob), texts(bob)) == ([], [])
    with pytest.raises(errors.NotFound) as caught:
        far.send_direct_message(ann.agent, "hi")
    assert ann.agent not in caught.value.near


def test_a_text_full_of_names_stays_cheap_and_counts_each_once(agent: MakeAgent):
    ann, bob = agent(), agent()
    crowd = " ".join(f"@nobody-{number}" for number in range(2000))
    first = ann.send_message("general", f"@{bob.agent} {crowd}")
    assert mentions(bob) == [f"@{bob.agent} {crowd}"]
    assert len(first["unmatched_mentions"]) == len(set(first["unmatched_mentions"]))
    assert ann.send_message("general", "@" * 32_000)["unmatched_mentions"] == []


# Marking mentions read


def test_marking_is_for_the_own_mentions_only(either: colours.Driver, agent: MakeAgent):
    ann, bob, me = agent(), agent(), either.client.agent
    ann.send_message("general", f"@{me} @{bob.agent}")
    (mine,), (theirs,) = either("check_mentions")["mentions"], bob.check_mentions()["mentions"]
    assert mine["mention_id"] != theirs["mention_id"]
    assert mine["message_id"] == theirs["message_id"]
    foreign = [theirs["mention_id"], str(uuid4()), mine["message_id"]]
    assert either("mark_mentions_read", foreign) == {"marked_read": 3}  # told as sent, done to nothing
    assert len(bob.check_mentions()["mentions"]) == 1
    assert len(either("check_mentions")["mentions"]) == 1
    for _ in range(2):
        assert either("mark_mentions_read", [mine["mention_id"], mine["mention_id"]]) == {"marked_read": 2}
        assert either("check_mentions")["mentions"] == []
    assert either("check_mentions", unread=False)["mentions"] == [{**mine, "read": True}]
    assert len(bob.check_mentions()["mentions"]) == 1


GOOD = "0198c0de-0000-7000-8000-00000000000a"
JUNK_IDS: list[Any] = [
    None, [], [""], ["x"], [GOOD.upper()], [GOOD, "x"], [1], [None], [[GOOD]], GOOD, {"a": GOOD}, 1, [GOOD + "0"],
    [f" {GOOD}"], [GOOD] * 101,
]  # fmt: skip


@pytest.mark.parametrize("ids", JUNK_IDS)
def test_ids_to_mark_are_1_to_100_lowercase_uuids(agent: MakeAgent, ids: Any):
    status, answer = raw(agent(), "POST", "/api/v2/mentions", {"mention_ids": ids})
    assert (status, answer["code"]) == (400, "bad_request")


def test_a_hundred_ids_are_taken(agent: MakeAgent):
    assert agent().mark_mentions_read([GOOD] * 100) == {"marked_read": 100}


# Direct messages


def test_a_direct_message_is_a_row_with_its_target(either: colours.Driver, agent: MakeAgent):
    bob = agent()
    sent = either("send_direct_message", bob.agent, "  hello\n", metadata={"project": "atlas"})
    row = sent["message"]
    assert row["content"] == f"@{bob.agent} hello"
    assert (row["channel_name"], row["author_name"], row["kind"]) == (DIRECT, either.client.agent, "chat")
    assert (row["metadata"], row["parent_message_id"], row["pinned"]) == ({"project": "atlas"}, None, False)
    assert sent["unmatched_mentions"] == []
    (mention,) = bob.check_mentions()["mentions"]
    mention_id = mention.pop("mention_id")
    assert mention == {
        "message_id": row["id"], "channel": DIRECT, "from": either.client.agent, "from_project": "atlas",
        "content": row["content"], "timestamp": row["created_at"], "read": False,
    }  # fmt: skip
    bob.mark_mentions_read([mention_id])
    assert bob.check_mentions()["mentions"] == []
    page = bob.read_messages(DIRECT)
    assert page["messages"] == [row]
    assert page["channelId"] == row["channel_id"]
    assert either("read_messages", DIRECT)["messages"] == [row]


@pytest.mark.parametrize("letter", ["x", "🙂"])
def test_the_longest_direct_message(either: colours.Driver, agent: MakeAgent, letter: str):
    bob = agent()
    sent = either("send_direct_message", bob.agent, letter * 32_000)["message"]
    assert bob.get_message(sent["id"])["message"]["content"] == f"@{bob.agent} {letter * 32_000}"
    assert raw(agent(), "POST", "/api/v2/dm", {"target_agent": bob.agent, "content": letter * 32_001})[0] == 400
    assert len(mentions(bob)) == 1


BAD_DIRECT: list[dict[str, Any]] = [
    {"target_agent": name, "content": "x"}
    for name in (None, "", "a", "A1", "n" * 101, "a b", "@mac-bob", 1, ["mac-bob"], "mac-bob@main")
] + [{"target_agent": "{bob}", "content": text} for text in (None, "", " \n\t", "\u00a0", "\u3000\u2003", 1, ["x"], {})]


@pytest.mark.parametrize("body", BAD_DIRECT)
def test_a_direct_message_needs_a_name_and_text(agent: MakeAgent, body: dict[str, Any]):
    bob = agent()
    body = {name: bob.agent if value == "{bob}" else value for name, value in body.items()}
    status, answer = raw(agent(), "POST", "/api/v2/dm", body)
    assert (status, answer.get("code")) == (400, "bad_request")
    assert mentions(bob) == []


def test_metadata_of_a_direct_message_has_4096_characters(either: colours.Driver, agent: MakeAgent):
    bob = agent()
    most = {"k": "x" * (4096 - 8)}
    assert either("send_direct_message", bob.agent, "x", metadata=most)["message"]["metadata"] == most
    body = {"target_agent": bob.agent, "content": "x", "metadata": {"k": "x" * (4096 - 7)}}
    assert raw(agent(), "POST", "/api/v2/dm", body)[0] == 400


def test_unknown_and_deactivated_targets_fail_loudly(either: colours.Driver, live: Embedded, agent: MakeAgent):
    known = agent(fresh("workstation-frontend"))
    wrong = known.agent.replace("station", "staiton")
    sent = either("send_direct_message", known.agent, "before")["message"]
    error = either.fails(errors.NotFound, "send_direct_message", wrong, "x")
    assert (error.status, error.code, error.near) == (404, "not_found", [known.agent])
    assert either.fails(errors.NotFound, "send_direct_message", "zzzzzzzzzzz", "x").near == []
    live.ask(partial(administration.agent_deactivate, name=known.agent))
    error = either.fails(errors.Conflict, "send_direct_message", known.agent, "x")
    assert (error.status, error.code) == (409, "conflict")
    assert either("read_messages", DIRECT)["messages"] == [sent]  # what was refused was not stored


def test_a_message_to_oneself_is_kept_and_tells_nobody(either: colours.Driver):
    me = either.client.agent
    sent = either("send_direct_message", me, "a note")["message"]
    assert either("check_mentions", unread=False)["mentions"] == []
    assert either("read_messages", DIRECT)["messages"] == [sent]  # once, though written and received
    (row,) = [row for row in either("check_board")["channels"] if row["channel"] == DIRECT]
    assert row["unread"] == 0


def test_other_names_in_a_direct_message_notify_nobody(either: colours.Driver, agent: MakeAgent):
    bob, cid = agent(), agent()
    sent = either("send_direct_message", bob.agent, f"do not tell @{cid.agent} or @nobody-x or @{bob.agent}")
    assert sent["unmatched_mentions"] == []
    assert len(mentions(bob)) == 1
    assert mentions(cid) == []
    with pytest.raises(errors.NotFound):
        cid.get_message(sent["message"]["id"])


def test_an_agent_that_was_never_here_finds_its_mail(live: Embedded, agent: MakeAgent):
    name = fresh()
    live.token(name)  # exists, offline
    ann = agent()
    for number in range(3):
        ann.send_direct_message(name, f"{number}")
    bob = agent(name)
    assert mentions(bob) == texts(bob) == [f"@{name} {number}" for number in range(3)]


def test_without_any_direct_message_the_page_is_empty(tmp_path: Path):
    """Also in a space where nobody ever sent one: the channel is always there."""
    with running(str(tmp_path)) as relay, Client(relay.url, relay.token("mac-ann"), retries=0) as ann:
        page = ann.read_messages(DIRECT)
        assert (page["messages"], page["has_more"]) == ([], False)
        ann.send_direct_message("mac-ann", "a note")
        assert texts(ann) == texts(ann, cursor=page["next_cursor"]) == ["@mac-ann a note"]


# Privacy


def _views(message_id: str, word: str) -> dict[str, Callable[[Client], Any]]:
    """Every way an agent could come across a message."""
    return {
        "page": lambda agent: agent.read_messages(DIRECT, limit=200),
        "page with status": lambda agent: agent.read_messages(DIRECT, limit=200, include_status=True),
        "older page": lambda agent: agent.read_messages(DIRECT, before="9999-01-01T00:00:00Z"),
        "newer page": lambda agent: agent.read_messages(
            DIRECT, cursor=agent.read_messages(DIRECT, before="2001-01-01T00:00:00Z")["next_cursor"]
        ),
        "get": lambda agent: agent.get_message(message_id),
        "thread": lambda agent: agent.read_thread(message_id),
        "search": lambda agent: agent.search_messages(word)["results"],
        "search there": lambda agent: agent.search_messages(word, channel=DIRECT)["results"],
        "board": lambda agent: agent.check_board(),
        "mentions": lambda agent: agent.check_mentions(unread=False),
        "pins": lambda agent: agent.list_pinned_messages(DIRECT),
        "pin": lambda agent: agent.pin_message(message_id),
        "parent": lambda agent: agent.send_message("general", "x", parent_message_id=message_id),
    }


def _sees(view: Callable[[Client], Any], agent: Client, word: str) -> bool:
    try:
        return word in json.dumps(view(agent))
    except (errors.NotFound, errors.BadRequest) as error:
        assert word not in str(error)
        return False


def test_a_direct_message_is_seen_by_its_two_parties_only(agent: MakeAgent):
    ann, bob, cid = agent(), agent(), agent()
    word = uuid4().hex
    private = ann.send_direct_message(bob.agent, f"the word is {word}, not for @{cid.agent}")["message"]
    views = _views(private["id"], word)
    assert [name for name, view in views.items() if _sees(view, cid, word)] == []
    both = {"page", "page with status", "older page", "newer page", "get", "thread", "search", "search there", "board"}
    assert {name for name, view in views.items() if _sees(view, ann, word)} == both
    assert {name for name, view in views.items() if _sees(view, bob, word)} == both | {"mentions"}
    assert texts(cid) == []
    missing = [raw(cid, "GET", f"/api/v2/messages/{id}") for id in (private["id"], str(uuid4()))]
    assert [status for status, _ in missing] == [404, 404]
    assert missing[0][1].keys() == missing[1][1].keys()


def test_pages_of_direct_messages_are_full_however_many_foreign_ones_lie_between(
    live: Embedded, either: colours.Driver, agent: MakeAgent
):
    ann, me = agent(), either.client.agent
    others = [agent() for _ in range(8)]

    def chatter(place: int) -> None:
        writer, reader = others[place], others[place - 1].agent
        for number in range(375):
            writer.send_direct_message(reader, f"{number}")

    mine = [ann.send_direct_message(me, f"{number}")["message"] for number in range(8)]
    mine += [either("send_direct_message", ann.agent, f"{number}")["message"] for number in range(8, 15)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(chatter, range(8)))
    mine += [ann.send_direct_message(me, f"{number}")["message"] for number in range(15, 25)]
    newest = either("read_messages", DIRECT)
    assert (newest["messages"], newest["has_more"]) == (mine[5:], True)
    older = either("read_messages", DIRECT, cursor=newest["previous_cursor"])
    assert (older["messages"], older["has_more"]) == (mine[:5], False)
    page = either("read_messages", DIRECT, limit=4)
    seen = page["messages"]
    while page["has_more"]:
        page = either("read_messages", DIRECT, limit=4, cursor=page["previous_cursor"])
        seen = page["messages"] + seen
    assert seen == mine
    assert either("read_messages", DIRECT, limit=3, before=mine[7]["created_at"])["messages"] == mine[4:7]
    page = either("read_messages", DIRECT, before="2001-01-01T00:00:00Z")
    ahead: list[Any] = []
    while len(ahead) < 25:
        page = either("read_messages", DIRECT, limit=10, cursor=page["next_cursor"])
        assert len(page["messages"]) == min(10, 25 - len(ahead))
        ahead += page["messages"]
    assert ahead == mine
    assert len(texts(others[0])) == 200
