"""A relay that stores each idempotency key once and otherwise goes wrong in every way a network and a server can.

What happens to a request depends on the seed, the message and its attempt, not on which thread comes first.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from itertools import count
from typing import Self

from agentchat._exchange import IDEMPOTENCY_HEADER
from tests.faults.checker import Row
from tests.servers import Peer, Scripted, Seen, answer, enveloped, message

FAULTY_REQUESTS, FAULTY_CONNECTIONS = 0.45, 0.1


class FaultyRelay:
    """Takes messages over real sockets. `dedupe=False` stores every request; `faulty=False` is a good relay.

    `strikes` maps a message to what is done, once, when it arrives: such a request gets no answer.
    """

    def __init__(self, seed: str, *, dedupe: bool = True, faulty: bool = True) -> None:
        self.rows: list[Row] = []
        self.attempts: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.strikes: dict[str, Callable[[], None]] = {}
        self.bugs: list[str] = []  # of this file: a round in which it failed by accident proves nothing
        self._seed = seed
        self._dedupe = dedupe
        self._faulty = faulty
        self._answers: dict[str, tuple[bytes, bytes]] = {}  # key -> digest of the body, answer
        self._numbers = count()
        self._lock = threading.Lock()
        self._server = Scripted(self._converse)
        self.url = self._server.url
        self.address = ("127.0.0.1", self._server.port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._server.__exit__(*error)

    def _converse(self, peer: Peer) -> None:
        luck = random.Random(f"{self._seed}/connection {next(self._numbers)}")
        if self._faulty and luck.random() < FAULTY_CONNECTIONS:
            self._note("dropped before reading")
            return
        try:
            while (seen := peer.read()) is not None and _whole(seen) and self._serve(peer, seen):
                pass
        except Exception as error:
            self.bugs.append(f"the relay itself failed: {error!r}")

    def _serve(self, peer: Peer, seen: Seen) -> bool:
        """Answer a request, or not; True keeps the connection."""
        content = seen.json()["content"]
        with self._lock:
            self.attempts[content] += 1
            attempt = self.attempts[content]
            strike = self.strikes.pop(content, None)
        luck = random.Random(f"{self._seed}/{content}/{attempt}")
        if strike is not None:
            if luck.random() < 0.5:
                self.store(seen)
            strike()
            return False
        name = self.fault(attempt, luck)
        if name is None:
            peer.send(self.store(seen))
            return True
        self._note(name)
        return FAULTS[name](self, peer, seen, luck)

    def fault(self, attempt: int, luck: random.Random) -> str | None:
        """What goes wrong with the message's n-th attempt, if anything."""
        return luck.choice([*FAULTS]) if self._faulty and luck.random() < FAULTY_REQUESTS else None

    def store(self, seen: Seen) -> bytes:
        """Store the message unless its key is known; returns the answer that says so."""
        key, digest = seen.headers.get(IDEMPOTENCY_HEADER), sha256(seen.body).digest()
        with self._lock:
            if self._dedupe and key is not None and key in self._answers:
                known, given = self._answers[key]
                mismatch = {"error": "This key came with another body", "code": "idempotency_mismatch"}
                return given if known == digest else answer(mismatch, status=409)
            row = Row(f"{len(self.rows):08x}-0000-7000-8000-000000000000", seen.json()["content"])
            self.rows.append(row)
            given = answer(enveloped({"message": message(row.content, id=row.id), "unmatched_mentions": []}))
            if key is not None:
                self._answers[key] = digest, given
            return given

    def _note(self, fault: str) -> None:
        with self._lock:
            self.faults[fault] += 1


def _whole(seen: Seen) -> bool:
    """Whether all of the request came; a client may die, or give up, in the middle of it."""
    return len(seen.body) == int(seen.headers["content-length"])


# A fault serves one request, badly; True keeps the connection.
Fault = Callable[[FaultyRelay, Peer, Seen, random.Random], bool]


def _lose(relay: FaultyRelay, peer: Peer, seen: Seen, luck: random.Random) -> bool:
    return False


def _store_only(relay: FaultyRelay, peer: Peer, seen: Seen, luck: random.Random) -> bool:
    relay.store(seen)
    return False


def _cut(relay: FaultyRelay, peer: Peer, seen: Seen, luck: random.Random) -> bool:
    whole = relay.store(seen)
    peer.send(whole[: luck.randrange(1, len(whole))])
    return False


def _reset(relay: FaultyRelay, peer: Peer, seen: Seen, luck: random.Random) -> bool:
    """A TCP reset: before storing, after it, or in the middle of the answer."""
    if luck.random() < 0.7:
        whole = relay.store(seen)
        peer.send(whole[: luck.choice([0, len(whole) // 2])])
    peer.reset()
    return False


def _limit(relay: FaultyRelay, peer: Peer, seen: Seen, luck: random.Random) -> bool:
    problem = {"error": "Slow down", "code": "rate_limited"}
    peer.send(answer(problem, status=429, headers={"retry-after": "0"}))
    return True


def _refuse(relay: FaultyRelay, peer: Peer, seen: Seen, luck: random.Random) -> bool:
    """503 of the relay, or of a proxy that lost the relay's answer."""
    if luck.random() < 0.5:
        relay.store(seen)
        peer.send(answer(status=503, body=b"<html>Bad gateway</html>", headers={"content-type": "text/html"}))
    else:
        peer.send(answer({"error": "Restarting", "code": "unavailable"}, status=503))
    return True


def _babble(relay: FaultyRelay, peer: Peer, seen: Seen, luck: random.Random) -> bool:
    if luck.random() < 0.5:
        relay.store(seen)
    start = luck.choice([b"", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n", b"\r\n\r\n"])
    peer.send(start + luck.randbytes(luck.randrange(1, 2000)) + b"\r\n\r\n")
    return False


def _miscount(relay: FaultyRelay, peer: Peer, seen: Seen, luck: random.Random) -> bool:
    body = relay.store(seen).partition(b"\r\n\r\n")[2]
    wrong = len(body) + luck.choice([-len(body), -7, -1, 1, 5000])
    peer.send(answer(body=body, headers={"content-length": str(wrong)}))
    return False


def _dawdle(relay: FaultyRelay, peer: Peer, seen: Seen, luck: random.Random) -> bool:
    """Silence until the client has given up; what it asked for is done before or after that."""
    if luck.random() < 0.5:
        relay.store(seen)
        peer.read()
    else:
        peer.read()
        relay.store(seen)
    return False


def _hang_up(relay: FaultyRelay, peer: Peer, seen: Seen, luck: random.Random) -> bool:
    """A good answer, but the connection that it seems to keep open is closed."""
    peer.send(relay.store(seen))
    return False


FAULTS: dict[str, Fault] = {
    "lost before storing": _lose,
    "stored, not answered": _store_only,
    "cut in the answer": _cut,
    "reset": _reset,
    "429": _limit,
    "503": _refuse,
    "garbage": _babble,
    "wrong content-length": _miscount,
    "slower than the time-out": _dawdle,
    "closed after the answer": _hang_up,
}
