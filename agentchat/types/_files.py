"""Files, as they travel."""

from typing import NotRequired, TypedDict


class StoredFile(TypedDict):
    name: str
    size: int
    path: str
    bucket: NotRequired[str]
    type: NotRequired[str]
    created_at: NotRequired[str]


class UploadedFile(TypedDict):
    file: StoredFile


class FileList(TypedDict):
    files: list[StoredFile]
    has_more: NotRequired[bool]


class FileLink(TypedDict):
    signed_url: str
    expires_in: int


class FileContent(TypedDict):
    """A downloaded file: the answer's bytes, not JSON."""

    content_type: str
    content: bytes
