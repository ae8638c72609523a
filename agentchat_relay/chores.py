"""What a running relay does by itself: sweep, retire agents that are gone, purge what had its time, remove contents
that no file names any more.

All of it goes by the clock, which may jump: set by hand, or by a time server minutes after the start. A relay that took
a jump into next year at its word would delete everything it was told to keep for a month. So a clock that jumped is
believed after an hour, and nothing is deleted by it before; and a relay keeps everything for its first minutes, in
which a machine that has just started may still learn the time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from agentchat.errors import AgentChatError

from .http.parts import Parts
from .service import groups, limits, retention, retirement, upkeep, vanishing
from .service.retention import Blob
from .service.work import kinds
from .store.groups import NoDatabase
from .store.seam import Lane, Reading

_BETWEEN = 60.0
_UNTOLD = 5.0  # between two looks for deadlines that other processes set; they may be gone
_AT_FIRST = 600.0  # nothing is purged
_PAUSE = 0.25  # between two looks at what is to vanish: what stirs them comes in crowds
_BETWEEN_VACUUMS = 60.0  # of tables that several relays share
_AT_MOST = 0.25  # of the writer's time
_LAST = 2.0  # for each thing that is finished at the end
_BREATH = 0.02  # for whoever reads, and so is in the way
_HOUR = 3600.0
_log = logging.getLogger("agentchat.relay")
# Goes on while the machine sleeps, unlike the usual one.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Known(NamedTuple):
    """What one process has learnt of the clock, for the next one: how far a steady one is behind it, until when of that
    it is in doubt, and when that was."""

    difference: float
    until: float
    at: float


class DoubtedClock:
    """Readings of a clock. They are not believed while they differ by more than an hour from what a steady one says."""

    def __init__(
        self, steady: Callable[[], float] = lambda: time.clock_gettime(_STEADY), known: Known | None = None
    ) -> None:
        self._steady = steady
        self._difference: float | None = None
        self._until = steady() + _AT_FIRST
        if known is not None:
            self._difference, self._until = known.difference, min(known.until, self._until)

    @property
    def known(self) -> Known:
        return Known(self._difference or 0.0, self._until, self._steady())

    def believed(self, reading: int) -> int | None:
        """A reading in microseconds, or None while it is in doubt."""
        steady = self._steady()
        difference = reading / 1e6 - steady
        before = difference if self._difference is None else self._difference
        if abs(jump := difference - before) > _HOUR:
            _log.warning(
                "The clock jumped by %+.0f s. Nothing is purged by it in the next hour; set it right if it is wrong.",
                jump,
            )
            self._until = steady + _HOUR
        self._difference = difference
        return reading if steady >= self._until else None


class Chores:
    """A task of the relay's event loop, from `start` to `stop`."""

    def __init__(self, parts: Parts) -> None:
        self._ask = parts.ask
        self._store = parts.store
        self._blobs = parts.blobs
        self._retire_after = parts.settings.retire_after
        self._clock = DoubtedClock()
        self._tasks: list[asyncio.Task[None]] = []
        self._purged = self._failed = 0
        self._tidying = asyncio.Lock()
        self._stirred, self._stirred_work = asyncio.Event(), asyncio.Event()
        self._is_stirred = False
        # What vanished may still be in the store's files. Where tables are vacuumed, once is not enough: somebody may
        # have been reading what was there before.
        self._rounds = 2 if self._store.is_shared else 1
        self._dirty, self._scrub_at = self._rounds - 1, 0.0
        self._push = parts.push
        parts.metrics.counter(
            "agentchat_purged_total", "Messages and files deleted because their time was over.", lambda: self._purged
        )
        parts.metrics.counter(
            "agentchat_chores_failed_total", "Failures of what the relay does by itself.", lambda: self._failed
        )

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._push.stirred = self._stir
        chores = (self._go_on, self._run, self._have_vanish, self._keep_time)
        self._tasks = [asyncio.create_task(chore()) for chore in chores]

    async def stop(self) -> None:
        """Finish first what others were promised soon: it may be long until another process comes."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
            await self._try(self._tell_the_rest)
            await self._try(self._have_gone)

    async def _run(self) -> None:
        while True:
            await self._all()
            await asyncio.sleep(_BETWEEN)

    async def _all(self) -> None:
        for chore in (self._sweep, self._retire, self._purge, self._tidy):
            await self._try(chore)

    async def _try(self, chore: Callable[[], Awaitable[None]]) -> None:
        try:
            await chore()
        except NoDatabase:  # which was told of
            self._failed += 1
        except Exception as error:  # a full disk: next time, perhaps
            self._failed += 1
            _log.warning("The chore %s failed: %s", chore.__name__.strip("_"), error)

    async def _sweep(self) -> None:
        while await self._portion(upkeep.sweep):
            pass
        if self._store.is_shared:
            await self._ask(Lane.ASIDE, limits.sweep)

    async def _retire(self) -> None:
        """What waits for the retired is given back even if nobody is retired any more: it may be half done."""
        if self._retire_after:
            while retired := await self._portion(partial(retirement.retire, days=self._retire_after)):
                _log.info("Retired %d agents, not seen for %d days.", retired, self._retire_after)
        while await self._portion(retirement.give_back):
            pass

    async def _purge(self) -> None:
        if (at := await self._believed()) is None:
            return
        while await self._portion(kinds.purge):
            pass
        before = self._purged
        try:
            for channel_id in await self._ask(Lane.READ, partial(retention.due, at=at)):
                while purged := await self._portion(partial(retention.purge, channel_id=channel_id)):
                    self._purged += purged
        finally:
            if self._purged != before:
                await self._ask(Lane.WRITE, retention.finish)

    # Who was told nothing yet

    async def _go_on(self) -> None:
        """Where the last one ended, right at the start: nobody asks whether the clock is right."""
        await self._try(self._tell_groups)

    async def _tell_groups(self) -> None:
        if await self._ask(Lane.READ, groups.is_telling):
            while await self._given_way(groups.fan_out):
                pass

    async def _tell_the_rest(self) -> None:
        """Before this process ends; what is too much for that, the next one goes on with."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST):
                if await self._ask(Lane.READ, groups.is_telling):
                    while await self._ask(Lane.WRITE, groups.fan_out):
                        pass

    # What vanishes

    def _stir(self) -> None:
        """Something was committed. On a thread of the store's."""
        if not self._is_stirred:
            self._is_stirred = True
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        self._stirred.set()
        self._stirred_work.set()

    async def _have_vanish(self) -> None:
        while True:
            self._stirred.clear()
            self._is_stirred = False
            self._wait = _BETWEEN
            await self._try(self._vanish)
            await _wait(self._stirred, self._wait)
            await asyncio.sleep(_PAUSE)

    async def _vanish(self) -> None:
        due = await self._ask(Lane.READ, vanishing.due)
        at = self._clock.believed(due.now)
        is_over = at is not None and due.at is not None and due.at <= at
        if due.is_acknowledged or is_over:
            self._dirty = self._rounds  # though it be stopped in the middle: what it asked for is done all the same
            while await self._given_way(partial(vanishing.vanish, at=at)):
                pass
            self._wait = 0.0  # the next one's time is not known
            await self._tidy()
        elif at is not None and due.at is not None:
            self._wait = min((due.at - at) / 1e6, _BETWEEN)
        if self._dirty:
            await self._scrub()

    async def _have_gone(self) -> None:
        """What was acknowledged is out of the files before this process ends. Tables that several relays share are
        vacuumed by those that are left, or by the next one."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST):
                if (await self._ask(Lane.READ, vanishing.due)).is_acknowledged:
                    self._dirty = self._rounds
                    while await self._ask(Lane.WRITE, partial(vanishing.vanish, at=None)):
                        pass
                while self._dirty and not self._store.is_shared:
                    await self._scrub_now()
                    await asyncio.sleep(_BREATH if self._dirty else 0)

    # What has a deadline, or a lease

    async def _keep_time(self) -> None:
        """What is over by the clock is over for whoever asks; here it is made explicit, so that the others are told."""
        while True:
            self._stirred_work.clear()
            self._is_stirred = False
            self._until_due = self._longest_rest()
            await self._try(self._settle_work)
            await _wait(self._stirred_work, self._until_due)
            await asyncio.sleep(_PAUSE)

    async def _settle_work(self) -> None:
        due = await self._ask(Lane.READ, kinds.due)
        if due.at is None:
            return
        if due.at <= due.now:
            while await self._given_way(kinds.settle):
                pass
            self._until_due = 0.0  # the next one's time is not known
        else:
            self._until_due = min((due.at - due.now) / 1e6, self._until_due)

    def _longest_rest(self) -> float:
        """Until it looks, though nothing was committed that it knows of."""
        return _BETWEEN

    async def _scrub(self) -> None:
        if (left := self._scrub_at - time.monotonic()) <= 0:
            await self._scrub_now()
            left = _BETWEEN_VACUUMS if self._store.is_shared else _PAUSE
            self._scrub_at = time.monotonic() + left
        if self._dirty:
            self._wait = min(self._wait, max(left, 0.0))

    async def _scrub_now(self) -> None:
        clean: asyncio.Future[bool] = self._loop.create_future()
        self._store.scrub(lambda is_clean: self._loop.call_soon_threadsafe(_settle, clean, is_clean))
        self._dirty -= await clean

    async def _portion(self, call: Callable[..., int]) -> int:
        """Have a portion done, then leave the writer to the others for a while. A pass may take minutes, so each
        portion goes by a time that was looked at for itself."""
        if (at := await self._believed()) is None:
            return 0
        return await self._given_way(partial(call, at=at))

    async def _given_way(self, call: Callable[[Any], int]) -> int:
        began = time.monotonic()
        done: int = await self._ask(Lane.WRITE, call)
        await asyncio.sleep((time.monotonic() - began) * (1 / _AT_MOST - 1) if done else 0)
        return done

    async def _believed(self) -> int | None:
        """The time of the store, which is one for all its relays."""

        def look(tx: Reading) -> int:
            return tx.now

        return self._clock.believed(await self._ask(Lane.READ, look))

    async def _tidy(self) -> None:
        async with self._tidying:
            blobs = await self._ask(Lane.READ, retention.dropped)
            while blobs:
                if settled := await asyncio.to_thread(self._remove, blobs):
                    await self._ask(Lane.WRITE, partial(retention.settle, blobs=settled))
                blobs = await self._ask(Lane.READ, partial(retention.dropped, after=blobs[-1]))

    def _remove(self, blobs: list[Blob]) -> list[Blob]:
        """What is settled. What a backup, an upload or the disk holds on to has its turn again."""
        settled = []
        for blob in blobs:
            try:
                if self._blobs.drop(*blob, partial(self._is_named, blob)):
                    settled.append(blob)
            except AgentChatError as error:
                self._failed += 1
                _log.warning("The content of a purged file cannot be removed: %s", error)
        return settled

    def _is_named(self, blob: Blob) -> bool:
        def look(tx: Reading) -> bool:
            return retention.is_named(tx, blob)

        return self._store.ask(Lane.READ, look)


class Errands(Chores):
    """The same where processes come and go, none of which may last for ten minutes: done by whoever is there when
    nobody has done them for a minute. `DIR/chores` says when that was, and what is known of the clock. Two that do them
    at once do no harm."""

    def __init__(self, parts: Parts, directory: str) -> None:
        super().__init__(parts)
        self._path = os.path.join(directory, "chores")
        self._clock = DoubtedClock(known=self._found())

    async def _run(self) -> None:
        while True:
            before, clock = self._found(), self._clock.known
            if (
                before is None or not 0 <= clock.at - before.at < _BETWEEN
            ):  # the steady one begins anew with the machine
                await self._try(self._look_at_the_clock)
                await self._all()
            await asyncio.sleep(_BETWEEN)

    def _longest_rest(self) -> float:
        """Nobody tells it what other processes commit."""
        return min(_UNTOLD, _BETWEEN)

    async def _look_at_the_clock(self) -> None:
        await self._believed()
        self._tell()

    def _tell(self) -> None:
        part = f"{self._path}.{os.getpid()}"
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
            json.dump(self._clock.known, file)
        os.replace(part, self._path)

    def _found(self) -> Known | None:
        try:
            with open(self._path, encoding="ascii") as file:
                return Known(*map(float, json.load(file)))
        except (OSError, ValueError, TypeError):
            return None


async def _wait(stirred: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):  # wait_for, until Python 3.12, forgets that it was cancelled if both come at once
        async with asyncio.timeout(seconds):
            await stirred.wait()


def _settle(future: asyncio.Future[bool], outcome: bool) -> None:
    if not future.done():
        future.set_result(outcome)
