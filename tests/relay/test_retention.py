"""Retention: what had its time is gone everywhere, what had not stays, and the clock is not taken at its word."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentchat import Client, errors
from agentchat_relay import chores
from agentchat_relay.blobs.directory import DirectoryBlobs
from agentchat_relay.blobs.guards import kept
from agentchat_relay.blobs.seam import Hold
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.service import administration, retention
from agentchat_relay.store.sqlite import index as search_index
from tests.relay import database
from tests.relay.conftest import UNLIMITED, Clock, purge_all, until

DAY = 86_400.0


class Place:
    """A relay with a clock, and what tests ask of it."""

    def __init__(self, relay: Embedded, stack: contextlib.ExitStack) -> None:
        self.relay = relay
        self._stack = stack

    def agent(self, name: str) -> Client:
        made = Client(self.relay.url, self.relay.token(name), agent=name, retries=0)
        return self._stack.enter_context(made)

    def keep(self, days: int, channel: str | None = None) -> None:
        if channel is None:
            self.relay.ask(lambda tx: administration.space_update(tx, name="main", retention=days))
        else:
            self.relay.ask(lambda tx: administration.channel_update(tx, name=channel, retention=days))

    def purge(self) -> int:
        """Everything that is due, as the relay does it by itself."""
        return purge_all(self.relay.relay.store)  # type: ignore[union-attr]

    def rows(self, sql: str) -> list[Any]:
        return database.ask(self.relay, sql)

    def has_forgotten(self) -> bool:
        """Whether no words are left of what is gone."""
        waiting = "SELECT count(*) FROM unindexed"
        if "unindexed" not in database.tables(self.relay):  # Postgres deletes a message's words with it
            waiting = "SELECT count(*) FROM fulltext WHERE id NOT IN (SELECT id FROM messages)"
        return bool(self.rows(waiting) == [(0,)])


@contextlib.contextmanager
def place_at(path: Path) -> Iterator[Place]:
    with contextlib.ExitStack() as stack:
        yield Place(stack.enter_context(running(str(path), settings=UNLIMITED)), stack)


@pytest.fixture
def place(clock: Clock, tmp_path: Path) -> Iterator[Place]:
    with place_at(tmp_path) as made:
        yield made


def texts(page: Any) -> list[str]:
    return [message["content"] for message in page["messages"]]


def found(client: Client, words: str, channel: str | None = None) -> list[str]:
    return sorted(hit["content"] for hit in client.search_messages(words, channel=channel)["results"])


def row_of(client: Client, channel: str) -> Any:
    return next(row for row in client.check_board()["channels"] if row["channel"] == channel)


# What is gone


def test_what_had_its_time_is_gone_everywhere(place: Place, clock: Clock):
    ann, bob = place.agent("ann"), place.agent("bob")
    old = ann.send_message("room", "old elephant for @bob")["message"]["id"]
    reply = ann.send_message("room", "old reply", parent_message_id=old)["message"]["id"]
    ann.send_message("room", "old status", kind="status")
    ann.pin_message(old)
    direct = ann.send_direct_message("bob", "old secret elephant")["message"]["id"]
    clock.ahead = 8 * DAY
    ann.send_message("room", "new elephant for @bob", parent_message_id=reply)
    place.keep(7)
    assert place.purge() == 4
    page = bob.read_messages("room", include_status=True)
    assert texts(page) == ["new elephant for @bob"]
    assert page["has_more"] is False
    assert texts(bob.read_messages("direct-messages")) == []
    assert [mention["content"] for mention in bob.check_mentions(unread=False)["mentions"]] == ["new elephant for @bob"]
    assert found(bob, "elephant") == ["new elephant for @bob"]
    assert found(bob, "elephant", "room") == ["new elephant for @bob"]
    assert texts(bob.list_pinned_messages("room")) == []
    for gone in (old, reply, direct):
        with pytest.raises(errors.NotFound):
            bob.get_message(gone)
        with pytest.raises(errors.NotFound):
            bob.pin_message(gone)
    until(place.has_forgotten)


def test_what_is_not_over_stays_in_the_inbox(place: Place, clock: Clock):
    ann, bob = place.agent("ann"), place.agent("bob")
    place.relay.ask(lambda tx: administration.agent_grant(tx, name="bob", role="reviewer"))
    bob.set_card(capabilities=["count"])
    week = 7 * 86_400
    interrupt = ann.send_interrupt("bob", "stop", expires_in=week)["interrupt"]
    private = ann.create_task("count", target_agent="bob")["task"]
    shared = ann.create_task("count more", channel="room", capability_tags=["count"])["task"]
    approval = ann.request_approval("deploy", "{}", expires_in=week)["approval"]
    late = ann.send_interrupt("bob", "stop briefly", expires_in=60)["interrupt"]
    over = ann.create_task("over", target_agent="bob")["task"]
    bob.claim_task(over["id"])
    bob.complete_task(over["id"], "done")
    ann.send_direct_message("bob", "old")
    bob.claim_items(limit=1)
    was = {item["item_id"]: (item["kind"], item["content"], item["from"]) for item in bob.peek_inbox()["items"]}
    place.keep(1)
    for days in (2, 4):
        clock.ahead = days * DAY
        assert place.purge()
        items = bob.peek_inbox()["items"]
        wanted = [interrupt["id"], private["id"], shared["id"], approval["id"]]
        assert [item.get("work", {})["id"] for item in items] == wanted, "the rest is over, or no work"
        for item in items:
            assert (item["kind"], item["content"], item["from"]) == was[item["item_id"]]
            assert bob.get_message(item["message_id"])["message"]["content"] == item["content"]
    assert [item for item in ann.peek_inbox()["items"] if item["kind"] == "task"] == [], "a result is no open work"
    assert texts(bob.read_messages("room")) == ["Task: count more (takes count)"]
    found = bob.get_interrupt(interrupt["id"])["interrupt"]
    assert (found["message_id"], found["seen_at"] is None) == (items[0]["message_id"], False)
    assert bob.get_interrupt(late["id"])["interrupt"]["state"] == "expired"
    bob.acknowledge_interrupt(interrupt["id"])
    bob.claim_task(private["id"])
    bob.claim_task(shared["id"])
    bob.decide_approval(approval["id"], "deny")
    assert bob.peek_inbox()["items"] == [], "each ends with what it is about"


@pytest.mark.sqlite
def test_no_words_are_left_in_the_index(place: Place, clock: Clock):
    ann = place.agent("ann")
    for number in range(30):
        ann.send_message("room", f"platypus {number}")
        ann.send_message("kept", f"wombat {number}")
    ann.search_messages("platypus")
    place.keep(1, "room")
    clock.ahead = 2 * DAY
    assert place.purge() == 30
    assert len(found(ann, "wombat")) == 30
    until(place.has_forgotten)
    with contextlib.closing(sqlite3.connect(os.path.join(place.relay.directory.path, "search.db"))) as index:
        index.execute("CREATE VIRTUAL TABLE temp.words USING fts5vocab(main, 'fulltext', 'row')")
        words = {row[0] for row in index.execute("SELECT term FROM temp.words")}
        index.execute("INSERT INTO fulltext (fulltext, rank) VALUES ('integrity-check', 0)")
    assert "wombat" in words
    assert "platypu" not in words


def test_the_board_and_unread_count_what_is_there(place: Place, clock: Clock):
    ann, bob, idle = place.agent("ann"), place.agent("bob"), place.agent("idle")
    ann.send_message("room", "opening")
    for reader in (bob, idle):
        reader.read_messages("room")
    for number in range(3):
        ann.send_message("room", f"a{number}")
        bob.send_message("room", f"b{number}")
    clock.ahead = 2 * DAY
    place.keep(1, "room")
    assert row_of(idle, "room")["unread"] == 6
    place.purge()
    for reader in (ann, bob, idle):
        row = row_of(reader, "room")
        assert row["unread"] == 0
        assert row["latest"] is None
    ann.send_message("room", "later")
    assert [row_of(reader, "room")["unread"] for reader in (ann, bob, idle)] == [0, 1, 1]
    bob.mark_channel_read("room")
    assert [row_of(reader, "room")["unread"] for reader in (ann, bob, idle)] == [0, 0, 1]


def test_own_posts_below_the_cursor_are_not_counted_twice(place: Place, clock: Clock):
    ann, bob = place.agent("ann"), place.agent("bob")
    bob.send_message("room", "b0")
    bob.mark_channel_read("room")
    bob.send_message("room", "b1")
    ann.send_message("room", "a0")
    assert row_of(bob, "room")["unread"] == 1
    place.keep(1, "room")
    clock.ahead = 2 * DAY
    ann.send_message("room", "late")
    place.purge()
    assert row_of(bob, "room")["unread"] == 1
    assert row_of(ann, "room")["unread"] == 0


def test_what_waited_for_somebody_has_expired(place: Place, clock: Clock):
    ann, bob = place.agent("ann"), place.agent("bob")
    ann.send_message("room", "@bob one")
    ann.send_message("room", "@bob two")
    done, _ = (mention["mention_id"] for mention in bob.check_mentions()["mentions"])
    bob.mark_mentions_read([done])
    ann.send_direct_message("bob", "three")
    assert row_of(bob, "direct-messages")["unread"] == 1
    place.keep(1)
    clock.ahead = 2 * DAY
    place.purge()
    assert bob.check_mentions(unread=False)["mentions"] == []
    assert row_of(bob, "direct-messages")["unread"] == 0
    assert len(place.rows("SELECT 1 FROM events WHERE kind = 'inbox.expired'")) == 2
    assert place.rows("SELECT 1 FROM inbox") == []
    assert bob.mark_mentions_read([done])["marked_read"] == 1  # a late one is no error


# What stays


def test_a_channel_keeps_longer_or_shorter_than_its_space(place: Place, clock: Clock):
    ann = place.agent("ann")
    for channel in ("short", "usual", "endless"):
        ann.send_message(channel, channel)
    place.keep(10)
    place.keep(1, "short")
    place.keep(0, "endless")

    def left() -> list[str]:
        place.purge()
        return [name for name in ("short", "usual", "endless") if texts(ann.read_messages(name))]

    clock.ahead = 0.9 * DAY
    assert left() == ["short", "usual", "endless"]
    clock.ahead = 2 * DAY
    assert left() == ["usual", "endless"]
    clock.ahead = 400 * DAY
    assert left() == ["endless"]
    place.relay.ask(lambda tx: administration.channel_update(tx, name="endless", as_space=True))
    assert left() == []


def test_another_space_is_not_touched(place: Place, clock: Clock):
    place.relay.space("other")
    far = Client(place.relay.url, place.relay.token("far", space="other"), retries=0)
    near = place.agent("near")
    for agent in (far, near):
        agent.send_message("general", "hello")
    place.keep(1)
    clock.ahead = 2 * DAY
    place.purge()
    assert texts(near.read_messages("general")) == []
    assert texts(far.read_messages("general")) == ["hello"]
    far.close()


def test_cursors_to_what_is_gone_still_work(place: Place, clock: Clock):
    ann = place.agent("ann")
    root = ann.send_message("room", "m0")["message"]["id"]
    for number in range(1, 6):
        clock.ahead += DAY
        ann.send_message("room", f"m{number}", parent_message_id=root)
    newest = ann.read_messages("room", limit=2)
    oldest = ann.read_messages("room", limit=4, cursor=newest["previous_cursor"])
    assert texts(oldest) == ["m0", "m1", "m2", "m3"]
    thread = ann.read_thread(root, limit=2)
    place.keep(3, "room")
    clock.ahead += 0.5 * DAY
    assert place.purge() == 3
    assert texts(ann.read_messages("room", cursor=newest["previous_cursor"])) == ["m3"]
    assert texts(ann.read_messages("room", cursor=oldest["previous_cursor"])) == []
    assert texts(ann.read_messages("room", cursor=oldest["next_cursor"])) == ["m4", "m5"]
    reply = ann.read_messages("room")["messages"][0]
    assert reply["parent_message_id"] is None
    rest = ann.read_thread(reply["id"], limit=2, cursor=thread["next_cursor"])
    assert texts(rest) == ["m3", "m4"]
    assert texts(ann.read_thread(reply["id"], cursor=rest["next_cursor"])) == ["m5"]


def test_a_message_id_is_never_given_twice(clock: Clock, tmp_path: Path):
    with place_at(tmp_path) as place:
        ann = place.agent("ann")
        for number in range(3):
            ann.send_message("room", f"old giraffe {number}")
        place.keep(1, "room")
        clock.ahead = 2 * DAY
        place.purge()
        assert place.rows("SELECT count(*) FROM messages") == [(0,)]
        assert found(ann, "giraffe") == []
    with place_at(tmp_path) as place:
        ann = place.agent("ann")
        ann.send_message("room", "new giraffe")
        assert place.rows("SELECT id FROM messages") == [(4,)]
        assert found(ann, "giraffe") == ["new giraffe"]


@pytest.mark.sqlite
def test_the_index_is_not_made_again_for_what_is_gone(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with place_at(tmp_path) as place:
        ann = place.agent("ann")
        ann.send_message("kept", "the giraffe stays")
        ann.send_message("room", "the giraffe goes")
        assert len(found(ann, "giraffe")) == 2
        place.keep(1, "room")
        clock.ahead = 2 * DAY
        place.purge()
        assert found(ann, "giraffe") == ["the giraffe stays"]
    monkeypatch.setattr(search_index, "_ADD", "SELECT 'nothing is to be indexed', ?, ?")
    with place_at(tmp_path) as place:
        assert found(place.agent("ann"), "giraffe") == ["the giraffe stays"]


@pytest.mark.sqlite
@pytest.mark.parametrize("lost", ["the index", "what was taken out"])
def test_an_index_that_is_behind_catches_up(clock: Clock, tmp_path: Path, lost: str):
    """As a power cut may leave it: the file is gone, or it is older than the database."""
    with place_at(tmp_path) as place:
        ann = place.agent("ann")
        for channel in ("room", "kept"):
            ann.send_message(channel, f"zebra {channel}")
        assert len(found(ann, "zebra")) == 2
    before = (tmp_path / "search.db").read_bytes()
    with place_at(tmp_path) as place, contextlib.closing(sqlite3.connect(tmp_path / "agentchat.db")) as rows:
        place.keep(1, "room")
        clock.ahead = 2 * DAY
        rows.execute("CREATE TEMP TABLE words AS SELECT * FROM unindexed")
        place.purge()
        place.agent("ann").send_message("room", "zebra anew")
    with contextlib.closing(sqlite3.connect(tmp_path / "agentchat.db")) as rows, rows:
        if not rows.execute("SELECT count(*) FROM unindexed").fetchone()[0]:  # forgotten already: put it back
            words = "'zebra room', 's1 c' || (SELECT id FROM channels WHERE name = 'room')"
            rows.execute(f"INSERT INTO unindexed (message_id, content, place) SELECT 1, {words}")
    for file in tmp_path.glob("search.db*"):
        file.unlink()
    if lost == "what was taken out":
        (tmp_path / "search.db").write_bytes(before)
    with place_at(tmp_path) as place:
        assert found(place.agent("ann"), "zebra") == ["zebra anew", "zebra kept"]
        until(place.has_forgotten)
        index = sqlite3.connect(tmp_path / "search.db")
        index.execute("INSERT INTO fulltext (fulltext, rank) VALUES ('integrity-check', 0)")
        assert index.execute("SELECT rowid FROM fulltext WHERE fulltext MATCH 'content : zebra'").fetchall() == [
            (2,),
            (3,),
        ]
        index.close()


Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["send", "status", "read", "mark", "day", "purge"]), st.integers(0, 2)), max_size=25
)


@given(steps=STEPS)
@settings(max_examples=30, deadline=None)
def test_unread_is_what_others_posted_and_is_there(model_place: tuple[Place, Clock], steps: list[Step]):
    place, clock = model_place
    channel = f"room-{next(_channels)}"
    agents = [place.agent(f"{name}-{channel}") for name in ("ann", "bob", "cleo")]
    agents[0].send_message(channel, "opening")
    for agent in agents:
        agent.read_messages(channel)
    place.keep(2, channel)
    posts: list[tuple[float, int]] = []  # chats after the opening: when, and by whom
    read = [0, 0, 0]  # how many of all chats an agent has read
    gone = 0
    for what, who in steps:
        agent = agents[who]
        match what:
            case "send":
                agent.send_message(channel, "text")
                posts.append((clock.ahead, who))
            case "status":
                agent.send_message(channel, "at work", kind="status")
            case "read" | "mark":
                page = agent.read_messages(channel, limit=2)["messages"]
                if what == "mark" and page:
                    agent.mark_channel_read(channel, through=page[0]["created_at"])
                    left = len(posts) - gone
                    read[who] = max(read[who], len(posts) - min(len(page) - 1, left))
            case "day":
                clock.ahead += DAY
            case "purge":
                place.purge()
                gone = sum(at <= clock.ahead - 2 * DAY for at, _ in posts)
        for number, reader in enumerate(agents if what in ("mark", "purge") else []):
            expected = [by for by in (by for _, by in posts[max(gone, read[number]) :]) if by != number]
            assert row_of(reader, channel)["unread"] == len(expected)


_channels = iter(range(1_000_000))


@pytest.fixture(scope="module")
def model_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Clock]]:
    with pytest.MonkeyPatch.context() as patch, place_at(tmp_path_factory.mktemp("model")) as place:
        yield place, Clock(patch)


# Files


def contents(place: Place) -> list[str]:
    root = Path(place.relay.directory.path) / "blobs"
    return sorted(path.read_text() for path in root.glob("*/??/*"))


def tidy(place: Place) -> None:
    relay = place.relay.relay
    assert relay is not None
    task = chores.Chores(relay.parts)
    asyncio.run_coroutine_threadsafe(task._tidy(), relay.parts._loop).result(timeout=20)


def test_a_content_goes_with_its_last_file(place: Place, clock: Clock):
    ann = place.agent("ann")
    gone = ann.upload_file("room", "a.txt", "both")["file"]["path"]
    ann.upload_file("room", "b.txt", "room only")
    kept_path = ann.upload_file("kept", "c.txt", "both")["file"]["path"]
    link = ann.get_file_url(gone)["signed_url"]
    place.keep(1, "room")
    clock.ahead = 2 * DAY
    assert place.purge() == 4  # two files, two messages that announced them
    tidy(place)
    assert contents(place) == ["both"]
    assert ann.download_file(kept_path)["content"] == b"both"
    assert ann.list_files("room")["files"] == []
    with pytest.raises(errors.NotFound):
        ann.download_file(gone)
    assert place.rows("SELECT * FROM dropped_blobs") == []
    clock.ahead = 0  # the link is good for an hour
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(link, timeout=20)


def test_a_link_to_a_file_that_is_gone_gives_no_other(place: Place, clock: Clock):
    """Which may have its number now."""
    ann = place.agent("ann")
    link = ann.get_file_url(ann.upload_file("room", "a.txt", "old")["file"]["path"])["signed_url"]
    place.keep(1, "room")
    clock.ahead = 2 * DAY
    place.purge()
    other = ann.get_file_url(ann.upload_file("kept", "a.txt", "old")["file"]["path"])["signed_url"]
    assert place.rows("SELECT id FROM files") == [(1,)] or database.engine == "postgres"  # gives no number twice
    clock.ahead = 0  # the first link is good for an hour
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(link, timeout=20)
    with urllib.request.urlopen(other, timeout=20) as answer:
        assert answer.read() == b"old"


def test_a_content_that_cannot_be_removed_is_in_nobodys_way(place: Place, clock: Clock):
    ann = place.agent("ann")
    for number in range(5):
        ann.upload_file("room", f"{number}.txt", f"content {number}")
    place.keep(1, "room")
    clock.ahead = 2 * DAY
    place.purge()
    stuck = sorted(Path(place.relay.directory.path, "blobs").glob("*/??/*"))[2]
    text = stuck.read_text()
    stuck.unlink()
    stuck.mkdir()  # nobody can unlink that
    tidy(place)
    assert [path.name for path in Path(place.relay.directory.path, "blobs").glob("*/??/*")] == [stuck.name]
    assert place.rows("SELECT hash FROM dropped_blobs") == [(stuck.name,)]
    stuck.rmdir()
    stuck.write_text(text)
    tidy(place)
    assert contents(place) == []
    assert place.rows("SELECT hash FROM dropped_blobs") == []


def test_a_backup_holds_contents(place: Place, clock: Clock):
    ann = place.agent("ann")
    ann.upload_file("room", "a.txt", "needed")
    place.keep(1, "room")
    clock.ahead = 2 * DAY
    place.purge()
    with kept(os.path.join(place.relay.directory.path, "blobs")):
        tidy(place)
        assert contents(place) == ["needed"]
    tidy(place)
    assert contents(place) == []


def test_an_upload_of_the_same_content_keeps_it(tmp_path: Path):
    """Between the moment a content is found on disk and the commit of its file."""
    blobs = DirectoryBlobs(str(tmp_path / "blobs"))

    def stored() -> tuple[str, Hold]:
        with blobs.writer(1) as writer:
            writer.write(b"again")
            return writer.finish(), writer.hold

    hash, hold = stored()
    hold.release()
    same, hold = stored()  # a second upload, whose file is not committed yet
    assert same == hash
    assert blobs.drop(1, hash, lambda: False) is False
    hold.release()
    assert blobs.drop(1, hash, lambda: True) is True  # its file is there now
    with blobs.open(1, hash) as file:
        assert file.read() == b"again"
    assert blobs.drop(1, hash, lambda: False) is True
    with pytest.raises(errors.NotFound):
        blobs.open(1, hash)


def test_uploads_race_with_removal(place: Place, clock: Clock):
    """The same content again and again, while its older files are purged: what was acknowledged can be read."""
    ann = place.agent("ann")
    ann.send_message("room", "opening")
    place.keep(1, "room")
    over = threading.Event()
    told: list[str] = []

    def upload() -> None:
        with Client(place.relay.url, place.relay.token("bob"), retries=0) as bob:
            for number in range(40):
                told.append(bob.upload_file("room", f"{number}.txt", "the same")["file"]["path"])
                clock.ahead += DAY / 4
        over.set()

    thread = threading.Thread(target=upload)
    thread.start()
    while not over.is_set():
        place.purge()
        tidy(place)
    thread.join()
    for path in told[-3:]:
        assert ann.download_file(path)["content"] == b"the same"


# The clock


class Hands:
    """Two clocks, in seconds."""

    def __init__(self) -> None:
        self.wall = 1_000_000.0
        self.steady = 50.0

    def pass_(self, seconds: float, jump: float = 0.0) -> None:
        self.steady += seconds
        self.wall += seconds + jump

    def told(self) -> int:
        return int(self.wall * 1e6)

    def doubted(self) -> chores.DoubtedClock:
        return chores.DoubtedClock(lambda: self.steady)


@pytest.mark.parametrize("jump", [7200.0, -7200.0, 3.2e7, -3.2e7])
def test_a_jump_is_believed_after_an_hour(jump: float, caplog: pytest.LogCaptureFixture):
    hands = Hands()
    clock = hands.doubted()
    hands.pass_(601)
    assert clock.believed(hands.told()) == hands.told()
    hands.pass_(60, jump)
    assert clock.believed(hands.told()) is None
    assert "The clock jumped" in caplog.text
    for _ in range(59):
        hands.pass_(60)
        assert clock.believed(hands.told()) is None
    hands.pass_(61)
    assert clock.believed(hands.told()) == hands.told()


def test_a_clock_that_is_slow_or_set_a_little_is_believed():
    hands = Hands()
    clock = hands.doubted()
    assert clock.believed(hands.told()) is None  # the first minutes
    hands.pass_(601)
    for _ in range(1000):
        hands.pass_(60, 30)
        assert clock.believed(hands.told()) is not None


def test_a_jump_in_the_middle_of_a_pass_deletes_nothing(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Each portion goes by a time that was looked at; the store's own clock may be years ahead by then."""
    monkeypatch.setattr(chores, "_BETWEEN", 0.01)
    monkeypatch.setattr(chores, "_AT_FIRST", 0.0)
    with place_at(tmp_path) as place:
        ann = place.agent("ann")
        for channel in ("early", "late"):
            ann.send_message(channel, "young")
        place.keep(1)
        due = retention.due

        def jumping(tx: Any, at: int) -> list[int]:
            found = due(tx, at)
            clock.ahead = 10 * DAY
            return [row[0] for row in tx._execute("SELECT id FROM channels").fetchall()] or found

        monkeypatch.setattr(retention, "due", jumping)
        until(lambda: "The clock jumped" in caplog.text)
        assert [texts(ann.read_messages(channel)) for channel in ("early", "late")] == [["young"], ["young"]]


def test_the_relay_purges_by_itself(monkeypatch: pytest.MonkeyPatch, clock: Clock, tmp_path: Path):
    monkeypatch.setattr(chores, "_BETWEEN", 0.01)
    with place_at(tmp_path) as place:
        ann = place.agent("ann")
        for number in range(450):
            ann.send_message("room", f"text {number}")
        ann.upload_file("room", "a.txt", "content")
        place.keep(1, "room")
    clock.ahead = 2 * DAY
    with place_at(tmp_path) as place:  # which knows no other time
        ann = place.agent("ann")
        for _ in range(3):  # nothing is purged in the first minutes
            ann.send_message("general", "later")
            assert len(texts(ann.read_messages("room", limit=200))) == 200
    monkeypatch.setattr(chores, "_AT_FIRST", 0.0)
    with place_at(tmp_path) as place:
        ann = place.agent("ann")
        until(lambda: not texts(ann.read_messages("room")) and not contents(place))
        rows = place.relay.ask(lambda tx: administration.channel_list(tx))["channels"]
        assert next(row["messages"] for row in rows if row["name"] == "room") == 0


Ask = Callable[..., Any]


def test_an_operator_sets_and_sees_it(place: Place):
    administer: Ask = place.relay.ask
    row = administer(lambda tx: administration.space_add(tx, name="brief", retention=3))
    assert row["retention"] == 3
    row = administer(lambda tx: administration.channel_update(tx, name="general", retention=0, space="brief"))
    assert (row["retention"], row["own_retention"]) == (0, True)
    rows = administer(lambda tx: administration.channel_list(tx, space="brief"))["channels"]
    assert {row["name"]: row["retention"] for row in rows} == {"direct-messages": 3, "general": 0, "global": 3}
    for wrong in ({}, {"retention": 1, "as_space": True}):
        with pytest.raises(errors.BadRequest):
            administer(lambda tx, wrong=wrong: administration.channel_update(tx, name="general", **wrong))
    with pytest.raises(errors.BadRequest):
        administer(lambda tx: administration.space_update(tx, name="main"))
    with pytest.raises(errors.NotFound, match="Did you mean general"):
        administer(lambda tx: administration.channel_update(tx, name="generel", retention=1))
