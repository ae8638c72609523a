"""The data directory: everything a relay owns, for one operating-system user only.

    agentchat.db, search.db   the store
    blobs/                    contents of files
    admin.key                 the admin credential
    link.key                  what signed links are signed with
    relay.json                where the relay of this directory listens
    lock                      held while somebody has the directory open

The lock is the kernel's, so that it ends with its holder, however that ends. Its text says who holds it.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from typing import Any

from agentchat.errors import Conflict, NotConfigured

from .durable import sync_directory


class Directory:
    """A data directory. `hold` opens it for this process alone."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(os.path.expanduser(path))
        self._lock: int | None = None

    def is_there(self) -> bool:
        """Whether a relay was ever started here."""
        return os.path.isfile(self._file("agentchat.db"))

    def hold(self, purpose: str, *, patience: float = 0.0) -> None:
        """Take the directory, made if it is new, or say who has it. For somebody with the same purpose it waits."""
        deadline = time.monotonic() + patience
        self._make()
        try:
            lock = os.open(self._file("lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        while not _locked(lock):
            holder = os.pread(lock, 1000, 0).decode("utf-8", "replace").strip()
            if time.monotonic() >= deadline or not holder.startswith(purpose):
                os.close(lock)
                raise Conflict(f"{self.path} is in use by {holder or 'another process'}.{self._served_at()}")
            time.sleep(0.02)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{purpose} (process {os.getpid()})".encode(), 0)
        self._lock = lock
        self.retract()  # what a killed relay left

    def _make(self) -> None:
        try:
            if not os.path.isdir(self.path):
                os.makedirs(self.path, mode=0o700)
                sync_directory(os.path.dirname(self.path))
            if not (found := os.listdir(self.path)) or "lock" in found:  # a directory with other things in it stays
                os.chmod(self.path, 0o700)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> NotConfigured:
        return NotConfigured(f"Cannot use {self.path} as data directory: {error.strerror}.")

    def release(self) -> None:
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def _served_at(self) -> str:
        url = self.served_at()
        return f" Its relay listens on {url}." if url else ""

    # Secrets

    def admin_secret(self) -> str:
        """The admin credential, made when first asked for."""
        return self._secret("admin.key")

    def link_secret(self) -> bytes:
        return self._secret("link.key").encode()

    def rotate_admin_secret(self) -> str:
        """A new admin credential. A running relay reads the file whenever somebody claims to know it."""
        self._make()
        secret = secrets.token_hex(32)
        self._write("admin.key", secret)
        return secret

    def _secret(self, name: str) -> str:
        try:
            with open(self._file(name), encoding="ascii") as file:
                if len(secret := file.read(1000).strip()) >= 32:
                    return secret
        except FileNotFoundError:
            pass
        except (OSError, UnicodeDecodeError) as error:
            raise NotConfigured(f"Cannot read {self._file(name)}: {error}.") from error
        secret = secrets.token_hex(32)
        self._write(name, secret)
        return secret

    # Where the relay is

    def announce(self, url: str) -> None:
        """Tell the commands on this machine where the relay listens."""
        self._write("relay.json", json.dumps({"url": url, "pid": os.getpid()}))

    def retract(self) -> None:
        if os.path.exists(self._file("relay.json")):
            os.remove(self._file("relay.json"))

    def served_at(self) -> str | None:
        """The URL that was announced; it says nothing about whether that relay still runs."""
        try:
            with open(self._file("relay.json"), encoding="utf-8") as file:
                found: Any = json.load(file)
            url = found["url"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return url if isinstance(url, str) else None

    def _file(self, name: str) -> str:
        return os.path.join(self.path, name)

    def _write(self, name: str, content: str) -> None:
        """Whole or not at all, readable by this user only."""
        path = self._file(name)
        temporary = f"{path}.{os.getpid()}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_directory(self.path)


def _locked(lock: int) -> bool:
    """Whether the lock is ours now."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
