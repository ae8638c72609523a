"""A clock that was wrong for a while, and was set right: nobody suffers from it for longer."""

from __future__ import annotations

import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agentchat import Client
from agentchat.identity import registration
from agentchat_relay.embedded import running
from agentchat_relay.service import administration, machines
from tests.relay.conftest import UNLIMITED, Clock, until

YEAR = 365 * 86_400.0


def test_presence_comes_back(clock: Clock, tmp_path: Path):
    clock.ahead = 5 * YEAR
    with running(str(tmp_path), settings=UNLIMITED) as relay, Client(relay.url, relay.token("ann")) as ann:
        ann.check_board()
        until(lambda: len(ann.find_agents(active_within="15m")["agents"]) == 1)
        clock.ahead = 0
        seen = ann.find_agents(active_within="15m")["agents"]
        until(lambda: len(ann.find_agents(active_within="15m")["agents"]) == 1)
        assert len(seen) <= 1
        with Client(relay.url, relay.token("bob")) as bob:
            clock.ahead = YEAR
            bob.check_board()
            clock.ahead = 0
            until(lambda: bool(ann.find_agents(name="bob")["agents"]))
            listed = [agent["name"] for agent in ann.find_agents(active_within="7d")["agents"]]
            assert listed == ["ann"]


def test_machines_are_not_locked_out(clock: Clock, tmp_path: Path):
    """Registrations that were noted in the future do not count for the present."""
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw().hex()
    with running(str(tmp_path), settings=UNLIMITED) as relay:
        relay.ask(lambda tx: administration.machine_add(tx, name="box", public_key=public))

        def register(number: int) -> object:
            sent = registration("box", f"box-{number}", secrets.token_hex(32), private)
            known = machines.Registration(**sent, card=None)
            return relay.ask(lambda tx: machines.register(tx, known, machines.Rules(50, False)))

        clock.ahead = 30  # as far as a signature may be off
        for number in range(machines.MOST_PER_WINDOW):
            assert isinstance(register(number), dict)
        assert not isinstance(register(90), dict)
        clock.ahead = 0
        assert isinstance(register(91), dict)


def test_readers_of_direct_messages_do_not_go_back(clock: Clock, tmp_path: Path):
    with running(str(tmp_path), settings=UNLIMITED) as relay, Client(relay.url, relay.token("ann")) as ann:
        clock.ahead = YEAR
        ann.send_direct_message("ann", "to myself")
        (reader,) = ann.list_readers("direct-messages")["readers"]
        clock.ahead = 0
        assert ann.list_readers("direct-messages")["readers"] == [reader]
