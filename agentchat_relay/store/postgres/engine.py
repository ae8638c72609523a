"""The store on Postgres: a writer that takes turns with those of other processes, a few readers, and a listener.

Nothing that counts is kept in the process: it may end at any moment, and any number of others may serve the same
database.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg

from agentchat.errors import NotConfigured, Unavailable

from ..cache import Shared
from ..fulltext import FullText
from ..groups import Groups
from ..lane import LaneThread, Waiting, tell
from ..seam import Call, Done, Lane, Measures, News, Outcome
from . import connection as connections
from .connection import LEAST_VERSION, WRITER, Connection, Link, control, reason
from .faults import as_ours
from .fulltext import SearchTable
from .index import SESSION
from .listener import Extent, Heard, Listener, look
from .migrate import due, migrate, prepare
from .roles import VACUUMED, grant
from .transaction import WriteTransaction, read_group, run_aside

T = TypeVar("T")
Connect = Callable[..., Connection]
_LONGEST_WAIT = 60.0
_READERS = 4
_log = logging.getLogger("agentchat.relay")


class Postgres:
    """The store in one schema of one database, which the URL names. `deliver` hands over the outcomes of a group, by
    default on the lane's own thread."""

    def __init__(
        self,
        url: str,
        *,
        deliver: Callable[[Sequence[Outcome]], object] = tell,
        connect: Connect = connections.connect,
        readers: int = _READERS,
        index_pause: float = 0.2,  # seconds: rows that are indexed together cost less each
    ) -> None:
        self._url, self._connect = url, connect
        self._deliver = deliver
        self._shared = Shared()
        self._turn, version, news = self._open()
        self._positions, self._extent = {**news.positions}, news.extent or Extent(0, {})
        self._shared.moved(news.epoch)
        self.engine = "postgres", version
        self._watcher: Callable[[News], None] = lambda news: None
        self._channel = f"agentchat_{self._turn & (1 << 64) - 1:016x}"
        self._writing = Link(lambda: connect(url, WRITER))
        transaction = WriteTransaction(
            self._writing, self._shared, turn=self._turn, me=1 + secrets.randbits(60), channel=self._channel
        )
        self._transaction = transaction
        self._groups = Groups(transaction, transaction.begin, as_ours, begun=self._begun)
        self._writer = LaneThread("writer", self._write, stop=self._writing.close)
        self._beside = Link(lambda: connect(url, "-c synchronous_commit=off"))
        self._aside = LaneThread("aside", self._run_aside, stop=self._beside.close)
        self._scrubbing = Link(lambda: connect(url, "-c statement_timeout=0"))
        self._was_told = False  # why the tables could not be vacuumed
        self._scrubber = LaneThread("scrubber", self._scrub, stop=self._scrubbing.close)
        self._readers = [self._reader(f"reader-{number}") for number in range(1, readers + 1)]
        self._searched = SearchTable(Link(lambda: connect(url, SESSION)), self._shared, self._again)
        self._fulltext = FullText(self._searched, deliver, as_ours, index_pause)
        self._listener = Listener(Link(lambda: connect(url)), self._channel, self._told)
        self._lanes = {
            Lane.APPEND: self._writer,
            Lane.WRITE: self._writer,
            Lane.ASIDE: self._aside,
            Lane.SEARCH: self._fulltext.lane,
        }
        for lane in (self._writer, self._aside, self._scrubber, *self._readers, self._fulltext.lane):
            lane.start()
        self._listener.start()

    is_shared = True

    @property
    def epoch(self) -> int:
        return self._shared.epoch

    def submit(self, lane: Lane, call: Call, done: Done) -> None:
        thread = self._lanes.get(lane) or min(self._readers, key=lambda reader: reader.load)
        thread.submit(Waiting(lane, call, done))

    def ask(self, lane: Lane, call: Callable[[Any], T]) -> T:
        over = threading.Event()
        outcome: list[Any] = []

        def done(result: Any, error: BaseException | None) -> None:
            outcome.extend((result, error))
            over.set()

        self.submit(lane, call, done)
        if not over.wait(_LONGEST_WAIT):
            raise Unavailable("The store did not answer in time.")
        if outcome[1] is not None:
            raise outcome[1]
        result: T = outcome[0]
        return result

    def watch(self, told: Callable[[News], None]) -> None:
        self._watcher = told

    def scrub(self, done: Callable[[bool], object]) -> None:
        def over(is_clean: Any, error: BaseException | None) -> None:
            done(bool(is_clean))

        self._scrubber.submit(Waiting(Lane.ASIDE, vacuum, over))

    def listen(self, is_wanted: bool) -> None:
        """The database tells by itself."""

    def measures(self) -> Measures:
        lanes = {"read": self._readers, "search": [self._fulltext.lane], "write": [self._writer]}
        return Measures(
            calls={name: sum(lane.calls for lane in some) for name, some in lanes.items()},
            waiting={name: sum(lane.waiting for lane in some) for name, some in lanes.items()},
            group_calls=self._groups.calls,
            commit_seconds=self._groups.seconds,
            messages=max(self._groups.messages, self._extent.messages),
            events=sum([*self._positions.values()]),
            index_lag=self._searched.index.lag,
            database_bytes=self._extent.bytes,
            disk_free=None,
        )

    def close(self) -> None:
        self._listener.close()
        for lane in (self._fulltext.lane, *self._readers, self._scrubber, self._aside, self._writer):
            lane.close()

    # Opening

    def _open(self) -> tuple[int, str, Heard]:
        """Look at the database, and bring its tables to our form; the number of the lock that is a turn, what Postgres
        this is, and how things are."""
        with _opened(self._url, self._connect) as (connection, turn):
            prepare(connection, turn)
            version = (connection.pgconn.parameter_status(b"server_version") or b"").decode()
            return turn, version.partition(" ")[0], look(connection)

    # The writer's thread

    def _write(self, group: Sequence[Waiting]) -> None:
        if group:
            self._deliver(self._groups.run([*group]))
            self._watcher(News(self._shared.epoch, self._transaction.committed()))
            self._fulltext.written()

    def _begun(self, group: list[Waiting]) -> None:
        self._writer.take_along(group)
        self._transaction.expect(group)

    def _run_aside(self, group: Sequence[Waiting]) -> None:
        if group:
            self._deliver(run_aside(self._beside, group))

    def _scrub(self, group: Sequence[Waiting]) -> None:
        for waiting in group:
            left = ""
            try:
                left = "; ".join(waiting.call(self._scrubbing.get()))
            except psycopg.Error as error:
                left = reason(error)
            if left and not self._was_told:
                _log.warning("Bytes of what was deleted are still in the tables' files: %s", left)
            self._was_told = bool(left)
            tell([(waiting.done, not left, None)])

    # The readers' threads

    def _reader(self, name: str) -> LaneThread:
        link = Link(lambda: self._connect(self._url))

        def read(group: Sequence[Waiting]) -> None:
            if group:
                self._deliver(read_group(link, self._shared, group, self._again))

        return LaneThread(name, read, stop=link.close)

    def _again(self, waiting: Waiting) -> None:
        """A call that was taken for a read, and is none."""
        waiting.lane = Lane.WRITE
        try:
            self._writer.submit(waiting)
        except Unavailable as error:
            self._deliver([(waiting.done, None, error)])

    # The listener's thread

    def _told(self, news: Heard) -> None:
        self._shared.moved(news.epoch)
        self._positions.update(news.positions)
        self._extent = news.extent or self._extent
        self._watcher(News(self._shared.epoch, news.positions))
        self._fulltext.written()  # whoever wrote it may have ended since


def vacuum(connection: Connection) -> list[str]:
    """Have Postgres tidy the tables from which messages and files vanish; what it says if it did not."""
    said: list[str] = []

    def hear(notice: Any) -> None:
        said.append(notice.message_primary)

    connection.add_notice_handler(hear)
    try:
        for table in VACUUMED:
            control(connection, f"VACUUM (SKIP_LOCKED) {table}")
    finally:
        connection.remove_notice_handler(hear)
    return said


def migrated(url: str, *, after: bool, role: str | None) -> tuple[list[str], list[str]]:
    """Bring the tables to our form, and let a role serve them; the names of what was done, and of what is still to come
    after an upgrade."""
    with _opened(url, connections.connect) as (connection, turn):
        done = [str(step) for step in migrate(connection, turn, after=after)]
        if role is not None:
            grant(connection, role)
        return done, [str(step) for step in due(connection)]


@contextmanager
def _opened(url: str, connect: Connect) -> Iterator[tuple[Connection, int]]:
    """A connection to a database that is fit for a relay, and the number of its lock."""
    try:
        connection = connect(url)
    except psycopg.OperationalError as error:
        raise NotConfigured(f"The database of --store cannot be reached: {reason(error)}") from error
    try:
        yield connection, _checked(connection)
    except psycopg.Error as error:
        raise NotConfigured(f"The database of --store cannot be used: {reason(error)}") from error
    finally:
        connection.close()


def _checked(connection: Connection) -> int:
    """Refuse what a relay cannot rely on; returns the number of this schema's lock."""
    asked = (
        "SELECT current_setting('server_version_num'), current_setting('server_encoding'), pg_is_in_recovery(), "
        "current_setting('fsync'), current_setting('synchronous_commit'), current_schema(), "
        "hashtextextended('agentchat ' || current_schema(), 0)"
    )
    ((version, encoding, is_standby, fsync, synchronous, schema, turn),) = control(connection, asked)
    if int(version or 0) < LEAST_VERSION:
        raise NotConfigured(f"The relay needs Postgres {LEAST_VERSION // 10000} or newer.")
    if encoding != "UTF8":
        raise NotConfigured(f"The database must have the encoding UTF8, not {encoding}; make one that has.")
    if is_standby == "t":
        raise NotConfigured("This Postgres is a standby and takes no writes; name the primary.")
    if schema is None:
        raise NotConfigured("The schema of the search_path is not there; make it: CREATE SCHEMA …")
    if fsync != "on" or synchronous == "off":
        _log.warning(
            "This Postgres does not keep what it acknowledges (fsync=%s, synchronous_commit=%s): a power loss may take "
            "messages that were answered with success.",
            fsync,
            synchronous,
        )
    return int(turn or 0)
