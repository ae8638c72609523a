"""What importing us costs over the standard library modules that any HTTP client needs: CPU time of fresh processes.

    python bench/imports.py [--tiny] [--json]

Each import runs in processes of its own, in turns; the cost of an empty interpreter is taken off both sides.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import _measure as measure

ROOT = Path(__file__).resolve().parent.parent
CASES = {
    "interpreter": "pass",
    "json, http.client": "import json, http.client",
    "agentchat": "import agentchat; agentchat.Client",
    "agentchat_executor": "import agentchat_executor; agentchat_executor.Executor",
    "httpx": "import httpx",
}
GOAL = 1.5


def cpu_ms(statement: str) -> float:
    """CPU milliseconds of one process, children's clock read before and after."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    path = os.pathsep.join([str(ROOT), str(ROOT / "executor")])
    environment = {**os.environ, "PYTHONPATH": path}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # with it, every import would compile again
    subprocess.run([sys.executable, "-c", statement], env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3


def main() -> None:
    options = measure.options(__doc__ or "")
    rounds, repeats = (2, 1) if options.tiny else (15, 4)
    samples: dict[str, list[float]] = {name: [] for name in CASES}
    for turn in range(rounds + 1):
        for name, statement in CASES.items():
            mean = statistics.mean(cpu_ms(statement) for _ in range(repeats))
            if turn:  # the first round writes the bytecode
                samples[name].append(mean)
    empty, base = samples.pop("interpreter"), samples["json, http.client"]
    ratios = {
        name: [(mine - none) / max(theirs - none, 0.1) for mine, theirs, none in zip(took, base, empty, strict=True)]
        for name, took in samples.items()
    }
    if options.json:
        measure.printed({"ratios": {name: measure.summary(values) for name, values in ratios.items()}, "goal": GOAL})
        return
    rows = [("import", "CPU ms with interpreter", "ratio over interpreter", "goal")]
    rows.append(("(nothing)", measure.spread(empty), "", ""))
    for name, took in samples.items():
        goal = f"<= {GOAL}" if name == "agentchat_executor" else ""
        rows.append((name, measure.spread(took), measure.spread(ratios[name]), goal))
    measure.table(rows)


if __name__ == "__main__":
    main()
