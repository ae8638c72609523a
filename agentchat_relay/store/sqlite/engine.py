"""SQLite: one file for everything that counts, one for the full-text index, one writer thread that commits in groups.

agentchat.db   WAL, synchronous=FULL. An outcome is delivered after the commit that holds it is on disk
search.db      made from the former and can be made again; its thread answers searches too (`fulltext.py`)

With `neighbours` several processes have the directory open at once (`neighbours.py`); else this one is alone.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext, suppress
from time import monotonic
from typing import Any, TypeVar

from agentchat.errors import Unavailable

from ...wire import now
from ..cache import Shared
from ..faults import as_ours
from ..fulltext import FullText
from ..groups import Groups, NoDatabase
from ..lane import LaneThread, Waiting, tell
from ..seam import Call, Done, Lane, Measures, News, Outcome
from . import damage
from .fulltext import SearchFile
from .index import Index
from .migrate import migrate
from .neighbours import Lookout, Own, Turn, refusal
from .transaction import WriteTransaction, read_group

T = TypeVar("T")
Connect = Callable[[str], Any]
_LONGEST_WAIT = 60.0
_BETWEEN_CHECKPOINTS = 2.0  # seconds
_LONG_LOG = 12_000  # pages
_BETWEEN_RESTARTS = 5.0
_CHECKPOINT_STEPS = 20_000  # statements that wrote: about 40 MB of log. More is slower, for it leaves the cache
_log = logging.getLogger("agentchat.relay")


def connect(path: str) -> sqlite3.Connection:
    """A connection for one thread."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    connection.row_factory = sqlite3.Row
    return connection


def give_up(error: Exception) -> None:
    """End this process as a crash would, with everything acknowledged in the log on the disk."""
    _log.critical(
        "The disk failed to keep agentchat.db (%s). The relay ends, so that nothing acknowledged gets lost. Look at "
        "the disk, then start the relay again: it writes all of its log once more.",
        error,
    )
    os._exit(1)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _free(directory: str) -> int | None:
    try:
        found = os.statvfs(directory)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


class Sqlite:
    """The store in one directory. `deliver` hands over the outcomes of a group, by default on the lane's own thread.
    `lost` is told, on any thread and maybe more than once, that the directory was removed: then nothing is written."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        deliver: Callable[[Sequence[Outcome]], object] = tell,
        synchronous: str = "FULL",
        connect: Connect = connect,
        index_pause: float = 0.02,
        give_up: Callable[[Exception], object] = give_up,
        neighbours: bool = False,
        lost: Callable[[], object] = lambda: None,
    ) -> None:
        self.path = os.path.join(directory, "agentchat.db")
        self._has_neighbours = neighbours
        self._turn = Turn(str(directory)) if neighbours else nullcontext()
        self._deliver = deliver
        self._synchronous = synchronous
        self._connect = connect
        self._give_up = give_up
        self._checkpoint_at, self._checkpoint_step = monotonic() + _BETWEEN_CHECKPOINTS, _CHECKPOINT_STEPS
        self._cut_short = False
        self._watcher: Callable[[News], None] = lambda news: None
        self._restart_at = 0.0
        self._scrubbing: list[Callable[[bool], object]] = []
        self._shared = Shared(counted=neighbours)
        self._index = Index(os.path.join(directory, "search.db"), self.path, connect, self._forget, shared=neighbours)
        keeper = SearchFile(self._index, self._shared, self._again)
        self._fulltext = FullText(keeper, deliver, as_ours, index_pause)
        self._writer = LaneThread("writer", self._write, start=self._open_writer, stop=self._close_writer)
        self._reader = LaneThread("reader", self._read, start=self._open_reader, stop=self._close_reader)
        self._lanes = (self._reader, self._fulltext.lane, self._writer, self._writer, self._writer)
        started: list[LaneThread] = []
        try:
            # Two that make a new directory at once would each find it half made.
            with damage.disk_faults(str(directory)), self._turn:
                damage.check(self.path)
                damage.make_files(str(directory))
                self._own = Own(self.path, lost)
                for lane in (self._writer, self._reader, self._fulltext.lane):
                    lane.start()
                    started.append(lane)
        except BaseException:
            for lane in started:
                lane.close()
            raise
        self._lookout = Lookout(self.path, connect, self._told, self._own.check) if neighbours else None

    is_shared = False
    engine = "sqlite", sqlite3.sqlite_version

    @property
    def epoch(self) -> int:
        return self._shared.epoch

    def submit(self, lane: Lane, call: Call, done: Done) -> None:
        if self._has_neighbours:
            self._own.check()
        self._lanes[lane].submit(Waiting(lane, call, done))

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

    def listen(self, is_wanted: bool) -> None:
        if self._lookout is not None:
            self._lookout.listen(is_wanted)

    def scrub(self, done: Callable[[bool], object]) -> None:
        self._scrubbing.append(done)
        self._writer.wake()

    def measures(self) -> Measures:
        lanes = {"read": self._reader, "search": self._fulltext.lane, "write": self._writer}
        files = {os.path.basename(path): path for path in (self.path, self._index.path)}
        return Measures(
            calls={name: lane.calls for name, lane in lanes.items()},
            waiting={name: lane.waiting for name, lane in lanes.items()},
            group_calls=self._groups.calls,
            commit_seconds=self._groups.seconds,
            messages=self._groups.messages,
            events=sum([*self._transaction.positions.values()]),
            index_lag=self._index.lag,
            database_bytes={name: _size(path) + _size(f"{path}-wal") for name, path in files.items()},
            disk_free=_free(os.path.dirname(self.path)),
        )

    def close(self) -> None:
        if self._lookout is not None:
            self._lookout.close()
        self._fulltext.lane.close()
        self._reader.close()
        self._writer.close()

    def _told(self, news: News) -> None:
        """What another process has committed."""
        self._shared.moved(news.epoch)
        self._watcher(news)

    def _again(self, waiting: Waiting) -> None:
        """A call that was taken for a read, and is none."""
        waiting.lane = Lane.WRITE
        try:
            self._writer.submit(waiting)
        except Unavailable as error:
            self._deliver([(waiting.done, None, error)])

    def _forget(self, through: int) -> None:
        """The words of deleted messages, once they are out of the index."""

        def call(transaction: WriteTransaction) -> None:
            self._connection.execute("DELETE FROM unindexed WHERE id <= ?", (through,))

        with suppress(Unavailable):  # then the next ones take them along
            self._writer.submit(Waiting(Lane.WRITE, call, lambda result, error: None))

    # The writer's thread

    def _open_writer(self) -> None:
        try:
            self._connection = connection = self._connect(self.path)
            damage.check_form(self.path, connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("PRAGMA wal_autocheckpoint = 0")  # see _checkpoint
            connection.execute("PRAGMA journal_size_limit = 67108864")
            connection.execute("PRAGMA secure_delete = ON")  # what was deleted is overwritten: see scrub
            # What a killed process had written, but not yet synced, is there now and could be lost yet: make it durable
            # before anybody is told of it.
            connection.execute(
                "PRAGMA busy_timeout = 1000"
            )  # a backup may be reading, for much longer than anybody waits
            self._bring_up_to_date(
                "PASSIVE" if self._has_neighbours else "TRUNCATE"
            )  # others have no time to wait for it
            connection.execute("PRAGMA busy_timeout = 30000")
            damage.check_end(self.path, connection)
            migrate(connection, "sqlite")
            self._transaction = WriteTransaction(connection, self._shared)
            self._transaction.positions.update(connection.execute("SELECT id, position FROM spaces").fetchall())
            self._groups = Groups(self._transaction, self._begin, as_ours, forgot=self._move_on)
        except sqlite3.Error as error:
            raise damage.unusable(self.path, error) from error

    def _close_writer(self) -> None:
        self._checkpoint()
        self._connection.close()

    def _write(self, group: Sequence[Waiting]) -> None:
        if self._scrubbing:
            self._scrub()
        if not group:
            return
        with ExitStack() as turn:
            try:
                turn.enter_context(self._turn)
                self._own.check()
            except (OSError, NoDatabase) as error:  # nothing was begun
                refused = refusal(error, self.path) if isinstance(error, OSError) else error
                self._deliver([(waiting.done, None, refused) for waiting in group])
                return
            calls = [*group]
            if self._has_neighbours:  # it may have waited for its turn
                self._writer.take_along(calls)
            outcomes = self._groups.run(calls)
        self._deliver(outcomes)
        self._watcher(News(self._shared.epoch, self._transaction.committed()))
        self._fulltext.written()
        if monotonic() >= self._checkpoint_at or self._transaction.steps >= self._checkpoint_step:
            self._checkpoint()

    def _begin(self) -> None:
        self._transaction.begin(now())

    def _move_on(self) -> None:
        if not self._shared.is_counted:
            self._shared.epoch += 1

    def _checkpoint(self) -> None:
        """Bring the log into the database. SQLite would do that by itself, and tell nobody what an fsync said.

        A checkpoint that a reader's snapshot cuts short leaves its part for the next one to sync. If that fails, the
        kernel takes all of it for written, and so does SQLite, which then begins the log anew: acknowledged messages
        would be nowhere on the disk. Only a new process reads the whole log again. So this one ends, at once: to close
        the database would be a checkpoint as well. (The log's own fsyncs are harmless: what was refused is written
        again. Without a cut the whole part is written again.) Where several processes write, any of them may have been
        cut short.
        """
        self._checkpoint_at = monotonic() + _BETWEEN_CHECKPOINTS
        self._checkpoint_step = self._transaction.steps + _CHECKPOINT_STEPS
        try:
            _, log = self._bring_up_to_date("PASSIVE")
            if log > _LONG_LOG and monotonic() >= self._restart_at:
                self._begin_log_anew()
        except (sqlite3.Error, OSError) as error:
            self._failed_to_keep(error)

    def _scrub(self) -> None:
        """What was deleted is overwritten in the database, but still in its log."""
        waiting, self._scrubbing = self._scrubbing, []
        is_clean = False
        self._connection.execute("PRAGMA busy_timeout = 250")
        try:
            with self._turn:
                is_clean = not self._bring_up_to_date("TRUNCATE")[0]
        except (sqlite3.Error, OSError) as error:
            self._failed_to_keep(error)
        finally:
            self._connection.execute("PRAGMA busy_timeout = 30000")
            for done in waiting:
                done(is_clean)

    def _failed_to_keep(self, error: sqlite3.Error | OSError) -> None:
        is_cut_short = self._cut_short or self._has_neighbours
        if is_cut_short and getattr(error, "sqlite_errorname", "") == "SQLITE_IOERR_FSYNC":
            self._give_up(error)
        _log.error("agentchat.db could not be brought up to date, its log grows: %s", error)

    def _begin_log_anew(self) -> None:
        """Readers that follow each other without a gap would keep SQLite from it for ever, so they are waited for: for
        a moment, and if that does not help (a backup reads), not again soon."""
        self._connection.execute("PRAGMA busy_timeout = 500")
        try:
            with self._turn:
                in_the_way, _ = self._bring_up_to_date("RESTART")
        finally:
            self._connection.execute("PRAGMA busy_timeout = 30000")
        if in_the_way:
            self._restart_at = monotonic() + _BETWEEN_RESTARTS

    def _bring_up_to_date(self, mode: str) -> tuple[bool, int]:
        """Returns whether a reader was in the way, and how many pages the log has."""
        busy, log, done = self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        self._cut_short = done < log
        return bool(busy), int(log)

    # The reader's thread

    def _open_reader(self) -> None:
        self._reading = self._connect(self.path)
        self._reading.execute("PRAGMA query_only = ON")

    def _close_reader(self) -> None:
        self._reading.close()

    def _read(self, group: Sequence[Waiting]) -> None:
        if group:
            self._deliver(read_group(self._reading, self._shared, group, self._again))
