"""A relay on a directory that something happened to: it refuses to start and says why, or it heals, or whatever is not
true is an error when somebody reads it. It never begins anew over what is left, and never tells anything else than
what was stored."""

from __future__ import annotations

import errno
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agentchat import Client
from agentchat.errors import AgentChatError, NotFound, Unavailable
from agentchat_relay.embedded import running
from agentchat_relay.store.sqlite import engine as sqlite
from tests.faults import damaged
from tests.faults.damaged import (
    INDEX_DAMAGES,
    PAGE,
    REFUSED,
    TREES,
    TRUE,
    UNLIMITED,
    World,
    contents,
    hits,
    overwrite,
    reads,
)
from tests.faults.weather import Weather


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> World:
    return damaged.stopped(tmp_path_factory.mktemp("stopped"))


@pytest.fixture
def world(origin: World, tmp_path: Path) -> World:
    return origin.copied(tmp_path / "relay")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> World:
    return damaged.killed(tmp_path_factory.mktemp("killed"))


@pytest.fixture
def crashed(killed: World, tmp_path: Path) -> World:
    return killed.copied(tmp_path / "relay")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests, so that the library is compiled once."""
    return tmp_path_factory.mktemp("scratch")


@contextmanager
def opened(world: World) -> Iterator[Client]:
    with running(str(world.path), settings=UNLIMITED) as relay, closing(Client(relay.url, world.key, retries=0)) as ann:
        yield ann


def refusal(world: World) -> str:
    """Why a relay does not start on the directory, which it leaves as it was."""
    before = states(world.path)
    with pytest.raises(AgentChatError) as caught, opened(world):
        pass
    assert before.items() <= states(world.path).items()
    return caught.value.message


def states(path: Path) -> dict[str, bytes]:
    """What counts in a directory; not the locks and logs of who looked at it."""
    names = ("agentchat.db", "admin.key", "link.key")
    return {name: (path / name).read_bytes() for name in names if (path / name).is_file()}


def says(path: Path, environment: dict[str, str] | None = None) -> tuple[int | None, str]:
    """The code and the one line with which `agentchat serve` ends instead of starting."""
    with damaged.served(path, environment) as end:
        assert end.url is None
        assert "Traceback" not in end.said
        assert len(end.said.splitlines()) == 1, end.said
        return end.code, end.said


# The database


def test_an_undamaged_directory_tells_everything(world: World) -> None:
    with opened(world) as client:
        assert {*reads(client, world)} == {TRUE}


def test_a_process_refuses_in_one_line_and_with_a_code(world: World) -> None:
    os.truncate(world.path / "agentchat.db", 3 * PAGE)
    code, text = says(world.path)
    assert code == 2
    assert str(world.path / "agentchat.db") in text
    assert "agentchat admin doctor" in text
    assert "agentchat admin restore" in text


@pytest.mark.parametrize(
    "left", [0.0, 1, 50, 99, 100, 512, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 0.3, 0.5, 0.9, -PAGE, -1]
)
def test_a_truncated_database_is_refused(world: World, left: float) -> None:
    file = world.path / "agentchat.db"
    size = file.stat().st_size
    os.truncate(
        file, round(size * left) // PAGE * PAGE if isinstance(left, float) else left if left > 0 else size + left
    )
    text = refusal(world)
    assert str(file) in text
    assert "agentchat admin restore" in text


def test_a_database_that_is_gone_is_not_made_anew(world: World) -> None:
    (world.path / "agentchat.db").unlink()
    text = refusal(world)
    assert "missing" in text
    assert "agentchat admin restore" in text
    assert not (world.path / "agentchat.db").exists()


@pytest.mark.parametrize("witness", ["search.db", "blobs"])
def test_one_witness_is_enough(world: World, witness: str) -> None:
    (world.path / "agentchat.db").unlink()
    for path in world.path.iterdir():
        if path.name != witness:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert witness in refusal(world)


def test_another_programs_database_is_left_alone(world: World, tmp_path: Path) -> None:
    with closing(sqlite.connect(str(tmp_path / "other.db"))) as other:
        other.execute("CREATE TABLE notes (text)")
    shutil.copy(tmp_path / "other.db", world.path / "agentchat.db")
    assert "another program" in refusal(world)


@pytest.mark.parametrize("noise", [lambda luck: bytes(PAGE), lambda luck: luck.randbytes(PAGE)], ids=["zeros", "noise"])
def test_a_damaged_page_is_refused_at_the_start_or_when_it_is_read(
    origin: World, tmp_path: Path, noise: Callable[[random.Random], bytes]
) -> None:
    """Pages of trees: SQLite knows them by their form. What a page holds of a long text has none."""
    luck, whole = random.Random(2), (origin.path / "agentchat.db").read_bytes()
    trees = [at for at in range(PAGE, len(whole), PAGE) if whole[at] in TREES]
    outcomes = set()
    for number, at in enumerate(luck.sample(trees, 6)):
        world = origin.copied(tmp_path / str(number))
        overwrite(world.path / "agentchat.db", at, noise(luck))
        try:
            with opened(world) as client:
                outcomes |= {*reads(client, world)}
        except AgentChatError as error:
            assert "agentchat.db" in error.message
            outcomes.add(REFUSED)
    assert REFUSED in outcomes
    assert outcomes <= {TRUE, REFUSED}


# Its log


def test_what_is_only_in_the_log_is_there(crashed: World) -> None:
    with opened(crashed) as client:
        assert {*reads(client, crashed)} == {TRUE}


@pytest.mark.parametrize("content", [b"garbage!" * 4, b"\x37\x7f\x06\x82" + b"x" * 28])
def test_a_log_with_a_damaged_beginning_is_refused(crashed: World, content: bytes) -> None:
    overwrite(crashed.path / "agentchat.db-wal", 0, content)
    log = (crashed.path / "agentchat.db-wal").read_bytes()
    text = refusal(crashed)
    assert "agentchat.db-wal" in text
    assert "agentchat admin restore" in text
    assert (crashed.path / "agentchat.db-wal").read_bytes() == log


def test_a_log_without_its_database_is_kept(crashed: World) -> None:
    """SQLite itself would delete it."""
    os.truncate(crashed.path / "agentchat.db", 0)
    log = (crashed.path / "agentchat.db-wal").read_bytes()
    assert "agentchat.db-wal" in refusal(crashed)
    assert (crashed.path / "agentchat.db-wal").read_bytes() == log


def test_a_database_that_lost_its_whole_log_is_not_begun_anew(crashed: World) -> None:
    (crashed.path / "agentchat.db-wal").unlink()
    (crashed.path / "agentchat.db-shm").unlink()
    assert "search.db" in refusal(crashed)


@pytest.mark.parametrize("how", ["cut", "noise"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_of_a_damaged_log_the_beginning_counts_and_the_rest_is_missed(
    crashed: World, how: str, share: float, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLite takes what it cannot read for the end; only the search index knows that there was more."""
    log = crashed.path / "agentchat.db-wal"
    at = int(log.stat().st_size * share)
    if how == "cut":
        os.truncate(log, at)
    else:
        overwrite(log, at, random.Random(at).randbytes(100))
    with opened(crashed) as client:
        missing = 0
        for channel, texts in crashed.texts.items():
            found = contents(client, channel)
            assert found == texts[: len(found)]
            missing += len(texts) - len(found)
            for text in texts[len(found) :]:
                assert client.search_messages(text.split()[-1])["results"] == []
    assert missing
    assert "older than search.db" in caplog.text


# The search index


@pytest.mark.parametrize("how", [*INDEX_DAMAGES])
def test_a_damaged_search_index_heals_by_itself(world: World, how: str) -> None:
    INDEX_DAMAGES[how](world.path / "search.db", random.Random(3))
    with opened(world) as client:
        for texts in world.texts.values():
            for text in texts:
                assert hits(client, text) == [text]
        assert {*reads(client, world)} == {TRUE}


def test_an_index_that_is_a_directory_is_an_error_with_its_name(world: World) -> None:
    (world.path / "search.db").unlink()
    (world.path / "search.db").mkdir()
    assert "search.db: Is a directory" in refusal(world)


# Secrets, the lock, the announcement


@pytest.mark.parametrize("name", ["admin.key", "link.key"])
def test_a_secret_that_is_gone_is_made_anew(world: World, name: str) -> None:
    (world.path / name).unlink()
    with opened(world) as client:
        assert {*reads(client, world)} == {TRUE}
        assert len((world.path / name).read_text().strip()) == 64


@pytest.mark.parametrize("content", ["", "short", "\n" * 50])
@pytest.mark.parametrize("name", ["admin.key", "link.key"])
def test_a_secret_that_is_none_is_made_anew_and_told(
    world: World, name: str, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    (world.path / name).write_text(content)
    with opened(world) as client:
        assert {*reads(client, world)} == {TRUE}
        assert len((world.path / name).read_text().strip()) == 64
    assert f"{world.path / name} holds no credential" in caplog.text


@pytest.mark.parametrize("name", ["admin.key", "link.key"])
def test_a_secret_that_cannot_be_read_is_refused(world: World, name: str) -> None:
    (world.path / name).write_bytes(b"\xff" * 65)
    text = refusal(world)
    assert name in text
    assert "Remove it" in text


@pytest.mark.parametrize("name", ["lock", "relay.json"])
@pytest.mark.parametrize("content", [b"", b"\xff\x00{", b"x" * 100_000])
def test_a_damaged_lock_or_announcement_hurts_nobody(world: World, name: str, content: bytes) -> None:
    (world.path / name).write_bytes(content)
    with opened(world) as client:
        assert {*reads(client, world)} == {TRUE}


@pytest.mark.parametrize("name", ["lock", "relay.json"])
def test_a_directory_in_their_place_is_refused(world: World, name: str) -> None:
    (world.path / name).unlink(missing_ok=True)
    (world.path / name).mkdir()
    assert f"Cannot use {world.path} as data directory: Is a directory" in refusal(world)


# Contents of files


def blob(world: World, number: int) -> Path:
    """Where the content of a file lies."""
    (path,) = (
        path for path in (world.path / "blobs").rglob("*")
        if path.is_file() and path.read_bytes() == [*world.files.values()][number]
    )  # fmt: skip
    return path


def test_a_content_that_is_gone_is_missed_by_its_name(world: World, caplog: pytest.LogCaptureFixture) -> None:
    path = [*world.files][1]
    blob(world, 1).unlink()
    with opened(world) as client:
        with pytest.raises(NotFound, match="gone from the relay's disk"):
            client.download_file(path)
        del world.files[path]
        assert {*reads(client, world)} == {TRUE}
    assert "The content of a file is missing" in caplog.text


@pytest.mark.parametrize(
    "change",
    [lambda old: b"", lambda old: old[:-1], lambda old: old + b"x", lambda old: bytes([old[0] ^ 1]) + old[1:]],
    ids=["empty", "shorter", "longer", "a bit"],
)
def test_a_damaged_content_is_never_given_out(
    world: World, change: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    path, content = [*world.files.items()][2]
    file = blob(world, 2)
    file.write_bytes(change(content))
    with opened(world) as client:
        with pytest.raises(Unavailable, match="damaged"):
            client.download_file(path)
        assert [*reads(client, world)] == [TRUE, TRUE, TRUE, TRUE, REFUSED]
        # Whoever uploads it again mends it.
        client.upload_file("general", "again.txt", content.decode())
        assert client.download_file(path)["content"] == content
    assert "The content of a file is damaged" in caplog.text


def test_a_directory_of_files_that_is_gone_is_told_of(world: World, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(world.path / "blobs")
    with opened(world) as client:
        assert "The directory blobs was missing" in caplog.text
        assert contents(client, "general") == world.texts["general"]
        with pytest.raises(NotFound, match="gone from the relay's disk"):
            client.download_file(next(iter(world.files)))


# Disks that are full, broken or of somebody else


@contextmanager
def an_ordinary_user() -> Iterator[None]:
    """Permissions mean nothing to root."""
    user = os.geteuid()
    os.seteuid(user or 65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def theirs(origin: World) -> Iterator[World]:
    """A directory of the ordinary user, where that one can reach it."""
    with tempfile.TemporaryDirectory() as place:
        world = origin._replace(path=Path(place, "relay"))
        shutil.copytree(origin.path, world.path)
        if os.geteuid() == 0:
            for path in [Path(place), world.path, *world.path.rglob("*")]:
                os.chown(path, 65534, -1)
        yield world


@pytest.mark.parametrize("name", ["agentchat.db", "search.db", "admin.key", "link.key", "lock", "blobs"])
def test_what_is_not_ours_is_refused_by_name(theirs: World, name: str) -> None:
    (theirs.path / name).chmod(0)
    with an_ordinary_user(), pytest.raises(AgentChatError, match="Permission denied") as caught, opened(theirs):
        pass
    (theirs.path / name).chmod(0o700)
    assert str(theirs.path if name == "lock" else theirs.path / name) in caught.value.message


def test_a_directory_of_ones_own_that_may_not_be_written_is_said_to_be_that(theirs: World) -> None:
    (theirs.path / "notes.txt").write_text("mine")  # with which the directory keeps its mode
    theirs.path.chmod(0o555)
    with an_ordinary_user(), pytest.raises(AgentChatError, match="and in its directory") as caught, opened(theirs):
        pass
    theirs.path.chmod(0o700)
    assert "belong" not in caught.value.message


@pytest.fixture
def weather(world: World, scratch: Path) -> Iterator[Weather]:
    weather = Weather(world.path, scratch)
    yield weather
    weather.close()


def test_a_start_on_a_full_disk(world: World, weather: Weather) -> None:
    weather.full()
    assert says(world.path, weather.environment(os.environ)) == (
        1, f"Error (storage_full): The disk of {world.path} is full. Make room, then try again.\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("error", "reason"), [(errno.EROFS, "Read-only file system"), (errno.EACCES, "Permission denied")]
)
def test_a_start_where_nothing_can_be_written(world: World, weather: Weather, error: int, reason: str) -> None:
    weather.failing("names", error)
    weather.failing("writes", error)
    code, text = says(world.path, weather.environment(os.environ))
    assert code == 2
    assert f"Cannot use {world.path} as data directory: {reason}" in text


@pytest.mark.parametrize("kind", ["reads", "writes", "syncs"])
def test_a_start_on_a_broken_disk(world: World, weather: Weather, kind: str) -> None:
    weather.failing(kind, errno.EIO)
    code, text = says(world.path, weather.environment(os.environ))
    assert code != 0
    assert str(world.path) in text


def test_a_new_directory_on_a_full_disk(tmp_path: Path, scratch: Path) -> None:
    with closing(Weather(tmp_path / "new", scratch)) as weather:
        for room in (0, 50, 5000, 40_000):
            weather.full(room)
            code, text = says(tmp_path / "new", weather.environment(os.environ))
            assert (code, "is full" in text) == (1, True), text
        weather.clear()
        with running(str(tmp_path / "new")) as relay:  # nothing is left that would be in the way
            relay.token("mac-ann")
