"""Uploads: what a client put into its JSON is what lies on the disk, however large and wherever its chunks end."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentchat.errors import BadRequest, Unavailable
from agentchat_relay.blobs.directory import DirectoryBlobs
from agentchat_relay.blobs.seam import Blobs
from agentchat_relay.http import uploads
from agentchat_relay.http.uploads import Spool, Upload, decoded, store

pytestmark = pytest.mark.sqlite

MIB = 1024 * 1024
OTHERS: dict[str, Any] = {"filename": "größe.txt", "channel": "general", "content_type": None, "post_message": False}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("relay") / "blobs"


@pytest.fixture(scope="module")
def blobs(root: Path) -> Blobs:
    return DirectoryBlobs(str(root))


def body(content: object, **others: object) -> bytes:
    return json.dumps({**OTHERS, **others, "content": content}).encode()


def stored(blobs: Blobs, upload: Upload) -> bytes:
    with blobs.open(1, upload.hash) as file:
        content = file.read()
    assert (upload.size, upload.hash) == (len(content), hashlib.sha256(content).hexdigest())
    return content


def kept(blobs: Blobs, view: uploads.Body, limit: int = MIB) -> bytes:
    return stored(blobs, store(view, blobs, 1, limit))


def refusal(blobs: Blobs, view: bytes, limit: int = MIB) -> str:
    with pytest.raises(BadRequest) as caught:
        store(view, blobs, 1, limit)
    assert os.listdir(blobs.temporary) == ["lock"]
    return str(caught.value)


def spooled(spool: Spool, whole: bytes, chunk: int) -> uploads.Body:
    for at in range(0, len(whole), chunk):
        spool.add(whole[at : at + chunk])
    return spool.view()


# What comes in is what is stored

# Characters of one to four bytes, those JSON escapes, and those that look like escapes themselves.
TEXTS = st.text(min_size=1) | st.text(alphabet='aé€😀"\\/u0\n\x00\x1f\x7f\u2028\uffff', min_size=1)


@pytest.fixture(scope="class")
def small_pieces() -> Iterator[None]:
    """Pieces just larger than the longest escape, so that a border falls into everything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uploads, "_PIECE", 13)
        patch.setattr(uploads, "_IN_MEMORY", 40)
        yield


@pytest.mark.usefixtures("small_pieces")
class TestRoundTrip:
    @settings(deadline=None)  # each example writes to a disk
    @given(text=TEXTS, ascii=st.booleans(), chunk=st.integers(1, 60), slashes=st.booleans())
    def test_a_text(self, blobs: Blobs, text: str, ascii: bool, chunk: int, slashes: bool):
        whole = json.dumps({"content": text, **OTHERS}, ensure_ascii=ascii)
        whole = whole.replace("/", "\\/") if slashes else whole
        spool = Spool(MIB, blobs.temporary)
        upload = store(spooled(spool, whole.encode(), chunk), blobs, 1, MIB)
        spool.close()
        assert stored(blobs, upload) == text.encode()
        assert upload.arguments == OTHERS

    @settings(deadline=None)
    @given(
        content=st.binary(min_size=1),
        broken=st.sampled_from([0, 1, 4, 76]),
        newline=st.sampled_from(["\n", "\r\n", " ", "\t"]),
        padded=st.booleans(),
        escaped=st.sampled_from(["", "/", "+", "A"]),
        chunk=st.integers(1, 60),
    )
    def test_base64(
        self, blobs: Blobs, content: bytes, broken: int, newline: str, padded: bool, escaped: str, chunk: int
    ):
        text = base64.b64encode(content).decode()
        text = text if padded else text.rstrip("=")
        if broken:
            text = newline.join(text[at : at + broken] for at in range(0, len(text), broken)) + newline
        whole = json.dumps({"encoding": "base64", **OTHERS, "content": "?"})
        quoted = json.dumps(text)
        if escaped:
            quoted = quoted.replace(escaped, f"\\u{ord(escaped):04X}" if escaped != "/" else "\\/")
        spool = Spool(MIB, blobs.temporary)
        upload = store(spooled(spool, whole.replace('"?"', quoted).encode(), chunk), blobs, 1, MIB)
        spool.close()
        assert stored(blobs, upload) == content
        assert upload.arguments == {**OTHERS, "encoding": "base64"}

    @pytest.mark.parametrize("escaped", ["\\ud83d\\ude00", "\\uD83D\\uDE00", "😀", "\\\\", "\\\\\\\\ud83d", "\\u00e9"])
    @pytest.mark.parametrize("before", range(14))
    def test_a_border_anywhere(self, blobs: Blobs, escaped: str, before: int):
        quoted = '"' + "a" * before + escaped * 3 + '"'
        assert kept(blobs, b'{"content": %b}' % quoted.encode()) == json.loads(quoted).encode()


def test_pieces_of_the_real_size(blobs: Blobs):
    text = "0123456789é😀\n" * 60_000
    for escaped in (True, False):
        whole = json.dumps({"content": text, "encoding": "utf-8"}, ensure_ascii=escaped).encode()
        assert kept(blobs, whole, 4 * MIB) == text.encode()
    binary = os.urandom(1_000_001)
    assert kept(blobs, body(base64.encodebytes(binary).decode(), encoding="base64")) == binary


def test_pieces_are_small():
    sizes = [len(chunk) for chunk in decoded(b'"' + b"QUJD" * MIB + b'"', "base64")]
    assert sum(sizes) == 3 * MIB
    assert max(sizes) <= 256 * 1024


@pytest.mark.parametrize("encoding", [None, "utf-8", "utf8", "BASE64", "latin-1", "", 5, ["base64"], {"base64": 1}])
def test_any_encoding_but_base64_is_text(blobs: Blobs, encoding: object):
    assert kept(blobs, body("QUJD", encoding=encoding)) == b"QUJD"


def test_members_in_any_spelling_and_any_order(blobs: Blobs):
    view = b' {"unknown": [1, {"a": null}], "\\u0063ontent" :\n "abc" \n, "filename":"x", "path":"y"} \n'
    upload = store(view, blobs, 1, MIB)
    assert stored(blobs, upload) == b"abc"
    assert upload.arguments == {"filename": "x"}


def test_of_a_member_given_twice_the_last_counts(blobs: Blobs):
    assert kept(blobs, b'{"content": 5, "content": "first", "content": "last"}') == b"last"
    assert "string" in refusal(blobs, b'{"content": "first", "content": 5}')


def test_a_check_that_refuses_leaves_nothing(blobs: Blobs, root: Path):
    seen: list[dict[str, Any]] = []

    def refuse(arguments: dict[str, Any]) -> None:
        seen.append(arguments)
        raise BadRequest("channel is odd")

    with pytest.raises(BadRequest, match="odd"):
        store(body("never stored before"), blobs, 1, MIB, refuse)
    assert seen == [OTHERS]
    sha256 = hashlib.sha256(b"never stored before").hexdigest()
    assert not list(root.rglob(sha256))
    store(body("never stored before"), blobs, 1, MIB, seen.append)
    assert len(list(root.rglob(sha256))) == 1


# What is refused


@pytest.mark.parametrize(
    "content",
    [
        "QUJD=",
        "QUJ=D",
        "QUI=QUJD",
        "Q",
        "QUJDR",
        "=",
        "====",
        "QUJD====",
        "QQ===",
        "QU-_",
        "Q.JD",
        "QUJD-_-_QUJD",
        "QUJD....",
        "QUJé",
        "\0AAA",
    ],
)
def test_bad_base64_names_content_and_what_to_send(blobs: Blobs, content: str):
    for before in ("", "QUJD", "QUJD" * 100_000):
        text = refusal(blobs, body(before + content, encoding="base64"))
        assert text.startswith("content is not valid base64; encode")


def test_padding_between_two_pieces(blobs: Blobs):
    padded = "A" * (256 * 1024 - 2) + "=="
    assert len(kept(blobs, body(padded, encoding="base64"))) == len(base64.b64decode(padded))
    assert "content" in refusal(blobs, body(padded + "AAAA", encoding="base64"))


@pytest.mark.parametrize("content", [5, 1.5, True, False, [], ["a"], {}, {"a": "b"}])
def test_a_content_that_is_no_string(blobs: Blobs, content: object):
    assert refusal(blobs, body(content)).startswith("content must be a string")


@pytest.mark.parametrize("view", [b"{}", b'{"filename":"x"}', body(None), body(""), body(" \n", encoding="base64")])
def test_a_content_that_is_missing(blobs: Blobs, view: bytes):
    assert refusal(blobs, view).startswith("content must not be empty")


@pytest.mark.parametrize("half", ["\\ud800", "\\udc00", "\\ud83dabc", "\\ud83d\\u0041", "a" * 300_000 + "\\ud83d"])
@pytest.mark.parametrize("encoding", ["utf-8", "base64"])
def test_half_a_surrogate_pair(blobs: Blobs, half: str, encoding: str):
    view = b'{"content": "%b", "encoding": "%b"}' % (half.encode(), encoding.encode())
    text = refusal(blobs, view)
    assert "content" in text
    assert "surrogate" in text
    assert "base64" in text


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xe2\x82"])
@pytest.mark.parametrize("before", [0, 5, 256 * 1024 - 2, 600_000])
def test_bytes_that_are_not_utf8(blobs: Blobs, bad: bytes, before: int):
    for after in (b"", b"a" * 20, b"a" * 300_000):
        for encoding in (b"utf-8", b"base64"):
            view = b'{"encoding": "%b", "content": "%b"}' % (encoding, b"a" * before + bad + after)
            text = refusal(blobs, view, 2 * MIB)
            assert text.startswith("content is not valid")
            assert "base64" in text
    assert "filename" in refusal(blobs, b'{"filename": "%b", "content": "a"}' % bad)


MALFORMED = [
    b"", b" ", b"null", b"5", b'"text"', b"[]", b'[{"content": "a"}]', b"{", b'{"content"', b'{"content": "a"',
    b'{"content": "a}', b'{"content": "a"} x', b'{"content": "a"}{}', b"{'content': 'a'}", b'{"content": "a",}',
    b'{"content": "a\nb"}', b'{"content": "\\x"}', b'{"content": "\\u12"}', b'{"content": "\\', b'{"content": a}',
    b'{"content": NaN}', b'\xef\xbb\xbf{"content": "a"}', '{"content": "a"}'.encode("utf-16"), b"\0" * 100,
    b'{"content": "a", 5: 6}', b"filename=a&content=b",
]  # fmt: skip


@pytest.mark.parametrize("view", MALFORMED)
def test_what_is_no_json_object(blobs: Blobs, view: bytes):
    assert "JSON" in refusal(blobs, view)


@pytest.mark.parametrize("where", ["content", "filename", "unknown"])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_what_is_nested_too_deeply(blobs: Blobs, where: str, opening: bytes, closing: bytes):
    for depth in (2_000, 200_000):
        for end in (b"", b"1" + closing * depth + b"}"):
            view = b'{"%b": %b' % (where.encode(), opening * depth + end)
            assert "nested too deeply" in refusal(blobs, view)


@pytest.mark.parametrize("number", [b"1e999", b"1" * 5_000])
def test_a_number_no_one_can_hold(blobs: Blobs, number: bytes):
    assert refusal(blobs, b'{"filename": %b, "content": "a"}' % number).startswith("filename cannot be read")


def test_other_members_are_short(blobs: Blobs):
    assert store(body("a", filename="x" * 60_000), blobs, 1, MIB).arguments["filename"] == "x" * 60_000
    assert refusal(blobs, body("a", channel="x" * 70_000)).startswith("channel is too long")


def test_the_limit_counts_decoded_bytes(blobs: Blobs):
    assert kept(blobs, body("é" * 50), limit=100) == "é".encode() * 50
    assert "at most 100 bytes" in refusal(blobs, body("é" * 50 + "a"), limit=100)
    encoded = base64.b64encode(bytes(100)).decode()
    assert kept(blobs, body(encoded, encoding="base64"), limit=100) == bytes(100)
    assert "at most 99 bytes" in refusal(blobs, body(encoded, encoding="base64"), limit=99)


@given(junk=st.binary(max_size=60) | st.text(alphabet='{}[]":,\\u0d8content ').map(str.encode))
def test_junk_is_refused_or_stored_and_never_crashes(blobs: Blobs, junk: bytes):
    for view in (junk, b'{"content":' + junk + b"}", b'{"content":"' + junk + b'"}'):
        try:
            stored(blobs, store(view, blobs, 1, MIB))
        except BadRequest as error:
            assert str(error)


# The spool


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB])
@pytest.mark.parametrize("chunk", [1000, 65536, 4 * MIB])
def test_a_spool_gives_back_what_was_added(tmp_path: Path, size: int, chunk: int):
    whole = os.urandom(size)
    spool = Spool(3 * MIB, str(tmp_path))
    view = spooled(spool, whole, chunk)
    assert spool.size == size
    assert bytes(memoryview(view)) == whole
    assert os.listdir(tmp_path) == []
    del view
    spool.close()


def test_a_spool_takes_any_kind_of_bytes(tmp_path: Path):
    spool = Spool(MIB, str(tmp_path))
    for chunk in (b"a", bytearray(b"b"), memoryview(b"c")):
        spool.add(chunk)
    assert bytes(memoryview(spool.view())) == b"abc"
    spool.close()


@pytest.mark.parametrize("limit", [0, 100, MIB, 2 * MIB])
def test_a_spool_takes_its_limit_and_not_one_more(tmp_path: Path, limit: int):
    spool = Spool(limit, str(tmp_path))
    spool.add(bytes(limit))
    with pytest.raises(BadRequest, match=f"at most {limit} bytes"):
        spool.add(b"x")
    assert spool.size <= limit + 1
    spool.close()


def test_a_spool_closes_its_file_even_while_it_is_looked_at(tmp_path: Path):
    def ours() -> list[str]:
        links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
        # The listing's own descriptor is gone by now.
        return [link for link in links if os.path.lexists(link) and os.readlink(link).startswith(str(tmp_path))]

    spool = Spool(4 * MIB, str(tmp_path))
    view = memoryview(spooled(spool, bytes(2 * MIB), 65536))
    assert ours()
    spool.close()
    assert bytes(view[-2:]) == b"\0\0"
    del view
    del spool
    assert ours() == []


def test_a_spool_without_a_directory_is_the_operators_matter(tmp_path: Path):
    spool = Spool(4 * MIB, str(tmp_path / "none"))
    spool.add(bytes(MIB))
    with pytest.raises(Unavailable, match="operator"):
        spool.add(b"x")
    spool.close()


# Memory


@pytest.mark.parametrize("kind", ["base64", "base64 in lines", "text", "escaped text", "other member"])
def test_memory_does_not_grow_with_the_upload(blobs: Blobs, tmp_path: Path, kind: str):
    piece = {"base64": b"QUJD", "base64 in lines": b"QUJDQUJD\\r\\n", "text": "aé€😀".encode()}.get(
        kind, b"\\ud83d\\ude00"
    )
    chunk = piece * (64 * 1024 // len(piece))
    encoding = b"base64" if kind.startswith("base64") else b"utf-8"
    member = b"unknown" if kind == "other member" else b"content"
    spool = Spool(65 * MIB, str(tmp_path))
    tracemalloc.start()
    try:
        spool.add(b'{"content": "a", "encoding": "%b", "%b": "' % (encoding, member))
        for _ in range(64 * MIB // len(chunk)):
            spool.add(chunk)
        spool.add(b'"}')
        upload = store(spool.view(), blobs, 1, 64 * MIB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        spool.close()
    assert spool.size > 63 * MIB
    assert upload.size == 1 if kind == "other member" else upload.size > 20 * MIB
    assert peak < 8 * MIB
