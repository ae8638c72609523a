"""The command `agentchat`: one subcommand per operation of the contract, derived from it.

The relay's own commands (`serve`, `admin`, `demo`) come in by entry point, group `agentchat.commands`.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import json
import os
import sys
import warnings
from base64 import b64encode
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any, NoReturn, TextIO, cast

from . import __version__, errors, schema, settings, text
from ._arguments import nearest
from ._operation import Operation, Parameter
from .client import Client
from .contract import OPERATIONS, PRESETS

# The first class that fits decides; `--help` shows the table.
EXIT_CODES: tuple[tuple[int, str, tuple[type[BaseException], ...]], ...] = (
    (3, "not allowed", (errors.Unauthorized, errors.Forbidden)),
    (4, "not found", (errors.NotFound,)),
    (5, "conflict", (errors.Conflict,)),
    (6, "try again later", (errors.NetworkError, errors.RateLimited, errors.Unavailable)),
    (2, "wrong usage", (errors.CallerError,)),
    (1, "the relay failed", (errors.AgentChatError,)),
)
_EPILOG = "exit codes: 0 done, " + ", ".join(f"{code} {meaning}" for code, meaning, _ in sorted(EXIT_CODES))
_RELAY_COMMANDS = ("serve", "admin", "demo")
_UNBOUNDED = 10**9
_LONGEST_MACHINE = 50  # that an operator can admit
# What a command does beyond its operation.
_MORE = {"check_inbox": "As a command: what was printed counts as dealt with at once."}
_COMMON: dict[str, dict[str, Any]] = {
    "--url": {"help": "the relay (default: AGENTCHAT_URL); the key is AGENTCHAT_KEY"},
    "--agent": {"help": "speak as this agent (default: AGENTCHAT_AGENT)"},
    "--project": {"help": "project the messages belong to (default: AGENTCHAT_PROJECT)"},
    "--home": {"help": "directory of keys and config (default: AGENTCHAT_HOME or ~/.agentchat)"},
    "--timeout": {"type": float, "metavar": "SECONDS", "help": "longest wait for one attempt"},
    "--json": {"action": "store_true", "help": "print the relay's answer as JSON"},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal cannot show is escaped rather than a crash
            stream.reconfigure(errors="backslashreplace")
    try:
        if words and not words[0].startswith("-") and (foreign := _foreign(words[0])) is not None:
            return _printing(lambda: foreign(words[1:]))
        with warnings.catch_warnings():
            warnings.showwarning = cast("Any", _show_warning)
            return _printing(lambda: _run(words))
    except errors.AgentChatError as error:
        problem = {"error": error.message, "code": error.code, "request_id": error.request_id, **error.details}
        print(json.dumps(problem, default=str) if "--json" in words else text.explain(error), file=sys.stderr)
        return next(code for code, _, kinds in EXIT_CODES if isinstance(error, kinds))
    except KeyboardInterrupt:
        return 130


def _show_warning(message: Warning | str, *_: object) -> None:
    print(f"Warning: {message}", file=sys.stderr)


def _printing(run: Callable[[], int]) -> int:
    """Run a command; all that can go wrong with the output ends here."""
    try:
        code = run()
        if sys.stdout:
            sys.stdout.flush()
        return code
    except OSError as error:
        if sys.stdout:  # else Python would complain again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader of a pipe has seen enough
            return 0
        print(f"Error: cannot write the output: {error.strerror or error}.", file=sys.stderr)
        return 1


def _run(words: list[str]) -> int:
    if not words:
        _parser().print_help()
        return 2
    if words[0].partition("=")[0] in _COMMON:
        raise errors.InvalidArguments(f"Options go after the command: agentchat COMMAND {words[0]} ...")
    try:
        options = _parser().parse_args(words)
    except SystemExit as done:  # --help and --version
        return int(done.code or 0)
    run: Callable[[argparse.Namespace], None] = options.run
    run(options)
    return 0


def _foreign(command: str) -> Callable[[list[str]], int] | None:
    """A command that is not ours: the relay's, or a mistake."""
    ours = {name.replace("_", "-") for name in OPERATIONS} | {"watch", "definitions", "machine"}
    if command in ours:
        return None
    for entry in entry_points(group="agentchat.commands", name=command):
        try:
            run: Callable[[list[str]], int] = entry.load()
        except ImportError:  # the entry is there, what it needs is not
            break
        return run
    if command in _RELAY_COMMANDS:
        raise errors.NotConfigured(
            f"agentchat {command} belongs to the relay, which is not installed here: "
            'pip install "langchain-agentchat[relay]"'
        )
    near = nearest(command.replace("_", "-"), [*ours, *_RELAY_COMMANDS])
    hint = f"did you mean {near}?" if near else "agentchat --help lists the commands"
    raise errors.InvalidArguments(f"There is no command {text.word(command)}; {hint}")


class Parser(argparse.ArgumentParser):
    """Reports wrong usage the way every other error is reported."""

    def error(self, message: str) -> NoReturn:
        if "arguments are required" in message:
            message += " (a text that starts with '-' goes after '--')"
        raise errors.InvalidArguments(f"{message}; see: {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    about = "Talk to other agents through a relay."
    relay = "With the relay installed: agentchat serve, admin, demo."
    parser = Parser("agentchat", description=f"{about} {relay}", epilog=_EPILOG, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"agentchat {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    common = _common_options()
    for operation in OPERATIONS.values():
        command = commands.add_parser(
            operation.name.replace("_", "-"),
            parents=[common],
            help=operation.description,
            description=f"{operation.description} {_MORE.get(operation.name, '')}".rstrip(),
            epilog=_EPILOG,
            allow_abbrev=False,
        )
        for parameter in operation.parameters.values():
            add_argument(command, parameter, operation)
        command.set_defaults(run=_run_operation, operation=operation)
    _add_watch(commands, common)
    _add_definitions(commands.add_parser("definitions", help="Print tool definitions for a model's API."))
    _add_machine(commands.add_parser("machine", help="Give this machine a key of its own."))
    return parser


def _common_options() -> Parser:
    common = Parser(add_help=False)
    group = common.add_argument_group("relay and output")
    for name, options in _COMMON.items():
        group.add_argument(name, **options)
    return common


def add_argument(command: argparse.ArgumentParser, parameter: Parameter, operation: Operation[..., Any]) -> None:
    options: dict[str, Any] = {"help": schema.described(parameter).replace("%", "%%")}
    if parameter.choices:
        options["choices"] = parameter.choices
    if parameter.kind == "array":
        options["nargs"] = "+" if parameter.required else "*"
    if parameter.name == "content":
        options["help"] += " '-' reads standard input."
    if parameter.required:
        if parameter.name == "content" and operation.name == "upload_file":
            options.update(nargs="?", help="The file's text, or '-' for standard input; default: the file's content.")
        command.add_argument(f"arg_{parameter.name}", metavar=parameter.name, **options)
        return
    if parameter.kind == "boolean":
        options["action"] = argparse.BooleanOptionalAction
    elif not parameter.choices:
        options["metavar"] = parameter.kind.upper()
    command.add_argument(f"--{parameter.name.replace('_', '-')}", dest=f"arg_{parameter.name}", **options)


def _run_operation(options: argparse.Namespace) -> None:
    operation: Operation[..., Any] = options.operation
    arguments: dict[str, Any] = {}
    for parameter in operation.parameters.values():
        value = getattr(options, f"arg_{parameter.name}")
        if value is not None:
            arguments.update(_read(parameter, value, options))
    if operation.name == "upload_file":
        path = arguments["filename"]
        if "content" not in arguments:
            arguments.update(_content(_bytes_of(path), path, options))
        arguments["filename"] = os.path.basename(path)
    client = Client.from_env(url=options.url, agent=options.agent, project=options.project, home=options.home)
    with client.with_options(timeout=options.timeout) as ready:
        result = getattr(ready, operation.name)(**arguments)
        claim = result.get("claim_id") if operation.name == "check_inbox" else None
        try:
            _print_result(operation, result, arguments, as_json=options.json, at_once=bool(claim))
            if claim:
                _output().flush()
        except OSError:  # what could not be written was not seen
            if claim:
                with contextlib.suppress(errors.AgentChatError):  # then it is given out again when the claim ends
                    ready.return_items(claim)
            raise
        if claim:
            ready.acknowledge_items(claim)


def _print_result(
    operation: Operation[..., Any], result: Any, arguments: dict[str, Any], *, as_json: bool, at_once: bool
) -> None:
    if as_json:
        print(json.dumps(result, indent=2, default=_encoded))
    elif isinstance(content := result.get("content"), bytes) and not _output().isatty():
        _output().buffer.write(content)  # into a file or a pipe; a terminal gets the harmless form
    else:
        print(text.render(operation, result, max_chars=_UNBOUNDED, arguments=arguments, at_once=at_once))


def _output() -> TextIO:
    """Where to print, for what is of no use unless it is written. What was closed by the shell is None to Python, which
    prints nothing there and says nothing."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return sys.stdout


def _read(parameter: Parameter, value: Any, options: argparse.Namespace) -> dict[str, Any]:
    """A word as an argument. The content `-` stands for standard input."""
    if value == "-" and parameter.name == "content":
        if sys.stdin is None:
            raise errors.InvalidArguments("There is no standard input")
        return _content(sys.stdin.buffer.read(), "Standard input", options)
    return {parameter.name: typed(parameter, value)}


def typed(parameter: Parameter, value: Any) -> Any:
    """A word of the command line as what the declaration wants."""
    if parameter.kind == "integer":
        with contextlib.suppress(ValueError):  # the argument check says what is wrong
            return int(value)
    if parameter.kind == "object":
        try:
            return json.loads(value)
        except ValueError:
            option = parameter.name.replace("_", "-")
            raise errors.InvalidArguments(f"--{option} must be a JSON object, got {value[:60]!r}") from None
    return value


def _bytes_of(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise errors.InvalidArguments(f"Cannot read {path}: {error.strerror}") from error


def _content(content: bytes, source: str, options: argparse.Namespace) -> dict[str, str]:
    """Bytes as the argument `content`. Where the operation has an encoding, the bytes decide unless one was named."""
    encoding = getattr(options, "arg_encoding", "utf-8")
    try:
        if encoding != "base64":
            return {"content": content.decode()}
    except UnicodeDecodeError:
        if encoding == "utf-8":
            raise errors.InvalidArguments(f"{source} is not UTF-8 text") from None
    return {"content": b64encode(content).decode(), "encoding": "base64"}


def _encoded(value: object) -> Any:
    if not isinstance(value, bytes):
        raise TypeError(type(value).__name__)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(value).decode()}


def _add_watch(commands: Any, common: Parser) -> None:
    from . import _watch

    command = commands.add_parser(
        "watch",
        parents=[common],
        help="Print what happens, a line for each event.",
        description=_watch.DESCRIPTION,
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    listing = OPERATIONS["list_events"]
    for name in _watch.PARAMETERS:
        add_argument(command, listing.parameters[name], listing)
    command.set_defaults(run=_watch.watch)


def _add_definitions(command: argparse.ArgumentParser) -> None:
    command.description = "Print tool definitions, ready to be passed to a model's API as `tools`."
    command.add_argument("--dialect", choices=schema.DIALECTS, default="openai")
    command.add_argument("--preset", choices=tuple(PRESETS), default="standard")

    def run(options: argparse.Namespace) -> None:
        print(json.dumps(schema.tools(options.dialect, preset=options.preset), indent=2))

    command.set_defaults(run=run)


def _add_machine(command: argparse.ArgumentParser) -> None:
    init = command.add_subparsers(metavar="command", required=True).add_parser(
        "init", help="Make this machine's key pair; the relay's operator then admits it."
    )
    init.add_argument("--name", help="the machine's name (default: its host name)")
    init.add_argument("--url", help="the relay (default: AGENTCHAT_URL)")
    init.add_argument("--home", **_COMMON["--home"])
    init.add_argument("--json", action="store_true", help="print name and public key as JSON")
    init.set_defaults(run=_machine_init)


def _machine_init(options: argparse.Namespace) -> None:
    import socket

    from .identity import init_machine

    found = settings.load(url=options.url, home=options.home)
    name = options.name or found.machine or settings.agent_name(socket.gethostname().partition(".")[0], "")
    if len(name) > _LONGEST_MACHINE:
        raise errors.InvalidArguments(f"A machine's name has at most {_LONGEST_MACHINE} characters; choose a --name")
    public = init_machine(found.home, name, found.url)
    if options.json:
        print(json.dumps({"machine_name": name, "public_key": public, "home": found.home}))
        return
    print(f"Made the key of machine {name} in {found.home}.")
    if settings.is_local(found.url):
        print("Agents with local: need no key, so nobody has to admit it. It is for a relay.")
    print("The relay's operator admits it with:")
    print(f"agentchat admin machine add {name} {public}")


if __name__ == "__main__":
    sys.exit(main())
