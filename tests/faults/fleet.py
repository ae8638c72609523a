"""Relay processes that share one Postgres, and a client's way to any of them."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from agentchat._exchange import IDEMPOTENCY_HEADER, Request, Response
from agentchat._transport import StdlibTransport
from tests.faults.relay_process import Process

RELAYS = 3


class SharingRelay(Process):
    """One of several on a database. It may stand still for a while, as if its machine did."""

    builds = "tests.faults.postgres_build"

    def pause(self) -> None:
        """It still takes connections, as far as the kernel does that."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)


class Fleet:
    """Three relays, each with a data directory of its own, and the contents of files in one of all. The first made the
    admin credential. `up` is set while it makes sense to ask them. Without a store to share it is one relay alone."""

    kind: type[SharingRelay] = SharingRelay

    def __init__(self, store: str | None, place: Path, broken: str | None = None) -> None:
        self.up = threading.Event()
        self.relays: list[SharingRelay] = []
        options = ["--store", store, "--files", str(place / "files")] if store else []
        for number in range(RELAYS if store else 1):
            data = place / f"relay-{number}"
            self.relays.append(self.kind(data, place / f"relay-{number}.log", broken, options))

    @property
    def url(self) -> str:
        """Of one of them, for clients that ask for one."""
        return self.relays[0].url

    @property
    def urls(self) -> list[str]:
        return [relay.url for relay in self.relays]

    def start(self, relays: Sequence[SharingRelay] | None = None) -> None:
        """All at once; the first of all before the others, who find the tables made."""
        relays = self.relays if relays is None else relays
        if not self.url:
            relays[0].start()
            relays = relays[1:]
        with ThreadPoolExecutor(RELAYS) as pool:
            list(pool.map(lambda relay: relay.start(), relays))
        self.up.set()

    def complaints(self) -> Iterator[str]:
        """What they say of faults that nobody caught."""
        for number, relay in enumerate(self.relays):
            if relay.has_ended():
                yield f"relay {number} ended by itself: {relay.log()[-300:]}"
            log = relay.log()
            for sign in ("Traceback", " ERROR request "):
                if sign in log:
                    yield f"the log of relay {number}: {log[log.index(sign) :][:1000]}"

    def close(self) -> None:
        for relay in self.relays:
            relay.resume()
            relay.close()
        self.up.set()


class Anywhere:
    """A client's transport that takes another relay for each request, a repeated one as well."""

    def __init__(self, relays: Sequence[SharingRelay], luck: random.Random) -> None:
        self._relays, self._luck = relays, luck
        self._ways: dict[str, StdlibTransport] = {}
        self._guard = threading.Lock()

    def send(self, request: Request) -> Response:
        """To one that is known to be up, if there is any, as a proxy would."""
        with self._guard:
            relays = [relay for relay in self._relays if relay.up.is_set()] or self._relays
            url = self._luck.choice(relays).url
            way = self._ways.setdefault(url, StdlibTransport(url))
        return way.send(request)

    def close(self) -> None:
        for way in self._ways.values():
            way.close()


class Keyless:
    """The way of a client that knows no idempotency keys. Nobody can tell it what came of a call that got no answer."""

    def __init__(self, way: Anywhere) -> None:
        self._way = way

    def send(self, request: Request) -> Response:
        headers = {name: value for name, value in request.headers.items() if name != IDEMPOTENCY_HEADER}
        return self._way.send(request._replace(headers=headers))

    def close(self) -> None:
        self._way.close()
