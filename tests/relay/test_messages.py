"""Posting: what is accepted and refused, what is stored and answered, channels made by posts, one effect per key."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentchat import Client, errors
from agentchat._exchange import Request
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.service import administration
from agentchat_relay.settings import Settings
from tests.clients import conftest as colours
from tests.relay.conftest import UNLIMITED, MakeAgent, fresh, raw

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00")
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
LONGEST = 32_000


@pytest.fixture(scope="module")
def anywhere(live: Embedded) -> Iterator[Client]:
    """An agent for tests that run many examples."""
    with Client(live.url, live.token("mac-anywhere"), agent="mac-anywhere", retries=0) as client:
        yield client


def post(agent: Client, **body: Any) -> tuple[int, Any]:
    return raw(agent, "POST", "/api/v2/messages", body)


def contents(agent: Client, channel: str) -> list[str]:
    return [row["content"] for row in agent.read_messages(channel, limit=200)["messages"]]


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Results, or errors of ours, of calls that start together."""
    together = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        together.wait(30)
        try:
            return call()
        except errors.AgentChatError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


# What is answered


def test_the_answer_is_the_stored_row(either: colours.Driver):
    channel = fresh("project-room")
    sent = either("send_message", channel, "first", metadata={"a": [1, None, {"b": "é"}]})
    row = sent["message"]
    assert UUID7.fullmatch(row["id"])
    assert UUID7.fullmatch(row["channel_id"])
    assert UUID7.fullmatch(row["author_agent_id"])
    assert TIME.fullmatch(row["created_at"])
    expected = {
        "content": "first",
        "metadata": {"a": [1, None, {"b": "é"}]},
        "parent_message_id": None,
        "pinned": False,
        "updated_at": None,
        "author_display": None,
        "author_name": either.client.agent,
        "agents": {"id": row["author_agent_id"], "name": either.client.agent},
        "channel_name": channel,
        "kind": "chat",
    }
    assert {name: row[name] for name in expected} == expected
    assert "content_tsv" not in row
    assert sent["unmatched_mentions"] == []
    page = either("read_messages", channel)
    assert page["messages"] == [row]
    assert page["channelId"] == row["channel_id"]


def test_an_answer_is_enveloped_and_a_refusal_is_not(agent: MakeAgent):
    ann = agent()
    status, answer = post(ann, channel="general", content="hello")
    assert status == 200
    assert answer.keys() == {"_airchat", "_notice", "data"}
    assert answer["_airchat"] == "response"
    assert isinstance(answer["_notice"], str)
    status, answer = post(ann, channel="general")
    assert status == 400
    assert isinstance(answer["error"], str)
    assert answer["code"] == "bad_request"
    assert "_airchat" not in answer


def test_text_is_trimmed_and_otherwise_kept(either: colours.Driver):
    channel = fresh("room")
    text = "a\n\n  b\t\u0001\u200b🙂 'quotes' \"x\" \\ <b> &amp; $(id) {0} %s"
    assert either("send_message", channel, f" \r\n\t{text}\n ")["message"]["content"] == text
    assert either("read_messages", channel)["messages"][0]["content"] == text


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_text_comes_back_as_it_was(anywhere: Client, text: str):
    sent = anywhere.send_message("texts", f"x{text}x")["message"]
    assert sent["content"] == f"x{text}x"
    assert anywhere.get_message(sent["id"])["message"] == sent


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(metadata=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), _JSON, max_size=5))
def test_any_metadata_comes_back_as_it_was(anywhere: Client, metadata: dict[str, Any]):
    sent = anywhere.send_message("metadata", "x", metadata=metadata)["message"]
    assert sent["metadata"] == metadata
    assert anywhere.get_message(sent["id"])["message"]["metadata"] == metadata


# Limits


@pytest.mark.parametrize("letter", ["x", "é", "🙂", "\u0001"])
def test_the_longest_text(either: colours.Driver, letter: str):
    sent = either("send_message", fresh("room"), letter * LONGEST)["message"]
    found = either("get_message", sent["id"])
    assert found["message"]["content"] == letter * LONGEST
    assert found["total_chars"] == LONGEST


def test_length_counts_before_trimming(agent: MakeAgent):
    ann = agent()
    channel = fresh("room")
    assert post(ann, channel=channel, content=" " + "x" * (LONGEST - 2) + " ")[0] == 200
    assert post(ann, channel=channel, content="x" * LONGEST + " ")[0] == 400
    assert post(ann, channel=channel, content="x" * (LONGEST + 1))[0] == 400
    assert post(ann, channel=channel, content="🙂" * (LONGEST + 1))[0] == 400
    assert contents(ann, channel) == ["x" * (LONGEST - 2)]


@pytest.mark.parametrize(("prefix", "longest"), [("gossip-", 500), ("shared-", 2000)])
def test_federated_channels_carry_less(agent: MakeAgent, prefix: str, longest: int):
    ann = agent()
    channel = f"{prefix}{fresh()}"
    assert post(ann, channel=channel, content="x" * longest)[0] == 200
    assert post(ann, channel=channel, content="x" * (longest + 1))[0] == 400
    assert post(ann, channel=channel, content="x", metadata={"k": "x" * (1024 - 8)})[0] == 200
    assert post(ann, channel=channel, content="x", metadata={"k": "x" * (1024 - 7)})[0] == 400
    assert len(contents(ann, channel)) == 2


@pytest.mark.parametrize("letter", ["x", "é", "🙂"])
def test_metadata_has_4096_characters_of_json(either: colours.Driver, agent: MakeAgent, letter: str):
    most = {"k": letter * (4096 - len('{"k":""}'))}
    channel = fresh("room")
    assert either("send_message", channel, "x", metadata=most)["message"]["metadata"] == most
    status, answer = post(agent(), channel=channel, content="x", metadata={"k": most["k"] + letter})
    assert (status, answer["code"]) == (400, "bad_request")


@pytest.mark.parametrize("depth", [10, 500, 900, 2000])
def test_deep_metadata_is_stored_or_refused_and_never_breaks_a_reader(agent: MakeAgent, depth: int):
    ann, bob = agent(), agent()
    channel = fresh("room")
    body = f'{{"channel":"{channel}","content":"hi @{bob.agent}","metadata":{{"d":{"[" * depth}{"]" * depth}}}}}'
    ann.send_message(channel, "before")
    status, _ = raw(ann, "POST", "/api/v2/messages", body.encode())
    assert status in ((200,) if depth <= 10 else (200, 400))
    for path in (f"/api/v2/messages?channel={channel}", "/api/v2/mentions", f"/api/v2/search?q={channel}"):
        answer = bob._transport.send(Request("GET", path, {"x-agent-api-key": bob.credential.held or ""}, None, 30.0))
        assert answer.status == 200


@pytest.mark.parametrize(
    "metadata", ['{"n": 1e999}', '{"n": NaN}', '{"n": 123456789012345678901234567890}', '{"a": 1, "a": 2}', "{}"]
)
def test_odd_numbers_in_metadata_are_stored_or_refused(agent: MakeAgent, metadata: str):
    ann = agent()
    channel = fresh("room")
    body = f'{{"channel":"{channel}","content":"x","metadata":{metadata}}}'.encode()
    status, answer = raw(ann, "POST", "/api/v2/messages", body)
    assert status in (200, 400)
    if status == 200:
        assert ann.read_messages(channel)["messages"] == [answer["data"]["message"]]


BLANK = ["", " ", "\n\t\r ", "\u00a0", "\u3000", "\u2003\u2028"]
NO_TEXT = [None, 1, 1.5, True, ["x"], {"x": 1}]


@pytest.mark.parametrize("content", [*BLANK, *NO_TEXT])
def test_a_message_needs_text(agent: MakeAgent, content: Any):
    ann = agent()
    channel = fresh("room")
    status, answer = post(ann, channel=channel, content=content)
    assert (status, answer["code"]) == (400, "bad_request")
    with pytest.raises(errors.NotFound):  # a refused post makes no channel
        ann.read_messages(channel)


GOOD_NAMES = ["a1", "1a", "00", "a-", "z--9-", "n" * 100]
BAD_NAMES = [
    "", "a", "A1", "-a", "a_b", "a.b", "a b", "#general", "general\n", " general", "n" * 101, "é1", "a\u0661", "a/b",
    "..", "a%2fb", None, 1, ["general"], {"a": 1}, True,
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_channel_names_that_are_good(either: colours.Driver, name: str):
    assert either("send_message", name, "x")["message"]["channel_name"] == name
    assert either("read_messages", name)["messages"][-1]["content"] == "x"


@pytest.mark.parametrize("name", BAD_NAMES)
def test_channel_names_that_are_refused(agent: MakeAgent, name: Any):
    status, answer = post(agent(), channel=name, content="x")
    assert (status, answer["code"]) == (400, "bad_request")


@pytest.mark.parametrize("metadata", ["text", 1, True, ["x"]])
def test_metadata_is_an_object(agent: MakeAgent, metadata: Any):
    assert post(agent(), channel="general", content="x", metadata=metadata)[0] == 400


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b"null", b"{", b"\xff\xfe", b'{"channel": "general"}', b"1" * 99])
def test_a_body_is_an_object_with_both_members(agent: MakeAgent, body: bytes):
    status, answer = raw(agent(), "POST", "/api/v2/messages", body)
    assert (status, answer["code"]) == (400, "bad_request")


@pytest.mark.parametrize("member", ["content", "channel"])
def test_half_a_surrogate_pair_is_refused(agent: MakeAgent, member: str):
    body = json.dumps({"channel": "general", "content": "x", member: "ab\ud800"}).encode()
    assert raw(agent(), "POST", "/api/v2/messages", body)[0] == 400


def test_nulls_are_absent_and_unknown_members_are_ignored(agent: MakeAgent):
    ann, bob = agent(), agent()
    theirs = bob.send_message("general", "x")["message"]
    forged = {
        "id": str(uuid4()), "author_agent_id": theirs["author_agent_id"], "from": bob.agent, "agents": theirs["agents"],
        "author_name": bob.agent, "created_at": "2001-01-01T00:00:00Z", "pinned": True, "channel_id": str(uuid4()),
        "space": "other", "recipient_id": 1, "updated_at": "x", "author": bob.agent,
    }  # fmt: skip
    status, answer = post(ann, channel="general", content="x", parent_message_id=None, metadata=None, **forged)
    row = answer["data"]["message"]
    assert status == 200
    assert (row["parent_message_id"], row["metadata"], row["pinned"]) == (None, None, False)
    assert row["author_name"] == ann.agent
    assert row["author_agent_id"] != theirs["author_agent_id"]
    assert row["channel_id"] == theirs["channel_id"]
    assert row["id"] != forged["id"]
    assert row["created_at"] > theirs["created_at"]


@pytest.mark.parametrize("kind", ["system", "direct", "CHAT", "", 1])
def test_agents_post_chat_and_status_only(agent: MakeAgent, kind: Any):
    assert post(agent(), channel="general", content="x", kind=kind)[0] == 400


def test_the_direct_channel_takes_no_posts(either: colours.Driver):
    error = either.fails(errors.BadRequest, "send_message", "direct-messages", "hello")
    assert "send_direct_message" in error.message


# Answers to messages


def test_a_reply_names_its_parent(either: colours.Driver):
    channel = fresh("room")
    first = either("send_message", channel, "question")["message"]["id"]
    reply = either("send_message", channel, "answer", parent_message_id=first)["message"]
    deeper = either("send_message", channel, "thanks", parent_message_id=reply["id"])["message"]
    assert (reply["parent_message_id"], deeper["parent_message_id"]) == (first, reply["id"])
    page = either("read_messages", channel)["messages"]
    assert [row["parent_message_id"] for row in page] == [None, first, reply["id"]]


@pytest.mark.parametrize("parent", ["x", "", "ALL-UPPER", 1, ["x"], "{upper}"])
def test_a_parent_is_a_lowercase_uuid(agent: MakeAgent, parent: Any):
    ann = agent()
    known = ann.send_message("general", "x")["message"]["id"]
    parent = known.upper() if parent == "{upper}" else parent
    assert post(ann, channel="general", content="x", parent_message_id=parent)[0] == 400


def test_a_parent_must_be_there_and_visible(live: Embedded, agent: MakeAgent):
    space = fresh("space")
    live.space(space)
    ann, bob, cid = agent(), agent(), agent()
    elsewhere = ann.send_message(fresh("room"), "x")["message"]["id"]
    abroad = agent(space=space).send_message("general", "x")["message"]["id"]
    private = bob.send_direct_message(cid.agent, "secret")["message"]["id"]
    refusals = {}
    for name, parent in {"none": str(uuid4()), "elsewhere": elsewhere, "abroad": abroad, "private": private}.items():
        channel = fresh("room")
        status, answer = post(ann, channel=channel, content="x", parent_message_id=parent)
        assert status in (400, 404)
        refusals[name] = (status, json.dumps(answer).replace(parent, ""))
        with pytest.raises(errors.NotFound):  # a refused call leaves nothing behind
            ann.read_messages(channel)
    assert refusals["abroad"] == refusals["private"] == refusals["none"]


def test_a_direct_message_is_no_parent(agent: MakeAgent):
    ann, bob = agent(), agent()
    private = ann.send_direct_message(bob.agent, "secret")["message"]["id"]
    for reader in (ann, bob):
        assert post(reader, channel="general", content="x", parent_message_id=private)[0] == 400


# Order and time


def test_a_channel_has_one_order(agent: MakeAgent):
    channel = fresh("room")
    writers = [agent() for _ in range(6)]

    def write(writer: Client) -> list[Any]:
        return [writer.send_message(channel, f"{number}")["message"] for number in range(25)]

    written = at_once([partial(write, writer) for writer in writers])
    page = writers[0].read_messages(channel, limit=200)["messages"]
    times = [row["created_at"] for row in page]
    assert times == sorted(set(times))
    assert all(TIME.fullmatch(time) for time in times)
    assert len({row["id"] for row in page}) == 6 * 25
    for rows in written:  # what was answered before the next was sent comes before it
        places = [page.index(row) for row in rows]
        assert places == sorted(places)


# Channels


TYPES = [
    ("gossip-", "gossip", "global"), ("shared-", "shared", "peers"), ("project-", "project", "local"),
    ("tech-", "technology", "local"), ("env-", "environment", "local"), ("", "project", "local"),
    ("technology-", "project", "local"), ("global-", "project", "local"), ("environment-", "project", "local"),
]  # fmt: skip


@pytest.mark.parametrize(("prefix", "type", "scope"), TYPES)
def test_a_new_channel_has_its_type_from_its_name(either: colours.Driver, prefix: str, type: str, scope: str):
    name = f"{prefix}{fresh('n')}"
    sent = either("send_message", name, "x")["message"]
    rows = either("list_channels")["channels"]
    created_at = rows[0].pop("created_at")
    assert TIME.fullmatch(created_at)
    assert created_at <= sent["created_at"]
    assert rows == [
        {
            "id": sent["channel_id"], "name": name, "type": type, "federation_scope": scope, "description": None,
            "metadata": None, "created_by": sent["author_agent_id"], "archived": False,
        }
    ]  # fmt: skip


def test_a_fresh_relay_has_global_and_general(agent: MakeAgent):
    ann = agent()
    assert ann.list_channels()["channels"] == []
    for name in ("status", "alerts"):
        ann.send_message(name, "x")
    for name in ("global", "general"):
        ann.read_messages(name)
    rows = {row["name"]: row for row in ann.list_channels()["channels"]}
    assert rows.keys() == {"status", "alerts", "global", "general"}
    assert {row["type"] for row in rows.values()} == {"global"}
    assert [rows[name]["created_by"] for name in ("global", "general")] == [None, None]


def test_channels_are_listed_by_type(either: colours.Driver, agent: MakeAgent):
    names = {type: f"{prefix}{fresh('n')}" for prefix, type, _ in TYPES[:5]}
    for name in names.values():
        either("send_message", name, "x")
    either("read_messages", "general")
    names["global"] = "general"
    for type in ("project", "technology", "environment", "global"):
        assert [row["name"] for row in either("list_channels", type=type)["channels"]] == [names[type]]
    assert len(either("list_channels")["channels"]) == 6
    for junk in ("shared", "gossip", "direct", "PROJECT", "%25", "x"):
        assert raw(agent(), "GET", f"/api/v2/channels?type={junk}")[0] == 400


def test_an_agent_creates_twenty_channels(either: colours.Driver, agent: MakeAgent):
    names = [fresh("room") for _ in range(21)]
    for name in names[:20]:
        either("send_message", name, "x")
    error = either.fails(errors.LimitReached, "send_message", names[20], "x")
    assert (error.status, error.code) == (429, "channel_limit")
    assert error.retry_after is not None  # 429 always says when
    assert not error.retryable
    either.fails(errors.NotFound, "read_messages", names[20])
    either("send_message", names[0], "those that exist take more")
    other = agent()
    other.send_message(names[20], "others may still create it")
    either("send_message", names[20], "and then it exists")
    either("send_direct_message", other.agent, "counts as none")


def test_the_channel_limit_holds_for_calls_at_the_same_time(agent: MakeAgent):
    ann = agent()
    outcomes = at_once([partial(ann.send_message, fresh("room"), "x") for _ in range(30)])
    refused = [outcome for outcome in outcomes if isinstance(outcome, errors.AgentChatError)]
    assert [error.code for error in refused] == ["channel_limit"] * 10
    assert len(ann.list_channels()["channels"]) == 20


def test_agents_that_create_a_channel_at_the_same_time_share_it(agent: MakeAgent):
    channel = fresh("room")
    made = at_once([partial(agent().send_message, channel, f"{number}") for number in range(12)])
    assert len({sent["message"]["channel_id"] for sent in made}) == 1
    assert sorted(contents(agent(), channel), key=int) == [str(number) for number in range(12)]


# One effect per key


def test_a_repeat_is_answered_with_the_first_answer(either: colours.Driver):
    channel = fresh("room")
    keyed = either.with_options(idempotency_key=uuid4().hex)
    first = keyed("send_message", channel, "hi @nobody-here and @Nobody-There", metadata={"a": 1})
    assert first["unmatched_mentions"] == ["nobody-here", "nobody-there"]
    either("send_message", channel, "another")
    assert keyed("send_message", channel, "hi @nobody-here and @Nobody-There", metadata={"a": 1}) == first
    assert [row["content"] for row in either("read_messages", channel)["messages"]] == [
        first["message"]["content"],
        "another",
    ]


def test_the_answer_stays_when_the_agents_change(live: Embedded, agent: MakeAgent):
    ann, off, gone = agent(), agent(), agent()
    later = fresh()
    keyed = ann.with_options(idempotency_key=uuid4().hex)
    text = f"@{later} @{off.agent} @{gone.agent} @{ann.agent}"
    first = keyed.send_message("general", text)
    assert first["unmatched_mentions"] == [later]
    live.token(later)
    live.ask(partial(administration.agent_deactivate, name=off.agent))
    live.ask(partial(administration.agent_delete, name=gone.agent))
    assert keyed.send_message("general", text) == first


@pytest.mark.parametrize(
    "changed",
    [
        {"content": "other"},
        {"channel": "global"},
        {"metadata": {"a": 2}},
        {"metadata": None},
        {"kind": "status"},
        {"parent_message_id": "{known}"},
    ],
)
def test_a_key_with_another_body_is_refused(either: colours.Driver, changed: dict[str, Any]):
    known = either("send_message", "general", "x")["message"]["id"]
    body = {"channel": "general", "content": "first", "metadata": {"a": 1}}
    keyed = either.with_options(idempotency_key=uuid4().hex)
    keyed("send_message", **body)
    changed = {name: known if value == "{known}" else value for name, value in changed.items()}
    with pytest.raises(errors.Conflict) as caught:
        keyed("send_message", **{**body, **changed})
    assert (caught.value.status, caught.value.code) == (409, "idempotency_mismatch")


def test_order_nulls_and_unknown_members_make_no_other_body(agent: MakeAgent):
    ann = agent()
    key = {"idempotency-key": uuid4().hex}
    bodies = [
        {"channel": "general", "content": "same", "metadata": {"a": 1, "b": 2}},
        {"metadata": {"b": 2, "a": 1}, "parent_message_id": None, "content": "same", "channel": "general", "x": 1},
    ]
    first, second = (raw(ann, "POST", "/api/v2/messages", body, **key) for body in bodies)
    assert first[0] == 200
    assert second == first


def writes(agent: Client, other: str, message: str, mention: str) -> dict[str, Callable[[Client], Any]]:
    """A call of every write of messaging."""
    return {
        "send_message": lambda client: client.send_message("general", "x"),
        "send_direct_message": lambda client: client.send_direct_message(other, "x"),
        "pin_message": lambda client: client.pin_message(message),
        "unpin_message": lambda client: client.unpin_message(message),
        "mark_mentions_read": lambda client: client.mark_mentions_read([mention]),
        "mark_channel_read": lambda client: client.mark_channel_read("general"),
        "set_card": lambda client: client.set_card(role="reviewer"),
    }


def prepared(ann: Client, bob: Client) -> dict[str, Callable[[Client], Any]]:
    """The writes of ann, each of which can succeed."""
    bob.send_message("general", f"hi @{ann.agent}")
    mention = ann.check_mentions()["mentions"][0]
    return writes(ann, bob.agent, mention["message_id"], mention["mention_id"])


def test_a_key_with_another_operation_is_refused(agent: MakeAgent):
    ann, bob = agent(), agent()
    calls = prepared(ann, bob)
    for name, call in calls.items():
        keyed = ann.with_options(idempotency_key=f"{name}-{uuid4().hex}")
        first = call(keyed)
        for other, wrong in calls.items():
            if other != name:
                with pytest.raises(errors.Conflict) as caught:
                    wrong(keyed)
                assert caught.value.code == "idempotency_mismatch"
        assert call(keyed) == first


def test_keys_are_known_after_a_restart(tmp_path: Path):
    names = ("mac-ann", "mac-bob")
    with running(str(tmp_path), settings=UNLIMITED) as relay:
        keys = [relay.token(name) for name in names]
        with Client(relay.url, keys[0], agent=names[0]) as ann, Client(relay.url, keys[1], agent=names[1]) as bob:
            calls = prepared(ann, bob)
            first = {name: call(ann.with_options(idempotency_key=f"k-{name}")) for name, call in calls.items()}
            before = ann.read_messages("general"), ann.read_messages("direct-messages"), bob.check_mentions()
    with (
        running(str(tmp_path), settings=UNLIMITED) as relay,
        Client(relay.url, keys[0]) as ann,
        Client(relay.url, keys[1]) as bob,
    ):
        assert {name: call(ann.with_options(idempotency_key=f"k-{name}")) for name, call in calls.items()} == first
        with pytest.raises(errors.Conflict):
            ann.with_options(idempotency_key="k-send_message").send_message("general", "other")
        with pytest.raises(errors.Conflict):
            ann.with_options(idempotency_key="k-set_card").set_card(role="other")
        assert (ann.read_messages("general"), ann.read_messages("direct-messages"), bob.check_mentions()) == before
        later = ann.send_message("general", "and on it goes")["message"]
        assert later["created_at"] > before[0]["messages"][-1]["created_at"]


def test_duplicates_at_the_same_time_make_one_message(agent: MakeAgent):
    ann, bob = agent(), agent()
    channel = fresh("room")
    for round in range(5):
        keyed = ann.with_options(idempotency_key=uuid4().hex)
        answers = at_once([partial(keyed.send_message, channel, f"{round} @{bob.agent} @nobody-x") for _ in range(16)])
        assert answers == [answers[0]] * 16
        assert answers[0]["unmatched_mentions"] == ["nobody-x"]
        keyed = ann.with_options(idempotency_key=uuid4().hex)
        answers = at_once([partial(keyed.send_direct_message, bob.agent, f"{round}") for _ in range(16)])
        assert answers == [answers[0]] * 16
    assert contents(bob, channel) == [f"{round} @{bob.agent} @nobody-x" for round in range(5)]
    assert contents(bob, "direct-messages") == [f"@{bob.agent} {round}" for round in range(5)]
    assert len(bob.check_mentions()["mentions"]) == 10


def test_one_of_two_bodies_under_one_key_wins(agent: MakeAgent):
    ann = agent()
    channel = fresh("room")
    keyed = ann.with_options(idempotency_key=uuid4().hex)
    outcomes = at_once([partial(keyed.send_message, channel, f"body {number % 2}") for number in range(16)])
    won = [outcome for outcome in outcomes if isinstance(outcome, dict)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, errors.AgentChatError)]
    assert won == [won[0]] * 8
    assert [error.code for error in lost] == ["idempotency_mismatch"] * 8
    assert contents(ann, channel) == [won[0]["message"]["content"]]


def test_a_key_belongs_to_its_agent(agent: MakeAgent):
    channel = fresh("room")
    key = uuid4().hex
    sent = [agent().with_options(idempotency_key=key).send_message(channel, "same") for _ in range(2)]
    assert sent[0]["message"]["id"] != sent[1]["message"]["id"]
    assert contents(agent(), channel) == ["same", "same"]


def test_a_refused_call_uses_no_key_up(either: colours.Driver, agent: MakeAgent):
    keyed = either.with_options(idempotency_key=uuid4().hex)
    target = fresh()
    keyed.fails(errors.NotFound, "send_direct_message", target, "x")
    agent(target)
    assert keyed("send_direct_message", target, "x")["message"]["content"] == f"@{target} x"


@pytest.mark.parametrize("key", ["k", "k" * 128, "!#$%&'*+-.^_`|~09azAZ:/?=()"])
def test_keys_that_are_good(agent: MakeAgent, key: str):
    ann = agent()
    body = {"channel": fresh("room"), "content": "x"}
    first, second = (raw(ann, "POST", "/api/v2/messages", body, **{"idempotency-key": key}) for _ in range(2))
    assert first[0] == 200
    assert second == first


@pytest.mark.parametrize("key", ["", "k" * 129, "ké", "k\tk"])
def test_keys_that_are_refused(agent: MakeAgent, key: str):
    ann = agent()
    body = {"channel": "general", "content": "x"}
    status, answer = raw(ann, "POST", "/api/v2/messages", body, **{"idempotency-key": key})
    assert (status, answer["code"]) == (400, "bad_request")
    assert "idempotency-key" in answer["error"].lower()


def test_without_a_key_the_same_body_is_another_message(agent: MakeAgent):
    ann = agent()
    channel = fresh("room")
    first, second = (post(ann, channel=channel, content="x")[1]["data"]["message"]["id"] for _ in range(2))
    assert first != second
    assert contents(ann, channel) == ["x", "x"]


# Rate limits


def test_reads_and_writes_are_counted_apart(tmp_path: Path):
    limits = Settings(agent_reads=0.2, agent_writes=0.2, all_reads=0, all_writes=0)  # two at once, then 0.2 a second
    with (
        running(str(tmp_path), settings=limits) as relay,
        Client(relay.url, relay.token("mac-ann"), retries=0) as ann,
        Client(relay.url, relay.token("mac-bob"), retries=0) as bob,
    ):
        for _ in range(2):
            ann.send_message("general", "x")
        with pytest.raises(errors.RateLimited) as caught:
            ann.send_message("general", "x")
        assert (caught.value.status, caught.value.code) == (429, "rate_limited")
        assert caught.value.retry_after is not None
        assert caught.value.retry_after >= 1
        assert caught.value.retry_after == int(caught.value.retry_after)
        assert contents(ann, "general") == ["x", "x"]
        bob.send_message("general", "others are free")
