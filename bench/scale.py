"""What a call costs in a relay of 10 thousand, 100 thousand and a million messages, and what such a relay weighs.

    python bench/scale.py [--tiny] [--json] [--sizes N,N,…] [--rounds N] [--keep DIR] [--only PART …]
        [--engine sqlite|postgres]

    reads    board, pages, inbox, searches: CPU of the lane's thread per call, without HTTP
    inbox    looking at, counting and claiming what waits for one agent, with 100 thousand and a million items waiting,
             or ended, against few; the one part that knows Postgres
    sends    the writer's and the index's CPU per message, without HTTP, against a relay without messages
    served   a real relay process: how long it takes to start, what it holds, what it takes from 64 connections
    memory   of a real relay process: per idle connection, after as many sends as the largest size, after reading them

Every size is made by the service itself (`_scale.py`; a million takes minutes: `--keep` keeps what was made) and
warmed up. Sizes take turns, round by round; `control` is a loop over memory that no change of ours touches. Linux only,
for it reads /proc. Data goes to TMPDIR, which should be a real disk with room for twice 1.5 GB.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from typing import Any

import _measure as measure
import _scale_inbox
import _scale_reads
import _scale_sends
import _scale_served
import relay
from _scale_sizes import TINY, Directories, Extent

PARTS = ("reads", "inbox", "sends", "served", "memory")
RUN: dict[str, Callable[[Directories, Extent], dict[str, Any]]] = {
    "reads": _scale_reads.measured,
    "inbox": _scale_inbox.measured,
    "sends": _scale_sends.measured,
    "served": _scale_served.served,
    "memory": _scale_served.memory,
}
TELL = {
    "reads": _scale_reads.tell,
    "inbox": _scale_inbox.tell,
    "sends": _scale_sends.tell,
    "served": _scale_served.tell_served,
    "memory": _scale_served.tell_memory,
}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="prove that it runs; the figures mean nothing")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--sizes", help="numbers of messages, smallest first (default: 10000,100000,1000000)")
    parser.add_argument("--rounds", type=int, help="how often everything takes its turn (default: 7)")
    parser.add_argument("--keep", metavar="DIR", help="where directories that were made stay, to be used again")
    parser.add_argument("--only", choices=PARTS, nargs="+", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--engine", choices=("sqlite", "postgres"), default="sqlite", help="of the part inbox")
    chosen = parser.parse_args()
    known = ["inbox"] if chosen.engine == "postgres" else list(PARTS)
    chosen.only = chosen.only or known
    if not set(chosen.only) <= set(known):
        parser.error("only the part inbox knows Postgres")
    return chosen


def main() -> None:
    chosen = options()
    extent = TINY if chosen.tiny else Extent()
    if chosen.sizes:
        extent = extent._replace(sizes=tuple(int(size) for size in chosen.sizes.split(",")))
    if chosen.rounds:
        extent = extent._replace(rounds=chosen.rounds)
    os.sched_setaffinity(0, relay.FIRST)  # and so every thread and process that starts from here
    found = {}
    with tempfile.TemporaryDirectory(prefix="agentchat-bench-") as folder:
        directories = Directories(folder, chosen.keep, extent, chosen.engine)
        for part in PARTS:
            if part in chosen.only:
                found[part] = RUN[part](directories, extent)
                if not chosen.json:
                    TELL[part](found[part], extent)
                    print(flush=True)
    if chosen.json:
        measure.printed(found)


if __name__ == "__main__":
    main()
