"""What both campaigns share: rounds told one by one, a summary, a table, the command line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar


class Judged(Protocol):
    @property
    def violations(self) -> list[str]: ...


R = TypeVar("R", bound=Judged)


def told(seed: int, numbers: Sequence[int], rounds: Iterable[R]) -> Iterator[R]:
    """The rounds as they end, each failed one told in one line."""
    for number, result in zip(numbers, rounds, strict=True):
        if result.violations:
            more = f" and {len(result.violations) - 3} more" if len(result.violations) > 3 else ""
            again = f"again: --seed {seed} --round {number}"
            print(f"round {number} failed: {'; '.join(result.violations[:3])}{more}; {again}", file=sys.stderr)
        if sys.stderr.isatty():
            print(f"round {number}", end="\r", file=sys.stderr, flush=True)
        yield result


def failed(numbers: Sequence[int], rounds: Sequence[Judged]) -> list[int]:
    return [number for number, result in zip(numbers, rounds, strict=True) if result.violations]


def print_table(summary: dict[str, Any]) -> None:
    """A summary; a member that is a mapping is summed up and then spread out."""
    rows = dict(summary)
    rows["failed rounds"] = len(summary["failed rounds"])
    spread = [name for name, value in summary.items() if isinstance(value, dict)]
    for name in spread:
        rows[name] = sum(summary[name].values())
        rows.update({f"  {kind}": times for kind, times in summary[name].items()})
    for name, value in rows.items():
        print(f"{name:<32}{value:>8}")


def main(
    name: str,
    about: str,
    controls: Sequence[str],
    run: Callable[[int, Sequence[int], str | None], dict[str, Any]],
    arguments: Sequence[str] | None,
    parents: Sequence[argparse.ArgumentParser] = (),
) -> int:
    """`run(seed, numbers, broken)` gives the summary. The exit code says whether every round passed. `parents` have
    options of one campaign, which has looked at them itself."""
    parser = argparse.ArgumentParser(name, description=about.partition("\n")[0], parents=[*parents])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--round", type=int, metavar="NUMBER", help="only this round of the seed")
    parser.add_argument("--broken", choices=controls, help="a control: break this, so that rounds must fail")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    options = parser.parse_args(arguments)
    numbers = range(options.rounds) if options.round is None else [options.round]
    summary = run(options.seed, numbers, options.broken)
    if options.json:
        print(json.dumps(summary))
    else:
        print_table(summary)
    return bool(summary["failed rounds"])
