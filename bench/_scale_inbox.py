"""For `scale.py`: looking at, counting, checking and claiming what waits for one agent, on either engine.

Three agents have an inbox of each size: all of the first one waits, a third of it direct messages, half of it urgent;
all of the second waits, direct and urgent; so much of the third has ended, and as little waits as in the smallest. One
message is sent; the others, and the items, are copies of its row. CPU per call, without HTTP, that of the database's
processes counted with it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import _measure as measure
import _postgres
import relay
from _scale_lane import controlled, mean, told_control
from _scale_sizes import Directories, Extent, progress, short, turned
from agentchat_relay.service import briefing, inbox, mentions, messages, upkeep
from agentchat_relay.service.call import Agent, Call
from agentchat_relay.store.postgres.engine import Postgres
from agentchat_relay.store.seam import Lane, Store
from agentchat_relay.store.sqlite.engine import Sqlite
from tests.postgres import Server, new_schema
from tests.relay import database

GROWTH = 1.3  # the goal
BOXES = ("much waits", "all is urgent", "much has ended")
TEXT = "a message of a usual length, " * 8
COPIES = """
INSERT INTO messages (id, public_id, channel_id, number, chats, created_at, author_id, kind, content)
WITH RECURSIVE copies (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copies WHERE n < CAST(? AS BIGINT))
SELECT id + n, public_id || '-' || n, channel_id, number + n, chats + n, created_at + n, author_id, kind, content
FROM messages, copies WHERE number = 1
"""
ITEMS = """
INSERT INTO inbox (public_id, agent_id, kind, message_id, created_at, urgent, done_at)
SELECT m.public_id || '-' || a.id, a.id, CASE WHEN m.id % 3 = 0 OR b.urgent = 1 THEN 'direct' ELSE 'mention' END, m.id,
    m.created_at, CASE WHEN m.id % 2 = 0 OR b.urgent = 1 THEN 1 ELSE 0 END,
    CASE WHEN m.number <= b.ended THEN m.created_at END
FROM messages m, agents a,
    (SELECT CAST(? AS TEXT) AS name, CAST(? AS BIGINT) AS urgent, CAST(? AS BIGINT) AS ended) b
WHERE m.number > 1 AND a.name = b.name ORDER BY m.id
"""


class Inboxes:
    """A store in which each of three agents has an inbox of one size."""

    def __init__(self, folder: str, size: int, least: int, server: Server | None) -> None:
        self.size = size
        where = new_schema(server.url) if server else tempfile.mkdtemp(prefix="inbox-", dir=folder)
        self._fill(where, size, least)
        self.store = _opened(where)
        names = [box.replace(" ", "-") for box in BOXES]
        self.agents: dict[str, Agent] = self.store.ask(
            Lane.READ,
            lambda tx: {box: relay.agent_of(tx, self._keys[name]) for box, name in zip(BOXES, names, strict=True)},
        )
        if server is None:  # Postgres looks after its index when it is told to, and here it is not
            relay.indexed(self.store)
        self._claims: dict[str, str] = {}

    def _fill(self, where: str, size: int, least: int) -> None:
        store = _opened(where)
        try:
            self._keys = store.ask(Lane.WRITE, _founded)
        finally:
            store.close()
        database.ask(where, COPIES, size + least)
        for box in BOXES:
            ended = size if box == "much has ended" else least
            database.ask(where, ITEMS, box.replace(" ", "-"), int(box == "all is urgent"), ended + 1)
        if "://" in where:
            database.ask(where, "ANALYZE")

    # What is asked

    def peek(self, agent: Agent) -> Callable[[Any], Any]:
        return lambda tx: inbox.peek_inbox(tx, Call(agent))

    def old_mentions(self, agent: Agent) -> Callable[[Any], Any]:
        return lambda tx: mentions.check_mentions(tx, Call(agent), unread=False)

    def new_mentions(self, agent: Agent) -> Callable[[Any], Any]:
        return lambda tx: mentions.check_mentions(tx, Call(agent))

    def briefing(self, agent: Agent) -> Callable[[Any], Any]:
        return lambda tx: briefing.get_briefing(tx, Call(agent))

    def claim(self, agent: Agent) -> Callable[[Any], Any]:
        """And acknowledged with it, so that the next one finds others."""
        return lambda tx: inbox.claim_items(tx, Call(agent), acknowledge=True)

    def check(self, agent: Agent) -> Callable[[Any], Any]:
        """As agents do, with what the last one gave."""

        def check(tx: Any) -> Any:
            found = inbox.check_inbox(tx, Call(agent, session="bench"), seen=self._claims.get(agent.name))
            self._claims[agent.name] = found["claim_id"] or ""
            return found

        return check


def _opened(where: str) -> Store:
    return Postgres(where, index_pause=60.0) if "://" in where else Sqlite(where)


def _founded(tx: Any) -> dict[str, str]:
    """Three agents with their keys, and one message."""
    upkeep.seed(tx)
    keys = {name: relay.token(name)(tx)["key"] for name in ("author", *(box.replace(" ", "-") for box in BOXES))}
    author = relay.agent_of(tx, keys["author"])
    messages.send_message(tx, Call(author), channel="general", content=TEXT)
    return keys


class Case(NamedTuple):
    name: str
    lane: Lane
    ask: Callable[[Inboxes, Agent], Callable[[Any], Any]]


CASES = [
    Case("peek_inbox", Lane.READ, Inboxes.peek),
    Case("check_mentions", Lane.READ, Inboxes.new_mentions),
    Case("check_mentions, read ones too", Lane.READ, Inboxes.old_mentions),
    Case("get_briefing", Lane.READ, Inboxes.briefing),
    Case("check_inbox", Lane.WRITE, Inboxes.check),
    Case("claim_items, acknowledged", Lane.WRITE, Inboxes.claim),
]


def measured(directories: Directories, extent: Extent) -> dict[str, Any]:
    with ExitStack() as stack:
        server = stack.enter_context(_served()) if directories.engine == "postgres" else None
        sizes = extent.inboxes
        at: dict[int, Inboxes] = {}
        for size in sizes:
            at[size] = Inboxes(directories.folder, size, sizes[0], server)
            stack.callback(at[size].store.close)
        rounds = []
        for turn in range(extent.rounds + 1):  # the first one warms up
            rounds.append(_turn([at[size] for size in turned(sizes, turn)], server, extent))
            progress("inbox", turn, extent.rounds)
    return {
        "engine": directories.engine,
        "rounds": rounds[1:],
        "control": [mean(controlled(50)) for _ in range(extent.rounds)],
    }


@contextmanager
def _served() -> Iterator[Server]:
    # After so many rows are made it would clean up for long, and whoever is measured then would pay for it.
    server = Server(**_postgres.SETTINGS, autovacuum="off")
    try:
        yield server
    finally:
        server.close()


def _turn(at: Sequence[Inboxes], server: Server | None, extent: Extent) -> dict[str, float]:
    """us of CPU per call, by case, box and size."""
    taken = {}
    for case in CASES:
        for box in BOXES:
            for one in at:
                count = extent.peeks if case.lane == Lane.READ else extent.claims
                calls = [case.ask(one, one.agents[box])] * count
                taken[_key(case, box, one.size)] = _cost(one.store, case.lane, calls, server)
    return taken


def _cost(store: Store, lane: Lane, calls: Sequence[Callable[[Any], Any]], server: Server | None) -> float:
    """A transaction for each of those that write; those that read share one, which costs nothing then."""
    of_database, own = _of_database(server), time.process_time()
    if lane == Lane.READ:
        store.ask(lane, lambda tx: [call(tx) for call in calls])
    else:
        for call in calls:
            store.ask(lane, call)
    own = time.process_time() - own
    return (own + _of_database(server) - of_database) / len(calls) * 1e6


def _of_database(server: Server | None) -> float:
    return _postgres.database_cpu(server.pid) if server else 0.0


def _key(case: Case, box: str, size: int) -> str:
    return f"{case.name}, {box}: {size}"


def tell(found: dict[str, Any], extent: Extent) -> None:
    least, *larger = extent.inboxes
    rounds = found["rounds"]
    rows: list[tuple[str, ...]] = [
        (f"CPU us per call, {found['engine']}", "inbox", *map(short, extent.inboxes),
         *(f"{short(size)} / {short(least)}" for size in larger), "goal")
    ]  # fmt: skip
    for case in CASES:
        for box in BOXES:
            costs = {size: [each[_key(case, box, size)] for each in rounds] for size in extent.inboxes}
            growth = [
                measure.spread([much / little for much, little in zip(costs[size], costs[least], strict=True)])
                for size in larger
            ]
            cpu = [f"{statistics.median(each):.0f}" for each in costs.values()]
            rows.append((case.name, box, *cpu, *growth, f"<= {GROWTH}"))
    measure.table(rows)
    print(told_control(found))
