"""Write tool_definitions/*.json from the contract; with --check, only say what is out of date."""

import json
import sys
from pathlib import Path

from agentchat import schema
from agentchat.contract import PRESETS

FOLDER = Path(__file__).resolve().parent.parent / "tool_definitions"


def files() -> dict[str, str]:
    """File name to content. Every file holds every tool; presets.json says which belong to a preset."""
    contents: dict[str, object] = {
        f"{dialect}.json": schema.tools(dialect, preset="all") for dialect in schema.DIALECTS
    }
    contents["presets.json"] = {preset: [schema.PREFIX + name for name in schema.select(preset)] for preset in PRESETS}
    return {name: json.dumps(content, indent=2) + "\n" for name, content in contents.items()}


def main() -> int:
    wanted = files()
    stale = [name for name, content in wanted.items() if _current(name) != content]
    stale += sorted(path.name for path in FOLDER.glob("*.json") if path.name not in wanted)
    if "--check" in sys.argv[1:]:
        if stale:
            print(f"tool_definitions: {', '.join(stale)} out of date; run: make definitions", file=sys.stderr)
        return bool(stale)
    for name in stale:
        if name in wanted:
            (FOLDER / name).write_bytes(wanted[name].encode())
        else:
            (FOLDER / name).unlink()
        print(f"tool_definitions/{name}")
    return 0


def _current(name: str) -> str | None:
    path = FOLDER / name
    return path.read_bytes().decode() if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
