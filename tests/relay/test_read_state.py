"""What was read: the board, unread counts, joining, marking, lost answers, readers, status posts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentchat import Client, errors
from agentchat_relay.embedded import Embedded, running
from tests.clients import conftest as colours
from tests.relay.conftest import UNLIMITED, MakeAgent, fresh, raw


@pytest.fixture
def fresh_relay(tmp_path: Path) -> Iterator[Callable[[str], Client]]:
    """A relay of its own for a test; makes clients."""
    with running(str(tmp_path), settings=UNLIMITED) as relay, ExitStack() as stack:
        yield lambda name: stack.enter_context(Client(relay.url, relay.token(name), agent=name, retries=0))


def row_of(board: Any, channel: str) -> Any:
    return next(row for row in board["channels"] if row["channel"] == channel)


def unread(agent: Client, channel: str) -> int:
    return int(row_of(agent.check_board(), channel)["unread"])


def joined(agent: Client, other: Client) -> str:
    """A new channel with one message of the other, which the agent has joined."""
    channel = fresh("room")
    other.send_message(channel, "opening")
    agent.read_messages(channel)
    return channel


def just_before(time: str) -> str:
    return (datetime.fromisoformat(time) - timedelta(microseconds=1)).isoformat(timespec="microseconds")


# The board


def test_a_row_of_the_board_in_both_spellings(either: colours.Driver, agent: MakeAgent):
    ann = agent()
    channel = fresh("tech-room")
    ann.send_message(channel, "before joining")
    either("read_messages", channel)
    long = "the whole text " * 200
    sent = ann.send_message(channel, long)["message"]
    author = {"id": sent["author_agent_id"], "name": ann.agent}
    latest = {
        "id": sent["id"], "content": long.strip(), "created_at": sent["created_at"], "agents": author,
        "author_agent_id": sent["author_agent_id"],
    }  # fmt: skip
    assert row_of(either(), channel) == {
        "channel": channel, "type": "technology", "federation_scope": "local", "unread": 1, "joined": True,
        "latest": latest, "channel_id": sent["channel_id"],
        # as other clients look for it
        "channel_name": channel, "channel_type": "technology", "unread_count": 1, "role": "member",
        "latest_message": {**latest, "author_name": ann.agent},
    }  # fmt: skip


def test_a_channel_nobody_posted_in_has_no_latest(fresh_relay: Callable[[str], Client]):
    ann = fresh_relay("mac-ann")
    ann.read_messages("general")
    row = row_of(ann.check_board(), "general")
    assert (row["latest"], row["latest_message"], row["unread"], row["joined"]) == (None, None, 0, True)


def test_a_channel_that_was_never_joined_shows_no_unread(either: colours.Driver, agent: MakeAgent):
    ann = agent()
    channel = fresh("room")
    for _ in range(3):
        ann.send_message(channel, "x")
    row = row_of(either(), channel)
    assert (row["joined"], row["unread"], row["unread_count"], row["role"]) == (False, 0, 0, None)
    assert row["latest"]["content"] == "x"


def test_channels_are_shown_in_the_order_of_joining(either: colours.Driver, agent: MakeAgent):
    names = [fresh("room") for _ in range(20)]
    ann = agent()
    for name in names:
        ann.send_message(name, "x")
    order = names[10:] + names[:10]
    for name in order:
        either("read_messages", name)
    ann.send_message(names[3], "activity moves nothing")
    rows = either()["channels"]
    assert [row["channel"] for row in rows] == order
    assert {row["joined"] for row in rows} == {True}


@pytest.mark.parametrize("count", [0, 1, 4, 5, 6])
def test_a_short_board_is_filled_up_to_fifteen(fresh_relay: Callable[[str], Client], count: int):
    ann, bob = fresh_relay("mac-ann"), fresh_relay("mac-bob")
    names = [fresh("room") for _ in range(20)]
    for name in names:
        bob.send_message(name, "x")
    mine = names[:count]
    for name in mine:
        ann.read_messages(name)
    rows = ann.check_board()["channels"]
    assert [row["channel"] for row in rows if row["joined"]] == mine
    assert [row["channel"] for row in rows[:count]] == mine
    others = rows[count:]
    if count >= 5:
        assert others == []
    else:
        assert len(rows) == 15
        assert {row["unread"] for row in others} == {0}
        assert {row["channel"] for row in others} == set(names[5 + count :])  # the newest


def test_a_board_writes_nothing(either: colours.Driver, agent: MakeAgent):
    agent().send_message(fresh("room"), "x")
    first = either()
    assert either() == first
    assert either("list_channels")["channels"] == []


# Unread


def test_unread_counts_what_others_posted_since_joining(either: colours.Driver, agent: MakeAgent):
    ann, bob = agent(), agent()
    channel = fresh("room")
    ann.send_message(channel, "history")
    either("read_messages", channel)
    assert row_of(either(), channel)["unread"] == 0
    for sender in (ann, bob, ann):
        sender.send_message(channel, "news")
    assert row_of(either(), channel)["unread"] == 3
    either("send_message", channel, "an own post moves nothing and counts as none")
    assert row_of(either(), channel)["unread"] == 3
    either("read_messages", channel)  # neither does reading
    assert row_of(either(), channel)["unread"] == 3
    assert either("mark_channel_read", channel)["channel"] == channel
    assert row_of(either(), channel)["unread"] == 0
    assert unread(ann, channel) == 2  # bob's one and this agent's; others are not concerned


def test_joining_by_a_post_counts_the_history_as_read(either: colours.Driver, agent: MakeAgent):
    ann = agent()
    channel = fresh("room")
    for _ in range(5):
        ann.send_message(channel, "history")
    either("send_message", channel, "hello")
    row = row_of(either(), channel)
    assert (row["joined"], row["unread"]) == (True, 0)
    ann.send_message(channel, "news")
    assert row_of(either(), channel)["unread"] == 1


def test_marking_goes_up_to_a_message_and_never_back(either: colours.Driver, agent: MakeAgent):
    ann = agent()
    channel = fresh("room")
    ann.send_message(channel, "opening")
    either("read_messages", channel)
    times = [ann.send_message(channel, f"{number}")["message"]["created_at"] for number in range(6)]
    steps = [(just_before(times[0]), 6), (times[0], 5), (just_before(times[2]), 4), (times[3], 2), (times[1], 2),
             ("2001-01-01T00:00:00Z", 2), (times[5], 0), (times[2], 0)]  # fmt: skip
    reached = ""
    for through, expected in steps:
        position = either("mark_channel_read", channel, through=through)
        assert row_of(either(), channel)["unread"] == expected
        assert position["read_through"] >= reached  # ISO times of one form sort as times
        reached = position["read_through"]
    assert reached == times[5]


def test_a_message_of_the_own_between_others_is_never_counted(agent: MakeAgent):
    ann, bob = agent(), agent()
    channel = joined(ann, bob)
    times = [
        sender.send_message(channel, "x")["message"]["created_at"] for sender in (ann, bob, ann, ann, bob, ann, bob)
    ]
    for time, expected in zip(times, (3, 2, 2, 2, 1, 1, 0), strict=True):
        ann.mark_channel_read(channel, through=time)
        assert unread(ann, channel) == expected


@pytest.mark.parametrize("through", ["x", "", "2026-01-01", "9999-12-31T23:59:59Z", "{future}", 1, ["x"]])
def test_a_time_to_read_through_is_a_time_of_the_past(agent: MakeAgent, through: Any):
    ann, bob = agent(), agent()
    channel = joined(ann, bob)
    now = datetime.fromisoformat(bob.send_message(channel, "x")["message"]["created_at"])
    if through == "{future}":
        through = (now + timedelta(hours=1)).isoformat()
    status, answer = raw(ann, "POST", "/api/v2/channels/read", {"channel": channel, "through": through})
    assert (status, answer["code"]) == (400, "bad_request")
    assert unread(ann, channel) == 1


def test_through_null_is_now(agent: MakeAgent):
    ann, bob = agent(), agent()
    channel = joined(ann, bob)
    sent = bob.send_message(channel, "x")["message"]
    _, answer = raw(ann, "POST", "/api/v2/channels/read", {"channel": channel, "through": None})
    assert answer["data"] == {"channel": channel, "read_through": sent["created_at"]}
    assert unread(ann, channel) == 0


@pytest.mark.parametrize("channel", ["", "A", "a", None, 1, "n" * 101])
def test_marking_needs_a_channel(agent: MakeAgent, channel: Any):
    assert raw(agent(), "POST", "/api/v2/channels/read", {"channel": channel})[0] == 400


def test_marking_acknowledges_no_mention(either: colours.Driver, agent: MakeAgent):
    ann = agent()
    channel = fresh("room")
    ann.send_message(channel, f"hi @{either.client.agent}")
    either("read_messages", channel, mark_read=True)
    either("read_messages", channel, mark_read=True)
    either("mark_channel_read", channel)
    assert len(either("check_mentions")["mentions"]) == 1


def test_acknowledging_a_mention_reads_no_channel(either: colours.Driver, agent: MakeAgent):
    ann = agent()
    channel = fresh("room")
    either("send_message", channel, "x")
    ann.send_message(channel, f"hi @{either.client.agent}")
    either("mark_mentions_read", [row["mention_id"] for row in either("check_mentions")["mentions"]])
    assert row_of(either(), channel)["unread"] == 1


# Status posts


def test_status_posts_count_as_unread_for_nobody(either: colours.Driver, agent: MakeAgent):
    ann = agent()
    channel = fresh("room")
    either("send_message", channel, "x")
    post = [("status", 0), ("chat", 1), ("status", 1), ("status", 1), ("chat", 2), ("status", 2)]
    sent = []
    for kind, expected in post:
        sent.append(ann.send_message(channel, f"now @{either.client.agent}", kind=kind)["message"])
        assert row_of(either(), channel)["unread"] == expected
    assert [row["message_id"] for row in either("check_mentions")["mentions"]] == [sent[4]["id"], sent[1]["id"]]
    either("mark_channel_read", channel, through=sent[2]["created_at"])
    assert row_of(either(), channel)["unread"] == 1
    either("send_message", channel, "an own status", kind="status")
    assert row_of(either(), channel)["unread"] == 1
    either("mark_channel_read", channel)
    assert row_of(either(), channel)["unread"] == 0
    ann.send_message(channel, "x")
    assert row_of(either(), channel)["unread"] == 1


def test_no_count_is_lost_when_many_post_at_the_same_time(agent: MakeAgent):
    reader, watcher = agent(), agent()
    channel = joined(reader, watcher)
    writers = [agent() for _ in range(6)]

    def write(writer: Client) -> None:
        for number in range(20):
            writer.send_message(channel, "x", kind="status" if number % 4 == 0 else "chat")
            writer.send_direct_message(reader.agent, "x")

    def read() -> None:
        for _ in range(20):
            watcher.read_messages(channel, mark_read=True)
            reader.send_message(channel, "own")

    with ThreadPoolExecutor(7) as pool:
        waiting = [pool.submit(write, writer) for writer in writers] + [pool.submit(read)]
        for future in waiting:
            future.result(60)
    assert unread(reader, channel) == 6 * 15
    assert unread(reader, "direct-messages") == 6 * 20
    for _ in range(2):
        watcher.read_messages(channel, mark_read=True)
    assert unread(watcher, channel) == 0
    for writer in writers:
        writer.mark_channel_read(channel)
        assert unread(writer, channel) == 0


_STEP = st.tuples(
    st.sampled_from(["own", "own status", "other", "other status", "mark", "mark all", "read"]), st.integers(0)
)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(_STEP, max_size=25))
def test_unread_is_what_a_plain_count_says(live: Embedded, steps: list[tuple[str, int]]):
    """Against a list: what others posted as chat above the furthest place that was marked."""
    names = fresh(), fresh()
    with ExitStack() as stack:
        ann, bob = (stack.enter_context(Client(live.url, live.token(name), agent=name)) for name in names)
        channel = joined(ann, bob)
        posted: list[tuple[bool, str]] = []  # whether it counts, and when
        cursor, shown = "", ""
        for what, number in steps:
            if what == "mark" and posted:
                through = posted[number % len(posted)][1]
                ann.mark_channel_read(channel, through=through)
                cursor = max(cursor, through)
            elif what == "mark all":
                ann.mark_channel_read(channel)
                cursor = max([cursor, *(at for _, at in posted)])
            elif what == "read":
                page = ann.read_messages(channel, limit=number % 4 + 1, mark_read=True)["messages"]
                cursor, shown = max(cursor, shown), max([shown, *(row["created_at"] for row in page)])
            elif what in ("own", "other"):
                sent = (ann if what == "own" else bob).send_message(channel, "x")["message"]
                posted.append((what == "other", sent["created_at"]))
            elif what in ("own status", "other status"):
                sent = (ann if what == "own status" else bob).send_message(channel, "x", kind="status")["message"]
                posted.append((False, sent["created_at"]))
            assert unread(ann, channel) == sum(counts and at > cursor for counts, at in posted)


# Pages that mark what they showed


def test_a_page_counts_as_read_with_the_next_such_call(either: colours.Driver, agent: MakeAgent):
    ann = agent()
    channel = fresh("room")
    either("send_message", channel, "x")
    for number in range(3):
        ann.send_message(channel, f"{number}")
    either("read_messages", channel, mark_read=True)
    assert row_of(either(), channel)["unread"] == 3  # shown just now: the answer may be lost
    either("read_messages", channel)  # a read that does not mark
    assert row_of(either(), channel)["unread"] == 3
    ann.send_message(channel, "arrives in between")
    either("read_messages", channel, mark_read=True)
    assert row_of(either(), channel)["unread"] == 1
    either("read_messages", channel, mark_read=True)
    assert row_of(either(), channel)["unread"] == 0


def test_a_lost_answer_marks_nothing(either: colours.Driver, agent: MakeAgent):
    ann = agent()
    channel = fresh("room")
    either("send_message", channel, "x")

    def read(key: str) -> list[str]:
        page = either.with_options(idempotency_key=f"{key}-{channel}")("read_messages", channel, mark_read=True)
        return [row["content"] for row in page["messages"]]

    ann.send_message(channel, "first")
    for _ in range(3):  # the answer was lost twice
        assert read("one") == ["x", "first"]
        assert row_of(either(), channel)["unread"] == 1
    ann.send_message(channel, "second")
    assert read("one") == ["x", "first", "second"]  # lost again, and what came meanwhile is shown by the repeat
    assert row_of(either(), channel)["unread"] == 2
    assert read("two") == ["x", "first", "second"]
    assert row_of(either(), channel)["unread"] == 0
    ann.send_message(channel, "third")
    for _ in range(3):
        read("three")
        assert row_of(either(), channel)["unread"] == 1
    read("four")
    assert row_of(either(), channel)["unread"] == 0


def test_lost_answers_after_a_restart(tmp_path: Path):
    def read(ann: Client, key: str) -> None:
        ann.with_options(idempotency_key=key).read_messages("general", mark_read=True)

    with running(str(tmp_path), settings=UNLIMITED) as relay:
        keys = relay.token("mac-ann"), relay.token("mac-bob")
        with Client(relay.url, keys[0]) as ann, Client(relay.url, keys[1]) as bob:
            ann.read_messages("general")
            bob.send_message("general", "x")
            bob.send_message("general", "x", kind="status")
            ann.send_message("general", "own")
            read(ann, "one")
            assert unread(ann, "general") == 1
    with (
        running(str(tmp_path), settings=UNLIMITED) as relay,
        Client(relay.url, keys[0]) as ann,
        Client(relay.url, keys[1]) as bob,
    ):
        assert unread(ann, "general") == 1
        read(ann, "one")
        assert unread(ann, "general") == 1
        bob.send_message("general", "y")
        assert unread(ann, "general") == 2
        read(ann, "two")
        assert unread(ann, "general") == 1
        assert [row["agent_name"] for row in ann.list_readers("general")["readers"]] == ["mac-ann", "mac-bob"]


@pytest.mark.parametrize(
    ("text", "marks"), [("true", True), ("True", True), ("1", True), ("false", False), ("x", False)]
)
def test_marking_reads_without_a_key(agent: MakeAgent, text: str, marks: bool):
    """Clients that send no key: each call counts the page of the one before."""
    ann, bob = agent(), agent()
    channel = joined(ann, bob)
    bob.send_message(channel, "x")
    path = f"/api/v2/messages?channel={channel}&mark_read={text}"
    for expected in (1, 0 if marks else 1):
        raw(ann, "GET", path)
        assert unread(ann, channel) == expected


def test_an_older_page_moves_no_cursor_back(either: colours.Driver, agent: MakeAgent):
    ann = agent()
    channel = fresh("room")
    either("send_message", channel, "x")
    times = [ann.send_message(channel, f"{number}")["message"]["created_at"] for number in range(8)]
    page = either("read_messages", channel, limit=2, mark_read=True)
    either("read_messages", channel, limit=2, cursor=page["previous_cursor"], mark_read=True)
    assert row_of(either(), channel)["unread"] == 0
    ann.send_message(channel, "news")
    for _ in range(2):
        either("read_messages", channel, before=times[2], mark_read=True)
    assert row_of(either(), channel)["unread"] == 1


def test_a_page_that_shows_the_middle_marks_up_to_there(either: colours.Driver, agent: MakeAgent):
    ann = agent()
    channel = fresh("room")
    either("send_message", channel, "x")
    times = [ann.send_message(channel, f"{number}")["message"]["created_at"] for number in range(8)]
    either("read_messages", channel, before=times[5], mark_read=True)
    either("read_messages", channel, before=times[1], mark_read=True)
    assert row_of(either(), channel)["unread"] == 3


def test_the_first_read_joins_also_when_it_marks(either: colours.Driver, agent: MakeAgent):
    ann = agent()
    channel = fresh("room")
    ann.send_message(channel, "history")
    assert len(either("read_messages", channel, mark_read=True)["messages"]) == 1
    row = row_of(either(), channel)
    assert (row["joined"], row["unread"]) == (True, 0)


# Readers


def test_readers_are_listed_the_last_to_move_first(either: colours.Driver, agent: MakeAgent):
    ann, bob = agent(), agent()
    channel = fresh("room")
    times = [ann.send_message(channel, f"{number}")["message"]["created_at"] for number in range(3)]
    either("read_messages", channel)
    bob.read_messages(channel)
    times += [ann.send_message(channel, f"{number}")["message"]["created_at"] for number in range(3, 6)]
    marked = either("mark_channel_read", channel, through=times[4])
    assert marked == {"channel": channel, "read_through": times[4]}
    readers = either("list_readers", channel)
    assert readers["channel"] == channel
    rows = {row["agent_name"]: row for row in readers["readers"]}
    assert readers["readers"][0]["agent_name"] == either.client.agent
    assert rows[either.client.agent].keys() == {"agent_name", "read_through", "updated_at"}
    assert rows[either.client.agent]["read_through"] == times[4]
    assert rows[bob.agent]["read_through"] == times[2]  # joined at the then newest message
    bob.mark_channel_read(channel)
    first = either("list_readers", channel)["readers"][0]
    assert (first["agent_name"], first["read_through"]) == (bob.agent, times[5])
    times = [row["updated_at"] for row in either("list_readers", channel)["readers"]]
    assert times == sorted(times, reverse=True)


def test_only_members_read_a_channel_and_asking_joins_nobody(agent: MakeAgent):
    ann, bob = agent(), agent()
    channel = fresh("room")
    ann.send_message(channel, "x")
    names = [row["agent_name"] for row in bob.list_readers(channel)["readers"]]
    assert names == [ann.agent]
    assert bob.list_channels()["channels"] == []
    assert raw(ann, "GET", "/api/v2/channels/read")[0] == 400


# The channel of direct messages


def test_direct_messages_are_unread_until_acknowledged(either: colours.Driver, agent: MakeAgent):
    ann, cid = agent(), agent()
    me = either.client.agent
    for number in range(3):
        ann.send_direct_message(me, f"{number}")
        ann.send_direct_message(cid.agent, "not for me")
        either("send_direct_message", cid.agent, "from me")
    row = row_of(either(), "direct-messages")
    assert (row["unread"], row["unread_count"], row["joined"], row["type"]) == (3, 3, True, "global")
    assert row["latest"]["content"] == f"@{cid.agent} from me"
    either("read_messages", "direct-messages", mark_read=True)
    either("read_messages", "direct-messages", mark_read=True)
    either("mark_channel_read", "direct-messages")
    assert row_of(either(), "direct-messages")["unread"] == 3  # only acknowledging ends them
    ids = [row["mention_id"] for row in either("check_mentions")["mentions"]]
    for left in (2, 1, 0):
        either("mark_mentions_read", [ids[left]])
        assert row_of(either(), "direct-messages")["unread"] == left
    assert unread(ann, "direct-messages") == 0  # own ones are no news
    assert unread(cid, "direct-messages") == 6


def test_read_state_of_direct_messages_tells_nothing_of_foreign_ones(agent: MakeAgent):
    """Neither that there are any, nor when, nor between whom."""
    ann, bob, cid = agent(), agent(), agent()
    cid.send_direct_message(ann.agent, "x")

    def seen() -> list[Any]:
        marked = ann.mark_channel_read("direct-messages")
        return [marked, ann.check_board(), ann.list_readers("direct-messages")]

    before = seen()
    bob.send_direct_message(cid.agent, "secret")
    assert seen() == before


def test_an_outsider_sees_no_latest_direct_message(agent: MakeAgent):
    ann, bob, cid = agent(), agent(), agent()
    ann.send_direct_message(bob.agent, "secret")
    rows = {row["channel"]: row for row in cid.check_board()["channels"]}
    assert rows.get("direct-messages", {"latest": None})["latest"] is None
    cid.read_messages("direct-messages")
    row = row_of(cid.check_board(), "direct-messages")
    assert (row["latest"], row["unread"]) == (None, 0)


# Repeats


def test_a_repeated_mark_moves_nothing_further(either: colours.Driver, agent: MakeAgent):
    ann = agent()
    channel = fresh("room")
    either("send_message", channel, "x")
    ann.send_message(channel, "seen")
    keyed = either.with_options(idempotency_key=uuid4().hex)
    first = keyed("mark_channel_read", channel)
    ann.send_message(channel, "came after the answer was lost")
    assert keyed("mark_channel_read", channel) == first
    assert row_of(either(), channel)["unread"] == 1


def test_unknown_channels_cannot_be_read(agent: MakeAgent):
    ann = agent()
    name = fresh("nowhere")
    for path in (f"/api/v2/channels/read?{urlencode({'channel': name})}", f"/api/v2/messages?channel={name}"):
        assert raw(ann, "GET", path)[0] == 404
    with pytest.raises(errors.NotFound):
        ann.mark_channel_read(name)
