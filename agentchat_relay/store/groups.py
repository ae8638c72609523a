"""A group of calls is one transaction.

APPEND calls run bare and buffer what they append; any other runs after a flush, inside a savepoint. Should the group as
a whole fail (a full disk, a broken rule), it is rolled back and its calls are tried again one by one, so that each gets
its own outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from time import perf_counter
from typing import Any, Protocol

from agentchat.errors import AgentChatError, Unavailable

from ..metrics import COMMIT_SECONDS, GROUP_CALLS, Histogram
from .lane import Waiting
from .seam import Lane, Outcome


class NoDatabase(Unavailable):
    """The relay cannot reach its database; try again soon."""


class InDoubt(NoDatabase):
    """The relay lost its database while it was writing this down. The call may or may not have been done; try again
    with the same key."""


class Transaction(Protocol):
    """An engine's writing transaction, used again and again."""

    steps: int

    @property
    def newest(self) -> int: ...

    def savepoint(self) -> AbstractContextManager[None]: ...
    def commit(self) -> bool:
        """Returns whether something was to be forgotten."""
        ...

    def roll_back(self) -> None: ...


class Groups:
    """Runs groups of calls on one thread. `begun` is told the group of a transaction that has begun, and may add what
    has come meanwhile; `as_ours` puts faults of the engine into our words."""

    def __init__(
        self,
        transaction: Transaction,
        begin: Callable[[], None],
        as_ours: Callable[[Exception], Exception],
        *,
        begun: Callable[[list[Waiting]], None] = lambda group: None,
        forgot: Callable[[], None] = lambda: None,
    ) -> None:
        self.messages = 0
        self.calls, self.seconds = Histogram(GROUP_CALLS), Histogram(COMMIT_SECONDS)
        self._transaction = transaction
        self._begin, self._begun, self._as_ours, self._forgot = begin, begun, as_ours, forgot

    def run(self, group: list[Waiting]) -> list[Outcome]:
        """One transaction for all of them, or, if that fails, one for each."""
        return self._run(group, self._begun)

    def _run(self, group: list[Waiting], begun: Callable[[list[Waiting]], None]) -> list[Outcome]:
        transaction = self._transaction
        try:
            self._begin()
            begun(group)
            alone = len(group) == 1
            outcomes = [self._attempt(waiting, alone) for waiting in group]
            began = perf_counter()
            forgot = transaction.commit()
        except Exception as error:
            with suppress(Exception):  # if even that fails, the next transaction fails to begin, and rolls back again
                transaction.roll_back()
            if len(group) == 1 or isinstance(error, NoDatabase):  # it is not of one call's doing
                return [(waiting.done, None, self._as_ours(error)) for waiting in group]
            return [outcome for waiting in group for outcome in self._run([waiting], lambda group: None)]
        self.seconds.observe(perf_counter() - began)
        self.calls.observe(len(group))
        with suppress(Exception):  # whoever waits for an outcome must get it, whatever becomes of a figure
            self.messages = transaction.newest
        if forgot:
            self._forgot()
        return outcomes

    def _attempt(self, waiting: Waiting, alone: bool) -> Outcome:
        """The outcome of one call. Whatever else than a clean refusal fails takes the group with it."""
        transaction: Any = self._transaction
        if waiting.lane == Lane.APPEND or alone:
            before = transaction.steps
            try:
                return waiting.done, waiting.call(transaction), None
            except AgentChatError as refusal:
                if transaction.steps != before:
                    raise
                return waiting.done, None, refusal
        try:
            with transaction.savepoint():
                return waiting.done, waiting.call(transaction), None
        except AgentChatError as refusal:
            return waiting.done, None, refusal
