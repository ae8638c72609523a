"""Both clients against servers that are slow, broken, lying or odd, through proxies and TLS, over real sockets."""

from __future__ import annotations

import base64
import contextlib
import datetime
import gc
import ipaddress
import json
import select
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agentchat import Client, errors
from tests.clients.conftest import BOARD, OK, SENT, Connect
from tests.conftest import KEY
from tests.servers import Handler, Peer, Scripted, answer, enveloped, refusing, replies

# Handlers


def sends(*parts: bytes, then: Callable[[Peer], object] = Peer.read) -> Handler:
    """Read a request, send this, then wait until the client hangs up (or do something else)."""

    def handle(peer: Peer) -> None:
        peer.read()
        for part in parts:
            peer.send(part)
        then(peer)

    return handle


def drips(start: bytes, part: bytes, end: bytes, parts: int = 200) -> Handler:
    """Sends a whole answer, so slowly that no single wait is long; stops when the client hangs up."""

    def drip(peer: Peer) -> None:
        for _ in range(parts):
            peer.send(part)
            if select.select([peer.sock], [], [], 0.02)[0]:
                return
        peer.send(end)

    return sends(start, then=drip)


def floods(start: bytes, part: bytes) -> Handler:
    """Sends without end, until the client hangs up."""

    def flood(peer: Peer) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer.sock.sendall(part)

    return sends(start, then=flood)


def half_closes(peer: Peer) -> None:
    peer.sock.shutdown(socket.SHUT_WR)
    peer.read()


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
LONG = HEAD + b"content-length: 200\r\n\r\n"
BODY = json.dumps(BOARD).encode()
BLOCK = b"10000\r\n" + b" " * 65_536 + b"\r\n"

BROKEN: dict[str, tuple[Handler, type[errors.AgentChatError]]] = {
    "silence": (sends(), errors.TimedOut),
    "half a head": (sends(b"HTTP/1.1 200 OK\r\ncontent-"), errors.TimedOut),
    "half a body": (sends(LONG + b" " * 100), errors.TimedOut),
    "a dripping head": (drips(HEAD + b"x: ", b"y", b"\r\ncontent-length: 16\r\n\r\n" + BODY), errors.TimedOut),
    "a dripping body": (drips(HEAD + b"content-length: 216\r\n\r\n", b" ", BODY), errors.TimedOut),
    "dripping chunks": (drips(CHUNKED, b"1\r\n \r\n", b"10\r\n" + BODY + b"\r\n0\r\n\r\n"), errors.TimedOut),
    "hang-up": (sends(then=Peer.close), errors.ConnectionFailed),
    "hang-up in the head": (sends(HEAD, then=Peer.close), errors.ConnectionFailed),
    "hang-up in the body": (sends(LONG + BODY, then=Peer.close), errors.ConnectionFailed),
    "hang-up in a chunk": (sends(CHUNKED + b"ff\r\n" + BODY, then=Peer.close), errors.ConnectionFailed),
    "hang-up between chunks": (sends(CHUNKED + b"2\r\n{}\r\n", then=Peer.close), errors.ConnectionFailed),
    "half-closed": (sends(then=half_closes), errors.ConnectionFailed),
    "half-closed in the body": (sends(LONG + BODY, then=half_closes), errors.ConnectionFailed),
    "reset": (sends(then=Peer.reset), errors.ConnectionFailed),
    "reset in the body": (sends(LONG + BODY, then=Peer.reset), errors.ConnectionFailed),
    "reset before reading": (Peer.reset, errors.ConnectionFailed),
    "huge announced length": (sends(HEAD + b"content-length: 999999999999\r\n\r\n" + BODY), errors.ProtocolError),
    "endless body": (floods(HEAD + b"connection: close\r\n\r\n", b" " * 65_536), errors.ProtocolError),
    "endless chunks": (floods(CHUNKED, BLOCK), errors.ProtocolError),
    "endless head": (floods(HEAD, b"x: y\r\n" * 10_000), errors.ProtocolError),
    "endless line": (floods(HEAD, b"x" * 65_536), errors.ProtocolError),
    "broken chunks": (sends(CHUNKED + b"zz\r\n" + BODY + b"\r\n0\r\n\r\n"), errors.ProtocolError),
    "not HTTP": (sends(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"), errors.ProtocolError),
    "no status": (sends(b"HTTP/1.1 OK\r\ncontent-length: 0\r\n\r\n"), errors.ProtocolError),
    "204": (replies(b"HTTP/1.1 204 No Content\r\n\r\n", OK), errors.ProtocolError),
    "no body": (replies(answer(body=b""), OK), errors.ProtocolError),
    "an HTML page": (replies(answer(body=b"<html>welcome</html>"), OK), errors.ProtocolError),
    "another shape": (replies(answer({"rooms": []}), OK), errors.ProtocolError),
    "a proxy's 502": (replies(answer(body=b"<html>", status=502), OK), errors.Unavailable),
    "a proxy's 504": (replies(answer(body=b"<html>", status=504), OK), errors.Unavailable),
    "a proxy's 403": (replies(answer(body=b"<html>", status=403), OK), errors.Forbidden),
    "a proxy's 413": (replies(answer(body=b"<html>", status=413), OK), errors.TooLarge),
    "a proxy's 500": (replies(answer(body=b"<html>", status=500), OK), errors.RelayError),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_answer_is_one_of_our_errors_in_bounded_time_and_space(connect: Connect, name: str):
    handler, kind = BROKEN[name]
    with Scripted(handler, replies(OK)) as server:
        driver = connect(server.url, max_response_bytes=100_000)
        driver.with_options(timeout=0.3 if kind is errors.TimedOut else 5.0).fails(kind)
        assert server.connections == 1
        assert driver() == BOARD  # the broken connection is not used again


ODD: dict[str, Handler] = {
    "chunks": replies(CHUNKED + b"5\r\n" + BODY[:5] + b"\r\nB\r\n" + BODY[5:] + b"\r\n0\r\n\r\n", OK),
    "chunks with extension and trailer": replies(CHUNKED + b"010;a=b\r\n" + BODY + b"\r\n0\r\nx: y\r\n\r\n", OK),
    "no length": sends(HEAD + b"connection: close\r\n\r\n" + BODY, then=Peer.close),
    "HTTP/1.0": sends(b"HTTP/1.0 200 OK\r\n\r\n" + BODY, then=Peer.close),
    "100 first": replies(b"HTTP/1.1 100 Continue\r\n\r\n" + OK, OK),
    "103 first": replies(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + OK, OK),
    "folded": replies(HEAD + b"x: a\r\n b\r\ncontent-length: 16\r\n\r\n" + BODY, OK),
    "the length twice": replies(HEAD + b"content-length: 16\r\nContent-Length: 16\r\n\r\n" + BODY, OK),
    "mixed line ends": replies(HEAD + b"content-length: 16\n\r\n" + BODY, OK),
    "line feeds only": replies((HEAD + b"content-length: 16\r\n\r\n").replace(b"\r", b"") + BODY, OK),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_but_whole_answer_is_understood_and_does_not_disturb_the_next(connect: Connect, name: str):
    with Scripted(ODD[name], replies(OK)) as server:
        driver = connect(server.url)
        assert [driver(), driver()] == [BOARD, BOARD]


@pytest.mark.parametrize(
    "first",
    [OK + answer(enveloped({"channels": [{"channel": "forged"}]})), HEAD + b"content-length: 9\r\n\r\n" + BODY],
    ids=["another answer", "the rest of a body whose length is announced too short"],
)
def test_bytes_behind_an_answer_are_never_taken_for_the_next(first: bytes):
    """A promise of the sync client's own reader; httpx keeps such bytes for the next answer."""
    with Scripted(replies(first, OK), replies(OK)) as server, Client(server.url, KEY, retries=0) as client:
        with contextlib.suppress(errors.ProtocolError):
            assert client.check_board() == BOARD
        assert client.check_board() == BOARD


def framed(how: str, size: int) -> bytes:
    """An answer of so many bytes, after which the connection ends."""
    head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n"
    if how == "chunked":
        return head + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size)
    return head + (b"content-length: %d\r\n\r\n" % size if how == "announced" else b"\r\n") + b"x" * size


@pytest.mark.parametrize("how", ["announced", "chunked", "until the end"])
def test_a_file_over_the_bound_is_refused_and_never_cut(connect: Connect, how: str):
    with Scripted(*(sends(framed(how, size), then=Peer.close) for size in (100, 101))) as server:
        driver = connect(server.url, max_response_bytes=100)
        assert driver("download_file", "a")["content"] == b"x" * 100
        driver.fails(errors.ProtocolError, "download_file", "a")


# Retries

RECOVERING: dict[str, Handler] = {
    "429": replies(answer({"error": "Slow down"}, status=429, headers={"retry-after": "0"}), SENT),
    "503": replies(answer({"error": "Starting", "code": "unavailable"}, status=503), SENT),
    **{name: BROKEN[name][0] for name in ("silence", "hang-up", "reset in the body", "reset before reading")},
}


@pytest.mark.parametrize("name", RECOVERING)
def test_a_write_that_failed_in_passing_is_repeated_as_it_was(connect: Connect, name: str):
    with Scripted(RECOVERING[name], replies(SENT)) as server:
        driver = connect(server.url, timeout=1.0 if name == "silence" else 5.0, retries=1)
        assert driver("send_message", "general", "hello")["message"]["content"] == "hello"
        assert len(server.seen) == (1 if name == "reset before reading" else 2)
        assert len({(seen.headers["idempotency-key"], seen.body) for seen in server.seen}) == 1


def test_a_large_write_that_was_reset_is_repeated(connect: Connect):
    uploaded = {"file": {"name": "a", "size": 5_000_000, "path": "general/a"}}
    with Scripted(Peer.reset, replies(answer(uploaded))) as server:
        assert connect(server.url, retries=1)("upload_file", "general", "a", "x" * 5_000_000) == uploaded


def test_a_large_write_that_nobody_reads_times_out(connect: Connect):
    done = threading.Event()
    with Scripted(lambda peer: done.wait(5)) as server:
        driver = connect(server.url, timeout=0.3)
        driver.fails(errors.TimedOut, "upload_file", "general", "a", "x" * 13_000_000)
        done.set()


def test_the_deadline_ends_all_attempts_together(connect: Connect):
    with Scripted(sends()) as server:
        driver = connect(server.url, timeout=0.2, deadline=1.5, retries=100)
        assert "1.5 s" in driver.fails(errors.TimedOut).message
        assert 1 < server.connections < 10


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_to_another_host(connect: Connect, status: int):
    with Scripted(replies(OK)) as other:
        moved = answer(body=b"", status=status, headers={"location": other.url + "/api/v2/board"})
        with Scripted(replies(moved)) as server:
            assert other.url in connect(server.url, retries=3).fails(errors.ProtocolError).message
            assert (len(server.seen), other.connections) == (1, 0)


# Connections


def test_nobody_listening_is_a_failed_connection_that_names_the_host(connect: Connect):
    with refusing() as url:
        failed = connect(url).fails(errors.ConnectionFailed)
        assert url.removeprefix("http://") in failed.message
        assert failed.reached is False


@pytest.mark.parametrize("then", [Peer.close, Peer.reset])
def test_whoever_hangs_up_was_there(connect: Connect, then: Callable[[Peer], object]):
    def hangs_up(peer: Peer) -> None:
        peer.read()
        then(peer)

    with Scripted(hangs_up) as server:
        assert connect(server.url).fails(errors.ConnectionFailed).reached is True


@pytest.mark.parametrize("host", ["x..localhost", "a" * 70 + ".localhost"])
def test_a_host_name_that_cannot_exist_is_a_failed_connection(connect: Connect, host: str):
    connect(f"https://{host}").fails(errors.ConnectionFailed)


def test_an_ipv6_url_needs_no_port(connect: Connect):
    """A link-local address without its interface cannot be reached, so nothing leaves this machine."""
    with pytest.warns(UserWarning, match="unencrypted"):
        driver = connect("http://[fe80::a]")
    driver.fails(errors.ConnectionFailed)


def hosts() -> list[str]:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return ["127.0.0.1"]
    return ["127.0.0.1", "::1"]


@pytest.mark.parametrize("host", hosts())
@pytest.mark.parametrize("prefix", ["", "/", "/relays/one", "/relays/one/"])
def test_the_url_may_have_a_path_and_an_ipv6_address(connect: Connect, host: str, prefix: str):
    with Scripted(replies(OK), host=host) as server:
        assert connect(server.url + prefix)() == BOARD
        assert server.seen[0].target == prefix.rstrip("/") + "/api/v2/board"
        assert server.seen[0].headers["host"] == server.url.removeprefix("http://")


# Proxies


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_plain_http_to_another_machine_goes_through_the_environments_proxy(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, variable: str
):
    with Scripted(replies(OK)) as proxy:
        monkeypatch.setenv(variable, proxy.url.replace("//", "//user:p%40ss@"))
        with pytest.warns(UserWarning, match=r"unencrypted to relay\.test"):
            driver = connect("http://relay.test:8790/base")
        assert [driver(), driver()] == [BOARD] * 2
        seen = proxy.seen[0]
        assert (seen.target, seen.headers["host"]) == ("http://relay.test:8790/base/api/v2/board", "relay.test:8790")
        assert base64.b64decode(seen.headers["proxy-authorization"].removeprefix("Basic ")) == b"user:p@ss"
        assert proxy.connections == 1


@pytest.mark.parametrize("bypassed", ["127.0.0.1", "0.0.0.0"])
def test_this_machine_and_what_no_proxy_names_are_reached_directly(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, bypassed: str
):
    """0.0.0.0 reaches this machine but does not look like it."""
    warns = pytest.warns(UserWarning) if bypassed == "0.0.0.0" else contextlib.nullcontext()
    with Scripted(replies(OK)) as server, refusing() as proxy, warns:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("no_proxy", "0.0.0.0")
        assert connect(server.url.replace("127.0.0.1", bypassed))() == BOARD


@pytest.mark.parametrize(
    "proxy", ["http://127.0.0.1:x", "http://127.0.0.1:99999", "http://[::1", "http://", "socks5://x:1"]
)
def test_an_unusable_proxy_is_told_as_configuration(connect: Connect, monkeypatch: pytest.MonkeyPatch, proxy: str):
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(errors.NotConfigured):
        connect("https://relay.test")()


# HTTPS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A self-signed certificate of 127.0.0.1 and relay.test with its key, as one file."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    names = [x509.DNSName("relay.test"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(True, False, False, False, False, True, False, False, False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return str(path)


def tls(certificate: str) -> Callable[[socket.socket], ssl.SSLSocket]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return lambda sock: context.wrap_socket(sock, server_side=True)


@pytest.mark.parametrize("how", ["SSL_CERT_FILE", "ssl_context"])
def test_a_private_certificate_is_trusted_where_told(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, certificate: str, how: str
):
    options: dict[str, Any] = {}
    if how == "ssl_context":
        options["ssl_context"] = ssl.create_default_context(cafile=certificate)
    else:
        monkeypatch.setenv(how, certificate)
    with Scripted(replies(OK), wrap=tls(certificate)) as server:
        with connect(server.url.replace("http:", "https:"), **options) as driver:
            assert [driver() for _ in range(5)] == [BOARD] * 5
        assert server.connections == 1


@pytest.mark.parametrize(("host", "trusted"), [("127.0.0.1", False), ("localhost", True)], ids=["unknown", "name"])
def test_a_certificate_that_is_not_trusted_is_told_as_configuration_and_not_retried(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, certificate: str, host: str, trusted: bool
):
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", certificate)
    with Scripted(replies(OK), wrap=tls(certificate)) as server:
        driver = connect(server.url.replace("http://127.0.0.1", f"https://{host}"), retries=3)
        assert "SSL_CERT_FILE" in driver.fails(errors.NotConfigured).message
        assert (server.connections, server.seen) == (1, [])


def test_https_goes_through_a_proxy_that_never_sees_the_key(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, certificate: str
):
    inside = []

    def tunnel(peer: Peer) -> None:
        peer.read()
        peer.send(b"HTTP/1.1 200 Connected\r\n\r\n")
        with tls(certificate)(peer.sock) as sock:
            replies(OK)(Peer(sock, inside.append))

    with Scripted(tunnel) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", "//user:pass@"))
        monkeypatch.setenv("SSL_CERT_FILE", certificate)
        with connect("https://relay.test/base") as driver:
            assert [driver(), driver()] == [BOARD] * 2
    (connected,) = proxy.seen
    assert (connected.method, connected.target) == ("CONNECT", "relay.test:443")
    assert "proxy-authorization" in connected.headers and KEY not in str(connected)
    assert [(seen.target, seen.headers["x-agent-api-key"]) for seen in inside] == [("/base/api/v2/board", KEY)] * 2
    assert not any("proxy-authorization" in seen.headers for seen in inside)


def test_a_proxy_that_drips_its_answer_is_timed_out(connect: Connect, monkeypatch: pytest.MonkeyPatch):
    with Scripted(drips(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n", b"\r\n", parts=90)) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        connect("https://relay.test", timeout=0.3).fails(errors.TimedOut)


def test_a_silent_tls_handshake_is_timed_out_and_its_connection_closed(connect: Connect):
    hung_up = threading.Event()

    def absorb(peer: Peer) -> None:
        while peer.sock.recv(65_536):
            pass
        hung_up.set()

    with Scripted(absorb) as server:
        connect(server.url.replace("http:", "https:"), timeout=2.0).fails(errors.TimedOut)
        closed = hung_up.wait(5)
    gc.collect()  # what is left open complains here, not in another test
    assert closed


@pytest.mark.parametrize(("status", "kind"), [(407, errors.NotConfigured), (502, errors.ConnectionFailed)])
def test_a_proxy_s_refusal_is_told_apart(status: int, kind: Any, monkeypatch: pytest.MonkeyPatch):
    """By the sync client; httpx has one error for all of them."""
    with Scripted(replies(answer(body=b"", status=status))) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with Client("https://relay.test", KEY, retries=0) as client, pytest.raises(kind, match=str(status)):
            client.check_board()
