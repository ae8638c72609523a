"""schemathesis tries the relay out against its own description, call by call and in chains of calls.

It finds nothing. `make test-matrix` tries the same each time; for others, and more of them, after that:
AGENTCHAT_EXAMPLES=1000 AGENTCHAT_SEED=2 .venv-operation/bin/python -m pytest -m operation tests/operation
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agentchat import Client
from agentchat.contract import OPERATIONS
from agentchat.errors import NotFound
from agentchat_relay.administration import ADMINISTRATION
from agentchat_relay.embedded import Embedded, running
from agentchat_relay.http.app import Handler, routes
from agentchat_relay.http.openapi import document
from agentchat_relay.http.parts import Parts
from agentchat_relay.http.reply import Reply, enveloped
from agentchat_relay.http.request import Request
from agentchat_relay.service import administration
from agentchat_relay.settings import Settings
from tests.relay import conftest

pytestmark = pytest.mark.operation

EXAMPLES = int(os.environ.get("AGENTCHAT_EXAMPLES", "30"))  # calls made up of each operation
SEED = os.environ.get("AGENTCHAT_SEED", "1")
CALLS = ("--phases=examples,coverage,fuzzing", f"--max-examples={EXAMPLES}")
CHAINS = ("--phases=stateful", f"--max-examples={4 * EXAMPLES}")
HERE = Path(__file__).parent
SETTINGS = Settings(agent_reads=0, agent_writes=0, all_reads=0, all_writes=0, trusted_proxies=("127.0.0.1",))
NAMES = [f"name-{n}" for n in range(15)]  # each of an agent, of a channel and of a space: some will be deleted
OF_OPERATORS = "^/(metrics|api/v2/(admin|register))"


class Tried:
    """A relay with two spaces and something in them, and schemathesis to try it out."""

    def __init__(self, relay: Embedded, directory: Path) -> None:
        self.relay, self.directory = relay, directory
        relay.space("elsewhere")
        self.keys = {space: relay.token("mac-ann", space=space) for space in ("main", "elsewhere")}
        relay.token("mac-bob", space="elsewhere")
        secret = relay.directory.admin_secret()
        with Client(relay.url, relay.token("mac-bob")) as client:
            messages = [client.send_message("general", f"@mac-ann number {n}")["message"]["id"] for n in range(3)]
            path = client.upload_file("general", "report.md", "text")["file"]["path"]
            link = client.get_file_url(path)["signed_url"]
            for group in ("crew", "watch"):
                client.join_group(group)
            for number in range(30):
                client.send_direct_message("mac-ann", f"for a claim, {number}")
            tasks = [
                client.create_task("Read it", target_agent="mac-ann", context="All of it.")["task"]["id"]
                for _ in range(20)
            ]
            for name in NAMES:
                client.send_message(name, "Here.")
                relay.space(name)
                relay.token(name)
        with Client(relay.url, self.keys["main"]) as ann:
            own = [ann.send_message("general", "@mac-bob of my own")["message"]["id"] for _ in range(5)]
            messages = [*own, *messages]
            for task in tasks[5:]:
                ann.claim_task(task, lease=86_400)
            tasks += [ann.create_task("Read it", channel="general")["task"]["id"] for _ in range(10)]
            locks = [ann.acquire_lock([f"lock-{n}"], lease=86_400)["lock"]["id"] for n in range(20)]
            interrupts, approvals, pauses = self._stopped(relay, ann)
            claims = [str(ann.claim_items(limit=1, lease=3600)["claim_id"]) for _ in range(30)]
        self.known = {
            "claims": claims,
            "agents": ["mac-ann", "mac-bob"],
            "channels": ["general", "project-demo", "tech-python"],
            "approvals": approvals,
            "groups": ["crew", "watch"],
            "interrupts": interrupts,
            "pauses": pauses,
            "locks": locks,
            "messages": messages,
            "names": NAMES,
            "paths": [path],
            "secrets": [secret],
            "spaces": ["main"],
            "tasks": tasks,
            "tokens": [link.rpartition("/")[2]],
        }
        self._as_operator = {"authorization": f"Bearer {secret}"}
        self.as_operator = f"[auth.openapi]\nadminCredential = {{ bearer = {json.dumps(secret)} }}\n"

    def _stopped(self, relay: Embedded, ann: Client) -> tuple[list[str], list[str], list[str]]:
        """What the two sent each other to stop for, and asked each other to allow. Ann's claims come after it: what was
        for her is acknowledged, since it would stay first in her inbox."""
        relay.ask(lambda tx: administration.agent_grant(tx, name="mac-ann", role="admin"))
        relay.ask(lambda tx: administration.agent_grant(tx, name="mac-ann", role="reviewer"))
        interrupts = [ann.send_interrupt("mac-bob", f"number {n}")["interrupt"]["id"] for n in range(5)]
        approvals = [ann.request_approval("deploy", "{}")["approval"]["id"] for _ in range(20)]
        pauses = [ann.pause_agents("for a while", group="watch")["pause"]["id"] for _ in range(20)]
        with Client(relay.url, relay.token("mac-cid")) as cid:
            given = [cid.send_interrupt("mac-ann", f"number {n}")["interrupt"]["id"] for n in range(5)]
            approvals += [cid.request_approval("deploy", "{}")["approval"]["id"] for _ in range(20)]
        for id in given:
            ann.acknowledge_interrupt(id)
        return interrupts + given, approvals, pauses

    def as_agents(self) -> str:
        """Two agents, one in each space, neither of which may see what is the other's."""
        found = [
            {"name": space, "fixedHeaders": [{"name": "x-agent-api-key", "value": key}]}
            for space, key in self.keys.items()
        ]
        path = self.directory / "agents.json"
        path.write_text(json.dumps({"auth": found}))
        return f"[auth.wfc]\npath = {json.dumps(str(path))}\npeers = {json.dumps([*self.keys])}\n"

    def run(self, credentials: str, *options: str) -> subprocess.CompletedProcess[str]:
        known = "".join(f"[dictionaries.{name}]\nvalues = {json.dumps(them)}\n" for name, them in self.known.items())
        settings = self.directory / "schemathesis.toml"
        settings.write_text((HERE / "schemathesis.toml").read_text() + credentials + known)
        command = [Path(sys.executable).with_name("schemathesis"), "--config-file", settings, "run", "--no-color"]
        command += ["--continue-on-failure", f"--seed={SEED}", *options, f"{self.relay.url}/openapi.json"]
        environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(HERE / "addresses.py")}
        done = subprocess.run(
            command, cwd=self.directory, env=environment, capture_output=True, text=True, timeout=24 * 3600, check=False
        )
        print(done.stdout, done.stderr)  # with how to repeat what was found
        return done

    def succeeded(self) -> set[str]:
        """The operations that did at least once what they are for."""
        request = urllib.request.Request(f"{self.relay.url}/metrics", headers=self._as_operator)
        with urllib.request.urlopen(request, timeout=30) as answer:
            page = answer.read().decode()
        return {*re.findall(r'^agentchat_requests_total\{operation="(\w+)",code="ok"\} [1-9]', page, re.M)}


impatient = conftest.impatient  # a fixture: a relay at which nobody waits for an event


@pytest.fixture
def tried(tmp_path: Path, impatient: None) -> Iterator[Tried]:
    with running(settings=SETTINGS) as relay:
        yield Tried(relay, tmp_path)


def test_the_description_is_valid_by_the_specification() -> None:
    import schemathesis

    schemathesis.openapi.from_dict(document()).validate()
    wrong: Any = document()
    wrong["paths"]["/health"]["get"]["responses"]["200"].pop("description")
    with pytest.raises(Exception, match="description"):
        schemathesis.openapi.from_dict(wrong).validate()


def test_what_agents_call_does_what_the_description_says(tried: Tried) -> None:
    done = tried.run(tried.as_agents(), *CALLS, "--exclude-path-regex", OF_OPERATORS)
    assert done.returncode == 0
    by_chance = {"get_file_url", "get_receipts", "requeue_items"}  # of a message of one's own; of a dead letter
    by_chance |= {"send_to_many"}  # of names in a list it knows nothing
    by_chance |= {"acknowledge_items", "return_items", "renew_claim"}  # of a claim that no other call has ended
    by_chance |= {"decline_task", "return_task", "complete_task", "fail_task", "cancel_task"}  # of a task, the same
    by_chance |= {"renew_task", "report_progress", "offer_task"}  # of a task that one has, or created
    by_chance |= {"renew_lock", "release_lock"}  # of a lock that one has
    by_chance |= {"acknowledge_interrupt", "withdraw_interrupt"}  # of one for oneself, or of one's own
    by_chance |= {"pause_agents"}  # of one of two, and not both
    by_chance |= {"request_approval", "decide_approval"}  # with JSON in a text
    by_chance |= {"dismiss_approval", "withdraw_approval"}  # of somebody else's that nobody decided; of one's own
    assert tried.succeeded() >= {*OPERATIONS} - by_chance | {"act_on_task", "root", "health", "openapi", "linked_file"}


def test_what_agents_call_in_a_row_does_what_the_description_says(tried: Tried) -> None:
    """Of all operations, and of a few, where chains come all the way."""
    few = {"send_message", "get_message", "check_mentions", "mark_mentions_read", "upload_file", "download_file"}
    for chosen in (["--exclude-path-regex", OF_OPERATORS], only(*few)):
        assert tried.run(tried.as_agents(), *CHAINS, *chosen).returncode == 0
    assert tried.succeeded() >= few


def test_what_operators_call_does_what_the_description_says(tried: Tried) -> None:
    """On a relay of its own: they delete agents and replace keys."""
    done = tried.run(tried.as_operator, *CALLS, "--include-path-regex", OF_OPERATORS)
    assert done.returncode == 0
    # What needs an agent is up to the chains, which make one: here they are deleted sooner or later. What wants one of
    # two arguments, and not both, is hit by chance.
    by_chance = {name for name in ADMINISTRATION if name.startswith("agent_")} - {"agent_token"} | {"channel_update"}
    by_chance |= {"letter_list", "letter_requeue"}  # an agent that was not deleted before; a dead letter
    by_chance |= {"lock_break"}  # of a lock that somebody holds
    assert tried.succeeded() >= {*ADMINISTRATION, "register_machine", "metrics"} - by_chance


def test_what_operators_call_in_a_row_does_what_the_description_says(tried: Tried) -> None:
    """The same."""
    few = {"agent_token", "agent_grant", "agent_update", "agent_delete", "machine_revoke"}
    for chosen in (["--include-path-regex", OF_OPERATORS], only(*few)):
        assert tried.run(tried.as_operator, *CHAINS, *chosen).returncode == 0
    assert tried.succeeded() >= few


def mistaken(parts: Parts) -> dict[tuple[str, str], Handler]:
    """The routes of a relay that does what its description does not say."""

    async def misshapen(request: Request) -> Reply:
        await parts.agents.caller(request)
        return enveloped({"agents": [{"name": 7}]})

    async def broken(request: Request) -> Reply:
        raise RuntimeError("broken on purpose")

    async def open_to_all(request: Request) -> Reply:
        return enveloped({"mentions": []})

    return {
        **routes(parts),
        ("GET", "/api/v2/agents"): misshapen,
        ("GET", "/api/v2/board"): broken,
        ("GET", "/api/v2/mentions"): open_to_all,
    }


def test_a_relay_that_does_something_else_is_found_out(tmp_path: Path) -> None:
    with running(settings=SETTINGS, make_routes=mistaken) as relay:
        tried = Tried(relay, tmp_path)
        chosen = only("find_agents", "check_board", "check_mentions", "list_channels")
        done = tried.run(tried.as_agents(), "--phases=coverage", *chosen)
    assert done.returncode == 1
    found = set(re.findall("^_+ (.*) _+$", done.stdout, re.M))
    assert found == {"GET /api/v2/agents", "GET /api/v2/board", "GET /api/v2/mentions"}


def leaking(parts: Parts) -> dict[tuple[str, str], Handler]:
    """The routes of a relay that shows a message to whoever knows its id."""
    found = routes(parts)
    place = "GET", "/api/v2/messages/{message_id}"
    honest, keys = found[place], {}

    async def leak(request: Request) -> Reply:
        await parts.agents.caller(request)
        keys[request.headers[b"x-agent-api-key"]] = True
        for key in [*keys]:
            request.headers[b"x-agent-api-key"] = key
            with suppress(NotFound):
                return await honest(request)
        raise NotFound

    return {**found, place: leak}


def test_a_relay_that_shows_what_is_in_another_space_is_found_out(tmp_path: Path) -> None:
    with running(settings=SETTINGS, make_routes=leaking) as relay:
        tried = Tried(relay, tmp_path)
        chosen = only("send_message", "get_message")
        done = tried.run(tried.as_agents(), *CHAINS, "--max-failures=1", "--no-shrink", *chosen)
    assert done.returncode == 1
    assert "`elsewhere` received" in done.stdout or "`main` received" in done.stdout


def only(*names: str) -> list[str]:
    return [option for name in names for option in ("--include-operation-id", name)]
