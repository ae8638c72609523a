"""The house's rules that no linter knows: sizes, who may import whom, and what may never be committed."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
Module = tuple[str, ...]  # its dotted name, in parts

# Lines of a file and of a function. Tests, benches and examples may be long files, but not long mazes.
LIMITS = dict.fromkeys(("agentchat", "executor", "langchain_agentchat", "agentchat_relay", "agentchat_demo"), (400, 60))
OTHER_LIMITS = (800, 120)

# Package -> what it may import besides the standard library and itself. Downward only.
ARROWS: dict[str, set[str]] = {
    "agentchat": {"cryptography"},  # inside functions only: extra `keys`
    "agentchat_executor": {"agentchat"},
    "agentchat_relay": {
        "agentchat",
        "boto3",
        "botocore",
        "cryptography",
        "jsonschema",
        "msgspec",
        "psycopg",
        "uvicorn",
        "uvloop",
    },
    "langchain_agentchat": {"agentchat", "httpx", "pydantic", "langchain_core", "langchain", "langgraph"},
    "agentchat_demo": {"agentchat", "agentchat_relay", "langchain_agentchat", "langchain", "langchain_core"},
}
LAZY = {
    ("agentchat", "cryptography"),
    ("agentchat_relay", "boto3"),
    ("agentchat_relay", "botocore"),
    ("langchain_agentchat", "langchain"),
    ("langchain_agentchat", "langgraph"),
}

# Rooms of the relay, lowest first: each imports what stands before it, never what comes after. What is not named here
# (wire.py, settings.py, ...) is at the very bottom. Only the top knows the engine behind the seam.
LAYERS = ("store", "service", "push", "http", "chores", "relay", "local", "embedded", "keeping", "cli")
SEAM = {"seam", "query"}  # of the store, for service, push and http

# Put together at run time, so that this file does not break its own rule.
FORBIDDEN = re.compile(
    "|".join(["pypi" + "[.]org", "python" + "hosted", "npm" + "js[.]", "/work" + "/main", "/ro" + "ot/"])
)
LOCK_FILES = {"uv.lock", "poetry.lock", "Pipfile.lock", "package-lock.json", "pnpm-lock.yaml", "yarn.lock"}


def tracked() -> list[Path]:
    """Files that are or would be committed."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def sizes(path: Path, text: str, tree: ast.Module) -> Iterator[str]:
    lines, function_lines = LIMITS.get(path.relative_to(ROOT).parts[0], OTHER_LIMITS)
    if text.count("\n") > lines:
        yield f"{path.relative_to(ROOT)}: {text.count(chr(10))} lines, the limit is {lines}"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > function_lines:
                where = f"{path.relative_to(ROOT)}:{node.lineno}"
                yield f"{where}: {node.name} has {size} lines, the limit is {function_lines}"


def arrows(path: Path, tree: ast.Module) -> Iterator[str]:
    first, second, *_ = (*path.relative_to(ROOT).parts, "")
    package = second if first == "executor" else first
    if package not in ARROWS:
        return
    for node, at_import in _imports(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        if isinstance(node, ast.ImportFrom) and node.level:
            continue
        for top in (name.partition(".")[0] for name in names):
            if top == package or top in sys.stdlib_module_names:
                continue
            if top not in ARROWS[package]:
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {package} may not import {top}"
            elif at_import and (package, top) in LAZY:
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {package} may import {top} inside functions only"


def layers(path: Path, tree: ast.Module) -> Iterator[str]:
    """Imports within the relay run downward, and past the seam only where a store is opened."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] != "agentchat_relay" or len(parts) < 2:
        return
    mine = _layer(parts[1])
    for node, at_import in _imports(tree):
        if not (isinstance(node, ast.ImportFrom) and node.level and at_import):
            continue
        named = [node.module] if node.module else []
        room, *inner = ".".join([*parts[1 : len(parts) - node.level], *named, node.names[0].name]).split(".")
        if _layer(room) > mine:
            yield f"{path.relative_to(ROOT)}:{node.lineno}: {parts[1]} may not import {room}, which stands above it"
        if room == "store" and parts[1] in ("service", "push", "http") and inner[:1] and inner[0] not in SEAM:
            yield f"{path.relative_to(ROOT)}:{node.lineno}: {parts[1]} knows the store by its seam only"


def circles(trees: dict[Path, ast.Module]) -> Iterator[str]:
    """Modules of ours that import each other load in one order only."""
    packages = {path: path.relative_to(ROOT).parent.parts for path in trees}
    names = {path: package if path.stem == "__init__" else (*package, path.stem) for path, package in packages.items()}
    modules = set(names.values())
    graph = {names[path]: _needed(packages[path], tree, modules) - {names[path]} for path, tree in trees.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "these import each other: " + ", ".join(".".join(module) for module in error.args[1][:-1])


def _needed(package: Module, tree: ast.Module, modules: set[Module]) -> set[Module]:
    """What a module of this package imports when it is imported itself."""
    found = set()
    for node, at_import in _imports(tree):
        if isinstance(node, ast.ImportFrom) and node.level and at_import:
            steps = node.module.split(".") if node.module else []
            base = (*package[: len(package) + 1 - node.level], *steps)
            found |= {(*base, alias.name) if (*base, alias.name) in modules else base for alias in node.names}
    return found


def _layer(room: str) -> int:
    return LAYERS.index(room) if room in LAYERS else -1


def _imports(tree: ast.Module) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Every import, and whether it runs when the module is imported."""
    lazy = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, node not in lazy


def main() -> int:
    problems: list[str] = []
    trees: dict[Path, ast.Module] = {}
    for path in tracked():
        if path.name in LOCK_FILES:
            problems.append(f"{path.relative_to(ROOT)}: lock files name registry hosts; take it out")
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        if found := FORBIDDEN.search(text):
            problems.append(f"{path.relative_to(ROOT)}: names {found[0]!r}, a registry host or a path of one machine")
        if path.suffix == ".py":
            tree = trees[path] = ast.parse(text)
            problems += [*sizes(path, text, tree), *arrows(path, tree), *layers(path, tree)]
    problems += circles(trees)
    print("\n".join(problems) or "house rules: all kept", file=sys.stderr if problems else sys.stdout)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
