"""backup, restore and doctor where contents of files are not in the data directory: in another one, in a bucket."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.buckets import lead, new_bucket, s3_store
from tests.relay.keeping.conftest import OK, WRONG, Admin, Board, blobs, check_consistent
from tests.relay.keeping.test_doctor import bad, found

pytestmark = pytest.mark.sqlite


@pytest.fixture
def shared(board: Board, tmp_path: Path) -> Path:
    """The contents, moved to a directory that several relays could share."""
    shutil.move(board.path / "blobs", tmp_path / "shared")
    return tmp_path / "shared"


class InBucket(NamedTuple):
    client: Any
    name: str

    @property
    def setting(self) -> str:
        return f"s3://{self.name}/files"


@pytest.fixture
def bucket(board: Board, monkeypatch: pytest.MonkeyPatch) -> Iterator[InBucket]:
    """The contents, moved to a bucket."""
    with s3_store() as url:
        lead(monkeypatch, url)
        client, name = new_bucket()
        for key, file in blobs(board.path).items():
            space, _, hash = key.partition("/")
            client.upload_file(str(file), name, f"files/{space}/{hash[:2]}/{hash}")
        shutil.rmtree(board.path / "blobs")
        yield InBucket(client, name)
        client.close()


@pytest.mark.parametrize("where", ["option", "relay.toml"])
def test_a_backup_from_another_directory_is_whole(board: Board, shared: Path, tmp_path: Path, admin: Admin, where: str):
    target = tmp_path / "backup"
    if where == "option":
        ran = admin("backup", target, "--data", board.path, "--files", shared, "--json")
    else:
        (board.path / "relay.toml").write_text('files = "../shared"\n')
        ran = admin("backup", target, "--data", board.path, "--json")
    assert ran.code == OK, ran
    assert len(blobs(target)) == ran.json["contents"]
    check_consistent(target)


def test_a_backup_that_looks_in_the_wrong_place_says_so(board: Board, shared: Path, tmp_path: Path, admin: Admin):
    ran = admin("backup", tmp_path / "backup", "--data", board.path, "--json")
    assert ran.code == WRONG
    assert {lost["why"] for lost in ran.json["lost"]} == {"missing"}


def test_the_doctor_looks_into_another_directory_and_repairs_nothing_there(board: Board, shared: Path, admin: Admin):
    assert bad(admin("doctor", "--data", board.path, "--files", shared, "--json")) == []
    stray = shared / "1" / "ab" / ("ab" * 32)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"of another relay, perhaps")
    os.utime(stray, (1, 1))
    ran = admin("doctor", "--data", board.path, "--files", shared, "--repair", "--json")
    (told,) = found(ran, "strays")
    assert not told["repaired"]
    assert "another relay" in told["advice"]
    assert stray.exists()


def test_a_backup_leaves_contents_in_their_bucket(board: Board, bucket: InBucket, tmp_path: Path, admin: Admin):
    target, again = tmp_path / "backup", tmp_path / "again"
    ran = admin("backup", target, "--data", board.path, "--files", bucket.setting)
    assert ran.code == OK, ran
    assert f"stay in {bucket.setting}" in ran.out
    assert not (target / "blobs").exists()
    ran = admin("restore", target, "--data", again)
    assert ran.code == OK, ran
    assert f"agentchat serve --data {again} --files {bucket.setting}" in ran.out
    assert bad(admin("doctor", "--data", again, "--files", bucket.setting, "--json")) == ["index"], "made at the start"


@pytest.mark.parametrize("how", [(), ("--quick",)])
def test_the_doctor_looks_into_a_bucket(board: Board, bucket: InBucket, admin: Admin, how: tuple[str, ...]):
    look = ("doctor", "--data", board.path, "--files", bucket.setting, "--json", *how)
    ran = admin(*look)
    assert bad(ran) == []
    keys = [one["Key"] for one in bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"]]
    bucket.client.delete_object(Bucket=bucket.name, Key=keys[0])
    bucket.client.put_object(Bucket=bucket.name, Key=keys[1], Body=b"damaged")
    ran = admin(*look)
    assert ran.code == WRONG
    (told,) = found(ran, "files")
    assert "2 of 7 contents are lost" in told["text"]
    assert f"{bucket.setting}/{keys[0].removeprefix('files/')} (missing" in told["text"]
    assert "damaged" in told["text"]


def test_a_bucket_that_cannot_be_asked_is_one_problem(board: Board, bucket: InBucket, admin: Admin):
    ran = admin("doctor", "--data", board.path, "--files", "s3://none-such", "--json")
    assert ran.code == WRONG
    (told,) = found(ran, "files")
    assert "no such bucket" in told["text"]
