"""Where a client's settings come from, which of two sources wins, and which texts are refused."""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from agentchat import Client, settings
from agentchat.errors import NotConfigured
from langchain_agentchat import AsyncClient

KEY = "0" * 64
URL = "http://127.0.0.1:8790"
NAME = re.compile("[a-z0-9][a-z0-9-]{1,99}")
BOTH = pytest.mark.parametrize("kind", [Client, AsyncClient])

# Setting -> its variable, and a value for each source, the strongest first.
SOURCES = {
    "url": ("AGENTCHAT_URL", ("http://argument.test", "http://environment.test", "http://file.test")),
    "key": ("AGENTCHAT_KEY", ("key-of-argument", "key-of-environment", "key-of-file")),
    "agent": ("AGENTCHAT_AGENT", ("argument-agent", "environment-agent", "file-agent")),
    "project": ("AGENTCHAT_PROJECT", ("argument-project", "environment-project", "file-project")),
}


def write_config(home: Path, *lines: str) -> str:
    home.mkdir(parents=True, exist_ok=True)
    (home / "config").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(home)


def load(home: object, environ: dict[str, str] | None = None, **arguments: str) -> settings.Settings:
    return settings.load(home=str(home), environ={"AGENTCHAT_URL": URL, **(environ or {})}, **arguments)


async def ask(client: Client | AsyncClient) -> None:
    """One call, sync or async."""
    for step in (client.check_board, client.close):
        outcome = step()
        if inspect.isawaitable(outcome):
            await outcome


# Which source wins


@pytest.mark.parametrize("strongest", [0, 1, 2], ids=["argument", "environment", "file"])
@pytest.mark.parametrize("setting", SOURCES)
def test_argument_beats_environment_beats_file(setting: str, strongest: int, tmp_path: Path) -> None:
    variable, values = SOURCES[setting]
    write_config(tmp_path, f"AGENTCHAT_URL={URL}", f"{variable}={values[2]}")
    argument = {setting: values[0]} if strongest == 0 else {}
    environ = {variable: values[1]} if strongest <= 1 else {}
    found = settings.load(home=tmp_path, environ=environ, **argument)
    assert getattr(found, setting) == values[strongest]


@pytest.mark.parametrize("setting", SOURCES)
def test_an_empty_argument_or_variable_counts_as_unset(setting: str, tmp_path: Path) -> None:
    variable, values = SOURCES[setting]
    write_config(tmp_path, f"AGENTCHAT_URL={URL}", f"{variable}={values[2]}")
    found = settings.load(home=tmp_path, environ={variable: ""}, **{setting: ""})
    assert getattr(found, setting) == values[2]


def test_the_machine_name_of_the_environment_beats_that_of_the_file(tmp_path: Path) -> None:
    write_config(tmp_path, "MACHINE_NAME=filed")
    assert load(tmp_path, project="demo").agent == "filed-demo"
    assert load(tmp_path, {"MACHINE_NAME": "mac"}, project="demo").agent == "mac-demo"
    assert load(tmp_path, {"MACHINE_NAME": ""}, project="demo").machine == "filed"


def test_a_name_that_was_given_beats_machine_and_project(tmp_path: Path) -> None:
    assert load(tmp_path, {"MACHINE_NAME": "mac"}, project="demo", agent="reviewer").agent == "reviewer"


def test_an_empty_agent_in_the_file_counts_as_unset(tmp_path: Path) -> None:
    write_config(tmp_path, "AGENTCHAT_AGENT=", "AGENTCHAT_PROJECT=", "MACHINE_NAME=mac")
    assert load(tmp_path, {"AGENTCHAT_PROJECT": "demo"}).agent == "mac-demo"


def test_without_a_machine_there_is_no_agent_name(tmp_path: Path) -> None:
    assert load(tmp_path).agent is None


def test_the_project_is_the_working_directory_if_nothing_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "My Project").mkdir()
    monkeypatch.chdir(tmp_path / "My Project")
    found = load(tmp_path, {"MACHINE_NAME": "mac"})
    assert (found.project, found.agent) == ("My Project", "mac-my-project")


# The directory


def test_the_directory_is_the_argument_then_agentchat_home_then_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("argument", "environment", ".agentchat"):
        write_config(tmp_path / name, f"AGENTCHAT_URL={URL}/{name}")
    environ = {"AGENTCHAT_HOME": str(tmp_path / "environment")}
    assert settings.load(home=tmp_path / "argument", environ=environ).url == f"{URL}/argument"
    assert settings.load(environ=environ).url == f"{URL}/environment"
    assert settings.load(environ={"AGENTCHAT_HOME": ""}).url == f"{URL}/.agentchat"
    assert settings.load(environ={"AGENTCHAT_HOME": "~/environment"}).home == str(tmp_path / "environment")


def test_the_directory_of_another_tool_of_the_contract_can_be_used(tmp_path: Path) -> None:
    home = write_config(
        tmp_path / ".airchat",
        "# made by another tool",
        "",
        "  # indented comment",
        "MACHINE_NAME = mac-studio ",
        f"  AIRCHAT_WEB_URL={URL}/relay/  ",
        "TOKEN_SPEC=a=b=c",
        "no equals sign",
    )
    found = settings.load(home=home, environ={}, project="demo")
    assert (found.url, found.agent) == (f"{URL}/relay", "mac-studio-demo")
    config = settings.read_config(os.path.join(home, "config"))
    assert config == {"MACHINE_NAME": "mac-studio", "AIRCHAT_WEB_URL": f"{URL}/relay/", "TOKEN_SPEC": "a=b=c"}


def test_our_own_name_of_the_url_beats_the_foreign_one(tmp_path: Path) -> None:
    write_config(tmp_path, "AIRCHAT_WEB_URL=http://foreign.test", "AGENTCHAT_URL=http://own.test")
    assert settings.load(home=tmp_path, environ={}).url == "http://own.test"


@BOTH
async def test_a_foreign_directory_with_a_cached_key_is_all_a_client_needs(kind: type, tmp_path: Path, relay) -> None:
    home = write_config(tmp_path / ".airchat", f"AIRCHAT_WEB_URL={relay.url}", "MACHINE_NAME=mac")
    (tmp_path / ".airchat" / "agents").mkdir()
    (tmp_path / ".airchat" / "agents" / "mac-demo.key").write_text(KEY + "\n")
    await ask(kind.from_config(home, project="demo"))
    assert [seen.path for seen in relay.seen] == ["/api/v2/board"]


def test_a_missing_directory_is_an_empty_one(tmp_path: Path) -> None:
    assert load(tmp_path / "missing").url == URL


@pytest.mark.parametrize("make", ["directory", "garbage", "home is a file"])
def test_a_config_that_cannot_be_read_is_named(make: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    if make == "home is a file":
        home.write_text("")
    elif make == "directory":
        (home / "config").mkdir(parents=True)
    else:
        home.mkdir()
        (home / "config").write_bytes(b"\xff\xfe\x00MACHINE_NAME\x80")
    with pytest.raises(NotConfigured, match="Cannot read") as refused:
        load(home)
    assert str(home / "config") in str(refused.value)


@given(st.binary(max_size=200))
def test_whatever_is_in_a_config_it_is_read_or_refused_as_ours(tmp_path_factory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any-config"
    path.write_bytes(content)
    try:
        config = settings.read_config(str(path))
    except NotConfigured as refused:
        assert str(path) in str(refused)
    else:
        assert all(name == name.strip() and value == value.strip() for name, value in config.items())


# URLs


@pytest.mark.parametrize(
    ("given_url", "kept"),
    [
        (URL, URL),
        (f"  {URL}/ \n", URL),
        (f"{URL}/team/relay//", f"{URL}/team/relay"),
        ("https://relay.test", "https://relay.test"),
        ("HTTPS://relay.test:8443/", "https://relay.test:8443"),
        ("http://[::1]:8790/", "http://[::1]:8790"),
        ("http://localhost:65535", "http://localhost:65535"),
    ],
)
def test_a_url_is_accepted_and_loses_only_its_trailing_slash(given_url: str, kept: str) -> None:
    assert settings.checked_url(given_url) == kept


@pytest.mark.parametrize(
    "url",
    [
        "relay.test", "127.0.0.1:8790", "//relay.test", "ftp://relay.test", "file:///etc/passwd", "javascript:alert(1)",
        "http://", "http:///path", "http://:8790", "http://[::1", "http://relay.test:0", "http://relay.test:65536",
        "http://relay.test:-1", "http://relay.test:http", "http://re lay.test", "http://rel\u00e4y.test",
        "http://relay.test/\u00e4", "http://relay.test/a\r\nx: y", "http://relay.test/\0",
    ],
)  # fmt: skip
def test_what_is_no_relay_url_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(NotConfigured, match="no relay URL; it should look like http://127") as refused:
        settings.checked_url(url)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "url",
    [
        "http://user@relay.test", "http://user:hunter2@relay.test", "http://:hunter2@relay.test", "http://@relay.test",
        "http://relay.test/?token=hunter2", "http://relay.test#hunter2",
    ],
)  # fmt: skip
def test_a_url_may_hold_no_credentials_and_they_are_not_shown(url: str) -> None:
    with pytest.raises(NotConfigured, match="no user name, query or fragment") as refused:
        settings.checked_url(url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("rest", ["ftp://{}@relay.test", "http://{}@relay.test:99999", "http://{}@re lay.test"])
def test_a_password_in_an_unusable_url_is_not_shown(rest: str) -> None:
    with pytest.raises(NotConfigured) as refused:
        settings.checked_url(rest.format("user:hunter2"))
    assert "hunter2" not in str(refused.value)


@given(st.one_of(st.text(), st.text().map("http://".__add__), st.text().map("http://relay.test".__add__)))
@example("http://relay.test:/")
@example("http://[relay]")
def test_any_text_is_a_url_that_stays_the_same_or_is_refused_as_ours(text: str) -> None:
    try:
        url = settings.checked_url(text)
    except NotConfigured:
        return
    assert url.isascii() and url.isprintable() and " " not in url
    assert settings.checked_url(url) == url


@BOTH
@pytest.mark.parametrize("environ", [{}, {"AGENTCHAT_URL": ""}])
def test_no_url_says_how_to_start_a_relay(
    kind: type, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    for make in (lambda: kind.from_env(key=KEY), lambda: kind.from_config(tmp_path)):
        with pytest.raises(NotConfigured, match=r"No relay URL.*agentchat serve.*AGENTCHAT_URL=http://127"):
            make()


# Agent names


@pytest.mark.parametrize(
    ("machine", "project", "name"),
    [
        ("mac", "demo", "mac-demo"),
        ("Mac Studio", "My_App v2", "mac-studio-my-app-v2"),
        ("--mac--", "--", "mac-242c1465"),
        ("mac", "", "mac"),
        ("mac", "../../etc/passwd", "mac-etc-passwd"),
        ("m\u00e4c", "\u30c7\u30e2", "m-c-2408ebfa"),
        ("m\u00e4c", "\u30c7\u30e2x", "m-c-x"),
        ("m", "x" * 200, "m-" + "x" * 98),
        ("mac", "a\nb\0c", "mac-a-b-c"),
    ],
)
def test_machine_and_project_make_a_name_as_the_contract_says(machine: str, project: str, name: str) -> None:
    assert settings.agent_name(machine, project) == name


@given(st.text(), st.text())
@example("-", "")
@example("\u00e4", "x")
@example("x" * 99, "-y")
def test_any_machine_and_project_give_a_valid_name_or_a_clear_refusal(machine: str, project: str) -> None:
    name = settings.agent_name(machine, project)
    if NAME.fullmatch(name):
        assert settings.key_path("home", name) == os.path.join("home", "agents", f"{name}.key")
        assert "--" not in name
    else:
        assert len(name) < 2, "only too little text makes no name"
        with pytest.raises(NotConfigured, match="is no agent name: it must be 2 to 100 of"):
            settings.key_path("home", name)


def test_a_machine_name_that_leaves_no_agent_name_is_refused_when_a_key_is_needed(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="is no agent name"):
        settings.credential(load(tmp_path, {"MACHINE_NAME": "\u00e4"}, project="x"))


# Keys


@BOTH
def test_no_representation_shows_the_key(kind: type) -> None:
    client = kind(URL, "secret-key", agent="mac-demo")
    found = settings.load(url=URL, key="secret-key", agent="mac-demo", environ={})
    for shown in (client, client.credential, client.credential.held, found, client.with_options(timeout=1)):
        assert "secret" not in repr(shown)
    assert "mac-demo" in repr(client)
    assert URL in repr(client)


@pytest.mark.parametrize("key", ["hunter2 x", "hunter2\tx", "hunter2\r\nx: y", "hunter2\u00e4", "hunter2" * 100])
@BOTH
def test_a_malformed_key_is_refused_and_never_shown(kind: type, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCHAT_KEY", key)
    for make in (lambda: kind(URL, key), lambda: kind.from_env(url=URL)):
        with pytest.raises(NotConfigured, match="The key is malformed") as refused:
            make()
        assert "hunter2" not in repr(refused.value)


@given(st.text(min_size=8))
def test_any_text_is_a_key_or_is_refused_without_being_shown(text: str) -> None:
    assume(text not in f"malformed ASCII printable spaces. {settings.GET_A_KEY}")
    try:
        assert settings.checked_key(text) == text.strip()
    except NotConfigured as refused:
        assert text not in str(refused)


@pytest.mark.parametrize("key", [None, ""])
@BOTH
def test_without_a_key_the_error_says_where_to_get_one(kind: type, key: str | None, tmp_path: Path) -> None:
    for make in (lambda: kind(URL, key), lambda: kind.from_env(url=URL, key=key, home=str(tmp_path))):
        with pytest.raises(NotConfigured, match=r"No key.*AGENTCHAT_KEY.*agentchat machine init"):
            make()


def test_a_machine_key_without_a_machine_name_asks_for_the_name(tmp_path: Path) -> None:
    (tmp_path / "machine.key").write_text(KEY)
    with pytest.raises(NotConfigured, match="MACHINE_NAME"):
        Client.from_env(url=URL, home=str(tmp_path))


# Clients made from settings


@BOTH
async def test_from_env_takes_arguments_then_environment_then_file(
    kind: type, tmp_path: Path, relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config(tmp_path, "AGENTCHAT_URL=http://127.0.0.1:1", "AGENTCHAT_KEY=wrong", "AGENTCHAT_PROJECT=from-file")
    monkeypatch.setenv("AGENTCHAT_HOME", str(tmp_path))
    monkeypatch.setenv("AGENTCHAT_URL", relay.url)
    monkeypatch.setenv("AGENTCHAT_KEY", "also-wrong")
    client = kind.from_env(key=KEY, agent="mac-ann")
    await ask(client)
    assert relay.seen[0].headers["x-agent-api-key"] == KEY
    assert (client.agent, client.project) == ("mac-ann", "from-file")


@BOTH
async def test_from_config_ignores_the_environment(
    kind: type, tmp_path: Path, relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AGENTCHAT_URL", "AGENTCHAT_KEY", "AGENTCHAT_AGENT", "AGENTCHAT_PROJECT", "AGENTCHAT_HOME"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    monkeypatch.setenv("MACHINE_NAME", "wrong")
    monkeypatch.setenv("HOME", str(tmp_path))
    write_config(
        tmp_path / ".agentchat",
        f"AGENTCHAT_URL={relay.url}",
        f"AGENTCHAT_KEY={KEY}",
        "MACHINE_NAME=mac",
        "AGENTCHAT_PROJECT=demo",
    )
    for client in (kind.from_config(), kind.from_config(tmp_path / ".agentchat")):
        await ask(client)
        assert (client.agent, client.project) == ("mac-demo", "demo")
    assert [seen.headers["x-agent-api-key"] for seen in relay.seen] == [KEY, KEY]


@BOTH
async def test_another_agent_than_the_files_gets_its_own_key(kind: type, tmp_path: Path, relay) -> None:
    home = write_config(tmp_path, f"AGENTCHAT_URL={relay.url}", "AGENTCHAT_KEY=key-of-filed", "AGENTCHAT_AGENT=filed")
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "mac-ann.key").write_text(KEY)
    client = kind.from_config(home, agent="mac-ann", project="demo")
    await ask(client)
    assert (client.agent, client.project) == ("mac-ann", "demo")
    assert relay.seen[0].headers["x-agent-api-key"] == KEY


@BOTH
def test_importing_and_making_a_client_reads_no_setting_unasked(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCHAT_KEY", "not a key")
    monkeypatch.setenv("AGENTCHAT_URL", "not a url")
    assert kind(URL, KEY).url == URL


def test_a_key_of_the_file_is_only_for_the_file_s_relay(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("AGENTCHAT_URL=https://relay.test\nAGENTCHAT_KEY=secret\n")
    assert settings.load(home=tmp_path, environ={}).key == "secret"
    assert settings.load(home=tmp_path, environ={}, url="https://RELAY.test:443/").key == "secret"
    assert settings.load(home=tmp_path, environ={}, url="https://other.test").key is None


def test_a_project_of_odd_bytes_does_not_spoil_a_message() -> None:
    client = Client("http://127.0.0.1:1", "k", project="caf\udce9" * 50)
    assert client.project is not None
    assert len(client.project) == 100
    client.project.encode()


# Local mode


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory some way below the top."""
    deep = tmp_path / "project" / "src" / "deep"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    return tmp_path / "project"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("local:/var/lib/x", "/var/lib/x"),
        ("local:///var/lib/x", "/var/lib/x"),
        ("local:~/x", "{home}/x"),
        ("local:below", "{here}/below"),
        ("local:", "{settings}/local"),
    ],
)
def test_a_directory_is_named_by_its_path(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, path: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    named = path.format(home=tmp_path, here=project / "src" / "deep", settings=os.environ["AGENTCHAT_HOME"])
    assert settings.checked_url(url) == f"local:{named}"
    assert settings.checked_url(settings.checked_url(url)) == f"local:{named}"
    assert settings.directory_of(settings.checked_url(url)) == named


@pytest.mark.parametrize("kind", ["empty", "in use", "the first on its machine"])
def test_a_directory_above_is_found_where_nothing_else_is_set(
    project: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    found = project / ".agentchat"
    found.mkdir()
    if kind == "in use":
        (found / "agentchat.db").touch()
    if kind == "the first on its machine":
        monkeypatch.setenv("AGENTCHAT_HOME", str(project / "not" / "there"))
    assert settings.load().url == settings.checked_url("local:") == f"local:{found}"
    nearer = project / "src" / ".agentchat"
    nearer.mkdir()
    assert settings.load().url == f"local:{nearer}"
    monkeypatch.setenv("AGENTCHAT_URL", "http://127.0.0.1:1")
    assert settings.load().url == "http://127.0.0.1:1"
    assert settings.load(url="local:/x").url == "local:/x"


@pytest.mark.parametrize("kind", ["other things", "a file", "somebody else's", "the settings"])
def test_what_is_no_directory_of_agents_is_passed_by(project: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    found = project / ".agentchat"
    if kind == "a file":
        found.touch()
    else:
        found.mkdir()
    if kind == "other things":
        (found / "config").write_text("")
    if kind == "somebody else's":
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    home = str(found) if kind == "the settings" else None
    with pytest.raises(NotConfigured, match="AGENTCHAT_URL=local:"):
        settings.load(home=home)


def test_a_name_is_made_of_the_machines_and_the_projects(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "My_Laptop.local.example")
    found = settings.load(url="local:/x")
    assert (found.agent, found.key) == ("my-laptop-deep", None)
    assert settings.credential(found).held == "my-laptop-deep"
    monkeypatch.setenv("MACHINE_NAME", "mac")
    monkeypatch.setenv("AGENTCHAT_KEY", "of-some-relay")
    assert (settings.load(url="local:/x").agent, settings.load(url="local:/x").key) == ("mac-deep", None)
    assert settings.load(url="local:/x", agent="mac-other").agent == "mac-other"


def test_in_a_working_directory_that_is_gone_a_relative_path_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(NotConfigured, match="local:rel is relative to the working directory, which is gone"):
        settings.load(url="local:rel")
    with pytest.raises(NotConfigured, match="local:rel is relative"):
        Client("local:rel", agent="mac-ann")
    assert settings.load(url=f"local:{tmp_path}").url == f"local:{tmp_path}"
