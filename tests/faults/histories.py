"""Decides whether a relay kept its promises, from two records alone: what callers were told during a round, and what
the relay tells at its end. Plain data goes in, sentences come out.

It shares nothing with the relay or the clients, so that it cannot share their mistakes. Times of calls are seconds of
one clock; a call that got no answer took effect once or not at all, at any time after it began. Times of messages are
the relay's: ISO 8601 with six digits, which sort as text.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

DIRECT = "direct-messages"
FOREVER = float("inf")

# What callers were told. `error` is the code of a refusal; a call with neither an answer nor a refusal is unknown.


class Post(NamedTuple):
    """One call that posts. A `text` names a message: calls with the same one are repeats, and share a key."""

    author: str
    channel: str
    text: str  # as it should be stored
    began: float
    ended: float = FOREVER
    key: str | None = None
    parent: str | None = None
    kind: str = "chat"
    notifies: tuple[str, ...] = ()  # agents that it mentions, or to whom it goes
    id: str | None = None  # what it was acknowledged with
    at: str | None = None
    error: str | None = None


class Upload(NamedTuple):
    """One call that uploads. The file's name is as unique as a message's text."""

    author: str
    channel: str
    name: str
    content: bytes
    announced: bool
    key: str | None = None
    path: str | None = None
    error: str | None = None


class Mark(NamedTuple):
    """One call that marks mentions read."""

    agent: str
    items: tuple[str, ...]
    done: bool
    error: str | None = None


class Position(NamedTuple):
    """How far an agent has read a channel, as one answer said; `asked` is how far it was told to go."""

    agent: str
    channel: str
    through: str
    began: float
    ended: float
    asked: str = ""


class Pin(NamedTuple):
    """One call that pins or unpins. Those about one message are in the order of the list."""

    message: str
    pinned: bool
    done: bool
    error: str | None = None


# What the relay tells


class Row(NamedTuple):
    """A message as a page shows it."""

    id: str
    channel: str
    author: str
    text: str
    at: str
    parent: str | None = None
    kind: str = "chat"
    pinned: bool = False
    files: tuple[str, ...] = ()  # paths that it announces


class Item(NamedTuple):
    """A mention, or a direct message, as its receiver lists it."""

    id: str
    message: str
    read: bool


class Seen(NamedTuple):
    """A line of an agent's board."""

    unread: int
    latest: str | None  # id of a message


class Followed(NamedTuple):
    """What somebody saw who read a list of messages by its next_cursor during the whole round."""

    reader: str
    channel: str
    rows: list[Row]


class Told(NamedTuple):
    """Everything that callers were told during a round."""

    posts: list[Post]
    uploads: list[Upload]
    marks: list[Mark]
    positions: list[Position]
    pins: list[Pin]
    followed: list[Followed]
    refused: list[str]  # calls that only read, with what they were refused with
    excused: frozenset[str] = frozenset()  # codes of refusals that had their reason; they must have had no effect
    kept_from: Mapping[str, str] = {}  # channels that do not keep everything, and from which time on they must

    def may_be_gone(self, channel: str, at: str) -> bool:
        return at < self.kept_from.get(channel, "")

    def file_may_be_gone(self, path: str) -> bool:
        """By when it was stored: its path is the channel's name, then milliseconds."""
        channel, _, name = path.partition("/")
        if channel not in self.kept_from:
            return False
        stored = datetime.fromtimestamp(int(name.partition("-")[0]) / 1000, UTC)
        return self.may_be_gone(channel, stored.isoformat(timespec="microseconds"))


class Kept(NamedTuple):
    """Everything that the relay tells at the end."""

    channels: dict[str, list[Row]]  # each read from its first message to its last
    direct: dict[str, list[Row]]  # by agent, its direct messages
    alone: dict[str, Row]  # messages asked for by id
    items: dict[str, list[Item]]  # by agent
    unread: dict[str, set[str]]  # by agent, ids of the items listed as unread
    readers: dict[str, dict[str, str]]  # channel, agent, how far
    board: dict[str, dict[str, Seen]]  # agent, channel
    pinned: dict[str, list[str]]  # channel, ids of messages
    files: dict[str, list[tuple[str, str]]]  # channel, name and path of each
    contents: dict[str, bytes]  # by path
    found: dict[str, list[str]]  # by text that was searched for, ids

    def rows(self) -> list[Row]:
        """Each stored message once, whoever sees it, in the relay's order."""
        direct = {row.id: row for rows in self.direct.values() for row in rows}
        return sorted([*(row for rows in self.channels.values() for row in rows), *direct.values()], key=_at)


def violations(told: Told, kept: Kept) -> list[str]:
    """What is wrong with a round."""
    found: list[str] = []
    for rule in (
        refusals, excused, acknowledged, once, order, real_time, keys, replies, followers, direct, mentions, positions,
        board, files, pins, searches,
    ):  # fmt: skip
        found += rule(told, kept)
    return found


def refusals(told: Told, kept: Kept) -> Iterator[str]:
    """Nobody did anything that may be refused, except using a key for another text."""
    texts = _texts_of_keys(told.posts)
    for post in told.posts:
        if post.error == "idempotency_mismatch" and post.key and len(texts[post.author, post.key]) > 1:
            continue
        if post.error is not None and post.error not in told.excused:
            yield f"{brief(post.text)}: refused with {post.error}"
    others = [
        *((f"the upload of {upload.name}", upload.error) for upload in told.uploads),
        *((f"{mark.agent}, who marks mentions", mark.error) for mark in told.marks),
        *((f"a pin of {pin.message}", pin.error) for pin in told.pins),
    ]
    yield from (
        f"{what}: refused with {error}" for what, error in others if error is not None and error not in told.excused
    )
    yield from told.refused


def excused(told: Told, kept: Kept) -> Iterator[str]:
    """What was refused, and by nothing else than refusals, is not there."""
    calls = [(post.text, post.error) for post in told.posts] + [(upload.name, upload.error) for upload in told.uploads]
    outcomes = defaultdict(set)
    for what, error in calls:
        outcomes[what].add(error)
    stored = {row.text for row in kept.rows()} | {name for rows in kept.files.values() for name, _ in rows}
    for what, errors in outcomes.items():
        if errors <= told.excused and what in stored:
            yield f"{brief(what)}: refused with {' and '.join(sorted(map(str, errors)))}, and it is there"


def acknowledged(told: Told, kept: Kept) -> Iterator[str]:
    """What was acknowledged is there, under that id, and says what was sent."""
    stored, gone = {row.id: row for row in kept.rows()}, _gone(told)
    for post in told.posts:
        if post.id is None:
            continue
        row = stored.get(post.id)
        if row is None and told.may_be_gone(post.channel, post.at or ""):
            if post.id in kept.alone:
                yield f"{brief(post.text)}: gone from its page, and there by its id"
            continue
        if row is None:
            yield f"{brief(post.text)}: acknowledged as {post.id}, lost"
            continue
        parent = None if row.parent is None and post.parent in gone else post.parent
        sent = (post.author, post.channel, post.text, post.at, parent, post.kind)
        if sent != (found := (row.author, row.channel, row.text, row.at, row.parent, row.kind)):
            yield f"{brief(post.text)}: acknowledged as {sent}, stored as {found}"
        if kept.alone.get(post.id) != row:
            yield f"{brief(post.text)}: asked for by its id it is {kept.alone.get(post.id)}, on its page {row}"


def once(told: Told, kept: Kept) -> Iterator[str]:
    """A message is there once at most, and was sent. What announces a file is the relay's own (see `files`)."""
    rows, sent = kept.rows(), {(post.author, post.channel, post.text) for post in told.posts}
    for (author, channel, text), times in Counter((row.author, row.channel, row.text) for row in rows).items():
        if times > 1:
            yield f"{brief(text)}: stored {times} times"
        if (author, channel, text) not in sent and not any(row.files for row in rows if row.text == text):
            yield f"{brief(text)}: in #{channel} by {author}, but nobody sent it"


def order(told: Told, kept: Kept) -> Iterator[str]:
    """Every list of messages has one order: times grow strictly, ids are given once."""
    for name, rows in [*kept.channels.items(), *((f"{DIRECT} of {name}", rows) for name, rows in kept.direct.items())]:
        for before, after in pairwise(rows):
            if before.at >= after.at:
                yield f"#{name}: {brief(after.text)} of {after.at} comes after {brief(before.text)} of {before.at}"
    for id, times in Counter(row.id for row in kept.rows()).items():
        if times > 1:
            yield f"{id}: given to {times} messages"


def real_time(told: Told, kept: Kept) -> Iterator[str]:
    """A message that was acknowledged before another was sent comes before it, whoever sent them."""
    began: dict[str, float] = {}
    ended: dict[str, float] = {}
    for post in told.posts:
        began[post.text] = min(post.began, began.get(post.text, FOREVER))
        if post.id is not None:
            ended[post.text] = min(post.ended, ended.get(post.text, FOREVER))
    places = defaultdict(list)
    for row in kept.rows():
        places[row.channel].append(row.text)
    for channel, texts in places.items():
        earliest, first = FOREVER, ""
        for text in reversed(texts):
            if earliest < began.get(text, 0.0):
                yield f"#{channel}: {brief(first)} was acknowledged before {brief(text)} was sent, but comes after it"
            if ended.get(text, FOREVER) < earliest:
                earliest, first = ended[text], text


def keys(told: Told, kept: Kept) -> Iterator[str]:
    """A key has one effect, and every call with it got the same answer."""
    texts, ids = _texts_of_keys(told.posts), defaultdict(set)
    stored = Counter((row.author, row.text) for row in kept.rows())
    for post in told.posts:
        if post.key is not None and post.id is not None and not told.may_be_gone(post.channel, post.at or ""):
            ids[post.author, post.key].add(post.id)
    for (author, key), answers in ids.items():
        if len(answers) > 1:
            yield f"key {key} of {author}: acknowledged as {' and '.join(sorted(answers))}"
    for (author, shared), group in texts.items():
        if shared is not None and (effects := sum(stored[author, text] for text in group)) > 1:
            yield f"key {shared} of {author}: {effects} effects"
    paths = defaultdict(set)
    for upload in told.uploads:
        if upload.path is not None:
            paths[upload.author, upload.key or upload.name].add(upload.path)
    yield from (
        f"key {key} of {author}: {len(given)} paths" for (author, key), given in paths.items() if len(given) > 1
    )


def replies(told: Told, kept: Kept) -> Iterator[str]:
    """An answer never is there without what it answers, which came before it."""
    stored = {row.id: row for row in kept.rows()}
    gone = _gone(told) - stored.keys()
    for row in stored.values():
        if row.parent in gone:
            continue
        if row.parent is not None and (row.parent not in stored or stored[row.parent].at >= row.at):
            yield f"{brief(row.text)}: answers {row.parent}, which is not there before it"


def followers(told: Told, kept: Kept) -> Iterator[str]:
    """Who follows a cursor sees every message once, in order."""
    for reader, channel, rows in told.followed:
        whole = kept.direct[reader] if channel == DIRECT else kept.channels[channel]
        there, texts = {row.id for row in whole}, {row.id: row.text for row in whole}
        # What went when its time was over may have been seen before that.
        seen = [row.id for row in rows if row.id in there or not told.may_be_gone(channel, row.at)]
        who, all_ids = f"the cursor of {reader} in #{channel}", [row.id for row in whole]
        yield from (
            f"{who} showed {brief(row.text)} for {brief(texts[row.id])}"
            for row in rows
            if row.text != texts.get(row.id, row.text)
        )
        if seen == all_ids:
            continue
        yield from (f"{who} showed {id} {times} times" for id, times in Counter(seen).items() if times > 1)
        yield from (
            f"{who} skipped {brief(row.text)}"
            for row in whole
            if row.id not in seen and not told.may_be_gone(channel, row.at)
        )
        yield from (f"{who} showed {brief(row.text)}, which is not there" for row in rows if row.id in {*seen} - there)
        if sorted(seen) == sorted(all_ids):
            yield f"{who} showed another order"


def direct(told: Told, kept: Kept) -> Iterator[str]:
    """Author and receiver see a direct message, and nobody else."""
    receivers = {post.text: post.notifies[0] for post in told.posts if post.channel == DIRECT}
    rows = {row.id: row for rows in kept.direct.values() for row in rows}
    for row in rows.values():
        seen = {agent for agent, rows in kept.direct.items() if any(row.id == other.id for other in rows)}
        if row.text in receivers and seen != (meant := {row.author, receivers[row.text]}):
            yield f"{brief(row.text)}: seen by {sorted(seen)}, meant for {sorted(meant)}"


def mentions(told: Told, kept: Kept) -> Iterator[str]:
    """Whoever a message names has it once in the list, read or unread as acknowledged."""
    stored = {row.text: row for row in kept.rows()}
    due = {
        (agent, stored[post.text].id) for post in told.posts if post.text in stored for agent in post.notifies
    }  # fmt: skip
    tried = {(mark.agent, item) for mark in told.marks for item in mark.items}
    done = {(mark.agent, item) for mark in told.marks if mark.done for item in mark.items}
    listed = Counter((agent, item.message) for agent, items in kept.items.items() for item in items)
    yield from (f"{agent} was not told of {message}" for agent, message in due if not listed[agent, message])
    yield from (f"{agent} was told of {message}, which does not name it" for agent, message in listed.keys() - due)
    yield from (f"{agent} was told {times} times of {id}" for (agent, id), times in listed.items() if times > 1)
    for agent, items in kept.items.items():
        for item in items:
            if (agent, item.id) in done and not item.read:
                yield f"{agent} marked {item.id} as read, and it is unread"
            if (agent, item.id) not in tried and item.read:
                yield f"{agent} never marked {item.id}, and it is read"
        if kept.unread[agent] != {item.id for item in items if not item.read}:
            yield f"{agent}: the list of what is unread is another than that of all"
    known = {(agent, item.id) for agent, items in kept.items.items() for item in items}
    if not told.kept_from:  # otherwise it may have gone with its message
        yield from (f"{agent} marked {item} as read, and it is gone" for agent, item in done - known)


def positions(told: Told, kept: Kept) -> Iterator[str]:
    """Read cursors go forward only, and as far as they were told."""
    last = [
        Position(agent, channel, through, FOREVER, FOREVER)
        for channel, readers in kept.readers.items()
        for agent, through in readers.items()
    ]
    paths = defaultdict(list)
    for position in (*told.positions, *last):
        paths[position.agent, position.channel].append(position)
        if position.through < position.asked:
            yield f"{position.agent} read #{position.channel} to {position.asked}, the answer says {position.through}"
    for (agent, channel), path in paths.items():
        if agent not in kept.readers.get(channel, {}):
            yield f"{agent} has read #{channel}, and is no reader of it"
        for after in path:
            before = max((other.through for other in path if other.ended < after.began), default="")
            if after.through < before:
                yield f"{agent} in #{channel}: its cursor went back from {before} to {after.through}"


def board(told: Told, kept: Kept) -> Iterator[str]:
    """The board counts what others said after the cursor, and shows what was said last."""
    for agent, lines in kept.board.items():
        for channel, line in lines.items():
            chats = [row for row in _list_of(kept, agent, channel) if row.kind == "chat"]
            if channel == DIRECT:
                known = {row.id for row in chats}
                open_items = [item for item in kept.items[agent] if not item.read and item.message in known]
                unread = len(open_items)
            else:
                through = kept.readers[channel][agent]
                unread = sum(row.author != agent and row.at > through for row in chats)
            expected = Seen(unread, chats[-1].id if chats else None)
            if line != expected:
                yield f"{agent}: the board says {line} of #{channel}, {expected} is true"
    for post in told.posts:
        if post.id is not None and post.channel not in kept.board.get(post.author, {}):
            yield f"{post.author} posted in #{post.channel}, which is not on its board"


def files(told: Told, kept: Kept) -> Iterator[str]:
    """A file that was acknowledged is there once, with its bytes and the one message that announces it."""
    sent = {upload.name: upload for upload in told.uploads}
    listed = [(channel, name, path) for channel, rows in kept.files.items() for name, path in rows]
    announced = Counter(path for row in kept.rows() for path in row.files)
    for name, times in Counter(name for _, name, _ in listed).items():
        if times > 1:
            yield f"{name}: stored {times} times"
    for channel, name, path in listed:
        upload = sent.get(name)
        if upload is None or upload.channel != channel:
            yield f"{name}: in #{channel}, but nobody uploaded it"
            continue
        if kept.contents.get(path) != upload.content and not told.file_may_be_gone(path):
            yield f"{name}: other bytes than were uploaded"
        if announced[path] != upload.announced and not told.file_may_be_gone(path):
            yield f"{name}: announced {announced[path]} times"
    paths = {path for _, _, path in listed}
    yield from (
        f"{path}: announced, and not there"
        for path in announced
        if path not in paths and not told.file_may_be_gone(path)
    )
    for upload in told.uploads:
        if upload.path is None or told.file_may_be_gone(upload.path):
            continue
        if (upload.channel, upload.name, upload.path) not in listed:
            yield f"{upload.name}: acknowledged as {upload.path}, lost"


def pins(told: Told, kept: Kept) -> Iterator[str]:
    """The last acknowledged call about a pin decides, or one without an answer that followed it."""
    possible: dict[str, set[bool]] = {}
    for pin in told.pins:
        if pin.done:
            possible[pin.message] = {pin.pinned}
        elif pin.error is None:
            possible.setdefault(pin.message, {False}).add(pin.pinned)
    pinned = {id for ids in kept.pinned.values() for id in ids}
    for row in kept.rows():
        if (row.id in pinned) not in possible.get(row.id, {False}):
            yield f"{brief(row.text)}: pinned is {row.id in pinned}, and cannot be"
        if row.pinned != (row.id in pinned):
            yield f"{brief(row.text)}: its page says pinned is {row.pinned}, the list of pins says otherwise"


def searches(told: Told, kept: Kept) -> Iterator[str]:
    """A search for the words of a message finds it, and nothing else."""
    ids = {row.text: row.id for row in kept.rows()}
    for text, found in kept.found.items():
        expected = [ids[text]] if text in ids else []
        if found != expected:
            yield f"{brief(text)}: a search for it finds {found}, it is {expected}"


def brief(text: str) -> str:
    """Enough to know a message by."""
    return text if len(text) <= 60 else f"{text[:20]}…{text[-30:]}"


def _at(row: Row) -> str:
    return row.at


def _gone(told: Told) -> set[str | None]:
    """What may be gone because its time was over."""
    return {post.id for post in told.posts if told.may_be_gone(post.channel, post.at or "~")}


def _list_of(kept: Kept, agent: str, channel: str) -> Sequence[Row]:
    return kept.direct[agent] if channel == DIRECT else kept.channels[channel]


def _texts_of_keys(posts: Iterable[Post]) -> dict[tuple[str, str | None], set[str]]:
    """By author and key."""
    texts: dict[tuple[str, str | None], set[str]] = defaultdict(set)
    for post in posts:
        texts[post.author, post.key].add(post.text)
    return texts
