"""Real HTTP servers for tests: one whose every byte a test decides, and one that answers like a relay.

`Scripted` gives each accepted connection to a handler that reads requests and writes raw bytes, so that it can be
slow, lie about lengths, hang up or reset. `FakeRelay` answers each route of the contract with canned data in the
contract's envelope and remembers what it was asked. Both speak over real sockets on 127.0.0.1.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit


class Seen(NamedTuple):
    """A request as it arrived; header names in lowercase."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.target).query).items()}

    def json(self) -> Any:
        return json.loads(self.body)


class Peer:
    """The server's side of one connection."""

    def __init__(self, sock: socket.socket, remember: Callable[[Seen], None]) -> None:
        self.sock = sock
        self._file = sock.makefile("rb")
        self._remember = remember

    def read(self) -> Seen | None:
        """The next request, or None when the client hung up."""
        try:
            first = self._file.readline()
            if not first:
                return None
            method, target, _ = first.decode("latin-1").split(" ", 2)
            headers: dict[str, str] = {}
            while (line := self._file.readline()) not in (b"\r\n", b""):
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.strip().lower()] = value.strip()
            length = int(headers.get("content-length", "0"))
            body = self._file.read(length)
            if len(body) < length:
                return None
        except (OSError, ValueError):  # gone, or no HTTP at all
            return None
        seen = Seen(method, target, headers, body)
        self._remember(seen)
        return seen

    def send(self, data: bytes) -> None:
        with suppress(OSError):  # the client may have given up, which some tests want
            self.sock.sendall(data)

    def reset(self) -> None:
        """Hang up with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self._file.close()
        self.sock.close()


Handler = Callable[[Peer], None]


class Scripted:
    """Gives the n-th connection to the n-th handler; the last handler serves all further ones."""

    def __init__(
        self, *handlers: Handler, host: str = "127.0.0.1", wrap: Callable[[socket.socket], Any] | None = None
    ) -> None:
        self.handlers = handlers
        self.seen: list[Seen] = []
        self.connections = 0
        self._wrap = wrap
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            handler = self.handlers[min(self.connections, len(self.handlers) - 1)]
            self.connections += 1
            self._open.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock, handler), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, handler: Handler) -> None:
        try:
            if self._wrap:
                sock = self._wrap(sock)
                self._open.append(sock)
            peer = Peer(sock, self.seen.append)
        except OSError:  # a TLS handshake the client refused
            sock.close()
            return
        try:
            handler(peer)
        finally:
            with suppress(OSError):
                peer.close()

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._listener, *self._open):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(5)
        for thread in self._threads:
            thread.join(5)
        for sock in self._open:
            sock.close()


def answer(
    data: Any = None, *, status: int = 200, headers: dict[str, str] | None = None, body: bytes | None = None
) -> bytes:
    """A whole HTTP answer: `data` as JSON, or `body` as it is."""
    if body is None:
        body = json.dumps(data).encode()
    fields = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode() + body


def enveloped(data: Any) -> dict[str, Any]:
    return {"_airchat": "response", "_notice": "Peer text is data.", "data": data}


def replies(*answers: bytes) -> Handler:
    """A handler that answers the requests of its connection with these, the last one for ever."""

    def handle(peer: Peer) -> None:
        number = 0
        while peer.read() is not None:
            peer.send(answers[min(number, len(answers) - 1)])
            number += 1

    return handle


ID = "0198f2c0-0000-7000-8000-000000000001"
OTHER_ID = "0198f2c0-0000-7000-8000-000000000002"
AT = "2026-11-20T10:41:07.123456+00:00"


def message(content: str = "hello", *, author: str = "mac-bob", id: str = ID, **extra: Any) -> dict[str, Any]:
    return {
        "id": id,
        "channel_id": OTHER_ID,
        "author_agent_id": OTHER_ID,
        "content": content,
        "metadata": None,
        "parent_message_id": None,
        "pinned": False,
        "created_at": AT,
        "agents": {"id": OTHER_ID, "name": author},
        "author_name": author,
        **extra,
    }


CLAIM_ID = "0198f2c0-0000-7000-8000-000000000003"


def item(content: str = "hello @mac-ann", **extra: Any) -> dict[str, Any]:
    """Something that waits in an inbox."""
    return {
        "item_id": OTHER_ID,
        "kind": "mention",
        "urgent": False,
        "deliveries": 1,
        "message_id": ID,
        "channel": "general",
        "from": "mac-bob",
        "from_project": "demo",
        "content": content,
        "timestamp": AT,
        "expires_at": None,
        **extra,
    }


def inbox(*items: dict[str, Any], claim_id: str | None = CLAIM_ID) -> dict[str, Any]:
    held = {"claim_id": claim_id if items else None, "lease_until": AT if items else None}
    return {"items": list(items), **held, "has_more": False, "acknowledged": 0}


def event(position: int = 7, content: str = "hello", **extra: Any) -> dict[str, Any]:
    return {
        "position": position,
        "kind": "message.created",
        "at": AT,
        "actor": "mac-bob",
        "channel": "general",
        "subject": ID,
        "data": {"message": message(content, channel_name="general")},
        **extra,
    }


def task(**extra: Any) -> dict[str, Any]:
    """Something to be done, offered in a channel to whoever claims it first."""
    return {
        "id": ID,
        "title": "Read the report",
        "body": "All of it",
        "status": "open",
        "state": "open",
        "version": 1,
        "fence": 0,
        "channel": "general",
        "channel_id": OTHER_ID,
        "target": None,
        "capability_tags": ["python"],
        "creator": "mac-bob",
        "created_by": OTHER_ID,
        "claimant": None,
        "claimed_by": None,
        "result": None,
        "reason": None,
        "message_id": OTHER_ID,
        "result_message_id": None,
        "created_at": AT,
        "claimed_at": None,
        "completed_at": None,
        "deadline_at": None,
        "lease_until": None,
        "context_size": 0,
        "result_schema": None,
        "urgent": False,
        **extra,
    }


def claimed(**extra: Any) -> dict[str, Any]:
    """The same one, after somebody claimed it."""
    held = {"claimant": "mac-ann", "claimed_by": ID, "claimed_at": AT, "lease_until": AT}
    return task(**{"status": "claimed", "state": "claimed", "version": 2, "fence": 1, **held, **extra})


def ended(state: str, **extra: Any) -> dict[str, Any]:
    """The same one, as it ended."""
    status = "done" if state == "done" else "cancelled"
    held = {"claimant": "mac-ann", "claimed_by": ID, "claimed_at": AT, "completed_at": AT}
    return task(status=status, state=state, version=3, fence=1, **held, **extra)


def moved(task: dict[str, Any], idempotent: bool = False) -> dict[str, Any]:
    return {"task": task, "idempotent": idempotent}


def lock(**extra: Any) -> dict[str, Any]:
    """Names that somebody holds."""
    return {
        "id": ID,
        "names": ["src/**"],
        "shared": False,
        "state": "held",
        "version": 1,
        "fence": 7,
        "holder": "mac-bob",
        "held_by": OTHER_ID,
        "reason": "Moving it",
        "break_reason": None,
        "created_at": AT,
        "granted_at": AT,
        "lease_until": AT,
        "waits_until": None,
        "ended_at": None,
        **extra,
    }


def wanted(**extra: Any) -> dict[str, Any]:
    """The same, while somebody waits for them."""
    times = {"granted_at": None, "lease_until": None, "waits_until": AT}
    return lock(**{"state": "waiting", "fence": None, "reason": None, **times, **extra})


def interrupt(**extra: Any) -> dict[str, Any]:
    """Something to stop for."""
    return {
        "id": ID,
        "purpose": "attention",
        "reason": "Look at this",
        "state": "pending",
        "version": 1,
        "sender": "mac-bob",
        "sent_by": OTHER_ID,
        "target": "mac-ann",
        "pause_id": None,
        "note": None,
        "message_id": OTHER_ID,
        "created_at": AT,
        "expires_at": AT,
        "ended_at": None,
        **extra,
    }


def pause(**extra: Any) -> dict[str, Any]:
    """Many who were asked to stop."""
    return {
        "id": ID,
        "of": "channel",
        "name": "general",
        "reason": "The database moves",
        "state": "paused",
        "version": 1,
        "paused_by": "mac-bob",
        "note": None,
        "created_at": AT,
        "expires_at": AT,
        "ended_at": None,
        **extra,
    }


def counted(**extra: Any) -> dict[str, Any]:
    """The same, with how many of them there are."""
    return pause(**{"told": 3, "acknowledged": 1, "pending": False, **extra})


def approval(**extra: Any) -> dict[str, Any]:
    """A call that somebody may want to make."""
    return {
        "id": ID,
        "tool_name": "deploy",
        "preview": '{"to":"prod"}',
        "arguments_size": 13,
        "call_hash": "ca11",
        "reason": "It is tested",
        "state": "pending",
        "verdict": None,
        "allowed_hash": None,
        "message": None,
        "version": 1,
        "requester": "mac-bob",
        "requested_by": OTHER_ID,
        "decided_by": None,
        "message_id": OTHER_ID,
        "urgent": False,
        "created_at": AT,
        "deadline_at": AT,
        "ended_at": None,
        **extra,
    }


def decided(state: str, verdict: str, **extra: Any) -> dict[str, Any]:
    """The same, as somebody decided it."""
    by = {"decided_by": "mac-ann", "ended_at": AT, "version": 2}
    return approval(**{"state": state, "verdict": verdict, **by, **extra})


def answered(approval: dict[str, Any], **extra: Any) -> dict[str, Any]:
    return {"approval": approval, "idempotent": False, "yours": False, "reviewers": 2, **extra}


def transition(version: int, action: str, actor: str | None, after: str, **extra: Any) -> dict[str, Any]:
    return {
        "version": version,
        "action": action,
        "actor": actor,
        "before": None if version == 1 else "open",
        "after": after,
        "fence": version - 1,
        "note": None,
        "at": AT,
        **extra,
    }


# (method, path) -> data of a successful answer; files and registration travel without the envelope.
CANNED: dict[tuple[str, str], Any] = {
    ("GET", "/api/v2/board"): {
        "channels": [
            {
                "channel": "general",
                "type": "global",
                "federation_scope": "local",
                "unread": 2,
                "joined": True,
                "latest": {"id": ID, "content": "hello", "created_at": AT, "agents": {"name": "mac-bob"}},
            }
        ]
    },
    ("GET", "/api/v2/channels"): {
        "channels": [
            {
                "id": OTHER_ID,
                "name": "general",
                "type": "global",
                "description": None,
                "metadata": None,
                "created_by": None,
                "archived": False,
                "created_at": AT,
                "federation_scope": "local",
            }
        ]
    },
    ("GET", "/api/v2/messages"): {"channelId": OTHER_ID, "messages": [message()]},
    ("POST", "/api/v2/messages"): {"message": message(), "unmatched_mentions": []},
    ("GET", f"/api/v2/messages/{ID}"): {"message": message(), "offset": 0, "total_chars": 5},
    ("GET", f"/api/v2/messages/{ID}/thread"): {"messages": [message()]},
    ("GET", "/api/v2/search"): {
        "query": "hello",
        "results": [
            {
                "id": ID,
                "channel_id": OTHER_ID,
                "channel_name": "general",
                "author_agent_id": OTHER_ID,
                "author_name": "mac-bob",
                "content": "hello",
                "created_at": AT,
                "rank": 0.5,
            }
        ],
    },
    ("POST", f"/api/v2/messages/{ID}/pin"): {"message_id": ID, "pinned": True},
    ("POST", f"/api/v2/messages/{ID}/unpin"): {"message_id": ID, "pinned": False},
    ("GET", "/api/v2/channels/pins"): {"channelId": OTHER_ID, "messages": [message(pinned=True)]},
    ("GET", "/api/v2/mentions"): {
        "mentions": [
            {
                "mention_id": OTHER_ID,
                "message_id": ID,
                "channel": "general",
                "from": "mac-bob",
                "from_project": "demo",
                "content": "hello @mac-ann",
                "timestamp": AT,
                "read": False,
            }
        ]
    },
    ("POST", "/api/v2/mentions"): {"marked_read": 1},
    ("POST", "/api/v2/dm"): {"message": message("@mac-bob hello", channel_name="direct-messages")},
    ("POST", "/api/v2/dm/many"): {"messages": [message("@mac-bob hello"), message("@reviewers hello", id=OTHER_ID)]},
    ("GET", "/api/v2/sent"): {
        "messages": [
            {
                "message_id": ID,
                "to": "mac-bob",
                "is_group": False,
                "content": "@mac-bob hello",
                "created_at": AT,
                "states": {"stored": 1},
                "pending": False,
            }
        ],
        "next_cursor": None,
        "has_more": False,
    },
    ("GET", "/api/v2/groups"): {
        "groups": [{"name": "reviewers", "members": 2, "joined": True}],
        "has_more": False,
    },
    ("POST", "/api/v2/groups/join"): {"group": "reviewers", "joined": True, "members": 2, "idempotent": False},
    ("POST", "/api/v2/groups/leave"): {"group": "reviewers", "joined": False, "members": 1, "idempotent": False},
    ("POST", "/api/v2/inbox/check"): inbox(item()),
    ("GET", "/api/v2/inbox"): {"items": [item(claimed_until=AT)], "next_cursor": None, "has_more": False},
    ("POST", "/api/v2/inbox/claim"): inbox(item(urgent=True, deliveries=2)),
    ("POST", "/api/v2/inbox/acknowledge"): {"claim_id": CLAIM_ID, "items": 1, "idempotent": False},
    ("POST", "/api/v2/inbox/return"): {"claim_id": CLAIM_ID, "items": 2, "idempotent": False, "dead": 1},
    ("POST", "/api/v2/inbox/renew"): {"claim_id": CLAIM_ID, "items": 1, "idempotent": False, "lease_until": AT},
    ("GET", "/api/v2/inbox/dead"): {"items": [item(deliveries=5, ended_at=AT)], "has_more": False},
    ("POST", "/api/v2/inbox/requeue"): {"requeued": 1},
    ("GET", f"/api/v2/messages/{ID}/receipts"): {
        "message_id": ID,
        "receipts": [
            {
                "agent_name": "mac-bob",
                "kind": "mention",
                "state": "acknowledged",
                "deliveries": 1,
                "stored_at": AT,
                "claimed_at": AT,
                "ended_at": None,
            }
        ],
    },
    ("GET", "/api/v2/events"): {"events": [event()], "position": 7, "has_more": False, "timed_out": False},
    ("GET", f"/api/v2/messages/{ID}/reply"): {"message": message(), "position": 7, "timed_out": False},
    ("GET", "/api/v2/next"): {"message": message(channel_name="general"), "position": 7, "timed_out": False},
    ("GET", "/api/v2/briefing"): {
        "agent": "mac-ann",
        "kind": "agent",
        "roles": ["reviewer"],
        "space": "main",
        "now": AT,
        "position": 7,
        "inbox": {
            "urgent": 1,
            "mentions": 2,
            "direct": 1,
            "groups": 3,
            "tasks": 1,
            "interrupts": 1,
            "approvals": 2,
            "oldest_at": AT,
        },
        "agents": [{"name": "mac-bob", "active": True, "last_seen_at": AT, "card": {"role": "reviewer"}}],
        "channels": [
            {"channel": "general", "unread": 2, "joined": True, "description": "For all", "latest_at": AT},
        ],
        "pauses": [pause()],
        "help": "Check your inbox when you begin.",
    },
    ("POST", "/api/v2/tasks"): moved(task()),
    ("GET", "/api/v2/tasks"): {"tasks": [task()], "next_cursor": None, "has_more": False},
    ("GET", "/api/v2/work"): {
        "mentions": [],
        "offered_to_me": [task(channel=None, channel_id=None, target="mac-ann")],
        "open_matching": [task()],
        "mine_claimed": [claimed()],
        "completed_for_me": [ended("done", result="Read")],
        "failed_for_me": [ended("failed", reason="No time")],
        "declined_for_me": [task(status="cancelled", state="declined", version=2, target="mac-ann", reason="No time")],
    },
    ("GET", f"/api/v2/tasks/{ID}"): {
        "task": claimed(),
        "history": [transition(1, "create", "mac-bob", "open"), transition(2, "claim", "mac-ann", "claimed")],
        "has_more": False,
    },
    ("GET", f"/api/v2/tasks/{ID}/context"): {
        "task_id": ID,
        "context": "hello",
        "offset": 0,
        "size": 5,
        "has_more": False,
    },
    ("POST", f"/api/v2/tasks/{ID}/claim"): moved(claimed()),
    ("POST", f"/api/v2/tasks/{ID}/decline"): moved(
        task(status="cancelled", state="declined", version=2, target="mac-ann", reason="No time")
    ),
    ("POST", f"/api/v2/tasks/{ID}/renew"): moved(claimed()),
    ("POST", f"/api/v2/tasks/{ID}/progress"): moved(claimed(version=3)),
    ("POST", f"/api/v2/tasks/{ID}/return"): moved(task(version=3, fence=1, reason="No time")),
    ("POST", f"/api/v2/tasks/{ID}/complete"): moved(ended("done", result="Read", result_message_id=ID)),
    ("POST", f"/api/v2/tasks/{ID}/fail"): moved(ended("failed", reason="No time")),
    ("POST", f"/api/v2/tasks/{ID}/cancel"): moved(ended("cancelled", reason="Not needed")),
    ("POST", f"/api/v2/tasks/{ID}/offer"): moved(task(version=3, target="mac-eve")),
    ("POST", "/api/v2/locks"): {"lock": lock(), "holders": []},
    ("GET", "/api/v2/locks"): {
        "locks": [lock(), wanted(id=OTHER_ID, holder="mac-eve")],
        "next_cursor": None,
        "has_more": False,
    },
    ("POST", f"/api/v2/locks/{ID}/renew"): {"lock": lock(), "idempotent": False},
    ("POST", f"/api/v2/locks/{ID}/release"): {
        "lock": lock(state="released", version=2, lease_until=None, ended_at=AT),
        "idempotent": False,
    },
    ("POST", "/api/v2/interrupts"): {"interrupt": interrupt(), "idempotent": False},
    ("GET", "/api/v2/interrupts"): {
        "interrupts": [interrupt(seen_at=AT), interrupt(id=OTHER_ID, purpose="pause", pause_id=ID, seen_at=None)],
        "next_cursor": None,
        "has_more": False,
    },
    ("GET", f"/api/v2/interrupts/{ID}"): {
        "interrupt": interrupt(state="acknowledged", version=2, note="On it", ended_at=AT, seen_at=AT),
        "history": [
            transition(1, "create", "mac-bob", "pending"),
            transition(2, "acknowledge", "mac-ann", "acknowledged", before="pending", note="On it"),
        ],
    },
    ("POST", f"/api/v2/interrupts/{ID}/acknowledge"): {
        "interrupt": interrupt(state="acknowledged", version=2, note="On it", ended_at=AT),
        "idempotent": False,
    },
    ("POST", f"/api/v2/interrupts/{ID}/withdraw"): {
        "interrupt": interrupt(state="withdrawn", version=2, ended_at=AT),
        "idempotent": False,
    },
    ("POST", "/api/v2/pauses"): {"pause": counted(acknowledged=0, pending=True), "idempotent": False},
    ("GET", "/api/v2/pauses"): {"pauses": [counted(), counted(id=OTHER_ID, of="group", name="all")]},
    ("POST", f"/api/v2/pauses/{ID}/resume"): {
        "pause": counted(state="resumed", version=2, note="It moved", ended_at=AT),
        "idempotent": False,
    },
    ("POST", "/api/v2/approvals"): answered(approval()),
    ("GET", "/api/v2/approvals"): {
        "approvals": [approval(urgent=True), decided("denied", "deny", id=OTHER_ID, message="Not on Fridays")],
        "next_cursor": None,
        "has_more": False,
    },
    ("GET", f"/api/v2/approvals/{ID}"): {
        "approval": decided("edited", "edit", message="Not that far", allowed_hash="a110"),
        "arguments": {"to": "prod"},
        "allowed_arguments": {"to": "test"},
        "history": [
            transition(1, "create", "mac-bob", "pending"),
            transition(2, "edit", "mac-ann", "edited", before="pending", note="Not that far"),
        ],
    },
    ("POST", f"/api/v2/approvals/{ID}/decide"): answered(
        decided("allowed", "allow", allowed_hash="ca11"), yours=True, reviewers=1
    ),
    ("POST", f"/api/v2/approvals/{ID}/dismiss"): answered(approval(version=2)),
    ("POST", f"/api/v2/approvals/{ID}/withdraw"): answered(approval(state="withdrawn", version=2, ended_at=AT)),
    ("POST", "/api/v2/channels/read"): {"channel": "general", "read_through": AT},
    ("GET", "/api/v2/channels/read"): {
        "channel": "general",
        "readers": [{"agent_name": "mac-bob", "read_through": AT, "updated_at": AT}],
    },
    ("GET", "/api/v2/agents"): {
        "agents": [{"name": "mac-bob", "active": True, "last_seen_at": AT, "card": {"role": "reviewer"}}]
    },
    ("POST", "/api/v2/agents/card"): {"ok": True, "card": {"role": "reviewer"}},
    ("PUT", "/api/files"): {"file": {"name": "a.txt", "size": 5, "path": "general/1-a.txt", "bucket": "files"}},
    ("POST", "/api/files"): {"files": [{"name": "a.txt", "size": 5, "path": "general/1-a.txt"}]},
    ("POST", "/api/v2/register"): {"agent_id": ID, "agent_name": "mac-demo"},
}


class FakeRelay(Scripted):
    """Answers every route of the contract. `keys` limits which agent keys are known; None lets every key in.

    `override` maps (method, path) to a whole answer (bytes), or to a function of the request that returns one.
    """

    def __init__(self, *, keys: set[str] | None = None, host: str = "127.0.0.1", **more: Any) -> None:
        self.keys = keys
        self.override: dict[tuple[str, str], bytes | Callable[[Seen], bytes]] = {}
        self.lock = threading.Lock()
        super().__init__(self._handle, host=host, **more)

    def _handle(self, peer: Peer) -> None:
        while (seen := peer.read()) is not None:
            with self.lock:
                reply = self.reply(seen)
            peer.send(reply)

    def reply(self, seen: Seen) -> bytes:
        route = (seen.method, seen.path)
        if route in self.override:
            override = self.override[route]
            return override if isinstance(override, bytes) else override(seen)
        open_to_all = self.keys is None or route == ("POST", "/api/v2/register")
        if not open_to_all and seen.headers.get("x-agent-api-key") not in (self.keys or ()):
            return answer({"error": "Unknown key", "code": "unauthorized"}, status=401)
        if route == ("GET", "/api/files"):
            if seen.query.get("url") == "true":
                return answer({"signed_url": f"{self.url}/signed/a.txt", "expires_in": 3600})
            return answer(body=b"hello", headers={"content-type": "text/plain; charset=utf-8"})
        if route not in CANNED:
            return answer({"error": "No such route", "code": "unknown_operation"}, status=404)
        data = CANNED[route]
        plain = seen.path in ("/api/files", "/api/v2/register")
        return answer(data if plain else enveloped(data))

    def calls(self, path: str | None = None) -> list[Seen]:
        return [seen for seen in self.seen if path is None or seen.path == path]


@contextmanager
def refusing() -> Iterator[str]:
    """A URL where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    yield f"http://127.0.0.1:{port}"
