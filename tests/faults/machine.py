"""A machine that registers agents at a relay whose clock jumps, and repeats what it sent, as an eavesdropper would."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agentchat.identity import signed_bytes

NAME = "mac"
_WINDOW = 60.0  # seconds for which a signature is good, and in which only so many registrations are allowed
_MOST = 4  # one less than the relay allows
_MOST_REFUSED = 8  # less than what the relay takes from one address in a minute


class Machine:
    """Admitted by the operator. `register` does what must be let in, and what must not."""

    def __init__(self, url: str, data: Path) -> None:
        self._url, self._key = url, Ed25519PrivateKey.generate()
        self._accepted: list[tuple[float, dict[str, str]]] = []  # with the relay's time
        self._refused = 0
        self.complaints: list[str] = []
        secret = (data / "admin.key").read_text().strip()
        public = self._key.public_key().public_bytes_raw().hex()
        body = {"machine_name": NAME, "public_key": public, "admin_secret": secret}
        self._post("/api/v2/admin/register-machine", body).raise_for_status()

    def register(self, ahead: float) -> None:
        """Once with the relay's time, which is so far ahead; once with the true one, and once more what came before."""
        now = time.time() + ahead
        if sum(abs(now - at) <= _WINDOW for at, _ in self._accepted) < _MOST:
            body = self._signed(now)
            if self._expect(body, {200}, "a registration"):
                self._accepted.append((now, body))
        if abs(ahead) > 2 * _WINDOW and self._refused < _MOST_REFUSED:
            self._refused += 1
            self._expect(self._signed(time.time()), {403}, "a registration of another time")
        if self._accepted and self._refused < _MOST_REFUSED:
            self._refused += 1
            self._expect(secrets.choice(self._accepted)[1], {403, 409}, "a registration that was sent before")

    def _expect(self, body: dict[str, str], statuses: set[int], what: str) -> bool:
        answer = self._post("/api/v2/register", body)
        if answer.status_code not in statuses:
            self.complaints.append(f"{what}: {answer.status_code} {answer.text} {dict(answer.headers)}")
        return answer.status_code in statuses

    def _signed(self, now: float) -> dict[str, str]:
        name, hash = f"{NAME}-{secrets.token_hex(4)}", hashlib.sha256(secrets.token_bytes(32)).hexdigest()
        timestamp, nonce = datetime.fromtimestamp(now, UTC).isoformat(), secrets.token_hex(16)
        signature = self._key.sign(signed_bytes(NAME, name, hash, timestamp, nonce))
        return {
            "machine_name": NAME, "agent_name": name, "derived_key_hash": hash, "timestamp": timestamp, "nonce": nonce,
            "signature": base64.b64encode(signature).decode(),
        }  # fmt: skip

    def _post(self, path: str, body: dict[str, str]) -> httpx.Response:
        return httpx.post(self._url + path, json=body, trust_env=False, timeout=20)
