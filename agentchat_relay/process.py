"""What makes a process a good server: its socket, its event loop, its memory, its open files."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import resource
import socket
from contextlib import suppress

from agentchat.errors import Conflict, InvalidArguments

_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if not host:
        raise InvalidArguments("--host must be an address or a name of this machine, got nothing")
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OverflowError:
        raise InvalidArguments(f"--port must be from 0 to 65535, got {port}") from None
    except OSError as error:
        if (error.errno or 0) < 0 or error.errno == errno.EADDRNOTAVAIL:  # the resolver's numbers are below 0
            raise InvalidArguments(f"--host {host} is no address of this machine") from error
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise Conflict(f"Cannot listen on {host} port {port}: {reason}. Another port: --port 0 takes any.") from error


def url_of(host: str, port: int) -> str:
    """How somebody on this machine reaches a socket."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


def new_runner() -> asyncio.Runner:
    """Runs coroutines on the fastest loop there is."""
    try:
        import uvloop
    except ImportError:  # it exists for POSIX systems only
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def settle() -> None:
    """For a process that is nothing but a server: as many open files as the system allows, and no looking again and
    again through the objects that are there to stay."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def notify(*lines: str) -> None:
    """Tell systemd how the relay is, if systemd started it: sd_notify's protocol, to the socket it names."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    name = f"\0{address[1:]}" if address.startswith("@") else address  # Linux's abstract sockets have no file
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, suppress(OSError):  # it serves without a listener
        sender.sendto("\n".join(lines).encode(), name)
