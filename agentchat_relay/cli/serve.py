"""`agentchat serve`: run a relay on this machine. `serve stop` and `serve status` are in control.py."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shlex
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec

from agentchat import __version__, errors, settings

from .. import log
from ..directory import Directory
from ..process import listen, new_runner, notify, settle, url_of
from ..settings import MIB, Loops, Settings
from . import config
from .options import Values, add_to, seconds

_WAIT = 120.0
_NEEDED = ("cryptography", "httptools", "jsonschema", "msgspec", "uvicorn")  # of the extra `relay`, imported later
_log = logging.getLogger("agentchat.relay")


def main(argv: Sequence[str]) -> int:
    words = list(argv)
    if words and words[0] in ("stop", "status"):
        from .control import control

        return control(words, default_directory())
    options = _parser().parse_args(words)
    chosen = config.in_force(vars(options), options.config, default_directory())
    if options.daemon and not chosen["log-file"]:
        chosen["log-file"] = os.path.join(chosen["data"], "relay.log")
    if options.print_config:
        print(config.written(chosen), end="")
        return 0
    _check_installed()
    directory = Directory(chosen["data"])
    if not options.daemon:
        if options.wait is not None:
            raise errors.InvalidArguments("--wait goes with --daemon")
        return _run(directory, chosen)
    return _run_in_background(directory, chosen, _WAIT if options.wait is None else options.wait)


def _check_installed() -> None:
    """Before there is a directory or a process in the background."""
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise errors.NotConfigured(
            f'agentchat serve needs {", ".join(missing)}, not installed here: pip install "langchain-agentchat[relay]"'
        )


def default_directory() -> str:
    return os.path.join(settings.home_directory(), "relay")


def _run_in_background(directory: Directory, chosen: Values, wait: float) -> int:
    from .daemon import start

    new = not directory.is_there()

    def told(url: str) -> None:
        if warning := _warning(chosen):
            print(warning, file=sys.stderr)
        print(_greeting(directory, url, new))

    return start(lambda: _run(directory, chosen, background=True), directory, chosen["log-file"], wait, told)


def _run(directory: Directory, chosen: Values, *, background: bool = False) -> int:
    directory.hold("a relay")
    try:
        file = chosen["log-file"] or None
        log.configure(format=chosen["log-format"], level=chosen["log-level"], file=file)
        listener = listen(chosen["host"], chosen["port"])
        _serve(directory, chosen, listener, background)
    finally:
        directory.release()
    return 0


def _serve(directory: Directory, chosen: Values, listener: socket.socket, background: bool) -> None:
    url = url_of(chosen["host"], listener.getsockname()[1])
    if not background and (warning := _warning(chosen)):
        print(warning, file=sys.stderr)

    def ready(is_new: bool) -> None:
        directory.announce(url)
        if chosen["log-file"]:
            _log.info("AgentChat relay %s is ready on %s, data in %s", __version__, url, directory.path)
        if not background:
            with suppress(OSError):  # nobody may be listening to what we say
                print(_greeting(directory, url, is_new), flush=True)
        notify("READY=1", f"STATUS=Ready on {url}")
        if chosen["store"] and not chosen["files"]:
            _log.info(
                "Contents of files lie in %s, unseen by relays on other machines: --files names a place for all.",
                os.path.join(directory.path, "blobs"),
            )

    try:
        if chosen["workers"] > 1:
            _serve_in_workers(directory, chosen, listener, url, ready)
        else:
            _serve_here(directory, chosen, listener, url, ready)
    except KeyboardInterrupt:
        pass
    finally:
        if chosen["log-file"]:
            _log.info("AgentChat relay has stopped")
        directory.retract()
        listener.close()


def _serve_here(
    directory: Directory,
    chosen: Values,
    listener: socket.socket,
    url: str,
    ready: Callable[[bool], None],
    alive: int | None = None,
) -> None:
    """Until a signal, or the end of the pipe `alive`."""
    from ..relay import serve

    async def run() -> None:
        stop = asyncio.Event()
        if alive is not None:
            asyncio.get_running_loop().add_reader(alive, stop.set)
        await serve(directory, _settings(chosen, url), listener, lambda relay: ready(relay.is_new), stop=stop)

    settle()
    with new_runner() as runner:
        runner.run(run())


def _serve_in_workers(
    directory: Directory, chosen: Values, listener: socket.socket, url: str, ready: Callable[[bool], None]
) -> None:
    from .workers import Workers

    if not chosen["store"]:
        raise errors.InvalidArguments(
            "--workers needs --store: one SQLite file is served by one process, and faster by it than by several"
        )

    def serve(tell: Callable[[bool], None], alive: int) -> None:
        _serve_here(directory, chosen, listener, url, tell, alive)

    if not Workers(chosen["workers"], serve).run(ready):
        raise errors.NotConfigured("The relay did not start; what a worker said is above, or in the log.")


def _warning(chosen: Values) -> str | None:
    if settings.is_loopback(chosen["host"]) or chosen["public-url"].startswith("https:"):
        return None
    return (
        f"Warning: {chosen['host']} can be reached from other machines, and keys would travel unencrypted. Put a TLS "
        "proxy in front and name it: --public-url https://…"
    )


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
        usage="agentchat serve [OPTION ...]\n       agentchat serve stop|status [--data DIR]",
        description="Run a relay: one process, one directory. Ctrl-C or SIGTERM stops it; nothing accepted is lost.",
        epilog="exit codes: 0 stopped as asked (--daemon: it runs), 2 wrong usage or settings, 5 directory or port is "
        "taken, 1 anything else",
        allow_abbrev=False,
    )
    group = parser.add_argument_group("starting")
    group.add_argument(
        "--config",
        metavar="FILE",
        help="settings as TOML, under the names below (default: DIR/relay.toml if it is there)",
    )
    group.add_argument(
        "--print-config", action="store_true", help="print the settings in force as such a file, and exit"
    )
    group.add_argument("--daemon", action="store_true", help="run in the background, with a log in DIR/relay.log")
    group.add_argument(
        "--wait",
        type=seconds,
        metavar="SECONDS",
        help=f"with --daemon: how long to wait until it is ready (default: {_WAIT:g})",
    )
    add_to(parser)
    return parser


def _settings(chosen: Values, url: str) -> Settings:
    same = ("agent-writes", "agent-reads", "all-writes", "all-reads", "own-names", "retire-after", "log-requests")
    return Settings(
        store=chosen["store"],
        public_url=chosen["public-url"] or url,
        trusted_proxies=tuple(chosen["trusted-proxy"]),
        files=chosen["files"],
        most_file_bytes=int(chosen["max-file-mib"] * MIB),
        most_agents=chosen["max-agents"],
        loops=Loops(chosen["loop-depth"], chosen["loop-turns"], chosen["loop-pause"] * 60),
        **{name.replace("-", "_"): chosen[name] for name in same},
    )
