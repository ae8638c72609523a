"""A machine's key, the registration of its agents, and the cache of their keys (WIRE section 2).

A machine owns an Ed25519 key pair. Each of its agents has a random key, announced to the relay by a registration that
the machine signs, and cached in `agents/<name>.key`. All processes of an agent share that file: after a 401 it is read
again before anything is registered, so that they never take turns in invalidating each other's key.

Signing needs `cryptography` (extra `keys`); everything else here is the standard library.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import time
from base64 import b64encode
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from ._arguments import check
from ._exchange import IDEMPOTENCY_HEADER, Options, Request, Steps, build_request, exchange, new_idempotency_key
from .contract import Admission
from .errors import Conflict, Forbidden, NotConfigured, TimedOut
from .settings import GET_A_KEY, Key, checked_name, checked_url, key_path, read_config, relay_in, relay_of, same_relay
from .types import Registered

if TYPE_CHECKING:
    from ssl import SSLContext

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_HEX_KEY = re.compile("[0-9a-f]{64}")


def signed_bytes(machine: str, agent: str, key_hash: str, timestamp: str, nonce: str) -> bytes:
    """The bytes a registration signs: a compact JSON array of five texts."""
    return json.dumps([machine, agent, key_hash, timestamp, nonce], separators=(",", ":")).encode()


def read_private_key(path: str | os.PathLike[str]) -> Ed25519PrivateKey:
    """A machine's private key, as 64 hex digits or as PEM."""
    ed25519, serialization = _cryptography()
    try:
        with open(path, "rb") as file:
            content = file.read(100_000).strip()
    except OSError as error:
        raise NotConfigured(f"Cannot read the machine key {path}: {error.strerror}. {GET_A_KEY}") from error
    if os.name == "posix" and os.stat(path).st_mode & 0o077:
        import warnings

        warnings.warn(f"{path} can be read by others; run: chmod 600 {path}", stacklevel=2)
    text = content.decode("ascii", "replace").lower()
    key: object = None
    if _HEX_KEY.fullmatch(text):
        key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(text))
    else:
        with contextlib.suppress(ValueError, TypeError, _unsupported()):
            key = serialization.load_pem_private_key(content, password=None)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise NotConfigured(f"{path} holds no Ed25519 private key (64 hex digits, or PEM without a password).")
    return cast("Ed25519PrivateKey", key)


def public_hex(private_key: Ed25519PrivateKey) -> str:
    """The public half as the relay's operator enters it."""
    return private_key.public_key().public_bytes_raw().hex()


def registration(machine: str, agent: str, key: str, private_key: Ed25519PrivateKey) -> dict[str, str]:
    """The signed body that announces an agent's key. Every call makes a new one: a relay takes each only once."""
    fields = {
        "machine_name": machine,
        "agent_name": agent,
        "derived_key_hash": hashlib.sha256(key.encode()).hexdigest(),
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "nonce": secrets.token_hex(16),
    }
    signature = private_key.sign(signed_bytes(*fields.values()))
    return {**fields, "signature": b64encode(signature).decode()}


def registering(
    machine: str, agent: str, key: str, private_key: Ed25519PrivateKey, timeout: float = Options().deadline
) -> Steps[Registered]:
    """The steps of a registration. Each attempt is signed anew and has an idempotency key of its own."""
    operation = Admission.register

    def build(_: str | None, timeout: float) -> Request:
        arguments = check(operation, registration(machine, agent, key, private_key))
        headers = {"content-type": "application/json", IDEMPOTENCY_HEADER: new_idempotency_key()}
        return build_request(operation, arguments, headers, timeout)

    return exchange(operation, build, Options(deadline=timeout))


class MachineCredential:
    """An agent's key as this machine keeps it: cached in a file, registered when there is none or it was refused."""

    def __init__(
        self,
        home: str | os.PathLike[str],
        url: str,
        machine: str | None,
        agent: str,
        *,
        private_key_path: str | os.PathLike[str] | None = None,
        ssl_context: SSLContext | None = None,
    ) -> None:
        self._home = os.path.expanduser(home)
        self._url = checked_url(url)
        self._machine = machine
        self._agent = agent
        self._path = key_path(self._home, agent)
        self._private_key_path = os.path.expanduser(private_key_path or os.path.join(self._home, "machine.key"))
        self._ssl_context = ssl_context
        self.held: str | None = None

    def __repr__(self) -> str:
        return f"<key of {self._agent} in {self._home}, hidden>"

    def obtain(self, refused: str | None, timeout: float = Options().deadline) -> str | None:
        self.held = self._cached(refused) or self._registered(refused, time.monotonic() + timeout)
        return self.held

    def _file(self) -> str:
        """Where the key for this relay is. The agent's ordinary file belongs to one relay: the one it was made at, else
        the directory's; a key is never shown to another relay, so for others the file's name has their mark."""
        owner = _first_line(f"{self._path}.relay")
        if owner is None:
            owner = relay_in(read_config(os.path.join(self._home, "config"))) or self._url
        if same_relay(owner, self._url):
            return self._path
        mark = hashlib.sha256(relay_of(self._url).encode()).hexdigest()[:8]
        return f"{self._path.removesuffix('.key')}@{mark}.key"

    def _cached(self, refused: str | None) -> Key | None:
        key = _first_line(self._file()) or ""
        return Key(key) if key != refused and _HEX_KEY.fullmatch(key) else None

    def _registered(self, refused: str | None, deadline: float) -> Key | None:
        if not os.path.isfile(self._private_key_path):
            return None
        private_key = read_private_key(self._private_key_path)
        with _lock(f"{self._path}.lock", deadline):
            # Another process may have registered while this one waited for the lock.
            if (cached := self._cached(refused)) is not None:
                return cached
            key = Key(secrets.token_hex(32))
            self._announce(key, private_key, max(deadline - time.monotonic(), 0.001))
            path = self._file()
            if path == self._path:
                write_secret(f"{path}.relay", self._url)
            write_secret(path, key)
            return key

    def _announce(self, key: str, private_key: Ed25519PrivateKey, timeout: float) -> None:
        from ._transport import StdlibTransport
        from .client import drive

        if not self._machine:
            raise NotConfigured(f"This machine has no name: set MACHINE_NAME, or in {self._home}/config.")
        transport = StdlibTransport(self._url, ssl_context=self._ssl_context)
        try:
            drive(registering(self._machine, self._agent, key, private_key, timeout), transport)
        except Forbidden as error:
            advice = ""
            if error.message.rstrip(".") == "Registration failed":  # the text the contract keeps for this
                advice = (
                    " Does it know this machine, and is this machine's clock right? On the relay: "
                    f"agentchat admin machine add {self._machine} {public_hex(private_key)}"
                )
            raise Forbidden(
                f"The relay refused to register {self._agent}: {error.message.rstrip('.')}.{advice}",
                status=error.status,
                request_id=error.request_id,
            ) from error
        except Conflict as error:
            raise Conflict(
                f"The relay refused to register {self._agent}: {error.message.rstrip('.')}. The name may belong to "
                "another machine; choose another with AGENTCHAT_AGENT or AGENTCHAT_PROJECT.",
                status=error.status,
                request_id=error.request_id,
            ) from error
        finally:
            transport.close()


def _first_line(path: str) -> str | None:
    """A small file's text, trimmed; None if there is no such file."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(1000).strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotConfigured(f"Cannot read {path}: {error.strerror}.") from error


def has_machine_key(home: str) -> bool:
    return os.path.isfile(os.path.join(home, "machine.key"))


def init_machine(home: str, machine: str, url: str | None) -> str:
    """Make this machine's key pair and its `config`; returns the public key as hex. Never overwrites a key."""
    checked_name("machine", machine)
    ed25519, _ = _cryptography()
    path = os.path.join(home, "machine.key")
    with _lock(os.path.join(home, "machine.lock"), time.monotonic() + Options().deadline):
        if os.path.exists(path):
            raise NotConfigured(f"{path} exists already, and agents may depend on it. Move it away to start anew.")
        key = ed25519.Ed25519PrivateKey.generate()
        public = public_hex(key)
        _write_config(os.path.join(home, "config"), {"AGENTCHAT_URL": url, "MACHINE_NAME": machine})
        write_secret(os.path.join(home, "machine.pub"), public)
        write_secret(path, key.private_bytes_raw().hex())
    return public


def _write_config(path: str, values: dict[str, str | None]) -> None:
    """Set these lines of the file and keep all others, comments included."""
    values = {name: value for name, value in values.items() if value}
    lines = []
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line for line in file.read().splitlines() if line.partition("=")[0].strip() not in values]
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as error:
        raise NotConfigured(f"Cannot read {path}: {error}.") from error
    lines += [f"{name}={value}" for name, value in values.items()]
    write_secret(path, "\n".join(lines) + "\n")


def write_secret(path: str, content: str) -> None:
    """Replace a file at once, readable by its owner only, on disk before this returns."""
    temporary = f"{path}.{secrets.token_hex(4)}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_directory(os.path.dirname(path))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise NotConfigured(f"Cannot write {path}: {error.strerror}.") from error


def _sync_directory(path: str) -> None:
    """Put a new name itself on disk."""
    if os.name != "posix":
        return
    descriptor = os.open(path or ".", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _lock(path: str, deadline: float) -> Iterator[None]:
    """Hold a lock among all processes and threads; the kernel frees it when its holder dies."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NotConfigured(f"Cannot write in {os.path.dirname(path)}: {error.strerror}.") from error
    try:
        with contextlib.suppress(ImportError):  # no fcntl on Windows: there the last writer wins
            import fcntl

            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise TimedOut(f"Another process holds {path} for too long; try again.") from None
                    time.sleep(0.02)
        yield
    finally:
        with contextlib.suppress(ImportError):
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a forked child may still hold the descriptor
        os.close(descriptor)


def _unsupported() -> type[Exception]:
    from cryptography.exceptions import UnsupportedAlgorithm

    return UnsupportedAlgorithm


def _cryptography() -> Any:
    """Two modules of an optional package."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise NotConfigured(
            'Machine keys need the package cryptography: pip install "langchain-agentchat[keys]". '
            "A token of the relay's operator in AGENTCHAT_KEY works without it."
        ) from error
    return ed25519, serialization
