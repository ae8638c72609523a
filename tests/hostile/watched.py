"""A program that records what the interpreter does about hostile texts. `test_execution.py` starts it.

`reader` gets on standard input what to read: a calm space, twice, so that everything is imported and made that is made
once, then the hostile one. Surfaces are those of `surfaces`, the command line in this process. `relay` is a relay, and
the hostile agents who write to it.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from types import CodeType
from typing import Any

from agentchat import cli

from .surfaces import BOUNDED, PRESENTED, Victim, words
from .world import hostile_world

# Events that say nothing by what they are given: addresses of objects, or nothing at all.
BY_NAME = {
    "_thread.start_new_thread", "builtins.id", "object.__getattr__", "object.__setattr__", "socket.__new__",
    "sys._getframe", "sys.set_asyncgen_hook_finalizer", "sys.set_asyncgen_hook_firstiter",
}  # fmt: skip
recorded: set[str] | None = None


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    global recorded
    if recorded is not None:
        into, recorded = recorded, None  # what the description does is not recorded
        into.add(described(event, arguments))
        recorded = into


def described(event: str, arguments: tuple[Any, ...]) -> str:
    match event, arguments:
        case "exec", [CodeType() as code]:
            return f"exec {code.co_filename} {code.co_names} {code.co_consts}"
        case "socket.connect", [_, address]:
            return f"socket.connect {address}"
        case "os.putenv", [name, _]:
            return f"os.putenv {name}"
    return event if event in BY_NAME else f"{event} {ascii(arguments)[:2000]}"


def on_the_command_line(victim: Victim, operation: str, arguments: dict[str, Any]) -> str:
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="\n") for _ in range(2))
    os.environ.update(AGENTCHAT_URL=victim.url, AGENTCHAT_KEY=victim.key, AGENTCHAT_HOME=victim.home)
    os.environ["AGENTCHAT_SCOPES"] = ",".join(PRESENTED)
    with redirect_stdout(out), redirect_stderr(err):
        cli.main(words(operation, arguments))
        print(end="", flush=True)
    err.flush()
    return (out.buffer.getvalue() + err.buffer.getvalue()).decode()


def read(victim: Victim, calls: list[tuple[str, dict[str, Any]]]) -> str:
    """Every answer on every surface."""
    shown = []
    for operation, arguments in calls:
        shown += [surface(victim, operation, arguments, 20_000) for surface in BOUNDED.values()]
        shown.append(on_the_command_line(victim, operation, arguments))
    return "\n".join(shown)


def reader() -> dict[str, Any]:
    global recorded
    given = json.load(sys.stdin)
    told: dict[str, Any] = {}
    with ExitStack() as stack:
        for name in ("warm", "calm", "hostile"):
            part = given["hostile" if name == "hostile" else "calm"]
            victim = Victim(given["url"], part["key"], given["home"], stack)
            events: set[str] = set()
            recorded = events
            shown = read(victim, part["calls"])
            recorded = None
            told[name] = {"events": sorted(events), "shown": shown}
    return told


def relay() -> dict[str, Any]:
    global recorded
    events: set[str] = set()
    recorded = events
    with hostile_world(os.environ["HOME"]) as world:
        written = len(world.authors)
    recorded = None
    return {"events": sorted(events), "written": written}


def culprit() -> dict[str, Any]:
    """What must not pass unseen."""
    global recorded
    events: set[str] = set()
    recorded = events
    os.system("true PWNED")
    subprocess.run(["true", "PWNED"], check=True)
    eval("'PWNED'")
    with open("PWNED", "w"):
        pass
    pickle.loads(b"cbuiltins\nprint\n.")
    __import__("wave")
    recorded = None
    return {"events": sorted(events)}


if __name__ == "__main__":
    sys.addaudithook(watch)
    json.dump({"reader": reader, "relay": relay, "culprit": culprit}[sys.argv[1]](), sys.stdout)
