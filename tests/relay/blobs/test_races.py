"""Uploads of a content and its removal, in several processes: no row ever names what is not there."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from agentchat.errors import NotFound
from agentchat_relay.blobs.bucket import BucketBlobs
from agentchat_relay.blobs.s3 import Objects
from tests.relay.blobs import racing
from tests.relay.blobs.conftest import InBucket, InDirectory

pytestmark = pytest.mark.sqlite

ROUNDS = 150


def racers(tmp_path: Path, *more: str) -> list[int]:
    """The exit codes of three processes with two threads each."""
    with closing(racing.connect(str(tmp_path / "rows.db"))):
        pass
    common = [str(tmp_path / "blobs"), str(tmp_path / "rows.db")]
    command = [sys.executable, "-m", "tests.relay.blobs.racing", *common]
    processes = [subprocess.Popen([*command, str(seed), str(ROUNDS), *more]) for seed in range(3)]
    return [process.wait(120) for process in processes]


def test_nothing_is_lost_between_processes(tmp_path: Path, in_directory: InDirectory):
    assert racers(tmp_path) == [0, 0, 0]
    in_directory.open().close()
    assert {path.name for path in (in_directory.root / "tmp").rglob("*")} == {"lock"}
    blobs = in_directory.open()
    with closing(racing.connect(str(tmp_path / "rows.db"))) as rows:
        assert rows.execute("SELECT count(*) FROM files").fetchone() == (0,)
        for name in in_directory.contents():  # those whose removal found the guard taken
            assert blobs.drop(1, name.rpartition("/")[2], lambda: False) is True
    assert in_directory.contents() == set()
    blobs.close()


def test_that_race_is_one(tmp_path: Path):
    """The control: without a guard the same race loses contents within a few rounds."""
    assert any(racers(tmp_path, "bare"))


@pytest.mark.parametrize("where", ["directory", "bucket"])
def test_without_a_guard_a_content_is_lost(where: str, request: pytest.FixtureRequest, tmp_path: Path):
    """The same in one thread: the very moment."""
    if where == "directory":
        directory: InDirectory = request.getfixturevalue("in_directory")
        blobs = directory.open()
        blobs._guard = racing.Bare()  # type: ignore[attr-defined]
    else:
        bucket: InBucket = request.getfixturevalue("in_bucket")
        blobs = BucketBlobs(Objects(bucket.bucket), spool=str(tmp_path / "spool"), guard=racing.Bare())
    with closing(racing.connect(str(tmp_path / "rows.db"))) as rows:
        sha256 = racing.upload(blobs, rows, b"content", "ann")
        rows.execute("DELETE FROM files")

        def is_named() -> bool:
            named = racing.is_named(rows, sha256)
            racing.upload(blobs, rows, b"content", "bob")  # after somebody looked, before it is removed
            return named

        assert blobs.drop(1, sha256, is_named) is True
        assert racing.is_named(rows, sha256)
    with pytest.raises(NotFound):
        blobs.open(1, sha256)
    blobs.close()
