"""Does a relay keep what it acknowledged, when its power is cut and its process killed again and again?

    python -m tests.faults.relay_campaign --rounds 200 --seed 1 [--json]
    python -m tests.faults.relay_campaign --seed 1 --round 17           # that one again
    python -m tests.faults.relay_campaign --rounds 5 --broken fsync     # a control: rounds must fail

In each round agents post, repeat themselves, answer, mention, read, mark, pin and upload, and write down what they
were told, while the relay is struck in mid-flight and started again on its directory and port. The last strike is a
power cut after everything. Then the checker (`histories.py`) compares what they were told with what the relay tells.
The agents' choices and the strikes follow from seed and round; which call a strike hits is up to the machine.
"""

from __future__ import annotations

import base64
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from agentchat import AgentChatError, Client, errors, types
from agentchat.client import Transport
from tests.faults import powercut, rounds
from tests.faults.histories import (
    DIRECT,
    Followed,
    Item,
    Kept,
    Mark,
    Pin,
    Position,
    Post,
    Row,
    Seen,
    Told,
    Upload,
    violations,
)
from tests.faults.powercut import PowerCut

ROOT = Path(__file__).resolve().parents[2]
AGENTS = ("mac-ann", "mac-bob", "mac-cleo", "mac-dan")
NEWCOMER = "mac-eve"  # gets its key from the relay of the round
AUDITOR = "mac-auditor"
SHARED = ("general", "busy")  # channels of everybody
SENDERS, CALLS = 8, 40  # threads, and calls that each of them makes
AT_A_TIME = 2
LONGEST_START = 60.0
PATIENCE = 20.0  # seconds for one call and its retries
NO_LIMITS = [f"--{whose}-{what}=0" for whose in ("agent", "all") for what in ("reads", "writes")]
Call = Post | Upload | Mark | Pin


# The relay


class RelayProcess:
    """A relay on one directory and one port, through all its crashes."""

    limits: Sequence[str] = NO_LIMITS

    def __init__(self, data: Path, scratch: Path, broken: str | None = None) -> None:
        self.power = PowerCut(data, scratch)
        self.url = ""
        self.up = threading.Event()
        self._log = scratch / "relay.log"
        build = ["tests.faults.relay_build", broken] if broken else ["agentchat", "serve"]
        self._command = [sys.executable, "-m", *build, "--data", str(data), *self.limits, "--port"]
        self._process: subprocess.Popen[str] | None = None

    def launch(self) -> subprocess.Popen[str]:
        port = self.url.rpartition(":")[2] or "0"
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [*self._command, port], cwd=ROOT, env=self.environment(), stdout=subprocess.PIPE, stderr=log, text=True
            )  # fmt: skip
        return self._process

    def environment(self) -> dict[str, str]:
        return self.power.environment()

    def start(self) -> None:
        """Returns when it is ready."""
        if not self.is_ready(self.launch()):
            raise RuntimeError(f"the relay did not start: {self.log()[-500:]}")

    def is_ready(self, process: subprocess.Popen[str]) -> bool:
        """Waits for that, or for its end."""
        assert process.stdout
        late = threading.Timer(LONGEST_START, process.kill)
        late.start()
        greeting = process.stdout.readline()
        late.cancel()
        if " is ready on " not in greeting:
            return False
        self.url = greeting.partition(" is ready on ")[2].partition(",")[0]
        self.up.set()
        return True

    def cut(self, torn: random.Random | None = None) -> None:
        """The power goes: only what was synced remains."""
        process = self._struck(signal.SIGKILL)
        self.power.cut(process, torn=torn)
        self._reap(process)

    def kill(self) -> None:
        process = self._struck(signal.SIGKILL)
        self._reap(process)

    def stop(self) -> None:
        """SIGTERM: calls that are under way are finished."""
        process = self._struck(signal.SIGTERM)
        if self._reap(process) != 0:
            raise RuntimeError(f"the relay ended with {process.returncode} after SIGTERM: {self.log()[-500:]}")

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._reap(self._process)

    def _struck(self, number: signal.Signals) -> subprocess.Popen[str]:
        """First the signal, so that calls are under way when it comes."""
        assert self._process
        self._process.send_signal(number)
        self.up.clear()
        return self._process

    def _reap(self, process: subprocess.Popen[str]) -> int:
        self._process = None
        assert process.stdout
        process.stdout.close()
        return process.wait()


class Strike(NamedTuple):
    """What happens to the relay when so many calls were made; `again` is when the next start is struck as well."""

    after: int
    kind: str
    again: float | None


def planned(luck: random.Random) -> list[Strike]:
    """One to three strikes in mid-flight; a power cut at the end follows in any case."""
    total = SENDERS * CALLS
    moments = sorted(luck.sample(range(total // 20, total * 9 // 10), luck.randint(1, 3)))
    return [
        Strike(
            after=moment,
            kind=luck.choices(["cut", "kill", "stop"], [5, 3, 2])[0],
            again=luck.uniform(0, 0.4) if luck.random() < 0.2 else None,
        )
        for moment in moments
    ]


def strike(relay: RelayProcess, kind: str, again: float | None) -> Iterator[str]:
    """Do it and start the relay again; tells what was done."""
    {"cut": relay.cut, "kill": relay.kill, "stop": relay.stop}[kind]()
    yield kind
    if again is not None:
        starting = relay.launch()
        try:
            starting.wait(again)
        except subprocess.TimeoutExpired:
            relay.cut()
            yield "cut while starting"
        else:
            raise RuntimeError(f"the relay ended by itself: {relay.log()[-500:]}")
    relay.start()


# What every round begins with


class Beginning(NamedTuple):
    """A data directory in which the agents are, with their keys, and the first message of each list."""

    data: Path
    keys: dict[str, str]
    posts: list[Post]
    library: Path  # the power-cut simulator, compiled


def token(url: str, data: Path, name: str) -> str:
    credential = (data / "admin.key").read_text().strip()
    answer = httpx.post(
        f"{url}/api/v2/admin/agents/token",
        json={"name": name},
        headers={"authorization": f"Bearer {credential}"},
        trust_env=False,
    )
    return str(answer.raise_for_status().json()["data"]["key"])


def begin(home: Path) -> Beginning:
    data, scratch = home / "beginning", home / "beginning-scratch"
    relay = RelayProcess(data, scratch)
    try:
        relay.start()
        keys = {name: token(relay.url, data, name) for name in (*AGENTS, AUDITOR)}
        with Client(relay.url, keys[AUDITOR]) as auditor:
            posts = [
                answered(Post(AUDITOR, channel, f"the first message of {channel}", 0.0), auditor.send_message)
                for channel in SHARED
            ]
            first = Post(AUDITOR, DIRECT, f"@{AGENTS[0]} the first of all", 0.0, notifies=(AGENTS[0],))
            posts.append(answered(first, lambda _, text: auditor.send_direct_message(AGENTS[0], text.split(" ", 1)[1])))
        for name in AGENTS:
            join(relay.url, keys[name])
        relay.stop()
    finally:
        relay.close()
    return Beginning(data, keys, posts, powercut.build(scratch))


def join(url: str, key: str) -> None:
    with Client(url, key) as client:
        for channel in SHARED:
            client.read_messages(channel)


# Agents


def unknown(error: AgentChatError) -> bool:
    """Whether nobody can say what came of a call."""
    return isinstance(error, errors.NetworkError | errors.Unavailable)


def answered(post: Post, call: Callable[[str, str], types.SentMessage]) -> Post:
    """The post with what came of it."""
    try:
        message = call(post.channel, post.text)["message"]
    except AgentChatError as error:
        return post._replace(error=None if unknown(error) else error.code)
    return post._replace(ended=time.monotonic(), id=message["id"], at=message["created_at"])


class Pace:
    """How far a round is, for whoever strikes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls, self._running = 0, SENDERS

    def step(self) -> None:
        with self._changed:
            self._calls += 1
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def wait(self, calls: int, unless: Callable[[], bool] = lambda: False) -> None:
        """Until so many calls were made, or nobody makes any more."""
        with self._changed:
            while self._calls < calls and self._running and not unless():
                self._changed.wait(0.1)


class Sender:
    """A thread of one agent. Its choices come from its luck."""

    choices: Mapping[str, int] = {
        "post": 5, "post_with_key": 6, "repeat": 4, "misuse_key": 1, "mention": 3, "tell": 3, "reply": 2,
        "post_status": 1, "post_in_new_channel": 1, "mark": 3, "read": 3, "pin": 2, "upload": 2, "repeat_upload": 1,
    }  # fmt: skip
    readable: Sequence[str] = SHARED

    def __init__(
        self, relay: RelayProcess, told: Told, luck: random.Random, number: int, name: str, key: str,
        transport: Transport | None = None,
    ) -> None:  # fmt: skip
        self.told = told
        self._relay, self._luck, self._number, self._name = relay, luck, number, name
        self._client = Client(
            relay.url, key, agent=name, retries=luck.choice([0, 0, 3, 8]), deadline=PATIENCE, transport=transport
        )
        self._keyed: list[tuple[Post, Callable[..., types.SentMessage]]] = []
        self._uploads: list[Upload] = []
        self._posted: list[Post] = []  # acknowledged, in shared channels
        self._channels = [*SHARED]
        self._words = 0

    def run(self, pace: Pace, over: threading.Event) -> None:
        with self._client:
            try:
                for act in self._luck.choices([*self.choices], [*self.choices.values()], k=CALLS):
                    self._relay.up.wait(LONGEST_START)
                    if over.is_set():
                        return
                    getattr(self, act)()
                    pace.step()
            finally:
                pace.end()

    # Posting

    def post(self) -> None:
        self._send(self._new())

    def post_status(self) -> None:
        post = self._new()._replace(kind="status")
        self._send(post, partial(self._client.send_message, kind="status"))

    def mention(self) -> None:
        other = self._other()
        self._send(self._new(f"@{other} ")._replace(notifies=(other,)))

    def tell(self) -> None:
        other = self._other()
        post = self._new(f"@{other} ", DIRECT)._replace(notifies=(other,), key=self._key())
        told = self._client.with_options(idempotency_key=post.key)

        def call(channel: str, text: str) -> types.SentMessage:
            return told.send_direct_message(other, text.removeprefix(f"@{other} "))

        self._send(post, call)

    def reply(self) -> None:
        if self._posted:
            answered = self._luck.choice(self._posted)
            post = self._new(channel=answered.channel)._replace(parent=answered.id)
            self._send(post, partial(self._client.send_message, parent_message_id=answered.id))

    def post_in_new_channel(self) -> None:
        self._channels.append(f"made-{self._number}-{self._words}")
        self._send(self._new(channel=self._channels[-1]))

    def post_with_key(self) -> None:
        post = self._new()._replace(key=self._key())
        self._send(post, self._client.with_options(idempotency_key=post.key).send_message)

    def repeat(self) -> None:
        """A call with a key, made again; the relay may have been struck in between."""
        if self._keyed:
            post, call = self._luck.choice(self._keyed)
            self._send(post, call)

    def misuse_key(self) -> None:
        """A key that is known to have had its effect, with another text."""
        mine = {post.key for post in self._keyed_and_acknowledged()}
        if mine:
            post = self._new()._replace(key=self._luck.choice(sorted(filter(None, mine))))
            self._record(answered(post, self._client.with_options(idempotency_key=post.key).send_message))

    def _keyed_and_acknowledged(self) -> list[Post]:
        keys = {post.key for post, _ in self._keyed}
        return [post for post in self.told.posts if post.author == self._name and post.id and post.key in keys]

    def _send(self, post: Post, call: Callable[..., types.SentMessage] | None = None) -> None:
        call = call or self._client.send_message
        post = answered(post._replace(began=time.monotonic()), call)
        self._record(post)
        if post.key:
            self._keyed.append((post._replace(id=None, at=None, error=None, ended=Post._field_defaults["ended"]), call))
        if post.id and post.channel in SHARED and post.kind == "chat":
            self._posted.append(post)

    def _record(self, post: Post) -> None:
        self.told.posts.append(post)

    def _new(self, prefix: str = "", channel: str | None = None) -> Post:
        """A text nobody used, of any length, that ends with a word of its own."""
        padding = "so " * self._luck.choice([0, 3, 30, 1000])
        channel = channel or self._luck.choice(self._channels)
        return Post(self._name, channel, f"{prefix}{padding}{self._word()}", time.monotonic())

    def _word(self) -> str:
        self._words += 1
        return f"sender{self._number}word{self._words}"

    def _key(self) -> str:
        return f"key-of-{self._number}-{self._words}"

    def _other(self) -> str:
        return self._luck.choice([name for name in (*AGENTS, NEWCOMER) if name != self._name])

    # Reading, and saying so

    def mark(self) -> None:
        """Some of the mentions that are unread."""
        with self._reading():
            listed = self._client.check_mentions(limit=100)["mentions"]
            some = tuple(item["mention_id"] for item in listed if self._luck.random() < 0.6)
            if some:
                done, error = self._did(lambda: self._client.mark_mentions_read(list(some)))
                self.told.marks.append(Mark(self._name, some, done, error))

    def read(self) -> None:
        """A page of a channel, then the cursor moves to one of its messages, or to the end."""
        channel, began = self._luck.choice(self.readable), time.monotonic()
        with self._reading():
            page = self._client.read_messages(channel, limit=10, mark_read=self._luck.random() < 0.5)["messages"]
            if not page:
                return
            through = self._luck.choice([None, *(message["created_at"] for message in page)])
            asked = through or page[-1]["created_at"]
            answer = self._client.mark_channel_read(channel, through=through)["read_through"]
            self._saw(channel, answer, began, asked)
            began = time.monotonic()
            for reader in self._client.list_readers(channel)["readers"]:
                if reader["agent_name"] == self._name:
                    self._saw(channel, reader["read_through"], began)

    def _saw(self, channel: str, through: str, began: float, asked: str = "") -> None:
        self.told.positions.append(Position(self._name, channel, through, began, time.monotonic(), asked))

    # Pins and files

    def pin(self) -> None:
        """One of its own messages, which nobody else pins or unpins."""
        if self._posted:
            message, pinned = self._luck.choice(self._posted).id, self._luck.random() < 0.7
            assert message
            call = self._client.pin_message if pinned else self._client.unpin_message
            self._record_pin(Pin(message, pinned, *self._did(lambda: call(message))))

    def upload(self) -> None:
        name, content = f"{self._word()}.bin", self._content()
        key = self._key() if self._luck.random() < 0.7 else None
        self._put(Upload(self._name, self._luck.choice(SHARED), name, content, self._luck.random() < 0.7, key))

    def _content(self) -> bytes:
        return self._luck.randbytes(self._luck.choice([0, 10, 5000, 200_000]) + 1)

    def repeat_upload(self) -> None:
        if self._uploads:
            self._put(self._luck.choice(self._uploads))

    def _put(self, upload: Upload) -> None:
        client = self._client.with_options(idempotency_key=upload.key) if upload.key else self._client
        if upload.key:
            self._uploads.append(upload)
        try:
            file = client.upload_file(
                upload.channel,
                upload.name,
                base64.b64encode(upload.content).decode(),
                encoding="base64",
                post_message=upload.announced,
            )["file"]
        except AgentChatError as error:
            self._record_upload(upload._replace(error=None if unknown(error) else error.code))
        else:
            self._record_upload(upload._replace(path=file["path"]))

    def _record_pin(self, pin: Pin) -> None:
        self.told.pins.append(pin)

    def _record_upload(self, upload: Upload) -> None:
        self.told.uploads.append(upload)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Calls that read may get no answer, since nobody needs to know their effect, but they are not refused."""
        try:
            yield
        except AgentChatError as error:
            if not unknown(error):
                self.told.refused.append(f"{self._name} reads: refused with {error.code}")

    def _did(self, call: Callable[[], object]) -> tuple[bool, str | None]:
        """Whether it was acknowledged, and with which code it was refused."""
        try:
            call()
        except AgentChatError as error:
            return False, None if unknown(error) else error.code
        return True, None


def follow(relay: RelayProcess, name: str, key: str, channel: str, limit: int, over: threading.Event) -> Followed:
    """Read a list of messages by its next_cursor until nothing follows and nobody posts any more."""
    with Client(relay.url, key, agent=name, retries=20, deadline=PATIENCE) as client:
        page = client.read_messages(channel, limit=limit, include_status=True)
        rows, cursor = [row_of(message) for message in page["messages"]], page["next_cursor"]
        while page["has_more"]:  # more was posted before the first look than one page holds
            page = client.read_messages(channel, limit=limit, cursor=page["previous_cursor"], include_status=True)
            rows = [row_of(message) for message in page["messages"]] + rows
        while True:
            ending = over.is_set()
            page = client.read_messages(channel, limit=limit, cursor=cursor, include_status=True)
            rows += map(row_of, page["messages"])
            cursor = page["next_cursor"]
            if ending and not page["messages"]:
                return Followed(name, channel, rows)
            if not page["has_more"]:
                over.wait(0.01)


# What the relay tells at the end


def row_of(message: types.Message) -> Row:
    return Row(
        id=message["id"],
        channel=message["channel_name"],
        author=message["author_name"],
        text=message["content"],
        at=message["created_at"],
        parent=message["parent_message_id"],
        kind=message["kind"],
        pinned=message["pinned"],
        files=tuple(file["path"] for file in (message["metadata"] or {}).get("files", [])),
    )


def whole(client: Client, channel: str, limit: int) -> list[Row]:
    """A list of messages from its last page to its first."""
    rows: list[Row] = []
    cursor, more = None, True
    while more:
        page = client.read_messages(channel, limit=limit, cursor=cursor, include_status=True)
        rows = [*map(row_of, page["messages"]), *rows]
        cursor, more = page["previous_cursor"], page["has_more"]
    return rows


def collect(url: str, keys: dict[str, str], told: Told, luck: random.Random) -> Kept:
    """Everything, as those see it whom it concerns."""
    with ExitStack() as stack:
        clients = {name: stack.enter_context(Client(url, key, agent=name)) for name, key in keys.items()}
        auditor = clients[AUDITOR]
        board = {name: _board(client) for name, client in clients.items()}
        channels = sorted({channel for lines in board.values() for channel in lines} - {DIRECT})
        items = {name: _items(client, unread=False) for name, client in clients.items()}
        files = {channel: auditor.list_files(channel)["files"] for channel in channels}
        return Kept(
            channels={channel: whole(auditor, channel, luck.randint(20, 200)) for channel in channels},
            direct={name: whole(client, DIRECT, luck.randint(5, 200)) for name, client in clients.items()},
            alone=_alone(clients, told),
            items=items,
            unread={name: {item.id for item in _items(client)} for name, client in clients.items()},
            readers={channel: _readers(auditor, channel) for channel in channels},
            board=board,
            pinned={
                channel: [message["id"] for message in auditor.list_pinned_messages(channel)["messages"]]
                for channel in channels
            },
            files={channel: [(file["name"], file["path"]) for file in found] for channel, found in files.items()},
            contents=_contents(auditor, [file["path"] for found in files.values() for file in found]),
            found={
                post.text: [hit["id"] for hit in clients[post.author].search_messages(post.text.split()[-1])["results"]]
                for post in {post.text: post for post in told.posts if _is_searched(post)}.values()
            },
        )


def _contents(client: Client, paths: Sequence[str]) -> dict[str, bytes]:
    found = {}
    for path in paths:
        with suppress(errors.NotFound):  # the checker will miss it
            found[path] = client.download_file(path)["content"]
    return found


def _is_searched(post: Post) -> bool:
    return post.kind == "chat" and post.author != AUDITOR


def _alone(clients: dict[str, Client], told: Told) -> dict[str, Row]:
    """What was acknowledged, asked for by its id."""
    rows = {}
    for author, id in {(post.author, post.id) for post in told.posts if post.id}:
        try:
            rows[id] = row_of(clients[author].get_message(id)["message"])
        except errors.NotFound:  # the checker will miss it
            continue
    return rows


def _board(client: Client) -> dict[str, Seen]:
    """The channels that the agent is in."""
    return {
        line["channel"]: Seen(line["unread"], line["latest"] and line["latest"]["id"])
        for line in client.check_board()["channels"]
        if line["joined"]
    }


def _items(client: Client, unread: bool = True) -> list[Item]:
    listed = client.check_mentions(unread=unread, limit=100)["mentions"]
    if len(listed) == 100:
        raise RuntimeError("more mentions than one call can list: the round is too large")
    return [Item(item["mention_id"], item["message_id"], item["read"]) for item in listed]


def _readers(client: Client, channel: str) -> dict[str, str]:
    return {reader["agent_name"]: reader["read_through"] for reader in client.list_readers(channel)["readers"]}


# A round and a campaign


class Round(NamedTuple):
    calls: int
    acknowledged: int
    unanswered: int
    messages: int
    strikes: Counter[str]
    violations: list[str]


def run_round(seed: int, number: int, home: Path, beginning: Beginning, broken: str | None = None) -> Round:
    luck = random.Random(f"{seed}/{number}")
    with tempfile.TemporaryDirectory(prefix="round-", dir=home) as place:
        data, scratch = Path(place, "data"), Path(place, "scratch")
        shutil.copytree(beginning.data, data)
        scratch.mkdir()
        shutil.copy(beginning.library, scratch)
        relay = RelayProcess(data, scratch, broken)
        try:
            return _round(relay, beginning, luck)
        finally:
            relay.close()


def _round(relay: RelayProcess, beginning: Beginning, luck: random.Random) -> Round:
    told = Told([*beginning.posts], [], [], [], [], [], [])
    strikes: Counter[str] = Counter()
    found: list[str] = []
    stored = 0
    try:
        relay.start()
        keys = {**beginning.keys, NEWCOMER: token(relay.url, relay.power.data, NEWCOMER)}
        join(relay.url, keys[NEWCOMER])
        _mid_flight(relay, keys, told, strikes, luck)
        found += _renewed(relay, keys)
        kept = collect(relay.url, keys, told, luck)
        found += violations(told, kept)
        stored = len(kept.rows())
    except (AgentChatError, RuntimeError) as error:
        found += [f"the round ended early: {type(error).__name__} {error}", *_refused(told)]
    if "Traceback" in relay.log():
        found.append(f"the relay's log: {relay.log()[-300:]}")
    calls = calls_of(told)
    acknowledged = sum(map(is_acknowledged, calls))
    if not (acknowledged and strikes):
        found.append("nothing was acknowledged, or nothing was struck: the round proves nothing")
    return Round(
        calls=len(calls),
        acknowledged=acknowledged,
        unanswered=sum(not is_acknowledged(call) and call.error is None for call in calls),
        messages=stored,
        strikes=strikes,
        violations=found,
    )


def _renewed(relay: RelayProcess, keys: dict[str, str]) -> Iterator[str]:
    """Keys that were given out must still be good. The round goes on with new ones."""
    for name, key in keys.items():
        with Client(relay.url, key) as client:
            try:
                client.check_board()
            except errors.Unauthorized:
                yield f"the key of {name} is void"
                keys[name] = token(relay.url, relay.power.data, name)


def calls_of(told: Told) -> list[Call]:
    return [*told.posts, *told.uploads, *told.marks, *told.pins]


def is_acknowledged(call: Call) -> bool:
    match call:
        case Post():
            return call.id is not None
        case Upload():
            return call.path is not None
        case _:
            return call.done


def _refused(told: Told) -> list[str]:
    """What a round without an end can still say."""
    codes = Counter(call.error for call in calls_of(told) if call.error)
    return [f"{times} calls were refused with {code}" for code, times in codes.items()]


def _mid_flight(
    relay: RelayProcess, keys: dict[str, str], told: Told, strikes: Counter[str], luck: random.Random
) -> None:
    """Agents act, the relay is struck, and struck once more when they are done."""
    names = [*AGENTS, NEWCOMER]
    senders = [
        Sender(relay, told, random.Random(luck.random()), number, name := names[number % len(names)], keys[name])
        for number in range(SENDERS)
    ]
    plan, limits, over, pace = planned(luck), [luck.randint(1, 50) for _ in range(3)], threading.Event(), Pace()
    with ThreadPoolExecutor(SENDERS + 3) as pool:
        lists = [(AUDITOR, SHARED[0]), (AUDITOR, SHARED[1]), (AGENTS[0], DIRECT)]
        following = [
            pool.submit(follow, relay, name, keys[name], channel, limit, over)
            for (name, channel), limit in zip(lists, limits, strict=True)
        ]
        acting = [pool.submit(sender.run, pace, over) for sender in senders]
        try:
            for after, kind, again in plan:
                pace.wait(after)
                strikes.update(strike(relay, kind, again))
            for sender in acting:
                sender.result()
            strikes.update(strike(relay, "cut", None))
        finally:
            over.set()
            relay.up.set()  # whoever still waits finds out what is the matter
        told.followed.extend(follower.result() for follower in following)


def campaign(seed: int, numbers: Sequence[int], broken: str | None) -> Iterator[Round]:
    """The rounds, each failed one told in one line."""
    with tempfile.TemporaryDirectory(prefix="agentchat-faults-") as place:
        home = Path(place)
        beginning = begin(home)
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            results = pool.map(lambda number: run_round(seed, number, home, beginning, broken), numbers)
            yield from rounds.told(seed, numbers, results)


def summary_of(seed: int, numbers: Sequence[int], results: Sequence[Round]) -> dict[str, Any]:
    strikes = sum((result.strikes for result in results), Counter())
    return {
        "seed": seed,
        "rounds": len(results),
        "failed rounds": rounds.failed(numbers, results),
        "writes": sum(result.calls for result in results),
        "acknowledged": sum(result.acknowledged for result in results),
        "unanswered": sum(result.unanswered for result in results),
        "messages": sum(result.messages for result in results),
        "strikes": dict(sorted(strikes.items())),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    def run(seed: int, numbers: Sequence[int], broken: str | None) -> dict[str, Any]:
        return summary_of(seed, numbers, list(campaign(seed, numbers, broken)))

    return rounds.main("tests.faults.relay_campaign", __doc__ or "", ["fsync", "dedupe", "early"], run, arguments)


if __name__ == "__main__":
    sys.exit(main())
