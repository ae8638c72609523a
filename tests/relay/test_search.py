"""Search: what a query means, that junk is no error, that a write is found at once, and where is looked."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentchat import Client
from agentchat._exchange import Request
from agentchat_relay.embedded import Embedded, running
from tests.clients import conftest as colours
from tests.relay.conftest import UNLIMITED, MakeAgent, fresh


@pytest.fixture(scope="module")
def library(live: Embedded) -> Iterator[tuple[Client, str]]:
    """A client and a channel that holds the texts below."""
    with Client(live.url, live.token("mac-library"), agent="mac-library", retries=0) as client:
        for text in TEXTS.values():
            client.send_message("library", text)
        yield client, "library"


TEXTS = {
    "deploy": "We deployed the new parser to staging yesterday",
    "flaky": "The parser tests are flaky; running them again helps",
    "run": "She runs deployments by hand",
    "cat": "A cat sat on the mat near a dog",
    "mouse": "the dog chased a mouse",
    "tag": "release [fix-2-b] and ticket ABC-123 are ready",
    "version": "upgrade to v1.2.3 of src/app_main.py, ask jo@example.org",
    "ümlaut": "Größe und Höhe prüfen; Привет мир; 你好 世界",
    "common": "To be or not to be",
}


def raw(agent: Client, query: str) -> tuple[int, Any]:
    """Status and answer of a search with this very query."""
    headers = {"x-agent-api-key": agent.credential.held or ""}
    answer = agent._transport.send(Request("GET", f"/api/v2/search?{query}", headers, None, 30.0))
    return answer.status, json.loads(answer.body)


def found(agent: Client, query: str, channel: str | None = None) -> set[str]:
    """The texts that a query finds."""
    return {row["content"] for row in agent.search_messages(query, channel=channel)["results"]}


# What a query means


QUERIES: list[tuple[str, set[str]]] = [
    ("parser", {"deploy", "flaky"}), ("PARSER", {"deploy", "flaky"}), ("parsers", {"deploy", "flaky"}),
    ("deploying", {"deploy"}), ("deployment", {"run"}), ("running", {"run", "flaky"}),
    ("test", {"flaky"}), ("help", {"flaky"}),
    ("parser staging", {"deploy"}), ("staging parser", {"deploy"}), ("parser zebra", set()),
    ("parser or dog", {"deploy", "flaky", "cat", "mouse"}), ("mouse OR cat", {"mouse", "cat"}),
    ("parser staging or mouse", {"deploy", "mouse"}), ("zebra or mouse", {"mouse"}),
    ("parser -staging", {"flaky"}), ("dog -cat", {"mouse"}), ("dog -zebra", {"cat", "mouse"}), ("-cat dog", {"mouse"}),
    ('"new parser"', {"deploy"}), ('"parser new"', set()), ('"dog chased"', {"mouse"}), ('"the dog"', {"mouse"}),
    ('dog -"chased a"', {"cat"}), ('"a cat sat on the mat"', {"cat"}), ('"new parser" or mouse', {"deploy", "mouse"}),
    ('"parser', {"deploy", "flaky"}),
    ("the parser", {"deploy", "flaky"}), ("a cat on the mat", {"cat"}), ("what about the parser?", set()),
    ("fix-2-b", {"tag"}), ("[fix-2-b]", {"tag"}), ("fix-2-c", set()), ("abc-123", {"tag"}), ("ABC-12", set()),
    ("release -fix-2-b", set()), ("release -fix-2-c", {"tag"}),
    ("v1.2.3", {"version"}), ("v1.2.4", set()), ("src/app_main.py", {"version"}), ("jo@example.org", {"version"}),
    ("größe", {"ümlaut"}), ("ПРИВЕТ", {"ümlaut"}), ("世界", {"ümlaut"}),
    ("parser AND staging", {"deploy"}), ("zebra", set()),
]  # fmt: skip


@pytest.mark.parametrize(("query", "expected"), QUERIES, ids=[query for query, _ in QUERIES])
def test_a_query_means_what_people_mean(library: tuple[Client, str], query: str, expected: set[str]):
    client, channel = library
    assert found(client, query, channel) == {TEXTS[name] for name in expected}


SILENT = [
    "-", "--", "'", '"', '""', '" "', "()", "[]{}", "*", "**", "^", ":", "+", "~", "!", "?", "\\", "/", "&", "|", "<>",
    "@", "#", "$", "%", ";", ",", ".", "…", "“”", "- -", '-""', "。、", "🙂", "_", "___", "\u200b", "\u3000",
    "🙂" * 500, '"' * 500, "-" * 500, "\x01\x02", "\ufeff", "\u202e", "\U000e0001",
]  # fmt: skip


@pytest.mark.parametrize("query", SILENT)
def test_a_query_without_words_finds_nothing(either: colours.Driver, library: tuple[Client, str], query: str):
    assert either("search_messages", query, channel=library[1]) == {"query": query, "results": [], "has_more": False}


SYNTAX = [
    "parser AND", "AND", "NOT", "NOT parser", "parser NOT", "OR parser", "NEAR(parser tests)", "NEAR/2", "rowid:1",
    "content:parser", "place:s1", "place : s1", "s1", "c1", "d1", "{content place}: parser", "parser*", "^parser", "%",
    "par* OR", '"parser" +', "(parser", "parser)", "((((a", "'; DROP TABLE messages; --", 'parser" OR "1', '"a" "b',
    "a\tb\nc", "-parser", '-"parser tests"', "- parser", "--parser", "-parser -tests", "rank", "fulltext", "_ser",
    "or", "OR", "or or", "or -", '"or', "-or", "or parser or", "parser or or tests", "-or -and", "a" * 500, "a " * 250,
    "or " * 166, "-a " * 166, "ｐａｒｓｅｒ", "①②", "ß", "ﬁ", "ไทย", "𞤀",
]  # fmt: skip


@pytest.mark.parametrize("query", SYNTAX)
def test_an_engine_s_own_syntax_is_no_syntax_here(library: tuple[Client, str], query: str):
    client, channel = library
    answer = client.search_messages(query, channel=channel)
    assert answer["query"] == query
    assert {row["content"] for row in answer["results"]} <= set(TEXTS.values())


@settings(max_examples=300, deadline=None)
@given(query=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=500)
       | st.text("abor\"'-*()^:+ \\%_[]{}~&|,.0", min_size=1, max_size=60))  # fmt: skip
@example(query='"-" or -"or"')
def test_no_text_is_an_error(library: tuple[Client, str], query: str):
    client, _ = library
    status, answer = raw(client, f"q={quote(query, safe='')}")
    if query.strip(" \t\r\n"):
        assert status == 200, answer
        assert answer["data"]["query"] == query
        assert isinstance(answer["data"]["results"], list)
    else:
        assert status == 400


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(categories=["Lu", "Ll", "Nd"], max_codepoint=0x24F), min_size=3, max_size=30))
def test_a_message_is_found_by_its_own_word(library: tuple[Client, str], word: str):
    client, _ = library
    unique = f"{word}{uuid4().hex[:8]}"
    sent = client.send_message("words", f"before {unique}, after")["message"]["id"]
    assert sent in [row["id"] for row in client.search_messages(unique)["results"]]
    assert sent in [row["id"] for row in client.search_messages(f'"{unique} after"')["results"]]


SCRIPTS = [
    "İstanbul",
    "ISTANBUL",
    "naïve",
    "Straße",
    "ﬁnale",
    "हिन्दी",
    "ภาษาไทย",
    "한국어",
    "日本語",
    "עִבְרִית",
    "Ελλάδα",
]


@pytest.mark.parametrize("word", SCRIPTS)
def test_a_word_of_any_script_is_found_as_it_was_written(either: colours.Driver, word: str):
    channel = fresh("words")
    sent = either("send_message", channel, f"before {word} after")["message"]["id"]
    for query in (word, f'"{word}"', f"{word} before", f"-zebra {word}"):
        assert [row["id"] for row in either("search_messages", query, channel=channel)["results"]] == [sent]


def test_an_accent_is_found_in_either_of_its_forms(either: colours.Driver):
    """Composed (é) and as a letter with a mark, which some systems type."""
    channel = fresh("words")
    forms = [unicodedata.normalize(form, "cafés für Zoë") for form in ("NFC", "NFD")]
    sent = [either("send_message", channel, text)["message"]["id"] for text in forms]
    for query in (word for text in forms for word in text.split()):
        assert {row["id"] for row in either("search_messages", query, channel=channel)["results"]} == set(sent), query


# What is refused


def test_a_query_has_1_to_500_characters(either: colours.Driver, agent: MakeAgent):
    assert either("search_messages", "q" * 500) == {"query": "q" * 500, "results": [], "has_more": False}
    ann = agent()
    for query in ("", "q=", "q=%20%09%0a", f"q={'q' * 501}", f"q={'%F0%9F%99%82' * 501}", "query=parser"):
        status, answer = raw(ann, query)
        assert (status, answer["code"]) == (400, "bad_request"), query
    for channel in ("A", "a", "%23general", "n" * 101, "a_b"):
        assert raw(ann, f"q=x&channel={channel}")[0] == 400
    assert raw(ann, "q=x&channel=")[0] == 200  # blank is absent


# What is answered


def test_a_hit_in_both_spellings(either: colours.Driver, agent: MakeAgent):
    ann = agent()
    word = uuid4().hex
    channel = fresh("room")
    sent = ann.send_message(channel, f"{word} " + "long " * 1000 + "end")["message"]
    (hit,) = either("search_messages", f"  {word} ")["results"]
    rank = hit.pop("rank")
    assert isinstance(rank, float)
    assert hit == {
        "id": sent["id"], "channel_id": sent["channel_id"], "channel_name": channel,
        "author_agent_id": sent["author_agent_id"], "author_name": ann.agent, "content": sent["content"],
        "created_at": sent["created_at"],
        # as another client looks for it
        "timestamp": sent["created_at"], "channel": channel, "author": ann.agent,
    }  # fmt: skip
    assert either("search_messages", f"  {word} ")["query"].strip() == word
    assert either("list_channels")["channels"] == []  # all channels are searched, and searching joins none


def test_at_most_fifty_the_best_first(either: colours.Driver, agent: MakeAgent):
    ann = agent()
    word = uuid4().hex
    channel = fresh("room")
    for number in range(60):
        ann.send_message(channel, f"{word} {'filler ' * 60}{number}")
    best = ann.send_message(channel, f"{word} {word}")["message"]["id"]
    for number in range(10):
        ann.send_message(channel, f"{word} {'filler ' * 60}{number}")
    hits = either("search_messages", word)["results"]
    assert len(hits) == 50
    assert hits[0]["id"] == best
    ranks = [hit["rank"] for hit in hits]
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[0] > ranks[-1]


def test_the_newest_200_hits_are_ranked(agent: MakeAgent):
    ann = agent()
    word = uuid4().hex
    channel = fresh("room")
    too_old = ann.send_message(channel, f"{word} {word} {word}")["message"]["id"]
    old = ann.send_message(channel, f"{word} {word}")["message"]["id"]
    for number in range(199):
        ann.send_message(channel, f"{word} {'filler ' * 60}{number}")
    hits = [row["id"] for row in ann.search_messages(word)["results"]]
    assert too_old not in hits
    assert hits[0] == old
    assert len(hits) == 50


def test_the_end_of_the_longest_text_is_found(either: colours.Driver):
    word = uuid4().hex
    text = "filler " * 4560 + word
    sent = either("send_message", fresh("room"), text)["message"]["id"]
    assert [row["id"] for row in either("search_messages", word)["results"]] == [sent]


# A write is found at once


def test_a_tag_in_brackets_is_found_right_after_the_write(either: colours.Driver, agent: MakeAgent):
    ann = agent()
    channel = fresh("room")
    for number in range(30):
        tag = f"test-17951646309{number:02}-{uuid4().hex[:6]}"
        sent = either("send_message", channel, f"[{tag}] hello from a test")["message"]["id"]
        for searcher in (either.client, ann):
            answer = searcher.search_messages(tag)
            answer = answer if isinstance(answer, dict) else either.run(answer)
            assert [row["id"] for row in answer["results"]] == [sent]
        assert either("search_messages", f"{tag}x")["results"] == []


def test_writers_at_the_same_time_find_their_own(agent: MakeAgent):
    channel = fresh("room")
    agents = [agent() for _ in range(8)]

    def write_and_search(writer: Client) -> None:
        for _ in range(15):
            word = uuid4().hex
            sent = writer.send_message(channel, f"see {word}")["message"]["id"]
            assert [row["id"] for row in writer.search_messages(word, channel=channel)["results"]] == [sent]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write_and_search, agents))


def test_messages_are_found_after_a_restart(tmp_path: Path):
    with running(str(tmp_path), settings=UNLIMITED) as relay:
        key = relay.token("mac-ann")
        with Client(relay.url, key) as ann:
            sent = [ann.send_message("general", f"entry number-{place}-x of the log")["message"] for place in range(50)]
    with running(str(tmp_path), settings=UNLIMITED) as relay, Client(relay.url, key) as ann:
        assert len(ann.search_messages("entry log")["results"]) == 50
        assert [row["id"] for row in ann.search_messages("number-49-x")["results"]] == [sent[49]["id"]]
        later = ann.send_message("general", "one more entry")["message"]["id"]
        assert [row["id"] for row in ann.search_messages("one more entry")["results"]] == [later]


# Where is looked


def test_one_channel_or_all_and_an_unknown_one_is_empty(either: colours.Driver, agent: MakeAgent):
    ann = agent()
    word = uuid4().hex
    here, there = fresh("room"), fresh("room")
    for channel in (here, there):
        ann.send_message(channel, f"{word} in {channel}")
    assert {row["channel_name"] for row in either("search_messages", word)["results"]} == {here, there}
    assert [row["channel_name"] for row in either("search_messages", word, channel=here)["results"]] == [here]
    unknown = fresh("nowhere")
    assert either("search_messages", word, channel=unknown) == {"query": word, "results": [], "has_more": False}
    assert raw(ann, f"q={word}&channel={unknown}")[0] == 200


def test_status_posts_are_not_found(either: colours.Driver, agent: MakeAgent):
    word = uuid4().hex
    channel = fresh("room")
    agent().send_message(channel, f"{word} working", kind="status")
    either("send_message", channel, f"{word} own status", kind="status")
    assert either("search_messages", word)["results"] == []
    sent = either("send_message", channel, f"{word} chat")["message"]["id"]
    assert [row["id"] for row in either("search_messages", word)["results"]] == [sent]


def test_direct_messages_are_found_by_their_parties(either: colours.Driver, agent: MakeAgent):
    bob, cid = agent(), agent()
    word = uuid4().hex
    sent = either("send_direct_message", bob.agent, f"{word} for @{cid.agent}")["message"]["id"]
    public = cid.send_message(fresh("room"), word)["message"]["id"]
    assert {row["id"] for row in either("search_messages", word)["results"]} == {sent, public}
    assert {row["id"] for row in bob.search_messages(word)["results"]} == {sent, public}
    assert [row["id"] for row in bob.search_messages(word, channel="direct-messages")["results"]] == [sent]
    assert [row["id"] for row in cid.search_messages(word)["results"]] == [public]
    assert cid.search_messages(word, channel="direct-messages")["results"] == []


def test_foreign_hits_take_no_place(agent: MakeAgent):
    """Of the newest 200, none is used up by what the searcher may not see."""
    ann, bob, cid = agent(), agent(), agent()
    word = uuid4().hex
    sent = ann.send_message(fresh("room"), f"{word} public")["message"]["id"]
    private = ann.send_direct_message(bob.agent, f"{word} private")["message"]["id"]
    for _ in range(205):
        ann.send_direct_message(cid.agent, word)
        ann.send_message("general", word, kind="status")
    assert {row["id"] for row in bob.search_messages(word)["results"]} == {sent, private}


def test_another_space_is_not_searched(live: Embedded, agent: MakeAgent):
    space = fresh("space")
    live.space(space)
    ann, far = agent(), agent(space=space)
    word = uuid4().hex
    channel = fresh("room")
    far.send_message(channel, word)
    far.send_message("general", word)
    assert ann.search_messages(word)["results"] == []
    assert ann.search_messages(word, channel=channel)["results"] == []
    assert ann.search_messages(word, channel="general")["results"] == []
    assert len(far.search_messages(word)["results"]) == 2
