"""Reading: pages and cursors of a channel, threads, one message, pins."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentchat import Client, errors
from agentchat_relay.embedded import Embedded
from tests.clients import conftest as colours
from tests.relay.conftest import MakeAgent, fresh, raw


@pytest.fixture(scope="module")
def anywhere(live: Embedded) -> Iterator[Client]:
    """An agent for tests that run many examples."""
    with Client(live.url, live.token("mac-anywhere"), agent="mac-anywhere", retries=0) as client:
        client.send_message("anywhere", "x")
        yield client


def page_of(agent: Client, query: str) -> list[str]:
    """The texts of a page that was asked for with this very query."""
    status, answer = raw(agent, "GET", f"/api/v2/messages?{query}")
    assert status == 200, answer
    return texts(answer["data"])


def texts(page: Any) -> list[str]:
    return [row["content"] for row in page["messages"]]


def filled(agent: Client, count: int, **more: Any) -> tuple[str, list[Any]]:
    """A new channel and its messages, whose texts are their numbers."""
    channel = fresh("room")
    return channel, [agent.send_message(channel, f"{number}", **more)["message"] for number in range(count)]


def numbers(first: int, behind: int) -> list[str]:
    return [f"{number}" for number in range(first, behind)]


# Pages


def test_a_page_is_the_newest_messages_oldest_first(either: colours.Driver, agent: MakeAgent):
    channel, sent = filled(agent(), 25)
    page = either("read_messages", channel)
    assert page["channelId"] == sent[0]["channel_id"]
    assert page["messages"] == sent[5:]
    assert page["has_more"] is True
    assert either("read_messages", channel, limit=3)["messages"] == sent[22:]
    whole = either("read_messages", channel, limit=25)
    assert (whole["messages"], whole["has_more"]) == (sent, False)


LIMITS = [
    ("", 20), ("limit=", 20), ("limit=0", 20), ("limit=junk", 20), ("limit=-", 20), ("limit=%00", 20), ("limit=1", 1),
    ("limit=-1", 1), ("limit=-999999999", 1), ("limit=200", 200), ("limit=201", 200), ("limit=99999999999", 200),
    ("limit=7&limit=8", 8), ("limit=null", 20), ("limit=%F0%9F%99%82", 20),
]  # fmt: skip


def test_limits_are_read_leniently(agent: MakeAgent):
    ann = agent()
    channel, sent = filled(ann, 201)
    expected = {query: len(sent[-count:]) for query, count in LIMITS}
    assert {query: len(page_of(ann, f"channel={channel}&{query}")) for query, _ in LIMITS} == expected
    thread = f"/api/v2/messages/{sent[0]['id']}/thread"
    for _ in range(51):
        ann.send_message(channel, "x", parent_message_id=sent[0]["id"])
    for query, count in {"": 50, "limit=0": 50, "limit=-3": 1, "limit=x": 50, "limit=2": 2, "limit=999": 52}.items():
        assert len(raw(ann, "GET", f"{thread}?{query}")[1]["data"]["messages"]) == count


def test_a_limit_beyond_all_measure_is_clamped_too(agent: MakeAgent):
    ann = agent()
    channel, _ = filled(ann, 25)
    assert len(page_of(ann, f"channel={channel}&limit={10**30}")) == 25
    assert len(page_of(ann, f"channel={channel}&limit=-{10**30}")) == 1


def test_a_channel_is_needed_and_unknown_members_are_ignored(agent: MakeAgent):
    ann = agent()
    for query in ("", "channel=", "channel=A", "channel=a", "channel=%23general", f"channel={'n' * 101}"):
        status, answer = raw(ann, "GET", f"/api/v2/messages?{query}")
        assert (status, answer["code"]) == (400, "bad_request")
    assert page_of(ann, "channel=general&since=2001&agent=x") == []


@pytest.mark.parametrize(
    "operation", ["read_messages", "list_pinned_messages", "mark_channel_read", "list_readers"]
)  # fmt: skip
def test_an_unknown_channel_is_named_with_what_may_be_meant(either: colours.Driver, agent: MakeAgent, operation: str):
    known = fresh("quarterly-planning")
    agent().send_message(known, "x")
    wrong = known.replace("quarter", "qaurter")
    error = either.fails(errors.NotFound, operation, wrong)
    assert (error.status, error.code, error.near) == (404, "not_found", [known])
    assert either.fails(errors.NotFound, operation, "zzzzzzzzzz").near == []
    assert either("list_channels")["channels"] == []  # reading makes no channel
    either.fails(errors.NotFound, operation, wrong)


def test_near_names_come_from_the_own_space(live: Embedded, agent: MakeAgent):
    space = fresh("space")
    live.space(space)
    agent(space=space).send_message("submarine-cables", "x")
    with pytest.raises(errors.NotFound) as caught:
        agent().read_messages("submarine-cable")
    assert caught.value.near == []
    assert "cables" not in str(caught.value)


def test_reading_joins_once(either: colours.Driver, agent: MakeAgent):
    channel, _ = filled(agent(), 3)
    assert either("list_channels")["channels"] == []
    for _ in range(2):
        either("read_messages", channel)
        assert [row["name"] for row in either("list_channels")["channels"]] == [channel]


# before


def test_before_is_strict_and_walks_the_whole_channel(either: colours.Driver, agent: MakeAgent):
    channel, sent = filled(agent(), 23)
    seen: list[Any] = []
    before = None
    while page := either("read_messages", channel, limit=5, before=before)["messages"]:
        seen = page + seen
        before = page[0]["created_at"]
    assert seen == sent


def test_before_takes_any_iso_time_also_with_its_plus_lost(agent: MakeAgent):
    ann = agent()
    channel, sent = filled(ann, 4)
    at = sent[2]["created_at"]
    moment = datetime.fromisoformat(at)
    east = moment.astimezone(timezone(timedelta(hours=5, minutes=30))).isoformat()
    west = moment.astimezone(timezone(-timedelta(hours=8))).isoformat()
    assert at.endswith("+00:00")
    for text in (at, at.replace("+00:00", "Z"), at.replace("+00:00", ""), east, west):
        assert page_of(ann, urlencode({"channel": channel, "before": text})) == ["0", "1"]
    for unquoted in (at, east):  # a client that does not quote: the plus arrives as a blank
        assert page_of(ann, f"channel={channel}&before={unquoted}") == ["0", "1"]
        assert page_of(ann, f"channel={channel}&before={unquoted.replace('+', '%20')}") == ["0", "1"]
    second = at[:19]
    for text in (f"{second}Z", f"{second}.000Z", f"{second}+00:00", second):
        earlier = [row["content"] for row in sent if row["created_at"] < f"{second}.000000+00:00"]
        assert page_of(ann, urlencode({"channel": channel, "before": text})) == earlier


def test_before_the_first_and_after_the_last(agent: MakeAgent):
    ann = agent()
    channel, _ = filled(ann, 3)
    for text in ("2001-01-01T00:00:00Z", "0001-01-01T00:00:00", "1969-12-31T23:59:59.999999Z"):
        assert page_of(ann, urlencode({"channel": channel, "before": text})) == []
    assert page_of(ann, f"channel={channel}&before=9999-12-31T23:59:59Z") == ["0", "1", "2"]


@pytest.mark.parametrize(
    "junk", ["x", "0", "2026", "2026-01-01", "12:00:00", "2026-13-01T00:00:00Z", "2026-01-01T25:00:00Z", "now", "1e9"]
)
def test_before_is_a_time(agent: MakeAgent, junk: str):
    status, answer = raw(agent(), "GET", f"/api/v2/messages?channel=general&before={quote(junk)}")
    assert (status, answer["code"]) == (400, "bad_request")


@settings(max_examples=100, deadline=None)
@given(tail=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_a_time_with_any_tail_is_read_or_refused(anywhere: Client, tail: str):
    query = urlencode({"channel": "anywhere", "before": f"0001-01-01T00:00:00{tail}"})
    assert raw(anywhere, "GET", f"/api/v2/messages?{query}")[0] in (200, 400)


# Cursors


def test_cursors_walk_back_and_forth(either: colours.Driver, agent: MakeAgent):
    ann = agent()
    channel, sent = filled(ann, 17)
    page = either("read_messages", channel, limit=5)
    newest, seen, more = page["next_cursor"], page["messages"], page["has_more"]
    while more:
        page = either("read_messages", channel, limit=5, cursor=page["previous_cursor"])
        seen, more = page["messages"] + seen, page["has_more"]
    assert seen == sent
    end = either("read_messages", channel, limit=5, cursor=page["previous_cursor"])
    assert (end["messages"], end["has_more"]) == ([], False)
    for start in (page, end):  # and forwards again, to those that are new
        page = either("read_messages", channel, limit=4, cursor=start["next_cursor"])
        ahead = page["messages"]
        while page["has_more"]:
            page = either("read_messages", channel, limit=4, cursor=page["next_cursor"])
            ahead += page["messages"]
        assert ahead == sent[len(sent) - len(ahead) :]
        assert len(ahead) == 17 - len(start["messages"])
    assert either("read_messages", channel, cursor=newest)["messages"] == []
    later = [ann.send_message(channel, f"later {number}")["message"] for number in range(3)]
    page = either("read_messages", channel, limit=2, cursor=newest)
    assert (page["messages"], page["has_more"]) == (later[:2], True)
    page = either("read_messages", channel, limit=2, cursor=page["next_cursor"])
    assert (page["messages"], page["has_more"]) == (later[2:], False)
    assert either("read_messages", channel, limit=9, cursor=page["previous_cursor"])["messages"][-1] == later[1]


def test_the_cursors_of_an_empty_page_lead_to_what_comes(either: colours.Driver, agent: MakeAgent):
    ann = agent()
    channel = fresh("room")
    ann.send_message(channel, "a status", kind="status")
    empty = either("read_messages", channel)
    assert (empty["messages"], empty["has_more"]) == ([], False)
    still = either("read_messages", channel, cursor=empty["next_cursor"])
    assert still["messages"] == []
    sent = [ann.send_message(channel, f"{number}")["message"] for number in range(3)]
    for cursor in (empty["next_cursor"], still["next_cursor"]):
        assert either("read_messages", channel, cursor=cursor)["messages"] == sent
    assert either("read_messages", channel, cursor=still["previous_cursor"])["messages"] == []


def test_a_cursor_belongs_to_its_list(live: Embedded, either: colours.Driver, agent: MakeAgent):
    space = fresh("space")
    live.space(space)
    ann, far = agent(), agent(space=space)
    (channel, sent), (other, _) = filled(ann, 3), filled(ann, 3)
    far.send_message(channel, "x")
    ann.send_direct_message(either.client.agent, "x")
    ann.send_message(channel, "x", parent_message_id=sent[0]["id"])
    thread = either("read_thread", sent[0]["id"], limit=1)
    foreign = {
        "another channel": either("read_messages", other, limit=2),
        "another space": far.read_messages(channel),
        "direct messages": either("read_messages", "direct-messages"),
        "a thread": thread,
    }
    for page in foreign.values():
        for name in ("next_cursor", "previous_cursor"):
            if page[name] is not None:
                with pytest.raises(errors.BadRequest) as caught:
                    either("read_messages", channel, cursor=page[name])
                assert (caught.value.status, caught.value.code) == (400, "bad_cursor")
    direct = foreign["direct messages"]["next_cursor"]
    wrong = [
        (ann.read_messages, "direct-messages", direct),  # what is one agent's page is no other's
        (ann.read_thread, sent[1]["id"], thread["next_cursor"]),
        (ann.read_thread, sent[0]["id"], ann.read_messages(channel)["next_cursor"]),
    ]
    for call, place, cursor in wrong:
        with pytest.raises(errors.BadRequest) as caught:
            call(place, cursor=cursor)
        assert caught.value.code == "bad_cursor"


@pytest.mark.parametrize("junk", ["x", "====", "AAAA", "MQ", "%00", "%F0%9F%99%82", "a%20b", "Y2E", "c1/0/1", "../.."])
def test_junk_is_no_cursor(agent: MakeAgent, junk: str):
    ann = agent()
    message = ann.send_message("general", "x")["message"]["id"]
    for path in ("/api/v2/messages?channel=general&", f"/api/v2/messages/{message}/thread?"):
        status, answer = raw(ann, "GET", f"{path}cursor={junk}")
        assert status == 400
        assert answer["code"] in ("bad_cursor", "bad_request")


@settings(max_examples=150, deadline=None)
@given(cursor=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=600), data=st.data())
def test_any_text_is_a_cursor_or_refused(anywhere: Client, cursor: str, data: st.DataObject):
    """Also a real cursor with one letter changed."""
    page = anywhere.read_messages("anywhere")
    real = page[data.draw(st.sampled_from(["next_cursor", "previous_cursor"]))] or ""
    place = data.draw(st.integers(0, len(real) - 1))
    for text in (cursor, real[:place] + cursor[0] + real[place + 1 :]):
        query = urlencode({"channel": "anywhere", "cursor": text})
        assert raw(anywhere, "GET", f"/api/v2/messages?{query}")[0] in (200, 400)


def test_cursor_and_before_do_not_go_together(either: colours.Driver, agent: MakeAgent):
    channel, sent = filled(agent(), 2)
    cursor = either("read_messages", channel)["previous_cursor"]
    with pytest.raises(errors.BadRequest):
        either("read_messages", channel, cursor=cursor, before=sent[1]["created_at"])


def test_cursors_never_skip_or_repeat_while_others_post(agent: MakeAgent):
    channel = fresh("room")
    writers = [agent() for _ in range(6)]
    reader, walker = agent(), agent()
    writers[0].send_message(channel, "start")
    done = threading.Event()

    def write(writer: Client) -> list[str]:
        return [writer.send_message(channel, f"{number}")["message"]["id"] for number in range(40)]

    def follow(limit: int) -> list[str]:
        """Everything after the start, page by page, until the writers are done and nothing is left."""
        page = reader.read_messages(channel, before="2001-01-01T00:00:00Z")
        seen: list[str] = []
        while True:
            finished = done.is_set()
            page = reader.read_messages(channel, limit=limit, cursor=page["next_cursor"])
            seen += [row["id"] for row in page["messages"]]
            if finished and not page["messages"]:
                return seen

    def walk_back() -> list[tuple[list[str], list[str]]]:
        """Walks from the newest to the first, each with how the channel read right before and after it."""
        found = []
        while not done.is_set():
            page = walker.read_messages(channel, limit=200)
            expected = [row["id"] for row in page["messages"]]
            page = walker.read_messages(channel, before=_after(page["messages"][-1]), limit=7)
            seen = [row["id"] for row in page["messages"]]
            while page["has_more"] and len(seen) < len(expected):
                page = walker.read_messages(channel, limit=7, cursor=page["previous_cursor"])
                seen = [row["id"] for row in page["messages"]] + seen
            found.append((seen[-len(expected) :], expected))
        return found

    with ThreadPoolExecutor(10) as pool:
        followers = [pool.submit(follow, limit) for limit in (1, 3, 200)]
        backwards = pool.submit(walk_back)
        written = [pool.submit(write, writer) for writer in writers]
        try:
            ids = {id for future in written for id in future.result(60)}
        finally:
            done.set()
        order = followers[0].result(60)
        assert len(order) == len(set(order)) == 241
        assert ids < set(order)
        assert [future.result(60) for future in followers] == [order] * 3
        walks = backwards.result(60)
    assert all(seen == expected for seen, expected in walks)
    assert all(expected == order[order.index(expected[0]) :][: len(expected)] for _, expected in walks)


def _after(row: Any) -> str:
    """A time just above a message's."""
    return (datetime.fromisoformat(row["created_at"]) + timedelta(microseconds=1)).isoformat(timespec="microseconds")


# Status posts


def test_status_posts_are_left_out_unless_asked_for(either: colours.Driver, agent: MakeAgent):
    ann = agent()
    channel = fresh("room")
    kinds = ["chat", "status", "status", "status", "chat", "status", "chat", "status"]
    sent = [ann.send_message(channel, f"{number}", kind=kind)["message"] for number, kind in enumerate(kinds)]
    assert [row["kind"] for row in sent] == kinds
    chats = [row for row in sent if row["kind"] == "chat"]
    assert either("read_messages", channel)["messages"] == chats
    assert either("read_messages", channel, limit=2)["messages"] == chats[1:]  # a full page all the same
    for include, rows in ((False, chats), (True, sent)):
        page = either("read_messages", channel, include_status=include, limit=2)
        seen = page["messages"]
        while page["has_more"]:
            page = either("read_messages", channel, include_status=include, limit=2, cursor=page["previous_cursor"])
            seen = page["messages"] + seen
        assert seen == rows
        ahead = []
        page = either("read_messages", channel, include_status=include, before="2001-01-01T00:00:00Z")
        while page["next_cursor"] and (not ahead or page["has_more"]):
            page = either("read_messages", channel, include_status=include, limit=2, cursor=page["next_cursor"])
            ahead += page["messages"]
        assert ahead == rows
    assert either("get_message", sent[1]["id"])["message"] == sent[1]


@pytest.mark.parametrize(("text", "shown"), [("true", 2), ("True", 2), ("TRUE", 2), ("1", 2), ("false", 1), ("x", 1)])
def test_booleans_are_read_from_text(agent: MakeAgent, text: str, shown: int):
    ann = agent()
    channel, _ = filled(ann, 1)
    ann.send_message(channel, "working", kind="status")
    assert len(page_of(ann, f"channel={channel}&include_status={text}")) == shown


# Threads


def test_a_thread_reads_the_same_from_any_of_its_messages(either: colours.Driver, agent: MakeAgent):
    ann, bob = agent(), agent()
    channel, (first, other) = filled(ann, 2)
    reply = bob.send_message(channel, "reply", parent_message_id=first["id"])["message"]
    ann.send_message(channel, "elsewhere", parent_message_id=other["id"])
    deeper = ann.send_message(channel, "deeper", parent_message_id=reply["id"])["message"]
    again = bob.send_message(channel, "again", parent_message_id=first["id"])["message"]
    thread = [first, reply, deeper, again]
    for message in thread:
        page = either("read_thread", message["id"])
        assert (page["messages"], page["has_more"]) == (thread, False)
    (alone,) = filled(ann, 1)[1]
    assert either("read_thread", alone["id"])["messages"] == [alone]


@pytest.mark.parametrize("limit", [1, 3, 11, 50])
def test_a_thread_has_pages(either: colours.Driver, agent: MakeAgent, limit: int):
    ann = agent()
    channel, thread = filled(ann, 1)
    for number in range(10):
        parent = thread[number // 2]["id"]
        thread.append(ann.send_message(channel, f"reply {number}", parent_message_id=parent)["message"])
    page = either("read_thread", thread[-1]["id"], limit=limit)
    seen = page["messages"]
    assert len(seen) == min(limit, 11)
    while page["has_more"]:
        page = either("read_thread", thread[0]["id"], limit=limit, cursor=page["next_cursor"])
        seen += page["messages"]
    assert seen == thread
    assert either("read_thread", thread[0]["id"], cursor=page["next_cursor"])["messages"] == []
    late = ann.send_message(channel, "late", parent_message_id=thread[0]["id"])["message"]
    assert either("read_thread", thread[0]["id"], cursor=page["next_cursor"])["messages"] == [late]


# One message


def test_one_message_from_an_offset(either: colours.Driver, agent: MakeAgent):
    text = "héllo 🙂 " * 100 + "end"
    sent = agent().send_message(fresh("room"), text, metadata={"a": 1})["message"]
    assert either("get_message", sent["id"]) == {"message": sent, "offset": 0, "total_chars": len(text)}
    for offset in (1, 7, 8, len(text) - 1, len(text), len(text) + 1, 1_000_000):
        found = either("get_message", sent["id"], offset=offset)
        assert found["message"] == {**sent, "content": text[offset:]}
        assert (found["offset"], found["total_chars"]) == (offset, len(text))


@pytest.mark.parametrize(("query", "offset"), [("", 0), ("offset=-1", 0), ("offset=x", 0), ("offset=2", 2)])
def test_offsets_are_read_leniently(agent: MakeAgent, query: str, offset: int):
    ann = agent()
    sent = ann.send_message("general", "abc")["message"]["id"]
    _, answer = raw(ann, "GET", f"/api/v2/messages/{sent}?{query}")
    assert answer["data"]["message"]["content"] == "abc"[offset:]


BY_ID = [("GET", ""), ("GET", "/thread"), ("POST", "/pin"), ("POST", "/unpin")]


@pytest.mark.parametrize(("verb", "tail"), BY_ID)
def test_an_id_is_a_lowercase_uuid_that_exists_here(live: Embedded, agent: MakeAgent, verb: str, tail: str):
    space = fresh("space")
    live.space(space)
    ann = agent()
    known = ann.send_message("general", "x")["message"]["id"]
    abroad = agent(space=space).send_message("general", "x")["message"]["id"]
    body = {} if verb == "POST" else None
    for id in (known.upper(), "x", known[:-1], f"{known}0", known.replace("-", ""), f"%20{known}", "%00", "1"):
        status, answer = raw(ann, verb, f"/api/v2/messages/{id}{tail}", body)
        assert (status, answer["code"]) == (400, "bad_request"), id
    for id in (str(uuid4()), abroad, "00000000-0000-0000-0000-000000000000"):
        status, answer = raw(ann, verb, f"/api/v2/messages/{id}{tail}", body)
        assert (status, answer["code"]) == (404, "not_found"), id
    for id in ("..%2f..", "a%2fb", f"..%2f{known}"):
        assert raw(ann, verb, f"/api/v2/messages/{id}{tail}", body)[0] in (400, 404), id


# Pins


def test_pins_are_for_everyone(either: colours.Driver, agent: MakeAgent):
    ann = agent()
    channel, sent = filled(ann, 4)
    assert either("list_pinned_messages", channel)["messages"] == []
    for place in (3, 0, 2):
        assert either("pin_message", sent[place]["id"]) == {"message_id": sent[place]["id"], "pinned": True}
    assert either("pin_message", sent[0]["id"])["pinned"] is True  # again: no other effect
    pinned = [{**sent[place], "pinned": True} for place in (0, 2, 3)]
    newcomer = agent()
    assert newcomer.list_pinned_messages(channel)["messages"] == pinned
    assert newcomer.list_channels()["channels"] == []  # a GET writes nothing but the first join of a read
    shown = [pinned[0], sent[1], *pinned[1:]]
    assert either("read_messages", channel)["messages"] == shown
    assert either("get_message", sent[0]["id"])["message"] == pinned[0]
    assert either("read_thread", sent[0]["id"])["messages"] == pinned[:1]
    assert ann.unpin_message(sent[0]["id"]) == {"message_id": sent[0]["id"], "pinned": False}
    assert either("unpin_message", sent[0]["id"])["pinned"] is False
    assert either("unpin_message", sent[1]["id"])["pinned"] is False  # never was pinned
    assert either("list_pinned_messages", channel)["messages"] == pinned[1:]
    assert either("read_messages", channel)["messages"] == [*sent[:2], *pinned[1:]]


def test_pins_at_the_same_time_are_all_kept(agent: MakeAgent):
    ann = agent()
    channel, sent = filled(ann, 24)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ann.pin_message, [row["id"] for row in sent]))
        assert [row["id"] for row in ann.list_pinned_messages(channel)["messages"]] == [row["id"] for row in sent]
        list(pool.map(ann.unpin_message, [row["id"] for row in sent[::2]]))
    assert [row["id"] for row in ann.list_pinned_messages(channel)["messages"]] == [row["id"] for row in sent[1::2]]


def test_a_repeated_pin_does_not_undo_an_unpin(either: colours.Driver, agent: MakeAgent):
    channel, (sent,) = filled(agent(), 1)
    keyed = either.with_options(idempotency_key=uuid4().hex)
    first = keyed("pin_message", sent["id"])
    either("unpin_message", sent["id"])
    assert keyed("pin_message", sent["id"]) == first
    assert either("list_pinned_messages", channel)["messages"] == []


def test_direct_messages_are_not_pinned(agent: MakeAgent):
    ann, bob, cid = agent(), agent(), agent()
    private = ann.send_direct_message(bob.agent, "secret")["message"]["id"]
    for party in (ann, bob):
        for call in (party.pin_message, party.unpin_message):
            with pytest.raises(errors.BadRequest):
                call(private)
    for call in (cid.pin_message, cid.unpin_message):
        with pytest.raises(errors.NotFound):
            call(private)
    assert ann.list_pinned_messages("direct-messages")["messages"] == []


def test_pins_of_a_channel_are_bounded(agent: MakeAgent):
    ann = agent()
    channel, sent = filled(ann, 60)
    refused: list[str] = []
    for row in sent:
        try:
            ann.pin_message(row["id"])
        except errors.Conflict as error:
            assert error.code == "conflict"
            refused.append(row["id"])
    pinned = [row["id"] for row in ann.list_pinned_messages(channel)["messages"]]
    assert refused
    assert pinned == [row["id"] for row in sent if row["id"] not in refused]
    ann.unpin_message(pinned[0])
    assert ann.pin_message(refused[0])["pinned"] is True
