"""`agentchat admin`: every command, the relay of the directory running and not; what it prints and what it does."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import re
import secrets
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agentchat import Client, cli
from agentchat._transport import StdlibTransport
from agentchat.client import drive
from agentchat.errors import Forbidden, Unauthorized
from agentchat.identity import registering
from agentchat_relay.administration import ADMINISTRATION
from agentchat_relay.directory import Directory
from agentchat_relay.embedded import running
from tests.relay import database
from tests.relay.conftest import UNLIMITED

KEY = re.compile("[0-9a-f]{64}")
OK, USAGE, MISSING, CONFLICT, LATER = 0, 2, 4, 5, 6


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def table(self) -> list[list[str]]:
        """The rows of a text output, its columns parted by two blanks or more."""
        return [re.split(r" {2,}", line) for line in self.out.splitlines()]


class Place:
    """A data directory whose relay runs, or not."""

    def __init__(self, path: Path, url: str | None, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self.url = url
        self._capsys = capsys

    def admin(self, *words: str) -> Ran:
        self._capsys.readouterr()
        code = cli.main(["admin", "--data", str(self.path), *self.store(words), *words])
        return Ran(code, *self._capsys.readouterr())

    def store(self, words: Sequence[str]) -> Sequence[str]:
        """What names a database, where the relay has one and is not asked itself."""
        url = database.url_of(self.path)
        return ("--store", url) if url and (self.url is None or "rotate" in words) else ()

    def done(self, *words: str) -> Ran:
        ran = self.admin(*words)
        assert ran.code == OK, ran
        return ran

    def json(self, *words: str) -> Any:
        return json.loads(self.done(*words, "--json").out)

    def key(self, name: str, *words: str) -> str:
        return self.done("agent", "token", name, *words).out.splitlines()[-1]

    @contextmanager
    def served(self) -> Iterator[str]:
        """The relay's URL; where it does not run, it does so for a while."""
        if self.url is not None:
            yield self.url
            return
        with running(str(self.path), settings=UNLIMITED) as relay:
            yield relay.url

    def works(self, *keys: str) -> list[bool]:
        found = []
        with self.served() as url:
            for key in keys:
                try:
                    with Client(url, key, retries=0) as client:
                        client.check_board()
                    found.append(True)
                except Unauthorized:
                    found.append(False)
        return found

    def register(self, machine: str, agent: str, private: Ed25519PrivateKey) -> str:
        """An agent's key, registered by its machine."""
        key = secrets.token_hex(32)
        with self.served() as url:
            transport = StdlibTransport(url)
            try:
                drive(registering(machine, agent, key, private), transport)
            finally:
                transport.close()
        return key


@pytest.fixture(params=["running", "stopped"])
def place(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Place]:
    path = tmp_path / "relay"
    if request.param == "stopped":
        yield Place(path, None, capsys)
        return
    with running(str(path), settings=UNLIMITED) as relay:
        yield Place(path, relay.url, capsys)


@pytest.fixture
def stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Place:
    return Place(tmp_path / "relay", None, capsys)


def new_machine(place: Place, name: str = "box", *words: str) -> Ed25519PrivateKey:
    private = Ed25519PrivateKey.generate()
    place.done("machine", "add", name, private.public_key().public_bytes_raw().hex(), *words)
    return private


# Machines


def test_machine_add_admits_a_machine(place: Place) -> None:
    private = Ed25519PrivateKey.generate()
    ran = place.done("machine", "add", "box", private.public_key().public_bytes_raw().hex())
    assert "box" in ran.out
    assert ("its directory was made" in ran.err) is (
        place.url is None and not database.url_of(place.path)
    )  # a mistyped directory is noticed
    assert place.done("machine", "list").err == ""
    assert place.works(place.register("box", "box-web", private)) == [True]


def test_machine_add_again_replaces_the_key(place: Place) -> None:
    old, new = new_machine(place), new_machine(place)
    with pytest.raises(Forbidden):
        place.register("box", "box-web", old)
    assert place.works(place.register("box", "box-web", new)) == [True]
    assert len(place.json("machine", "list")["machines"]) == 1


def test_machine_add_prints_json(place: Place) -> None:
    made = place.json("machine", "add", "box", "0" * 64)
    assert (made["name"], made["space"], made["active"]) == ("box", "main", True)


def test_a_machine_stays_in_its_space(place: Place) -> None:
    place.done("space", "add", "team")
    private = new_machine(place, "box", "--space", "team")
    ran = place.admin("machine", "add", "box", "0" * 64)
    assert ran.code == CONFLICT
    assert "box" in ran.err
    key = place.register("box", "box-web", private)
    assert place.works(key) == [True], "its key was not replaced"
    assert [(row["name"], row["space"]) for row in place.json("agent", "list")["agents"]] == [("box-web", "team")]


def test_machine_list(place: Place) -> None:
    assert place.done("machine", "list").out == "None.\n"
    assert place.json("machine", "list") == {"machines": []}
    private = new_machine(place)
    place.register("box", "box-web", private)
    new_machine(place, "other")
    rows = {row["name"]: row for row in place.json("machine", "list")["machines"]}
    assert {name: (row["space"], row["active"], row["agents"]) for name, row in rows.items()} == {
        "box": ("main", True, 1),
        "other": ("main", True, 0),
    }
    assert rows["box"]["public_key"] == private.public_key().public_bytes_raw().hex()
    head, *lines = place.done("machine", "list").table
    assert head[0] == "name"
    assert [line[0] for line in lines] == ["box", "other"]
    assert all(len(line) == len(head) for line in lines)


def test_machine_revoke_voids_the_keys_of_its_agents_and_no_others(place: Place) -> None:
    private, other = new_machine(place), new_machine(place, "other")
    keys = [place.register("box", f"box-{letter}", private) for letter in "ab"]
    spared = [place.register("other", "other-a", other), place.key("mac-ann")]
    assert place.works(*keys, *spared) == [True] * 4
    ran = place.done("machine", "revoke", "box")
    assert ran.err == ""
    assert place.works(*keys, *spared) == [False, False, True, True]
    with pytest.raises(Forbidden, match="Registration failed"):
        place.register("box", "box-c", private)
    assert {row["name"]: row["active"] for row in place.json("machine", "list")["machines"]} == {
        "box": False,
        "other": True,
    }
    assert place.json("machine", "revoke", "box")["active"] is False, "again is no mistake"


# Keys


def test_agent_token_prints_the_bare_key_as_its_last_line(place: Place) -> None:
    ran = place.done("agent", "token", "mac-ann")
    key = ran.out.splitlines()[-1]
    assert KEY.fullmatch(key)
    assert key not in ran.err
    assert "mac-ann" in ran.err + ran.out
    assert place.works(key) == [True]


def test_agent_token_again_replaces_the_key(place: Place) -> None:
    keys = [place.key("mac-ann") for _ in range(3)]
    assert place.works(*keys) == [False, False, True]
    assert len(place.json("agent", "list")["agents"]) == 1


def test_agent_token_as_json(place: Place) -> None:
    made = place.json("agent", "token", "mac-ann", "--kind", "person")
    assert {name: made[name] for name in ("name", "space")} == {"name": "mac-ann", "space": "main"}
    assert place.works(made["key"]) == [True]
    (row,) = place.json("agent", "list")["agents"]
    assert (row["kind"], row["roles"], row["active"], row["has_key"]) == ("person", [], True, True)


def test_agent_token_for_a_machines_agent_leaves_it_to_its_machine(place: Place) -> None:
    private = new_machine(place)
    old = place.register("box", "box-web", private)
    new = place.key("box-web")
    assert place.works(old, new) == [False, True]
    (row,) = place.json("agent", "list")["agents"]
    assert row["machine"] == "box"
    assert place.works(place.register("box", "box-web", private), new) == [True, False]


def test_agents_of_one_name_in_two_spaces_are_two(place: Place) -> None:
    place.done("space", "add", "team")
    main, team = place.key("mac-ann"), place.key("mac-ann", "--space", "team")
    place.done("agent", "deactivate", "mac-ann", "--space", "team")
    assert place.works(main, team) == [True, False]
    place.done("agent", "delete", "mac-ann", "--space", "team")
    assert place.works(main) == [True]


def test_reserved_names_get_no_token(place: Place) -> None:
    for name in ("all", "here", "admin", "human", "system"):
        ran = place.admin("agent", "token", name)
        assert (ran.code, ran.out) == (USAGE, "")
        assert name in ran.err
    assert place.json("agent", "list") == {"agents": []}


@pytest.mark.sqlite
@pytest.mark.parametrize("name", ["A", "x", "Mac", "mac_ann", "mac@team", "../etc", "ü-1", "x" * 101])
def test_names_that_are_none_get_no_token(stopped: Place, name: str) -> None:
    ran = stopped.admin("agent", "token", name)
    assert ran.code == USAGE
    assert "name" in ran.err
    assert ran.out == ""


def test_a_deactivated_agent_gets_no_token_and_the_hint_mends_it(place: Place) -> None:
    place.done("space", "add", "team")
    for words in ((), ("--space", "team")):
        old = place.key("mac-ann", *words)
        place.done("agent", "deactivate", "mac-ann", *words)
        ran = place.admin("agent", "token", "mac-ann", *words)
        assert ran.code == CONFLICT
        hint = re.search(r"agentchat admin (.*)", ran.err)
        assert hint
        place.done(*shlex.split(hint[1].rstrip(".")))
        assert place.works(old, place.key("mac-ann", *words)) == [False, True]


# Agents


def test_agent_list(place: Place) -> None:
    assert place.done("agent", "list").out == "None.\n"
    place.done("space", "add", "team")
    place.key("mac-ann")
    place.key("mac-bob", "--kind", "person", "--space", "team")
    rows = place.json("agent", "list")["agents"]
    assert [(row["name"], row["space"], row["kind"], row["machine"]) for row in rows] == [
        ("mac-ann", "main", "agent", None),
        ("mac-bob", "team", "person", None),
    ]
    assert [row["name"] for row in place.json("agent", "list", "--space", "team")["agents"]] == ["mac-bob"]
    head, *lines = place.done("agent", "list").table
    assert head[:3] == ["name", "space", "kind"]
    assert [line[:3] for line in lines] == [["mac-ann", "main", "agent"], ["mac-bob", "team", "person"]]
    assert not KEY.search(place.done("agent", "list").out)


def test_agent_list_shows_when_an_agent_was_last_seen(place: Place) -> None:
    key = place.key("mac-ann")
    assert place.json("agent", "list")["agents"][0]["last_seen_at"] is None
    with place.served() as url, Client(url, key, retries=0) as client:
        sent = client.send_message("general", "hello")["message"]["created_at"]
    seen = place.json("agent", "list")["agents"][0]["last_seen_at"]
    assert seen[:10] == sent[:10]


def test_agent_grant_and_revoke(place: Place) -> None:
    key = place.key("mac-ann")
    assert place.json("agent", "grant", "mac-ann", "reviewer")["roles"] == ["reviewer"]
    assert place.json("agent", "grant", "mac-ann", "admin")["roles"] == ["admin", "reviewer"]
    assert place.json("agent", "grant", "mac-ann", "admin")["roles"] == ["admin", "reviewer"]
    assert "admin,reviewer" in place.done("agent", "list").out
    assert place.json("agent", "grant", "mac-ann", "admin", "--revoke")["roles"] == ["reviewer"]
    assert place.json("agent", "grant", "mac-ann", "admin", "--revoke")["roles"] == ["reviewer"]
    assert place.works(key) == [True]


def test_agent_deactivate_and_update(place: Place) -> None:
    key = place.key("mac-ann")
    assert place.json("agent", "deactivate", "mac-ann")["active"] is False
    assert place.works(key) == [False]
    assert place.json("agent", "update", "mac-ann", "--active")["active"] is True
    assert place.works(key) == [True], "the same key again"
    row = place.json("agent", "update", "mac-ann", "--no-active", "--kind", "person")
    assert (row["active"], row["kind"]) == (False, "person")
    assert place.works(key) == [False]
    assert place.json("agent", "update", "mac-ann", "--kind", "agent")["active"] is False, "only what was named"


def test_agent_update_of_nothing_is_wrong_usage(place: Place) -> None:
    place.key("mac-ann")
    ran = place.admin("agent", "update", "mac-ann")
    assert ran.code == USAGE
    assert "kind" in ran.err


def test_agent_delete_keeps_messages_and_frees_the_name(place: Place) -> None:
    old, bob = place.key("mac-ann"), place.key("mac-bob")
    with place.served() as url, Client(url, old, retries=0) as ann, Client(url, bob, retries=0) as other:
        ann.set_card(role="reviewer")
        sent = ann.send_message("general", "I was here")["message"]
        ann.send_direct_message("mac-bob", "and said this")
        other.send_direct_message("mac-ann", "for the old one only")
        other.send_message("general", "@mac-ann look")
    ran = place.done("agent", "delete", "mac-ann")
    grave = ran.out.split()[-1].rstrip(".")
    assert re.fullmatch("[a-z0-9][a-z0-9-]{1,99}", grave)
    assert "mac-ann" in ran.out
    assert place.works(old) == [False]
    new = place.key("mac-ann")
    with place.served() as url, Client(url, new, retries=0) as ann, Client(url, bob, retries=0) as other:
        kept = other.get_message(sent["id"])["message"]
        assert (kept["content"], kept["author_name"]) == ("I was here", grave)
        hits = other.search_messages("here")["results"]
        assert [(hit["id"], hit["author_name"]) for hit in hits] == [(sent["id"], grave)]
        assert grave in {found["from"] for found in other.check_mentions()["mentions"]}
        assert ann.check_mentions(unread=False)["mentions"] == []
        assert ann.list_channels()["channels"] == []
        assert ann.search_messages("old")["results"] == []
        found = {row["name"]: row["card"] for row in other.find_agents()["agents"]}
        assert found == {"mac-ann": None, "mac-bob": None}
        mine = ann.send_message("general", "I am new")["message"]
        assert mine["author_agent_id"] != sent["author_agent_id"]
        assert other.get_message(sent["id"])["message"]["author_name"] == grave


def test_agent_delete_as_json_and_twice(place: Place) -> None:
    place.key("mac-ann")
    assert place.json("agent", "delete", "mac-ann")["name"] == "mac-ann"
    assert place.admin("agent", "delete", "mac-ann").code == MISSING
    assert "mac-ann" not in [row["name"] for row in place.json("agent", "list")["agents"]]


def test_the_name_of_a_deleted_agent_can_be_registered(place: Place) -> None:
    private = new_machine(place)
    place.key("mac-ann")
    place.done("agent", "delete", "mac-ann")
    assert place.works(place.register("box", "mac-ann", private)) == [True]


# Spaces and the credential


def test_space_add_and_list(place: Place) -> None:
    assert [row["name"] for row in place.json("space", "list")["spaces"]] == ["main"]
    assert "team" in place.done("space", "add", "team").out
    seeded = place.json("space", "add", "other")["channels"]
    place.key("mac-ann", "--space", "team")
    rows = {row["name"]: row for row in place.json("space", "list")["spaces"]}
    assert {name: (row["agents"], row["channels"]) for name, row in rows.items()} == {
        "main": (0, seeded),
        "other": (0, seeded),
        "team": (1, seeded),
    }
    assert [line[0] for line in place.done("space", "list").table] == ["name", "main", "other", "team"]
    ran = place.admin("space", "add", "team")
    assert ran.code == CONFLICT
    assert "team" in ran.err


def test_credential_rotate_works_at_once(place: Place) -> None:
    with place.served():  # makes what is to be replaced
        before = Directory(place.path).admin_secret()
    ran = place.done("credential", "rotate")
    after = Directory(place.path).admin_secret()
    assert after != before
    assert str(place.path / "admin.key") in ran.out
    assert before not in ran.out + ran.err
    assert after not in ran.out + ran.err, "it is in the file, not on the screen"
    with place.served() as url:
        for secret, status in ((before, 401), (after, 200)):
            assert _admin_status(url, secret) == status
    place.key("mac-ann")


def test_a_credential_that_lies_in_a_database_is_rotated_there(place: Place, tmp_path: Path) -> None:
    """The file alone would change nothing for anybody but us."""
    if place.url is None or not (store := database.url_of(place.path)):
        return  # SQLite's is the file's, and a relay that does not run cannot be asked
    before = Directory(place.path).admin_secret()
    words = ["admin", "--data", str(place.path), "credential", "rotate"]
    assert cli.main(words) == CONFLICT
    assert Directory(place.path).admin_secret() == before
    assert cli.main([*words, "--store", store]) == OK
    assert _admin_status(place.url, before) == 401


def _admin_status(url: str, secret: str) -> int:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    try:
        connection.request("GET", "/api/v2/admin/spaces", headers={"authorization": f"Bearer {secret}"})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.sqlite
def test_a_lost_admin_key_is_not_made_anew_by_a_stranger(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running(str(tmp_path)) as relay:

        def ask(secret: str) -> tuple[int, str]:
            connection = http.client.HTTPConnection(relay.url.removeprefix("http://"))
            try:
                connection.request("GET", "/api/v2/admin/agents", headers={"authorization": f"Bearer {secret}"})
                answer = connection.getresponse()
                return answer.status, answer.read().decode()
            finally:
                connection.close()

        secret = relay.directory.admin_secret()
        assert ask(secret)[0] == 200
        (tmp_path / "admin.key").unlink()
        status, text = ask(secret)
        assert (status, json.loads(text)["code"]) == (503, "unavailable")
        assert str(tmp_path) not in text
        assert not (tmp_path / "admin.key").exists()
        assert "admin credential rotate" in caplog.text
        assert ask(relay.directory.rotate_admin_secret())[0] == 200


@pytest.mark.sqlite
def test_credential_rotate_in_a_new_directory(stopped: Place) -> None:
    ran = stopped.admin("credential", "rotate")
    assert ran.code in (OK, USAGE)
    assert ran.out or ran.err
    stopped.key("mac-ann")


# Errors

UNKNOWN: dict[str, tuple[str, ...]] = {
    "machine revoke": ("machine", "revoke", "bax"),
    "agent grant": ("agent", "grant", "mac-anm", "admin"),
    "agent deactivate": ("agent", "deactivate", "mac-anm"),
    "agent update": ("agent", "update", "mac-anm", "--active"),
    "agent delete": ("agent", "delete", "mac-anm"),
    "agent list": ("agent", "list", "--space", "mian"),
    "agent token": ("agent", "token", "mac-ann", "--space", "mian"),
    "machine add": ("machine", "add", "box", "0" * 64, "--space", "mian"),
    "audit": ("audit", "--actor", "mac-anm"),
    "lock list": ("lock", "list", "--space", "mian"),
    "lock break": ("lock", "break", "0198f2c0-0000-7000-8000-000000000001", "--space", "mian"),
    "audit of a space": ("audit", "--space", "mian"),
}
NEAR = {"bax": "box", "mac-anm": "mac-ann", "mian": "main"}


@pytest.mark.parametrize("command", UNKNOWN)
def test_unknown_names_are_refused_with_the_one_that_may_be_meant(place: Place, command: str) -> None:
    place.key("mac-ann")
    place.done("machine", "add", "box", "0" * 64)
    words = UNKNOWN[command]
    (asked, near), *_ = [(word, NEAR[word]) for word in words if word in NEAR]
    ran = place.admin(*words)
    assert (ran.code, ran.out) == (MISSING, "")
    assert asked in ran.err
    assert re.search(rf"\b{near}\b", ran.err)
    error = json.loads(place.admin(*words, "--json").err)
    assert (error["code"], error["near"]) == ("not_found", [near])


def test_a_name_like_nobodys_says_how_to_list_them_and_that_works(place: Place) -> None:
    for words in (("machine", "revoke", "zzz"), ("agent", "delete", "zzz"), ("agent", "list", "--space", "zzz")):
        ran = place.admin(*words)
        assert ran.code == MISSING
        hint = re.search(r"agentchat admin ([a-z]+ list)", ran.err)
        assert hint
        place.done(*hint[1].split())


@pytest.mark.parametrize(
    "words",
    [
        (), ("agent",), ("nobody",), ("agent", "dance"), ("agent", "token"), ("agent", "token", "mac-ann", "extra"),
        ("agent", "token", "mac-ann", "--kind", "robot"), ("agent", "grant", "mac-ann", "king"),
        ("agent", "list", "--unknown"), ("agent", "list", "--spac", "main"), ("machine", "add", "box"),
        ("machine", "add", "box", "0" * 63), ("machine", "add", "box", "X" * 64), ("machine", "add", "Box", "0" * 64),
        ("machine", "add", "x" * 51, "0" * 64), ("machine", "add", "box", "0" * 64, "--space", "No"),
        ("space", "add", "Team"), ("space", "add", ""), ("space", "add", "x" * 51), ("credential",),
        ("credential", "rotate", "x"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_is_told_as_such(stopped: Place, words: tuple[str, ...]) -> None:
    ran = stopped.admin(*words)
    assert (ran.code, ran.out) == (USAGE, "")
    assert len(ran.err.splitlines()) == 1
    if stopped.path.exists():
        rows = [stopped.json(noun, "list") for noun in ("agent", "machine")]
        assert rows == [{"agents": []}, {"machines": []}]


# All commands

COMMANDS = {**{name: operation.description for name, operation in ADMINISTRATION.items()}, "credential_rotate": ""}
ARGUMENTS = {
    "machine_add": ("box", "0" * 64), "machine_revoke": ("box",), "agent_token": ("mac-ann",),
    "agent_grant": ("mac-ann", "reviewer"), "agent_deactivate": ("mac-ann",), "agent_update": ("mac-ann", "--active"),
    "agent_delete": ("mac-ann",), "space_add": ("team",), "space_update": ("main", "--retention", "30"),
    "channel_update": ("general", "--retention", "7"), "letter_list": ("mac-ann",),
}  # fmt: skip


@pytest.mark.sqlite
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(stopped: Place, capsys: pytest.CaptureFixture[str], name: str) -> None:
    noun, _, verb = name.partition("_")
    for words in ((), (noun,), (noun, verb)):
        with pytest.raises(SystemExit) as left:
            stopped.admin(*words, "--help")
        assert left.value.code == 0
        out = re.sub(r"\s+", " ", capsys.readouterr().out)
        if words == (noun, verb):
            assert COMMANDS[name] in out
            operation = ADMINISTRATION.get(name)
            for parameter in operation.parameters.values() if operation else ():
                assert (parameter.name if parameter.required else f"--{parameter.name.replace('_', '-')}") in out
        else:
            assert (verb if words else noun) in out
    assert not stopped.path.exists(), "help makes nothing"


def dead_letter(place: Place) -> str:
    """One of mac-ann's."""
    ann, bob = place.key("mac-ann"), place.key("mac-bob")
    with place.served() as url, Client(url, ann) as client, Client(url, bob) as sender:
        sender.send_direct_message("mac-ann", "hello")
        while True:
            claim = client.claim_items(limit=1)
            if client.return_items(str(claim["claim_id"])).get("dead"):
                return claim["items"][0]["item_id"]


def held_lock(place: Place) -> str:
    """One of mac-ann's."""
    ann = place.key("mac-ann")
    with place.served() as url, Client(url, ann) as client:
        return client.acquire_lock(["src/**", "docs"], reason="moving files", lease=86_400)["lock"]["id"]


def test_locks_are_listed_and_broken(place: Place) -> None:
    lock = held_lock(place)
    (row,) = place.json("lock", "list", "--name", "src/a.py")["locks"]
    assert (row["id"], row["holder"], row["state"], row["reason"]) == (lock, "mac-ann", "held", "moving files")
    assert "src/**,docs" in place.done("lock", "list").out
    assert place.json("lock", "list", "--name", "lib")["locks"] == []
    broken = place.json("lock", "break", lock, "--reason", "it hangs")
    assert (broken["id"], broken["state"]) == (lock, "broken")
    assert place.json("lock", "list")["locks"] == []
    told = [(line["action"], line["actor"], line["note"]) for line in place.json("audit", "--id", lock)["transitions"]]
    assert told == [("grant", "mac-ann", None), ("break", None, "by the operator: it hangs")]


def test_an_audit_says_what_it_leaves_out_and_how_to_see_it(place: Place) -> None:
    ann = place.key("mac-ann")
    with place.served() as url, Client(url, ann) as client:
        made = [client.create_task(str(n), channel="general")["task"]["id"] for n in range(3)]
    newest = place.json("audit", "--limit", "2")
    assert [row["id"] for row in newest["transitions"]] == made[1:]
    assert (newest["has_older"], newest["has_more"]) == (True, False), "nothing is newer than the newest"
    note = "Older ones are left out: a larger --limit shows more, --after 0 begins with the oldest."
    assert place.done("audit", "--limit", "2").out.splitlines()[-1] == note
    for words in (("--limit", "3"), ("--after", str(newest["after"])), ("--after", "0")):
        assert not {"Older", "There"} & set(place.done("audit", *words).out.split()), words

    portions = [place.json("audit", "--after", "0", "--limit", "2")]
    first = portions[0]["after"]
    told = place.done("audit", "--after", "0", "--limit", "2").out.splitlines()[-1]
    assert told == f"There are newer ones: --after {first}"
    while portions[-1]["has_more"]:
        portions.append(place.json("audit", "--after", str(portions[-1]["after"]), "--limit", "2"))
    assert [[row["id"] for row in portion["transitions"]] for portion in portions] == [made[:2], made[2:]]
    assert not any(portion["has_older"] for portion in portions)


def test_dead_letters_are_listed_and_wait_again(place: Place) -> None:
    item = dead_letter(place)
    (row,) = place.json("letter", "list", "mac-ann")["letters"]
    assert (row["item_id"], row["sender"], row["kind"], row["deliveries"]) == (item, "mac-bob", "direct", 5)
    assert "hello" not in place.done("letter", "list", "mac-ann").out, (
        "what agents tell each other is not the operator's"
    )
    assert place.json("letter", "requeue", "mac-ann", item) == {"item_id": item, "agent": "mac-ann"}
    assert place.json("letter", "list", "mac-ann") == {"letters": []}
    again = place.admin("letter", "requeue", "mac-ann", item)
    assert (again.code, "letter list mac-ann" in again.err) == (4, True)
    ann = place.key("mac-ann")
    with place.served() as url, Client(url, ann) as client:
        assert [found["item_id"] for found in client.peek_inbox()["items"]] == [item]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_prints_text_and_json(place: Place, name: str) -> None:
    place.key("mac-ann")
    place.done("machine", "add", "box", "0" * 64)
    words = (*name.split("_", 1), *ARGUMENTS.get(name, ()))
    if name == "letter_requeue":
        words = (*words, "mac-ann", dead_letter(place))
    if name == "lock_break":
        words = (*words, held_lock(place))
    told = json.loads(place.done(*words, "--json").out)
    assert isinstance(told, dict)
    if name not in ("agent_delete", "space_add", "letter_requeue"):  # these can be done once
        told_again = place.done(*words)
        assert told_again.out.strip()
        assert not told_again.out.startswith("{")


@pytest.mark.sqlite
def test_running_or_not_the_answers_are_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = [
        "space add team", "machine add box " + "0" * 64, "machine add box2 " + "1" * 64 + " --space team",
        "agent token mac-ann", "agent token mac-bob --kind person --space team", "agent grant mac-ann admin",
        "agent deactivate mac-ann", "agent token mac-ann", "agent update mac-ann --active --kind person",
        "agent list", "agent list --space team", "agent delete mac-anm", "agent delete mac-ann", "machine revoke box",
        "machine list", "space list", "space add team", "agent update mac-bob", "agent list --space nowhere",
        "space update main --retention 30", "space update main", "space update mian --retention 1",
        "channel update general --retention 7", "channel update general --retention seven", "channel list",
        "channel update global --as-space", "channel update generel --as-space", "channel list --space team",
        "lock list", "lock list --name a//b", "lock break 7", "lock break 0198f2c0-0000-7000-8000-000000000001",
        "audit", "audit --actor mac-bob --space team --limit 5", "audit --after 7", "audit --id 7",
    ]  # fmt: skip

    def told(place: Place) -> list[tuple[int, str, str]]:
        ran = [place.admin(*line.split(), *json_too) for line in script for json_too in ((), ("--json",))]
        hidden = r"[0-9a-f]{64}|\d{4}-\d\d-\d\dT[\d:.+]+|deleted-[0-9a-f]+|\"request_id\": \S+ *"
        return [(one.code, *(re.sub(hidden, "…", text) for text in one[1:])) for one in ran]

    unserved = Place(tmp_path / "stopped", None, capsys)
    unserved.admin("space", "list")  # makes the directory, and says so
    stopped = told(unserved)
    with running(str(tmp_path / "running"), settings=UNLIMITED) as relay:
        assert told(Place(tmp_path / "running", relay.url, capsys)) == stopped


def test_as_a_process_the_key_is_all_there_is_on_its_line(place: Place) -> None:
    command = [sys.executable, "-m", "agentchat", "admin", "--data", str(place.path), *place.store(())]
    command += ["agent", "token", "mac-ann"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert KEY.fullmatch(done.stdout.splitlines()[-1])
    assert place.works(done.stdout.splitlines()[-1]) == [True]


@pytest.mark.sqlite
def test_the_directory_is_the_usual_one_unless_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGENTCHAT_HOME", str(tmp_path / "home"))
    assert cli.main(["admin", "agent", "token", "mac-ann"]) == OK
    assert (tmp_path / "home" / "relay" / "agentchat.db").is_file()
    capsys.readouterr()


# What another process does with the directory


class _Spy(http.server.BaseHTTPRequestHandler):
    """Whoever listens where a relay once did."""

    seen: list[str]

    def do_GET(self) -> None:
        type(self).seen.append(str(self.headers))
        self.send_response(404)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is to be printed."""


@pytest.fixture
def spy() -> Iterator[tuple[str, list[str]]]:
    seen: list[str] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Spy", (_Spy,), {"seen": seen}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    thread.join()
    server.server_close()


def _left_by_a_killed_relay(path: Path, url: str) -> None:
    """A directory as kill -9 leaves it: the announcement of a process that is gone."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    path.mkdir(mode=0o700, exist_ok=True)
    (path / "relay.json").write_text(json.dumps({"url": url, "pid": gone.pid}))


@pytest.mark.sqlite
def test_a_stale_announcement_is_not_believed(stopped: Place, spy: tuple[str, list[str]]) -> None:
    url, seen = spy
    _left_by_a_killed_relay(stopped.path, url)
    assert stopped.works(stopped.key("mac-ann")) == [True]
    assert seen == []


@pytest.mark.sqlite
def test_the_credential_goes_to_the_relay_that_holds_the_directory_only(
    stopped: Place, spy: tuple[str, list[str]]
) -> None:
    """While one command has the directory, another must not take a dead relay's address for it."""
    url, seen = spy
    stopped.done("space", "list")
    secret = Directory(stopped.path).admin_secret()
    _left_by_a_killed_relay(stopped.path, url)
    holder = Directory(stopped.path)
    holder.hold("agentchat admin")
    try:
        ran = stopped.admin("agent", "list")
    finally:
        holder.release()
    assert ran.code == CONFLICT
    assert str(os.getpid()) in ran.err
    assert not [headers for headers in seen if secret in headers], "the credential was given away"


@pytest.mark.sqlite
def test_a_holder_that_is_no_relay_is_named(stopped: Place) -> None:
    stopped.done("space", "list")
    holder = Directory(stopped.path)
    holder.hold("agentchat admin")
    try:
        ran = stopped.admin("agent", "list")
    finally:
        holder.release()
    assert ran.code == CONFLICT
    for part in (str(stopped.path), "agentchat admin", str(os.getpid())):
        assert part in ran.err


@pytest.mark.sqlite
def test_a_relay_that_holds_the_directory_and_does_not_answer(stopped: Place) -> None:
    """It is stopping, or just starting: later it will be one or the other."""
    holder = Directory(stopped.path)
    holder.hold("a relay")
    holder.announce("http://127.0.0.1:1")
    try:
        ran = stopped.admin("agent", "list")
    finally:
        holder.retract()
        holder.release()
    assert ran.code == LATER
    assert "127.0.0.1:1" in ran.err
