"""The homes that contents may have, each looked at from behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from agentchat_relay.blobs.bucket import BucketBlobs
from agentchat_relay.blobs.directory import DirectoryBlobs
from agentchat_relay.blobs.guards import InProcess
from agentchat_relay.blobs.s3 import Objects
from agentchat_relay.blobs.seam import Blobs, Guard
from tests.buckets import lead, new_bucket, s3_store


class Home(Protocol):
    def open(self) -> Blobs:
        """As a relay does that starts."""
        ...

    def contents(self) -> set[str]:
        """What has a name."""
        ...

    def overwrite(self, name: str, content: bytes) -> None: ...


class InDirectory(Home):
    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self) -> Blobs:
        return DirectoryBlobs(str(self.root))

    def contents(self) -> set[str]:
        found = {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()}
        return {name for name in found if name != "lock" and not name.startswith("tmp/")}

    def overwrite(self, name: str, content: bytes) -> None:
        (self.root / name).write_bytes(content)


class InBucket(Home):
    def __init__(self, spool: Path) -> None:
        self.client, self.bucket = new_bucket()
        self.guard: Guard = InProcess()
        self._spool = spool

    def open(self) -> BucketBlobs:
        return BucketBlobs(Objects(self.bucket, "some/files"), spool=str(self._spool), guard=self.guard)

    def contents(self) -> set[str]:
        found: dict[str, Any] = self.client.list_objects_v2(Bucket=self.bucket)
        return {one["Key"].removeprefix("some/files/") for one in found.get("Contents", [])}

    def overwrite(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"some/files/{name}", Body=content)


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    with s3_store() as url:
        yield url


@pytest.fixture
def in_bucket(s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InBucket]:
    lead(monkeypatch, s3_url)
    home = InBucket(tmp_path / "spool")
    yield home
    home.client.close()


@pytest.fixture
def in_directory(tmp_path: Path) -> InDirectory:
    return InDirectory(tmp_path / "blobs")


@pytest.fixture(params=["directory", "bucket"])
def home(request: pytest.FixtureRequest) -> Home:
    found: Home = request.getfixturevalue(f"in_{request.param}")
    return found


@pytest.fixture
def blobs(home: Home) -> Iterator[Blobs]:
    opened = home.open()
    yield opened
    opened.close()


Put = Callable[..., str]


@pytest.fixture
def put(blobs: Blobs) -> Put:
    """Store a content whose file is committed at once."""

    def store(content: bytes, space_id: int = 1) -> str:
        with blobs.writer(space_id) as writer:
            writer.write(content)
            sha256 = writer.finish()
        writer.hold.release()
        return sha256

    return store


Read = Callable[..., bytes]


@pytest.fixture
def read(blobs: Blobs) -> Read:
    def content(sha256: str, space_id: int = 1) -> bytes:
        with blobs.open(space_id, sha256) as file:
            return file.read()

    return content
