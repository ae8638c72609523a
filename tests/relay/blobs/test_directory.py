"""Contents in a directory: durable before their hash is handed out, shared by processes, errors that say who acts."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentchat.errors import StorageFull, Unavailable
from agentchat_relay.blobs.directory import DirectoryBlobs
from agentchat_relay.blobs.faults import disk_faults
from agentchat_relay.blobs.seam import Blobs
from tests.relay.blobs.conftest import InDirectory, Put, Read

pytestmark = pytest.mark.sqlite

CONTENT = b"one content of a few bytes"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def home(in_directory: InDirectory) -> InDirectory:
    return in_directory


@pytest.fixture
def root(home: InDirectory) -> Path:
    return home.root


def left(root: Path) -> set[str]:
    """Temporary files, of whichever process."""
    return {path.name for path in (root / "tmp").rglob("*") if path.is_file()} - {"lock"}


def test_only_the_owner_may_look(put: Put, root: Path):
    put(CONTENT)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in [root, *root.rglob("*")] if path.is_dir()}
    assert modes == {0o700}
    assert stat.S_IMODE((root / "1" / SHA256[:2] / SHA256).stat().st_mode) == 0o600


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


def stored(blobs: Blobs) -> None:
    with blobs.writer(1) as writer:
        writer.write(CONTENT)
        writer.finish()
    writer.hold.release()


def test_content_is_durable_before_its_name_and_its_name_before_the_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = tmp_path / "blobs"
    recorder = Recorder(monkeypatch, root)
    blobs = DirectoryBlobs(str(root))
    assert recorder.events == ["sync ."]
    recorder.events.clear()

    stored(blobs)
    folder = f"blobs/1/{SHA256[:2]}"
    assert recorder.events == ["sync tmp", "sync blobs", "sync blobs/1", "rename", f"sync {folder}"]

    # The directories are known to be durable now. The name may be another writer's, not synced yet.
    recorder.events.clear()
    stored(blobs)
    assert recorder.events == ["sync tmp", f"sync {folder}"]

    # A new process cannot know what the former came to.
    recorder.events.clear()
    stored(DirectoryBlobs(str(root)))
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


def test_a_write_that_fails_half_way_leaves_nothing(blobs: Blobs, root: Path, home: InDirectory, put: Put, read: Read):
    with files_of_at_most(10_000), pytest.raises(Unavailable), blobs.writer(1) as writer:
        writer.write(bytes(9_000))
        writer.write(bytes(9_000))
    assert left(root) | home.contents() == set()
    assert read(put(CONTENT)) == CONTENT


def test_a_directory_that_is_gone_or_is_none(blobs: Blobs, tmp_path: Path):
    blobs.close()
    with pytest.raises(Unavailable, match="operator"):
        blobs.writer(1)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable):
        DirectoryBlobs(str(tmp_path / "file"))
    with pytest.raises(Unavailable):
        DirectoryBlobs(str(tmp_path / "none" / "blobs"))


def test_a_directory_is_new_until_a_relay_was_there(home: InDirectory):
    home.root.mkdir()  # as a mount point is, on which nothing is mounted
    first, second = home.open(), home.open()
    assert (first.is_new, second.is_new) == (True, False)
    first.close()
    second.close()


# Several processes


def test_temporary_files_of_another_process_are_left_alone(blobs: Blobs, root: Path, home: InDirectory, read: Read):
    with blobs.writer(1) as writer:
        writer.write(CONTENT)
        home.open().close()  # a second relay starts and stops
        assert len(left(root)) == 1
        sha256 = writer.finish()
    assert read(sha256) == CONTENT


def test_a_start_removes_what_dead_processes_and_older_versions_left(root: Path, home: InDirectory, put: Put):
    put(CONTENT)
    (root / "tmp" / "tmpabc").write_bytes(b"half a fi")
    (root / "tmp" / "nobodys").mkdir()
    (root / "tmp" / "nobodys" / "tmpdef").write_bytes(b"half a fi")
    again = home.open()
    assert left(root) == set()
    assert home.contents() == {f"1/{SHA256[:2]}/{SHA256}"}
    again.close()


_HALF_AN_UPLOAD = """
import sys
from agentchat_relay.blobs.directory import DirectoryBlobs
writer = DirectoryBlobs(sys.argv[1]).writer(1)
writer.write(b"half a content")
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_killed_upload_leaves_no_half_content_and_no_temporary_file_for_long(root: Path, home: InDirectory):
    command = [sys.executable, "-c", _HALF_AN_UPLOAD, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        home.open().close()
        assert len(left(root)) == 1, "a relay that starts leaves a living one's alone"
        process.kill()
    home.open().close()
    assert left(root) | home.contents() == set()
