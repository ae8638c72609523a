"""Links to a file that need no key: the path carries the file, an expiry and our signature over both."""

from __future__ import annotations

import hmac
import struct
from base64 import b64decode, urlsafe_b64encode
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from agentchat.errors import Forbidden

VALID_SECONDS = 3600
_VOID = "This link has expired or is not ours; ask for a new one."

# No other use of the same secret signs bytes that begin like this.
_CONTEXT = b"agentchat signed file link 1\0"
_CLAIM = struct.Struct(">QQ")  # file id, expiry in microseconds
_TOKEN_CHARACTERS = (_CLAIM.size + 32) // 3 * 4  # 48 bytes: no padding, one spelling per token


class Claim(NamedTuple):
    """That a link is good for a file until then, by the clock of the store."""

    file_id: int
    expiry: int

    def at(self, now: int) -> int:
        """The file, if it is not too late."""
        if now >= self.expiry:
            raise Forbidden(_VOID)
        return self.file_id


class Links:
    """Makes and reads the signed links of one relay."""

    def __init__(self, secret: bytes, public_url: str) -> None:
        self._secret = secret
        # One block for one claim: a permutation that only we know, so that nobody counts the relay's files.
        self._cipher = Cipher(AES(hmac.digest(secret, b"agentchat file id", "sha256")[:16]), ECB())  # noqa: S305
        self._prefix = f"{public_url.rstrip('/')}/api/files/signed/"

    def make(self, file_id: int, now: int) -> str:
        """A link that is good for an hour from `now`, in microseconds."""
        claim = self._cipher.encryptor().update(_CLAIM.pack(file_id, now + VALID_SECONDS * 1_000_000))
        return self._prefix + urlsafe_b64encode(claim + self._sign(claim)).decode()

    def read(self, token: str) -> Claim:
        """What a link of ours says."""
        raw = _unpack(token)
        claim, signature = raw[: _CLAIM.size], raw[_CLAIM.size :]
        if not hmac.compare_digest(signature, self._sign(claim)):
            raise Forbidden(_VOID)
        return Claim(*_CLAIM.unpack(self._cipher.decryptor().update(claim)))

    def _sign(self, claim: bytes) -> bytes:
        return hmac.digest(self._secret, _CONTEXT + claim, "sha256")


def _unpack(token: str) -> bytes:
    """The bytes of a token; none if it is not of our form, which no signature matches."""
    if len(token) != _TOKEN_CHARACTERS:
        return b""
    try:
        return b64decode(token, altchars=b"-_", validate=True)
    except ValueError:
        return b""
