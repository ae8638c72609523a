"""Two spaces that look alike know nothing of each other: a leak test, generated from the contract.

Every operation is called by agents of space B with everything that space A has: its ids, names, paths, cursors, times,
idempotency keys, in all combinations. Nothing that only A knows may be in an answer, and no row of A may change. Each
operation proves its own test: called by A's agents, the same calls must show something of A, change A, or succeed
where B's were refused.
"""

from __future__ import annotations

import http.client
import itertools
import json
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import pytest

from agentchat import Client
from agentchat._operation import Operation, operation
from agentchat.contract import OPERATIONS, Id
from agentchat.errors import NotFound
from agentchat_relay.embedded import Embedded
from agentchat_relay.service import administration
from agentchat_relay.service.inbox import MOST_DELIVERIES
from agentchat_relay.service.work import pauses
from agentchat_relay.store.statements import migrations
from tests.relay import database
from tests.relay.conftest import fresh

pytestmark = pytest.mark.usefixtures("impatient")
TWINS = ("mac-ann", "mac-bob")  # agents of these names are in both spaces
SHARED = "plans"  # and so is this channel, besides #general
CREW = "crew"  # and this group
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OF_NO_SPACE = {"migrations", "nonces", "marks"}  # tables; every other must lead to a space
OF_NO_SPACE |= {"unindexed"}  # words on their way out, whose message is gone; no operation reads them
OF_NO_SPACE |= {"epochs", "secrets", "allowances", "attempts"}  # Postgres' own: of all relays, of agents, of addresses
OF_NO_SPACE |= {"fulltext", "fulltext_progress"}  # Postgres' own as well; words are looked for by their space
Arguments = dict[str, Any]


class Answer(NamedTuple):
    status: int
    text: str

    @property
    def code(self) -> tuple[int, Any]:
        return self.status, None if self.status == 200 else json.loads(self.text).get("code")


class Space:
    """A space with something of everything. `word` is in each of its texts, `only` and `squad` name an agent and a
    group that the other has not."""

    def __init__(self, relay: Embedded) -> None:
        self.relay = relay
        self.name = fresh("space")
        self.word = f"secret{secrets.token_hex(4)}"
        self.only = f"only-{secrets.token_hex(4)}"
        self.squad = f"squad-{secrets.token_hex(4)}"
        relay.space(self.name)
        self.keys = {name: relay.token(name, space=self.name) for name in (*TWINS, self.only)}
        for role in ("admin", "reviewer"):
            self._grant("mac-bob", role)
        self.sent: set[str] = set()  # all that its agents ever said
        self.cursors: list[str] = []
        with self._client("mac-ann") as ann, self._client("mac-bob") as bob, self._client(self.only) as loner:
            self._fill(ann, bob, loner)

    def _client(self, name: str) -> Client:
        return Client(self.relay.url, self.keys[name], agent=name, retries=0)

    def _grant(self, name: str, role: str) -> None:
        self.relay.ask(lambda tx: administration.agent_grant(tx, name=name, role=role, space=self.name))

    def _fill(self, ann: Client, bob: Client, loner: Client) -> None:
        for client in (ann, bob, loner):
            client.set_card(role=f"role {self.word}", about=self.word, capabilities=[f"tag-{self.word}"])
            for group in (CREW, self.squad):
                client.join_group(group)
            for channel in ("general", SHARED):
                client.read_messages(channel) if channel == "general" else client.send_message(channel, self.word)
        self.messages = []
        for channel in ("general", SHARED, self.only):
            first = ann.send_message(channel, f"{self.word} @mac-bob @{self.only}", metadata={"project": self.word})
            reply = bob.send_message(channel, f"{self.word} @mac-ann", parent_message_id=first["message"]["id"])
            status = loner.send_message(channel, self.word, kind="status")
            ann.pin_message(first["message"]["id"])
            self.messages += [answer["message"] for answer in (first, reply, status)]
            page = ann.read_messages(channel, limit=1)
            self.cursors += [str(page["previous_cursor"]), str(page["next_cursor"])]
        for target in ("mac-bob", self.only, CREW, self.squad):
            self.messages.append(ann.send_direct_message(target, self.word)["message"])
        self.messages += loner.send_to_many([self.squad], self.word)["messages"]
        self.cursors.append(str(ann.list_sent(limit=1)["next_cursor"]))
        self.cursors.append(str(ann.read_messages("direct-messages")["previous_cursor"]))
        self.cursors.append(str(ann.read_thread(self.messages[0]["id"], limit=1)["next_cursor"]))
        self._hand_over(ann, bob, loner)
        self.mentions = [
            found["mention_id"] for client in (ann, bob, loner) for found in client.check_mentions()["mentions"]
        ]  # fmt: skip
        self.items = list(self.mentions)
        for _ in range(MOST_DELIVERIES):  # bob's first one becomes a dead letter
            bob.return_items(str(bob.claim_items(limit=1)["claim_id"]))
        claims = [bob.claim_items(limit=2), ann.claim_items(limit=1)]
        self.claims = [claim["claim_id"] for claim in claims if claim["claim_id"]]
        self._stop(ann, bob, loner)
        self._ask_for_approval(ann, bob, loner)
        self.paths = [
            ann.upload_file(channel, f"{self.word}.txt", f"file {self.word}")["file"]["path"]
            for channel in ("general", self.only)
        ]
        loner.send_message(self.only, self.word)

    def _hand_over(self, ann: Client, bob: Client, loner: Client) -> None:
        """Tasks in every state: of ann for whoever is first, for one agent, and what the twins have or had."""
        about: dict[str, Any] = {"body": self.word, "context": f"context {self.word}"}
        tasks = [
            ann.create_task(self.word, channel=SHARED, capability_tags=[f"tag-{self.word}"], **about),
            loner.create_task(self.word, channel=self.only, result_schema={"description": self.word}, **about),
            *(ann.create_task(self.word, target_agent="mac-bob", **about) for _ in range(2)),
            *(loner.create_task(self.word, target_agent=name, **about) for name in TWINS),
            ann.create_task(self.word, channel=SHARED, target_agent=self.only, **about),
        ]
        self.tasks = [answer["task"]["id"] for answer in tasks]
        bob.claim_task(self.tasks[3], lease=86_400)
        bob.report_progress(self.tasks[3], f"note {self.word}")
        for client, task in ((ann, self.tasks[4]), (bob, self.tasks[5])):
            client.claim_task(task, lease=86_400)
        loner.claim_task(self.tasks[6], lease=86_400)
        loner.complete_task(self.tasks[6], f"result {self.word}")
        self.cursors.append(str(ann.list_tasks(limit=1)["next_cursor"]))
        self.locks = [
            client.acquire_lock(names, reason=self.word, lease=86_400)["lock"]["id"]
            for client, names in (
                (ann, [f"{self.word}/**", "for-all"]), (loner, [f"lone-{self.only}"]), (bob, [f"bob-{self.word}"]),
                (ann, [f"more-{self.word}"]),
            )
        ]  # fmt: skip
        self.cursors.append(str(ann.list_locks(limit=1)["next_cursor"]))

    def _stop(self, ann: Client, bob: Client, loner: Client) -> None:
        """Interrupts in every state, for each of them, and pauses of each sort."""
        sent = [
            sender.send_interrupt(target, self.word)["interrupt"]["id"]
            for sender, target in (
                (ann, "mac-bob"), (bob, "mac-ann"), (loner, "mac-ann"), (loner, "mac-bob"), (ann, self.only),
                (bob, self.only),
            )
        ]  # fmt: skip
        loner.acknowledge_interrupt(sent[4], note=f"note {self.word}")
        bob.withdraw_interrupt(sent[5], note=f"note {self.word}")
        self.interrupts = sent
        self.cursors.append(str(ann.list_interrupts(sent=True, limit=1)["next_cursor"]))
        of: list[dict[str, str]] = [{"channel": SHARED}, {"group": self.squad}, {"group": CREW}]
        self.pauses = [bob.pause_agents(self.word, **one)["pause"]["id"] for one in of]
        bob.resume_agents(self.pauses[2], note=f"note {self.word}")

    def _ask_for_approval(self, ann: Client, bob: Client, loner: Client) -> None:
        """Requests of each of them, and one that was decided."""
        exactly = json.dumps({"where": self.word})
        asked = [
            client.request_approval(f"tool-{self.word}", exactly, reason=self.word)["approval"]["id"]
            for client in (ann, bob, loner, loner)
        ]
        bob.decide_approval(asked[3], "edit", message=f"note {self.word}", arguments=json.dumps({"to": self.word}))
        ann.request_approval(PLAIN["tool_name"], PLAIN["arguments"])  # so that its hash is known to both
        self.approvals = asked
        self.cursors.append(str(ann.list_approvals(mine=True, limit=1)["next_cursor"]))

    def ask(self, agent: str, made: Operation[..., Any], arguments: Arguments, key: str | None = None) -> Answer:
        """One call over HTTP, as the contract says it travels."""
        path, body = request_of(made, arguments)
        self.sent |= set(texts_in(arguments))
        headers = {"x-agent-api-key": self.keys[agent]} | ({"idempotency-key": key} if key else {})
        connection = http.client.HTTPConnection(self.relay.url.removeprefix("http://"), timeout=30)
        with closing(connection):
            connection.request(made.verb, path, None if body is None else json.dumps(body).encode(), headers)
            response = connection.getresponse()
            told = response.read().decode()
            return Answer(response.status, told if response.status != 200 else f"{told}\n{response.headers}")


def request_of(made: Operation[..., Any], arguments: Arguments) -> tuple[str, Any]:
    path, members = made.path, {}
    for name, value in arguments.items():
        if f"{{{name}}}" in path:
            path = path.replace(f"{{{name}}}", quote(value, safe=""))
            continue
        place: dict[str, Any] = members
        *outer, last = made.parameters[name].wire
        for step in outer:
            place = place.setdefault(step, {})
        place[last] = value
    if made.verb != "GET":
        return path, members
    query = urlencode({name: str(value) for name, value in members.items()})
    return f"{path}{'&' if '?' in path else '?'}{query}", None


# What the database holds of each space


def rows_of(relay: Embedded, space: str) -> dict[str, set[tuple[Any, ...]]]:
    """All rows of a space, by table: those that lead to it over foreign keys. No name of a table is known here."""
    relay.ask(lambda tx: None)  # that a caller was seen is written down after its call
    with database.opened(relay) as ask:
        return _rows_of(relay, space, ask)


def _rows_of(relay: Embedded, space: str, ask: database.Ask) -> dict[str, set[tuple[Any, ...]]]:
    found: dict[str, set[tuple[Any, ...]]] = {}
    ((space_id,),) = ask("SELECT id FROM spaces WHERE name = ?", space)
    ids: dict[str, set[int]] = {"spaces": {space_id}}

    def visit(table: str) -> None:
        links = {column: to for column, to in foreign_keys(table).items() if to != table}
        for parent in set(links.values()) - ids.keys():
            visit(parent)
        own = {"id": "spaces"} if table == "spaces" else {}
        places = [f"{name} IN ({', '.join(map(str, {-1, *ids[to]}))})" for name, to in {**own, **links}.items()]
        assert places or table in OF_NO_SPACE, f"the table {table} leads to no space"
        rows = ask(f"SELECT * FROM {table} WHERE {' OR '.join(places)}") if places else []
        found[table] = set(rows)
        columns = columns_of(relay, table)
        ids[table] = {row[columns.index("id")] for row in found[table]} if "id" in columns else set()

    for table in tables_of(relay):
        if table not in found:
            visit(table)
    return found


tables_of, columns_of = cache(database.tables), cache(database.columns)


@cache
def foreign_keys(table: str) -> dict[str, str]:
    """Which columns lead where. SQLite's tables tell; Postgres has the same ones, and no rules about them."""
    with closing(sqlite3.connect(":memory:")) as empty:
        for _, _, sql in migrations("sqlite"):
            empty.executescript(sql)
        return {row[3]: row[2] for row in empty.execute(f"PRAGMA foreign_key_list({table})")}


def cells(rows: dict[str, set[tuple[Any, ...]]]) -> set[str]:
    """Everything in the rows that can be recognised in an answer."""
    return set(texts_in([list(row) for table in rows.values() for row in table]))


def texts_in(value: Any) -> Iterator[str]:
    """Texts and times in a value, as they would travel; those too short to tell anything are left out."""
    if isinstance(value, str):
        if value.startswith(("{", "[")):
            yield from texts_in(json.loads(value))
        elif len(value) >= 6:
            yield value
    elif isinstance(value, bytes):
        yield value.hex()
    elif isinstance(value, int) and 10**15 < value < 10**16:
        yield (EPOCH + timedelta(microseconds=value)).isoformat(timespec="microseconds")[:26]
    elif isinstance(value, dict):
        yield from texts_in(list(value.values()))
    elif isinstance(value, list):
        for item in value:
            yield from texts_in(item)


# The generator

# Values that mean something in a space. An optional parameter is left out as well.
OF_A_SPACE: dict[str, Callable[[Space], Sequence[Any]]] = {
    "channel": lambda space: ["general", SHARED, space.only, "direct-messages"],
    "message_id": lambda space: [message["id"] for message in space.messages],
    "parent_message_id": lambda space: [message["id"] for message in space.messages],
    "mention_ids": lambda space: [*([one] for one in space.mentions), space.mentions],
    "item_ids": lambda space: [*([one] for one in space.items), space.items],
    "claim_id": lambda space: space.claims,
    "seen": lambda space: space.claims,
    "after": lambda space: [space.messages[0]["id"], space.messages[-1]["id"]],
    "from_agent": lambda space: ["mac-ann", space.only],
    "since": lambda space: [0],
    "kind": lambda space: ["chat"],
    "target_agent": lambda space: ["mac-ann", "mac-bob", space.only, CREW, space.squad],
    "recipients": lambda space: [["mac-ann", "mac-bob"], [space.only], [CREW], ["mac-bob", space.squad]],
    "group": lambda space: [CREW, space.squad],
    "content": lambda space: [f"hello @{space.only} @mac-bob"],
    "path": lambda space: space.paths,
    "folder": lambda space: ["general", space.only, f"{space.only}/", space.name],
    "cursor": lambda space: space.cursors,
    "before": lambda space: [space.messages[-1]["created_at"]],
    "through": lambda space: [space.messages[-1]["created_at"]],
    "query": lambda space: [space.word, space.only, f"{space.word}.txt", "file"],
    "capability": lambda space: [f"tag-{space.word}"],
    "role": lambda space: [f"role {space.word}"],
    "name": lambda space: [space.only, "mac", space.word],
    "task_id": lambda space: space.tasks,
    "lock_id": lambda space: space.locks,
    "interrupt_id": lambda space: space.interrupts,
    "pause_id": lambda space: space.pauses,
    "approval_id": lambda space: space.approvals,
    "sent": lambda space: [True],
    "state": lambda space: ["acknowledged"],
    "list_approvals state": lambda space: ["edited"],
    "list_approvals mine": lambda space: [True],
    "names": lambda space: [["for-all"], [f"{space.word}/x", f"lone-{space.only}"], ["**"]],
    "list_locks name": lambda space: [f"{space.word}/x", f"lone-{space.only}", "**"],
    "capability_tags": lambda space: [[f"tag-{space.word}"]],
    "check_work since": lambda space: [space.messages[0]["created_at"]],
}
# Values that mean nothing by themselves: the widest there is.
PLAIN: Arguments = {
    "limit": 100, "offset": 1, "include_status": True, "mark_read": True, "unread": False, "wait": 0,
    "metadata": {"a": 1}, "filename": "a.txt", "encoding": "utf-8", "content_type": "text/plain", "post_message": True,
    "active_within": "7d", "about": "about", "status_line": "busy", "capabilities": ["a-tag"], "model": "m",
    "harness": "h", "plan": "api", "urgent": True, "expires_in": 60, "lease": 60, "delay": 0, "acknowledge": False,
    "title": "Do it", "body": "all of it", "context": "more", "result_schema": {"type": "object"}, "deadline_in": 3600,
    "fence": 1, "note": "half of it", "reason": "no time", "result": "done", "ephemeral": True, "vanish_after": None,
    "shared": False, "scope": "repo:github.com/org/proj", "tool_name": "deploy", "arguments": '{"to": 1}',
    "verdict": "edit", "message": "not that one",
}  # fmt: skip
LEFT_OUT = {"type", "mine", "presence", "status"}  # filters whose every value only narrows what is listed without them


class NoRecipe(Exception):
    """An operation has a parameter of which nobody said what the other space's values are."""


def calls(made: Operation[..., Any], space: Space) -> list[Arguments]:
    """All combinations of what a space has, for one operation."""
    options: list[list[Arguments]] = []
    for name, parameter in made.parameters.items():
        found = OF_A_SPACE.get(f"{made.name} {name}", OF_A_SPACE.get(name))
        if found is not None:
            values = [{name: value} for value in found(space)]
            options.append(values if parameter.required else [{}, *values])
        elif name in LEFT_OUT:
            continue
        elif name in PLAIN:
            options.append([{name: PLAIN[name]}])
        else:
            raise NoRecipe(f"{made.name}: say in OF_A_SPACE or PLAIN what {name} is")
    return [{name: value for part in chosen for name, value in part.items()} for chosen in itertools.product(*options)]


def fake(value: Any, known: dict[str, str]) -> Any:
    """The value with everything only the other space knows replaced by something of the same form that nobody has."""
    if isinstance(value, list):
        return [fake(item, known) for item in value]
    if isinstance(value, str):
        for real, made_up in known.items():
            value = value.replace(real, made_up)
    return value


def made_up(space: Space) -> dict[str, str]:
    ids = [message["id"] for message in space.messages] + space.mentions + space.claims + space.tasks + space.locks
    ids += space.interrupts + space.pauses + space.approvals
    uuids = {id: f"{id[:-12]}{secrets.token_hex(6)}" for id in ids}
    paths = {path: f"{path.partition('/')[0]}/1-{secrets.token_hex(4)}.txt" for path in space.paths}
    names = {space.only: "none-", space.squad: "empty-", space.word: "nobody"}
    return {**uuids, **paths, **{name: f"{other}{secrets.token_hex(4)}" for name, other in names.items()}}


def run(space: Space, made: Operation[..., Any], each: Iterable[Arguments], keys: bool = False) -> list[Answer]:
    """Every call by both twins."""
    answers = []
    for number, arguments in enumerate(each):
        for agent in TWINS:
            key = f"{made.name}-{number}" if keys else None
            answers.append(space.ask(agent, made, arguments, key))
    return answers


def two_spaces(live: Embedded, made: Operation[..., Any]) -> tuple[Space, Space]:
    """Of their own for what writes; what reads leaves them as they are, but for what was said in them."""
    if made.writes:
        return Space(live), Space(live)
    ours, theirs, *said = _to_be_read(live)
    ours.sent, theirs.sent = map(set, said)
    return ours, theirs


@cache
def _to_be_read(live: Embedded) -> tuple[Space, Space, frozenset[str], frozenset[str]]:
    """And what had been said in each."""
    ours, theirs = Space(live), Space(live)
    return ours, theirs, frozenset(ours.sent), frozenset(theirs.sent)


@cache
def _to_be_misspelt(live: Embedded) -> tuple[Space, Space]:
    return Space(live), Space(live)


@pytest.mark.parametrize("name", OPERATIONS)
def test_nothing_of_another_space_is_shown_or_changed(live: Embedded, name: str) -> None:
    made = OPERATIONS[name]
    ours, theirs = two_spaces(live, made)
    each = calls(made, theirs)
    assert each

    def check(answers: list[Answer], before: dict[str, set[tuple[Any, ...]]]) -> None:
        assert not [answer for answer in answers if answer.status in (401, 429) or answer.status >= 500]
        assert rows_of(live, theirs.name) == before, "a row of the other space changed"
        echoes = {text for text in cells(rows_of(live, ours.name)) if any(word in text for word in ours.sent)}
        hidden = (cells(before) | {theirs.word, theirs.only, theirs.squad}) - known - echoes
        told = "\n".join(answer.text for answer in answers)
        assert not {text for text in hidden if text in told and not any(text in word for word in ours.sent)}

    known = cells(rows_of(live, ours.name))  # what both spaces hold anyway is no secret
    before = rows_of(live, theirs.name)
    first = run(ours, made, each)
    check(first, before)

    owners = run(theirs, made, each, keys=True)
    told = "\n".join(answer.text for answer in owners)
    after = rows_of(live, theirs.name)
    shows = any(text in told for text in cells(before) - known - theirs.sent)
    succeeds = any(one.status == 200 != other.status for one, other in zip(owners, first, strict=True))
    assert shows or succeeds or after != before, f"{name}: these calls could not have shown anything"

    check(run(ours, made, each, keys=True), after)  # the keys that the owners used just now

    names = made_up(theirs)
    nobodys = run(ours, made, [{k: fake(v, names) for k, v in arguments.items()} for arguments in each])
    assert [answer.code for answer in nobodys] == [answer.code for answer in first], "what exists elsewhere is told"
    assert_apart(live, ours.name, theirs.name)


def assert_apart(relay: Embedded, *spaces: str) -> None:
    """No row leads to two spaces."""
    one, other = (rows_of(relay, space) for space in spaces)
    for table in one:
        assert not one[table] & other[table], table


@pytest.mark.parametrize("name", [name for name, made in OPERATIONS.items() if "cursor" in made.parameters])
def test_a_cursor_of_another_space_is_refused(live: Embedded, name: str) -> None:
    made = OPERATIONS[name]
    ours, theirs = two_spaces(live, made)
    for own in calls(made, ours):
        seen = ours.ask("mac-ann", made, own)  # mail to a group that she is not in is not
        for cursor in theirs.cursors:
            answer = ours.ask("mac-ann", made, {**own, "cursor": cursor})
            assert answer.code == (seen.code if seen.status == 404 else (400, "bad_cursor"))


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        (name, one)
        for name, made in OPERATIONS.items()
        for one in ("channel", "target_agent", "recipients", "group")
        if one in made.parameters
    ],
)
def test_a_misspelt_name_is_not_mended_with_one_of_another_space(live: Embedded, name: str, parameter: str) -> None:
    (ours, theirs), made = _to_be_misspelt(live), OPERATIONS[name]
    own = calls(made, ours)[0]

    def ask(name: str) -> Answer:
        return ours.ask("mac-ann", made, {**own, parameter: [name] if parameter == "recipients" else name})

    own_name, foreign = (space.squad if parameter == "group" else space.only for space in (ours, theirs))
    answer = ask(f"{foreign[:-1]}-")
    assert foreign not in answer.text
    if answer.status == 404:
        answer = ask(f"{own_name[:-1]}-")
        assert json.loads(answer.text)["near"] == [own_name], "this is how it would be told"


def test_the_events_of_a_space_are_its_own(live: Embedded) -> None:
    """Whatever happens in one space, the other's events stay, and both count without holes."""
    ours, theirs = Space(live), Space(live)
    before = rows_of(live, theirs.name)["events"]
    assert len(before) > 20
    for made in OPERATIONS.values():
        run(ours, made, calls(made, ours)[:3])
    assert rows_of(live, theirs.name)["events"] == before
    for space in (ours, theirs):
        sql = "SELECT e.position FROM events e JOIN spaces s ON s.id = e.space_id WHERE s.name = ? ORDER BY 1"
        positions = [row[0] for row in database.ask(live, sql, space.name)]
        assert positions == list(range(1, len(positions) + 1))


def test_a_name_mentioned_in_one_space_reaches_nobody_in_the_other(live: Embedded) -> None:
    ours, theirs = Space(live), Space(live)
    with ours._client("mac-ann") as ann, theirs._client("mac-bob") as stranger, ours._client("mac-bob") as bob:
        before = stranger.check_mentions(unread=False, limit=100)
        sent = ann.send_message("general", f"for @mac-bob and @{theirs.only}")
        assert sent["unmatched_mentions"] == [theirs.only]
        assert stranger.check_mentions(unread=False, limit=100) == before
        assert bob.check_mentions(limit=1)["mentions"][0]["message_id"] == sent["message"]["id"]


def test_mail_to_a_group_stays_in_its_space(live: Embedded) -> None:
    """Also if the other space has a group of the same name, or one has none and everybody is meant."""
    ours, theirs = Space(live), Space(live)
    with ours._client("mac-ann") as ann, theirs._client("mac-bob") as stranger, ours._client("mac-bob") as bob:
        before = stranger.check_mentions(unread=False, limit=100), stranger.list_groups(group=CREW)
        for target in (CREW, "all"):
            sent = ann.send_direct_message(target, "for us")["message"]
            assert bob.check_mentions(limit=1)["mentions"][0]["message_id"] == sent["id"]
        ann.leave_group(CREW)
        assert (stranger.check_mentions(unread=False, limit=100), stranger.list_groups(group=CREW)) == before
        with pytest.raises(NotFound):
            stranger.get_message(sent["id"])


def test_the_same_file_in_two_spaces_is_two_files(live: Embedded) -> None:
    ours, theirs = Space(live), Space(live)
    content = f"the same {secrets.token_hex(8)}"
    with ours._client("mac-ann") as ann, theirs._client("mac-ann") as stranger:
        path = ann.upload_file("general", "same.txt", content)["file"]["path"]
        other = stranger.upload_file("general", "same.txt", content)["file"]["path"]
        assert ann.download_file(path)["content"] == stranger.download_file(other)["content"] == content.encode()
        listed = [row["path"] for row in stranger.list_files("general")["files"]]
        assert other in listed
        assert path not in listed or path == other


# The test is tested


class _Later:
    @operation("POST", "/api/v2/vaults/{vault_id}", writes=True)
    def open_vault(self, vault_id: Id) -> Any:
        """Open a vault."""
        raise NotImplementedError


def test_an_operation_without_a_recipe_is_noticed(live: Embedded) -> None:
    with pytest.raises(NoRecipe, match=r"open_vault: .* vault_id"):
        calls(_Later.open_vault, Space(live))


def test_every_recipe_is_used() -> None:
    used = {name for made in OPERATIONS.values() for name in made.parameters}
    of_one = {f"{made.name} {name}" for made in OPERATIONS.values() for name in made.parameters}
    assert {*OF_A_SPACE, *PLAIN, *LEFT_OUT} - of_one == used


def test_rows_of_a_space_are_found_in_every_table(live: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a table could change unnoticed."""
    monkeypatch.setattr(pauses, "spread", lambda tx: 0)  # else the relay goes about it, and deletes its row
    space = Space(live)
    space.ask("mac-ann", OPERATIONS["set_card"], {"model": "m"}, key="kept")
    ((space_id,),) = database.ask(live, "SELECT id FROM spaces WHERE name = ?", space.name)
    sql = "INSERT INTO machines (name, space_id, public_key, created_at) VALUES (?, ?, '', 0)"
    database.ask(live, sql, fresh("box"), space_id)
    ((message_id,),) = database.ask(live, "SELECT id FROM messages WHERE public_id = ?", space.messages[0]["id"])
    sql = "INSERT INTO fan_outs (message_id, after_id, urgent, scope) VALUES (?, 0, 0, '')"
    database.ask(live, sql, message_id)  # of a channel's message, so that the relay does not go about it
    ((pause_id,),) = database.ask(live, "SELECT id FROM work WHERE public_id = ?", space.pauses[0])
    database.ask(live, "INSERT INTO spreads (work_id, after_id) VALUES (?, 0)", pause_id)
    database.ask(live, "INSERT INTO dropped_blobs VALUES (?, ?)", space_id, "0" * 64)
    found = rows_of(live, space.name)
    assert {table for table, rows in found.items() if not rows} == OF_NO_SPACE & found.keys()
    assert space.word in cells(found)
