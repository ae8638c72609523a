"""A power cut for a process: what it did not fsync is gone, which a kill alone cannot show as the page cache survives.

    power = PowerCut(data, scratch)
    process = subprocess.Popen(command, env=power.environment())
    power.cut(process)  # SIGKILL; `data` now holds what was durable, and another process may start on it

The rules are POSIX's, without the favours that file systems add (`shadow.c` says how they are applied): the content
of a file is what it was at its last fsync or fdatasync, and empty before the first; a name is created, renamed or
removed when its directory is synced. So a new file needs both, and a rename needs its directory. SQLite does all this.
A cut can be `torn`: then any sectors of what was not synced are there too, as the disk writes in no order.

Whoever writes in `data` must run in that environment, and write temporary files below `data` too: what was synced
elsewhere and then moved in is not known here. To look inside between two starts, open a copy: SQLite writes even when
it only reads after a crash. Symbolic links do not survive. Linux only.
"""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

SOURCE = Path(__file__).with_name("shadow.c")
_SECTOR = 512

# What is there at the start is durable: synced by a process in the environment, like everything else.
_SYNC_ALL = """
import os, sys
for directory, _, names in os.walk(sys.argv[1]):
    for path in (os.path.join(directory, name) for name in (*names, ".")):
        if os.path.isfile(path) or os.path.isdir(path):
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
"""


class PowerCut:
    """The power supply of one data directory. `scratch` is outside `data`, and belongs to one PowerCut at a time."""

    def __init__(self, data: Path, scratch: Path) -> None:
        data.mkdir(parents=True, exist_ok=True)
        scratch.mkdir(parents=True, exist_ok=True)
        self.data, self._shadow = data.resolve(), scratch.resolve() / "shadow"
        self._library = build(scratch.resolve())
        self._begin()

    def environment(self) -> dict[str, str]:
        """This process's environment and what makes a child lose its unsynced writes."""
        ours = {"POWERCUT_DATA": self.data, "POWERCUT_SHADOW": self._shadow, "LD_PRELOAD": self._library}
        return {**os.environ, **{name: str(path) for name, path in ours.items()}}

    def cut(
        self, process: subprocess.Popen[str] | subprocess.Popen[bytes], *, torn: random.Random | None = None
    ) -> None:
        """Kill it and leave in the data directory what was durable, from which the next process starts."""
        process.kill()
        process.wait()
        restore(self.data, self._shadow, torn)
        self._begin()

    def _begin(self) -> None:
        shutil.rmtree(self._shadow, ignore_errors=True)
        self._shadow.mkdir()
        subprocess.run([sys.executable, "-ISc", _SYNC_ALL, str(self.data)], env=self.environment(), check=True)


def build(directory: Path, source: Path = SOURCE) -> Path:
    """A library, compiled into that directory unless it is there."""
    library = directory / f"{source.stem}.so"
    if not library.exists():
        flags = ["-shared", "-fPIC", "-O2", "-std=gnu11", "-Wall", "-Wextra"]
        subprocess.run([*_compiler(), *flags, str(source), "-o", str(library), "-ldl"], check=True)
    return library


def _compiler() -> list[str]:
    for name in ("cc", "gcc"):
        if found := shutil.which(name):
            return [found]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    raise RuntimeError("the power-cut simulator needs a C compiler: install gcc, or ziglang with pip")


def restore(data: Path, shadow: Path, torn: random.Random | None = None) -> None:
    """Put what was durable in the place of everything in `data`."""
    (root,) = shadow.glob(f"{data.stat().st_ino}-*")
    found = {} if torn is None else _found(data, shadow)
    for path in data.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    _lay_out(root, data, lambda kept: _content(kept, found.get(kept.name), torn))


def _lay_out(listing: Path, directory: Path, content: Callable[[Path], bytes]) -> None:
    """Make the entries of a directory's list, which is missing if it was never synced; the same for files' content."""
    entries = listing.read_bytes().split(b"\0")[:-1] if listing.exists() else []
    for mode, inode, name in (entry.split(b" ", 2) for entry in entries):
        path, kept = directory / os.fsdecode(name), listing.with_name(os.fsdecode(inode))
        if stat.S_ISDIR(int(mode, 8)):
            path.mkdir()
            _lay_out(kept, path, content)
        else:
            path.write_bytes(content(kept))
        path.chmod(stat.S_IMODE(int(mode, 8)))


def _content(kept: Path, found: bytes | None, torn: random.Random | None) -> bytes:
    durable = kept.read_bytes() if kept.exists() else b""
    return durable if found is None or torn is None else _torn(durable, found, torn)


def _torn(durable: bytes, found: bytes, luck: random.Random) -> bytes:
    """Each sector that was written since the last fsync is on the disk or not, and so is the length. What a file was
    cut off by was not written: if it still has its length, that is what it was."""
    size, share = len(luck.choice([durable, found])), luck.random()
    found += durable[len(found) :]
    durable, found = durable.ljust(size, b"\0")[:size], found[:size]
    sectors = [
        found[at : at + _SECTOR] if luck.random() < share else durable[at : at + _SECTOR]
        for at in range(0, size, _SECTOR)
    ]
    return b"".join(sectors)


def _found(data: Path, shadow: Path) -> dict[str, bytes]:
    """What the files hold, synced or not, by what they are called in the shadow."""
    names: dict[int, list[str]] = {}
    for path in shadow.iterdir():
        number, is_kept, _ = path.name.partition("-")
        if is_kept and path.suffix != ".lost":
            names.setdefault(int(number), []).append(path.name)
    files = [path for path in data.rglob("*") if path.is_file() and not path.is_symlink()]
    found = {}
    for path in files:
        match names.get(path.stat().st_ino, []):
            case [name]:  # with two of a number, one belongs to a file that was deleted
                found[name] = path.read_bytes()
    return found
