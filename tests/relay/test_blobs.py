"""File contents on disk: whole or absent, durable before their hash is handed out, and errors that say who must act."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentchat.errors import BadRequest, NotFound, StorageFull, Unavailable
from agentchat_relay.blobs import Blobs, disk_faults

CONTENT = b"one content of a few bytes"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
def blobs(root: Path) -> Blobs:
    return Blobs(str(root))


def put(blobs: Blobs, content: bytes, space_id: int = 1) -> str:
    with blobs.writer(space_id) as writer:
        writer.write(content)
        return writer.finish()


def read(blobs: Blobs, sha256: str, space_id: int = 1) -> bytes:
    with blobs.open(space_id, sha256) as file:
        return file.read()


def files(root: Path) -> set[str]:
    """All but the lock."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} - {"lock"}


def test_a_content_lies_under_its_space_and_hash(blobs: Blobs, root: Path):
    with blobs.writer(7) as writer:
        writer.write(CONTENT[:5])
        writer.write(memoryview(CONTENT)[5:])
        assert writer.size == len(CONTENT)
        assert writer.finish() == SHA256
    assert files(root) == {f"7/{SHA256[:2]}/{SHA256}"}
    assert read(blobs, SHA256, 7) == CONTENT


def test_an_empty_content_and_one_of_many_pieces(blobs: Blobs):
    assert read(blobs, put(blobs, b"")) == b""
    pieces = [bytes([number]) * 100_000 for number in range(20)]
    with blobs.writer(1) as writer:
        for piece in pieces:
            writer.write(piece)
        sha256 = writer.finish()
    assert read(blobs, sha256) == b"".join(pieces)


def test_only_the_owner_may_look(blobs: Blobs, root: Path):
    put(blobs, CONTENT)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in [root, *root.rglob("*")] if path.is_dir()}
    assert modes == {0o700}
    assert stat.S_IMODE((root / "1" / SHA256[:2] / SHA256).stat().st_mode) == 0o600


def test_a_space_does_not_see_the_contents_of_another(blobs: Blobs):
    put(blobs, CONTENT, space_id=1)
    with pytest.raises(NotFound):
        blobs.open(2, SHA256)


@pytest.mark.parametrize("name", ["", "0" * 64, SHA256.upper(), "../tmp", f"../../1/{SHA256}", "\0", "0" * 63 + "\n"])
def test_an_unknown_hash_is_not_found(blobs: Blobs, name: str):
    put(blobs, CONTENT)
    with pytest.raises(NotFound, match="missing on the relay"):
        blobs.open(1, name)


def test_without_finish_nothing_remains(blobs: Blobs, root: Path):
    with blobs.writer(1) as writer:
        writer.write(CONTENT)
        assert len(files(root)) == 1
    assert files(root) == set()
    with pytest.raises(KeyError), blobs.writer(1) as writer:
        writer.write(CONTENT)
        raise KeyError
    assert files(root) == set()


def test_nothing_is_written_after_finish(blobs: Blobs):
    with blobs.writer(1) as writer:
        writer.write(CONTENT)
        sha256 = writer.finish()
        with pytest.raises(ValueError):
            writer.write(b"more")
    assert read(blobs, sha256) == CONTENT


def test_the_limit_is_allowed_and_one_more_is_not(blobs: Blobs, root: Path):
    with blobs.writer(1, limit=len(CONTENT)) as writer:
        writer.write(CONTENT)
        writer.finish()
    with pytest.raises(BadRequest, match=f"at most {len(CONTENT)} bytes"), blobs.writer(1, len(CONTENT)) as writer:
        writer.write(CONTENT)
        writer.write(b"x")
    assert files(root) == {f"1/{SHA256[:2]}/{SHA256}"}


def test_the_same_content_is_kept_once(blobs: Blobs, root: Path):
    put(blobs, CONTENT)
    path = root / "1" / SHA256[:2] / SHA256
    first = path.stat().st_ino
    assert put(blobs, CONTENT) == SHA256
    assert path.stat().st_ino == first
    assert len(files(root)) == 1


@pytest.mark.parametrize("broken", [b"", CONTENT[:-1], CONTENT + b"x"])
def test_a_content_that_is_not_whole_is_replaced(blobs: Blobs, root: Path, broken: bytes):
    put(blobs, CONTENT)
    (root / "1" / SHA256[:2] / SHA256).write_bytes(broken)
    put(blobs, CONTENT)
    assert read(blobs, SHA256) == CONTENT


def test_a_start_removes_what_a_crash_left_and_keeps_the_rest(blobs: Blobs, root: Path):
    put(blobs, CONTENT)
    (root / "tmp" / "left").write_bytes(b"half a fi")
    again = Blobs(str(root))
    assert files(root) == {f"1/{SHA256[:2]}/{SHA256}"}
    assert read(again, SHA256) == CONTENT


def test_many_writers_of_the_same_and_of_other_contents(blobs: Blobs, root: Path):
    contents = [bytes([number % 5]) * 50_000 for number in range(20)]
    barrier = threading.Barrier(len(contents))
    hashes: list[str] = []

    def write(content: bytes) -> None:
        barrier.wait(30)
        hashes.append(put(blobs, content))

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert set(hashes) == {hashlib.sha256(content).hexdigest() for content in contents}
    assert len(hashes) == 20
    assert len(files(root)) == 5
    assert all(hashlib.sha256(read(blobs, sha256)).hexdigest() == sha256 for sha256 in hashes)


class Recorder:
    """What the operating system is asked to make durable and to rename, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.events: list[str] = []
        self._root = root
        self._fsync, self._replace = os.fsync, os.replace
        monkeypatch.setattr(os, "fsync", self._on_fsync)
        monkeypatch.setattr(os, "replace", self._on_replace)

    def _on_fsync(self, fd: int) -> None:
        (inode, device) = (os.fstat(fd).st_ino, os.fstat(fd).st_dev)
        for path in [self._root.parent, self._root, *self._root.rglob("*")]:
            if (path.stat().st_ino, path.stat().st_dev) == (inode, device):
                name = str(path.relative_to(self._root.parent))
                self.events.append(f"sync {'tmp' if name.startswith('blobs/tmp/') else name}")
        self._fsync(fd)

    def _on_replace(self, source: str, target: str) -> None:
        self.events.append("rename")
        self._replace(source, target)


def test_content_is_durable_before_its_name_and_its_name_before_the_hash(root: Path, monkeypatch: pytest.MonkeyPatch):
    recorder = Recorder(monkeypatch, root)
    blobs = Blobs(str(root))
    assert recorder.events == ["sync ."]
    recorder.events.clear()

    put(blobs, CONTENT)
    folder = f"blobs/1/{SHA256[:2]}"
    assert recorder.events == ["sync tmp", "sync blobs", "sync blobs/1", "rename", f"sync {folder}"]

    # The directories are known to be durable now. The name may be another writer's, not synced yet.
    recorder.events.clear()
    put(blobs, CONTENT)
    assert recorder.events == ["sync tmp", f"sync {folder}"]

    # A new process cannot know what the former came to.
    recorder.events.clear()
    put(Blobs(str(root)), CONTENT)
    assert recorder.events == ["sync .", "sync tmp", "sync blobs", "sync blobs/1", f"sync {folder}"]


# Faults


def test_a_full_disk_is_the_operators_matter():
    with pytest.raises(StorageFull, match="full"), disk_faults(), open("/dev/full", "wb", buffering=0) as full:
        full.write(CONTENT)
    with pytest.raises(StorageFull), disk_faults():
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    with pytest.raises(Unavailable), disk_faults():
        raise OSError(errno.EIO, "Input/output error")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel refuses to let any file of this process grow further."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_write_that_fails_half_way_leaves_nothing(blobs: Blobs, root: Path):
    with files_of_at_most(10_000), pytest.raises(Unavailable), blobs.writer(1) as writer:
        writer.write(bytes(9_000))
        writer.write(bytes(9_000))
    assert files(root) == set()
    assert read(blobs, put(blobs, CONTENT)) == CONTENT


def test_a_directory_that_is_gone_or_is_none(blobs: Blobs, root: Path, tmp_path: Path):
    (root / "tmp").rmdir()
    with pytest.raises(Unavailable, match="operator"):
        blobs.writer(1)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable):
        Blobs(str(tmp_path / "file"))
    with pytest.raises(Unavailable):
        Blobs(str(tmp_path / "none" / "blobs"))


# Removing


def test_whoever_settles_does_not_wait_for_a_content_that_is_being_dropped(blobs: Blobs, root: Path):
    """In a relay that is its event loop, by way of which the answer comes whether the content is named."""
    hash, other = put(blobs, CONTENT), put(blobs, b"another")
    blobs.settled(1, hash)

    def is_named() -> bool:
        loop = threading.Thread(target=blobs.settled, args=(1, other), daemon=True)
        loop.start()
        loop.join(20)
        return loop.is_alive()

    assert blobs.drop(1, hash, is_named) is True
    assert files(root) == {f"1/{other[:2]}/{other}"}


def test_an_upload_that_comes_meanwhile_keeps_its_content(blobs: Blobs, root: Path):
    hash = put(blobs, CONTENT)
    blobs.settled(1, hash)

    def is_named() -> bool:
        put(blobs, CONTENT)
        blobs.settled(1, hash)  # its file was stored after somebody looked
        return False

    assert blobs.drop(1, hash, is_named) is False
    assert read(blobs, hash) == CONTENT
    assert blobs.drop(1, hash, lambda: False) is True
    assert files(root) == set()
