"""Ephemeral messages: gone from every file once they are dealt with, and nothing else is wrong afterwards."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentchat import Client, errors
from agentchat_relay import chores
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.keeping.doctor import examine
from agentchat_relay.keeping.progress import Progress
from agentchat_relay.keeping.visit import Finding
from agentchat_relay.service import administration, channels, vanishing
from agentchat_relay.store.seam import Lane
from tests.faults.relay_process import Process
from tests.relay import database
from tests.relay.conftest import UNLIMITED, Clock, until

HOUR = 3600.0
DAY = 86_400


class Place:
    """A relay, and what tests ask of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack = contextlib.ExitStack()
        self.relay: Embedded = self._stack.enter_context(running(str(path), settings=UNLIMITED))

    def agent(self, name: str) -> Client:
        made = Client(self.relay.url, self.relay.token(name), agent=name, retries=0)
        return self._stack.enter_context(made)

    def close(self) -> None:
        self._stack.close()

    def rows(self, sql: str) -> list[Any]:
        return database.ask(self.relay, sql)

    def files_with(self, words: list[str]) -> list[str]:
        return words_in(self.path, words)


def words_in(path: Path, words: list[str]) -> list[str]:
    """Names of files in which any of these words, or half of one, is to be found."""
    parts = [part for word in words for part in (word.encode(), word[: len(word) // 2].encode())]
    found = []
    for file in [*path.rglob("*")]:
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            content = file.read_bytes()
            found += [str(file.relative_to(path)) for part in parts if part in content]
    return sorted(set(found))


@pytest.fixture
def place(clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Place]:
    monkeypatch.setattr(chores, "_AT_FIRST", 0.0)
    monkeypatch.setattr(chores, "_BETWEEN", 0.05)
    made = Place(tmp_path)
    yield made
    made.close()


def unlike() -> str:
    """A word that is nowhere else."""
    return f"wörd{secrets.token_hex(12)}"


def is_gone(client: Client, message_id: str) -> bool:
    try:
        client.get_message(message_id)
    except errors.NotFound as error:
        return "has vanished" in error.message
    return False


def sent(answer: Any) -> str:
    return str(answer["message"]["id"])


def contents(page: Any) -> list[str]:
    return [message["content"] for message in page["messages"]]


def unread(client: Client, channel: str) -> int:
    return next(row["unread"] for row in client.check_board()["channels"] if row["channel"] == channel)


# Physically


@pytest.mark.sqlite
@pytest.mark.parametrize("length", [1, 40, 700])
def test_no_file_holds_what_vanished(place: Place, length: int):
    """While the relay runs, with messages before, between and after that stay, and once it is closed."""
    ann, bob = place.agent("ann"), place.agent("bob")
    words = [unlike() for _ in range(60)]
    ids = []
    for number, word in enumerate(words):
        ann.send_message("room", f"a post that stays {number}")
        if number % 3:
            ids.append(sent(ann.send_direct_message("bob", f"{word} " * length, metadata={"m": word}, ephemeral=True)))
        else:
            ids.append(sent(ann.send_message("war", f"@bob {word} " * length, vanish_after=DAY)))
    ann.upload_file("war", f"{words[0]}.txt", words[0] * 3)
    assert place.files_with(words[1:2])  # the looking finds something
    assert ann.search_messages(words[1])["results"] == []
    for number in range(0, 60, 2):
        claimed = bob.claim_items(limit=2 + number % 5)
        if claimed["claim_id"]:
            bob.acknowledge_items(claimed["claim_id"])
    while bob.claim_items(limit=50, acknowledge=True)["items"]:
        pass
    until(lambda: all(is_gone(ann, id) for id in ids))
    until(lambda: not place.files_with(words[1:]))
    place.close()
    assert place.files_with(words[1:]) == []


@pytest.mark.sqlite
def test_a_file_goes_with_its_channel(place: Place, clock: Clock):
    ann = place.agent("ann")
    word, name = unlike(), unlike()
    ann.send_message("war", "first", vanish_after=1800)
    stored = ann.upload_file("war", f"{name}.txt", word * 50, content_type="text/plain")["file"]
    assert stored["name"] == f"{name}.txt"
    assert ann.download_file(stored["path"])["content"] == (word * 50).encode()
    assert place.files_with([word])
    clock.ahead = 2000.0
    until(lambda: not place.files_with([word, name]))
    assert ann.list_files("war")["files"] == []
    with pytest.raises(errors.NotFound):
        ann.download_file(stored["path"])
    place.close()
    assert place.files_with([word, name]) == []


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    with contextlib.closing(Process(tmp_path / "relay", tmp_path / "log")) as made:
        yield made


@pytest.mark.sqlite
def test_a_killed_relay_goes_on_at_its_next_start(process: Process, tmp_path: Path):
    """Whatever it was at: kill -9 right after acknowledgements, with more and more of them before the last one."""
    data = tmp_path / "relay"
    with running(str(data), settings=UNLIMITED) as relay:
        keys = {name: relay.token(name) for name in ("ann", "bob")}
    gone: list[str] = []
    for turn in range(6):
        process.start()
        with Client(process.url, keys["ann"]) as ann, Client(process.url, keys["bob"]) as bob:
            for word in [unlike() for _ in range(8)]:
                ann.send_direct_message("bob", word, ephemeral=True)
            for _ in range(turn + 1):
                item = bob.claim_items(limit=1, acknowledge=True)["items"][0]
                gone.append(item["content"].removeprefix("@bob "))
        process.kill()
    process.start()
    with Client(process.url, keys["bob"]) as bob:
        until(lambda: not words_in(data, gone))
        kept = [item["content"].removeprefix("@bob ") for item in bob.peek_inbox(limit=100)["items"]]
        assert len(kept) == 6 * 8 - len(gone)
        assert set(kept).isdisjoint(gone)
    process.kill()
    assert words_in(data, gone) == []
    assert wrong(str(data)) == []


@pytest.mark.sqlite
def test_it_has_gone_when_the_relay_is_stopped(tmp_path: Path):
    """Right after the acknowledgement, and while somebody has the database open, so that the log outlives the relay."""
    word = unlike()
    with running(str(tmp_path), settings=UNLIMITED) as relay:
        ann, bob = (Client(relay.url, relay.token(name)) for name in ("ann", "bob"))
        with ann, bob:
            ann.send_direct_message("bob", word, ephemeral=True)
            assert words_in(tmp_path, [word])
            bystander = sqlite3.connect(tmp_path / "agentchat.db")
            assert bystander.execute("SELECT content FROM messages").fetchall() == [(f"@bob {word}",)]
            assert bob.claim_items(acknowledge=True)["items"]
    with contextlib.closing(bystander):
        assert words_in(tmp_path, [word]) == []


# When


def test_it_goes_once_it_is_acknowledged(place: Place):
    ann, bob = place.agent("ann"), place.agent("bob")
    ids = [sent(ann.send_direct_message("bob", "short", ephemeral=True)) for _ in range(4)]
    kept = sent(ann.send_direct_message("bob", "for good"))
    mention = bob.check_mentions(limit=1)["mentions"]
    assert mention[0]["content"] == "@bob for good"
    first = bob.check_mentions(limit=100)["mentions"][-1]
    bob.mark_mentions_read([first["mention_id"]])
    until(lambda: is_gone(ann, ids[0]))
    batch = bob.check_inbox(limit=1)
    assert [item["message_id"] for item in batch["items"]] == ids[1:2]
    assert not is_gone(ann, ids[1])
    bob.check_inbox(limit=1, seen=batch["claim_id"])
    until(lambda: is_gone(ann, ids[1]))
    bob.claim_items(limit=10, acknowledge=True)  # which does not get what check_inbox holds
    until(lambda: is_gone(ann, ids[3]))
    assert not is_gone(ann, ids[2])
    assert contents(bob.read_messages("direct-messages")) == ["@bob short", "@bob for good"]
    assert bob.get_message(kept)["message"].get("vanishes_at") is None
    assert [row["state"] for row in ann.get_receipts(ids[3])["receipts"]] == ["acknowledged"]


def test_it_goes_when_its_time_is_over(place: Place, clock: Clock):
    ann, bob = place.agent("ann"), place.agent("bob")
    brief = sent(ann.send_direct_message("bob", "short", ephemeral=True, expires_in=1800))
    usual = ann.send_direct_message("bob", "a day", ephemeral=True)["message"]
    held = bob.claim_items(limit=1, lease=3600)
    clock.ahead = 2000.0
    until(lambda: is_gone(ann, brief))
    assert [row["state"] for row in ann.get_receipts(brief)["receipts"]] == ["expired"]
    with pytest.raises(errors.Conflict, match="expired"):
        bob.acknowledge_items(held["claim_id"] or "")
    assert not is_gone(ann, usual["id"])


def test_a_dead_letter_waits_until_its_time(place: Place, clock: Clock):
    ann, bob = place.agent("ann"), place.agent("bob")
    id = sent(ann.send_direct_message("bob", "hard", ephemeral=True, expires_in=1800))
    for _ in range(5):
        bob.return_items(bob.claim_items()["claim_id"] or "")
    (dead,) = bob.list_dead_letters()["items"]
    assert bob.requeue_items([dead["item_id"]]) == {"requeued": 1}
    for _ in range(5):
        bob.return_items(bob.claim_items()["claim_id"] or "")
    assert not is_gone(ann, id)
    clock.ahead = 2000.0
    until(lambda: is_gone(ann, id))
    assert bob.list_dead_letters()["items"] == []
    with pytest.raises(errors.NotFound):
        bob.requeue_items([dead["item_id"]])
    assert [row["state"] for row in ann.get_receipts(id)["receipts"]] == ["expired"]


def test_a_dead_letter_that_was_put_back_goes_once_acknowledged(place: Place):
    ann, bob = place.agent("ann"), place.agent("bob")
    id = sent(ann.send_direct_message("bob", "hard", ephemeral=True))
    for _ in range(5):
        bob.return_items(bob.claim_items()["claim_id"] or "")
    bob.requeue_items([bob.list_dead_letters()["items"][0]["item_id"]])
    bob.claim_items(acknowledge=True)
    until(lambda: is_gone(ann, id))


def delete(place: Place, name: str) -> str:
    grave: str = place.relay.ask(lambda tx: administration.agent_delete(tx, name=name))["messages_now_by"]
    return grave


@pytest.mark.parametrize("first", ["the others", "the author"])
def test_what_comes_back_from_a_deleted_agent_is_kept_for_its_author(place: Place, first: str):
    """Until the author has taken it, whether before those who read the message or after them."""
    ann, bob, eve = (place.agent(name) for name in ("ann", "bob", "eve"))
    for member in (bob, eve):
        member.join_group("crew")
    id = sent(ann.send_direct_message("crew", "all of you", ephemeral=True))
    if first != "the author":
        bob.claim_items(acknowledge=True)
    grave = delete(place, "eve")
    until(lambda: not place.relay.ask(vanishing.due).is_acknowledged)
    (item,) = ann.peek_inbox()["items"]
    assert (item["kind"], item["content"], item.get("undelivered_to")) == ("returned", "@crew all of you", [grave])
    ann.claim_items(acknowledge=True)
    if first == "the author":
        until(lambda: not place.relay.ask(vanishing.due).is_acknowledged)
        assert not is_gone(ann, id)
        bob.claim_items(acknowledge=True)
    until(lambda: is_gone(ann, id))
    receipts = {row["agent_name"]: (row["state"], row.get("reason")) for row in ann.get_receipts(id)["receipts"]}
    assert receipts == {"bob": ("acknowledged", None), grave: ("dead", "retired")}


def test_the_last_one_to_be_deleted_keeps_nothing(place: Place):
    """Everybody else is done with it, its author too, who was told that one did not get it."""
    ann, bob, eve, kim = (place.agent(name) for name in ("ann", "bob", "eve", "kim"))
    for member in (bob, eve, kim):
        member.join_group("crew")
    id = sent(ann.send_direct_message("crew", "all of you", ephemeral=True))
    delete(place, "eve")
    for one in (bob, ann):
        one.claim_items(acknowledge=True)
    until(lambda: not place.relay.ask(vanishing.due).is_acknowledged)
    assert not is_gone(ann, id)
    delete(place, "kim")
    until(lambda: is_gone(ann, id))


def test_a_dead_letter_of_a_deleted_agent_keeps_nothing(place: Place):
    ann, bob = place.agent("ann"), place.agent("bob")
    post = sent(ann.send_message("war", "@bob @ann hard", vanish_after=DAY))
    bob.join_group("crew")
    place.agent("eve").join_group("crew")
    mail = sent(ann.send_direct_message("crew", "hard", ephemeral=True))
    for _ in range(5):
        bob.return_items(bob.claim_items()["claim_id"] or "")
    delete(place, "eve")
    ann.claim_items(acknowledge=True)
    until(lambda: not place.relay.ask(vanishing.due).is_acknowledged)
    assert not is_gone(ann, mail) and not is_gone(ann, post)
    delete(place, "bob")
    until(lambda: is_gone(ann, mail))
    until(lambda: is_gone(ann, post))


def test_mail_among_deleted_agents_goes(place: Place):
    """Nobody is left who could be done with it."""
    ann, bob, eve = (place.agent(name) for name in ("ann", "bob", "eve"))
    for member in (bob, eve):
        member.join_group("crew")
    ann.send_to_many(["bob", "eve", "crew"], "hard", ephemeral=True)  # that to the group is there for nobody

    def left() -> list[str]:
        return [row[0] for row in place.rows("SELECT content FROM messages WHERE content <> ''")]

    assert left() == ["@bob hard", "@eve hard", "@crew hard"]
    delete(place, "ann")
    delete(place, "bob")
    until(lambda: left() == ["@eve hard"])
    delete(place, "eve")
    until(lambda: left() == [])


def test_a_post_waits_for_everybody_it_notified(place: Place):
    ann, bob, eve = (place.agent(name) for name in ("ann", "bob", "eve"))
    id = sent(ann.send_message("war", "@bob @eve now", vanish_after=DAY))
    silent = sent(ann.send_message("war", "to nobody"))
    bob.claim_items(acknowledge=True)
    until(lambda: not place.relay.ask(vanishing.due).is_acknowledged)  # that was looked at
    assert not is_gone(ann, id)
    eve.claim_items(acknowledge=True)
    until(lambda: is_gone(ann, id))
    assert contents(bob.read_messages("war")) == ["to nobody"]
    assert not is_gone(ann, silent)


def test_mail_to_a_group_waits_for_all_of_it(place: Place):
    ann, bob, eve = (place.agent(name) for name in ("ann", "bob", "eve"))
    for member in (bob, eve):
        member.join_group("crew")
    id = sent(ann.send_direct_message("crew", "all of you", ephemeral=True))
    bob.claim_items(acknowledge=True)
    until(lambda: not place.relay.ask(vanishing.due).is_acknowledged)  # that was looked at
    assert contents(eve.read_messages("direct-messages")) == ["@crew all of you"]
    eve.claim_items(acknowledge=True)
    until(lambda: is_gone(ann, id))
    assert is_gone(bob, id)
    assert [row["state"] for row in ann.get_receipts(id)["receipts"]] == ["acknowledged"] * 2


def test_mail_to_many_goes_with_whoever_got_each(place: Place):
    """Bob is in the crew, but is told as himself; the pair gets nothing of its own, and its text goes with the rest."""
    ann, bob, eve, dan = (place.agent(name) for name in ("ann", "bob", "eve", "dan"))
    for member, *names in ((bob, "crew", "pair"), (eve, "crew", "pair"), (dan, "crew")):
        for name in names:
            member.join_group(name)
    word = unlike()
    answer = ann.send_to_many(["bob", "eve", "pair", "crew"], word, ephemeral=True)
    to_bob, to_eve, to_pair, to_crew = [message["id"] for message in answer["messages"]]
    assert all(message.get("vanishes_at") for message in answer["messages"])
    assert [item.get("ephemeral") for item in bob.peek_inbox()["items"]] == [True]
    bob.claim_items(acknowledge=True)
    until(lambda: is_gone(ann, to_bob) and is_gone(ann, to_pair))
    assert not is_gone(ann, to_eve)
    assert not is_gone(ann, to_crew)
    for one in (eve, dan):
        one.claim_items(acknowledge=True)
    until(lambda: is_gone(ann, to_eve) and is_gone(ann, to_crew))
    rows = place.rows("SELECT content, metadata FROM messages")
    assert rows == [("", None)] * 4
    assert [row["state"] for row in ann.get_receipts(to_crew)["receipts"]] == ["acknowledged"]


def test_mail_to_many_goes_when_its_time_is_over(place: Place, clock: Clock):
    ann, bob, eve = (place.agent(name) for name in ("ann", "bob", "eve"))
    brief = ann.send_to_many(["bob", "eve"], "short", ephemeral=True, expires_in=1800)["messages"]
    usual = ann.send_to_many(["bob", "eve"], "a day", ephemeral=True)["messages"]
    clock.ahead = 2000.0
    until(lambda: all(is_gone(ann, message["id"]) for message in brief))
    assert not any(is_gone(ann, message["id"]) for message in usual)
    assert contents(bob.read_messages("direct-messages")) == ["@bob a day"]
    assert [item["content"] for item in eve.peek_inbox()["items"]] == ["@eve a day"]


def test_an_item_says_that_it_is_ephemeral(place: Place):
    ann, bob = place.agent("ann"), place.agent("bob")
    before = bob.get_briefing()["position"]
    ann.send_direct_message("bob", "gone", ephemeral=True)
    ann.send_message("war", "@bob gone", vanish_after=DAY)
    ann.send_direct_message("bob", "kept")
    wanted = [True, True, None]
    assert [item.get("ephemeral") for item in bob.peek_inbox()["items"]] == wanted
    told = bob.list_events(since=before, kind="inbox.added")["events"]
    assert [event["data"]["item"].get("ephemeral") for event in told] == wanted  # type: ignore[index]
    for _ in range(5):
        claimed = bob.claim_items()
        assert [item.get("ephemeral") for item in claimed["items"]] == wanted
        bob.return_items(claimed["claim_id"] or "")
    assert [item.get("ephemeral") for item in bob.list_dead_letters()["items"]] == wanted[::-1]


# What a channel says, and what it refuses


def test_members_see_that_a_channel_is_ephemeral(place: Place):
    ann, bob = place.agent("ann"), place.agent("bob")
    post = ann.send_message("war", "here", vanish_after=1800)["message"]
    assert post.get("vanishes_at") is not None
    page = bob.read_messages("war")
    assert page.get("vanish_after") == 1800
    assert page["messages"][0].get("vanishes_at") == post.get("vanishes_at")
    rows = {row["name"]: row for row in bob.list_channels()["channels"]}
    assert rows["war"].get("vanish_after") == 1800
    board = {row["channel"]: row.get("vanish_after") for row in bob.check_board()["channels"]}
    assert (board["war"], board["general"]) == (1800, None)
    assert [event["kind"] for event in bob.list_events(since=0, channel="war")["events"]][:2] == [
        "channel.created", "channel.ephemeral",
    ]  # fmt: skip


def test_a_post_that_must_vanish_is_never_kept(place: Place):
    ann = place.agent("ann")
    ann.send_message("room", "kept")
    with pytest.raises(errors.Conflict, match="keeps its posts"):
        ann.send_message("room", "secret", vanish_after=60)
    assert contents(ann.read_messages("room")) == ["kept"]
    ann.send_message("war", "first", vanish_after=3600)
    usual, sooner = (ann.send_message("war", "more", vanish_after=after)["message"] for after in (None, 60))
    assert (usual.get("vanishes_at") or "") > (sooner.get("vanishes_at") or "")


def test_an_operator_changes_an_empty_channel_only(place: Place):
    ann = place.agent("ann")

    def change(name: str, after: int) -> Any:
        return place.relay.ask(lambda tx: administration.channel_update(tx, name=name, vanish_after=after))

    assert change("general", 600)["vanish_after"] == 600
    post = ann.send_message("general", "short", vanish_after=1000)["message"]
    assert post.get("vanishes_at") is not None
    assert change("general", 700)["vanish_after"] == 700
    with pytest.raises(errors.Conflict, match="not empty"):
        change("general", 0)
    ann.send_message("room", "kept")
    with pytest.raises(errors.Conflict, match="not empty"):
        change("room", 600)
    with pytest.raises(errors.BadRequest):
        change("direct-messages", 600)
    with pytest.raises(errors.NotFound):
        change("nowhere", 600)
    assert change("global", 600)["vanish_after"] == 600
    assert change("global", 0)["vanish_after"] is None


# What is left


def test_a_repeat_sends_nothing_again(place: Place):
    ann, bob = place.agent("ann"), place.agent("bob")
    answers: list[Any] = []
    keyed = ann.with_options(idempotency_key="k-1")
    answers.append(keyed.send_direct_message("bob", "once", ephemeral=True))
    bob.claim_items(acknowledge=True)
    until(lambda: is_gone(ann, sent(answers[0])))
    again = keyed.send_direct_message("bob", "once", ephemeral=True)
    assert (sent(again), again["message"]["content"], again["message"].get("vanished")) == (
        sent(answers[0]), "", True,
    )  # fmt: skip
    assert bob.peek_inbox()["items"] == []
    with pytest.raises(errors.Conflict) as refused:
        keyed.send_direct_message("bob", "other", ephemeral=True)
    assert refused.value.code == "idempotency_mismatch"


@pytest.mark.parametrize("names", [["bob"], ["bob", "eve"], ["eve", "bob"]])
def test_a_repeat_to_many_tells_what_is_left(place: Place, names: list[str]):
    """Whichever went first: the one that has the key, or another."""
    ann, bob, eve = (place.agent(name) for name in ("ann", "bob", "eve"))
    keyed = ann.with_options(idempotency_key="k-1")
    before = keyed.send_to_many(names, "once", ephemeral=True)
    ids = {name: message["id"] for name, message in zip(names, before["messages"], strict=True)}
    assert keyed.send_to_many(names, "once", ephemeral=True) == before
    for gone, one in ((["bob"], bob), (["bob", "eve"], eve)):
        one.claim_items(acknowledge=True)
        until(lambda gone=gone: all(is_gone(ann, ids[name]) for name in gone if name in ids))  # type: ignore[misc]
        again = keyed.send_to_many(names, "once", ephemeral=True)["messages"]
        assert [message["id"] for message in again] == [*ids.values()]
        assert [(message["content"], message.get("vanished")) for message in again] == [
            ("", True) if name in gone else (f"@{name} once", None) for name in names
        ]
    assert [one.peek_inbox()["items"] for one in (bob, eve)] == [[], []]
    assert place.rows("SELECT count(*) FROM messages")[0][0] == len(names)
    assert "once" not in str(place.rows("SELECT answer FROM answers"))
    with pytest.raises(errors.Conflict) as refused:
        keyed.send_to_many(names, "other", ephemeral=True)
    assert refused.value.code == "idempotency_mismatch"


def test_one_can_answer_and_wait_for_answers_to_what_is_gone(place: Place):
    ann, bob = place.agent("ann"), place.agent("bob")
    question = sent(ann.send_direct_message("bob", "when?", ephemeral=True))
    post = sent(ann.send_message("war", "@bob where?", vanish_after=DAY))
    bob.claim_items(acknowledge=True)
    until(lambda: is_gone(ann, question) and is_gone(ann, post))
    reply = bob.send_message("war", "here", parent_message_id=post)["message"]
    assert reply["parent_message_id"] == post
    bob.send_direct_message("ann", "now", ephemeral=True)
    assert (ann.wait_for_reply(post)["message"] or {})["content"] == "here"  # type: ignore[typeddict-item]
    assert (ann.wait_for_reply(question)["message"] or {})["content"] == "@ann now"  # type: ignore[typeddict-item]
    assert contents(ann.read_thread(reply["id"])) == ["here"]


def test_events_tell_nothing_of_it_afterwards(place: Place):
    ann, bob, eve = (place.agent(name) for name in ("ann", "bob", "eve"))
    eve.check_board()
    before = bob.get_briefing()["position"]
    id = sent(ann.send_direct_message("bob", "whisper", ephemeral=True))
    told = {event["kind"]: event for event in bob.list_events(since=before)["events"]}
    assert told["message.created"]["data"]["message"]["content"] == "@bob whisper"  # type: ignore[index]
    bob.claim_items(acknowledge=True)
    until(lambda: is_gone(ann, id))
    for client in (ann, bob):
        events = client.list_events(since=before)["events"]
        assert "whisper" not in str(events)
        assert events[-1]["kind"] == "message.vanished"
        assert events[-1]["subject"] == id
    assert id not in str(eve.list_events(since=before)["events"])


def test_a_stream_that_comes_later_is_told_nothing_of_it(place: Place):
    """The relay keeps what it gave out lately for those who come a little late: not what vanished."""
    ann, bob = place.agent("ann"), place.agent("bob")
    before = bob.get_briefing()["position"]
    ready, over = threading.Event(), threading.Event()

    def follow() -> None:
        for event in bob.events(since=before):
            if event["kind"] == "message.created":
                ready.set()
            if event["kind"] == "message.vanished":
                over.set()
                return

    thread = threading.Thread(target=follow)
    thread.start()
    ann.send_direct_message("bob", "whisper", ephemeral=True)
    assert ready.wait(20)
    keeps = Client(place.relay.url, bob.credential.held, agent="bob", retries=0)
    with keeps:
        bystander = keeps.events(since=before)  # which keeps the feed and its window alive
        assert "whisper" in str(next(bystander)) + str(next(bystander))
        bob.claim_items(acknowledge=True)
        assert over.wait(20)
        thread.join()
        for event in bob.events(since=before):
            assert "whisper" not in str(event)
            if event["kind"] == "message.vanished":
                break
        bystander.close()


def test_traces_are_swept_after_a_week(place: Place):
    ann, bob = place.agent("ann"), place.agent("bob")
    id = sent(ann.send_direct_message("bob", "short", ephemeral=True))
    bob.claim_items(acknowledge=True)
    until(lambda: is_gone(ann, id))
    highest = place.rows("SELECT max(id) FROM messages")[0][0]
    store: Any = place.relay.relay.store  # type: ignore[union-attr]
    now = store.ask(Lane.READ, lambda tx: tx.now)
    assert store.ask(Lane.WRITE, lambda tx: vanishing.sweep(tx, now + 6 * DAY * 1_000_000)) == 0
    later = sent(ann.send_direct_message("bob", "beside it", ephemeral=True))
    assert store.ask(Lane.WRITE, lambda tx: vanishing.sweep(tx, now + 8 * DAY * 1_000_000)) == 0
    bob.claim_items(acknowledge=True)
    until(lambda: is_gone(ann, later))
    assert store.ask(Lane.WRITE, lambda tx: vanishing.sweep(tx, now + 8 * DAY * 1_000_000)) == 2
    assert place.rows("SELECT count(*) FROM inbox") == [(0,)]
    with pytest.raises(errors.NotFound, match="There is no message"):
        ann.get_receipts(id)
    ann.send_message("room", "next")
    assert place.rows("SELECT max(id) FROM messages")[0][0] > highest + 1  # ids are never given twice


# Counts


Step = tuple[str, int]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["ann", "bob", "eve"]), st.integers(0, 3)),  # who posts, and whom it names
        st.tuples(st.just("vanish"), st.integers(0, 11)),  # which of those that are left
        st.tuples(st.just("read"), st.integers(0, 35)),  # who, and how far
        st.tuples(st.just("status"), st.just(0)),
    ),
    min_size=1,
    max_size=40,
)


@given(steps=STEPS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_counts_and_pages_are_right_whatever_vanishes(counted: Callable[[], Any], steps: list[Step]):
    channel, clients, store = counted()
    names = [*clients]
    posts: list[tuple[str, str, str]] = []  # id, author, time
    cursors = dict.fromkeys(names, "")
    for client in clients.values():
        client.read_messages(channel)
    for what, number in steps:
        if what in clients:
            made = clients[what].send_message(channel, f"text {number}")["message"]
            posts.append((made["id"], what, made["created_at"]))
        elif what == "status":
            clients["ann"].send_message(channel, "busy", kind="status")
        elif what == "vanish" and posts:
            id, *_ = posts.pop(number % len(posts))
            store.ask(Lane.WRITE, partial(_let_vanish, public_id=id))
        elif what == "read" and posts:
            name, through = names[number % 3], posts[number // 3 % len(posts)][2]
            clients[name].mark_channel_read(channel, through=through)
            cursors[name] = max(cursors[name], through)
        for name, client in clients.items():
            wanted = sum(author != name and at > cursors[name] for _, author, at in posts)
            assert unread(client, channel) == wanted
        page = clients["eve"].read_messages(channel, limit=200)
        assert [message["id"] for message in page["messages"]] == [id for id, *_ in posts]


def _let_vanish(tx: Any, public_id: str) -> None:
    vanishing._vanish(tx, tx.the("message_of", public_id=public_id)["id"])


@pytest.fixture(scope="module")
def counted() -> Iterator[Callable[[], Any]]:
    """A new ephemeral channel, its members, and the store."""
    with running(settings=UNLIMITED) as relay, contextlib.ExitStack() as stack:
        store: Any = relay.relay.store  # type: ignore[union-attr]
        clients = {
            name: stack.enter_context(Client(relay.url, relay.token(name), agent=name, retries=0))
            for name in ("ann", "bob", "eve")
        }

        def make() -> Any:
            channel = f"war-{secrets.token_hex(4)}"
            relay.ask(lambda tx: _new_channel(tx, channel))
            return channel, clients, store

        yield make
        if database.engine == "sqlite":
            assert wrong(relay.directory.path) == []


def wrong(path: str) -> list[str]:
    """What the doctor finds."""
    found: list[Finding] = []
    examine(path, Progress(quiet=True), found.append)
    return [finding["text"] for finding in found if finding["level"] == "problem"]


def _new_channel(tx: Any, name: str) -> None:
    space_id = tx.the("space_by_name", name="main")["id"]
    channels.create(tx, space_id, name, by=None, vanish_after=DAY)
