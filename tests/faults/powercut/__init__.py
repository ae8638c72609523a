"""A power cut for a process: what it did not fsync is gone, which a kill alone cannot show as the page cache survives.

    power = PowerCut(data, scratch)
    process = subprocess.Popen(command, env=power.environment())
    power.cut(process)  # SIGKILL; `data` now holds what was durable, and another process may start on it

The rules are POSIX's, without the favours that file systems add (`shadow.c` says how they are applied): the content
of a file is what it was at its last fsync or fdatasync, and empty before the first; a name is created, renamed or
removed when its directory is synced. So a new file needs both, and a rename needs its directory. SQLite does all this.

Whoever writes in `data` must run in that environment, and write temporary files below `data` too: what was synced
elsewhere and then moved in is not known here. To look inside between two starts, open a copy: SQLite writes even when
it only reads after a crash. Symbolic links do not survive. Linux only.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("shadow.c")

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

    def cut(self, process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
        """Kill it and leave in the data directory what was durable, from which the next process starts."""
        process.kill()
        process.wait()
        restore(self.data, self._shadow)
        self._begin()

    def _begin(self) -> None:
        shutil.rmtree(self._shadow, ignore_errors=True)
        self._shadow.mkdir()
        subprocess.run([sys.executable, "-ISc", _SYNC_ALL, str(self.data)], env=self.environment(), check=True)


def build(directory: Path) -> Path:
    """The library, compiled into that directory unless it is there."""
    library = directory / "shadow.so"
    if not library.exists():
        flags = ["-shared", "-fPIC", "-O2", "-std=gnu11", "-Wall", "-Wextra"]
        subprocess.run([*_compiler(), *flags, str(SOURCE), "-o", str(library)], check=True)
    return library


def _compiler() -> list[str]:
    for name in ("cc", "gcc"):
        if found := shutil.which(name):
            return [found]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    raise RuntimeError("the power-cut simulator needs a C compiler: install gcc, or ziglang with pip")


def restore(data: Path, shadow: Path) -> None:
    """Put what was durable in the place of everything in `data`."""
    (root,) = shadow.glob(f"{data.stat().st_ino}-*")
    for path in data.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    _lay_out(root, data)


def _lay_out(listing: Path, directory: Path) -> None:
    """Make the entries of a directory's list, which is missing if it was never synced; the same for files' content."""
    entries = listing.read_bytes().split(b"\0")[:-1] if listing.exists() else []
    for mode, inode, name in (entry.split(b" ", 2) for entry in entries):
        path, kept = directory / os.fsdecode(name), listing.with_name(os.fsdecode(inode))
        if stat.S_ISDIR(int(mode, 8)):
            path.mkdir()
            _lay_out(kept, path)
        else:
            path.write_bytes(kept.read_bytes() if kept.exists() else b"")
        path.chmod(stat.S_IMODE(int(mode, 8)))
