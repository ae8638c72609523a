"""The one file that knows boto3: a client for a bucket, and its faults as the errors that say who must act.

Where the store is and who we are to it comes from where every tool of Amazon's looks: AWS_ACCESS_KEY_ID and its like,
AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL_S3, ~/.aws. What the log is told are the store's codes, never its sentences,
which may quote what was sent.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agentchat.errors import AgentChatError, NotConfigured, StorageFull, Unavailable

from .seam import missing

PART = 16 << 20  # of a large file; as much of it is in memory at a time
_MOST_CONNECTIONS = 50
_ABSENT = {"NoSuchKey", "404", "NotFound"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"}
_DENIED = {"403", "AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_log = logging.getLogger("agentchat.relay")


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
    unusable = (*_failures(), ValueError)  # ValueError: an endpoint that is no URL
    try:
        return boto3.Session().client("s3", config=config)
    except unusable as error:
        raise NotConfigured(
            f"Files in S3: the settings of AWS cannot be used ({_code(error)}). Look at AWS_PROFILE, AWS_REGION and "
            "AWS_ENDPOINT_URL_S3."
        ) from None


def transfer() -> Any:
    """How files are sent: those of more than one part in parts, one by one, none of them visible before the last."""
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, use_threads=False)


def _failures() -> tuple[type[Exception], ...]:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    return Boto3Error, BotoCoreError, ClientError


@contextmanager
def faults() -> Iterator[None]:
    """Around whatever asks the store for something."""
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


def _code(error: BaseException) -> str:
    """What went wrong in a word: the store's own, or the name of the failure."""
    while (inner := error.__cause__ or error.__context__) is not None and not hasattr(error, "response"):
        error = inner  # what sends files wraps it
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return str(code or type(error).__name__)


@contextmanager
def starting_faults(place: str) -> Iterator[None]:
    """Around the first requests, when a relay starts: most faults are of a setting then."""
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
    if code.startswith(("Invalid", "ParamValidation", "400", "301", "Permanent", "Authorization")):
        return NotConfigured(
            f"{place} cannot be used ({code}). Look at its name, at AWS_REGION and at AWS_ENDPOINT_URL_S3."
        )
    return Unavailable(f"{place} cannot be reached ({code}). Look at AWS_ENDPOINT_URL_S3 and at the network.")
