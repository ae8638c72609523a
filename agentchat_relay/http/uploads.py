"""From the body of PUT /api/files to checked members and a stored content, in bounded memory.

The contract's clients send the whole file as one member of one JSON object. So the body is spooled to disk, the JSON is
validated where it lies, and the content is decoded piece by piece from there into the blob.
"""

from __future__ import annotations

import binascii
import mmap
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, Any, NamedTuple

import msgspec

from agentchat.errors import BadRequest
from agentchat_relay.blobs.faults import disk_faults
from agentchat_relay.blobs.seam import Blobs, Hold

_IN_MEMORY = 1024 * 1024
_PIECE = 256 * 1024
_LONGEST_MEMBER = 64 * 1024  # of all but the content
_LONGEST_ESCAPE = 12  # bytes that stand for one character: an escaped surrogate pair
_WHITESPACE = b" \t\r\n\f\v"

Body = bytes | memoryview | mmap.mmap
Check = Callable[[dict[str, Any]], object]


class Spool:
    """Keeps the body of a request, a large one in a nameless file in `directory`."""

    def __init__(self, limit: int, directory: str) -> None:
        self.size = 0
        self._limit = limit
        self._directory = directory
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._map: mmap.mmap | None = None

    def add(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append what has arrived."""
        self.size += len(chunk)
        if self.size > self._limit:
            raise BadRequest(f"The upload is too large; its body may have at most {self._limit} bytes.")
        if self._file is None and self.size <= _IN_MEMORY:
            self._memory += chunk
            return
        with disk_faults():
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 - closed by close()
                self._file.write(self._memory)
                self._memory = bytearray()
            self._file.write(chunk)

    def view(self) -> Body:
        """The whole body, once it has arrived."""
        if self._file is None:
            return memoryview(self._memory)
        with disk_faults():
            self._file.flush()
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map

    def close(self) -> None:
        """Give memory and file back."""
        self._memory = bytearray()
        if self._map is not None:
            # An error on its way up may still hold a view; then the map goes when the error goes.
            with suppress(BufferError):
                self._map.close()
        if self._file is not None:
            # Closing writes what is buffered, which fails again on a full disk.
            with suppress(OSError):
                self._file.close()


class Upload(NamedTuple):
    """A stored upload: the body's members without the content, and the content's hash and number of bytes. It is held
    until somebody releases it."""

    arguments: dict[str, Any]
    hash: str
    size: int
    hold: Hold


class _Members(msgspec.Struct):
    """The members we know, still as JSON; of a name given twice the last counts. Empty means absent."""

    content: msgspec.Raw = msgspec.Raw()
    filename: msgspec.Raw = msgspec.Raw()
    channel: msgspec.Raw = msgspec.Raw()
    content_type: msgspec.Raw = msgspec.Raw()
    encoding: msgspec.Raw = msgspec.Raw()
    post_message: msgspec.Raw = msgspec.Raw()


_OTHERS = tuple(name for name in _Members.__struct_fields__ if name != "content")


def store(view: Body, blobs: Blobs, space_id: int, limit: int, check: Check | None = None) -> Upload:
    """Store the content of a body. `check` sees the other members first, so that a refused upload leaves no blob."""
    members = _members(view)
    arguments = _arguments(members)
    if check is not None:
        check(arguments)
    with blobs.writer(space_id, limit) as writer:
        for chunk in decoded(members.content, arguments.get("encoding")):
            writer.write(chunk)
        if not writer.size:
            raise _missing_content()
        return Upload(arguments, writer.finish(), writer.size, writer.hold)


def decoded(raw: bytes | memoryview, encoding: object) -> Iterator[bytes]:
    """The bytes of a file from the JSON text of its `content`, in pieces; any encoding but "base64" is UTF-8."""
    quoted = memoryview(raw)
    if bytes(quoted[:4]) in (b"", b"null"):
        raise _missing_content()
    if quoted[0] != ord('"'):
        raise BadRequest('content must be a string: the file\'s text, or base64 with "encoding": "base64".')
    texts = _texts(quoted[1:-1])
    return _from_base64(texts) if encoding == "base64" else (text.encode() for text in texts)


def _members(view: Body) -> _Members:
    try:
        return msgspec.json.decode(view, type=_Members)
    except msgspec.ValidationError as error:
        raise BadRequest(f"The body must be a JSON object with filename, content and channel: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(
            f"The body is not JSON in UTF-8, or a string in it has half a surrogate pair ({error}). "
            'Send content that is not Unicode text as base64, with "encoding": "base64".'
        ) from None
    except RecursionError:
        raise BadRequest("The body is nested too deeply; send one flat JSON object.") from None


def _arguments(members: _Members) -> dict[str, Any]:
    raws = {name: getattr(members, name) for name in _OTHERS}
    return {name: _argument(name, raw) for name, raw in raws.items() if len(raw)}


def _argument(name: str, raw: msgspec.Raw) -> Any:
    if len(raw) > _LONGEST_MEMBER:
        raise BadRequest(f"{name} is too long; at most {_LONGEST_MEMBER} bytes of JSON are allowed.")
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"{name} cannot be read: {error}.") from None


def _texts(inside: memoryview) -> Iterator[str]:
    """The text between the quotes of a JSON string, in pieces."""
    at = 0
    while at < len(inside):
        piece = inside[at : at + _PIECE]
        text, taken = _text(piece, last=at + len(piece) == len(inside))
        at += taken
        yield text


def _text(piece: memoryview, *, last: bool) -> tuple[str, int]:
    """The text of a piece and how many of its bytes make it up: its end may cut one character in two."""
    for cut in range(1 if last else _LONGEST_ESCAPE):
        taken = len(piece) - cut
        try:
            return msgspec.json.decode(b"".join((b'"', piece[:taken], b'"')), type=str), taken
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    raise BadRequest('content is not valid UTF-8; send a binary file as base64, with "encoding": "base64".')


def _from_base64(texts: Iterator[str]) -> Iterator[bytes]:
    rest = b""
    for text in texts:
        characters = rest + text.encode().translate(None, _WHITESPACE)
        # The last group waits, because only the very last of all may be padded.
        whole = max(len(characters) - 1, 0) // 4 * 4
        if b"=" in characters[:whole]:
            raise _bad_base64()
        yield _groups(characters[:whole])
        rest = characters[whole:]
    digits = rest.rstrip(b"=")
    padding = b"=" * (-len(digits) % 4)
    if len(rest) > len(digits + padding):
        raise _bad_base64()
    yield _groups(digits + padding)


def _groups(characters: bytes) -> bytes:
    try:
        return binascii.a2b_base64(characters, strict_mode=True)
    except binascii.Error:
        raise _bad_base64() from None


def _bad_base64() -> BadRequest:
    return BadRequest(
        "content is not valid base64; encode the file's bytes with the standard alphabet (A-Z a-z 0-9 + /), "
        "or leave encoding out to send text."
    )


def _missing_content() -> BadRequest:
    return BadRequest('content must not be empty; send the file\'s text, or base64 with "encoding": "base64".')
