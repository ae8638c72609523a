"""`agentchat admin backup`, `restore`, `doctor`, `export`: they read the database itself, relay or no relay."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from agentchat import errors
from agentchat._fence import clean

from .config import in_force
from .options import directory as named
from .options import file as named_file
from .serve import default_directory

if TYPE_CHECKING:
    from ..keeping.contents import Lost
    from ..keeping.doctor import Diagnosis
    from ..keeping.restore import Restored
    from ..keeping.visit import Finding

ABOUT = {
    "backup": "Copy the relay while it runs: one state of everything, files included.",
    "restore": "Make a data directory from a backup, or fill an empty Postgres.",
    "doctor": "Look at the relay's data, say what is wrong, and repair what is safe to repair.",
    "export": "Write one space as JSON lines.",
}
_EPILOG = "exit codes: 0 fine, 1 something is wrong or was refused, 2 wrong usage, 4 not found, 5 in use"
_MARKS = {"ok": "ok", "warning": "warning", "problem": "PROBLEM"}


def add_to(commands: Any, common: argparse.ArgumentParser) -> None:
    """The parsers of these commands."""
    runs = {"backup": _backup, "restore": _restore, "doctor": _doctor, "export": _export}
    made = {}
    for name, text in ABOUT.items():
        options: dict[str, Any] = {"parents": [common], "help": text, "description": text, "epilog": _EPILOG}
        made[name] = commands.add_parser(name, allow_abbrev=False, **options)
        made[name].set_defaults(run=runs[name])
    made["backup"].add_argument(
        "target", type=named, metavar="TARGET", help="a new or empty directory, outside of the relay's own"
    )
    for name in ("backup", "doctor"):
        add_files(made[name])
    made["restore"].add_argument(
        "source", type=named, metavar="SOURCE", help="the directory of a backup; --data DIR is made of it"
    )
    add_files(made["restore"], "with --store, where contents of files go")
    made["doctor"].add_argument("--repair", action="store_true", help="repair what is safe; the relay must be stopped")
    made["doctor"].add_argument("--quick", action="store_true", help="do not read every page and file")
    made["export"].add_argument("space", metavar="SPACE", help="name of the space")
    made["export"].add_argument("--out", type=named_file, metavar="FILE", help="a new file (default: standard output)")


def add_files(command: argparse.ArgumentParser, text: str = "where contents of files are") -> None:
    default = "(default: as DIR/relay.toml says, else DIR/blobs)"
    command.add_argument("--files", type=named, metavar="PLACE", help=f"{text} {default}")


def _backup(options: argparse.Namespace) -> int:
    from ..keeping.backup import backup
    from ..keeping.progress import Progress, number, size

    progress = Progress(quiet=options.json)
    made = backup(_directory(options), options.target, progress, files=files_of(options), store=_store(options))
    if options.json:
        print(json.dumps(made, indent=2))
    else:
        bytes = made["database_bytes"] + made["contents_bytes"]
        counts = made["counts"]
        print(
            f"Backed up {number(counts['messages'])} messages and {number(counts['files'])} files, {size(bytes)}, "
            f"as of {made['made_at'][:19]}Z."
        )
        if files := made.get("files"):
            print(f"The contents of files are not in it: they stay in {files}.")
    return tell_lost(made["lost"], "are not in the backup", "agentchat admin doctor says more.")


def _restore(options: argparse.Namespace) -> int:
    from ..keeping.progress import Progress
    from ..keeping.restore import restore, restore_to

    progress, store = Progress(quiet=options.json), _store(options)
    if store:
        done = restore_to(store, options.source, _directory(options), progress, files=files_of(options))
    elif options.files:
        raise errors.InvalidArguments("--files goes with --store; else contents are restored into the directory.")
    else:
        done = restore(options.source, _directory(options), progress)
    if options.json:
        print(json.dumps(done, indent=2))
    else:
        _tell_restored(done)
    return tell_lost(done["lost"], "could not be restored", "Their names are kept; upload them again.")


def _tell_restored(done: Restored) -> None:
    from ..keeping.progress import number

    counts = done["counts"]
    if done["again"]:
        print("An interrupted restore was begun again.")
    print(
        f"Restored {number(counts['messages'])} messages and {number(counts['files'])} files of "
        f"{done['made_at'][:19]}Z to {done['store'] or done['directory']}."
    )
    tell_start(done["directory"], done["files"], store=bool(done["store"]))
    if done["store"]:
        print("Agents' keys work as before. The relay makes the search index at its start.")
        return
    print(
        "Agents' keys work as before. The relay makes a new admin credential and the search index at its start; "
        "links to files that were given out before are void."
    )


def tell_start(directory: str, files: str, *, store: bool) -> None:
    """The command that serves what is there now. A URL may have a password in it, which is not repeated."""
    elsewhere = f" --files {shlex.quote(files)}" if files else ""
    print(
        f"Start the relay:  agentchat serve --data {shlex.quote(directory)}{' --store URL' if store else ''}{elsewhere}"
    )


def _doctor(options: argparse.Namespace) -> int:
    from ..keeping.progress import Progress, number

    found = _examiner(options)(
        _directory(options),
        Progress(quiet=options.json),
        (lambda finding: None) if options.json else _tell_finding,
        files=files_of(options),
        repair=options.repair,
        quick=options.quick,
    )
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        repaired = f", {number(found['repaired'])} repaired" if found["repaired"] else ""
        print(f"{_several(found['problems'], 'problem')}, {_several(found['warnings'], 'warning')}{repaired}.")
    return int(found["problems"] > 0)


def _examiner(options: argparse.Namespace) -> Callable[..., Diagnosis]:
    if store := _store(options):
        from ..keeping import postgres_doctor

        return partial(postgres_doctor.examine, store)
    from ..keeping.doctor import examine

    return examine


def _several(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _tell_finding(finding: Finding) -> None:
    mark = "repaired" if finding["repaired"] else _MARKS[finding["level"]]
    print(f"{mark:<9} {finding['check']:<11} {clean(finding['text'])}", flush=True)
    if finding["advice"]:
        print(f"{'':<21} {clean(finding['advice'])}", flush=True)


def _export(options: argparse.Namespace) -> int:
    from ..keeping.export import export, export_to
    from ..keeping.progress import Progress, number

    progress = Progress(quiet=options.json)
    if not options.out:
        if sys.stdout is None:
            raise errors.InvalidArguments("There is no standard output; name a file: --out FILE")
        export(_directory(options), options.space, sys.stdout.buffer.write, progress, store=_store(options))
        return 0
    counts = export_to(_directory(options), options.space, options.out, progress, store=_store(options))
    if options.json:
        print(json.dumps({"file": options.out, "counts": counts}, indent=2))
    else:
        print(f"Exported {number(counts['message'])} messages and {number(counts['file'])} names of files.")
    return 0


def _directory(options: argparse.Namespace) -> str:
    return options.data or default_directory()


def _store(options: argparse.Namespace) -> str:
    from .admin import store_of

    return store_of(options)


def files_of(options: argparse.Namespace, directory: str = "") -> str:
    """Where the relay of the directory has its contents: as `agentchat serve` would find out."""
    given = {"data": directory or _directory(options), **({"files": options.files} if options.files else {})}
    return str(in_force(given, None, default_directory())["files"])


def tell_lost(lost: list[Lost], what: str, advice: str) -> int:
    """Name what is missing on stderr; the exit code."""
    if not lost:
        return 0
    print(f"{len(lost)} contents of files {what}. {advice}", file=sys.stderr)
    for one in lost:
        print(clean(f"  {', '.join(one['files'])}: {one['why']} ({one['hash']})"), file=sys.stderr)
    return 1
