"""Interrupts and pauses as they travel."""

from typing import Literal, TypedDict

from ._tasks import Transition


class Interrupt(TypedDict):
    """`state` is pending, acknowledged, withdrawn or expired; to have seen it is not to acknowledge it. `purpose` is
    attention, or pause or resume where it belongs to a pause. `note` is what was said with the last step, `version`
    grows with every one.
    """

    id: str
    purpose: str
    reason: str
    state: str
    version: int
    sender: str
    sent_by: str
    target: str
    pause_id: str | None
    note: str | None
    message_id: str | None
    created_at: str
    expires_at: str
    ended_at: str | None


class InterruptChange(TypedDict):
    """`idempotent`: the caller had done that already, and nothing happened."""

    interrupt: Interrupt
    idempotent: bool


class SeenInterrupt(Interrupt):
    """`seen_at` is when it was last given out to the one it is for."""

    seen_at: str | None


class InterruptList(TypedDict):
    interrupts: list[SeenInterrupt]
    next_cursor: str | None
    has_more: bool


class InterruptDetails(TypedDict):
    interrupt: SeenInterrupt
    history: list[Transition]


class Pause(TypedDict):
    """`state` is paused, resumed, or expired when its time was over. `told` are agents, `acknowledged` those of them
    who said that they stopped; `pending`: not all of them are told yet."""

    id: str
    of: Literal["channel", "group"]
    name: str
    reason: str
    state: str
    version: int
    paused_by: str
    note: str | None
    created_at: str
    expires_at: str
    ended_at: str | None


class CountedPause(Pause):
    told: int
    acknowledged: int
    pending: bool


class PauseChange(TypedDict):
    pause: CountedPause
    idempotent: bool


class PauseList(TypedDict):
    """Those that are on, newest first."""

    pauses: list[CountedPause]
