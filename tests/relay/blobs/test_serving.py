"""A real relay's files, wherever their contents live."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from agentchat import Client
from agentchat.errors import Conflict, NotConfigured, Unavailable
from agentchat_relay.blobs.guards import InProcess
from agentchat_relay.blobs.seam import Guard, Hold
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.http import files
from agentchat_relay.http.uploads import Upload
from agentchat_relay.settings import Settings
from tests import postgres
from tests.relay.blobs.conftest import InBucket

PATIENCE = 30.0
UNLIMITED = Settings(agent_reads=0, agent_writes=0, all_reads=0, all_writes=0)


def client(relay: Embedded, name: str = "ann") -> Client:
    return Client(relay.url, relay.token(name), agent=name, retries=0)


@pytest.fixture(params=["", "directory", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A value of the setting."""
    if request.param == "bucket":
        return f"s3://{request.getfixturevalue('in_bucket').bucket}/some/files"
    return str(tmp_path / "shared") if request.param else ""


def test_files_come_back_as_they_were(place: str, tmp_path: Path):
    content = os.urandom(3_000_000)
    settings = UNLIMITED._replace(files=place)
    with running(str(tmp_path / "data"), settings=settings) as relay, client(relay) as ann:
        path = ann.upload_file("room", "a.bin", b64encode(content).decode(), encoding="base64")["file"]["path"]
        link = ann.get_file_url(path)["signed_url"]
        assert ann.download_file(path)["content"] == content
        with urllib.request.urlopen(link, timeout=PATIENCE) as answer:
            assert answer.read() == content
    with running(str(tmp_path / "data"), settings=settings) as relay, client(relay) as ann:
        assert ann.download_file(path)["content"] == content
    assert (tmp_path / "data" / "blobs").exists() == (not place)


def test_two_relays_share_a_directory(tmp_path: Path):
    """Of different databases here, which nobody should do; the contents are the same nevertheless."""
    settings = UNLIMITED._replace(files=str(tmp_path / "shared"))
    with (
        running(str(tmp_path / "one"), settings=settings) as one,
        running(str(tmp_path / "two"), settings=settings) as two,
        client(one) as ann,
        client(two) as bob,
    ):
        paths = [each.upload_file("room", "a.txt", "the same")["file"]["path"] for each in (ann, bob)]
        assert [each.download_file(path)["content"] for each, path in zip((ann, bob), paths, strict=True)] == [
            b"the same"
        ] * 2
    found = [path.name for path in (tmp_path / "shared").rglob("*") if path.is_file()]
    assert len(found) == 3, "the content, the guard, the lock of temporary places"


def test_a_directory_that_is_not_mounted_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    shared = tmp_path / "shared"
    settings = UNLIMITED._replace(files=str(shared))
    with running(str(tmp_path / "data"), settings=settings) as relay, client(relay) as ann:
        ann.upload_file("room", "a.txt", "text")
    shared.rename(tmp_path / "elsewhere")
    shared.mkdir()
    with caplog.at_level(logging.WARNING), running(str(tmp_path / "data"), settings=settings):
        assert f"The directory {shared} was missing" in caplog.text


def test_a_relay_does_not_start_without_its_bucket(in_bucket: InBucket, tmp_path: Path):
    settings = UNLIMITED._replace(files="s3://none-such/files")
    with pytest.raises(NotConfigured, match="no such bucket"), running(str(tmp_path / "data"), settings=settings):
        pass


# Holds


class Doubtful(Guard):
    """A guard that loses a hold before the question of that number."""

    def __init__(self, lost_at: int) -> None:
        self.lost_at, self.asked = lost_at, 0
        self._guard = InProcess()

    def share(self) -> Hold:
        return DoubtfulHold(self, self._guard.share())

    def alone(self) -> Hold | None:
        return self._guard.alone()

    def close(self) -> None:
        pass


class DoubtfulHold(Hold):
    def __init__(self, guard: Doubtful, hold: Hold) -> None:
        self._guard, self._hold = guard, hold
        self.release = hold.release  # type: ignore[method-assign]

    def sure(self) -> None:
        self._guard.asked += 1
        if self._guard.asked == self._guard.lost_at:
            raise Unavailable("The relay lost its database while files were under way; try again soon.")


def blobs_of(relay: Embedded) -> Any:
    assert relay.relay is not None
    return relay.relay.parts.blobs


@pytest.mark.parametrize(("lost_at", "rows"), [(1, 0), (2, 1)])
def test_an_upload_is_not_acknowledged_when_its_hold_was_lost(lost_at: int, rows: int):
    """Before its row was committed, or perhaps before that. Whoever sends it again puts things right."""
    with running(settings=UNLIMITED) as relay, client(relay) as ann:
        guard = blobs_of(relay)._guard = Doubtful(lost_at)
        with pytest.raises(Unavailable, match="try again"):
            ann.with_options(idempotency_key="k").upload_file("room", "a.txt", "text")
        assert len(ann.list_files("room")["files"] if rows else []) == rows
        path = ann.with_options(idempotency_key="k").upload_file("room", "a.txt", "text")["file"]["path"]
        assert ann.download_file(path)["content"] == b"text"
        assert [file["path"] for file in ann.list_files("room")["files"]] == [path]
        released(guard)


def released(guard: Guard) -> None:
    """Uploads let go in threads of their own, soon after their answer."""
    done = threading.Event()
    for _ in range(int(PATIENCE / 0.02)):
        if (alone := guard.alone()) is not None:
            alone.release()
            return
        done.wait(0.02)
    raise AssertionError("an upload holds on")


def test_a_refused_upload_holds_nothing():
    with running(settings=UNLIMITED) as relay, client(relay) as ann:
        guard = blobs_of(relay)._guard
        ann.with_options(idempotency_key="k").upload_file("room", "a.txt", "text")
        with pytest.raises(Conflict):
            ann.with_options(idempotency_key="k").upload_file("room", "b.txt", "other")
        released(guard)


async def test_an_upload_whose_caller_hung_up_lets_go_when_it_is_stored():
    over = threading.Event()

    class Told(Hold):
        def release(self) -> None:
            over.set()

        def sure(self) -> None:
            pass

    storing: asyncio.Future[Upload] = asyncio.get_running_loop().create_future()
    caller = asyncio.create_task(files._whole(storing))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not over.is_set()
    storing.set_result(Upload({}, "", 0, Told()))
    assert await asyncio.to_thread(over.wait, PATIENCE)


@pytest.mark.sqlite  # names its store itself
def test_relays_on_one_database_share_a_bucket_and_its_guard(in_bucket: InBucket, tmp_path: Path):
    settings = UNLIMITED._replace(files=f"s3://{in_bucket.bucket}/some/files", store=postgres.new_schema())
    with (
        running(str(tmp_path / "one"), settings=settings) as one,
        running(str(tmp_path / "two"), settings=settings) as two,
        client(one, "ann") as ann,
        client(two, "bob") as bob,
    ):
        path = ann.upload_file("room", "a.txt", "the same")["file"]["path"]
        bob.upload_file("room", "b.txt", "the same")
        assert bob.download_file(path)["content"] == b"the same"
        assert len(in_bucket.contents()) == 1
        hold = blobs_of(one)._guard.share()
        hash = next(iter(in_bucket.contents())).rpartition("/")[2]
        assert blobs_of(two).drop(1, hash, lambda: False) is False
        hold.release()
        released(blobs_of(two)._guard)
