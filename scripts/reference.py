"""Write docs/reference.md from the code; with --check, only say whether it is out of date.

Operations come from the contract, error codes from their table, classes from `inspect`. Only what our own modules say
is shown, nothing they inherit from others, so that the page does not change with the packages it is made beside.
"""

import argparse
import ast
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, is_typeddict

from agentchat import cli, errors, schema
from agentchat._caller import ClientOptions
from agentchat._operation import Operation, Parameter
from agentchat.contract import OPERATIONS, PRESETS, Contract
from agentchat_executor import Executor
from agentchat_executor.execution import RuleOptions
from langchain_agentchat.poster import Stats
from langchain_agentchat.tools import TOOLS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference.md"
LONGEST_LINE = 100

# In the order of the page. A test holds that every exported name is there.
PACKAGES = {
    "langchain_agentchat": "For LangChain and LangGraph ([guide](langgraph.md), [status](status.md)). What "
    "`langchain_agentchat.compat` holds is on [its own page](migration.md).",
    "agentchat_executor": "For any function-calling loop ([guide](loops.md)). Standard library only.",
    "agentchat": "The client. Standard library only.",
    "agentchat_relay": "A relay inside another program, for tests and notebooks: `with running() as relay: …`. "
    "Needs the extra `relay`.",
}
NOT_EXPORTED: dict[str, list[Any]] = {
    "langchain_agentchat": [Stats],
    "agentchat_executor": [RuleOptions],
    "agentchat": [ClientOptions],
}
ELSEWHERE = {
    "agentchat.Contract": "The [operations](#operations), declared once; both clients have them as methods.",
    "agentchat.__version__": "The version, as text.",
    "agentchat.errors": "[Error codes](#error-codes) and their classes.",
    "agentchat.types": "The [results](#results).",
}
HAVE_ENTRIES = (Contract, Executor)  # whose heirs refer to them
# What the executors' common base offers to nobody but the executors.
INTERNAL = {"plan", "method", "reads", "done", "failed", "broken"}

HEAD = """\
# Reference

Made from the code by `make definitions`; do not edit.

- [Operations](#operations): what an agent can do, as tool, method, command and request
- [Results](#results): what comes back
- [Error codes](#error-codes): what can fail, and who must act
- Python: {packages}
"""

OPERATIONS_HEAD = """\
## Operations

Each is a tool, a method of `Client` and of `AsyncClient`, and a command of the shell. Which ones a model gets is chosen
by preset: `core` has {core}, `standard` has {standard} and is the default, `all` has all {all}.

| operation | | changes something | `core` | `standard` |
|---|---|---|---|---|
"""

RESULTS_HEAD = """\
## Results

What is on the wire is what you hold: the TypedDicts of `agentchat.types`. A member with a question mark may be absent.
"""

CODES_HEAD = """\
## Error codes

Every failure is an `AgentChatError`. Its class, in `agentchat.errors`, says who must act next:

{tree}

The code decides what may be repeated, never the status or the text. A client repeats a call by itself after the codes
marked here; every write carries an idempotency key, so that a repeated one takes effect once. A model reads a failure
as `Error (code): what to do.` The last column is what the command `agentchat` exits with.

| code | status | class | meaning | repeated | exit |
|---|---|---|---|---|---|
"""


def page() -> str:
    packages = ", ".join(f"[`{name}`](#{name})" for name in PACKAGES)
    parts = [HEAD.format(packages=packages), operations(), results(), codes(), *map(package, PACKAGES)]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


# Operations


def operations() -> str:
    rows = [
        row(
            f"[`{name}`](#{name})",
            operation.description,
            "yes" if operation.writes else "",
            *("✓" if name in PRESETS[preset] else "" for preset in ("core", "standard")),
        )
        for name, operation in OPERATIONS.items()
    ]
    head = OPERATIONS_HEAD.format(**{preset: len(names) for preset, names in PRESETS.items()})
    return head + "\n".join([*rows, "", *map(one_operation, OPERATIONS.values())])


def one_operation(operation: Operation[..., Any]) -> str:
    name = operation.name
    presets = ", ".join(f"`{preset}`" for preset, names in PRESETS.items() if name in names)
    keyed = "; changes something, so it carries an idempotency key" if operation.writes else ""
    lines = [
        f"### {name}\n",
        f"{operation.description}\n",
        f"- tool `{schema.PREFIX}{name}`, class `{TOOLS[name].__name__}`, in {presets}",
        f"- method `client.{call(operation)}`",
        f"- command `agentchat {name.replace('_', '-')}{command_line(operation)}`",
        f"- request `{operation.verb} {operation.path}`{keyed}",
        f"- answers {answers(operation.result)}\n",
    ]
    if operation.parameters:
        lines += ["| argument | type | default | limits | set by | |", "|---|---|---|---|---|---|"]
        lines += [*map(argument, operation.parameters.values()), ""]
    return "\n".join(lines)


def call(operation: Operation[..., Any]) -> str:
    words: list[str] = []
    for parameter in [*inspect.signature(operation.function).parameters.values()][1:]:
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        default = "" if parameter.default is parameter.empty else f"={value_text(parameter.default)}"
        words.append(parameter.name + default)
    return f"{operation.name}({', '.join(words)})"


def command_line(operation: Operation[..., Any]) -> str:
    """What stands after the command's name, as its own parser takes it."""
    parser = argparse.ArgumentParser(add_help=False)
    for parameter in operation.parameters.values():
        cli.add_argument(parser, parameter, operation)
    words = ""
    for action in parser._actions:
        value = "" if action.nargs == 0 else f" {action.metavar or '{' + ','.join(action.choices or ()) + '}'}"
        value += " ..." if action.nargs in ("+", "*") else ""
        if action.option_strings:
            words += f" [{'/'.join(action.option_strings)}{value}]"
        else:
            words += f" [{value.strip()}]" if action.nargs == "?" else value
    return words


def argument(parameter: Parameter) -> str:
    about = parameter.description
    if parameter.wire != (parameter.name,):
        about += f" On the wire: `{'.'.join(parameter.wire)}`."
    default = "required" if parameter.required else ""
    if parameter.default is not None:
        default = f"`{value_text(parameter.default)}`"
    kind = "array of strings" if parameter.kind == "array" else parameter.kind
    return row(f"`{parameter.name}`", kind, default, limits(parameter), set_by(parameter), about)


def limits(parameter: Parameter) -> str:
    found = []
    if parameter.choices:
        found.append(", ".join(f"`{choice}`" for choice in parameter.choices))
    if parameter.limit is not None:
        low, high = parameter.limit
        units = {"string": " characters", "array": " items", "object": " characters of JSON"}
        found.append(f"{low:,} to {high:,}{units.get(parameter.kind, '')}")
    if parameter.form is not None:
        found.append(parameter.form.words)
    if parameter.item_form is not None:
        found.append(f"each {parameter.item_form.words}")
    return "; ".join(found)


def set_by(parameter: Parameter) -> str:
    if parameter.client_only is None:
        return "models, programs"
    sent = parameter.client_only.tools
    return "programs" if sent is None else f"programs; our tools send `{value_text(sent)}`"


def answers(result: Any) -> str:
    members = ", ".join(f"`{name}`{'' if always else '?'}" for name, _, always in members_of(result))
    return f"[`{result.__name__}`](#{result.__name__.lower()}): {members}"


# Results


def results() -> str:
    found: dict[str, Any] = {}
    for operation in OPERATIONS.values():
        collect(operation.result, found)
    return RESULTS_HEAD + "\n" + "\n".join(typed_dict(found[name]) for name in sorted(found))


def collect(kind: Any, found: dict[str, Any]) -> None:
    """A TypedDict and all it is made of."""
    if is_typeddict(kind):
        if kind.__name__ in found:
            return
        found[kind.__name__] = kind
    for inner in [*get_args(kind), *(vars(kind).get("__annotations__", {}).values() if is_typeddict(kind) else ())]:
        collect(inner, found)


def typed_dict(kind: Any) -> str:
    rows = (row(f"`{name}`{'' if always else '?'}", f"`{text}`") for name, text, always in members_of(kind))
    return "\n".join([f"### {kind.__name__}\n", *prose(kind), "| member | type |", "|---|---|", *rows, ""])


def members_of(kind: Any) -> Iterator[tuple[str, str, bool]]:
    """Each member's name and type, and whether it is always there."""
    for name, annotation in kind.__annotations__.items():
        text = type_text(annotation)
        yield name, re.sub(r"^NotRequired\[(.*)\]$", r"\1", text), name in kind.__required_keys__


# Error codes


def codes() -> str:
    tree = (errors.__doc__ or "").partition("\n\n")[2].partition("\n\nWhat may")[0]
    rows = [code_row(code, str(status), kind) for code, (status, kind) in errors.CODES.items()]
    made_here = {kind.code: kind for kind in reversed([*descendants(errors.AgentChatError)])}
    rows += [code_row(code, "", made_here[code]) for code in sorted(made_here.keys() - errors.CODES.keys())]
    return CODES_HEAD.format(tree=fenced(textwrap.dedent(tree), "text")) + "\n".join(rows)


def descendants(kind: type[errors.AgentChatError]) -> Iterator[type[errors.AgentChatError]]:
    for inner in kind.__subclasses__():
        if inner.__module__ == kind.__module__:
            yield inner
            yield from descendants(inner)


def code_row(code: str, status: str, kind: type[errors.AgentChatError]) -> str:
    exit_code = next(number for number, _, kinds in cli.EXIT_CODES if issubclass(kind, kinds))
    repeated = "yes" if code in errors.RETRYABLE else ""
    meaning = (kind.__doc__ or "").splitlines()[0]
    return row(f"`{code}`", status, f"`{kind.__name__}`", meaning, repeated, str(exit_code))


# Packages and their classes


def package(name: str) -> str:
    module = importlib.import_module(name)
    exported = {each: exported_value(module, each) for each in module.__all__}
    tools = [each for each, value in exported.items() if value in TOOLS.values()]
    parts = [f"## {name}\n\n{PACKAGES[name]}\n"]
    for each, value in exported.items():
        if f"{name}.{each}" in ELSEWHERE:
            parts.append(f"### {each}\n\n{ELSEWHERE[f'{name}.{each}']}\n")
        elif each not in tools:
            parts.append(documented(value))
    if tools:
        parts.append(tool_classes(tools))
    return "\n".join([*parts, *map(documented, NOT_EXPORTED.get(name, ()))])


def exported_value(module: ModuleType, name: str) -> Any:
    value = getattr(module, name)
    return getattr(value, name, value) if isinstance(value, ModuleType) else value  # a submodule may hide its namesake


def tool_classes(names: list[str]) -> str:
    operations = {kind.__name__: name for name, kind in TOOLS.items()}
    links = ", ".join(f"[`{name}`](#{operations[name]})" for name in names)
    return f"### Tool classes\n\nOne per operation, made and used as `AgentChatTool`: {links}.\n"


def documented(value: Any) -> str:
    if is_typeddict(value):
        return typed_dict(value)
    heading = f"### {value.__name__}\n"
    if not isinstance(value, type):
        return "\n".join([heading, fenced(signature(value.__name__, value), "python") + "\n", *prose(value)])
    if hasattr(value, "_fields"):
        rows = [row(f"`{each}`", f"`{text}`", default) for each, text, default in fields_of(value)]
        table = ["| field | type | default |", "|---|---|---|", *rows, ""]
        return "\n".join([heading, *prose(value), *table, *methods(value)])
    constructor = next((vars(kind)["__init__"] for kind in ours(value) if "__init__" in vars(kind)), None)
    shown = [fenced(signature(value.__name__, constructor), "python") + "\n"] if constructor else []
    return "\n".join([heading, *shown, *prose(value), *options(value, constructor), *methods(value)])


def ours(kind: type) -> list[type]:
    """The class and its bases, as far as they are our code."""
    return [each for each in kind.__mro__ if is_ours(each)]


def is_ours(value: Any) -> bool:
    return value.__module__.partition(".")[0] in PACKAGES


def fields_of(kind: Any) -> Iterator[tuple[str, str, str]]:
    """Of a NamedTuple."""
    for name in kind._fields:
        default = f"`{value_text(kind._field_defaults[name])}`" if name in kind._field_defaults else "required"
        yield name, type_text(kind.__annotations__[name]), default


def options(kind: Any, constructor: Any) -> list[str]:
    """Fields of a pydantic class that its constructor takes without naming them."""
    fields = getattr(kind, "model_fields", {})
    named = inspect.signature(constructor).parameters if constructor else {}
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in named.values()):
        return []
    own = [name for name in vars(kind).get("__annotations__", {}) if name in fields and name not in named]
    rows = [
        row(f"`{name}`", f"`{kind.__annotations__[name]}`", f"`{value_text(fields[name].default)}`") for name in own
    ]
    return ["| option | type | default |", "|---|---|---|", *rows, ""] if rows else []


def methods(kind: type) -> list[str]:
    """Methods with a docstring, those of bases too unless these have an entry of their own."""
    lines: dict[str, str] = {}
    for each in ours(kind):
        if each is not kind and each in HAVE_ENTRIES:
            lines[f"as {each.__name__}"] = f"- and what [`{each.__name__}`](#{each.__name__.lower()}) has"
            break
        for name, value in vars(each).items():
            if not name.startswith("_") and name not in INTERNAL and (line := method(kind.__name__, name, value)):
                lines.setdefault(name, line)
    return [*lines.values(), ""] if lines else []


def method(owner: str, name: str, value: Any) -> str | None:
    function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    if not inspect.isfunction(function) or not function.__doc__ or not is_ours(function):
        return None
    if isinstance(value, property):
        shown = f"{name}: {type_text(inspect.signature(function).return_annotation)}"
    else:
        shown = signature(f"{owner}.{name}" if isinstance(value, classmethod) else name, function, width=10_000)
    colour = "async " if inspect.iscoroutinefunction(function) else ""
    return f"- `{colour}{shown}`: {' '.join(function.__doc__.split())}"


# Text


def signature(name: str, function: Callable[..., Any], width: int = LONGEST_LINE) -> str:
    found = inspect.signature(function)
    words: list[str] = []
    for parameter in found.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not any(word.startswith("*") for word in words):
            words.append("*")
        stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else stars
        annotation = "" if parameter.annotation is parameter.empty else f": {type_text(parameter.annotation)}"
        default = "" if parameter.default is parameter.empty else f" = {value_text(parameter.default)}"
        words.append(f"{stars}{parameter.name}{annotation}{default}")
    answer = (
        "" if found.return_annotation in (found.empty, "None", None) else f" -> {type_text(found.return_annotation)}"
    )
    line = f"{name}({', '.join(words)}){answer}"
    return line if len(line) <= width else "\n".join([f"{name}(", *(f"    {word}," for word in words), f"){answer}"])


def type_text(annotation: Any) -> str:
    text = getattr(annotation, "__forward_arg__", annotation)
    if isinstance(annotation, type) and not get_args(annotation):
        text = annotation.__name__
    return re.sub(r"\b(?:typing|collections|agentchat)\.(?:\w+\.)*", "", str(text))


def value_text(value: object) -> str:
    return '"' + value + '"' if isinstance(value, str) and '"' not in value else repr(value)


def prose(value: Any) -> list[str]:
    """The docstring's paragraphs; those that are Python stand as code."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(value.__doc__ or "")):
        text = textwrap.dedent(paragraph)
        parts.append(fenced(text, "python") if is_code(text) else text.replace("\n", " "))
    return [f"{part}\n" for part in parts if part]


def is_code(text: str) -> bool:
    try:
        return any(character in text for character in "=(") and bool(ast.parse(text))
    except SyntaxError:
        return False


def fenced(text: str, language: str) -> str:
    return f"```{language}\n{text.strip(chr(10))}\n```"


def row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> int:
    wanted = page()
    if PAGE.exists() and PAGE.read_bytes().decode() == wanted:
        return 0
    if "--check" in sys.argv[1:]:
        print("docs/reference.md out of date; run: make definitions", file=sys.stderr)
        return 1
    PAGE.write_bytes(wanted.encode())
    print("docs/reference.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
