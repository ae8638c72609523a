"""The one file that knows boto3: objects below one prefix of a bucket, and faults as the errors that say who must act.

Where the store is and who we are to it comes from where every tool of Amazon's looks: AWS_ACCESS_KEY_ID and its like,
AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL_S3, ~/.aws. What the log is told are the store's codes, never its sentences,
which may quote what was sent.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple, cast

from agentchat.errors import AgentChatError, NotConfigured, StorageFull, Unavailable

from .seam import missing

PART = 16 << 20  # of a large file; as much of it is in memory at a time
_MOST_CONNECTIONS = 50
_ABSENT = {"NoSuchKey", "404", "NotFound"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"}
_DENIED = {"403", "AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_MISTAKEN = ("Invalid", "ParamValidation", "400", "301", "Permanent", "Authorization")
_log = logging.getLogger("agentchat.relay")


class Found(NamedTuple):
    """An object on its way to us."""

    tag: str  # another one for another state of the object
    body: Body


class Objects:
    """What lies below a prefix of a bucket, by key."""

    def __init__(self, bucket: str, prefix: str = "", *, client: Any = None) -> None:
        self.place = f"s3://{bucket}/{prefix}".rstrip("/")
        self._client = client or connect()
        self._bucket = bucket
        self._start = f"{prefix}/" if prefix else ""

    def look(self) -> None:
        """See whether the bucket is there for us; the error says what to do."""
        with _starting_faults(self.place):
            self._client.head_bucket(Bucket=self._bucket)

    def try_out(self) -> None:
        """Do once everything that a relay is going to do."""
        self.look()
        probe = {"Bucket": self._bucket, "Key": f"{self._start}probe-{os.urandom(8).hex()}"}
        with _starting_faults(self.place):
            self._client.put_object(**probe, Body=b"A relay tries whether it may write here.")
            try:
                with closing(self._client.get_object(**probe)["Body"]) as body:
                    body.read()
            finally:
                self._client.delete_object(**probe)

    def put(self, file: str, key: str) -> None:
        """Send a file. A large one goes in parts, one by one, none of which can be seen before the last."""
        from boto3.s3.transfer import TransferConfig

        parts = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, use_threads=False)
        with _faults():
            self._client.upload_file(file, self._bucket, self._start + key, Config=parts)

    def get(self, key: str) -> Found:
        with _faults():
            found = self._client.get_object(Bucket=self._bucket, Key=self._start + key)
        return Found(found["ETag"], Body(found["Body"]))

    def size(self, key: str) -> int:
        with _faults():
            return int(self._client.head_object(Bucket=self._bucket, Key=self._start + key)["ContentLength"])

    def delete(self, key: str) -> None:
        with _faults():
            self._client.delete_object(Bucket=self._bucket, Key=self._start + key)

    def close(self) -> None:
        self._client.close()


class Body:
    """What an object holds, as it comes."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        with _faults():
            return cast("bytes", self._stream.read(size))

    def close(self) -> None:
        self._stream.close()


def connect() -> Any:
    """A client of the store that this process's environment names."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise NotConfigured('Files in S3 need boto3: pip install "langchain-agentchat[s3]"') from error
    config = Config(
        connect_timeout=5,
        read_timeout=30,
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=_MOST_CONNECTIONS,
        # Contents are compared with their SHA-256 anyway, and not every store knows these.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    unusable: tuple[type[Exception], ...] = (*_failures(), ValueError)  # ValueError: an endpoint that is no URL
    try:
        return boto3.Session().client("s3", config=config)
    except unusable as error:
        raise NotConfigured(
            f"Files in S3: the settings of AWS cannot be used ({_code(error)}). Look at AWS_PROFILE, AWS_REGION and "
            "AWS_ENDPOINT_URL_S3."
        ) from None


def _failures() -> tuple[type[Exception], ...]:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    return Boto3Error, BotoCoreError, ClientError


def _code(error: BaseException) -> str:
    """What went wrong in a word: the store's own, or the name of the failure."""
    while not hasattr(error, "response") and (inner := error.__cause__ or error.__context__) is not None:
        error = inner  # what sends files wraps it
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return str(code or type(error).__name__)


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except _failures() as error:
        raise _told(_code(error)) from None


def _told(code: str) -> AgentChatError:
    if code in _ABSENT:
        _log.error("The content of a file is missing; agentchat admin doctor says of which.")
        return missing()
    _log.error("The bucket of files: %s", code)
    if code in _FULL:
        return StorageFull("The relay's bucket is full; the file was not stored.")
    return Unavailable("The relay cannot use its bucket of files; its operator must look at it.")


@contextmanager
def _starting_faults(place: str) -> Iterator[None]:
    """When a relay starts, most faults are of a setting."""
    try:
        yield
    except _failures() as error:
        raise _told_at_start(_code(error), place) from None


def _told_at_start(code: str, place: str) -> AgentChatError:
    if code in ("NoCredentialsError", "PartialCredentialsError"):
        return NotConfigured(
            f"{place} needs credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
        )
    if code in _ABSENT or code == "NoSuchBucket":
        return NotConfigured(f"{place}: there is no such bucket. Make it, or name another with --files.")
    if code in _DENIED:
        return NotConfigured(
            f"{place} may not be used ({code}). The credentials need s3:ListBucket for the bucket, and s3:GetObject, "
            "s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload for what is in it."
        )
    if code.startswith(_MISTAKEN):
        return NotConfigured(
            f"{place} cannot be used ({code}). Look at its name, at AWS_REGION and at AWS_ENDPOINT_URL_S3."
        )
    return Unavailable(f"{place} cannot be reached ({code}). Look at AWS_ENDPOINT_URL_S3 and at the network.")
