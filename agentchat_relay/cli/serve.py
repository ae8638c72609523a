"""`agentchat serve`: run a relay on this machine."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from agentchat import __version__, errors, settings

from ..directory import Directory
from ..process import listen, new_runner, settle, url_of
from ..relay import Relay, serve
from ..settings import MIB, Settings

PORT = 8790
_DEFAULTS = Settings()


def main(argv: Sequence[str]) -> int:
    options = _parser().parse_args(list(argv))
    chosen = _settings(options)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # it tells of every stranger's broken request
    directory = Directory(options.data or default_directory())
    directory.hold("a relay")
    try:
        listener = listen(options.host, options.port)
        _run(directory, chosen, listener, options.host)
    finally:
        directory.release()
    return 0


def default_directory() -> str:
    return os.path.join(settings.home_directory(), "relay")


def _run(directory: Directory, chosen: Settings, listener: socket.socket, host: str) -> None:
    url = url_of(host, listener.getsockname()[1])
    if not chosen.public_url:
        chosen = chosen._replace(public_url=url)
    if not settings.is_loopback(host) and not chosen.public_url.startswith("https:"):
        print(
            f"Warning: {host} can be reached from other machines, and keys would travel unencrypted. Put a TLS proxy "
            "in front and name it: --public-url https://…",
            file=sys.stderr,
        )

    def ready(relay: Relay) -> None:
        directory.announce(url)
        with suppress(OSError):  # nobody may be listening to what we say
            print(_greeting(directory, url, relay.is_new), flush=True)

    try:
        settle()
        with new_runner() as runner:
            runner.run(serve(directory, chosen, listener, ready))
    except KeyboardInterrupt:
        pass
    finally:
        directory.retract()
        listener.close()


def _greeting(directory: Directory, url: str, new: bool) -> str:
    lines = [f"AgentChat relay {__version__} is ready on {url}, data in {directory.path}"]
    if new:
        lines += [
            f"Give an agent a key:  agentchat admin --data {shlex.quote(directory.path)} agent token NAME",
            f"and let it connect:   AGENTCHAT_URL={url} AGENTCHAT_KEY=KEY agentchat check-board",
        ]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    from agentchat.cli import Parser

    parser = Parser(
        "agentchat serve",
        description="Run a relay: one process, one directory. Ctrl-C or SIGTERM stops it; nothing accepted is lost.",
        allow_abbrev=False,
    )
    add: Any = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=PORT, help="port, 0 for any (default: %(default)s)")
    add("--data", metavar="DIR", help="data directory (default: ~/.agentchat/relay)")
    add("--public-url", metavar="URL", default="", help="what links to files start with (default: the bound address)")
    add(
        "--trusted-proxy",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="believe its X-Forwarded-For; may be given several times",
    )
    limits = parser.add_argument_group("limits", "Rates are per second, bursts ten times that; 0 is no limit.")
    for name, text in _RATES.items():
        flag = "--" + name.replace("_", "-")
        limits.add_argument(flag, type=float, default=getattr(_DEFAULTS, name), metavar="RATE", help=text)
    limits.add_argument("--max-file-mib", type=float, default=10, help="largest file (default: %(default)s)")
    limits.add_argument(
        "--max-agents",
        type=int,
        default=_DEFAULTS.most_agents,
        help="active agents of one machine (default: %(default)s)",
    )
    limits.add_argument("--own-names", action="store_true", help="machines register only names starting with their own")
    return parser


_RATES = {
    "agent_writes": "writes of one agent (default: %(default)s)",
    "agent_reads": "reads of one agent (default: %(default)s)",
    "all_writes": "writes of all agents (default: %(default)s)",
    "all_reads": "reads of all agents (default: %(default)s)",
}


def _settings(options: argparse.Namespace) -> Settings:
    rates = {name: getattr(options, name) for name in _RATES}
    for name, rate in rates.items():
        if not 0 <= rate < 1e9:
            raise errors.InvalidArguments(f"--{name.replace('_', '-')} must be 0 or more, got {rate:g}")
    if not 0 < options.max_file_mib <= 4096:
        raise errors.InvalidArguments(f"--max-file-mib must be more than 0, at most 4096, got {options.max_file_mib:g}")
    if options.max_agents < 0:
        raise errors.InvalidArguments(f"--max-agents must be 0 or more, got {options.max_agents}")
    for proxy in options.trusted_proxy:
        try:
            ip_address(proxy)
        except ValueError:
            raise errors.InvalidArguments(f"--trusted-proxy must be an IP address, got {proxy}") from None
    public_url = settings.checked_url(options.public_url) if options.public_url else ""
    return Settings(
        public_url=public_url,
        trusted_proxies=tuple(str(ip_address(proxy)) for proxy in options.trusted_proxy),
        most_file_bytes=int(options.max_file_mib * MIB),
        most_agents=options.max_agents,
        own_names=options.own_names,
        **rates,
    )
