"""Readers of streams for `push.py`, in a process of its own: sockets that count what comes, and note when.

Commands come as lines of JSON and are answered so. A group is a number of streams of one server.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import socket
import sys
import time
from typing import Any

_EVENT = b"\ndata: "
_PATIENCE = 60.0


class Group:
    """Streams that are open."""

    def __init__(self, port: int, request: str, count: int) -> None:
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._seen: dict[int, int] = {}
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
            sock.sendall(request.encode())
            self._sockets[sock.fileno()] = sock
        for fd, sock in self._sockets.items():
            begun = b""
            while b"\nid: " not in begun:
                piece = sock.recv(65536)
                if not piece:
                    raise SystemExit(f"the server hung up: {begun!r}")
                begun += piece
                if not begun.startswith(b"HTTP/1.1 200"):
                    raise SystemExit(f"refused: {begun!r}")
            sock.setblocking(False)
            self._poll.register(fd, select.EPOLLIN)

    def take(self, events: int) -> list[float]:
        """When each stream had so many events more."""
        missing = dict.fromkeys(self._sockets, events)
        times = []
        deadline = time.monotonic() + _PATIENCE
        while missing:
            for fd, _ in self._poll.poll(_PATIENCE):
                data = self._sockets[fd].recv(1 << 18)
                if not data:
                    raise SystemExit("the server hung up")
                if fd in missing:
                    missing[fd] -= data.count(_EVENT)  # one send is one piece here: events are small
                    if missing[fd] <= 0:
                        times.append(time.monotonic())
                        del missing[fd]
            if time.monotonic() > deadline:
                raise SystemExit(f"{len(missing)} streams are missing events")
        return times

    def block(self) -> str:
        """What one event looks like, without the chunk around it."""
        self._poll.poll(_PATIENCE)
        data = next(iter(self._sockets.values())).recv(1 << 18)
        return data[data.index(b"id: ") : data.rindex(b"\n\n") + 2].decode()

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()
        self._poll.close()


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.sched_setaffinity(0, json.loads(sys.argv[1]))
    gc.disable()
    groups: dict[str, Group] = {}
    for line in sys.stdin:
        command: dict[str, Any] = json.loads(line)
        name: str = command["group"]
        answer: Any = None
        match command["do"]:
            case "open":
                groups[name] = Group(command["port"], command["request"], command["count"])
            case "take":
                print("null", flush=True)  # ready
                answer = groups[name].take(command["events"])
            case "block":
                answer = groups[name].block()
            case "close":
                groups.pop(name).close()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
