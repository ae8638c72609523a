"""Decides whether a round kept its promises, from two records alone: what senders were told and what the relay stored.

It knows nothing of clients, retries and faults, so that it cannot share their mistakes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Sent(NamedTuple):
    """What a sender was told about one message: the id it was acknowledged with, or an error."""

    content: str
    id: str | None = None
    error: str | None = None  # the error's class and code
    ours: bool = True  # whether it was an AgentChatError


class Row(NamedTuple):
    """A message as the relay stored it."""

    id: str
    content: str


def violations(expected: Sequence[str], history: Sequence[Sent], stored: Sequence[Row]) -> list[str]:
    """What is wrong with a round. Of each `expected` message some sender must have told the outcome."""
    return [*_about_senders(expected, history), *_about_store(expected, stored), *_about_both(history, stored)]


def _about_senders(expected: Sequence[str], history: Sequence[Sent]) -> Iterator[str]:
    told = {sent.content for sent in history}
    yield from (f"{content}: no sender told its outcome" for content in expected if content not in told)
    for sent in history:
        if not sent.ours:
            yield f"{sent.content}: {sent.error} is no AgentChatError"
        elif sent.error is not None and "idempotency_mismatch" in sent.error:
            yield f"{sent.content}: its key came with two bodies"


def _about_store(expected: Sequence[str], stored: Sequence[Row]) -> Iterator[str]:
    for content, times in Counter(row.content for row in stored).items():
        if times > 1:
            yield f"{content}: stored {times} times"
        if content not in expected:
            yield f"{content}: stored, but nobody sent it"
    given = Counter(row.id for row in stored)
    yield from (f"{id_}: given to {times} messages" for id_, times in given.items() if times > 1)


def _about_both(history: Sequence[Sent], stored: Sequence[Row]) -> Iterator[str]:
    for sent in history:
        ids = [row.id for row in stored if row.content == sent.content]
        if sent.id is not None and ids != [sent.id]:
            yield f"{sent.content}: acknowledged as {sent.id}, stored as {' and '.join(ids) or 'nothing'}"
