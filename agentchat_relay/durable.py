"""What a power loss leaves."""

from __future__ import annotations

import os


def sync_directory(path: str) -> None:
    """Names in a directory are durable only once the directory itself was synced."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
