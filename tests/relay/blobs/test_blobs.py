"""Contents wherever they live: whole or absent, never another than their name says, never lost to a removal."""

from __future__ import annotations

import hashlib
import os
import threading

import pytest

from agentchat.errors import BadRequest, NotFound, Unavailable
from agentchat_relay.blobs.seam import Blobs
from tests.relay.blobs.conftest import Home, Put, Read

pytestmark = pytest.mark.sqlite

CONTENT = b"one content of a few bytes"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = f"1/{SHA256[:2]}/{SHA256}"
PATIENCE = 30.0


def temporaries(blobs: Blobs) -> set[str]:
    return set(os.listdir(blobs.temporary)) - {"lock"}


def test_a_content_lies_under_its_space_and_hash(blobs: Blobs, home: Home, read: Read):
    with blobs.writer(7) as writer:
        writer.write(CONTENT[:5])
        writer.write(memoryview(CONTENT)[5:])
        assert writer.size == len(CONTENT)
        assert writer.finish() == SHA256
        assert temporaries(blobs) == set()
    assert home.contents() == {f"7/{SHA256[:2]}/{SHA256}"}
    assert read(SHA256, 7) == CONTENT


def test_an_empty_content_and_one_of_many_pieces(blobs: Blobs, put: Put, read: Read):
    assert read(put(b"")) == b""
    pieces = [bytes([number]) * 1_000_000 for number in range(20)]  # beyond one part of a bucket
    with blobs.writer(1) as writer:
        for piece in pieces:
            writer.write(piece)
        sha256 = writer.finish()
    assert read(sha256) == read(sha256) == b"".join(pieces)


def test_a_space_does_not_see_the_contents_of_another(blobs: Blobs, put: Put):
    put(CONTENT, space_id=1)
    with pytest.raises(NotFound):
        blobs.open(2, SHA256)


@pytest.mark.parametrize("name", ["", "0" * 64, SHA256.upper(), "../tmp", f"../../1/{SHA256}", "\0", "0" * 63 + "\n"])
def test_an_unknown_hash_is_not_found(blobs: Blobs, put: Put, name: str):
    put(CONTENT)
    with pytest.raises(NotFound, match="missing on the relay"):
        blobs.open(1, name)


def test_without_finish_nothing_remains(blobs: Blobs, home: Home):
    with blobs.writer(1) as writer:
        writer.write(CONTENT)
        assert len(temporaries(blobs)) == 1
    assert temporaries(blobs) == set()
    with pytest.raises(KeyError), blobs.writer(1) as writer:
        writer.write(CONTENT)
        raise KeyError
    assert temporaries(blobs) | home.contents() == set()


def test_nothing_is_written_after_finish(blobs: Blobs, read: Read):
    with blobs.writer(1) as writer:
        writer.write(CONTENT)
        sha256 = writer.finish()
        with pytest.raises(ValueError):
            writer.write(b"more")
    assert read(sha256) == CONTENT


def test_the_limit_is_allowed_and_one_more_is_not(blobs: Blobs, home: Home):
    with blobs.writer(1, limit=len(CONTENT)) as writer:
        writer.write(CONTENT)
        writer.finish()
    with pytest.raises(BadRequest, match=f"at most {len(CONTENT)} bytes"), blobs.writer(1, len(CONTENT)) as writer:
        writer.write(CONTENT)
        writer.write(b"x")
    assert home.contents() == {NAME}
    assert temporaries(blobs) == set()


def test_the_same_content_is_kept_once(home: Home, put: Put, read: Read):
    assert put(CONTENT) == put(CONTENT) == SHA256
    assert home.contents() == {NAME}
    assert read(SHA256) == CONTENT


@pytest.mark.parametrize("broken", [b"", CONTENT[:-1], CONTENT + b"x", CONTENT.swapcase()])
def test_a_content_that_is_damaged_is_not_given_out_until_it_is_uploaded_again(
    home: Home, put: Put, read: Read, broken: bytes
):
    put(CONTENT)
    assert read(SHA256) == CONTENT  # from here on it is known to be sound
    home.overwrite(NAME, broken)
    with pytest.raises(Unavailable, match="damaged"):
        read(SHA256)
    put(CONTENT)
    assert read(SHA256) == read(SHA256) == CONTENT


def test_many_writers_of_the_same_and_of_other_contents(home: Home, put: Put, read: Read):
    contents = [bytes([number % 5]) * 50_000 for number in range(20)]
    barrier = threading.Barrier(len(contents))
    hashes: list[str] = []

    def write(content: bytes) -> None:
        barrier.wait(PATIENCE)
        hashes.append(put(content))

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert set(hashes) == {hashlib.sha256(content).hexdigest() for content in contents}
    assert len(hashes) == 20
    assert len(home.contents()) == 5
    assert all(hashlib.sha256(read(sha256)).hexdigest() == sha256 for sha256 in hashes)


def test_what_was_stored_is_there_after_a_start(blobs: Blobs, home: Home, put: Put):
    put(CONTENT)
    again = home.open()
    with again.open(1, SHA256) as file:
        assert file.read() == CONTENT
    again.close()
    assert home.contents() == {NAME}


# Removing


def test_what_no_file_names_is_removed(blobs: Blobs, home: Home, put: Put, read: Read):
    put(CONTENT)
    assert blobs.drop(1, SHA256, lambda: True) is True
    assert read(SHA256) == CONTENT
    assert blobs.drop(1, SHA256, lambda: False) is True
    assert home.contents() == set()
    assert blobs.drop(1, SHA256, lambda: False) is True, "also what is gone already"


def test_nothing_is_removed_while_an_upload_is_under_way(blobs: Blobs, home: Home, put: Put):
    put(CONTENT)
    with blobs.writer(1) as writer:
        writer.write(CONTENT)
        writer.finish()
    assert blobs.drop(1, SHA256, lambda: False) is False
    writer.hold.release()
    writer.hold.release()  # once more changes nothing
    assert blobs.drop(1, SHA256, lambda: False) is True


def test_an_upload_that_comes_while_its_content_goes_waits_and_keeps_it(blobs: Blobs, home: Home, put: Put, read: Read):
    put(CONTENT)
    upload = threading.Thread(target=put, args=(CONTENT,), daemon=True)

    def is_named() -> bool:
        upload.start()
        upload.join(0.2)
        assert upload.is_alive(), "it must not find a content that is about to go"
        return False

    assert blobs.drop(1, SHA256, is_named) is True
    upload.join(PATIENCE)
    assert read(SHA256) == CONTENT


def test_an_upload_that_fails_holds_nothing(blobs: Blobs, home: Home, put: Put, monkeypatch: pytest.MonkeyPatch):
    put(CONTENT)
    with monkeypatch.context() as broken:
        broken.setattr(hashlib, "sha256", lambda: _Unfit())
        with pytest.raises((NotFound, Unavailable)), blobs.writer(1) as writer:
            writer.finish()
    assert blobs.drop(1, SHA256, lambda: False) is True
    assert temporaries(blobs) | home.contents() == set()


class _Unfit:
    """A hash that nothing can be placed by."""

    def hexdigest(self) -> str:
        return "../out"


def test_a_removal_that_fails_holds_nothing(blobs: Blobs, put: Put):
    put(CONTENT)

    def ask() -> bool:
        raise KeyError

    with pytest.raises(KeyError):
        blobs.drop(1, SHA256, ask)
    put(CONTENT)
    assert blobs.drop(1, SHA256, lambda: False) is True


def test_whoever_removes_asks_on_another_thread_than_whoever_waits(blobs: Blobs, put: Put):
    """In a relay the answer comes by way of threads that must not stand behind an upload that waits."""
    put(CONTENT)
    uploads = [threading.Thread(target=put, args=(b"%d" % number,), daemon=True) for number in range(5)]

    def is_named() -> bool:
        for upload in uploads:
            upload.start()
        answered = threading.Event()
        threading.Thread(target=answered.set).start()
        return not answered.wait(PATIENCE)

    assert blobs.drop(1, SHA256, is_named) is True
    for upload in uploads:
        upload.join(PATIENCE)
        assert not upload.is_alive()
