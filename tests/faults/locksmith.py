"""An operator who gives keys out and takes them back at one relay, and tries them at all of them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import httpx

from agentchat import AgentChatError, Client, errors
from tests.faults.fleet import Anywhere, Fleet, SharingRelay
from tests.faults.histories import Post, Told
from tests.faults.load import PATIENCE, SHARED, answered, unknown
from tests.faults.relay_process import LONGEST_START, administer

GUEST = "mac-guest"  # whose keys they are
_PAUSE = 0.05  # seconds between two attempts


class Locksmith:
    """One thread. What was confirmed holds for every relay from then on: a new key opens, an old one does not."""

    def __init__(self, fleet: Fleet, told: Told, luck: random.Random) -> None:
        self._fleet, self._told, self._luck = fleet, told, luck
        self.over = threading.Event()
        self.complaints: list[str] = []
        self.key = ""
        self.revoked = 0
        self._words = 0

    def run(self) -> None:
        self.key = self.new_key(GUEST)
        while not self.over.is_set():
            self._fleet.up.wait(LONGEST_START)
            self._use()
            old = self.key
            if self._luck.random() < 0.5:
                self.key = self.new_key(GUEST)
                self._refused(old)
            else:
                self._ask("agents/update", name=GUEST, active=False)
                self._refused(old, for_good=False)
                self._ask("agents/update", name=GUEST, active=True)
                self._accepted()
            self.revoked += 1
            self.over.wait(_PAUSE)

    def new_key(self, name: str) -> str:
        return str(self._ask("agents/token", name=name)["key"])

    def _ask(self, path: str, **body: object) -> dict[str, object]:
        """Until it is confirmed by one relay or another; to do it once more than needed does no harm."""
        for _ in self._attempts():
            relay = self._luck.choice(self._fleet.relays)
            try:
                answer = administer(relay.url, self._fleet.relays[0].data, path, **body)
            except httpx.TransportError:
                continue
            if answer.status_code == 503:
                continue
            if answer.status_code != 200:
                raise RuntimeError(f"the operator's {path} was refused: {answer.status_code} {answer.text}")
            data: dict[str, object] = answer.json()["data"]
            return data
        raise RuntimeError(f"the operator's {path} was not done in {PATIENCE} s")

    def _use(self) -> None:
        """Post something with the key that is good."""
        post = Post(GUEST, self._luck.choice(SHARED), self._word(), time.monotonic())
        transport = Anywhere(self._fleet.relays, random.Random(self._luck.random()))
        with Client(self._fleet.url, self.key, agent=GUEST, deadline=PATIENCE, timeout=2, transport=transport) as guest:
            self._told.posts.append(answered(post, guest.send_message))
        transport.close()

    def _refused(self, key: str, *, for_good: bool = True) -> None:
        """Reading and writing, at every relay. What is posted nobody sent, as far as the checker knows; but a relay
        that stood still may do it when the key is good again."""
        for number, relay in self._relays():
            reads = self._luck.random() < 0.5
            if self._try(relay, key, lambda guest, reads=reads: self._enter(guest, reads, for_good)) is True:
                did = "read" if reads else "write"
                self.complaints.append(f"relay {number} let a revoked key of {GUEST} {did}")

    def _accepted(self) -> None:
        for number, relay in self._relays():
            if self._try(relay, self.key, lambda guest: self._enter(guest, reads=True)) is False:
                self.complaints.append(f"relay {number} refused a key of {GUEST} that is good")

    def _enter(self, guest: Client, reads: bool, for_good: bool = True) -> object:
        if reads:
            return guest.check_board()
        post = Post(GUEST, self._luck.choice(SHARED), f"void {self._word()}", time.monotonic())
        try:
            return guest.send_message(post.channel, post.text)
        except AgentChatError as error:
            if unknown(error) and not for_good:
                self._told.posts.append(post)
            raise

    def _try(self, relay: SharingRelay, key: str, call: Callable[[Client], object]) -> bool | None:
        """Whether the key was good there; None if nobody can say, since the relay is down."""
        with Client(relay.url, key, agent=GUEST, retries=0, timeout=2) as guest:
            for _ in range(3):
                try:
                    call(guest)
                except errors.Unauthorized:
                    return False
                except AgentChatError as error:
                    if not unknown(error):
                        raise RuntimeError(f"{GUEST} was refused with {error.code}") from error
                    self.over.wait(_PAUSE)
                else:
                    return True
        return None

    def _relays(self) -> Sequence[tuple[int, SharingRelay]]:
        found = [*enumerate(self._fleet.relays)]
        self._luck.shuffle(found)
        return found

    def _attempts(self) -> Iterator[None]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            yield
            time.sleep(_PAUSE)

    def _word(self) -> str:
        self._words += 1
        return f"guest word{self._words}"
