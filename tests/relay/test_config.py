"""The settings of `agentchat serve` in a file: every option, checked like the option, weaker than the command line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from agentchat import cli
from agentchat.errors import AgentChatError
from agentchat_relay.cli import config
from agentchat_relay.cli.options import OPTIONS
from tests.relay.test_serve import refused, run, serving

pytestmark = pytest.mark.sqlite

ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = {name: option.default for name, option in OPTIONS.items()}

# For every option two values that are neither the default nor each other's.
ODD: dict[str, tuple[Any, Any]] = {
    "host": ("localhost", "::1"),
    "port": (1234, 0),
    "data": ("/odd/data", "/odder/data"),
    "store": ("postgresql://relay@db/agentchat", "postgres://other@127.0.0.1:6543/x?sslmode=require"),
    "workers": (2, 3),
    "files": ("s3://odd/files", "/odder/files"),
    "public-url": ("https://relay.example/chat", "http://10.0.0.1:81"),
    "trusted-proxy": (["127.0.0.1", "::1"], ["10.0.0.1"]),
    "agent-writes": (0.5, 7.0),
    "agent-reads": (0.0, 1e8),
    "all-writes": (1.25, 3.0),
    "all-reads": (2.5, 4.0),
    "max-file-mib": (0.125, 4096.0),
    "max-agents": (0, 7),
    "loop-turns": (0, 7),
    "loop-pause": (0, 7),
    "loop-depth": (0, 7),
    "own-names": (True, False),
    "retire-after": (30, 0),
    "log-format": ("json", "text"),
    "log-level": ("debug", "error"),
    "log-file": ("/odd/file", "/odder/file"),
    "log-requests": (True, False),
}


def said(*words: str, code: int = 0) -> tuple[str, str]:
    """What the command prints, on both streams."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        assert cli.main(["serve", *words]) == code, errors.getvalue()
    return out.getvalue(), errors.getvalue()


def in_force(*words: str) -> dict[str, Any]:
    return tomllib.loads(said("--print-config", *words)[0])


def problem(*words: str) -> str:
    out, errors = said("--print-config", *words, code=2)
    assert out == ""
    assert len(errors.splitlines()) == 1
    return errors


def flags(name: str, value: Any) -> list[str]:
    """A setting as it is typed."""
    match value:
        case bool():
            return [f"--{name}" if value else f"--no-{name}"]
        case list():
            return [word for each in value for word in (f"--{name}", each)]
    return [f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "relay settings.toml"


def test_there_is_an_odd_value_for_every_option() -> None:
    assert set(ODD) == set(OPTIONS)
    assert all(values[0] not in (values[1], DEFAULTS[name]) for name, values in ODD.items())


@pytest.mark.parametrize("name", ODD)
def test_every_option_can_be_said_in_the_file_and_the_command_line_wins(file: Path, name: str) -> None:
    value, other = ODD[name]
    for spelling in {name, name.replace("-", "_")}:
        file.write_text(f"{spelling} = {json.dumps(value)}\n")
        found = in_force("--config", str(file))
        assert found[name] == value
        assert type(found[name]) is type(value)
        rest = {**DEFAULTS, "data": found["data"], name: value}
        assert found == rest, "nothing else changes"
        assert in_force("--config", str(file), *flags(name, other)) == {**rest, "data": found["data"], name: other}
    assert in_force(*flags(name, value))[name] == value


def test_without_a_file_the_defaults_are_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCHAT_HOME", str(tmp_path))
    assert in_force() == {**DEFAULTS, "data": str(tmp_path / "relay")}
    assert not (tmp_path / "relay").exists(), "nothing is made"


def test_a_blank_directory_is_refused(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script whose variable is not set must not meet another relay. In a file it stands for none."""
    monkeypatch.setenv("AGENTCHAT_HOME", str(tmp_path))
    assert "must name a directory" in problem("--data", "")
    file.write_text('data = ""\n')
    assert in_force("--config", str(file))["data"] == str(tmp_path / "relay")


def test_files_are_in_a_directory_or_in_a_bucket(file: Path) -> None:
    file.write_text('files = "../shared files"\n')
    assert in_force("--config", str(file))["files"] == str(file.parent.parent / "shared files")
    assert in_force("--files", "s3://one/two/")["files"] == "s3://one/two/"
    assert "must name a directory" in problem("--files", "")
    for wrong in ("s3://", "s3:///prefix", "gs://bucket", "s3://key:secret@bucket/prefix", "s3://bucket?region=x"):
        assert "must be a directory or s3://BUCKET/PREFIX" in problem("--files", wrong)
    file.write_text('files = ""\n')
    assert in_force("--config", str(file))["files"] == ""


def test_an_empty_file_is_a_file(file: Path) -> None:
    file.write_text("# nothing yet\n")
    assert in_force("--config", str(file)) == in_force()


def test_whole_numbers_do_where_a_number_is_wanted(file: Path) -> None:
    file.write_text("agent-writes = 3\nmax-file-mib = 25\n")
    found = in_force("--config", str(file))
    assert (found["agent-writes"], found["max-file-mib"]) == (3.0, 25.0)


# Which file


def test_the_file_in_the_data_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "relay").mkdir()
    (tmp_path / "relay" / "relay.toml").write_text("port = 7777\n")
    assert in_force("--data", str(tmp_path / "relay"))["port"] == 7777
    assert in_force("--data", str(tmp_path / "other"))["port"] == DEFAULTS["port"]
    monkeypatch.setenv("AGENTCHAT_HOME", str(tmp_path))
    assert in_force()["port"] == 7777
    assert in_force("--port", "1")["port"] == 1


def test_a_named_file_is_the_only_one(tmp_path: Path, file: Path) -> None:
    (tmp_path / "relay.toml").write_text("port = 7777\n")
    file.write_text("max-agents = 3\n")
    found = in_force("--data", str(tmp_path), "--config", str(file))
    assert (found["port"], found["max-agents"]) == (DEFAULTS["port"], 3)


def test_a_named_file_may_say_where_the_data_is(tmp_path: Path, file: Path) -> None:
    file.write_text('data = "its-data"\n')
    assert in_force("--config", str(file))["data"] == str(tmp_path / "its-data")


def test_the_file_in_the_data_directory_may_not_name_another(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text(f'data = "{tmp_path}"\nport = 7777\n')
    assert in_force("--data", str(tmp_path))["port"] == 7777
    (tmp_path / "relay.toml").write_text('data = "/elsewhere"\n')
    text = problem("--data", str(tmp_path))
    assert str(tmp_path / "relay.toml") in text
    assert "/elsewhere" in text
    assert "--config" in text


def test_paths_begin_where_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "etc" / "my.toml").write_text('data = "data"\nlog-file = "~/relay.log"\n')
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    found = in_force("--config", "../etc/my.toml")
    assert found["data"] == str(tmp_path / "etc" / "data")
    assert found["log-file"] == str(tmp_path / "home" / "relay.log")
    found = in_force("--config", "../etc/my.toml", "--data", "data", "--log-file", "a.log")
    assert found["data"] == str(tmp_path / "work" / "data")
    assert found["log-file"] == str(tmp_path / "work" / "a.log")
    assert in_force("--data", "data", "--daemon")["log-file"] == str(tmp_path / "work" / "data" / "relay.log")


# What is refused


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prot = 1", ["'prot'", "port"]),
        ("agent_write = 1", ["'agent_write'", "agent-writes"]),
        ("MAX-FILE-MIB = 1", ["'MAX-FILE-MIB'", "max-file-mib"]),
        ("quite-different = 1", ["'quite-different'", "agentchat serve --help"]),
        ("[limits]\nagent-writes = 1", ["'limits'"]),
        ("daemon = true", ["daemon", "command line"]),
        ("print_config = true", ["print_config", "command line"]),
        ("max-file-mib = 1\nmax_file_mib = 2", ["twice", "max_file_mib"]),
        ("port = '8790'", ["port", "a whole number", "'8790'"]),
        ("port = true", ["port", "a whole number"]),
        ("port = 1.0", ["port", "a whole number", "1.0"]),
        ("max-agents = 50.5", ["max-agents", "a whole number"]),
        ("agent-writes = '5'", ["agent-writes", "a number"]),
        ("agent-writes = false", ["agent-writes", "a number"]),
        ("host = 127", ["host", "in quotes"]),
        ("host = 2024-01-01", ["host", "in quotes"]),
        ("own-names = 1", ["own-names", "true or false"]),
        ("own_names = 'yes'", ["own_names", "true or false"]),
        ("trusted-proxy = '127.0.0.1'", ["trusted-proxy", "a list"]),
        ("trusted-proxy = ['127.0.0.1', 1]", ["trusted-proxy", "a list"]),
        ("log-level = 'loud'", ["log-level", "debug, info, warning, error", "'loud'"]),
        ("log-format = 'xml'", ["log-format", "text, json"]),
        # The same values as on the command line
        ("port = 70000", ["port", "from 0 to 65535", "70000"]),
        ("port = -1", ["port", "from 0 to 65535"]),
        ("host = ' '", ["host", "an address"]),
        ("agent-writes = -1", ["agent-writes", "0 or more", "-1"]),
        ("all-reads = nan", ["all-reads", "0 or more", "nan"]),
        ("all-reads = inf", ["all-reads", "0 or more", "inf"]),
        ("max-file-mib = 0", ["max-file-mib", "4096"]),
        ("max-agents = -1", ["max-agents", "0 or more"]),
        ("retire-after = 36501", ["retire-after", "from 0 to 36500"]),
        ("max-agents = 123456789012345678901234567890", ["max-agents"]),
        ("public-url = 'ftp://relay.example'", ["public-url", "ftp://relay.example"]),
        ("trusted-proxy = ['::1', 'not-an-address']", ["trusted-proxy", "not-an-address"]),
        ("port 1", ["is not TOML", "line 1"]),
        ("port = 1\nport = 2", ["is not TOML"]),
        ("host = \"\udcff\"", ["is not TOML"]),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_by_its_name_and_the_line_s(file: Path, text: str, told: list[str]) -> None:
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    shown = problem("--config", str(file))
    for part in (str(file), *told):
        assert part in shown
    (file.parent / "relay.toml").write_bytes(file.read_bytes())
    assert str(file.parent / "relay.toml") in problem("--data", str(file.parent)), "the file that is found is no better"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.toml", tmp_path):
        shown = problem("--config", str(path))
        assert f"Cannot read {path}: " in shown


def test_a_bad_value_is_refused_even_where_the_command_line_says_another(file: Path) -> None:
    file.write_text("port = 70000\n")
    assert str(file) in problem("--config", str(file), "--port", "1")


def test_options_themselves_are_refused_under_their_own_name() -> None:
    assert "--port must be from 0 to 65535, got 70000" in problem("--port", "70000")
    assert "--wait" in said("--wait", "1", code=2)[1]
    assert "--wait" in said("--daemon", "--wait", "-1", code=2)[1]


# Printing


@pytest.mark.parametrize("odd", ["it's", 'a "quoted" \\ path', "tab\tand\nline", "ünï—😀", "del\x7f", "#no comment"])
def test_what_is_printed_can_be_saved_and_says_the_same(tmp_path: Path, odd: str) -> None:
    data = tmp_path / odd
    data.mkdir()
    words = [
        "--data",
        str(data),
        "--log-file",
        str(data / "log"),
        "--trusted-proxy",
        "::1",
        "--trusted-proxy",
        "10.0.0.1",
    ]
    printed, _ = said("--print-config", *words, "--own-names", "--all-reads", "0.0000001")
    (data / "relay.toml").write_text(printed, "utf-8")
    assert said("--print-config", "--data", str(data))[0] == printed
    assert said("--print-config", "--config", str(data / "relay.toml"))[0] == printed


def test_every_printed_setting_has_its_help_above_it() -> None:
    printed, errors = said("--print-config")
    assert errors == ""
    paragraphs = dict.fromkeys(printed.split("\n\n"))
    for option in OPTIONS.values():
        [paragraph] = [each for each in paragraphs if f"\n{option.name} = " in each]
        comment = " ".join(line.removeprefix("# ") for line in paragraph.splitlines()[:-1])
        assert comment.endswith(option.help)


def test_the_example_has_every_option_with_its_default() -> None:
    text = (ROOT / "deploy" / "relay.toml").read_text("utf-8")
    lines = [line.removeprefix("# ") for line in text.splitlines() if " = " in line]
    written = tomllib.loads("\n".join(lines))
    assert list(written) == list(OPTIONS), "in the order of --help"
    examples = {"data", "store", "files", "public-url", "trusted-proxy", "log-file"}  # without a default to show
    assert {name: written[name] for name in written if name not in examples} == {
        name: default for name, default in DEFAULTS.items() if name not in examples
    }
    for option in OPTIONS.values():
        assert option.text in " ".join(line.removeprefix("# ") for line in text.splitlines()), option.name


def test_the_example_is_a_file_to_start_with_and_so_are_its_lines(file: Path) -> None:
    text = (ROOT / "deploy" / "relay.toml").read_text("utf-8")
    file.write_text(text)
    assert config.read(str(file)) == {}, "everything is a comment"
    for line in text.splitlines():
        if " = " in line:
            file.write_text(line.removeprefix("# "))
            assert list(config.read(str(file))) == [line.removeprefix("# ").partition(" = ")[0]]


def test_the_page_s_table_is_that_of_the_options() -> None:
    page = (ROOT / "docs" / "serving.md").read_text("utf-8")
    rows = []
    for option in OPTIONS.values():
        default = {str: option.default, bool: "off", list: ""}.get(type(option.default), f"{option.default}")
        rows.append(f"| `--{option.name}` | {default.removesuffix('.0')} | {option.text} |".replace("|  |", "| |"))
    assert "\n".join(["| option | default | |", "|---|---|---|", *rows, "\n"]) in page


# For real


def test_a_relay_serves_by_the_file_in_its_directory(tmp_path: Path) -> None:
    data = tmp_path / "relay"
    data.mkdir()
    (data / "relay.toml").write_text('agent-writes = 0.5\nmax-file-mib = 0.001\npublic-url = "https://relay.example"\n')
    with serving(data) as relay, relay.client() as client:
        assert os.stat(data).st_mode & 0o777 == 0o700, "the file alone does not make it somebody else's directory"
        path = client.upload_file("general", "a.txt", "x" * 1000)["file"]["path"]
        assert client.get_file_url(path)["signed_url"].startswith("https://relay.example/")
        with pytest.raises(AgentChatError) as caught:
            client.upload_file("general", "a.txt", "x" * 1100)
        assert caught.value.status == 400, "too large"
        with pytest.raises(AgentChatError) as caught:
            for _ in range(20):
                client.send_message("general", "x")
        assert caught.value.code == "rate_limited"
        assert relay.stop() == 0


def test_a_relay_does_not_start_by_a_bad_file_and_makes_nothing(tmp_path: Path, file: Path) -> None:
    file.write_text("prot = 1\n")
    assert "did you mean port?" in refused(tmp_path / "relay", "--config", str(file), code=2)
    done = run("serve", "--daemon", "--data", str(tmp_path / "relay"), "--config", str(file), code=2)
    assert "did you mean port?" in done.stderr
    assert not (tmp_path / "relay").exists()
