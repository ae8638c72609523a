"""The page at /metrics: right in form, right in its numbers, for the operator alone, and told about in every place."""

from __future__ import annotations

import asyncio
import http.client
import json
import math
import os
import re
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import pytest

from agentchat import Client, __version__
from agentchat.contract import OPERATIONS
from agentchat.errors import CODES
from agentchat_relay import log
from agentchat_relay.administration import ADMINISTRATION
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.metrics import Metrics
from agentchat_relay.settings import Settings
from agentchat_relay.store.seam import Lane
from tests.relay.conftest import UNLIMITED, fresh, until

ROOT = Path(__file__).resolve().parents[2]
OWN = {"root", "health", "metrics", "openapi", "linked_file", "register_machine", "register", "act_on_task", "unknown"}
VALUES = {
    "operation": {*OPERATIONS, *ADMINISTRATION, *OWN},
    "code": {*CODES, "ok", "internal_error", "disconnected"},
    "kind": {"download", "events"},
    "lane": {"read", "search", "write"},
    "file": {"rows", "fulltext", "agentchat.db", "search.db"},
    "level": {*log.LEVELS, "critical"},
}
"""Of all labels but `le` and those of build_info: nothing that grows with what is on the relay."""


# A reader of the format that shares nothing with who writes it

NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*"
PAIR = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"'
SAMPLE = re.compile(
    rf"({NAME})(?:\{{(?P<labels>{PAIR}(?:,{PAIR})*)\}})? (?P<value>[-+]?(?:[0-9.]+(?:e[-+]?[0-9]+)?|Inf)|NaN)"
)
Labels = frozenset[tuple[str, str]]


class Family:
    def __init__(self, kind: str, help: str) -> None:
        self.kind, self.help = kind, help
        self.samples: dict[tuple[str, Labels], float] = {}

    def labels(self) -> set[str]:
        return {name for _, labels in self.samples for name, _ in labels} - {"le"}


class Page:
    """The families of a page, which is checked while it is read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families: dict[str, Family] = {}
        assert text.endswith("\n")
        lines = text.splitlines()
        while lines:
            lines = self._family(lines)
        for name, family in self.families.items():
            self._check(name, family)

    def _family(self, lines: list[str]) -> list[str]:
        help, type, *lines = lines
        described = re.fullmatch(rf"# HELP ({NAME}) (\S.*)", help)
        typed = re.fullmatch(rf"# TYPE ({NAME}) (counter|gauge|histogram)", type)
        assert described and typed and described[1] == typed[1], (help, type)
        name = described[1]
        assert name not in self.families
        family = self.families[name] = Family(typed[2], described[2])
        while lines and not lines[0].startswith("#"):
            sample = SAMPLE.fullmatch(lines.pop(0))
            assert sample, lines
            assert sample[1] in {name, *(f"{name}{suffix}" for suffix in ("_bucket", "_sum", "_count"))}
            labels = frozenset(re.findall(PAIR, sample["labels"] or ""))
            assert (sample[1], labels) not in family.samples
            family.samples[sample[1], labels] = float(sample["value"])
        return lines

    def _check(self, name: str, family: Family) -> None:
        assert name.endswith("_total") is (family.kind == "counter")
        if family.kind != "histogram":
            assert {found for found, _ in family.samples} <= {name}
            return
        for labels in {frozenset(pair for pair in labels if pair[0] != "le") for _, labels in family.samples}:
            buckets = {
                float(dict(found)["le"]): value
                for (_, found), value in family.samples.items()
                if labels < found and "le" in dict(found)
            }
            assert [*buckets] == sorted(buckets) and [*buckets][-1] == math.inf
            assert all(low <= high for low, high in pairwise(buckets.values()))
            assert family.samples[f"{name}_count", labels] == buckets[math.inf]
            assert family.samples[f"{name}_sum", labels] >= 0

    def __call__(self, name: str, **labels: str) -> float:
        """One value. A sample that is not there yet counts as nothing."""
        family = self.families.get(name) or self.families[name.rpartition("_")[0]]
        return family.samples.get((name, frozenset(labels.items())), 0.0)

    def sum(self, name: str, **labels: str) -> float:
        """Of all that have these labels, and perhaps others."""
        family = self.families.get(name) or self.families[name.rpartition("_")[0]]
        wanted = frozenset(labels.items())
        return sum(value for (found, held), value in family.samples.items() if found == name and wanted <= held)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str


def ask(url: str, target: str = "/metrics", method: str = "GET", **headers: str) -> Answer:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    with closing(connection):
        connection.request(method, target, None, {name.replace("_", "-"): text for name, text in headers.items()})
        response = connection.getresponse()
        named = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, named, response.read().decode())


def page(relay: Embedded) -> Page:
    answer = ask(relay.url)
    assert answer.status == 200, answer
    return Page(answer.text)


# The form


def test_the_page_is_well_formed_and_holds_no_name_anybody_chose(live: Embedded):
    agent, channel, space, name = fresh("agent"), fresh("channel"), fresh("space"), fresh("file")
    live.space(space)
    with Client(live.url, live.token(agent, space=space), agent=agent, retries=0) as client:
        client.send_message(channel, f"hello @{agent}")
        client.upload_file(channel, f"{name}.txt", "text")
        client.search_messages("hello")
    ask(live.url, f"/{fresh('path')}?{fresh('query')}")
    answer = ask(live.url)
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    for chosen in (agent, channel, space, name, "path-", "query-"):
        assert chosen not in answer.text
    found = Page(answer.text)
    for family_name, family in found.families.items():
        for _, labels in family.samples:
            for label, value in labels:
                if label != "le" and family_name != "agentchat_build_info":
                    assert value in VALUES[label], (family_name, label, value)


def test_every_operation_is_there_before_it_was_called_or_failed(live: Embedded):
    found = page(live)
    for code in ("ok", "internal_error", "unavailable", "storage_full"):
        samples = [dict(labels) for _, labels in found.families["agentchat_requests_total"].samples]
        named = {labels["operation"] for labels in samples if labels["code"] == code}
        assert named == VALUES["operation"] - {"get_file_url"}  # which is download_file with another query


def test_head_is_answered_like_get(live: Embedded):
    before = page(live)("agentchat_requests_total", operation="metrics", code="ok")
    head = ask(live.url, method="HEAD")
    assert (head.status, head.text) == (200, "")
    assert int(head.headers["content-length"]) > 1000
    assert page(live)("agentchat_requests_total", operation="metrics", code="ok") == before + 2


# The numbers


@pytest.fixture
def alone() -> Iterator[Embedded]:
    """A relay that nobody else calls."""
    with running(settings=UNLIMITED) as relay:
        yield relay


def test_requests_are_counted_once_by_operation_and_code(alone: Embedded):
    key = alone.token("mac-ann")
    with Client(alone.url, key, retries=0) as client:
        for _ in range(3):
            client.send_message("general", "hello")
        file = client.upload_file("general", "a.txt", "text")["file"]["path"]
        link = client.get_file_url(file)["signed_url"]
    assert ask(alone.url, f"/api/files?path={quote(file)}", x_agent_api_key=key).status == 200
    assert ask(link, urlsplit(link).path).status == 200
    for target, method, header in (
        ("/api/v2/messages?channel=general", "GET", ""),
        ("/api/v2/messages?channel=no-such", "GET", key),
        ("/api/v2/messages", "GET", key),
        ("/api/v2/messages", "DELETE", key),
        ("/nowhere", "GET", key),
        ("/nowhere/else", "POST", key),
    ):
        ask(alone.url, target, method, x_agent_api_key=header)
    found, counts = page(alone), {
        ("send_message", "ok"): 3,
        ("upload_file", "ok"): 1,
        ("download_file", "ok"): 2,
        ("linked_file", "ok"): 1,
        ("read_messages", "unauthorized"): 1,
        ("read_messages", "not_found"): 1,
        ("read_messages", "bad_request"): 1,
        ("unknown", "unknown_operation"): 3,
    }  # fmt: skip
    for (operation, code), count in counts.items():
        assert found("agentchat_requests_total", operation=operation, code=code) == count, (operation, code)
    assert found.sum("agentchat_requests_total") == sum(counts.values())  # this one is not answered yet
    for operation in {operation for operation, _ in counts}:
        answers = found.sum("agentchat_requests_total", operation=operation)
        assert found("agentchat_request_seconds_count", operation=operation) == answers
        assert 0 < found("agentchat_request_seconds_sum", operation=operation) < 60


def test_faults_and_those_who_hang_up_have_codes_of_their_own(alone: Embedded):
    def fails(tx: Any) -> None:
        raise LookupError

    assert alone.relay is not None
    key, store = alone.token("mac-ann"), alone.relay.store
    submit = store.submit
    store.submit = lambda lane, call, done: submit(lane, fails, done)  # type: ignore[method-assign]
    assert ask(alone.url, "/api/v2/board", x_agent_api_key=key).status == 500
    store.submit = submit  # type: ignore[method-assign]
    head = f"PUT /api/files HTTP/1.1\r\nhost: x\r\nx-agent-api-key: {key}\r\ncontent-length: 9\r\n\r\n"
    parts = urlsplit(alone.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), 30) as connection:
        connection.sendall(head.encode())
        until(lambda: page(alone)("agentchat_requests_in_progress") == 2)  # with the one that asks
    until(lambda: page(alone)("agentchat_requests_total", operation="upload_file", code="disconnected") == 1)
    found = page(alone)
    assert found("agentchat_requests_total", operation="check_board", code="internal_error") == 1
    assert found("agentchat_requests_in_progress") == 1


def test_slow_answers_are_found_in_their_bucket(alone: Embedded):
    assert alone.relay is not None
    seconds = alone.relay.parts.metrics.tally("health").seconds
    for value in (0.0005, 0.00051, 0.9, 10.0, 11.0):
        seconds.observe(value)
    found = page(alone)
    at_most = {bound: found("agentchat_request_seconds_bucket", operation="health", le=bound) for bound in
               ("0.0005", "0.001", "0.5", "1", "5", "10", "+Inf")}  # fmt: skip
    assert at_most == {"0.0005": 1, "0.001": 2, "0.5": 2, "1": 3, "5": 3, "10": 4, "+Inf": 5}


def test_open_connections_and_downloads_under_way(alone: Embedded):
    with Client(alone.url, alone.token("mac-ann"), retries=0) as client:
        path = client.upload_file("general", "large.txt", "x" * 9_000_000)["file"]["path"]
        parts = urlsplit(client.get_file_url(path)["signed_url"])
    until(lambda: page(alone)("agentchat_connections") == 1)
    with socket.socket() as idle, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for each in (idle, slow):
            each.connect((parts.hostname, parts.port))
        slow.sendall(f"GET {parts.path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        until(lambda: page(alone)("agentchat_streams", kind="download") == 1)
        found = page(alone)
        assert found("agentchat_connections") == 3
        assert found("agentchat_requests_in_progress") == 2
        assert found("agentchat_requests_total", operation="linked_file", code="ok") == 1
    until(lambda: page(alone)("agentchat_connections") == 1)
    until(lambda: page(alone)("agentchat_streams", kind="download") == 0)
    until(lambda: page(alone)("agentchat_requests_in_progress") == 1)


def test_commits_calls_and_messages(tmp_path: Path):
    path = str(tmp_path)
    with running(path, settings=UNLIMITED) as relay:
        assert page(relay)("agentchat_messages_total") == 0
        with Client(relay.url, relay.token("mac-ann"), retries=0) as client:
            for _ in range(5):
                client.send_message("general", "hello")
            client.send_direct_message("mac-ann", "hello")
            client.check_board()
            client.search_messages("hello")
        found = page(relay)
        assert found("agentchat_messages_total") == 6
        assert found("agentchat_events_total") >= 6
        assert found("agentchat_commit_group_calls_sum") == found("agentchat_calls_total", lane="write")
        assert found("agentchat_commit_group_calls_count") == found("agentchat_commit_seconds_count") >= 7
        assert found("agentchat_commit_seconds_sum") > 0
        assert found("agentchat_calls_total", lane="read") >= 2  # a key that is looked up, a board
        assert found("agentchat_calls_total", lane="search") == 1
    with running(path, settings=UNLIMITED) as relay:
        assert page(relay)("agentchat_messages_total") == 6, "it goes on where it was"
        assert page(relay)("agentchat_events_total") >= found("agentchat_events_total")


def test_a_group_is_one_commit(alone: Embedded):
    before = page(alone)
    with held_writer(alone):
        for _ in range(5):
            submit(alone, Lane.APPEND)
    until(lambda: page(alone)("agentchat_commit_group_calls_count") == before("agentchat_commit_group_calls_count") + 2)
    found = page(alone)
    in_eight = [found("agentchat_commit_group_calls_bucket", le=le) for le in ("4", "8")]
    assert in_eight[1] - in_eight[0] == 1


@contextmanager
def held_writer(relay: Embedded) -> Iterator[None]:
    """The writer is at work on one call, and takes no other."""
    assert relay.relay is not None
    came, go = threading.Event(), threading.Event()

    def hold(tx: Any) -> None:
        came.set()
        go.wait(60)

    relay.relay.store.submit(Lane.WRITE, hold, lambda result, error: None)
    assert came.wait(60)
    try:
        yield
    finally:
        go.set()


def submit(relay: Embedded, lane: Lane) -> None:
    assert relay.relay is not None
    relay.relay.store.submit(lane, lambda tx: None, lambda result, error: None)


def test_what_waits_is_told_while_it_waits_and_also_when_nothing_else_is(alone: Embedded):
    key = alone.token("mac-ann")
    assert ask(alone.url, "/api/v2/board", x_agent_api_key=key).status == 200
    with held_writer(alone):
        for _ in range(7):
            submit(alone, Lane.WRITE)
        assert page(alone)("agentchat_waiting_calls", lane="write") == 7
        for _ in range(20_001 - 7):
            submit(alone, Lane.APPEND)
        sent = json.dumps({"channel": "general", "content": "hello"}).encode()
        connection = http.client.HTTPConnection(alone.url.removeprefix("http://"), timeout=30)
        with closing(connection):
            connection.request("POST", "/api/v2/messages", sent, {"x-agent-api-key": key})
            assert connection.getresponse().status == 503
        found = page(alone)
        assert found("agentchat_waiting_calls", lane="write") == 20_001
        assert found("agentchat_requests_total", operation="send_message", code="unavailable") == 1
    until(lambda: page(alone)("agentchat_waiting_calls", lane="write") == 0)


class StuckIndex(sqlite3.Connection):
    """Whose disk is full as long as `full` says so."""

    full = threading.Event()

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if sql.lstrip().startswith("INSERT INTO fulltext") and self.full.is_set():
            raise sqlite3.OperationalError("database or disk is full")
        return super().execute(sql, *values)


def stuck_index(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30, factory=StuckIndex)
    connection.row_factory = sqlite3.Row
    return connection


@pytest.mark.sqlite
def test_the_lag_of_the_index():
    with (
        running(settings=UNLIMITED, connect=stuck_index) as relay,
        Client(relay.url, relay.token("mac-ann"), retries=0) as client,
    ):
        StuckIndex.full.set()
        for _ in range(3):
            client.send_message("general", "hello")
        until(lambda: page(relay)("agentchat_index_lag_messages") == 3)
        StuckIndex.full.clear()
        client.send_message("general", "hello")
        until(lambda: page(relay)("agentchat_index_lag_messages") == 0)
        assert len(client.search_messages("hello")["results"]) == 4


@pytest.mark.sqlite
def test_sizes_on_disk(alone: Embedded):
    directory = alone.directory.path
    with Client(alone.url, alone.token("mac-ann"), retries=0) as client:
        before = page(alone)
        for _ in range(20):
            client.send_message("general", "x" * 30_000)
        client.search_messages("x")
    found = page(alone)
    for name in ("agentchat.db", "search.db"):
        files = [os.path.join(directory, f"{name}{suffix}") for suffix in ("", "-wal")]
        assert found("agentchat_database_bytes", file=name) == sum(os.path.getsize(file) for file in files)
    main = {"file": "agentchat.db"}
    assert found("agentchat_database_bytes", **main) > before("agentchat_database_bytes", **main) + 500_000
    disk = os.statvfs(directory)
    assert 0 < found("agentchat_disk_free_bytes") <= disk.f_blocks * disk.f_frsize


@pytest.mark.sqlite
def test_the_process(live: Embedded):
    began = time.time()
    found = page(live)
    assert 10_000_000 < found("process_resident_memory_bytes") < 10_000_000_000
    assert 0 < found("process_cpu_seconds_total") <= time.process_time()
    assert 0 < began - found("process_start_time_seconds") < time.monotonic()
    assert 5 < found("process_open_fds") < found("process_max_fds")
    with open("/dev/null", "rb"):
        assert page(live)("process_open_fds") == found("process_open_fds") + 1
    ((_, labels),) = found.families["agentchat_build_info"].samples
    assert live.relay is not None
    engine, version = live.relay.store.engine
    about = {"version": __version__, "contract": "v2", engine: version}
    assert about.items() <= dict(labels).items()
    assert {*dict(labels)} == {*about, "python"}


def test_records_of_the_log(live: Embedded):
    log.counts.written["error"] += 2
    log.counts.lost += 1
    found = page(live)
    assert found("agentchat_log_records_total", level="error") == log.counts.written["error"] >= 2
    assert found("agentchat_log_records_lost_total") == log.counts.lost >= 1


# Whatever fails


def test_what_cannot_be_read_is_left_out():
    def broken() -> float:
        raise RuntimeError

    metrics = Metrics()
    metrics.gauge("agentchat_first", "It works.", lambda: 1)
    metrics.gauge("agentchat_broken", "It does not.", broken)
    metrics.counter("agentchat_last_total", "It works, too.", lambda: {"a": 2, "b": 0.5}, "kind")
    found = Page(metrics.page().decode())
    assert "agentchat_broken" not in found.families
    assert found("agentchat_first") == 1
    assert [found("agentchat_last_total", kind=kind) for kind in "ab"] == [2, 0.5]


def test_a_store_that_fails_leaves_the_rest_of_the_page(alone: Embedded, monkeypatch: pytest.MonkeyPatch):
    def broken() -> Any:
        raise OSError

    assert alone.relay is not None
    whole = page(alone)
    monkeypatch.setattr(alone.relay.store, "measures", broken)
    rest = page(alone)
    gone = {*whole.families} - {*rest.families}
    assert "agentchat_commit_seconds" in gone
    assert "agentchat_requests_total" in rest.families


# Who may read it

FORWARDED = ("x-forwarded-for", "forwarded", "x-real-ip", "via", "x-forwarded-proto", "x-forwarded-host")


def bearer(relay: Embedded) -> dict[str, str]:
    return {"authorization": f"Bearer {relay.directory.admin_secret()}"}


def refused(answer: Answer) -> str:
    told = json.loads(answer.text)
    assert (answer.status, told["code"]) == (401, "unauthorized")
    assert answer.headers["x-request-id"]
    return str(told["error"])


def test_a_neighbour_may_read_it_unless_it_may_speak_for_a_stranger(alone: Embedded):
    assert ask(alone.url).status == 200
    port = urlsplit(alone.url).port
    for host in (f"localhost:{port}", "127.0.0.1", "[::1]"):
        assert ask(alone.url, host=host).status == 200
    strange = [{header: "10.0.0.1"} for header in FORWARDED]
    strange += [{"host": host} for host in ("example.org", f"relay.local:{port}", "127.0.0.1.example.org", "[::1", "")]
    for headers in strange:
        assert "Authorization: Bearer" in refused(ask(alone.url, **headers)), headers
        assert ask(alone.url, **headers, **bearer(alone)).status == 200


def test_a_proxy_that_says_nothing_of_itself_is_known_by_its_http(alone: Embedded):
    parts = urlsplit(alone.url)
    for version, status in (("1.0", b"401"), ("1.1", b"200")):
        with socket.create_connection((parts.hostname or "", parts.port or 0), 30) as connection:
            connection.sendall(f"GET /metrics HTTP/{version}\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
            assert connection.recv(100).split()[1] == status


@pytest.mark.parametrize(
    ("changes", "is_open"),
    [
        ({}, True),
        ({"public_url": "http://127.0.0.1:8790"}, True),
        ({"public_url": "http://localhost/relay"}, True),
        ({"public_url": "https://agentchat.example.org"}, False),
        ({"public_url": "http://192.0.2.7:8790"}, False),
        ({"trusted_proxies": ("192.0.2.7",)}, False),
    ],
)
def test_a_relay_behind_a_proxy_wants_the_credential(changes: dict[str, Any], is_open: bool):
    with running(settings=Settings(**changes)) as relay:
        answer = ask(relay.url)
        if is_open:
            assert answer.status == 200
        else:
            refused(answer)
        assert ask(relay.url, **bearer(relay)).status == 200


@pytest.mark.parametrize("client", [("192.0.2.7", 5), ("::ffff:192.0.2.7", 5), None])
def test_another_machine_needs_the_credential(alone: Embedded, client: tuple[str, int] | None):
    def status(*headers: tuple[bytes, bytes]) -> int:
        assert alone.relay is not None
        sent: list[Any] = []
        scope = {"type": "http", "method": "GET", "path": "/metrics", "query_string": b"", "http_version": "1.1",
                 "headers": [(b"host", b"localhost"), *headers], "client": client}  # fmt: skip

        async def receive() -> Any:
            return {"type": "http.request", "body": b""}

        async def send(message: Any) -> None:
            sent.append(message)

        call = alone.relay.app(scope, receive, send)
        asyncio.run_coroutine_threadsafe(call, alone._loop).result(60)
        return int(sent[0]["status"])

    assert status() == 401
    assert status((b"authorization", bearer(alone)["authorization"].encode())) == 200


def test_guessing_at_the_credential_is_limited_and_the_right_one_works_still(alone: Embedded):
    key = alone.token("mac-ann")
    for guess in (f"Bearer {key}", "Bearer x", "Basic eDp5", "Bearer"):
        assert ask(alone.url, authorization=guess).status == 401
    codes = [ask(alone.url, authorization=f"Bearer {number}").status for number in range(10)]
    assert codes == [401] * 8 + [429] * 2
    assert ask(alone.url, **bearer(alone)).status == 200


# What is told about it elsewhere


def words(text: str) -> set[str]:
    """The metrics that a text names, without what a histogram's name ends in."""
    found = re.findall(r"\b(?:agentchat|process)_[a-z_]+\b", text)
    return {re.sub("_(bucket|sum|count)$", "", name) for name in found} - {"agentchat_relay"}


@pytest.fixture(scope="module")
def whole() -> Iterator[Page]:
    """The page of a relay on which everything happened once."""
    with running(settings=UNLIMITED) as relay:
        with Client(relay.url, relay.token("mac-ann"), retries=0) as client:
            client.send_message("general", "hello")
        yield page(relay)


@pytest.mark.sqlite
@pytest.mark.parametrize("name", ["alerts.yml", "grafana.json"])
def test_what_is_watched_exists(whole: Page, name: str):
    text = (ROOT / "deploy" / name).read_text("utf-8")
    exprs = re.findall(r"expr: (?:\|\n((?: {10}.*\n)+)|(.*)\n)", text)
    queries = json_queries(text) if name.endswith("json") else [block or line for block, line in exprs]
    assert len(queries) > 10
    for query in queries:
        assert words(query) <= {*whole.families}, query
        assert words(query) or "up{" in query
        for label, _, value in re.findall(r'(\w+)(=~|!=|=)"([^"$]*)"', query):
            if label in VALUES:
                assert {*value.split("|")} <= VALUES[label], query


def json_queries(text: str) -> list[str]:
    board = json.loads(text)
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in panels:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert {variable["name"]: variable["type"] for variable in board["templating"]["list"]} == {
        "datasource": "datasource",
        "instance": "query",
    }
    return [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.mark.sqlite
def test_all_of_it_is_on_the_dashboard(whole: Page):
    shown = words(" ".join(json_queries((ROOT / "deploy" / "grafana.json").read_text("utf-8"))))
    assert shown == {*whole.families}


@pytest.mark.sqlite
def test_all_of_it_is_in_the_document(whole: Page):
    """Name, kind, labels and what it says of itself; only `le` goes without saying."""
    text = (ROOT / "docs" / "observing.md").read_text("utf-8")
    rows = re.findall(r"^\| `((?:agentchat|process)_\w+)` \| (\w+) \|(.*?)\| (.*) \|$", text, re.MULTILINE)
    told = {name: (kind, {*re.findall(r"`(\w+)`", labels)}, help) for name, kind, labels, help in rows}
    assert len(told) == len(rows)
    for name, family in whole.families.items():
        assert told.pop(name) == (family.kind, family.labels(), family.help)
    assert told == {}
    assert words(text) <= {*whole.families}
    alerts = re.findall(r"- alert: (\w+)", (ROOT / "deploy" / "alerts.yml").read_text("utf-8"))
    assert {*re.findall(r"`(AgentChat\w+)`", text)} == {*alerts}


def test_the_scrape_finds_the_page():
    text = (ROOT / "deploy" / "prometheus.yml").read_text("utf-8")
    from agentchat_relay.cli.options import PORT

    assert f'targets: ["127.0.0.1:{PORT}"]' in text
    assert "metrics_path" not in text  # which is /metrics by default
    for file in re.findall(r"- (\S+\.yml)", text):
        assert (ROOT / "deploy" / file).is_file()
