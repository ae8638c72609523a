"""The seam between what operations mean and where rows live. Nothing above this page knows the engine.

A store runs plain functions in transactions, in one of these lanes:

    READ     sees one consistent snapshot, never waits for a write
    SEARCH   a read whose full-text index has caught up with everything that was acknowledged before
    ASIDE    of a store that several processes share: a statement beside everything else, in no order, that need not
             survive a crash
    WRITE    alone in a savepoint: whatever it raises, nothing of it stays
    APPEND   a write that checks first and then only numbers, appends and counts: it buffers, so that a group of calls
             costs one statement per table. A refusal must come before the first of these

A call is over when its outcome is delivered; a write's comes after its commit is on disk. To refuse a call and still
keep what it wrote, return the error instead of raising it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, MutableMapping, Sized
from typing import Any, NamedTuple, Protocol, TypeVar

from ..metrics import Histogram
from .query import Query

T = TypeVar("T")


class Lane(enum.IntEnum):
    READ = 0
    SEARCH = 1
    WRITE = 2
    APPEND = 3
    ASIDE = 4


class Row(Protocol):
    """One row of a result: columns by name."""

    def __getitem__(self, name: str, /) -> Any: ...


class Hits(NamedTuple):
    """What a search found. One that took too long is not complete."""

    rows: list[Any]
    is_complete: bool


class Place(NamedTuple):
    """A new message's place: its internal id, its numbers in the channel, its time."""

    id: int
    number: int
    chats: int
    at: int


class Standing(NamedTuple):
    """Where a channel stands, with everything that was placed so far."""

    chats: int
    at: int


class News(NamedTuple):
    """What was committed: the epoch since then, and the newest positions of spaces that grew."""

    epoch: int
    positions: Mapping[int, int]


class Sizes(NamedTuple):
    """Bytes on disk: of the rows, and of the full-text index."""

    database: int
    fulltext: int


class NeedsWrite(Exception):
    """Raised by a call in a lane that reads: run it again in WRITE."""


class Reading(Protocol):
    """A transaction that reads. `now` is the store's clock in microseconds, `epoch` how often something was to be
    forgotten until then; statements are named in `sql/`."""

    now: int
    epoch: int
    writes: bool

    @property
    def encoded(self) -> Encoded: ...

    def one(self, statement: str, /, **values: Any) -> Row | None: ...
    def the(self, statement: str, /, **values: Any) -> Row:
        """The one row that must be there."""
        ...

    def all(self, statement: str, /, **values: Any) -> list[Row]: ...
    def search(self, query: Query, *, places: list[str], limit: int) -> Hits:
        """The newest messages that match in any of the places (see `place_of`), in no order."""
        ...

    def sizes(self) -> Sizes: ...


class Writing(Reading, Protocol):
    """A transaction that writes."""

    @property
    def memo(self) -> MutableMapping[Any, Any]:
        """Facts that hold until `forget`, or until another process writes: ids of names, who is a member of what."""
        ...

    @property
    def tallies(self) -> MutableMapping[Any, Any]:
        """Rows that this process has read or is about to write, until `forget`, or until another process writes."""
        ...

    def run(self, statement: str, /, **values: Any) -> int:
        """Run it now; the number of rows it changed, or the id of the row it inserted."""
        ...

    def later(self, statement: str, /, **values: Any) -> None:
        """Run it before the commit, together with others of its kind. Nobody may need it before."""
        ...

    def mark(self, token: object) -> None:
        """What this call runs `later` is about that, and a call that needs it will `settle` the same token."""
        ...

    def settle(self, token: object) -> None:
        """Make sure that what was marked so can be read."""
        ...

    def place(self, channel_id: int, *, chat: bool) -> Place:
        """The next place in a channel, whose counters move on."""
        ...

    def standing(self, channel_id: int) -> Standing: ...

    def event(
        self, space_id: int, kind: str, *, actor_id: int | None, subject: str, channel_id: int | None = None,
        audience_id: int | None = None, payload: str = "",
    ) -> None:  # fmt: skip
        """Append to the space's log of events, at the next position."""
        ...

    def forget(self) -> None:
        """Something cached may be wrong from here on, also who holds which key: drop it everywhere."""
        ...


class Encoded(Protocol):
    """A bounded cache of things that never change, by a number that the service chooses."""

    def get(self, id: int, /) -> Sized | None: ...
    def put(self, id: int, content: Sized, /) -> None: ...


Call = Callable[[Any], Any]
Done = Callable[[Any, BaseException | None], None]
Outcome = tuple[Done, Any, BaseException | None]


class Measures(NamedTuple):
    """What a store knows of itself."""

    calls: Mapping[str, int]  # begun, by lane; appends count as writes, which they share a queue with
    waiting: Mapping[str, int]
    group_calls: Histogram  # of every durable commit
    commit_seconds: Histogram
    messages: int  # ever given a place
    events: int  # ever committed
    index_lag: int  # of them not in the full-text index
    database_bytes: Mapping[str, int]  # by file, the write-ahead log counted with it
    disk_free: int | None  # where they lie, if the system says so


class Store(Protocol):
    """Where everything lives."""

    @property
    def engine(self) -> tuple[str, str]:
        """Its name and version."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether several relays may serve the same rows."""
        ...

    @property
    def epoch(self) -> int:
        """Moves on after every commit that called `forget`, as far as is known here."""
        ...

    def submit(self, lane: Lane, call: Call, done: Done) -> None:
        """Run `call` with a transaction; `done(result, error)` is told the outcome. A call may have a `key` (text,
        agent's id), which it will ask for as `repeat`: so a group's can be looked for together."""
        ...

    def ask(self, lane: Lane, call: Callable[[Any], T]) -> T:
        """Run `call` and wait for its outcome."""
        ...

    def watch(self, told: Callable[[News], None]) -> None:
        """Have `told` called soon after every commit, of other processes too, on a thread of the store's. It may be
        told something twice, and out of turn."""
        ...

    def listen(self, is_wanted: bool) -> None:
        """Somebody waits for what `watch` tells, or nobody does: then a store need not look for it."""
        ...

    def scrub(self, done: Callable[[bool], object]) -> None:
        """Leave nothing of what was deleted in the store's own files, as far as the engine can. `done` is told, on a
        thread of the store's, whether that is so; somebody who reads may be in the way."""
        ...

    def measures(self) -> Measures:
        """Right away, from any thread, without asking a lane."""
        ...

    def close(self) -> None:
        """Finish what was submitted, then let go of the files."""
        ...


def place_of(*, space_id: int | None = None, channel_id: int | None = None, agent_id: int | None = None) -> str:
    """The word that stands for a place in the full-text index: a space, a channel, or an agent's direct messages."""
    if channel_id is not None:
        return f"c{channel_id}"
    return f"s{space_id}" if agent_id is None else f"d{agent_id}"
