"""`GET /metrics`: the relay's measures, for its operator and for a Prometheus on the same machine."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from agentchat import __version__
from agentchat.errors import Unauthorized
from agentchat.settings import is_loopback

from .. import log
from ..metrics import Family, Kind, samples
from ..store.seam import Measures
from .parts import Parts
from .reply import Headers, Reply
from .request import Request

_HEADERS: Headers = [
    (b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
]
_HERE = "http://localhost"
_FORWARDING = (b"forwarded", b"via", b"x-real-ip")


class MetricsPage:
    """The page is made on the event loop from numbers that are there: it asks no lane of the store, so that it answers
    when nothing else does."""

    def __init__(self, parts: Parts, contract: str) -> None:
        self._parts = parts
        self._is_private = not parts.settings.trusted_proxies and _is_here(parts.settings.public_url or _HERE)
        about = {
            "version": __version__,
            "contract": contract,
            "python": platform.python_version(),
            parts.store.engine[0]: parts.store.engine[1],
        }
        metrics = parts.metrics
        metrics.add(lambda: [Family("agentchat_build_info", "gauge", "What runs; always 1.", [("", about, 1)])])
        metrics.add(self._of_store)
        metrics.counter(
            "agentchat_log_records_total", "Records in the log.", lambda: log.counts.written, "level"
        )  # fmt: skip
        metrics.counter(
            "agentchat_log_records_lost_total", "Records that could not be written.", lambda: log.counts.lost
        )  # fmt: skip

    async def __call__(self, request: Request) -> Reply:
        if request.headers.get(b"authorization"):
            await self._parts.operators.check_bearer(request, self._parts.address_of(request))
        elif not self._is_neighbour(request):
            raise Unauthorized(
                "Only a caller on the relay's own machine, past no proxy, may read this without the admin credential. "
                "Send: Authorization: Bearer <the content of admin.key>"
            )
        return Reply(200, _HEADERS, self._parts.metrics.page())

    def _is_neighbour(self, request: Request) -> bool:
        """Whether somebody on this machine asks, and certainly for no stranger: a proxy is betrayed by its headers, or
        by the HTTP/1.0 that some speak unasked; and a page in a browser here may have had a name of its own resolved to
        this machine."""
        client = request.scope.get("client")
        return (
            self._is_private
            and client is not None
            and ip_address(client[0]).is_loopback
            and request.scope.get("http_version") != "1.0"
            and _is_here(f"http://{request.text(b'host') or ''}")
            and not any(name in _FORWARDING or name.startswith(b"x-forwarded-") for name in request.headers)
        )

    def _of_store(self) -> Iterator[Family]:
        found = self._parts.store.measures()
        yield Family("agentchat_commit_group_calls", "histogram", "Calls in a commit.", found.group_calls.samples())
        yield Family(
            "agentchat_commit_seconds",
            "histogram",
            "Time to write a group of calls down and have it on disk.",
            found.commit_seconds.samples(),
        )
        for name, kind, help, read, label in _OF_STORE:
            if (value := read(found)) is not None:
                yield Family(f"agentchat_{name}", kind, help, samples(value, label))


_OF_STORE: tuple[tuple[str, Kind, str, Callable[[Measures], float | Mapping[str, float] | None], str], ...] = (
    ("calls_total", "counter", "Calls that the store began, by lane; appends are writes.", lambda m: m.calls, "lane"),
    ("waiting_calls", "gauge", "Calls that wait for the store, by lane.", lambda m: m.waiting, "lane"),
    ("messages_total", "counter", "Messages ever posted.", lambda m: m.messages, ""),
    ("events_total", "counter", "Changes ever committed, by all relays of the store.", lambda m: m.events, ""),
    ("index_lag_messages", "gauge", "Messages that search does not find yet.", lambda m: m.index_lag, ""),
    ("database_bytes", "gauge", "Size of a database with its log, by file.", lambda m: m.database_bytes, "file"),
    ("disk_free_bytes", "gauge", "Room left for the data directory.", lambda m: m.disk_free, ""),
)


def _is_here(url: str) -> bool:
    """Whether a URL names this machine by a name that only this machine knows it by."""
    try:
        return is_loopback(urlsplit(url).hostname)
    except ValueError:
        return False
