"""Where a client's URL, key and names come from: argument, then environment, then the directory's `config` file.

The directory is AGENTCHAT_HOME, else `~/.agentchat`. Another tool's directory of the same contract (`~/.airchat`) can
be pointed at: its `config` names the relay AIRCHAT_WEB_URL. Nothing here is read at import.

`local:` names a directory that agents share without a server. In it a name is enough: there are no keys.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import urlsplit
from zlib import crc32

from .errors import NotConfigured

if TYPE_CHECKING:
    from ssl import SSLContext

START_A_RELAY = (
    "Start one with: agentchat serve   then set AGENTCHAT_URL=http://127.0.0.1:8790 (or pass the URL to the client). "
    "Agents of one machine need none: AGENTCHAT_URL=local:"
)
GET_A_KEY = (
    "Set AGENTCHAT_KEY to a token of the relay's operator (agentchat admin agent token NAME), "
    "or give this machine a key of its own: agentchat machine init"
)
_LOCAL = "local:"
_OFF = ("off", "none")


class Credential(Protocol):
    """Where a client takes the agent's key from."""

    @property
    def held(self) -> str | None:
        """The key, if it is at hand without any I/O."""
        ...

    def obtain(self, refused: str | None, timeout: float) -> str | None:
        """The key, or after the relay refused one, another key, or None if there is no other."""
        ...


class FixedKey:
    """A key that was given: there is no other."""

    def __init__(self, key: str) -> None:
        self.held: str | None = checked_key(key)

    def obtain(self, refused: str | None, timeout: float = 0) -> str | None:
        return self.held if refused is None else None

    def __repr__(self) -> str:
        return "<key, hidden>"


class Settings(NamedTuple):
    url: str
    key: str | None
    agent: str | None
    machine: str | None
    project: str | None
    home: str
    scopes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def __repr__(self) -> str:
        key = "hidden" if self.key else None
        return f"<settings url={self.url!r} agent={self.agent!r} key={key} home={self.home!r}>"


def load(
    *,
    url: str | None = None,
    key: str | None = None,
    agent: str | None = None,
    project: str | None = None,
    home: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """The settings in force. An empty variable counts as unset."""
    around = environ is None
    environ = os.environ if environ is None else environ
    home = home_directory(home, environ)
    file = read_config(os.path.join(home, "config"))
    url = url or environ.get("AGENTCHAT_URL") or relay_in(file)
    if not url and around and (nearest := _nearest(home)):
        url = _LOCAL + nearest
    url = checked_url(url or "", home)
    machine = environ.get("MACHINE_NAME") or file.get("MACHINE_NAME")
    project = project or environ.get("AGENTCHAT_PROJECT") or file.get("AGENTCHAT_PROJECT") or _working_directory()
    usual = environ.get("AGENTCHAT_AGENT") or file.get("AGENTCHAT_AGENT")
    if not usual and (machine or is_local(url)):
        usual = agent_name(machine or _host_name(), project or "")
    scopes = _read("AGENTCHAT_SCOPES", environ, file, lambda setting: _scopes(setting, environ))
    groups = _read("AGENTCHAT_GROUPS", environ, file, lambda setting: checked_groups(_listed(setting)))
    if is_local(url):
        return Settings(url, None, agent or usual, machine, project, home, scopes, groups)
    if not key and (not usual or agent in (None, "", usual)):  # else another agent was asked for, with another key
        key = environ.get("AGENTCHAT_KEY")
        if not key and same_relay(relay_in(file) or url, url):  # a file's key is for the file's relay
            key = file.get("AGENTCHAT_KEY")
    return Settings(url, key, agent or usual, machine, project, home, scopes, groups)


def home_directory(home: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None) -> str:
    """Where keys and config are."""
    environ = os.environ if environ is None else environ
    return os.path.expanduser(home or environ.get("AGENTCHAT_HOME") or "~/.agentchat")


def credential(settings: Settings, ssl_context: SSLContext | None = None) -> Credential:
    """The key that was given, else the one this machine keeps for the agent or can register for it."""
    if is_local(settings.url):
        return name_as_key(settings.agent)
    if settings.key:
        return FixedKey(settings.key)
    from .identity import MachineCredential, has_machine_key

    if settings.agent is None and has_machine_key(settings.home):
        raise NotConfigured(f"The machine of {settings.home} has a key but no name: set MACHINE_NAME.")
    if settings.agent is None or not (has_machine_key(settings.home) or has_cached_key(settings)):
        raise NotConfigured(f"No key for {settings.agent or 'this agent'} in {settings.home}. {GET_A_KEY}")
    return MachineCredential(settings.home, settings.url, settings.machine, settings.agent, ssl_context=ssl_context)


def has_cached_key(settings: Settings) -> bool:
    return settings.agent is not None and os.path.isfile(key_path(settings.home, settings.agent))


def key_path(home: str, agent: str) -> str:
    """Where the agent's key is cached. The name is checked: it becomes part of a path."""
    return os.path.join(home, "agents", f"{checked_name('agent', agent)}.key")


def checked_name(kind: str, name: str) -> str:
    if not re.fullmatch("[a-z0-9][a-z0-9-]{1,99}", name):
        raise NotConfigured(
            f"{name!r} is no {kind} name: it must be 2 to 100 of a-z, 0-9 and '-', starting with a letter or digit."
        )
    return name


def checked_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    """Where a session works. The relay bounds how much of it may be."""
    if isinstance(scopes, str):
        raise NotConfigured(f"scopes must be a list of texts, got {scopes!r}.")
    if scopes:
        from .contract import LONGEST_SCOPE, SCOPE_FORM

        for scope in scopes:
            if not re.fullmatch(SCOPE_FORM.pattern, scope) or len(scope) > LONGEST_SCOPE:
                raise NotConfigured(f"{scope!r} is no scope: it must be {SCOPE_FORM.words}.")
    return tuple(dict.fromkeys(scopes))


def _read(
    name: str, environ: Mapping[str, str], file: Mapping[str, str], parts: Callable[[str], tuple[str, ...]]
) -> tuple[str, ...]:
    """The parts of a setting. What is wrong with it names it: it was set once, and every command fails of it."""
    setting = environ.get(name) or file.get(name) or ""
    try:
        return parts(setting)
    except NotConfigured as error:
        raise NotConfigured(f"{name} is set to {setting[:200]!r}, but {error.message}") from None


def _scopes(setting: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Of AGENTCHAT_SCOPES: `off`, or scopes with commas between them, where `auto` is the repository one works in. That
    is also what counts where nothing is set."""
    named = [name.lower() if name.lower() in ("auto", *_OFF) else name for name in _listed(setting or "auto")]
    if off := [name for name in named if name in _OFF]:
        if off != named:
            raise NotConfigured(f"{off[0]} stands alone: it means that there are none.")
        return ()
    if "auto" in named:
        from ._repository import scope_here

        here = scope_here(environ)
        named = [scope for name in named for scope in ([name] if name != "auto" else [here] if here else [])]
    return checked_scopes(named)


def checked_groups(groups: Sequence[str]) -> tuple[str, ...]:
    """Groups that an agent wants to be in."""
    if isinstance(groups, str):
        raise NotConfigured(f"groups must be a list of names, got {groups!r}.")
    return tuple(checked_name("group", name) for name in dict.fromkeys(groups))


def _listed(setting: str) -> list[str]:
    return [name for part in setting.split(",") if (name := part.strip())]


def relay_in(config: Mapping[str, str]) -> str | None:
    """The relay a `config` file names; the second spelling is another tool's."""
    return config.get("AGENTCHAT_URL") or config.get("AIRCHAT_WEB_URL")


def read_config(path: str) -> dict[str, str]:
    """Lines `KEY=VALUE`; `#` comments and blank lines are skipped. A missing file is an empty one."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read(1_000_000).splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise NotConfigured(f"Cannot read {path}: {error}.") from error
    pairs = (line.partition("=") for line in lines if line.strip() and not line.lstrip().startswith("#"))
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}


def agent_name(machine: str, project: str) -> str:
    """`<machine>-<project>` as a valid name. Of a project in other letters only, a number stands for it."""
    if project and not re.search("[a-z0-9]", project.lower()):
        project = f"{crc32(project.encode(errors='surrogateescape')):08x}"
    return re.sub("-+", "-", re.sub("[^a-z0-9-]", "-", f"{machine}-{project}".lower())).strip("-")[:100]


def checked_url(url: str, home: str | None = None) -> str:
    """The relay's URL without a trailing slash; a path prefix is kept. A directory's path is made absolute."""
    if not isinstance(url, str) or not url.strip():
        raise NotConfigured(f"No relay URL. {START_A_RELAY}")
    url = url.strip()
    if is_local(url):
        return _LOCAL + (_absolute(url[len(_LOCAL) :]) or _usual_directory(home or home_directory()))
    try:
        parts = urlsplit(url)
        usable = bool(parts.scheme in ("http", "https") and parts.hostname and parts.port != 0)
    except ValueError:
        parts, usable = urlsplit(""), False
    if not usable or not re.fullmatch(r"[!-~]+", url):
        shown = re.sub("//[^/]*@", "//…@", url[:200])  # a password is not repeated
        raise NotConfigured(f"{shown!r} is no relay URL; it should look like http://127.0.0.1:8790.")
    if parts.username is not None or parts.query or parts.fragment:
        raise NotConfigured("The relay URL may hold no user name, query or fragment; the key has a setting of its own.")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


# Local mode


def is_local(url: str) -> bool:
    return url.startswith(_LOCAL)


def directory_of(url: str) -> str:
    """The directory that a checked URL with `local:` names."""
    return url[len(_LOCAL) :]


def name_as_key(agent: str | None) -> FixedKey:
    """What is shown in local mode in a key's place."""
    if not agent:
        raise NotConfigured("No agent name. Pass agent=, or set AGENTCHAT_AGENT: in local mode a name is all it takes.")
    return FixedKey(checked_name("agent", agent))


def _absolute(path: str) -> str:
    if "\0" in path:
        raise NotConfigured("The path after local: holds a NUL character.")
    if path.startswith("//"):  # as file:///path has it
        path = "/" + path.lstrip("/")
    try:
        return os.path.abspath(os.path.expanduser(path)) if path else ""
    except OSError as error:  # a relative path leads on from there
        raise NotConfigured(
            f"{_LOCAL}{path} is relative to the working directory, which is gone. "
            "Change to a directory that is there, or give the whole path."
        ) from error


def _usual_directory(home: str) -> str:
    return _nearest(home) or os.path.join(home, "local")


def _nearest(home: str) -> str | None:
    """The `.agentchat` of agents in the working directory or above it: one that is in use, or empty and so meant to be.
    What somebody else has put there is not trusted, and the settings' own directory is none."""
    try:
        folder = os.getcwd()
    except OSError:
        return None
    while True:
        found = os.path.join(folder, ".agentchat")
        if os.path.isdir(found) and _is_meant(found, home):
            return found
        if (above := os.path.dirname(folder)) == folder:
            return None
        folder = above


def _is_meant(found: str, home: str) -> bool:
    try:
        if os.name == "posix" and {os.stat(found).st_uid, os.lstat(found).st_uid} != {os.geteuid()}:
            return False
        names = os.listdir(found)
        return "agentchat.db" in names or not (names or os.path.realpath(found) == os.path.realpath(home))
    except OSError:
        return False


def _host_name() -> str:
    import socket

    return socket.gethostname().partition(".")[0]


class Key(str):
    """A key that shows itself to nobody but the header it travels in: not in a traceback's locals, not in a `repr`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<key, hidden>"


def relay_of(url: str) -> str:
    """One spelling for all the URLs that clearly mean the same relay."""
    try:
        parts = urlsplit(url.strip().rstrip("/"))
        host, port = (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return url
    return f"{parts.scheme}://{'localhost' if is_loopback(host) else host}:{port}{parts.path}"


def same_relay(one: str, other: str) -> bool:
    return relay_of(one) == relay_of(other)


def checked_key(key: str) -> Key:
    """A key as it can travel in a header. The message never shows it."""
    if isinstance(key, Key):
        return key
    key = key.strip()
    if not re.fullmatch("[!-~]{1,512}", key):
        raise NotConfigured("The key is malformed: it must be printable ASCII without spaces. " + GET_A_KEY)
    return Key(key)


def is_loopback(host: str | None) -> bool:
    return host is not None and (
        host in ("localhost", "::1") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None
    )


def _working_directory() -> str | None:
    try:
        return os.path.basename(os.getcwd()) or None
    except OSError:
        return None
