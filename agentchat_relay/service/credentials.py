"""Secrets that all relays of one store have in common: the first one to start gives its own."""

from __future__ import annotations

import hashlib
import hmac

from ..store.seam import Reading, Writing

_LINKS, _ADMIN = "links", "admin"


def link_secret(tx: Writing, mine: str) -> str:
    """What links to files are signed with."""
    return _first(tx, _LINKS, mine)


def admit(tx: Writing, secret: str) -> bool:
    """Make this the admin credential unless there is one; whether it is the one."""
    return hmac.compare_digest(_first(tx, _ADMIN, _hash(secret)), _hash(secret))


def replace(tx: Writing, secret: str) -> None:
    """Make this the admin credential. Only its hash is kept."""
    admit(tx, secret)
    tx.run("replace_secret", name=_ADMIN, value=_hash(secret))


def is_admin(tx: Reading, secret: str) -> bool:
    """Whether this is the admin credential."""
    row = tx.one("secret", name=_ADMIN)
    return row is not None and hmac.compare_digest(row["value"], _hash(secret))


def _first(tx: Writing, name: str, value: str) -> str:
    row = tx.one("secret", name=name)
    if row is None:
        tx.run("insert_secret", name=name, value=value)
        return value
    return str(row["value"])


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
