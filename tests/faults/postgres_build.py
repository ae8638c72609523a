"""A build of a relay on Postgres that breaks one promise, so that a campaign can show that it would notice.

python -m tests.faults.postgres_build BROKEN --store URL --data DIR …    # otherwise like agentchat serve

    turns     writers take no turns: the lock is left out
    early     posts are answered before their commit, which is slow
    repeat    nobody looks for what was done under a key before
    dedupe    idempotency keys do not even arrive
    counters  counters are not read again after somebody else's turn
    keys      a key that was good once is good for ever
    doubt     a commit whose answer was lost, by the bad wire, counts as not done, and its group is done again

    wire      breaks nothing, but one in fifty round trips to Postgres loses the connection, before or after
"""

from __future__ import annotations

import functools
import random
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any

import psycopg

from agentchat import cli
from agentchat_relay import relay
from agentchat_relay.http.authentication import Agents, Caller
from agentchat_relay.store.groups import InDoubt
from agentchat_relay.store.lane import Waiting
from agentchat_relay.store.postgres import engine, transaction
from agentchat_relay.store.postgres.connection import Connection, control
from agentchat_relay.store.postgres.transaction import WriteTransaction
from tests.faults.relay_build import SLOW, deliver_early, routes_without_keys

STARTED = 20  # round trips
TURN = "EXECUTE take_turn; "
Control = Callable[[Connection, str], list[tuple[str | None, ...]]]


def without_turns(connection: Connection, sql: str) -> list[tuple[str | None, ...]]:
    return control(connection, sql.replace(TURN, ""))


def slowly(connection: Connection, sql: str) -> list[tuple[str | None, ...]]:
    if sql.endswith("COMMIT"):
        time.sleep(SLOW)
    return control(connection, sql)


def over_a_bad_wire(losses: float, answers: float = 0.5, only: str = "") -> Control:
    """What is lost is the way there, or only the answer. While a relay starts, which it would give up, all is well."""
    numbers = count()

    def ask(connection: Connection, sql: str) -> list[tuple[str | None, ...]]:
        if next(numbers) < STARTED or not sql.endswith(only) or random.random() >= losses:
            return control(connection, sql)
        if random.random() < answers:
            control(connection, sql)
        connection.close()
        raise psycopg.OperationalError("the connection was lost")

    return ask


def commit_without_doubt(self: WriteTransaction) -> bool:
    time.sleep(SLOW)  # so that calls come together
    try:
        return _commit(self)
    except InDoubt as error:
        raise psycopg.OperationalError("nothing was committed, it seems") from error


_commit = WriteTransaction.commit


class EarlyPostgres(engine.Postgres):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        deliver_early(self)


def expect_nothing(self: WriteTransaction, group: Iterable[Waiting]) -> None:
    """Instead of `expect`."""


def find_no_repeat(self: WriteTransaction, statement: str, /, **values: Any) -> Any:
    return None if statement == "repeat" else _one(self, statement, **values)


_one = WriteTransaction.one


async def remember(self: Agents, hash: bytes, key: bytes) -> tuple[Caller, int]:
    known: dict[bytes, tuple[Caller, int]] = self.__dict__.setdefault("known", {})
    if hash not in known:
        known[hash] = await _look_up(self, hash, key)
    return known[hash]


_look_up = Agents._look_up


def main(broken: str, arguments: Sequence[str]) -> int:
    match broken:
        case "turns":
            transaction.control = without_turns
        case "early":
            engine.Postgres = EarlyPostgres
            transaction.control = slowly
        case "repeat":
            WriteTransaction.expect = expect_nothing
            WriteTransaction.one = find_no_repeat
        case "dedupe":
            relay.serve = functools.partial(relay.serve, make_routes=routes_without_keys)
        case "counters":
            WriteTransaction._count_anew = lambda self, *standing: None
        case "keys":
            Agents._look_up = remember
            Caller.confirm = lambda self, tx: None
        case "doubt":
            transaction.control = over_a_bad_wire(0.4, answers=1, only=";COMMIT")
            WriteTransaction.commit = commit_without_doubt
        case "wire":
            transaction.control = over_a_bad_wire(0.02)
    return cli.main(["serve", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
