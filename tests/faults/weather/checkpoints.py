"""A store whose checkpoint is cut short by a reader, and whose next one cannot be synced.

python checkpoints.py DIRECTORY ends|onward

Prints the name of each agent once it was stored, and `ready` when fsyncs of the database shall begin to fail; then it
waits for a line.
"""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

from agentchat_relay.service import administration, upkeep
from agentchat_relay.store.seam import Lane
from agentchat_relay.store.sqlite import engine as sqlite
from agentchat_relay.store.sqlite.engine import Sqlite, connect, give_up

MANY = 150  # agents that fill some pages, which nobody writes to again


def main(directory: str, how: str) -> None:
    sqlite._BETWEEN_CHECKPOINTS = 1e6
    store = Sqlite(directory, give_up=give_up if how == "ends" else lambda error: None)
    store.ask(Lane.WRITE, upkeep.seed)
    numbers = iter(range(1000))

    def write(*, then_checkpoint: bool = False) -> None:
        if then_checkpoint:
            store._checkpoint_at = 0.0
        name = f"mac-{next(numbers)}"
        store.ask(Lane.WRITE, lambda tx: administration.agent_token(tx, name=name))
        print(name, flush=True)

    for _ in range(MANY):
        write()
    with closing(connect(str(Path(directory, "agentchat.db")))) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM agents").fetchone()
        write(then_checkpoint=True)  # brings the database as far as the reader is
        write()
        assert store._cut_short
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(3):  # the first cannot be synced; what follows is written to a log that begins anew
        write(then_checkpoint=True)
        write()
    print("done", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
