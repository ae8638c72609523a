"""The delivery model: sessions claim, acknowledge, return, crash and come too late in any order, on a clock that stands
until it is moved; a model of plain lists says what each of them must be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from agentchat.errors import AgentChatError
from agentchat_relay.embedded import Embedded
from agentchat_relay.http import parts
from agentchat_relay.service import inbox, mail, mentions, messages, scopes
from agentchat_relay.service.call import Agent, Call
from agentchat_relay.service.operations import SERVICES
from agentchat_relay.store.postgres import transaction as pg_transaction
from agentchat_relay.store.seam import Lane
from agentchat_relay.store.sqlite import engine as sqlite
from agentchat_relay.store.sqlite import transaction as sqlite_tx
from agentchat_relay.wire import iso, now

from . import database
from .conftest import fresh

SESSIONS = ("one", "two")
SECOND = 1_000_000
sessions = st.sampled_from(SESSIONS)
which = st.integers(0, 30)
some = st.none() | st.lists(st.integers(0, 8), min_size=1, max_size=3)
leases = st.sampled_from([1, 60, 300, 3600])

ORG, REPO, ISSUE = "repo:x/org", "repo:x/org/proj", "issue:7"
news = st.tuples(  # urgent, direct, seconds, scope
    st.booleans(), st.booleans(), st.sampled_from([None, None, 50, 1000]),
    st.sampled_from([None, None, ORG, REPO, ISSUE]),
)  # fmt: skip
News = tuple[bool, bool, int | None, str | None]
# Where a session stands, as it says so, and what it is given besides what is for anybody.
PLACES: dict[str, tuple[str, ...]] = {
    "": (),
    ORG: (ORG,),
    f"{REPO}/deep": (ORG, REPO),
    f"{ISSUE}, {REPO}": (ORG, REPO, ISSUE),
    f"{REPO}-two,issue:70": (ORG,),
}
EVERYWHERE = f"{ISSUE},{REPO}"
places = st.sampled_from([*PLACES, EVERYWHERE, EVERYWHERE])
PLACES[EVERYWHERE] = (ORG, REPO, ISSUE)


class Crash(Exception):
    """The relay ends here."""


class Crashing:
    """A transaction that ends at its so-manieth statement that writes."""

    def __init__(self, tx: Any, after: int) -> None:
        self._tx, self._left = tx, after

    def run(self, *statement: Any, **values: Any) -> int:
        if self._left == 0:
            raise Crash
        self._left -= 1
        return int(self._tx.run(*statement, **values))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)


class StandingClock:
    """The clock of both engines."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.at = now()
        for module in (sqlite, sqlite_tx, parts):
            patch.setattr(module, "now", lambda: self.at)
        patch.setattr(pg_transaction, "database_time", lambda told: self.at)


@dataclass
class Item:
    id: str
    text: str
    urgent: bool
    expires_at: int | None
    scope: str | None = None
    deliveries: int = 0
    claim: str | None = None
    session: str | None = None
    until: int = 0  # of the lease, or of a delay
    outcome: str | None = None
    history: list[str] = field(default_factory=list)  # how it ended, each time


class Delivery(RuleBasedStateMachine):
    """An agent's inbox, and the sessions of that agent."""

    live: Embedded
    clock: StandingClock

    def __init__(self) -> None:
        super().__init__()
        store = self.live.relay and self.live.relay.store
        assert store is not None
        self.store = store
        names = [fresh("sender"), fresh("reader")]
        for name in names:
            self.live.token(name)
        self.sender, self.reader = (self._agent(name) for name in names)
        self.items: list[Item] = []
        self.begun = self.store.ask(Lane.READ, lambda tx: tx.the("space_position", id=1)["position"])
        self.claims: list[str] = []
        self.last: dict[str, str | None] = dict.fromkeys(SESSIONS)  # what a session's last check told
        self.keys = 0

    def _agent(self, name: str) -> Agent:
        def look(tx: Any) -> Agent:
            row = tx.the("agent_by_name", space_id=1, name=name)
            return Agent(row["id"], row["public_id"], name, 1)

        return self.store.ask(Lane.READ, look)

    # What is done

    def do(
        self, name: str, session: str | None = None, crash: int | None = None, place: str = "", **arguments: Any
    ) -> Any:
        """An operation under a new key; told again, the answer is the same. With `crash` it ends midway, and is then
        done by whoever asks again with the same key."""
        self.keys += 1
        call = Call(self.reader, f"key-{self.keys}", name.encode(), session, scopes=scopes.read(place))
        service = SERVICES[name].service
        if crash is not None:
            try:
                self.store.ask(Lane.WRITE, lambda tx: service(Crashing(tx, crash), call, **arguments))
            except Crash:
                pass
            except AgentChatError:
                crash = None
        answer = self.store.ask(Lane.WRITE, lambda tx: service(tx, call, **arguments))
        again = self.store.ask(Lane.WRITE, lambda tx: service(tx, call, **arguments))
        assert again == answer
        return answer

    def refused(self, name: str, **arguments: Any) -> int:
        with pytest.raises(AgentChatError) as caught:
            self.do(name, **arguments)
        return caught.value.status or {"conflict": 409, "not_found": 404}[caught.value.code]

    # The model

    @property
    def waiting(self) -> list[Item]:
        """In order, with what somebody holds."""
        open = [one for one in self.items if one.outcome is None and not self._is_over(one)]
        return sorted(open, key=lambda one: not one.urgent)

    def _is_over(self, item: Item) -> bool:
        return item.expires_at is not None and item.expires_at <= self.clock.at

    def _bury(self) -> None:
        for item in self.items:
            if item.outcome is None and item.deliveries >= inbox.MOST_DELIVERIES and 0 < item.until <= self.clock.at:
                self._end(item, "dead")

    def _end(self, item: Item, outcome: str) -> None:
        item.outcome, item.until = outcome, 0
        item.history.append(outcome)

    def _here(self, place: str) -> list[Item]:
        """What waits for a session that stands there."""
        return [item for item in self.waiting if item.scope is None or item.scope in PLACES[place]]

    def _give(self, limit: int, lease: int, session: str | None, claim: str, place: str) -> list[Item]:
        here = self._here(place)
        free = [one for one in here if one.until <= self.clock.at or (session and one.session == session)]
        for item in free[:limit]:
            if not (session and item.session == session and item.until > self.clock.at):
                item.deliveries += 1
            item.claim, item.session, item.until = claim, session, self.clock.at + lease * SECOND
        return free[:limit]

    def _of(self, claim: str) -> list[Item]:
        return [item for item in self.items if item.claim == claim]

    def _claimed(self, answer: Any, limit: int, lease: int, session: str | None, place: str) -> list[Item]:
        self._bury()
        claim = answer["claim_id"] or ""
        given = self._give(limit, lease, session, claim, place)
        assert [
            (item["item_id"], item["deliveries"], item["content"], item.get("scope")) for item in answer["items"]
        ] == [(item.id, item.deliveries, item.text, item.scope) for item in given]
        assert bool(answer["claim_id"]) == bool(given)
        if given:
            self.claims.append(claim)
            free = [one for one in self._here(place) if one.until <= self.clock.at]
            assert answer["has_more"] == bool(free)
        return given

    # Steps

    @initialize(new=st.lists(news, min_size=3, max_size=8))
    def begin_with(self, new: list[News]) -> None:
        self.send(new)

    @rule(new=st.lists(news, min_size=1, max_size=5))
    def send(self, new: list[News]) -> None:
        for one in new:
            self._send(*one)

    def _send(self, urgent: bool, direct: bool, lives: int | None, scope: str | None) -> None:
        number = len(self.items)
        more = {"urgent": urgent, "expires_in": lives, "scope": scope}
        to = {"target_agent": self.reader.name, "content": f"text {number}"}
        said = {"channel": "general", "content": f"@{self.reader.name} text {number}"}
        call, service = Call(self.sender), mail.send_direct_message if direct else messages.send_message
        sent = self.store.ask(Lane.WRITE, lambda tx: service(tx, call, **(to if direct else said), **more))
        assert sent["unmatched_mentions"] == []
        newest = self.store.ask(
            Lane.READ, lambda tx: tx.all("items_all", agent_id=self.reader.id, limit=1)[0]["public_id"]
        )  # fmt: skip
        until = None if lives is None else self.clock.at + lives * SECOND
        self.items.append(Item(newest, f"@{self.reader.name} text {number}", urgent, until, scope))

    @rule(seconds=st.sampled_from([0, 1, 49, 61, 299, 301, 3601]))
    def wait(self, seconds: int) -> None:
        self.clock.at += seconds * SECOND

    @rule(limit=st.integers(1, 4), lease=leases, crash=st.none() | st.integers(0, 6), place=places)
    def claim(self, limit: int, lease: int, crash: int | None, place: str) -> None:
        answer = self.do("claim_items", crash=crash, place=place, limit=limit, lease=lease)
        self._claimed(answer, limit, lease, None, place)

    @rule(limit=st.integers(1, 4), place=places)
    def take(self, limit: int, place: str) -> None:
        """Claimed and acknowledged at once."""
        answer = self.do("claim_items", place=place, limit=limit, acknowledge=True)
        given = self._claimed(answer, limit, 300, None, place)
        assert answer["acknowledged"] == len(given)
        for item in given:
            self._end(item, "acknowledged")

    @rule(
        session=sessions, limit=st.integers(1, 4), lost=st.booleans(), crash=st.none() | st.integers(0, 6), place=places
    )
    def check(self, session: str, limit: int, lost: bool, crash: int | None, place: str) -> None:
        """Names what the answer before it gave, if that was received. A lost one is given again, to a session that
        still stands where it is for."""
        seen = self.last[session]
        answer = self.do("check_inbox", session, crash, place, limit=limit, seen=seen)
        done = [item for item in self._of(seen) if item.outcome is None] if seen else []
        assert answer["acknowledged"] == len(done)
        for item in done:
            self._end(item, "acknowledged")
        self._claimed(answer, limit, 300, session, place)
        self.last[session] = None if lost else answer["claim_id"]

    @rule(number=which, chosen=some, crash=st.none() | st.integers(0, 4))
    def acknowledge(self, number: int, chosen: list[int] | None, crash: int | None) -> None:
        if (found := self._pick(number, chosen)) is None:
            return
        claim, items, arguments = found
        if items is None or any(item.outcome not in (None, "acknowledged") for item in items):
            assert self.refused("acknowledge_items", **arguments) == 409
            return
        open = [item for item in items if item.outcome is None]
        answer = self.do("acknowledge_items", crash=crash, **arguments)
        assert answer == {"claim_id": claim, "items": len(items), "idempotent": not open}
        for item in open:
            self._end(item, "acknowledged")

    @rule(number=which, chosen=some, delay=st.sampled_from([0, 0, 60]), crash=st.none() | st.integers(0, 4))
    def give_back(self, number: int, chosen: list[int] | None, delay: int, crash: int | None) -> None:
        if (found := self._pick(number, chosen)) is None:
            return
        claim, items, arguments = found
        if not self._may_change(items, chosen):
            assert self.refused("return_items", **arguments, delay=delay) == 409
            return
        open = [item for item in items or [] if item.outcome is None]
        dead = [item for item in open if item.deliveries >= inbox.MOST_DELIVERIES]
        answer = self.do("return_items", crash=crash, **arguments, delay=delay)
        assert answer == {"claim_id": claim, "items": len(open), "idempotent": False, "dead": len(dead)}
        for item in open:
            if item in dead:
                self._end(item, "dead")
            else:
                item.claim = item.session = None
                item.until = self.clock.at + delay * SECOND if delay else 0

    @rule(number=which, lease=leases)
    def renew(self, number: int, lease: int) -> None:
        if (found := self._pick(number, None)) is None:
            return
        claim, items, _ = found
        if not self._may_change(items, None):
            assert self.refused("renew_claim", claim_id=claim, lease=lease) == 409
            return
        open = [item for item in items or [] if item.outcome is None]
        until = self.clock.at + lease * SECOND
        answer = self.do("renew_claim", claim_id=claim, lease=lease)
        assert (answer["items"], answer["lease_until"]) == (len(open), iso(until))
        for item in open:
            item.until = until

    @rule(number=which)
    def mark_read(self, number: int) -> None:
        """By check_mentions' id: whoever holds it."""
        if self.items:
            item = self.items[number % len(self.items)]
            self.store.ask(
                Lane.WRITE, lambda tx: mentions.mark_mentions_read(tx, Call(self.reader), mention_ids=[item.id])
            )
            if item.outcome is None:
                self._end(item, "acknowledged")

    @rule(number=which)
    def requeue(self, number: int) -> None:
        if self.items:
            item = self.items[number % len(self.items)]
            if item.outcome != "dead":
                assert self.refused("requeue_items", item_ids=[item.id]) == 404
                return
            assert self.do("requeue_items", item_ids=[item.id]) == {"requeued": 1}
            item.outcome = item.claim = item.session = item.expires_at = None
            item.deliveries = item.until = 0

    @rule()
    def sweep(self) -> None:
        while self.store.ask(Lane.WRITE, lambda tx: inbox.sweep(tx, self.clock.at)):
            pass
        for item in self.items:
            if item.outcome is None and item.until <= self.clock.at and self._is_over(item):
                self._end(item, "expired")
        self._bury()

    def _pick(self, number: int, chosen: list[int] | None) -> tuple[str, list[Item] | None, dict[str, Any]] | None:
        """A claim of old or of now, what of it is meant (None if that is not its own any more), and how it is said."""
        if not self.claims:
            return None
        claim = self.claims[number % len(self.claims)]
        items = self._of(claim)
        if chosen is None:
            return claim, items or None, {"claim_id": claim}
        meant = [self.items[place % len(self.items)] for place in chosen]
        known = items and all(item in items for item in meant)
        distinct = list({item.id: item for item in meant}.values())
        return claim, distinct if known else None, {"claim_id": claim, "item_ids": [item.id for item in meant]}

    def _may_change(self, items: list[Item] | None, chosen: list[int] | None) -> bool:
        if not items:
            return False
        open = [item for item in items if item.outcome is None]
        return bool(open) and (chosen is None or len(open) == len(items))

    # What holds after each step

    @invariant()
    def what_waits_is_shown(self) -> None:
        for place in ("", f"{REPO}/deep", EVERYWHERE):
            call = Call(self.reader, scopes=scopes.read(place))
            page = self.store.ask(Lane.READ, lambda tx, call=call: inbox.peek_inbox(tx, call, limit=100))
            assert [(one["item_id"], one["deliveries"], one.get("claimed_until")) for one in page["items"]] == [
                (one.id, one.deliveries, iso(one.until) if one.until > self.clock.at else None)
                for one in self._here(place)[:100]
            ]
            elsewhere = {item.scope for item in self.waiting if item.scope} - {*PLACES[place]}
            assert {*page["scopes"]} >= elsewhere, "an item that had its time may still be told of until it is swept"
            assert not {*page["scopes"]} & {*PLACES[place]}
        dead = self.store.ask(Lane.READ, lambda tx: inbox.list_dead_letters(tx, Call(self.reader), limit=100))
        assert {one["item_id"] for one in dead["items"]} == {one.id for one in self.items if one.outcome == "dead"}

    @invariant()
    def each_item_ends_in_one_way(self) -> None:
        for item in self.items:
            assert item.history[:-1] == ["dead"] * (len(item.history) - 1), "only a dead letter waits again"

    def teardown(self) -> None:
        """What the senders are told is what became of it, and the log says the same."""
        rows = self.store.ask(
            Lane.READ, lambda tx: tx.all("events_after", space_id=1, position=self.begun, limit=1 << 40)
        )  # fmt: skip
        for item in self.items:
            kinds = [row["kind"] for row in rows if row["subject"] == item.id]
            ended = [kind.partition(".")[2] for kind in kinds if kind not in ("inbox.added", "inbox.returned")]
            assert ended == item.history


@pytest.mark.hypothesis
def test_delivery(live: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    Delivery.live, Delivery.clock = live, StandingClock(monkeypatch)
    run_state_machine_as_test(
        Delivery,
        settings=settings(
            max_examples=database.examples(80), stateful_step_count=40, deadline=None,
            suppress_health_check=[*HealthCheck],
        ),
    )  # fmt: skip


def test_pages_of_the_inbox_follow_each_other(agent: Callable[..., Any]) -> None:
    ann, bob = agent(), agent()
    for number in range(7):
        ann.send_direct_message(bob.agent, f"text {number}", urgent=number in (3, 5))
    whole = [item["item_id"] for item in bob.peek_inbox()["items"]]
    texts = [item["content"].split()[-1] for item in bob.peek_inbox()["items"]]
    assert texts == ["3", "5", "0", "1", "2", "4", "6"]
    for limit in (1, 2, 3, 7):
        page = bob.peek_inbox(limit=limit)
        found = [item["item_id"] for item in page["items"]]
        while page["next_cursor"]:
            page = bob.peek_inbox(limit=limit, cursor=page["next_cursor"])
            found += [item["item_id"] for item in page["items"]]
        assert found == whole
