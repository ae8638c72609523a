"""The data directory: everything a relay owns, for one operating-system user only.

    agentchat.db, search.db   the store
    blobs/                    contents of files
    spool/                    files on their way to a bucket
    admin.key                 the admin credential
    link.key                  what signed links are signed with
    relay.json                where the relay of this directory listens
    relay.toml                its settings, where the operator wrote some
    relay.log                 what a relay in the background tells
    lock                      held while somebody has the directory open
    turn                      held by the one of several processes that writes
    chores                    when one of several processes did them last, and what it knew of the clock

The lock is the kernel's, so that it ends with its holder, however that ends. A relay has it alone; agents that do
without one share it. Its text says who holds it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from agentchat.errors import AgentChatError, Conflict, NotConfigured, StorageFull

from .durable import sync_directory
from .wire import iso

_log = logging.getLogger("agentchat.relay")
_OURS = ("agentchat.db", "search.db", "blobs", "spool", "admin.key", "link.key", "relay.", "lock", "turn", "chores")
RELAYS = ("a relay", "an embedded relay")
AGENTS = "agents without a relay"
_TEXT = 64  # bytes, in which each of many writes its name over that of another
_GLANCE = 0.1  # seconds for which `holder` may be in the way of `hold`, or the text of the lock behind the lock


class Holder(NamedTuple):
    """Who has a directory open."""

    purpose: str
    pid: int
    is_proven: bool  # by the kernel. Else the process is in a container or another user's, and its number is hearsay
    others: int = 0  # processes that share it

    @property
    def is_relay(self) -> bool:
        return self.purpose in RELAYS

    def __str__(self) -> str:
        more = f" and {self.others} more" if self.others else ""
        return f"{self.purpose} (process {self.pid}{more})" if self.pid else self.purpose


class Announced(NamedTuple):
    """What a relay told about itself when it was ready."""

    url: str
    pid: int
    since: str


def _what_to_do(directory: str) -> str:
    """What to do about a directory in which this process may not write."""
    with suppress(OSError):
        found = os.stat(directory)
        if found.st_uid == os.geteuid() and found.st_mode & stat.S_IRWXU != stat.S_IRWXU:
            return f"It is yours, but you may not write in it: chmod u+rwx {directory}"
    return "Run this as the user that owns it."


class Directory:
    """A data directory. `hold` opens it for this process alone, `share` together with others."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(os.path.expanduser(path))
        self._lock: int | None = None
        self._is_shared = False

    def is_there(self) -> bool:
        """Whether a relay was ever started here."""
        return os.path.isfile(self._file("agentchat.db"))

    def hold(self, purpose: str, *, patience: float = 0.0) -> None:
        """Take the directory, made if it is new, or say who has it. For somebody with the same purpose it waits."""
        self._take(fcntl.LOCK_EX, purpose, lambda holder: patience if holder.purpose.startswith(purpose) else 0.0)

    def share(self, *, patience: float = 0.0) -> None:
        """Take the directory together with others who do without a relay, or say who has it. It waits for whoever is
        no relay, and so has it for a while only."""
        try:
            self._take(fcntl.LOCK_SH, AGENTS, lambda holder: 0.0 if holder.is_relay else patience)
        except Conflict as error:
            if url := self.served_at():
                raise Conflict(f"{error.message} Set AGENTCHAT_URL={url}") from None
            raise

    def _take(self, how: int, purpose: str, patience_with: Callable[[Holder], float]) -> None:
        started = time.monotonic()
        self.make()
        try:
            lock = os.open(self._file("lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        while not _locked(lock, how):
            holder = _told(lock)
            if time.monotonic() - started >= max(_GLANCE, patience_with(holder) if holder else 0.0):
                holder = _sharing(lock, holder)
                os.close(lock)
                raise self.in_use(holder)
            time.sleep(0.02)
        try:
            _write_name(lock, f"{purpose} (process {os.getpid()})", is_shared=how == fcntl.LOCK_SH)
        except OSError as error:
            os.close(lock)
            raise self._unusable(error) from error
        self._lock, self._is_shared = lock, how == fcntl.LOCK_SH
        self.retract()  # what a killed relay left

    def make(self) -> None:
        """The directory itself, for this user only; one that was there with other things in it stays as it is."""
        self._check_name()
        try:
            if not os.path.isdir(self.path):
                os.makedirs(self.path, mode=0o700)
                sync_directory(os.path.dirname(self.path))
            if all(name.startswith(_OURS) for name in os.listdir(self.path)):
                os.chmod(self.path, 0o700)
        except OSError as error:
            raise self._unusable(error) from error

    def _check_name(self) -> None:
        """SQLite takes names in UTF-8 only."""
        try:
            self.path.encode()
        except UnicodeEncodeError:
            raise NotConfigured(f"Cannot use {self.path!r} as data directory: its name is not UTF-8.") from None

    def _unusable(self, error: OSError) -> AgentChatError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StorageFull(f"The disk of {self.path} is full. Make room, then try again.")
        reason = "it is not a directory" if error.errno in (errno.EEXIST, errno.ENOTDIR) else error.strerror
        if os.path.islink(self.path) and not os.path.exists(self.path):
            reason = f"it is a link to {os.readlink(self.path)}, which is not there"
        hint = f" {_what_to_do(self.path)}" if error.errno in (errno.EACCES, errno.EPERM) else ""
        return NotConfigured(f"Cannot use {self.path} as data directory: {reason}.{hint}")

    def release(self) -> None:
        if self._lock is not None:
            if not self._is_shared:
                with suppress(OSError):  # then a stale name stays in it
                    os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def in_use(self, holder: Holder | None) -> Conflict:
        url = self.served_at()
        where = f" Its relay listens on {url}." if url else ""
        return Conflict(f"{self.path} is in use by {holder or 'another process'}.{where}")

    def holder(self) -> Holder | None:
        """Who has the directory open, or None. It leaves the lock alone as long as the kernel says who holds it."""
        try:
            lock = os.open(self._file("lock"), os.O_RDWR)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._unusable(error) from error
        deadline = time.monotonic() + _GLANCE
        try:
            while True:
                told = _sharing(lock, _told(lock))
                if told and _holds(told.pid, lock):
                    return told._replace(is_proven=True)
                if _is_free(lock):
                    return None
                if time.monotonic() >= deadline:
                    return told or Holder("another process", 0, False)
                time.sleep(0.01)  # whoever has just taken it is about to write a name into it
        finally:
            os.close(lock)

    # Secrets

    def admin_secret(self, *, make: bool = True) -> str:
        """The admin credential, made when first asked for."""
        return self._secret("admin.key", make)

    def link_secret(self) -> bytes:
        return self._secret("link.key").encode()

    def rotate_admin_secret(self) -> str:
        """A new admin credential. A running relay reads the file whenever somebody claims to know it."""
        secret = secrets.token_hex(32)
        self.replace_admin_secret(secret)
        return secret

    def replace_admin_secret(self, secret: str) -> None:
        self.make()
        self._write("admin.key", secret)

    def forget_admin_secret(self) -> None:
        """It is not the one that counts."""
        with suppress(FileNotFoundError):
            os.remove(self._file("admin.key"))

    def _secret(self, name: str, make: bool = True) -> str:
        try:
            with open(self._file(name), encoding="ascii") as file:
                if len(secret := file.read(1000).strip()) >= 32:
                    return secret
            _log.warning("%s holds no credential.", self._file(name))
        except FileNotFoundError:
            pass
        except (OSError, UnicodeDecodeError) as error:
            raise NotConfigured(
                f"Cannot read {self._file(name)}: {error}. Remove it, and the relay makes a new one at its start."
            ) from error
        if not make:
            raise NotConfigured(f"{self._file(name)} is gone; make a new one: agentchat admin credential rotate")
        secret = secrets.token_hex(32)
        self._write(name, secret)
        return secret

    # Where the relay is

    def announce(self, url: str) -> None:
        """Tell the commands on this machine where the relay listens."""
        self._write("relay.json", json.dumps({"url": url, "pid": os.getpid()}))

    def retract(self) -> None:
        with suppress(OSError):  # a stale announcement says that it is one: its process is gone
            os.remove(self._file("relay.json"))

    def announced(self) -> Announced | None:
        """What was announced; it says nothing about whether that relay still runs."""
        try:
            with open(self._file("relay.json"), encoding="utf-8") as file:
                found: Any = json.load(file)
                since = os.fstat(file.fileno()).st_mtime_ns // 1000
            told = Announced(found["url"], found["pid"], iso(since))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return told if isinstance(told.url, str) and isinstance(told.pid, int) else None

    def served_at(self) -> str | None:
        """The URL that was announced."""
        told = self.announced()
        return told.url if told else None

    def _file(self, name: str) -> str:
        return os.path.join(self.path, name)

    def _write(self, name: str, content: str) -> None:
        """Whole or not at all, readable by this user only."""
        path = self._file(name)
        temporary = f"{path}.{os.getpid()}"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(content + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_directory(self.path)
        except OSError as error:
            with suppress(OSError):
                os.unlink(temporary)
            raise self._unusable(error) from error


def _locked(lock: int, how: int = fcntl.LOCK_EX) -> bool:
    """Whether the lock is ours now."""
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_free(lock: int) -> bool:
    """Whether nobody holds the lock. Two who ask at once do not see each other, as long as no agents were there last;
    `hold` looks twice."""
    told = _told(lock)
    if not _locked(lock, fcntl.LOCK_EX if told and told.purpose == AGENTS else fcntl.LOCK_SH):
        return False
    fcntl.flock(lock, fcntl.LOCK_UN)
    return True


def _told(lock: int) -> Holder | None:
    """Who wrote a name into the lock last. A killed process leaves its own there."""
    text = os.pread(lock, 1000, 0).decode("utf-8", "replace")
    found = re.fullmatch(r"(.+) \(process ([0-9]{1,10})\)\s*", text)
    return Holder(found[1], int(found[2]), False) if found else None


def _write_name(lock: int, name: str, *, is_shared: bool) -> None:
    if not is_shared:
        os.ftruncate(lock, 0)
    os.pwrite(lock, name.ljust(_TEXT if is_shared else 0).encode(), 0)
    if is_shared:
        os.ftruncate(lock, _TEXT)


def _sharing(lock: int, told: Holder | None) -> Holder | None:
    """Of many who wrote their names over each other, one that is still there. The kernel knows them all."""
    if told is None or told.purpose != AGENTS or not os.path.isdir("/proc/self/fdinfo"):
        return told
    pids = sorted(pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _holds(pid, lock))
    return Holder(AGENTS, pids[0], True, len(pids) - 1) if pids else told


def _holds(pid: int, lock: int) -> bool:
    """Whether this very process holds the lock. Where the kernel does not tell (macOS), a lock that is held was taken
    by who wrote into it."""
    if not os.path.isdir("/proc/self/fdinfo"):
        return not _is_free(lock)
    mine = os.fstat(lock)
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:  # it is gone, or nothing of ours
        return False
    return any(_is_locked(f"/proc/{pid}", descriptor, mine) for descriptor in descriptors)


def _is_locked(process: str, descriptor: str, mine: os.stat_result) -> bool:
    """Whether the descriptor is the lock file, held. A busy process may have closed it meanwhile."""
    with suppress(OSError):
        if os.path.samestat(os.stat(f"{process}/fd/{descriptor}"), mine):
            with open(f"{process}/fdinfo/{descriptor}", encoding="ascii") as file:
                return "FLOCK" in file.read()
    return False
