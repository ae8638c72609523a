"""Files in and out. These routes are not enveloped, and bodies may be large: they are never held in memory whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, BinaryIO

from agentchat.contract import OPERATIONS
from agentchat.errors import BadRequest, NotFound

from ..media import disposition, safe_type
from ..service import files
from ..service.call import Agent, Call
from ..service.channels import refuse_direct
from ..service.files import Content, Found
from ..store.seam import Lane, Reading
from .arguments import Arguments
from .asked import Asked
from .links import VALID_SECONDS
from .operations import call_of
from .parts import Parts
from .reply import SAFE, Reply, json_reply
from .request import Request
from .uploads import Spool, Upload, store

_PIECE = 256 * 1024
_UPLOAD, _DOWNLOAD = OPERATIONS["upload_file"], OPERATIONS["download_file"]
_UPLOAD_ARGUMENTS, _DOWNLOAD_ARGUMENTS = Arguments(_UPLOAD), Arguments(_DOWNLOAD)


class UploadFile:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def __call__(self, request: Request) -> Reply:
        parts = self._parts
        caller = await parts.agents.caller(request)
        agent = caller.agent
        await parts.writes.take(agent.id)
        with parts.at_a_time(agent.id):
            upload = await self._receive(request, agent)
        try:
            await asyncio.to_thread(upload.hold.sure)
            content_type = upload.arguments.get("content_type")
            type = safe_type(content_type if isinstance(content_type, str) else None)
            content = Content(upload.hash, upload.size, type)
            arguments = {**_checked(upload.arguments), "content": content}
            call = call_of(_UPLOAD, agent, request, {**arguments, "content": list(content)})
        except BaseException:
            _release(upload)
            raise
        asked = Asked(caller, call, lambda tx: files.upload_file(tx, call, **arguments))
        stored = await parts.ask(Lane.WRITE, asked, partial(_release, upload))
        # Held until the commit, without a gap? If not, whoever sends it again puts the content back.
        await asyncio.to_thread(upload.hold.sure)
        return json_reply(stored)

    async def _receive(self, request: Request, agent: Agent) -> Upload:
        """The body, spooled; its content becomes a blob once the rest of it was found right."""
        most, blobs = self._parts.settings.most_file_bytes, self._parts.blobs
        spool = Spool(most_of(most), blobs.temporary)
        try:
            async for piece in request.pieces():
                spool.add(piece)
            storing = asyncio.to_thread(store, spool.view(), blobs, agent.space_id, most, self._check(agent))
            return await _whole(asyncio.ensure_future(storing))
        finally:
            spool.close()

    def _check(self, agent: Agent) -> Callable[[dict[str, Any]], object]:
        """What is asked before the blob is stored, on the thread that stores it."""

        def check(given: dict[str, Any]) -> None:
            channel = _checked(given)["channel"]
            self._parts.store.ask(Lane.READ, lambda tx: files.check_upload(tx, Call(agent), channel))

        return check


async def _whole(storing: asyncio.Future[Upload]) -> Upload:
    """A thread goes on though its caller hung up; what it holds then must be let go all the same."""
    try:
        return await asyncio.shield(storing)
    except asyncio.CancelledError:
        storing.add_done_callback(_let_go)
        raise


def _let_go(stored: asyncio.Future[Upload]) -> None:
    if not stored.cancelled() and stored.exception() is None:
        _release(stored.result())


def _release(upload: Upload) -> None:
    asyncio.get_running_loop().run_in_executor(None, upload.hold.release)


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments besides content, encoding and media type, which the content itself settles."""
    names = {name: given.get(name) for name in ("filename", "channel")}
    checked = _UPLOAD_ARGUMENTS.checked({**names, "content": "-"}, {})
    refuse_direct(checked["channel"])
    return {**checked, "post_message": given.get("post_message") is not False}


def most_of(most_file_bytes: int) -> int:
    """The longest body: base64 takes a third more, and JSON may escape a character as six."""
    return most_file_bytes * 6 + 65536


class DownloadFile:
    """`?url=true` asks for a link instead of the content."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def __call__(self, request: Request) -> Reply:
        parts = self._parts
        given = request.query()
        path = given.get("path")
        if isinstance(path, str) and (path.startswith("/") or ".." in path or "\0" in path):
            raise BadRequest("path must be one that list_files or an announcement shows.")
        caller = await parts.agents.caller(request)
        await parts.reads.take(caller.agent.id)
        arguments = _DOWNLOAD_ARGUMENTS.checked(given, {})
        call = call_of(_DOWNLOAD, caller.agent, request, arguments)
        asked = Asked(caller, call, lambda tx: (files.find(tx, call, **arguments), tx.now))
        found, now = await parts.ask(Lane.READ, asked)
        if str(given.get("url", "")).lower() == "true":
            return json_reply({"signed_url": parts.links.make(found.linked, now), "expires_in": VALID_SECONDS})
        return await _sent(parts, found)


class LinkedFile:
    """A file by its signed link: no key."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def __call__(self, request: Request) -> Reply:
        claim = self._parts.links.read(request.segments["token"])

        def find(tx: Reading) -> Found:
            return files.find_linked(tx, claim.at(tx.now))

        return await _sent(self._parts, await self._parts.ask(Lane.READ, find))


async def _sent(parts: Parts, found: Found) -> Reply:
    try:
        blob = await asyncio.to_thread(parts.blobs.open, found.space_id, found.hash)
    except NotFound:
        raise NotFound("The content of this file is gone from the relay's disk.") from None
    headers = [
        (b"content-type", found.type.encode()),
        (b"content-length", b"%d" % found.size),
        (b"content-disposition", disposition(found.name).encode("ascii")),
    ]
    return Reply(200, headers + SAFE, pieces=_pieces(blob))


async def _pieces(blob: BinaryIO) -> AsyncIterator[bytes]:
    try:
        while piece := await asyncio.to_thread(blob.read, _PIECE):
            yield piece
    finally:
        blob.close()
