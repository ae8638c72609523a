"""One keep-alive connection to a relay, and what every answer must have."""

from __future__ import annotations

import http.client
import json
import select
import socket
from typing import Any, cast
from urllib.parse import urlsplit

from agentchat._exchange import Request
from agentchat.errors import CODES
from agentchat_relay.local import LocalTransport


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        assert self.status == 200, self.body[:500]
        return self.json()["data"]


def received(response: http.client.HTTPResponse) -> Answer:
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


class Wire:
    """One keep-alive connection, as whom."""

    def __init__(self, url: str, **headers: str) -> None:
        parts = urlsplit(url)
        self._local = LocalTransport(url) if parts.scheme == "local" else None  # with --mode local
        self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        self._headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def send(self, method: str, target: str, body: Any = None, **headers: str) -> Answer:
        named = {**self._headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if self._local is not None:
            told = self._local.send(Request(method, target, named, body, 60.0))
            return Answer(told.status, dict(cast("dict[str, str]", told.headers)), told.body)
        if self.connection.sock is not None and _has_hung_up(self.connection.sock):  # nothing was asked for long
            self.connection.close()
        self.connection.request(method, target, body=body, headers=named)
        answer = received(self.connection.getresponse())
        check_headers(answer)
        return answer

    def refused(self, method: str, target: str, body: Any = None, **headers: str) -> tuple[int, str]:
        """Status and code of a refusal, which has the form that all refusals have."""
        answer = self.send(method, target, body, **headers)
        assert 400 <= answer.status < 500, (method, target[:200], answer.status, answer.body[:500])
        return answer.status, check_refusal(answer)

    def close(self) -> None:
        if self._local is not None:
            self._local.close()
        self.connection.close()


def _has_hung_up(sock: socket.socket) -> bool:
    poll = select.poll()  # which knows descriptors above 1023, too
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def check_headers(answer: Answer) -> None:
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers
    if answer.status >= 400:
        check_all_headers(answer)
    if answer.status == 429:
        assert int(answer.headers["retry-after"]) >= 1


def check_all_headers(answer: Answer) -> None:
    """What WIRE wants on every answer, and the id by which an operator finds a call in the log."""
    assert answer.headers["x-frame-options"].upper() == "DENY"
    assert answer.headers["referrer-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-request-id"]


def check_refusal(answer: Answer) -> str:
    assert answer.headers["content-type"].startswith("application/json")
    told = answer.json()
    assert "_airchat" not in told
    assert isinstance(told["error"], str) and told["error"]
    assert told["code"] in CODES
    return str(told["code"])
