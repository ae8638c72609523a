"""docs/postgres.md as it stands: three relays on one Postgres behind nginx, restarted in turn under load."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from tests import postgres
from tests.operation.test_nginx import CONFIGURATION, Nginx, free_ports, nginx
from tests.relay.test_serve import Served

pytestmark = pytest.mark.operation

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "postgres.md").read_text("utf-8")
BLOCK = re.compile(r"^upstream agentchat_relay \{.*?^\}$", re.MULTILINE | re.DOTALL)
WRITERS, POSTS = 4, 60


class Relays:
    """Three of them, as the page starts them, but all on this machine."""

    def __init__(self, folder: Path, ports: list[int], url: str) -> None:
        store = postgres.new_schema()
        shown = re.search(r"^agentchat serve --host 10\.0\.0\.11 (.+?)\n\n*```", PAGE, re.MULTILINE | re.DOTALL)
        assert shown
        words = re.sub(r"\\\n", "", shown[1])
        for pattern, new in {
            r"postgresql://\S+": store,
            r"s3://\S+": str(folder / "files"),
            r"https://relay\.example": url,
            r"10\.0\.0\.10": "127.0.0.1",
        }.items():
            words, count = re.subn(pattern, lambda found, new=new: new, words)
            assert count, pattern
        self._commands = [[*words.split(), "--port", str(port)] for port in ports]
        self._folders = [folder / f"relay-{port}" for port in ports]
        self.running: list[Served] = []
        for number in range(3):
            self.running.append(self._start(number))
        self.key = self.running[0].key("mac-ann")

    def _start(self, number: int) -> Served:
        return Served(self._folders[number], *self._commands[number])

    def restart(self, number: int, how: int) -> None:
        self.running[number].stop(how)
        self.running[number] = self._start(number)

    def close(self) -> None:
        for relay in self.running:
            relay.stop()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Nginx, Relays]]:
    front, *ports = free_ports(5)
    found = BLOCK.search(PAGE)
    assert found
    block = found[0]
    for host, port in zip(("10.0.0.11", "10.0.0.12", "10.0.0.13"), ports[1:], strict=True):
        block = block.replace(f"{host}:8790", f"127.0.0.1:{port}")
    text = BLOCK.sub(lambda _: f"{block}\n# server 127.0.0.1:8790;", CONFIGURATION.read_text())
    relays = Relays(tmp_path_factory.mktemp("three"), ports[1:], f"https://localhost:{front}")
    try:
        with nginx([front, ports[0]], ports[1], text) as running:
            yield running, relays
    finally:
        relays.close()


def test_restarting_them_one_after_the_other_loses_and_repeats_nothing(place: tuple[Nginx, Relays]) -> None:
    front, relays = place
    begun = threading.Barrier(WRITERS + 1)

    def write(writer: int) -> list[str]:
        with front.client(relays.key, retries=20, deadline=120) as client:
            begun.wait()
            return [client.send_message("room", f"{writer} {number}")["message"]["id"] for number in range(POSTS)]

    with ThreadPoolExecutor(WRITERS) as pool:
        running = [pool.submit(write, writer) for writer in range(WRITERS)]
        begun.wait()
        for number, how in enumerate((signal.SIGTERM, signal.SIGKILL, signal.SIGTERM)):
            relays.restart(number, how)
        told = [id for each in running for id in each.result(timeout=180)]
    assert len({*told}) == WRITERS * POSTS
    with front.client(relays.key) as client:
        page = client.read_messages("room", limit=200)
        found = [*page["messages"]]
        while page["has_more"]:
            page = client.read_messages("room", limit=200, cursor=page["previous_cursor"])
            found = [*page["messages"], *found]
    assert {message["id"] for message in found} == {*told}, "nothing is lost"
    assert len(found) == len(told), "and nothing is there twice"
    assert all(one["created_at"] < other["created_at"] for one, other in pairwise(found))
    for writer in range(WRITERS):
        own = [message["content"] for message in found if message["content"].startswith(f"{writer} ")]
        assert own == [f"{writer} {number}" for number in range(POSTS)]


def test_a_file_that_one_took_another_gives(place: tuple[Nginx, Relays]) -> None:
    front, relays = place
    with front.client(relays.key) as client:
        path = client.upload_file("room", "a.txt", "from anywhere")["file"]["path"]
        for _ in range(6):
            assert client.download_file(path)["content"] == b"from anywhere"
            assert client.get_file_url(path)["signed_url"].startswith(front.url)
