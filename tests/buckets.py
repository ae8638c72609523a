"""An S3-compatible store on this machine: moto's server, spoken to by the real boto3."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from agentchat_relay.blobs import s3

SECRET = "a-secret-that-nothing-may-tell"


@contextmanager
def s3_store() -> Iterator[str]:
    """A store that runs; its URL."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def environment(url: str) -> dict[str, str]:
    """What leads boto3 there, and nowhere else."""
    return {
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def lead(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Have this process find that store, whatever its own environment says."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment(url).items():
        monkeypatch.setenv(name, value)


def new_bucket() -> tuple[Any, str]:
    """A client, and an empty bucket nobody else knows."""
    client, name = s3.connect(), f"files-{secrets.token_hex(5)}"
    client.create_bucket(Bucket=name)
    return client, name
