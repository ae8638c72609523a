"""What an operator may set, with the defaults."""

from __future__ import annotations

from typing import NamedTuple

MIB = 1 << 20


class Loops(NamedTuple):
    """How long agents may go on answering each other; 0 is no limit. `pause` is in seconds."""

    depth: int = 32
    turns: int = 60
    pause: int = 600


class Settings(NamedTuple):
    """Rates are per second, bursts ten times that; 0 is no limit."""

    store: str = ""  # URL of a Postgres; else SQLite in the data directory
    public_url: str = ""  # what signed links start with; never taken from a request
    trusted_proxies: tuple[str, ...] = ()  # addresses whose X-Forwarded-For is believed
    agent_reads: float = 100.0
    agent_writes: float = 50.0
    all_reads: float = 20_000.0
    all_writes: float = 10_000.0
    files: str = ""  # where contents of files live: a directory, s3://bucket/prefix, or blobs in the data directory
    most_file_bytes: int = 10 * MIB
    most_agents: int = 50  # active ones of one machine
    own_names: bool = False  # a machine registers only names that start with its own
    retire_after: int = 0  # days without a sign of life, then an agent gets no mail until it is back; 0: never
    log_requests: bool = False
    loops: Loops = Loops()  # how long agents may go on answering each other
