"""A machine's key, the registration of its agents, and the key file that all processes of an agent share."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import sys
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from agentchat import Client, MachineCredential, identity, settings
from agentchat.errors import Conflict, Forbidden, NotConfigured, TimedOut, Unauthorized
from langchain_agentchat import AsyncClient
from tests.servers import FakeRelay, Seen, answer

# WIRE section 2's golden vector.
SEED = "c1881a80dc2977686b2aa45191964c95fb31f486195bda311f6fd90b46f870fe"
MACHINE, AGENT = "test-machine", "test-machine-myproject"
KEY_HASH = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
FIELDS = (MACHINE, AGENT, KEY_HASH, "2026-01-01T00:00:00Z", "0" * 32)
SIGNATURE = "6o9Ltmp5MDMUf+dfLWimuXx93HG5p3cDfphmPod2KHQSzonoS2hwtsTYYjPIkvyXx54TmvDJhk1jbpGzcrKTCw=="
GOLDEN_KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(SEED))
PUBLIC = bytes.fromhex("9e4ae8a6f1ba95c48b0f9849551886eb3ffb01afb96c1f7ac845e3edd2d62016")
PUBLIC_KEY = ed25519.Ed25519PublicKey.from_public_bytes(PUBLIC)

REGISTER, BOARD = "/api/v2/register", "/api/v2/board"
STALE, OTHER = "a" * 64, "b" * 64


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class Office(FakeRelay):
    """A relay that knows an agent by the newest key its machine announced, and checks every signature."""

    def __init__(self) -> None:
        self.hashes, self.bodies = {}, []
        super().__init__(keys=self)
        self.override["POST", REGISTER] = self.register

    def __contains__(self, key: str) -> bool:
        return sha256(key) in self.hashes.values()

    def register(self, seen: Seen) -> bytes:
        body = seen.json()
        *fields, signature = body.values()
        PUBLIC_KEY.verify(b64decode(signature, validate=True), json.dumps(fields, separators=(",", ":")).encode())
        self.bodies.append(body)
        self.hashes[body["agent_name"]] = body["derived_key_hash"]
        return answer({"agent_id": "1", "agent_name": body["agent_name"]})


@pytest.fixture
def office() -> Iterator[Office]:
    with Office() as server:
        yield server


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The directory of the golden machine."""
    place = tmp_path / "machine"
    place.mkdir()
    (place / "config").write_text(f"MACHINE_NAME={MACHINE}\n")
    write_machine_key(place / "machine.key", SEED.encode())
    return place


def write_machine_key(path: Path, content: bytes, mode: int = 0o600) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def pem(key: Any, password: bytes = b"") -> bytes:
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)


def key_file(home: Path) -> Path:
    return home / "agents" / f"{AGENT}.key"


def cache(home: Path, content: str | bytes) -> None:
    key_file(home).parent.mkdir(mode=0o700, exist_ok=True)
    key_file(home).write_bytes(content.encode() if isinstance(content, str) else content)


def credential(home: Path, office: FakeRelay, agent: str = AGENT) -> MachineCredential:
    return MachineCredential(str(home), office.url, MACHINE, agent)


def client_of(home: Path, office: FakeRelay) -> Client:
    return Client(office.url, credential(home, office), agent=AGENT)


def python(script: str, *arguments: str) -> Popen[str]:
    return Popen([sys.executable, "-c", script, *arguments], text=True, stdin=PIPE, stdout=PIPE, stderr=PIPE)


@pytest.mark.parametrize(
    "content",
    [SEED.encode(), f"  {SEED.upper()}\n".encode(), pem(GOLDEN_KEY), pem(GOLDEN_KEY).replace(b"\n", b"\r\n")],
    ids=["hex", "hex with blanks", "PEM", "PEM of another system"],
)
def test_the_golden_vector_is_signed_byte_for_byte(content: bytes, tmp_path: Path) -> None:
    key = identity.read_private_key(write_machine_key(tmp_path / "machine.key", content))
    signed = identity.signed_bytes(*FIELDS)
    assert signed == ('["' + '","'.join(FIELDS) + '"]').encode()
    assert b64encode(key.sign(signed)).decode() == SIGNATURE


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff" * 64, SEED[:-1].encode(), pem(GOLDEN_KEY).replace(b"B", b"C"),
        pem(ec.generate_private_key(ec.SECP256R1())), pem(GOLDEN_KEY, b"password"),
    ],
    ids=["empty", "binary", "too short", "damaged PEM", "other algorithm", "with password"],
)  # fmt: skip
def test_what_is_no_machine_key_is_refused_and_not_shown(content: bytes, tmp_path: Path) -> None:
    path = write_machine_key(tmp_path / "machine.key", content)
    with pytest.raises(NotConfigured, match=f"{re.escape(path)} holds no Ed25519 private key") as refused:
        identity.read_private_key(path)
    assert SEED[:20] not in str(refused.value)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606])
def test_a_machine_key_that_others_can_read_warns_with_the_cure(mode: int, tmp_path: Path) -> None:
    path = write_machine_key(tmp_path / "machine.key", SEED.encode(), mode)
    with pytest.warns(UserWarning, match=re.escape(f"chmod 600 {path}")):
        identity.read_private_key(path)


def test_a_registration_announces_the_hash_of_the_key_and_is_signed() -> None:
    body = identity.registration(MACHINE, AGENT, OTHER, GOLDEN_KEY)
    assert (body["machine_name"], body["agent_name"]) == (MACHINE, AGENT)
    assert body["derived_key_hash"] == sha256(OTHER)
    assert re.fullmatch("[0-9a-f]{32}", body["nonce"])
    assert re.fullmatch("[0-9-]{10}T[0-9:]{8}Z", body["timestamp"])
    assert abs(datetime.now(UTC) - datetime.fromisoformat(body["timestamp"])).total_seconds() < 60
    PUBLIC_KEY.verify(b64decode(body["signature"]), identity.signed_bytes(*list(body.values())[:5]))
    assert identity.registration(MACHINE, AGENT, OTHER, GOLDEN_KEY)["nonce"] != body["nonce"]


def test_the_first_call_registers_and_the_key_itself_never_travels_there(home: Path, office: Office) -> None:
    with client_of(home, office) as client:
        assert client.check_board() == client.check_board()
    assert re.fullmatch("[0-9a-f]{64}", key := key_file(home).read_text())
    assert [seen.path for seen in office.seen] == [REGISTER, BOARD, BOARD]
    assert key not in str(office.seen[0])
    assert key not in repr(client) + repr(client.credential)


def test_every_attempt_to_register_is_signed_anew(home: Path, office: Office) -> None:
    busy = answer({"error": "Busy", "code": "unavailable"}, status=503, headers={"retry-after": "0"})
    office.override["POST", REGISTER] = lambda seen: office.register(seen) if len(office.seen) > 1 else busy
    client_of(home, office).check_board()
    first, second = office.calls(REGISTER)
    assert {first.json()["nonce"], first.json()["signature"]}.isdisjoint(second.json().values())
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]


def test_the_key_is_cached_for_its_owner_only_and_nothing_else_is_left(home: Path, office: Office) -> None:
    client_of(home, office).check_board()
    assert [path.stat().st_mode & 0o777 for path in (key_file(home), home / "agents")] == [0o600, 0o700]
    assert sorted(os.listdir(home / "agents")) == [f"{AGENT}.key", f"{AGENT}.key.lock", f"{AGENT}.key.relay"]


@pytest.mark.parametrize("garbage", ["", "hello", OTHER.upper(), OTHER[:-1], OTHER + "c", b"\xff\xfe\x00", b"\0" * 64])
def test_a_garbage_cached_key_is_ignored_and_replaced(garbage: str | bytes, home: Path, office: Office) -> None:
    cache(home, garbage)
    client_of(home, office).check_board()
    assert [seen.path for seen in office.seen] == [REGISTER, BOARD]
    assert key_file(home).read_text() in office


def test_a_key_is_never_shown_to_another_relay(home: Path, office: Office) -> None:
    with Office() as other:
        for relay in (office, other, office, other):
            client_of(home, relay).check_board()
    assert [len(office.bodies), len(other.bodies)] == [1, 1]
    assert key_file(home).read_text() not in str(other.seen)


def test_two_spellings_of_a_relay_share_one_key(home: Path, office: Office) -> None:
    """Else each spelling would register anew and invalidate the other's key, in turns."""
    for url in (office.url, f"http://localhost:{office.port}", f"HTTP://LOCALHOST:{office.port}/", office.url):
        with Client(url, MachineCredential(home, url, MACHINE, AGENT)) as client:
            client.check_board()
    assert len(office.bodies) == 1


def test_a_key_of_unknown_origin_is_only_shown_to_the_relay_of_its_directory(home: Path, office: Office) -> None:
    (home / "config").write_text("AIRCHAT_WEB_URL=http://elsewhere.test\n")
    cache(home, OTHER)
    client_of(home, office).check_board()
    assert OTHER not in str(office.seen)
    assert key_file(home).read_text() == OTHER


def test_after_a_401_a_key_that_another_process_wrote_is_taken_without_registering(home: Path, office: Office) -> None:
    office.hashes[AGENT] = sha256(STALE)
    cache(home, f"{STALE}\n")
    with client_of(home, office) as client:
        client.check_board()
        office.hashes[AGENT] = sha256(OTHER)
        cache(home, OTHER)
        client.check_board()
    assert [seen.headers["x-agent-api-key"] for seen in office.seen] == [STALE, STALE, OTHER]


@pytest.mark.parametrize("shared", [True, False], ids=["one client", "a client each"])
def test_eight_threads_whose_key_is_refused_register_once(shared: bool, home: Path, office: Office) -> None:
    cache(home, STALE)
    clients = [client_of(home, office)] * 8 if shared else [client_of(home, office) for _ in range(8)]
    assert {client.credential.obtain(None) for client in clients} == {STALE}
    together = threading.Barrier(8)

    def call(client: Client) -> object:
        together.wait(10)
        return client.check_board()

    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(call, clients))) == 8
    assert len(office.bodies) == 1


RACER = """
import sys
from agentchat import Client
client = Client.from_env(url=sys.argv[1], home=sys.argv[2], agent=sys.argv[3])
sys.argv[4] == "stale" and client.credential.obtain(None)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(5):
    client.check_board()
"""


@pytest.mark.parametrize("start", ["stale", "empty"])
def test_four_processes_that_race_register_once(start: str, home: Path, office: Office) -> None:
    if start == "stale":
        cache(home, STALE)
    racers = [python(RACER, office.url, str(home), AGENT, start) for _ in range(4)]
    assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * 4
    for racer in racers:
        print("go", file=racer.stdin, flush=True)
    assert [(*racer.communicate(timeout=60), racer.returncode) for racer in racers] == [("", "", 0)] * 4
    assert len(office.bodies) == 1
    assert len(office.calls(BOARD)) <= 24, "five calls each, and at most one refusal each"


@pytest.mark.parametrize("paths", [[BOARD], [BOARD, REGISTER, BOARD]], ids=["cached key only", "new key too"])
def test_when_no_other_key_is_left_a_refusal_is_unauthorized(paths: list[str], home: Path, office: Office) -> None:
    office.override["GET", BOARD] = answer({"error": "Unknown key", "code": "unauthorized"}, status=401)
    cache(home, STALE)
    if REGISTER not in paths:
        (home / "machine.key").unlink()
    with pytest.raises(Unauthorized, match="Unknown key"):
        client_of(home, office).check_board()
    assert [seen.path for seen in office.seen] == paths


async def test_the_async_client_registers_once_and_never_blocks_its_loop(home: Path, office: Office) -> None:
    cache(home, STALE)
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    loop_went_on, waited = threading.Event(), []

    def slow(seen: Seen) -> bytes:
        loop.call_soon_threadsafe(asked.set)
        waited.append(loop_went_on.wait(5))
        return office.register(seen)

    office.override["POST", REGISTER] = slow
    async with AsyncClient(office.url, credential(home, office)) as client:
        calls = asyncio.gather(*(client.check_board() for _ in range(8)))
        await asyncio.wait_for(asked.wait(), 10)
        loop_went_on.set()
        await calls
    assert (waited, len(office.bodies)) == ([True], 1)


def test_the_lock_is_waited_for_in_bounds_and_a_killed_holder_frees_it(home: Path, office: Office) -> None:
    asked, release = threading.Event(), threading.Event()

    def slow(seen: Seen) -> bytes:
        asked.set()
        release.wait(30)
        return office.register(seen)

    office.override["POST", REGISTER] = slow
    holder = python(RACER, office.url, str(home), AGENT, "empty")
    print("go", file=holder.stdin, flush=True)
    assert asked.wait(30), "the holder registers, so it holds the lock"
    with pytest.raises(TimedOut, match=r"Another process holds .*\.lock"):
        credential(home, office).obtain(None, 0.2)
    assert len(office.calls(REGISTER)) == 1, "nobody registers without the lock"
    holder.kill()
    holder.communicate(timeout=30)
    release.set()
    client_of(home, office).check_board()
    assert key_file(home).read_text() in office


@pytest.mark.parametrize("agent", ["a", "..", "../x", "a/b", "A-b", "a b", "a\n", "-a", "\u00e4b", "x" * 101, "a\0"])
def test_a_hostile_agent_name_is_refused_before_a_path_is_made(agent: str, home: Path, office: Office) -> None:
    for make in (
        lambda: settings.key_path(str(home), agent),
        lambda: credential(home, office, agent),
        lambda: Client.from_env(url=office.url, home=str(home), agent=agent),
    ):
        with pytest.raises(NotConfigured, match="is no agent name") as refused:
            make()
        assert str(refused.value).isprintable()
    assert sorted(os.listdir(home)) == ["config", "machine.key"]


@pytest.mark.parametrize("in_the_way", ["home", "home/agents"])
def test_a_home_that_cannot_be_written_is_refused_before_registering(in_the_way: str, home: Path, office: Office):
    # A file where a directory is needed stops every user, also one whom permissions do not.
    place, machine_key = home / in_the_way, str(home / "machine.key")
    place.parent.mkdir(exist_ok=True)
    place.write_text("")
    with pytest.raises(NotConfigured, match=r"Cannot (write in|read) "):
        MachineCredential(str(home / "home"), office.url, MACHINE, AGENT, private_key_path=machine_key).obtain(None)
    assert office.seen == []


@pytest.mark.parametrize(("status", "kind", "cure"), [
    (403, Forbidden, f"clock right.*agentchat admin machine add {MACHINE} "),
    (409, Conflict, "another machine; choose another with AGENTCHAT_AGENT or AGENTCHAT_PROJECT"),
])  # fmt: skip
def test_a_refused_registration_says_what_to_do(status: int, kind: Any, cure: str, home: Path, office: Office) -> None:
    headers = {"x-request-id": "request-7"}
    office.override["POST", REGISTER] = answer({"error": "Registration failed"}, status=status, headers=headers)
    with pytest.raises(kind, match=f"Registration failed.*{cure}") as refused:
        client_of(home, office).check_board()
    assert (refused.value.status, refused.value.request_id) == (status, "request-7")
    assert not key_file(home).exists(), "a key the relay did not take is not kept"


def test_a_machine_without_a_name_is_told_to_set_it(home: Path, office: Office) -> None:
    with pytest.raises(NotConfigured, match="MACHINE_NAME"):
        MachineCredential(str(home), office.url, None, AGENT).obtain(None)


WITHOUT_CRYPTOGRAPHY = """
import sys
sys.modules["cryptography"] = None
from agentchat import Client, errors
try:
    print(Client.from_env(url=sys.argv[1], home=sys.argv[2], agent=sys.argv[3]).check_board())
except errors.NotConfigured as error:
    print(error)
"""


@pytest.mark.parametrize(("cached", "says"), [(False, 'pip install "langchain-agentchat[keys]"'), (True, "channels")])
def test_without_cryptography_only_registering_fails_and_names_the_extra(cached, says, home, office) -> None:
    if cached:
        office.hashes[AGENT] = sha256(OTHER)
        cache(home, OTHER)
    out, err = python(WITHOUT_CRYPTOGRAPHY, office.url, str(home), AGENT).communicate(timeout=30)
    assert (says in out, err) == (True, "")
    assert office.calls(REGISTER) == []


def test_a_new_machine_gets_a_key_pair_and_a_config_for_its_owner_only(tmp_path: Path) -> None:
    home = tmp_path / "new"
    public = identity.init_machine(str(home), "mac-studio", "http://127.0.0.1:8790")
    seed = bytes.fromhex((home / "machine.key").read_text())
    made = ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex()
    assert made == public == (home / "machine.pub").read_text().strip()
    assert [path.stat().st_mode & 0o777 for path in (home / "machine.key", home)] == [0o600, 0o700]
    assert sorted(os.listdir(home)) == ["config", "machine.key", "machine.lock", "machine.pub"]


def test_a_machine_key_is_never_overwritten(home: Path) -> None:
    before = {path: path.read_bytes() for path in home.iterdir()}
    with pytest.raises(NotConfigured, match=r"exists already.*Move it away"):
        identity.init_machine(str(home), "other", "http://127.0.0.1:1")
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("url", ["http://new.test", None])
def test_the_config_keeps_what_is_not_replaced(url: str | None, tmp_path: Path) -> None:
    kept = ["# mine", "", "AIRCHAT_WEB_URL=http://a.test", "#MACHINE_NAME=no"]
    (tmp_path / "config").write_text("\n".join([*kept, "MACHINE_NAME = old", "AGENTCHAT_URL=http://old.test"]))
    identity.init_machine(str(tmp_path), "new-one", url)
    lines = (tmp_path / "config").read_text().splitlines()
    assert [line for line in lines if line in kept] == kept
    assert sorted(set(lines) - set(kept)) == [f"AGENTCHAT_URL={url or 'http://old.test'}", "MACHINE_NAME=new-one"]
