"""Decides whether an inbox kept its promises, from two records alone: what senders and receivers were told during a
round, and what the relay tells at its end. Plain data goes in, sentences come out.

Each rule says only what is certain: an answer that was lost may have given out, acknowledged or returned anything that
its call was about, at any time after it began.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from tests.faults.calls import SECOND, SLACK, brief, micros
from tests.faults.delivered import Call, Claim, Giving, Histories, is_before
from tests.faults.journal import Attempt

MOST_DELIVERIES = 5
EXPECTED = {"acknowledge_items": "conflict", "return_items": "conflict", "renew_claim": "conflict"}
Rows = Sequence[Mapping[str, Any]]


class End(NamedTuple):
    """What the relay tells at the end of a round."""

    messages: Mapping[str, str]  # texts by id, of all that are stored
    receipts: Mapping[str, Rows]  # by message
    dead: Rows
    waiting: Rows


def violations(attempts: Iterable[Attempt], end: End) -> list[str]:
    told = Histories(attempts)
    return [complaint for rule in RULES for complaint in rule(told, end)]


# What was sent


def sent_once(told: Histories, end: End) -> Iterator[str]:
    """Every acknowledged message is stored, under its id; every message once; and nothing that nobody sent."""
    stored = Counter(end.messages.values())
    known = set()
    for call in told.sends:
        text = text_of(call)
        known.add(text)
        ids = {attempt.answer["message"]["id"] for attempt in call.answered if attempt.answer}
        for id in ids:
            if end.messages.get(id) != text:
                yield f"{text[-30:]}: acknowledged, and lost"
        if len(ids) > 1:
            yield f"{text[-30:]}: told under {len(ids)} ids"
    yield from (f"{text[-30:]}: stored {times} times" for text, times in stored.items() if times > 1)
    yield from (f"{text[-30:]}: nobody sent it" for text in stored if text not in known)


def text_of(call: Call) -> str:
    """As it is stored."""
    told: Mapping[str, Any] = call.arguments
    return f"@{told['target_agent']} {told['content']}" if call.name == "send_direct_message" else str(told["content"])


def items_are_as_sent(told: Histories, end: End) -> Iterator[str]:
    """Each item is of one message, in its words, and no message has two."""
    calls = {text_of(call): call for call in told.sends}
    items: dict[str, set[str]] = defaultdict(set)
    for item in {**_items(told), **{item["item_id"]: item for item in (*end.dead, *end.waiting)}}.values():
        items[item["message_id"]].add(item["item_id"])
        call = calls.get(item["content"])
        if call is None or end.messages.get(item["message_id"]) != item["content"]:
            yield f"item {brief(item['item_id'])}: no message of anybody"
        elif _sent(call) != (item["kind"], item["urgent"], item["expires_at"] is not None):
            yield f"item {brief(item['item_id'])}: not as it was sent"
    yield from (f"message {brief(id)}: {len(found)} items" for id, found in items.items() if len(found) > 1)


def _items(told: Histories) -> dict[str, Mapping[str, Any]]:
    return {item["item_id"]: item for claim in told.claims for item in claim.items}


def _sent(call: Call) -> tuple[str, bool, bool]:
    kind = "direct" if call.name == "send_direct_message" else "mention"
    return kind, bool(call.arguments.get("urgent")), call.arguments.get("expires_in") is not None


# What became of it


def ends_once(told: Histories, end: End) -> Iterator[str]:
    """Each message has one receipt, which tells of one end that is possible."""
    items, dead, waiting = _items_of_messages(told, end), _ids(end.dead), _ids(end.waiting)
    for id, text in end.messages.items():
        receipts = end.receipts.get(id, ())
        if len(receipts) != 1:
            yield f"{text[-30:]}: {len(receipts)} receipts"
            continue
        (receipt,), given = receipts, told.givings.get(items.get(id, ""), [])
        state, told_of = receipt["state"], given[-1].number if given else 0
        if receipt["deliveries"] < told_of:
            yield f"{text[-30:]}: {receipt['deliveries']} deliveries, and {told_of} were told"
        is_open = state in ("stored", "claimed")
        hidden = state == "claimed" and _may_expire(told, text)  # nobody else is shown what had its time
        if (id in dead) != (state == "dead") or ((id in waiting) != is_open and not hidden):
            yield f"{text[-30:]}: {state}, and the lists tell otherwise"
        if complaint := _end_of(told, text, receipt, given):
            yield f"{text[-30:]}: {complaint}"


def _end_of(told: Histories, text: str, receipt: Mapping[str, Any], given: Sequence[Giving]) -> str | None:
    state = receipt["state"]
    acknowledged = any(has_acknowledged(told, call, giving) for giving in given for call in told.acknowledging(giving))
    if acknowledged and state != "acknowledged":
        return f"acknowledged, and then {state}"
    if state == "acknowledged":
        possible = any(True for giving in given for _ in told.acknowledging(giving))
        at_once = any(call.arguments.get("acknowledge") for call in told.lost)
        return None if possible or at_once else "acknowledged by nobody"
    if state == "expired" and not _may_expire(told, text):
        return "expired, without a time to do so"
    if state == "dead" and receipt["deliveries"] < MOST_DELIVERIES:
        return f"dead after {receipt['deliveries']} deliveries"
    if state in ("dead", "expired") and given and receipt["ended_at"] and _is_held(told, given[-1], receipt):
        return f"{state} in somebody's hand"
    return None


def _may_expire(told: Histories, text: str) -> bool:
    return any(call.arguments.get("expires_in") for call in told.sends if text_of(call) == text)


def _is_held(told: Histories, last: Giving, receipt: Mapping[str, Any]) -> bool:
    if last.number != receipt["deliveries"] or any(told.about(last.claim, last.item, "return_items")):
        return False
    ended_at = micros(receipt["ended_at"])
    return ended_at < told.lease(last, ended_at)[0]


def _items_of_messages(told: Histories, end: End) -> dict[str, str]:
    everything = (*_items(told).values(), *end.dead, *end.waiting)
    return {item["message_id"]: item["item_id"] for item in everything}


def _ids(items: Rows) -> set[str]:
    return {item["message_id"] for item in items}


# Who won it


def has_acknowledged(told: Histories, call: Call, giving: Giving) -> bool:
    """Whether this call, which was answered, is certain to have ended this item, or to have found it ended so."""
    if not call.answer:
        return False
    if (giving.claim.taken_at_once and call is giving.claim.call) or call.arguments.get("item_ids"):
        return True
    count = call.answer["acknowledged"] if call.name == "check_inbox" else call.answer["items"]
    if count == len(giving.claim.items):
        return True
    if any(told.about(giving.claim, giving.item, "return_items")) or told.may_be_taken_again(giving):
        return False
    later = [*told.after(giving)]
    if any(other.claim.call.began < call.ended for other in later):
        return False
    if not later or later[0].number > giving.number + 1:
        return False
    return not told.may_be_taken_again(later[0], call.ended)  # then that session may have got it before


def one_winner(told: Histories, end: End) -> Iterator[str]:
    """Nothing is acknowledged by two claims, or given out once it was acknowledged."""
    for item, given in told.givings.items():
        won = [
            (giving, call) for giving in given for call in told.acknowledging(giving)
            if has_acknowledged(told, call, giving)
        ]  # fmt: skip
        claims = {giving.claim.id for giving, _ in won}
        if len(claims) > 1:
            yield f"item {brief(item)}: acknowledged by {len(claims)} claims"
        for other in given:
            if any(other.claim.call.began > call.ended and other.claim.id != giving.claim.id for giving, call in won):
                yield f"item {brief(item)}: given out after it was acknowledged: {other}"
                break


def too_late(told: Histories, end: End) -> Iterator[str]:
    """Whoever lost an item to somebody else changes nothing about it any more."""
    for given in told.givings.values():
        for giving in given:
            for call in told.about(giving.claim, giving.item, "acknowledge_items", "return_items"):
                named = bool(call.arguments.get("item_ids"))
                if not (call.answer and (named or call.answer["items"] == len(giving.claim.items))):
                    continue
                if taken := [other for other in told.after(giving) if other.claim.call.ended < call.began]:
                    yield f"item {brief(giving.item)}: {call.name} by {giving}, too late after {taken[0]}"


def refused_for_a_reason(told: Histories, end: End) -> Iterator[str]:
    """Only changes of claims are refused, and only when something has come in between."""
    for call in told.calls:
        for attempt in call.refusals:
            if attempt.refusal != EXPECTED.get(call.name):
                yield f"{call.who}: {call.name} was refused with {attempt.refusal}"
            elif not call.may_have_effect and not _has_reason(told, end, call, attempt):
                yield f"{call.who}: {call.name} of claim {brief(call.claim)} was refused without a reason"


def _has_reason(told: Histories, end: End, call: Call, attempt: Attempt) -> bool:
    """Whether anything may have happened to one of the items of the claim."""
    claim = told.by_claim.get(call.claim or "")
    if claim is None or not claim.items:  # told again, when others had got all of it
        return True
    for item in claim.items:
        if item["item_id"] not in (call.arguments.get("item_ids") or [item["item_id"]]):
            continue
        giving = Giving(item["item_id"], item["deliveries"], claim)
        others = [other for other in told.givings[giving.item] if other.claim.id != claim.id]
        ended = call.name != "acknowledge_items" and any(told.acknowledging(giving))
        expired = item["expires_at"] is not None and micros(item["expires_at"]) <= (attempt.ended_at or 0)
        if (
            ended or expired or giving.number >= MOST_DELIVERIES
            or any(_may_have_begun(told, other, attempt.ended) for other in others if not is_before(other, giving))
            or _hidden(told, end, giving, before=attempt.ended)
            or any(told.about(claim, giving.item, "return_items"))
        ):  # fmt: skip
            return True
    return False


def _may_have_begun(told: Histories, giving: Giving, before: float) -> bool:
    """Whether it was given out before that: its session may have got it first by a check whose answer was lost."""
    return giving.claim.call.began < before or told.may_be_taken_again(giving, before)


def _hidden(told: Histories, end: End, giving: Giving, before: float) -> bool:
    """Whether the item may have been given out after that in an answer that was lost."""
    receipts = end.receipts.get(next(i["message_id"] for i in giving.claim.items if i["item_id"] == giving.item), ())
    total = receipts[0]["deliveries"] if receipts else MOST_DELIVERIES
    known = {other.number for other in told.givings[giving.item]}
    missing = set(range(giving.number + 1, total + 1)) - known
    return (bool(missing) and any(call.began < before for call in told.lost)) or told.may_be_taken_again(giving, before)


# How it was given out


def within_its_lease(told: Histories, end: End) -> Iterator[str]:
    """Nobody gets what somebody holds, or what is to come only after a while."""
    for item, given in told.givings.items():
        for giving, other in pairwise(given):
            if _same_session(giving, other) or not is_before(giving, other):
                continue
            claim = other.claim
            returns = [call for call in told.about(giving.claim, item, "return_items") if call.began < claim.call.ended]
            held = min(told.lease(giving, claim.earliest)[0], told.lease(giving, claim.latest)[0])
            if not returns and claim.latest < held:
                yield f"item {brief(item)}: given out in a lease: {other}, {giving} before it"
            for call in returns:
                delay = call.arguments.get("delay", 0) * SECOND
                if call.answered and claim.latest < call.began_at - SLACK + delay:
                    yield f"item {brief(item)}: given out before its delay was over: {other}"


def _same_session(one: Giving, other: Giving) -> bool:
    return one.claim.is_check and other.claim.is_check and one.claim.call.session == other.claim.call.session


def counted(told: Histories, end: End) -> Iterator[str]:
    """Each giving-out is one delivery more, but for a session that checks again, and five are the most."""
    for item, given in told.givings.items():
        for one, other in pairwise(given):
            if one.number == other.number and one.claim.id != other.claim.id and not _same_session(one, other):
                yield f"item {brief(item)}: two are the same: {one}, {other}"
        for one in given:
            for other in given:
                if one.number > other.number and one.claim.call.ended < other.claim.call.began:
                    yield f"item {brief(item)}: counted backwards: {one}, then {other}"
        missing = {*range(1, given[-1].number)} - {giving.number for giving in given}
        if len(missing) > len(told.lost):
            yield f"item {brief(item)}: {len(missing)} deliveries to nobody"
        if given[-1].number > MOST_DELIVERIES:
            yield f"item {brief(item)}: given out once more: {given[-1]}"


def in_time(told: Histories, end: End) -> Iterator[str]:
    """What has expired is not given out."""
    for claim in told.claims:
        for item in claim.items:
            if item["expires_at"] is not None and micros(item["expires_at"]) <= claim.earliest:
                yield f"item {brief(item['item_id'])}: given out after it expired, in claim {brief(claim.id)}"


def in_order(told: Histories, end: End) -> Iterator[str]:
    """Urgent ones first, then the oldest, in each answer."""
    sent = _sent_by_message(told)
    for claim in told.claims:
        for one, other in pairwise(claim.items):
            if _outranks(sent, other, one):
                yield f"claim {brief(claim.id)}: item {brief(other['item_id'])} came after {brief(one['item_id'])}"


def _sent_by_message(told: Histories) -> dict[str, Call]:
    return {call.answer["message"]["id"]: call for call in told.sends if call.answer}


def _outranks(sent: Mapping[str, Call], one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether it certainly comes first. Times of messages can be compared within a channel only."""
    if one["urgent"] != other["urgent"]:
        return bool(one["urgent"])
    if one["channel"] == other["channel"]:
        return bool(one["timestamp"] < other["timestamp"])
    older, newer = sent.get(one["message_id"]), sent.get(other["message_id"])
    return older is not None and newer is not None and older.ended < newer.began


def not_passed_over(told: Histories, end: End) -> Iterator[str]:
    """Who claims while an item is free to be taken gets it, before any that comes after it."""
    sent, items = _sent_by_message(told), _items(told)
    for id in told.givings:
        for since, until in _free(told, sent, items[id]):
            for claim in told.claims:
                if not (since <= claim.earliest and claim.latest < until):
                    continue
                if any(_outranks(sent, items[id], other) for other in claim.items):
                    yield f"item {brief(id)}: passed over by claim {brief(claim.id)} of {claim.call.who}"
                elif _had_room(claim):
                    yield f"item {brief(id)}: missed by a claim of {claim.call.who} that found {len(claim.items)}"


def _free(told: Histories, sent: Mapping[str, Call], item: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    """Spans in which the item certainly waited and nobody held it, each ended by its next giving-out."""
    given = told.givings[item["item_id"]]
    for index, giving in enumerate(given):
        if giving.claim.until is None or (index and given[index - 1].number == giving.number):
            continue
        if told.may_be_taken_again(giving, giving.claim.call.ended):  # then somebody may have had it before
            continue
        if giving.number == 1:
            call = sent.get(item["message_id"])
            since = call.ended_at if call else None
        elif index and given[index - 1].number == giving.number - 1:
            since = _freed(told, given[index - 1], giving.claim.earliest)
        else:
            since = None
        if since is not None:
            yield since, giving.claim.earliest


def _freed(told: Histories, giving: Giving, at: int) -> int | None:
    """When the item was certainly free again."""
    if told.may_be_taken_again(giving):
        return None
    returns = [*told.about(giving.claim, giving.item, "return_items")]
    if not returns:
        return told.lease(giving, at)[1]
    (call, *more) = returns
    if more or call.ended_at is None:
        return None
    return call.ended_at + (SLACK + call.arguments["delay"] * SECOND if call.arguments.get("delay") else 0)


def _had_room(claim: Claim) -> bool:
    """Whether it was told everything it gave out, and would have given out more."""
    was_told_at_once = len(claim.call.attempts) == 1 or not claim.call.attempts[0].is_unknown
    return was_told_at_once and not claim.is_check and len(claim.items) < claim.call.arguments.get("limit", 10)


def told_again(told: Histories, end: End) -> Iterator[str]:
    """A repeated claim is told what it was told before, without what was taken from it since."""
    for call in told.calls:
        answers = [attempt for attempt in call.answered if call.name in ("claim_items", "check_inbox")]
        for first, later in pairwise(answers):
            yield from _differences(told, end, call, first, later)


def _differences(told: Histories, end: End, call: Call, first: Attempt, later: Attempt) -> Iterator[str]:
    before, after = first.answer or {}, later.answer or {}
    if (before["claim_id"], before["lease_until"]) != (after["claim_id"], after["lease_until"]):
        yield f"{call.who}: a repeated {call.name} made another claim"
        return
    claim = told.by_claim.get(before["claim_id"])
    remain = [item["item_id"] for item in after["items"]]
    if claim is None:
        return
    if remain != [item["item_id"] for item in before["items"] if item["item_id"] in remain]:
        yield f"{call.who}: a repeated {call.name} was told of other items"
    for item in before["items"]:
        if item["item_id"] not in remain and not _was_taken(told, end, claim, item, later):
            yield f"item {brief(item['item_id'])}: not told to {call.who}, who repeated its claim"


def _was_taken(told: Histories, end: End, claim: Claim, item: Mapping[str, Any], later: Attempt) -> bool:
    giving = Giving(item["item_id"], item["deliveries"], claim)
    others = [other for other in told.after(giving) if other.claim.call.began < later.ended]
    returns = [call for call in told.about(claim, giving.item, "return_items") if call.began < later.ended]
    return bool(others or returns) or _hidden(told, end, giving, before=later.ended)


RULES = (
    sent_once, items_are_as_sent, ends_once, one_winner, too_late, refused_for_a_reason, within_its_lease, counted,
    in_time, in_order, not_passed_over, told_again,
)  # fmt: skip
