"""Leaves behind what an upgrade must keep: a database as some version of the relay wrote it, and what it answered.

    PYTHONPATH=CHECKOUT:CHECKOUT/executor python tests/relay/upgrades/record.py 0002

runs the relay of CHECKOUT (a `git worktree` of the commit whose newest migration is 0002) with a little of everything
in it, and writes beside this file

    0002.sql     the database, as text
    0002.json    agents' keys, the other files of the directory, and requests with their answers

`tests/relay/test_upgrades.py` finds them by itself. Run it once, when a migration is released, and never again.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import sqlite3
import sys
import tempfile
import zlib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agentchat.identity import public_hex, registration
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.service import agents, channels, messages
from agentchat_relay.service.call import Call
from agentchat_relay.settings import Settings

HERE = Path(__file__).parent
UNLIMITED = Settings(agent_reads=0, agent_writes=0, all_reads=0, all_writes=0)
BOX = bytes(range(32))  # seed of the private key of the machine that is still welcome
ASIDE = ("agentchat.db", "lock")  # of the files in the directory


class Request(NamedTuple):
    """What somebody asked: an agent (`main/mac-ann`), the operator (`admin`) or nobody (empty)."""

    who: str
    verb: str
    path: str
    body: Any = None
    key: str | None = None  # for idempotency


class Answer(NamedTuple):
    status: int
    body: Any


def ask(url: str, credentials: dict[str, str], request: Request) -> Answer:
    """Nothing of our clients is used: they may change, requests on the wire may not."""
    headers = {"content-type": "application/json"}
    if request.who == "admin":
        headers["authorization"] = f"Bearer {credentials['admin']}"
    elif request.who:
        headers["x-agent-api-key"] = credentials[request.who]
    if request.key:
        headers["idempotency-key"] = request.key
    parts = urlsplit(url)
    content = None if request.body is None else json.dumps(request.body).encode()
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)) as connection:
        connection.request(request.verb, request.path, content, headers)
        answer = connection.getresponse()
        raw = answer.read()
        if answer.headers.get_content_type() != "application/json":
            return Answer(answer.status, b64encode(raw).decode())
        found = json.loads(raw)
        return Answer(answer.status, found["data"] if "_airchat" in found else found)


class Team:
    """A little of everything, done by agents of two spaces."""

    def __init__(self, relay: Embedded) -> None:
        self._relay = relay
        self.credentials = {"admin": relay.directory.admin_secret()}
        self.repeats: list[tuple[Request, Answer]] = []  # keyed calls, which answer the same for ever
        self._keys = 0

    def do(
        self, who: str, verb: str, path: str, body: Any = None, *, status: int = 200, may_have_key: bool = True
    ) -> Any:
        self._keys += 1
        may_have_key &= who != "admin" and verb != "GET"
        key = f"upgrade-{self._keys:04d}" if may_have_key and self._keys % 3 else None
        request = Request(who, verb, path, body, key)
        answer = ask(self._relay.url, self.credentials, request)
        assert answer.status == status, answer
        if key:
            self.repeats.append((request, answer))
        return answer.body

    def token(self, name: str, space: str = "main", **more: str) -> None:
        made = self.do("admin", "POST", "/api/v2/admin/agents/token", {"name": name, "space": space, **more})
        self.credentials[f"{space}/{name}"] = made["key"]

    def post(self, who: str, channel: str, content: str, **more: Any) -> Any:
        return self.do(who, "POST", "/api/v2/messages", {"channel": channel, "content": content, **more})["message"]

    def direct(self, who: str, target: str, content: str) -> Any:
        return self.do(who, "POST", "/api/v2/dm", {"target_agent": target, "content": content})

    def upload(self, who: str, channel: str, name: str, content: str, **more: Any) -> Any:
        body = {"channel": channel, "filename": name, "content": content, **more}
        return self.do(who, "PUT", "/api/files", body)["file"]

    def live(self) -> None:
        self._people()
        self._talk()
        self._files()
        self._read()
        self._claim()
        self._mail()
        self._work()
        self._keep()
        self._leave()

    def _people(self) -> None:
        admin = "/api/v2/admin"
        self.do("admin", "POST", f"{admin}/spaces", {"name": "team-b"})
        self.token("mac-ann", kind="person")
        for name in ("mac-bob", "mac-cat", "mac-off", "mac-gone", "mac-new"):
            self.token(name)
        for name in ("mac-ann", "mac-eve"):
            self.token(name, "team-b")
        for role in ("admin", "reviewer"):
            self.do("admin", "POST", f"{admin}/agents/grant", {"name": "mac-ann", "role": role})
        self._machines(admin)
        card = {"role": "Reviewer", "about": "Looks at changes — also übel ones", "capabilities": ["review", "sql"]}
        self.do("main/mac-bob", "POST", "/api/v2/agents/card", {"card": {**card, "plan": "api"}})
        self.do("team-b/mac-eve", "POST", "/api/v2/agents/card", {"card": {"status_line": "asleep"}})

    def _machines(self, admin: str) -> None:
        for number, name in enumerate(("box", "old-box")):
            key = Ed25519PrivateKey.from_private_bytes(bytes(byte ^ number for byte in BOX))
            added = {"name": name, "public_key": public_hex(key), "space": "main" if number == 0 else "team-b"}
            self.do("admin", "POST", f"{admin}/machines", added)
            agent, secret = f"{name}-api", hashlib.sha256(name.encode()).hexdigest()
            body: dict[str, Any] = {**registration(name, agent, secret, key), "card": {"model": "m-1"}}
            self.do("", "POST", "/api/v2/register", body)
            self.credentials[f"{added['space']}/{agent}"] = secret

    def _talk(self) -> None:
        ann, bob, cat, eve = "main/mac-ann", "main/mac-bob", "main/mac-cat", "team-b/mac-eve"
        for name in ("project-api", "tech-sql", "env-prod", "gossip-news", "shared-plans", "notes"):
            self.post(ann, name, f"Welcome to #{name}, @mac-bob and @mac-nobody", metadata={"project": "api"})
        first = self.post(bob, "project-api", "The build fails since noon: ``exit 1`` — wer weiß warum? 日本語 🎈")
        for number in range(9):
            who = (ann, bob, cat)[number % 3]
            self.post(who, "project-api", f"answer {number}, @mac-ann look", parent_message_id=first["id"])
            self.post(who, "project-api", f"working on step {number}", kind="status", metadata={"run": number})
            self.post(who, "tech-sql", f"select {number} from dual -- it's a 'test'; done")
        self.post("main/box-api", "general", "long " * 300)
        self.post("main/mac-off", "general", "I will be off, @mac-cat")
        self.post("main/mac-gone", "general", "I will be gone, @mac-bob")
        self.post(eve, "general", "the other space says zeppelin, @mac-ann")
        self.post("team-b/mac-ann", "notes", "same name, other space: zeppelin")
        self.post("team-b/old-box-api", "notes", "from a machine that goes")
        for who, target in ((ann, "mac-bob"), (bob, "mac-ann"), (cat, "mac-bob"), (ann, "mac-gone"), (ann, "mac-bob")):
            self.direct(who, target, f"between {who} and {target}: zeppelin")
        self.direct(eve, "mac-ann", "in team-b")
        self._relay.ask(self._say)
        for message in (first, self.post(cat, "project-api", "pinned and unpinned")):
            self.do(cat, "POST", f"/api/v2/messages/{message['id']}/pin", {})
        self.do(bob, "POST", f"/api/v2/messages/{message['id']}/unpin", {})

    def _say(self, tx: Any) -> None:
        """Something that no operation can write yet."""
        found = agents.with_key(tx, hashlib.sha256(self.credentials["main/mac-ann"].encode()).hexdigest())
        assert found is not None
        call = Call(found[0])
        messages.append(tx, call, channels.find(tx, call, "general"), "The relay says hello", kind="system")

    def _files(self) -> None:
        ann, bob = "main/mac-ann", "main/mac-bob"
        self.upload(ann, "project-api", "report.md", "# Report\n\nall good\n")
        self.upload(bob, "tech-sql", "same content.md", "# Report\n\nall good\n", post_message=False)
        binary = b64encode(bytes(range(256))).decode()
        self.upload(bob, "project-api", "bytes.bin", binary, encoding="base64", content_type="application/x-thing")
        self.upload("team-b/mac-eve", "notes", "report.md", "# Report\n\nall good\n")

    def _read(self) -> None:
        """Cursors in odd places, mentions open and done."""
        page = self.do("main/mac-cat", "GET", "/api/v2/messages?channel=tech-sql&limit=4")["messages"]
        body = {"channel": "tech-sql", "through": page[1]["created_at"]}
        self.do("main/mac-cat", "POST", "/api/v2/channels/read", body)
        self.do("main/mac-ann", "POST", "/api/v2/channels/read", {"channel": "tech-sql"})
        for _ in range(2):
            self.do("main/mac-bob", "GET", "/api/v2/messages?channel=notes&limit=2&mark_read=true")
        self.do("main/mac-new", "GET", "/api/v2/messages?channel=project-api&limit=1")
        self.post("main/mac-bob", "project-api", "after the newcomer came, @mac-new @mac-ann")
        for who in ("main/mac-ann", "main/mac-bob"):
            found = self.do(who, "GET", "/api/v2/mentions")["mentions"]
            done = [row["mention_id"] for row in found[::2]]
            self.do(who, "POST", "/api/v2/mentions", {"mention_ids": done})

    def _claim(self) -> None:
        """Items that are done, dead, urgent, and back; none of which the time can change."""
        cat, inbox = "main/mac-cat", "/api/v2/inbox"
        for number in range(5):
            self.do("main/mac-ann", "POST", "/api/v2/dm", {
                "target_agent": "mac-cat", "content": f"task {number}", "urgent": number == 3,
            })  # fmt: skip
        taken = self.do(cat, "POST", f"{inbox}/claim", {"limit": 2})
        self.do(cat, "POST", f"{inbox}/acknowledge", {"claim_id": taken["claim_id"]})
        for _ in range(5):
            claim = self.do(cat, "POST", f"{inbox}/claim", {"limit": 1}, may_have_key=False)  # others get its item
            self.do(cat, "POST", f"{inbox}/return", {"claim_id": claim["claim_id"]})
        self.do(cat, "POST", f"{inbox}/claim", {"limit": 1, "acknowledge": True})

    def _mail(self) -> None:
        """Groups, mail to many, a private thread, something that waits for a session elsewhere."""
        ann, bob, cat = "main/mac-ann", "main/mac-bob", "main/mac-cat"
        for who, group in ((bob, "crew"), (cat, "crew"), (ann, "crew"), (cat, "night-shift"), (ann, "night-shift")):
            self.do(who, "POST", "/api/v2/groups/join", {"group": group})
        self.do(ann, "POST", "/api/v2/groups/leave", {"group": "night-shift"})
        asked = self.direct(bob, "crew", "who is in?")["message"]
        answer = {"target_agent": "mac-bob", "content": "I am", "parent_message_id": asked["id"]}
        self.do(cat, "POST", "/api/v2/dm", answer)
        many = {"recipients": ["mac-cat", "crew"], "content": "for all of you: zeppelin"}
        self.do(bob, "POST", "/api/v2/dm/many", many)
        there = {"target_agent": "mac-ann", "content": "where it burns", "scope": "repo:host/org/proj"}
        self.do(bob, "POST", "/api/v2/dm", there)
        self.do("main/mac-new", "POST", "/api/v2/groups/join", {"group": "crew"})

    def _work(self) -> None:
        """Tasks, locks, interrupts, pauses and approvals in states that the time cannot change."""
        ann, bob, tasks = "main/mac-ann", "main/mac-bob", "/api/v2/tasks"

        def made(may_have_key: bool = False, **more: Any) -> str:
            body = {"title": "count the beans", "body": "zeppelin", **more}
            return f"{tasks}/{self.do(ann, 'POST', tasks, body, may_have_key=may_have_key)['task']['id']}"

        made(True, channel="project-api", capability_tags=["review", "count"], context="beans, beans " * 1000)
        done = made(target_agent="mac-bob", urgent=True, result_schema={"type": "object", "required": ["beans"]})
        self.do(bob, "POST", f"{done}/claim", {"lease": 86_400}, may_have_key=False)
        self.do(bob, "POST", f"{done}/progress", {"note": "half of them"})
        self.do(bob, "POST", f"{done}/complete", {"result": '{"beans": 42}', "fence": 1})
        declined = made(target_agent="mac-cat")
        self.do("main/mac-cat", "POST", f"{declined}/decline", {"reason": "no time"})
        returned = made(channel="notes")
        self.do(bob, "POST", f"{returned}/claim", {"lease": 86_400}, may_have_key=False)
        self.do(bob, "POST", f"{returned}/return", {"reason": "no beans"})
        self.do(ann, "POST", f"{made(channel='notes')}/cancel", {})
        lock = self.do(bob, "POST", "/api/v2/locks", {"names": ["src/**", "db"], "shared": True}, may_have_key=False)
        self.do(bob, "POST", f"/api/v2/locks/{lock['lock']['id']}/release", {})
        self._stops()

    def _stops(self) -> None:
        ann, bob, cat = "main/mac-ann", "main/mac-bob", "main/mac-cat"

        def sent(path: str, **body: Any) -> str:
            made = self.do(ann, "POST", path, body, may_have_key=False)
            return f"{path}/{next(one['id'] for one in made.values() if isinstance(one, dict))}"

        for ends in (None, "withdraw"):
            path = sent("/api/v2/interrupts", target_agent="mac-cat", reason="Stop.")
            self.do(*((cat, "POST", f"{path}/acknowledge") if ends is None else (ann, "POST", f"{path}/{ends}")), {})
        for role in ("admin", "reviewer"):
            self.do("admin", "POST", "/api/v2/admin/agents/grant", {"name": "mac-bob", "role": role})
        pause = self.do(bob, "POST", "/api/v2/pauses", {"reason": "Drill.", "channel": "general"}, may_have_key=False)
        self.do(bob, "POST", f"/api/v2/pauses/{pause['pause']['id']}/resume", {})
        for verdict, more in (("edit", {"arguments": "{}"}), ("deny", {"message": "No."})):
            path = sent("/api/v2/approvals", tool_name="deploy", arguments='{"to": "prod"}')
            self.do(bob, "POST", f"{path}/decide", {"verdict": verdict, **more})

    def _keep(self) -> None:
        """For so long that no test will live to see it purged."""
        admin = "/api/v2/admin"
        self.do("admin", "POST", f"{admin}/spaces/update", {"name": "team-b", "retention": 36_500})
        self.do("admin", "POST", f"{admin}/channels/update", {"name": "tech-sql", "retention": 30_000})
        self.do("admin", "POST", f"{admin}/channels/update", {"name": "notes", "retention": 0})

    def _leave(self) -> None:
        admin = "/api/v2/admin"
        self.do("admin", "POST", f"{admin}/machines/revoke", {"name": "old-box"})
        self.do("admin", "POST", f"{admin}/agents/deactivate", {"name": "mac-off"})
        self.do("admin", "POST", f"{admin}/agents/delete", {"name": "mac-gone"})
        gone = {"main/mac-off", "main/mac-gone", "team-b/old-box-api"}
        self.repeats = [(request, answer) for request, answer in self.repeats if request.who not in gone]
        self.repeats = [(request, answer) for request, answer in self.repeats if request.who]
        refused = self.repeats[0][0]._replace(body={"channel": "notes", "content": "another call"})
        self.repeats.append((refused, ask(self._relay.url, self.credentials, refused)))


def questions(relay: Embedded, credentials: dict[str, str]) -> Iterator[tuple[Request, Answer]]:
    """Everything there is to be seen, through the eyes of those who see it."""

    def tell(who: str, path: str, verb: str = "GET", body: Any = None) -> Iterator[tuple[Request, Answer]]:
        request = Request(who, verb, path, body)
        yield request, ask(relay.url, credentials, request)

    for path in (
        "agents",
        "agents?space=team-b",
        "machines",
        "spaces",
        "channels",
        "channels?space=team-b",
        "audit?limit=1000",
    ):
        yield from tell("admin", f"/api/v2/admin/{path}")
    for who in credentials:
        if who != "admin":
            yield from tell(who, "/api/v2/board")
    for who in ("main/mac-ann", "main/mac-bob", "main/mac-cat", "main/mac-new", "team-b/mac-ann", "team-b/mac-eve"):
        for path in (
            "channels",
            "mentions?unread=true",
            "mentions?unread=false&limit=7",
            "agents",
            "inbox",
            "inbox/dead",
            "sent",
            "groups",
            "groups?group=crew",
            "tasks?limit=50",
            "work?since=2026-01-01T00:00:00Z",
            "locks",
            "interrupts?sent=true",
            "interrupts?state=acknowledged",
            "pauses",
            "approvals?mine=true",
            "approvals?state=denied",
        ):
            yield from tell(who, f"/api/v2/{path}")
        for task in ask(relay.url, credentials, Request(who, "GET", "/api/v2/tasks")).body["tasks"]:
            yield from tell(who, f"/api/v2/tasks/{task['id']}")
            if task["context_size"]:
                yield from tell(who, f"/api/v2/tasks/{task['id']}/context?offset=12000")
        for query in ("zeppelin", "step OR report", '"the build"', "welcome -plans"):
            yield from tell(who, f"/api/v2/search?q={quote(query)}")
    for who in ("main/mac-cat", "team-b/mac-eve"):
        yield from _seen(relay.url, credentials, who)


def _seen(url: str, credentials: dict[str, str], who: str) -> Iterator[tuple[Request, Answer]]:
    """Every channel this agent is in, page by page and backwards, with what belongs to it."""

    def tell(path: str, verb: str = "GET", body: Any = None) -> tuple[Request, Answer]:
        request = Request(who, verb, path, body)
        return request, ask(url, credentials, request)

    for row in ask(url, credentials, Request(who, "GET", "/api/v2/channels")).body["channels"]:
        name = row["name"]
        for more in ("", "&include_status=true"):
            page = tell(f"/api/v2/messages?channel={name}&limit=6{more}")
            yield page
            older = tell(f"/api/v2/messages?channel={name}&limit=6{more}&cursor={page[1].body['previous_cursor']}")
            yield older
            yield tell(f"/api/v2/messages?channel={name}&limit=2{more}&cursor={older[1].body['next_cursor']}")
            yield tell(f"/api/v2/messages?channel={name}&limit=2{more}&cursor={page[1].body['next_cursor']}")
        yield tell(f"/api/v2/channels/pins?channel={name}")
        yield tell(f"/api/v2/channels/read?channel={name}")
        yield tell(f"/api/v2/search?q=the&channel={name}")
        for message in page[1].body["messages"][:1]:
            yield tell(f"/api/v2/messages/{message['id']}")
            yield tell(f"/api/v2/messages/{message['parent_message_id'] or message['id']}/thread?limit=4")
        files = tell("/api/files", "POST", {"folder": name})
        yield files
        for file in files[1].body["files"]:
            yield tell(f"/api/files?path={quote(file['path'])}")


def main(number: str) -> None:
    with tempfile.TemporaryDirectory(prefix="agentchat-") as folder:
        with running(folder, settings=UNLIMITED) as relay:
            team = Team(relay)
            team.live()
            asked = list(questions(relay, team.credentials))
        described = {
            "credentials": team.credentials,
            "files": dict(_files(folder)),
            "questions": asked,
            "repeats": team.repeats,
        }
        with closing(sqlite3.connect(os.path.join(folder, "agentchat.db"))) as database:
            (HERE / f"{number}.sql").write_text("\n".join(database.iterdump()) + "\n")
    (HERE / f"{number}.json").write_text(json.dumps(described, indent=0, ensure_ascii=False) + "\n")


def _files(folder: str) -> Iterator[tuple[str, str]]:
    """What else is in the directory, compressed: keys, contents, the index."""
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file() and path.name not in ASIDE:
            yield str(path.relative_to(folder)), b64encode(zlib.compress(path.read_bytes(), 9)).decode()


if __name__ == "__main__":
    main(sys.argv[1])
