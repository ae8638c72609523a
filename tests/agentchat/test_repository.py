"""The scope of the working directory, from git's own files as git writes them."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from agentchat import Client, settings
from agentchat._repository import scope_here, scope_of
from agentchat.errors import NotConfigured


@pytest.mark.parametrize(
    ("url", "scope"),
    [
        ("https://github.com/org/proj.git", "repo:github.com/org/proj"),
        ("https://github.com/org/proj", "repo:github.com/org/proj"),
        ("https://user:secret@GitHub.com/org/proj.git/", "repo:github.com/org/proj"),
        ("https://user:p@ss@github.com/org/proj", "repo:github.com/org/proj"),
        ("https://host/x@other/proj", "repo:host/x@other/proj"),
        ("git@github.com:org/proj.git", "repo:github.com/org/proj"),
        ("git@github.com:/org/proj.git", "repo:github.com/org/proj"),
        ("ssh://git@host.example:2222/deep/er/proj.git", "repo:host.example/deep/er/proj"),
        ("host.example:proj", "repo:host.example/proj"),
        ("https://host/Org/Proj.js.git", "repo:host/Org/Proj.js"),
        ("file:///srv/git/proj.git", None),
        ("/srv/git/proj.git", None),
        ("../proj", None),
        ("C:\\proj", None),
        ("https://host/with space", None),
        ("https://host/a,b", None),
        ("https://host/a//b", None),
        ("https://host/" + "x" * 300, None),
        ("git@m\u00fcller.example:o/z.git", None),
        ("git@my host:z.git", None),
        ("https://h,x/z.git", None),
        ("https://h" + "/x" * 39, "repo:h" + "/x" * 39),
        ("https://h" + "/x" * 40, None),
        ("https://host/", None),
        ("", None),
        (None, None),
    ],
)
def test_urls(url: str | None, scope: str | None) -> None:
    assert scope_of(url) == scope


def git(where: Path, *words: str) -> None:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    subprocess.run(["git", *identity, *words], cwd=where, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "proj" / "deep" / "er").mkdir(parents=True)
    git(tmp_path / "proj", "init")
    git(tmp_path / "proj", "remote", "add", "other", "https://other.example/x/y")
    git(tmp_path / "proj", "remote", "add", "origin", "git@github.com:org/proj.git")
    return tmp_path / "proj"


def test_a_checkout_and_what_is_in_it(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for where in (checkout, checkout / "deep" / "er"):
        monkeypatch.chdir(where)
        assert scope_here() == "repo:github.com/org/proj"


def test_a_worktree_is_of_its_repository(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(checkout, "commit", "--allow-empty", "-m", "x")
    git(checkout, "worktree", "add", str(checkout.parent / "beside"))
    monkeypatch.chdir(checkout.parent / "beside")
    assert scope_here() == "repo:github.com/org/proj"


def test_a_repository_without_origin_has_no_scope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init")
    monkeypatch.chdir(tmp_path)
    assert scope_here() is None
    for content in (b"\xff\xfe", b'[remote "origin"]\nurl = h:o/\xe9'):
        (tmp_path / ".git" / "config").write_bytes(content)
        assert scope_here() is None


@pytest.mark.parametrize(
    "config",
    [
        '[remote "origin"]\n\tURL = {}',
        '[REMOTE "origin"]\n\turl={}',
        '[remote "origin"]\n\turl = {} # where it is',
        '[remote "origin"]\n\turl = {}; where it is',
        '[remote "origin"]\n\turl = "{}" ; where it is',
        '[remote "origin"] ; x\n\turl = {}',
        '[remote "origin"] url = {}',
        "[remote.origin]\n\turl = {}",
        '[core]\n\tbare\n[remote "origin"]\n\tfetch = \\\n\turl = other:x/y\n\turl = {}',
        '[remote "origin"]\n\turl = \\\n{}',
        '[remote "origin"]\n\turl = "\\\n{}"',
        '\ufeff[remote "origin"]\n\turl = {}',
        '[user]\n\tname = Jos\udce9\n[remote "origin"]\n\turl = {}',
        '[remote "origin"]\r\n\turl = {}\r\n',
        '[remote "a]b"]\n\turl = other:x/y\n[remote "origin"]\n\tpushurl = other:x/y\n\turl = {}\n\turl = other:x/y',
    ],
)
def test_settings_are_read_as_git_reads_them(config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init")
    (tmp_path / ".git" / "config").write_bytes(
        config.format("https://github.com/org/proj.git").encode(errors="surrogateescape")
    )
    monkeypatch.chdir(tmp_path)
    asked = subprocess.run(["git", "config", "--get-all", "remote.origin.url"], capture_output=True, check=True)
    assert asked.stdout.splitlines()[0] == b"https://github.com/org/proj.git", "git reads it like that"
    assert scope_here() == "repo:github.com/org/proj"


def test_what_is_no_setting_of_origin_is_not_taken_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    for config in (
        '[remote "Origin"]\nurl = h:o/p',
        '[remote "origin"]\n# url = h:o/p',
        '[remote "origin"]\nurl = "h:o/p',
    ):
        (tmp_path / ".git" / "config").write_text(config)
        assert scope_here() is None


@pytest.mark.parametrize(
    ("own", "users", "scope"),
    [
        ('[url "https://github.com/"]\ninsteadOf = gh:', "", "repo:github.com/org/proj"),
        ("", '[URL "https://github.com/"]\nINSTEADOF = "gh:"', "repo:github.com/org/proj"),
        ('[url "https://a/"]\ninsteadOf = gh', '[url "https://b/"]\ninsteadOf = gh:', "repo:b/org/proj"),
        ('[url "https://a/"]\ninsteadOf = gh:', '[url "https://b/"]\ninsteadOf = gh:', "repo:b/org/proj"),
        ('[url "https://a/"]\npushInsteadOf = gh:', '[url "https://b/"]\ninsteadOf = GH:', "repo:gh/org/proj"),
        ('[url "/srv/"]\ninsteadOf = gh:', "", None),
    ],
)
@pytest.mark.parametrize("where", [".gitconfig", ".config/git/config", "named"])
def test_abbreviations(
    own: str, users: str, scope: str | None, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As git has them, which says so here."""
    home, here = tmp_path / "home", tmp_path / "proj"
    (home / where).parent.mkdir(parents=True)
    (home / where).write_text(users)
    here.mkdir()
    git(here, "init")
    (here / ".git" / "config").write_text(f'[remote "origin"]\nurl = gh:org/proj\n{own}')
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1"}
    if where == "named":
        environ["GIT_CONFIG_GLOBAL"] = str(home / where)
    command = ["git", "remote", "get-url", "origin"]
    asked = subprocess.run(command, cwd=here, env=environ, capture_output=True, check=True, text=True).stdout.strip()
    monkeypatch.chdir(here)
    assert scope_here(environ) == scope_of(asked) == scope


def test_a_file_made_to_be_slow_is_read_in_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    for content in (
        'url = "\\\n' * 100_000,
        "[" * 1_000_000,
        "[a" * 400_000,
        'a = "' + "\\\\" * 400_000,
        "# x\n" * 250_000,
    ):
        (tmp_path / ".git" / "config").write_text('[remote "origin"]\n' + content)
        began = time.process_time()
        assert scope_here({}) is None
        assert time.process_time() - began < 5, "it was read again and again"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "local:/nowhere"])
def test_the_setting(url: str, checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(checkout)

    def scopes(setting: str | None) -> tuple[str, ...]:
        environ = {"AGENTCHAT_URL": url, **({} if setting is None else {"AGENTCHAT_SCOPES": setting})}
        return settings.load(home=tmp_path, environ=environ).scopes

    here = "repo:github.com/org/proj"
    assert scopes(None) == scopes("") == scopes("auto") == (here,)
    assert scopes("off") == scopes("none") == scopes("OFF") == scopes(" Off ,") == ()
    assert scopes("thread:7, auto") == scopes("thread:7,AUTO") == ("thread:7", here)
    assert scopes("thread:7") == ("thread:7",)
    for wrong, says in (
        ("offf", "'offf' is no scope"),
        ("off,auto", "off stands alone"),
        ("thread:7,none", "none stands"),
    ):
        with pytest.raises(NotConfigured, match=f"^AGENTCHAT_SCOPES is set to '{wrong}', but {says}"):
            scopes(wrong)


def test_what_a_client_may_be_given() -> None:
    for scopes in (["x"], "repo:x", ["repo:" + "x" * 200]):
        with pytest.raises(NotConfigured):
            Client("http://127.0.0.1:1", "k", scopes=scopes)
    for groups in (["X"], "reviewers", ["-"]):
        with pytest.raises(NotConfigured):
            Client("http://127.0.0.1:1", "k", groups=groups)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "local:/nowhere"])
def test_groups_of_the_environment(url: str, tmp_path: Path) -> None:
    environ = {"AGENTCHAT_URL": url, "AGENTCHAT_GROUPS": "one, two,one"}
    assert settings.load(home=tmp_path, environ=environ).groups == ("one", "two")
    with pytest.raises(NotConfigured, match=r"^AGENTCHAT_GROUPS is set to 'one,Two', but 'Two' is no group name"):
        settings.load(home=tmp_path, environ={**environ, "AGENTCHAT_GROUPS": "one,Two"})
