"""Directories that are made, filled and made durable."""

from __future__ import annotations

import os

from ..durable import sync_directory


def make(path: str) -> None:
    """A directory for this user only, and those above it."""
    if not os.path.isdir(path):
        make(os.path.dirname(path))
        os.mkdir(path, 0o700)


def sync(path: str) -> None:
    """Make the names in a directory and below durable; the files were synced when they were written."""
    for inner, _, _ in os.walk(path):
        sync_directory(inner)
