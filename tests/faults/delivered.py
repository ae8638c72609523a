"""What the journals of a delivery round say, put in order for the checker: calls, claims, and each giving-out.

It shares nothing with the relay or the clients, so that it cannot share their mistakes. Times named `_at` are
microseconds since 1970, of the relay's store where it told them; other times are seconds of one clock. Of a call that
got no answer nobody knows whether, or when, it took effect after it began.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tests.faults import calls
from tests.faults.calls import SECOND, SLACK, brief, by_key, micros
from tests.faults.journal import FOREVER, Attempt

GIVES = ("claim_items", "check_inbox")
CHECK_LEASE = 300


class Call(calls.Call):
    @property
    def hides(self) -> bool:
        """Whether it may have given out what its answer does not tell, since that was lost."""
        return self.name in GIVES and any(attempt.is_unknown for attempt in self.attempts)

    @property
    def claim(self) -> str | None:
        """That it changes."""
        return self.arguments.get("seen" if self.name == "check_inbox" else "claim_id")


class Claim(NamedTuple):
    """What one call gave out, as its first answer tells it."""

    id: str | None  # None of one that found nothing
    call: Call
    items: Sequence[Mapping[str, Any]]
    earliest: int  # its time, or the bounds that are known of it
    latest: int
    until: int | None

    @property
    def is_check(self) -> bool:
        return self.call.name == "check_inbox"

    @property
    def taken_at_once(self) -> bool:
        return bool(self.call.arguments.get("acknowledge"))


class Giving(NamedTuple):
    item: str
    number: int  # of the item's deliveries
    claim: Claim

    def __str__(self) -> str:
        return f"delivery {self.number} by {self.claim.call.who} in claim {brief(self.claim.id)}"


def claim_of(call: Call) -> Claim:
    answer = call.answer or {}
    until, lease = answer["lease_until"] and micros(answer["lease_until"]), call.arguments.get("lease", CHECK_LEASE)
    at = until and until - lease * SECOND
    bounds = (at, at) if at else (call.began_at - SLACK, call.ended_at or 0)
    return Claim(answer["claim_id"], call, answer["items"], *bounds, until)


class Histories:
    """Calls by what they are about."""

    def __init__(self, attempts: Iterable[Attempt]) -> None:
        self.calls = [Call(found) for found in by_key(attempts)]
        self.sends = [call for call in self.calls if call.name.startswith("send_")]
        self.lost = [call for call in self.calls if call.hides]
        self.claims = [claim_of(call) for call in self.calls if call.name in GIVES and call.answered]
        self.by_claim = {claim.id: claim for claim in self.claims if claim.id}
        self.givings: dict[str, list[Giving]] = defaultdict(list)
        for claim in self.claims:
            for item in claim.items:
                self.givings[item["item_id"]].append(Giving(item["item_id"], item["deliveries"], claim))
        for given in self.givings.values():
            given.sort(key=lambda giving: (giving.number, giving.claim.earliest, giving.claim.call.began))
        self.changes: dict[str, list[Call]] = defaultdict(list)
        for call in self.calls:
            if call.claim and call.may_have_effect:
                self.changes[call.claim].append(call)

    def about(self, claim: Claim, item: str, *names: str) -> Iterator[Call]:
        """Calls of these names that may have changed what the claim holds of the item."""
        for call in self.changes.get(claim.id or "", ()):
            if call.name in names and item in (call.arguments.get("item_ids") or [item]):
                yield call

    def acknowledging(self, giving: Giving) -> Iterator[Call]:
        yield from self.about(giving.claim, giving.item, "acknowledge_items", "check_inbox")
        if giving.claim.taken_at_once:
            yield giving.claim.call

    def after(self, giving: Giving) -> Iterator[Giving]:
        """Later ones of the item, as far as that is certain."""
        for other in self.givings[giving.item]:
            if other.claim.id != giving.claim.id and is_before(giving, other):
                yield other

    def lease(self, giving: Giving, at: int) -> tuple[int, int | None]:
        """Until when it lasted, seen from that time: at least, and at most, or None if nobody can say."""
        claim = giving.claim
        if claim.until is None:
            return 0, None
        at, renewed, unknown = max(at, claim.earliest), {claim.earliest: claim.until}, []
        for call in self.about(claim, giving.item, "renew_claim"):
            lease = call.arguments["lease"] * SECOND
            if call.answer is None:
                unknown.append(call.began_at - SLACK + lease)
            else:
                until = micros(call.answer["lease_until"])
                renewed[until - lease] = until
        last = max(moment for moment in renewed if moment <= at)
        # What one transaction did at the same time may have come before it or after it.
        before = max((moment for moment in renewed if moment < at), default=last)
        both = renewed[last], renewed[before]
        return min(*both, *unknown), None if unknown else max(both)

    def may_be_taken_again(self, giving: Giving, before: float = FOREVER) -> bool:
        """Whether the session may have got it again by a check whose answer was lost."""
        mine = giving.claim.call.session
        return giving.claim.is_check and any(
            call.name == "check_inbox" and call.session == mine and call.began < before for call in self.lost
        )


def is_before(one: Giving, other: Giving) -> bool:
    if one.number != other.number:
        return one.number < other.number
    return one.claim.call.ended < other.claim.call.began
