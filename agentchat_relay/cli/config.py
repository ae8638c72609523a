"""Which settings of `agentchat serve` are in force: the command line wins over the file, the file over the defaults.

The file is TOML, one line for each option under its name. It is named by --config, else it is DIR/relay.toml if that
is there.
"""

from __future__ import annotations

import json
import os
import textwrap
import tomllib
from typing import Any

from agentchat._arguments import nearest, shown
from agentchat.errors import InvalidArguments, NotConfigured

from .options import GROUPS, OPTIONS, Option, Values, checked

FILE = "relay.toml"
HERE_ONLY = ("config", "print-config", "daemon", "wait")  # what to do now, rather than how the relay is
_KINDS = {
    str: "text in quotes",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list of texts",
}


def in_force(given: Values, file: str | None, default_directory: str) -> Values:
    """Every setting. `given` is what the command line says, `file` what it names as configuration."""
    here = {
        name: checked(OPTIONS[name], value, f"--{name}", os.getcwd())
        for name, value in given.items()
        if name in OPTIONS
    }
    if file is not None:
        found = read(file)
        directory = here.get("data") or found.get("data") or os.path.abspath(default_directory)
    else:
        directory = here.get("data") or os.path.abspath(default_directory)
        found = _found_in(directory)
    return {name: option.default for name, option in OPTIONS.items()} | found | here | {"data": directory}


def _found_in(directory: str) -> Values:
    """The settings of the file in the data directory, if there is one. It cannot say that the directory is another."""
    path = os.path.join(directory, FILE)
    found = read(path, must_exist=False)
    if (named := found.get("data") or directory) != directory:
        raise InvalidArguments(
            f"{path}: data is {named}, but this file was found in {directory}; take the line out, or name the file "
            "with --config"
        )
    return found


def read(path: str, *, must_exist: bool = True) -> Values:
    """The settings of a file."""
    path = os.path.abspath(os.path.expanduser(path))
    try:
        with open(path, "rb") as file:
            written = tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError) as error:
        if must_exist:
            raise NotConfigured(f"Cannot read {path}: {error.strerror}.") from error
        return {}
    except OSError as error:
        raise NotConfigured(f"Cannot read {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArguments(f"{path} is not TOML: {error}") from error
    found: Values = {}
    for key, value in written.items():
        option = _known(key, path)
        if option.name in found:
            raise InvalidArguments(f"{path}: {option.name} is there twice, also as {key}")
        where = f"{path}: {key}"
        found[option.name] = checked(option, _typed(option, value, where), where, os.path.dirname(path))
    return found


def _known(key: str, path: str) -> Option:
    name = key.replace("_", "-")
    if option := OPTIONS.get(name):
        return option
    if name in HERE_ONLY:
        raise InvalidArguments(f"{path}: {key} is for the command line only")
    near = nearest(name, OPTIONS)
    hint = f"did you mean {near}?" if near else "agentchat serve --help lists them"
    raise InvalidArguments(f"{path}: there is no setting {shown(key)}; {hint}")


def _typed(option: Option, value: Any, where: str) -> Any:
    wanted = type(option.default)
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted or (wanted is list and not all(type(each) is str for each in value)):
        raise InvalidArguments(f"{where} must be {_KINDS[wanted]}, got {shown(value)}")
    if option.choices and value not in option.choices:
        raise InvalidArguments(f"{where} must be one of {', '.join(option.choices)}, got {shown(value)}")
    return value


def written(values: Values) -> str:
    """Settings as a file that `read` takes."""
    lines = [
        "# Settings of `agentchat serve`. Save them as DIR/relay.toml, where they are found, or name the file with",
        "# --config. What the command line says counts more.",
    ]
    for title, (text, options) in GROUPS.items():
        lines += ["", f"## {title}" + (f". {text}" if text else "")]
        for option in options:
            lines += ["", *textwrap.wrap(option.help, 118, initial_indent="# ", subsequent_indent="# ")]
            lines.append(f"{option.name} = {_toml(values[option.name])}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """JSON's notation is TOML's for what settings are, but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
