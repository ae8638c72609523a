"""Files: a row each, beside a blob that holds the content. A file is seen by whoever sees its channel."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import msgspec

from agentchat import types
from agentchat.errors import NotFound

from ..media import stored_name
from ..store.seam import Reading, Row, Writing
from ..wire import iso
from . import channels, messages, repeats
from .call import Call

BUCKET = "files"
_MOST_LISTED = 100
_MARK_BITS = 24


class Content(NamedTuple):
    """What was stored as a blob before the row is made."""

    hash: str
    size: int
    type: str


class Found(NamedTuple):
    """A file to be sent."""

    linked: int  # what a link names it by
    space_id: int
    name: str
    type: str
    size: int
    hash: str


def check_upload(tx: Reading, call: Call, channel: str) -> None:
    """What can be known before the content is stored."""
    if channels.look_up(tx, call.agent.space_id, channel) is None:
        channels.check_may_create(tx, call)


def upload_file(
    tx: Writing, call: Call, *, channel: str, filename: str, content: Content, post_message: bool = True
) -> types.UploadedFile:
    channels.refuse_direct(channel)
    if (earlier := repeats.earlier(tx, call)) is not None:
        if earlier["answer"] is not None:  # it has vanished
            return msgspec.json.decode(earlier["answer"], type=types.UploadedFile)
        return {"file": _stored(tx.the("file_by_id", id=earlier["id"]))}
    place = channels.known(tx, call.agent.space_id, channel)
    if place is None:
        channels.check_may_create(tx, call)
        place = channels.create(tx, call.agent.space_id, channel, by=call.agent.id)
    channels.join(tx, call.agent.id, place)
    # Events name a file by its path, and outlast it.
    vanishes = place.vanish_after is not None
    path = _free_path(tx, call, channel, "file" if vanishes else filename)
    id = tx.run(
        "insert_file",
        space_id=call.agent.space_id,
        channel_id=place.id,
        path=path,
        name=filename,
        type=content.type,
        size=content.size,
        hash=content.hash,
        author_id=call.agent.id,
        created_at=tx.now,
        key=call.key,
        digest=call.digest,
    )
    tx.event(
        call.agent.space_id, "file.added", actor_id=call.agent.id, subject=path, channel_id=place.id,
        payload="" if vanishes else content.hash,
    )  # fmt: skip
    file = _stored(tx.the("file_by_id", id=id))
    if post_message:
        _announce(tx, call, place, file)
    return {"file": file}


def _announce(tx: Writing, call: Call, place: channels.Channel, file: types.StoredFile) -> None:
    """A message that names the file. Nobody is notified, whatever the file is called."""
    entry = {name: value for name, value in file.items() if name != "created_at"}
    text = f"Shared a file: {file['name']} ({_size(file['size'])})"
    metadata = msgspec.json.encode({"files": [entry]}).decode()
    messages.append(tx, call._replace(key=None, digest=None), place, text, metadata=metadata)


def _size(size: int) -> str:
    if size < 1024:
        return f"{size} bytes"
    return f"{size / 1024:.1f} KiB" if size < 1 << 20 else f"{size / (1 << 20):.1f} MiB"


def _free_path(tx: Writing, call: Call, channel: str, filename: str) -> str:
    """`<channel>/<milliseconds>-<name>`; two in the same millisecond differ by one."""
    name = stored_name(filename)
    milliseconds = tx.now // 1000
    while tx.one("file_by_path", space_id=call.agent.space_id, path=(path := f"{channel}/{milliseconds}-{name}")):
        milliseconds += 1
    return path


def find(tx: Reading, call: Call, *, path: str) -> Found:
    row = tx.one("file_by_path", space_id=call.agent.space_id, path=path)
    if row is None:
        raise NotFound(f"There is no file {path[:200]!a}. Its path stands in the message that announced it.")
    return _found(row)


def find_linked(tx: Reading, number: int) -> Found:
    """The file a signed link names."""
    row = tx.one("file_by_id", id=number >> _MARK_BITS)
    if row is None or _linked(row) != number:
        raise NotFound("This file is gone.")
    return _found(row)


def _linked(row: Row) -> int:
    """What a link names a file by: its internal id, which another file may get once this one had its time, and a mark
    that no other file has with it."""
    mark = hashlib.blake2b(f"{row['path']} {row['hash']} {row['created_at']}".encode(), digest_size=3).digest()
    return int(row["id"]) << _MARK_BITS | int.from_bytes(mark)


def _found(row: Row) -> Found:
    return Found(_linked(row), row["space_id"], row["name"], row["type"], row["size"], row["hash"])


def are_there(tx: Reading) -> bool:
    """Whether there is any file."""
    return tx.one("any_file") is not None


def list_files(tx: Reading, call: Call, *, folder: str) -> types.FileList:
    found = channels.look_up(tx, call.agent.space_id, folder.strip("/"))
    rows = [] if found is None else tx.all("files_in_channel", channel_id=found.id, limit=_MOST_LISTED + 1)
    return {"files": [_stored(row) for row in rows[:_MOST_LISTED]], "has_more": len(rows) > _MOST_LISTED}


def _stored(row: Row) -> types.StoredFile:
    return {
        "name": row["name"],
        "size": row["size"],
        "path": row["path"],
        "bucket": BUCKET,
        "type": row["type"],
        "created_at": iso(row["created_at"]),
    }
