"""deploy/nginx.conf as it stands, in front of a real relay: only ports, files and the upstream's port are replaced.

nginx is the system's (scripts/system.sh installs it). It runs without privileges, in a directory of its own.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agentchat import Client
from agentchat.errors import AgentChatError, Unauthorized
from tests.relay.conftest import until
from tests.relay.test_serve import PATIENCE, Served, get

pytestmark = pytest.mark.operation

CONFIGURATION = Path(__file__).resolve().parents[2] / "deploy" / "nginx.conf"
NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
NOBODY = 65534
MIB = 1 << 20

# What a distribution's nginx.conf does around the file: as little as possible, and nothing outside of the directory.
AROUND = """
daemon off;
pid {folder}/nginx.pid;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/agentchat.conf;
}}
"""


class Nginx(NamedTuple):
    folder: Path
    port: int
    plain_port: int
    trust: ssl.SSLContext

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def client(self, key: str, **options: Any) -> Client:
        return Client(self.url, key, ssl_context=self.trust, **options)

    def logged(self) -> str:
        return (self.folder / "access.log").read_text()

    def asks(
        self, verb: str, path: str, body: bytes | None = None, *, source: str = "127.0.0.1", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """A request of anybody, from an address of this machine."""
        connection = http.client.HTTPSConnection(
            "localhost", self.port, timeout=PATIENCE, context=self.trust, source_address=(source, 0)
        )
        with contextlib.closing(connection):
            connection.request(verb, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("", 0))) for _ in range(number)]
        return [each.getsockname()[1] for each in taken]


def certificate(folder: Path) -> ssl.SSLContext:
    """One for this machine, signed by itself, and who trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    today = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "fullchain.pem").write_bytes(made.public_bytes(pem))
    plain = serialization.NoEncryption()
    (folder / "privkey.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return ssl.create_default_context(cafile=folder / "fullchain.pem")


def configured(folder: Path, port: int, plain_port: int, upstream: int, text: str) -> str:
    """Our file with this machine's ports and paths."""
    replaced = {
        r"listen 443 ssl;": f"listen {port} ssl;",
        r"listen \[::\]:443 ssl;": f"listen [::]:{port} ssl;" if has_ipv6() else "",
        r"listen 80;": f"listen {plain_port};",
        r"listen \[::\]:80;": f"listen [::]:{plain_port};" if has_ipv6() else "",
        r"server 127\.0\.0\.1:8790;": f"server 127.0.0.1:{upstream};",
        r"/etc/letsencrypt/live/relay\.example/": f"{folder}/",
        r"/var/log/nginx/agentchat\.log": f"{folder}/access.log",
    }
    for pattern, new in replaced.items():
        text, count = re.subn(pattern, new, text)
        assert count, f"{pattern} is not in the file"
    return text


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


def run_as() -> dict[str, Any]:
    """Options for a process without privileges."""
    return {} if os.geteuid() else {"user": NOBODY, "group": NOBODY, "extra_groups": []}


@contextlib.contextmanager
def nginx(ports: list[int], upstream: int, text: str | None = None) -> Iterator[Nginx]:
    """In front of a relay, by our file, or by another `text`."""
    assert NGINX, "there is no nginx on this system; run: sh scripts/system.sh"
    folder = Path(tempfile.mkdtemp(prefix="agentchat-nginx-"))
    try:
        trust = certificate(folder)
        (folder / "agentchat.conf").write_text(configured(folder, *ports, upstream, text or CONFIGURATION.read_text()))
        (folder / "nginx.conf").write_text(AROUND.format(folder=folder))
        if not os.geteuid():
            for path in (folder, *folder.iterdir()):
                os.chown(path, NOBODY, NOBODY)
        command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **run_as()) as process:
            try:
                accepts(ports[0], process)
                yield Nginx(folder, *ports, trust)
            finally:
                process.terminate()
                assert process.stderr is not None
                told = process.stderr.read()
        assert process.returncode == 0
        assert told == ""
    finally:
        shutil.rmtree(folder)


def accepts(port: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stderr and process.stderr.read()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.01)
    raise AssertionError("nginx does not listen")


@pytest.fixture(scope="module")
def ports() -> list[int]:
    """Of TLS, of plain HTTP, and of the relay."""
    return free_ports(3)


@pytest.fixture(scope="module")
def flags(ports: list[int]) -> list[str]:
    """What the file says that the relay is started with."""
    shown = re.search(r"^#   agentchat serve (.+)$", CONFIGURATION.read_text(), re.MULTILINE)
    assert shown
    words = shown[1].replace("https://relay.example", f"https://localhost:{ports[0]}").split()
    return [*words, "--port", str(ports[2])]


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory, flags: list[str]) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("nginx") / "relay", *flags)
    yield served
    if served.process.poll() is None:
        served.kill()


@pytest.fixture(scope="module")
def front(ports: list[int], relay: Served) -> Iterator[Nginx]:
    with nginx(ports[:2], ports[2]) as running:
        yield running


@pytest.fixture
def key(relay: Served) -> str:
    return relay.key("mac-ann")


def told(body: bytes) -> str:
    """The code of a refusal, whoever refused."""
    answer = json.loads(body)
    assert answer["error"]
    return str(answer["code"])


def test_nginx_finds_nothing_wrong_with_the_file(front: Nginx) -> None:
    command = [NGINX or "", "-t", "-p", str(front.folder), "-c", str(front.folder / "nginx.conf")]
    command += ["-e", str(front.folder / "error.log")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, **run_as())
    assert done.returncode == 0, done.stderr
    assert [line.rpartition(" ")[2] for line in done.stderr.splitlines()] == ["ok", "successful"]


def test_agents_talk_through_it(front: Nginx, key: str) -> None:
    with front.client(key, retries=0) as client:
        sent = client.send_message("general", "through TLS")["message"]
        assert client.get_message(sent["id"])["message"] == sent
        assert [hit["id"] for hit in client.search_messages("TLS")["results"]] == [sent["id"]]


def test_plain_http_is_sent_to_tls(front: Nginx) -> None:
    connection = http.client.HTTPConnection("localhost", front.plain_port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", "/health?x=1")
        response = connection.getresponse()
        assert (response.status, response.getheader("location")) == (301, "https://localhost/health?x=1")


# Files


def upload(client: Client, content: bytes) -> str:
    """The path of a file that is sent as base64."""
    text = b64encode(content).decode()
    return client.upload_file("general", "large", text, encoding="base64")["file"]["path"]


def test_the_largest_file_goes_up_and_down(front: Nginx, key: str) -> None:
    content = os.urandom(10 * MIB)
    with front.client(key, retries=0, timeout=PATIENCE, deadline=PATIENCE) as client:
        assert client.download_file(upload(client, content))["content"] == content


def test_the_largest_text_goes_up_and_down_three_times_as_long(front: Nginx, key: str) -> None:
    """Our client escapes what is not ASCII."""
    content = "é" * (5 * MIB)
    with front.client(key, retries=0, timeout=PATIENCE, deadline=PATIENCE) as client:
        path = client.upload_file("general", "large", content)["file"]["path"]
        assert client.download_file(path)["content"] == content.encode()


def test_what_is_too_large_is_refused_in_words(front: Nginx, key: str) -> None:
    with front.client(key, retries=0, timeout=PATIENCE, deadline=PATIENCE) as client:
        with pytest.raises(AgentChatError) as caught:
            upload(client, os.urandom(10 * MIB + 1))
        assert (caught.value.status, caught.value.code) == (400, "bad_request"), "by the relay, as the contract has it"
        assert caught.value.request_id
    for verb, path, size in (("PUT", "/api/files", 62 * MIB), ("POST", "/api/v2/messages", 3 * MIB)):
        status, _, body = head_only(front, verb, path, size)
        assert (status, told(body)) == (413, "too_large"), "by nginx"
    status, headers, body = front.asks("POST", "/api/v2/messages", b" " * (MIB + 1), x_agent_api_key=key)
    assert (status, told(body)) == (413, "too_large"), "by the relay"
    assert "x-request-id" in headers


def head_only(front: Nginx, verb: str, path: str, size: int) -> tuple[int, dict[str, str], bytes]:
    """What is answered to the announcement of a body."""
    connection = http.client.HTTPSConnection("localhost", front.port, timeout=PATIENCE, context=front.trust)
    with contextlib.closing(connection):
        connection.putrequest(verb, path)
        connection.putheader("content-length", str(size))
        connection.endheaders()
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()


def test_a_stranger_s_file_is_refused_before_it_has_arrived(front: Nginx) -> None:
    status, _, body = head_only(front, "PUT", "/api/files", 10 * MIB)
    assert (status, told(body)) == (401, "unauthorized")
    with front.client("0" * 64, retries=0) as client, pytest.raises(Unauthorized):
        upload(client, os.urandom(5 * MIB))


def test_links_begin_with_the_public_url_work_and_are_not_logged(front: Nginx, key: str) -> None:
    with front.client(key, retries=0) as client:
        path = client.upload_file("general", "a.txt", "kept")["file"]["path"]
        link = client.get_file_url(path)["signed_url"]
    assert link.startswith(f"{front.url}/api/files/signed/")
    status, headers, body = front.asks("GET", link.removeprefix(front.url))
    assert (status, body) == (200, b"kept")
    assert "attachment" in headers["content-disposition"]
    assert front.asks("GET", "/health?after-the-link")[0] == 200
    until(lambda: "/health?after-the-link" in front.logged())  # nginx logs once it has answered
    assert "/api/files/signed/" not in front.logged()


# Who is asking


JUNK = json.dumps({"machine_name": "mac"}).encode()


def test_failed_registrations_count_for_the_address_behind_nginx(front: Nginx) -> None:
    def register(source: str, **headers: str) -> int:
        return front.asks("POST", "/api/v2/register", JUNK, source=source, **headers)[0]

    assert [register("127.0.0.2") for _ in range(11)] == [400] * 10 + [429]
    assert register("127.0.0.3") == 400, "another address has its own"
    assert register("127.0.0.2", x_forwarded_for="10.9.9.9") == 429, "nobody is who he says he is"
    assert register("127.0.0.2", x_forwarded_for="10.9.9.9, 127.0.0.1", x_real_ip="10.9.9.9") == 429
    for _ in range(11):
        register("127.0.0.4", x_forwarded_for="127.0.0.5")
    assert register("127.0.0.5") == 400, "nor can he make another look bad"


METRICS = ["/metrics", "/metrics?x=1", "//metrics", "/%6detrics", "/./metrics", "/x/../metrics", "/metrics#x"]
ADMIN = [
    "/api/v2/admin/agents", "/api/v2/admin", "//api/v2/admin/agents", "/api//v2/admin/agents", "/api/v2/%61dmin/agents",
    "/api/v2/x/../admin/agents", "/api/v2/admin%2fagents", "/api/v2/./admin/agents", "/api/v2/admin/agents?space=main",
]  # fmt: skip


@pytest.mark.parametrize("path", METRICS + ADMIN)
def test_what_is_the_operator_s_is_hidden(front: Nginx, relay: Served, path: str) -> None:
    secret = (relay.path / "admin.key").read_text().strip()
    status, headers, body = front.asks("GET", path, authorization=f"Bearer {secret}")
    assert (status, told(body)) == (404, "unknown_operation")
    assert headers["Content-Type"] == "application/json"


def test_the_operator_s_routes_are_there_behind_nginx(front: Nginx, relay: Served) -> None:
    """Else they would be hidden by not existing."""
    connection = http.client.HTTPConnection(relay.url.removeprefix("http://"), timeout=PATIENCE)
    with contextlib.closing(connection):
        secret = (relay.path / "admin.key").read_text().strip()
        for path in ("/api/v2/admin/agents", "/metrics"):
            connection.request("GET", path, headers={"authorization": f"Bearer {secret}"})
            response = connection.getresponse()
            response.read()
            assert response.status == 200, path
    status, _, body = front.asks("POST", "/api/v2/admin/register-machine", b"{}")
    assert (status, told(body)) == (404, "unknown_operation")


# Connections


def connections(port: int) -> set[str]:
    """Connections with this port on one end, also those that have just ended, by the other end's."""
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            _, local, remote, state, *_ = line.split()
            ends = [int(end.rpartition(":")[2], 16) for end in (local, remote)]
            if port in ends and state != "0A":
                found.add("-".join(sorted(map(str, ends))))
    return found


def test_connections_to_the_relay_are_used_again(front: Nginx, relay: Served, ports: list[int], key: str) -> None:
    with front.client(key, retries=0) as client:
        client.check_board()
        before = connections(ports[2])
        for _ in range(30):
            client.check_board()
        assert connections(ports[2]) <= before
    for _ in range(5):  # new connections to nginx are none to the relay
        with front.client(key, retries=0) as client:
            client.check_board()
    assert connections(ports[2]) <= before


def test_events_come_through_one_by_one() -> None:
    """From a stand-in for the relay, which has no stream yet."""
    seen = threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            connection.sendall(head + b"9\r\ndata: 1\n\n\r\n")
            assert seen.wait(PATIENCE)
            connection.sendall(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        with nginx(free_ports(2), listener.getsockname()[1]) as front:
            connection = http.client.HTTPSConnection("localhost", front.port, timeout=PATIENCE, context=front.trust)
            with contextlib.closing(connection):
                connection.request("GET", "/api/v2/events")
                response = connection.getresponse()
                assert response.read1() == b"data: 1\n\n"
                seen.set()
                assert response.read() == b"data: 2\n\n"
        thread.join()


def test_a_relay_that_starts_again_is_waited_for(front: Nginx, relay: Served, flags: list[str], key: str) -> None:
    """The last test: the relay of this module ends here."""
    answers: list[Any] = []

    def send() -> None:
        with front.client(key, retries=100) as client:
            answers.append(client.send_message("general", "while it was away"))

    assert relay.stop() == 0
    status, headers, body = front.asks("GET", "/api/v2/board", x_agent_api_key=key)
    assert (status, told(body)) == (503, "unavailable")
    assert headers["Retry-After"] == "1"
    thread = threading.Thread(target=send)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while '"POST /api/v2/messages HTTP/1.1" 503' not in front.logged():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    again = Served(relay.path, *flags)
    try:
        thread.join()
        [answer] = answers
        with front.client(key, retries=0) as client:
            texts = [row["content"] for row in client.read_messages("general", limit=5)["messages"]]
            assert texts.count("while it was away") == 1
            assert client.get_message(answer["message"]["id"])
        assert get(again.url, "/health")[0] == 200
        assert again.stop() == 0
    finally:
        if again.process.poll() is None:
            again.kill()
