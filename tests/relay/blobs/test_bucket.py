"""Contents in a bucket: faults of the store as errors that say who must act, and requests counted."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from agentchat.errors import AgentChatError, NotConfigured, NotFound, StorageFull, Unavailable
from agentchat_relay.blobs import s3
from agentchat_relay.blobs.bucket import BucketBlobs
from agentchat_relay.blobs.opening import open_blobs
from agentchat_relay.blobs.s3 import PART, Objects
from agentchat_relay.blobs.seam import Blobs
from tests.buckets import SECRET, environment
from tests.relay.blobs.conftest import InBucket, Put, Read

pytestmark = pytest.mark.sqlite

CONTENT = b"one content of a few bytes"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = f"1/{SHA256[:2]}/{SHA256}"


@pytest.fixture
def home(in_bucket: InBucket) -> InBucket:
    return in_bucket


class Requests:
    """What a client asks for, and where it is refused."""

    def __init__(self, client: Any) -> None:
        self.names: list[str] = []
        self.refuse: dict[str, str] = {}
        client.meta.events.register("before-call.s3", self._seen)

    def _seen(self, model: Any, **more: Any) -> None:
        self.names.append(model.name)
        if code := self.refuse.get(model.name):
            raise ClientError({"Error": {"Code": code, "Message": f"said about {SECRET}"}}, model.name)


@pytest.fixture
def client(home: InBucket) -> Iterator[Any]:
    made = s3.connect()
    yield made
    made.close()


@pytest.fixture
def requests(client: Any) -> Requests:
    return Requests(client)


@pytest.fixture
def blobs(home: InBucket, client: Any, tmp_path: Path) -> Iterator[Blobs]:
    objects = Objects(home.bucket, "some/files", client=client)
    opened = BucketBlobs(objects, spool=str(tmp_path / "spool"), guard=home.guard)
    yield opened
    opened.close()


def test_a_file_is_one_request_each_way(put: Put, read: Read, requests: Requests):
    put(CONTENT)
    assert requests.names == ["PutObject"]
    requests.names.clear()
    assert read(SHA256) == read(SHA256) == CONTENT
    assert requests.names == ["GetObject"] * 2, "the second one is passed on as it comes"


def test_what_was_found_sound_is_not_spooled_again(blobs: Blobs, put: Put, read: Read, home: InBucket):
    put(CONTENT)
    read(SHA256)
    blobs._place.close()  # type: ignore[attr-defined] - nothing can be spooled from here on
    assert read(SHA256) == CONTENT
    with blobs.open(1, SHA256) as file:
        assert [file.read(5), file.read(5), file.read(100), file.read(5)] == [
            CONTENT[:5],
            CONTENT[5:10],
            CONTENT[10:],
            b"",
        ]
    home.overwrite(NAME, CONTENT.swapcase())
    with pytest.raises(Unavailable):
        read(SHA256)


def test_a_large_file_goes_in_parts_and_shows_at_once(home: InBucket, put: Put, read: Read, requests: Requests):
    content = os.urandom(2 * PART + 1)
    assert read(put(content)) == content
    assert requests.names[:2] == ["CreateMultipartUpload", "UploadPart"]
    assert requests.names[-2:] == ["CompleteMultipartUpload", "GetObject"]


@pytest.mark.parametrize("failing", ["UploadPart", "CompleteMultipartUpload"])
def test_half_a_large_file_is_given_up(blobs: Blobs, home: InBucket, put: Put, requests: Requests, failing: str):
    requests.refuse[failing] = "InternalError"
    with pytest.raises(Unavailable, match="bucket"):
        put(bytes(2 * PART))
    assert "AbortMultipartUpload" in requests.names
    assert home.contents() == set()
    assert home.client.list_multipart_uploads(Bucket=home.bucket).get("Uploads", []) == []
    assert os.listdir(blobs.temporary) == ["lock"]
    assert blobs.drop(1, SHA256, lambda: False) is True, "it holds nothing"


FAULTS: list[tuple[str, type[AgentChatError]]] = [
    ("AccessDenied", Unavailable),
    ("SlowDown", Unavailable),
    ("XMinioStorageFull", StorageFull),
    ("NoSuchBucket", Unavailable),
]


@pytest.mark.parametrize(("code", "kind"), FAULTS)
def test_a_fault_says_who_acts_and_tells_no_secret(
    blobs: Blobs, put: Put, read: Read, requests: Requests, caplog: pytest.LogCaptureFixture, code: str, kind: Any
):
    put(CONTENT)
    requests.refuse.update(dict.fromkeys(["PutObject", "GetObject", "DeleteObject"], code))
    calls: list[Callable[[], object]] = [
        lambda: put(CONTENT),
        lambda: read(SHA256),
        lambda: blobs.drop(1, SHA256, lambda: False),
    ]
    for call in calls:
        with caplog.at_level(logging.DEBUG, "agentchat"), pytest.raises(kind) as caught:
            call()
        assert SECRET not in str(caught.value)
        assert caught.value.__cause__ is None
    assert f"The bucket of files: {code}" in caplog.text
    assert SECRET not in caplog.text
    requests.refuse.clear()
    assert read(SHA256) == CONTENT
    assert blobs.drop(1, SHA256, lambda: False) is True, "no fault holds anything"


def test_a_content_that_is_gone_is_missing(home: InBucket, put: Put, read: Read):
    put(CONTENT)
    read(SHA256)
    home.client.delete_object(Bucket=home.bucket, Key=f"some/files/{NAME}")
    with pytest.raises(NotFound, match="missing on the relay"):
        read(SHA256)


def test_a_content_that_is_cut_on_its_way(put: Put, blobs: Blobs, client: Any):
    content = bytes(3_000_000)
    sha256 = put(content)
    blobs.open(1, sha256).close()

    def cut(parsed: Any, **more: Any) -> None:
        parsed["Body"]._raw_stream = _Cut(parsed["Body"]._raw_stream)

    client.meta.events.register("after-call.s3.GetObject", cut)
    with blobs.open(1, sha256) as file, pytest.raises(Unavailable):
        file.read()


class _Cut:
    """A connection that ends early."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, amount: int) -> bytes:
        return b"" if self._stream.tell() > 1_000_000 else self._stream.read(amount)

    def close(self) -> None:
        self._stream.close()


# At the start


def refused(setting: str, tmp_path: Path) -> str:
    with pytest.raises(NotConfigured) as caught:
        open_blobs(setting, str(tmp_path))
    assert SECRET not in str(caught.value)
    return caught.value.message


def test_a_start_tries_everything_and_leaves_nothing(home: InBucket, tmp_path: Path):
    for prefix in ("", "/", "/a/b/"):
        blobs = open_blobs(f"s3://{home.bucket}{prefix}", str(tmp_path))
        blobs.close()
    assert home.contents() == set()
    assert os.listdir(tmp_path / "spool") == ["lock"]


def test_a_bucket_that_is_not_there(home: InBucket, tmp_path: Path):
    assert "no such bucket. Make it" in refused("s3://none-such", tmp_path)
    assert "cannot be used" in refused("s3://No_Bucket_Name!", tmp_path)


def test_no_credentials(home: InBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "set AWS_ACCESS_KEY_ID" in refused(f"s3://{home.bucket}", tmp_path)


def test_settings_of_aws_that_are_none(home: InBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", f"somebody:{SECRET}@nowhere")
        assert "AWS_ENDPOINT_URL_S3" in refused(f"s3://{home.bucket}", tmp_path)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "AWS_PROFILE" in refused(f"s3://{home.bucket}", tmp_path)


@pytest.mark.parametrize("operation", ["HeadBucket", "PutObject", "GetObject", "DeleteObject"])
def test_what_is_not_permitted(home: InBucket, client: Any, requests: Requests, operation: str):
    requests.refuse[operation] = "AccessDenied"
    with pytest.raises(NotConfigured, match="s3:PutObject"):
        Objects(home.bucket, client=client).try_out()


def test_a_store_that_cannot_be_reached(home: InBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{listener.getsockname()[1]}")
    with pytest.raises(Unavailable, match="cannot be reached"):
        open_blobs(f"s3://{home.bucket}", str(tmp_path))


_WITHOUT = """
import sys
sys.modules["boto3"] = None
from agentchat_relay.blobs.opening import open_blobs
try:
    open_blobs("s3://bucket/prefix", sys.argv[1])
except Exception as error:
    print(error)
"""


def test_without_boto3_it_says_what_to_install(tmp_path: Path):
    command = [sys.executable, "-c", _WITHOUT, str(tmp_path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment("")})
    assert 'pip install "langchain-agentchat[s3]"' in told.stdout
