"""Files over real sockets, line by line of the contract: what goes in comes out, safely, and costs bounded memory."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import secrets
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import pytest

from agentchat import Client
from agentchat._exchange import IDEMPOTENCY_HEADER, KEY_HEADER
from agentchat.errors import AgentChatError, BadRequest, NotFound
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.http.links import Links
from agentchat_relay.settings import Settings
from langchain_agentchat import AsyncClient

UNLIMITED = Settings(agent_reads=0, agent_writes=0, all_reads=0, all_writes=0)
MIB = 1 << 20
DEADLINE = 60.0
PATH = re.compile(r"[a-z0-9-]+/[0-9]{13}-[A-Za-z0-9._-]+")


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def file(self) -> dict[str, Any]:
        assert self.status == 200, self.body
        return dict(self.json["file"])


class Wire:
    def __init__(self, url: str, key: str | None) -> None:
        parts = urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=DEADLINE)
        self.headers = {} if key is None else {KEY_HEADER: key}

    def send(self, method: str, target: str, body: Any = None, **headers: str) -> Answer:
        text = json.dumps(body).encode() if isinstance(body, dict) else body
        self.connection.request(method, target, body=text, headers={**self.headers, **headers})
        response = self.connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def put(self, content: str = "abc", filename: str = "a.txt", channel: str = "general", **more: Any) -> Answer:
        return self.send("PUT", "/api/files", {"channel": channel, "filename": filename, "content": content, **more})

    def get(self, path: str, more: str = "", method: str = "GET") -> Answer:
        return self.send(method, f"/api/files?path={quote(path, safe='')}{more}")

    def listed(self, folder: str) -> list[dict[str, Any]]:
        answer = self.send("POST", "/api/files", {"folder": folder})
        assert answer.status == 200, answer.body
        return list(answer.json["files"])

    def refused(self, answer: Answer) -> tuple[int, str]:
        assert isinstance(answer.json["error"], str) and answer.json["error"]
        return answer.status, answer.json["code"]

    def close(self) -> None:
        self.connection.close()


MakeWire = Callable[..., Wire]


@pytest.fixture(scope="module")
def live() -> Iterator[Embedded]:
    with running(settings=UNLIMITED) as relay:
        relay.space("other")
        yield relay


@pytest.fixture
def make(live: Embedded) -> Iterator[MakeWire]:
    with ExitStack() as stack:

        def wire(*, space: str = "main", stranger: bool = False, relay: Embedded = live) -> Wire:
            key = None if stranger else relay.token(f"mac-{secrets.token_hex(4)}", space=space)
            return stack.enter_context(closing(Wire(relay.url, key)))

        yield wire


@pytest.fixture
def wire(make: MakeWire) -> Wire:
    return make()


def fresh() -> str:
    return f"files-{secrets.token_hex(5)}"


def blobs(directory: str) -> set[str]:
    """Everything below the directory of contents."""
    return {str(path) for path in (Path(directory) / "blobs").rglob("*") if path.is_file() and path.name != "lock"}


def temporaries(data: Path) -> list[Path]:
    """Files on their way, of any process."""
    return [path for path in (data / "blobs" / "tmp").rglob("*") if path.is_file() and path.name != "lock"]


# Both clients


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, live: Embedded) -> Callable[..., Any]:
    """Calls an operation as a new agent, through one of the clients."""
    key = live.token(f"mac-{secrets.token_hex(4)}")

    def synchronous(name: str, **arguments: Any) -> Any:
        with Client(live.url, key, retries=0) as client:
            return getattr(client, name)(**arguments)

    def asynchronous(name: str, **arguments: Any) -> Any:
        async def run() -> Any:
            async with AsyncClient(live.url, key, retries=0) as client:
                return await getattr(client, name)(**arguments)

        return asyncio.run(run())

    return synchronous if request.param == "sync" else asynchronous


def test_a_text_through_a_client(call: Callable[..., Any]):
    channel, text = fresh(), "grüße\n😀\0\ufeff end"
    file = call("upload_file", channel=channel, filename="notes.md", content=text, content_type="text/markdown")["file"]
    assert file["name"] == "notes.md"
    assert file["size"] == len(text.encode())
    assert PATH.fullmatch(file["path"]) and file["path"].startswith(f"{channel}/")
    assert file["bucket"]
    found = call("download_file", path=file["path"])
    assert found["content"] == text.encode()
    assert found["content_type"] == "text/markdown"
    assert [one["path"] for one in call("list_files", folder=channel)["files"]] == [file["path"]]


def test_bytes_through_a_client(call: Callable[..., Any]):
    content = os.urandom(100_001) + bytes(range(256))
    sent = b64encode(content).decode()
    file = call("upload_file", channel=fresh(), filename="x.bin", content=sent, encoding="base64")["file"]
    assert file["size"] == len(content)
    found = call("download_file", path=file["path"])
    assert found == {"content": content, "content_type": "application/octet-stream"}


def test_a_link_through_a_client(call: Callable[..., Any], make: MakeWire, live: Embedded):
    file = call("upload_file", channel="general", filename="linked.txt", content="linked")["file"]
    link = call("get_file_url", path=file["path"])
    assert link["expires_in"] == 3600
    assert link["signed_url"].startswith(f"{live.url}/")
    assert make(stranger=True).send("GET", link["signed_url"].removeprefix(live.url)).body == b"linked"


def test_refusals_through_a_client(call: Callable[..., Any]):
    with pytest.raises(NotFound):
        call("download_file", path="general/1700000000000-none.txt")
    with pytest.raises(BadRequest):
        call("download_file", path="../agentchat.db")
    with pytest.raises(BadRequest, match="send_direct_message"):
        call("upload_file", channel="direct-messages", filename="a", content="x")
    with pytest.raises(AgentChatError, match="base64"):
        call("upload_file", channel="general", filename="a", content="no!", encoding="base64")


def test_the_largest_file_through_a_client(call: Callable[..., Any]):
    content = os.urandom(10 * MIB)
    sent = b64encode(content).decode()
    file = call("upload_file", channel=fresh(), filename="large", content=sent, encoding="base64")["file"]
    assert file["size"] == 10 * MIB
    assert call("download_file", path=file["path"])["content"] == content


# Upload


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("a" * 10 * MIB, None), ("\x01" * 10 * MIB, None), ("é" * 5 * MIB, "utf-8"),
        (b64encode(bytes(10 * MIB)).decode(), "base64"),
    ],
    ids=["plain", "escaped", "two bytes", "base64"],
)  # fmt: skip
def test_ten_mebibytes_and_not_a_byte_more(wire: Wire, content: str, encoding: str | None):
    assert wire.put(content, encoding=encoding).file["size"] == 10 * MIB
    more = b64encode(bytes(10 * MIB + 1)).decode() if encoding == "base64" else content + "a"
    assert wire.refused(wire.put(more, encoding=encoding))[0] == 400
    assert wire.put("after that").status == 200


def test_far_too_large_a_body_is_refused_before_all_of_it_came(live: Embedded, wire: Wire):
    parts = urlsplit(live.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=DEADLINE) as sock:
        head = f"PUT /api/files HTTP/1.1\r\nHost: x\r\n{KEY_HEADER}: {wire.headers[KEY_HEADER]}\r\n"
        sock.sendall(f"{head}Content-Length: {1 << 40}\r\n\r\n".encode() + b'{"content": "')
        piece, sent = b"a" * MIB, 0
        with suppress(ConnectionError):
            while sent < 200 * MIB and not readable(sock):
                sock.sendall(piece)
                sent += len(piece)
        assert sock.recv(100).startswith(b"HTTP/1.1 400")


def readable(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


@pytest.mark.parametrize("member", ["filename", "content", "channel"])
@pytest.mark.parametrize("value", ["", None, 5, [], {}, True, ...], ids=repr)
def test_what_is_required(wire: Wire, member: str, value: Any):
    body = {"filename": "a", "content": "x", "channel": "general", member: value}
    if value is ...:
        del body[member]
    assert wire.refused(wire.send("PUT", "/api/files", body)) == (400, "bad_request")


@pytest.mark.parametrize("channel", ["G", "-a", "a", "a b", "a" * 101, "größe", "../x", "a/b", "general\n"])
def test_a_channel_is_a_name(wire: Wire, channel: str):
    assert wire.refused(wire.put(channel=channel)) == (400, "bad_request")


def test_direct_messages_take_no_file_and_say_what_to_do(wire: Wire):
    answer = wire.put(channel="direct-messages")
    assert wire.refused(answer) == (400, "bad_request")
    assert "send_direct_message" in answer.json["error"]


def test_a_refused_upload_leaves_no_content_behind(live: Embedded, wire: Wire, make: MakeWire):
    before = blobs(live.directory.path)
    secret = secrets.token_hex(20)
    wire.put(secret, channel="direct-messages")
    wire.put(secret, channel="Not A Name")
    wire.put(secret, filename="")
    wire.put(secret, filename="a\0b")
    wire.put(secret + "!", encoding="base64")
    make(stranger=True).put(secret)
    assert blobs(live.directory.path) == before


@pytest.mark.parametrize("encoding", [None, "utf-8", "UTF-8", "utf8", "BASE64", "hex", "", 5, []])
def test_any_encoding_but_base64_is_utf_8(wire: Wire, encoding: Any):
    assert wire.get(wire.put("QUJD", encoding=encoding).file["path"]).body == b"QUJD"


def test_base64_is_decoded(wire: Wire):
    assert wire.get(wire.put("QUJD", encoding="base64").file["path"]).body == b"ABC"
    assert wire.get(wire.put("QUJD\r\nRA==\n", encoding="base64").file["path"]).body == b"ABCD"
    for wrong in ("QUJ*", "Q", "=", "QQ==QQ==", "größe", "QUJD\0"):
        assert wire.refused(wire.put(wrong, encoding="base64")) == (400, "bad_request"), wrong


def test_a_file_creates_its_channel_and_its_author_joins(wire: Wire):
    channel = f"tech-{secrets.token_hex(4)}"
    wire.put(channel=channel)
    channels = wire.send("GET", "/api/v2/channels").json["data"]["channels"]
    assert [(one["name"], one["type"]) for one in channels] == [(channel, "technology")]


ODD_NAMES = [
    "a.txt", ".", "..", "...", "a..b", "..a", "a..", "....", "-", "_", " ", "a b", " a ", "a/b.txt", "../../etc/passwd",
    "/etc/passwd", "C:\\Windows\\x", "\\\\host\\share", "größe.txt", "日本語.pdf", "😀", "a\u202etxt.exe", "%2e%2e%2f",
    "a?b#c&path=d", "a;b,c", 'quo"te.txt', "it's", "a\nb", "a\r\nSet-Cookie: x=1", "a\tb", "\x7f", "<script>.html",
    "a" * 255, "日" * 255, "a." * 127, ".htaccess", "con.txt", "~", "$(reboot)", "`id`", "{}", "e\u0301", "*", "%00",
    "a" * 140 + "..." + "b" * 100,
]  # fmt: skip


@pytest.mark.parametrize("name", ODD_NAMES, ids=lambda name: ascii(name)[:30])
def test_a_file_of_any_name_can_be_read_again(wire: Wire, make: MakeWire, live: Embedded, name: str):
    channel = fresh()
    answer = wire.put("odd", name, channel)
    if not name.strip():
        assert wire.refused(answer) == (400, "bad_request")
        return
    file = answer.file
    assert file["name"] == name
    assert PATH.fullmatch(file["path"]), file["path"]
    assert file["path"].startswith(f"{channel}/")
    got = wire.get(file["path"])
    assert (got.status, got.body) == (200, b"odd"), got.body
    check_disposition(got.headers["content-disposition"])
    link = wire.get(file["path"], "&url=true")
    assert make(stranger=True).send("GET", link.json["signed_url"].removeprefix(live.url)).body == b"odd"
    assert [one["name"] for one in wire.listed(channel)] == [name]


def check_disposition(value: str) -> None:
    """A file is saved, under a name that leads nowhere else."""
    assert value.startswith("attachment;") and value.isascii() and value.isprintable()
    found = re.fullmatch(r"""attachment; filename="([A-Za-z0-9._-]+)"; filename\*=UTF-8''([!-~]+)""", value)
    assert found is not None
    for name in (found[1], unquote(found[2])):
        assert name not in ("", ".", "..") and not set(name) & set("/\\\r\n\0")


@pytest.mark.parametrize("name", ["", "a\0b", "\0", "a" * 256], ids=range(4))
def test_a_name_that_is_none(wire: Wire, name: str):
    assert wire.refused(wire.put(filename=name)) == (400, "bad_request")


def test_half_a_surrogate_pair_is_refused(wire: Wire):
    for member in (b'"filename": "\\ud800", "content": "x"', b'"filename": "a", "content": "\\udfff"'):
        answer = wire.send("PUT", "/api/files", b'{"channel": "general", %b}' % member)
        assert wire.refused(answer) == (400, "bad_request")


def test_two_of_one_name_in_one_moment(wire: Wire):
    paths = {wire.put(f"{number}", "same.txt").file["path"] for number in range(30)}
    assert len(paths) == 30
    assert {wire.get(path).body for path in paths} == {b"%d" % number for number in range(30)}


# The announcement


def announcements(wire: Wire, channel: str) -> list[dict[str, Any]]:
    return list(wire.send("GET", f"/api/v2/messages?channel={channel}").json["data"]["messages"])


@pytest.mark.parametrize("value", [True, None, 1, 0, "no", [], ...], ids=repr)
def test_a_file_is_announced_unless_told_otherwise(wire: Wire, value: Any):
    channel = fresh()
    more = {} if value is ... else {"post_message": value}
    file = wire.put("abc", "report.md", channel, content_type="text/markdown", **more).file
    (message,) = announcements(wire, channel)
    assert "report.md" in message["content"] and "3" in message["content"]
    expected = {"name": "report.md", "size": 3, "type": "text/markdown", "path": file["path"], "bucket": file["bucket"]}
    assert message["metadata"] == {"files": [expected]}


def test_a_file_can_come_silently(wire: Wire):
    channel = fresh()
    wire.put(channel=channel, post_message=False)
    assert announcements(wire, channel) == []
    assert len(wire.listed(channel)) == 1


def test_a_files_name_mentions_nobody(wire: Wire, make: MakeWire):
    target = make()
    name = target.send("POST", "/api/v2/messages", {"channel": "general", "content": "here"}).json["data"]["message"]
    channel = fresh()
    wire.put(channel=channel, filename=f"hello @{name['author_name']} now")
    assert len(announcements(wire, channel)) == 1
    assert target.send("GET", "/api/v2/mentions").json["data"]["mentions"] == []


# Types and headers


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("text/markdown", "text/markdown"), ("image/png", "image/png"), ("application/pdf", "application/pdf"),
        ("text/html", None), ("TEXT/HTML; charset=utf-8", None), ("image/svg+xml", None), ("text/xml", None),
        ("application/xhtml+xml", None), ("application/javascript", None), ("text/javascript", None), ("", None),
        ("multipart/x-mixed-replace", None), (None, None), ("junk", None), ("text/plain\r\nX: y", None), (5, None),
        ("a" * 500 + "/b", None),
        (["text/plain"], None), ("text/plain, text/html", None), ("*/*", None),
    ],
)  # fmt: skip
def test_no_type_that_a_browser_runs(wire: Wire, sent: Any, kept: str | None):
    file = wire.put(content_type=sent).file
    answer = wire.get(file["path"])
    assert answer.headers["content-type"] == (kept or "application/octet-stream")
    assert wire.listed("general")[0]["type"] == answer.headers["content-type"]


def test_the_headers_of_a_download(wire: Wire, make: MakeWire, live: Embedded):
    content = os.urandom(3 * MIB + 1)
    path = wire.put(b64encode(content).decode(), "data.bin", encoding="base64").file["path"]
    link = wire.get(path, "&url=true").json["signed_url"].removeprefix(live.url)
    for answer in (wire.get(path), make(stranger=True).send("GET", link)):
        assert answer.body == content
        assert answer.headers["content-length"] == str(len(content))
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"].startswith("attachment;")
        assert "data.bin" in answer.headers["content-disposition"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "sandbox" in answer.headers["content-security-policy"]
    head = wire.get(path, method="HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(content)))
    assert wire.get(path).body == content


# Paths

BAD_PATHS = ["..", "../x", "a/../b", "general/..", "/etc/passwd", "/", "//x", "\0", "general/a\0b", "general/1-a..b"]


@pytest.mark.parametrize("path", BAD_PATHS, ids=ascii)
@pytest.mark.parametrize("more", ["", "&url=true"])
def test_a_path_that_leads_elsewhere(wire: Wire, make: MakeWire, path: str, more: str):
    for one in (wire, make(stranger=True)):  # checked before the key
        assert one.refused(one.get(path, more)) == (400, "bad_request")


@pytest.mark.parametrize(
    "path",
    [
        "x",
        "general",
        "general/",
        "general/x",
        "./general",
        "general/1-a.txt/",
        "größe/x",
        "%2e%2e",
        "blobs/1",
        "a" * 1000,
    ],
)
def test_a_path_of_nothing(wire: Wire, make: MakeWire, path: str):
    assert wire.refused(wire.get(path)) == (404, "not_found")
    assert wire.refused(wire.get(path, "&url=true")) == (404, "not_found")
    stranger = make(stranger=True)
    assert stranger.refused(stranger.get(path)) == (401, "unauthorized")


def test_a_path_is_needed(wire: Wire):
    for query in ("", "?path=", "?path=%20", "?url=true", "?PATH=x"):
        assert wire.refused(wire.send("GET", f"/api/files{query}")) == (400, "bad_request"), query


def test_every_route_needs_a_key(make: MakeWire):
    stranger = make(stranger=True)
    for answer in (
        stranger.put(),
        stranger.get("general/x"),
        stranger.send("POST", "/api/files", {"folder": "general"}),
    ):
        assert stranger.refused(answer) == (401, "unauthorized")


# Signed links


def test_a_link_is_good_without_a_key_and_for_nothing_else(live: Embedded, wire: Wire, make: MakeWire):
    first, second = (wire.put(text, f"{text}.txt").file["path"] for text in ("first", "second"))
    links = [wire.get(path, "&url=TRUE").json["signed_url"] for path in (first, second)]
    stranger = make(stranger=True)
    targets = [link.removeprefix(live.url) for link in links]
    assert [stranger.send("GET", target).body for target in targets] == [b"first", b"second"]
    assert stranger.send("GET", targets[0] + "?path=" + second).body == b"first"
    assert stranger.send("GET", targets[0], Host="evil.example").body == b"first"
    assert stranger.send("HEAD", targets[0]).status == 200
    for method in ("PUT", "POST", "DELETE"):
        assert stranger.send(method, targets[0]).status == 405
    token = targets[0].rpartition("/")[2]
    changed = ("A" if token[-20] != "A" else "B").join((token[:-20], token[-19:]))
    for wrong in (token[:-1], token + "A", token[1:], changed, "A" * len(token), "x", "%00", "größe", token.swapcase()):
        answer = stranger.send("GET", f"/api/files/signed/{quote(wrong, safe='%')}")
        assert stranger.refused(answer) == (403, "forbidden"), wrong


def test_a_links_hour(live: Embedded, wire: Wire, make: MakeWire):
    """A token of the relay's own secret, once fresh and once an hour old."""
    path, stranger = wire.put("timely").file["path"], make(stranger=True)
    token = wire.get(path, "&url=true").json["signed_url"].rpartition("/")[2]
    links = Links(live.directory.link_secret(), "")
    now = time.time_ns() // 1000
    id = links.read(token).at(now)
    for age, status in ((0, 200), (3500, 200), (3600, 403), (7200, 403)):
        assert stranger.send("GET", links.make(id, now - age * 1_000_000)).status == status
    assert stranger.send("GET", links.make(id + 1000, now)).status == 404


def test_links_of_another_relay_and_where_links_point(wire: Wire, make: MakeWire):
    settings = UNLIMITED._replace(public_url="https://files.example/base")
    with running(settings=settings) as other:
        theirs = make(relay=other)
        link = theirs.get(theirs.put().file["path"], "&url=true").json["signed_url"]
        assert link.startswith("https://files.example/base/api/files/signed/")
        assert theirs.send("GET", link.removeprefix("https://files.example/base"), **{KEY_HEADER: ""}).body == b"abc"
        stranger = make(stranger=True)
        assert stranger.send("GET", link.removeprefix("https://files.example/base")).status == 403
        theirs.close()


# Lists


def test_a_list_is_newest_first_and_bounded(wire: Wire):
    channel = fresh()
    paths = [wire.put(f"{number}", f"{number}.txt", channel, post_message=False).file["path"] for number in range(105)]
    found = wire.listed(channel)
    assert [one["path"] for one in found] == paths[:4:-1]
    assert {"name", "size", "path"} <= found[0].keys()
    assert (found[0]["name"], found[0]["size"]) == ("104.txt", 3)


def test_a_list_of_nothing(wire: Wire):
    for folder in ("no-such-channel", "direct-messages", "größe", "..", "/", "a" * 1000):
        assert wire.listed(folder) == [], folder
    for body in (b"{}", b"[]", b'{"folder": ""}', b'{"folder": 5}', b'{"folder": null}', b'{"folder": "a\\u0000"}'):
        assert wire.refused(wire.send("POST", "/api/files", body)) == (400, "bad_request"), body


# Spaces


def test_another_space_has_other_files(live: Embedded, make: MakeWire):
    ours, theirs = make(), make(space="other")
    before = blobs(live.directory.path)
    content = secrets.token_hex(30)
    path = ours.put(content).file["path"]
    assert theirs.refused(theirs.get(path)) == (404, "not_found")
    assert theirs.refused(theirs.get(path, "&url=true")) == (404, "not_found")
    assert path not in [one["path"] for one in theirs.listed("general")]
    assert theirs.put(content).status == 200
    assert len(blobs(live.directory.path) - before) == 2  # contents are never shared between spaces


# Once


def test_a_repeated_upload_is_one_file(live: Embedded, wire: Wire):
    channel, key = fresh(), {IDEMPOTENCY_HEADER: secrets.token_hex(8)}
    body = {"channel": channel, "filename": "a.txt", "content": "once", "content_type": "text/plain"}
    first = wire.send("PUT", "/api/files", body, **key)
    again = wire.send("PUT", "/api/files", body, **key)
    assert first.status == again.status == 200
    assert first.json == again.json
    assert len(wire.listed(channel)) == len(announcements(wire, channel)) == 1
    for changed in ({"content": "twice"}, {"filename": "b.txt"}, {"channel": "general"}, {"content_type": "text/csv"}):
        answer = wire.send("PUT", "/api/files", {**body, **changed}, **key)
        assert wire.refused(answer) == (409, "idempotency_mismatch"), changed
    same = {**body, "content": b64encode(b"once").decode(), "encoding": "base64"}
    assert wire.send("PUT", "/api/files", same, **key).status in (200, 409)
    assert len(wire.listed(channel)) == 1


def test_the_same_content_twice_is_one_blob(live: Embedded, wire: Wire, make: MakeWire):
    before = blobs(live.directory.path)
    content = secrets.token_hex(100)
    paths = [one.put(content, name).file["path"] for one in (wire, make()) for name in ("a.txt", "b.txt")]
    assert len(set(paths)) == 4
    (blob,) = blobs(live.directory.path) - before
    assert Path(blob).name == sha256(content.encode()).hexdigest()


# Faults


def test_a_content_that_is_gone_from_the_disk(live: Embedded, wire: Wire, make: MakeWire):
    before = blobs(live.directory.path)
    path = wire.put(secrets.token_hex(50)).file["path"]
    link = wire.get(path, "&url=true").json["signed_url"].removeprefix(live.url)
    (blob,) = blobs(live.directory.path) - before
    os.unlink(blob)
    assert wire.refused(wire.get(path)) == (404, "not_found")
    assert wire.refused(make(stranger=True).send("GET", link)) == (404, "not_found")
    assert wire.put("the relay goes on").status == 200


def test_half_a_content_is_not_passed_off_as_the_whole(live: Embedded, wire: Wire):
    before = blobs(live.directory.path)
    path = wire.put(secrets.token_hex(500_000)).file["path"]
    (blob,) = blobs(live.directory.path) - before
    os.truncate(blob, 500_000)
    with pytest.raises((http.client.IncompleteRead, http.client.RemoteDisconnected)):
        answer = wire.get(path)
        if answer.status != 200:
            raise http.client.RemoteDisconnected("refused, which is as good")
    wire.connection.close()
    assert wire.put("the relay goes on").status == 200


# Load, in a process of its own


class Process(NamedTuple):
    url: str
    relay: subprocess.Popen[str]
    data: Path

    def token(self) -> str:
        """The key of a new agent."""
        credential = (self.data / "admin.key").read_text().strip()
        with closing(Wire(self.url, None)) as wire:
            name = {"name": f"mac-{secrets.token_hex(4)}"}
            told = wire.send("POST", "/api/v2/admin/agents/token", name, Authorization=f"Bearer {credential}")
            return str(told.json["data"]["key"])

    def most_memory(self) -> int:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.relay.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.relay.pid}/fd"))


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    data = tmp_path / "data"
    command = [sys.executable, "-m", "agentchat", "serve", "--data", str(data), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running_relay:
        assert running_relay.stdout is not None
        try:
            ready = re.search(r"ready on (http://[^,\s]+)", running_relay.stdout.readline())
            assert ready is not None
            yield Process(ready[1], running_relay, data)
        finally:
            running_relay.kill()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        threading.Event().wait(0.02)


def in_threads(count: int, work: Callable[[int], None]) -> None:
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * DEADLINE)
    assert failures == []


def test_fifty_uploads_at_once_in_bounded_memory(process: Process):
    contents = [os.urandom(32) * (4 * MIB // 32) for _ in range(50)]
    keys = [process.token() for _ in range(10)]
    before = process.most_memory()

    def upload(number: int) -> None:
        with closing(Wire(process.url, keys[number % 10])) as wire:
            sent = b64encode(contents[number]).decode()
            file = wire.put(sent, f"{number}.bin", encoding="base64").file
            assert sha256(wire.get(file["path"]).body).digest() == sha256(contents[number]).digest()

    in_threads(50, upload)
    assert process.most_memory() - before < 150 * MIB  # all of them at once would be 267 MiB as they travel
    assert temporaries(process.data) == []
    assert len(blobs(str(process.data))) == 50


def test_one_agents_uploads_at_once_all_arrive_by_and_by(process: Process):
    """However many at a time the relay takes of one agent: its client waits, and none is lost."""
    with Client(process.url, process.token(), retries=50) as client:

        def upload(number: int) -> None:
            client.upload_file("crowded", f"{number}.txt", f"{number}" * 100_000)

        in_threads(40, upload)
        names = sorted(one["name"] for one in client.list_files("crowded")["files"])
    assert names == sorted(f"{number}.txt" for number in range(40))


def test_downloads_that_nobody_reads_cost_no_memory(process: Process):
    key = process.token()
    with closing(Wire(process.url, key)) as wire, ExitStack() as stack:
        path = wire.put("x" * 10 * MIB).file["path"]
        wire.get(path)
        before, descriptors = process.most_memory(), process.descriptors()
        parts = urlsplit(process.url)
        request = f"GET /api/files?path={path} HTTP/1.1\r\nHost: x\r\n{KEY_HEADER}: {key}\r\n\r\n".encode()
        for _ in range(40):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(DEADLINE)
            sock.connect((parts.hostname, parts.port))
            sock.sendall(request)
            assert sock.recv(12) == b"HTTP/1.1 200"
        assert wire.get(path).body == b"x" * 10 * MIB
        assert process.most_memory() - before < 150 * MIB
        stack.close()
        wait_until(lambda: process.descriptors() <= descriptors)


@contextmanager
def stalled_upload(process: Process, key: str, size: int = 4 * MIB) -> Iterator[socket.socket]:
    """Half an upload, and then nothing."""
    parts = urlsplit(process.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=DEADLINE) as sock:
        head = f"PUT /api/files HTTP/1.1\r\nHost: x\r\n{KEY_HEADER}: {key}\r\nContent-Length: {size}\r\n\r\n"
        sock.sendall(head.encode() + b'{"channel": "general", "filename": "a", "content": "')
        sock.sendall(b"a" * (size // 2))
        yield sock


def test_a_client_that_dies_in_mid_upload_leaves_nothing(process: Process):
    key = process.token()
    with closing(Wire(process.url, key)) as wire:
        assert wire.put().status == 200
        before = process.descriptors()
        for number in range(20):
            with stalled_upload(process, key) as sock:
                if number % 2:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_until(lambda: process.descriptors() <= before)
        assert temporaries(process.data) == []
        assert len(blobs(str(process.data))) == 1
        assert wire.put("alive").status == 200


def test_uploads_that_stall_hold_nobody_up(process: Process):
    """One agent with many slow lines must not keep the others from uploading."""
    slow = process.token()
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(stalled_upload(process, slow))
        wire = stack.enter_context(closing(Wire(process.url, process.token())))
        assert wire.send("GET", "/api/v2/board").status == 200
        wire.connection.close()
        wire.connection.timeout = 15  # half of what a silent upload is waited for
        assert wire.put("quick").status == 200


@pytest.mark.sqlite
def test_a_relay_killed_in_mid_upload_starts_clean(process: Process):
    key = process.token()
    with closing(Wire(process.url, key)) as wire, stalled_upload(process, key):
        path = wire.put("kept").file["path"]
        process.relay.kill()
        process.relay.wait()
    with running(str(process.data), settings=UNLIMITED) as relay, closing(Wire(relay.url, key)) as wire:
        assert temporaries(process.data) == []
        assert wire.get(path).body == b"kept"
