"""Machines admit agents: a registration is signed by the machine's key (WIRE section 2).

Steps 6 to 12 of the contract. What a stranger sends is refused without a trace but for its nonce; only a verified
registration counts against its machine.
"""

from __future__ import annotations

from base64 import b64decode
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agentchat import types
from agentchat.errors import AgentChatError, BadRequest, Conflict, Forbidden, LimitReached, RateLimited
from agentchat.identity import signed_bytes

from ..store.seam import Reading, Row, Writing
from ..wire import micros, new_id
from . import agents, retirement

_SECOND = 1_000_000
WINDOW = 60 * _SECOND  # a timestamp may be this far off, either way
MOST_PER_WINDOW = 5  # verified registrations of one machine


class Rules(NamedTuple):
    """What an operator may set."""

    most_agents: int  # active ones of one machine
    own_names: bool  # a machine registers only names that start with its own


class Registration(NamedTuple):
    """What was sent, all texts."""

    machine_name: str
    agent_name: str
    derived_key_hash: str
    timestamp: str
    nonce: str
    signature: str
    card: types.Card | None = None


class Replayed(Conflict):
    """This registration was sent before; sign a new one with a new nonce."""


class NotSigned(Forbidden):
    """Registration failed"""  # the same text for every reason: nothing is to be learnt from it


def is_signed(tx: Reading, sent: Registration) -> bool:
    """Whether an active machine signed this, just now."""
    machine = tx.one("machine_by_name", name=sent.machine_name)
    return _fresh(sent, tx.now) and machine is not None and bool(machine["active"]) and _verifies(machine, sent)


def register(tx: Writing, sent: Registration, rules: Rules) -> types.Registered | AgentChatError:
    """Give an agent a key. Refusals are returned, so that the nonce stays used."""
    if not _fresh(sent, tx.now):
        raise NotSigned
    if tx.one("nonce_used", nonce=sent.nonce) is not None:
        raise Replayed
    tx.run("insert_nonce", nonce=sent.nonce, used_at=tx.now)
    machine = tx.one("machine_by_name", name=sent.machine_name)
    if machine is None or not machine["active"] or not _verifies(machine, sent):
        return NotSigned()
    recent = tx.all("registrations_since", machine_id=machine["id"], since=tx.now - WINDOW, now=tx.now)
    if len(recent) >= MOST_PER_WINDOW:
        wait = (recent[-MOST_PER_WINDOW]["used_at"] + WINDOW - tx.now) / _SECOND
        return RateLimited(f"{sent.machine_name} registered too often; wait.", retry_after=max(wait, 1))
    tx.run("nonce_verified", nonce=sent.nonce, machine_id=machine["id"])
    return _admit(tx, sent, machine, rules)


def _fresh(sent: Registration, now: int) -> bool:
    try:
        return abs(micros(sent.timestamp, "timestamp") - now) <= WINDOW
    except BadRequest:
        return False


def _verifies(machine: Row, sent: Registration) -> bool:
    """The exact text that came is what was signed."""
    signed = signed_bytes(
        sent.machine_name, sent.agent_name, sent.derived_key_hash, sent.timestamp, sent.nonce
    )  # fmt: skip
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(machine["public_key"]))
        key.verify(b64decode(sent.signature, validate=True), signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def _admit(tx: Writing, sent: Registration, machine: Row, rules: Rules) -> types.Registered | AgentChatError:
    name, hash = sent.agent_name, sent.derived_key_hash
    if agents.is_reserved(name):
        return Forbidden(f"The name {name} is reserved.")
    if rules.own_names and not name.startswith(f"{sent.machine_name}-"):
        return Forbidden(f"This relay lets a machine register its own names only: {sent.machine_name}-…")
    found = tx.one("agent_by_name", space_id=machine["space_id"], name=name)
    own = found is not None and found["machine_id"] == machine["id"]
    if not own and tx.the("agents_of_machine", machine_id=machine["id"])["agents"] >= rules.most_agents:
        return LimitReached(f"{sent.machine_name} has {rules.most_agents} agents, which is the limit.")
    if found is not None and not own and (found["machine_id"] is not None or found["key_hash"] is not None):
        return Conflict(f"The name {name} belongs to somebody else; choose another.")
    if found is not None and found["is_group"]:
        return Conflict(f"{name} is a group of agents; choose another name.")
    if found is not None and not found["active"]:
        return Forbidden(
            f"{name} was deactivated; the relay's operator can mend that: admin agent update {name} --active"
        )
    holder = tx.one("holder_of_key", key_hash=hash)
    if holder is not None and (found is None or holder["id"] != found["id"]):
        return Conflict("This key is in use; make a new one.")
    if found is None:
        public_id = new_id(tx.now)
        agent_id = tx.run(
            "insert_agent", public_id=public_id, space_id=machine["space_id"], name=name, machine_id=machine["id"],
            kind="agent", key_hash=hash, created_at=tx.now,
        )  # fmt: skip
        tx.event(machine["space_id"], "agent.joined", actor_id=agent_id, subject=public_id, payload=name)
    else:
        public_id, agent_id = found["public_id"], found["id"]
        tx.run("set_key", id=agent_id, key_hash=hash, machine_id=machine["id"])
        retirement.arrive(tx, agent_id)
    if sent.card is not None:
        agents.store_card(tx, agent_id, sent.card)
    tx.forget()
    return {"agent_id": public_id, "agent_name": name}
