"""The media ports: bytes in, links out; and looking at what a generator made."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from shared.domain.ids import ClaimToken, JobId
from shared.domain.job import Media

EXTENSIONS: Final = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "video/mp4": "mp4",
}
TYPES: Final = {extension: type_ for type_, extension in EXTENSIONS.items()}

_KEY = re.compile(r"(job_[0-9A-HJKMNP-TV-Z]{26})/([0-9a-f]{32})/([0-9]{1,5})\.([a-z0-9]{3,4})")

# Of any job, also of internal ones, which store nothing.
_PREFIX = re.compile(r"job_[0-9A-HJKMNP-TV-Z]{26}(:[a-z0-9_:.-]{1,64})?/([0-9a-f]{32}/)?")


def media_key(job: JobId, token: ClaimToken, number: int, type_: str) -> str:
    """Under the claim's own token, so that nothing a stale worker writes can replace what is shown."""
    return f"{job}/{token}/{number}.{EXTENSIONS[type_]}"


def is_media_key(text: str) -> bool:
    match = _KEY.fullmatch(text)
    return match is not None and match[4] in TYPES


def is_media_prefix(text: str) -> bool:
    """Whether it names all media of one job, or of one claim of it, and nothing else."""
    return _PREFIX.fullmatch(text) is not None


class MediaStore(Protocol):
    async def save(self, key: str, content: bytes | Path, *, type_: str) -> None:
        """Store an object for good before returning; never replaces one (saving the same key again may fail).

        Raises `MediaUnavailable`; then the object may or may not exist.
        """

    async def delete_prefix(self, prefix: str) -> None:
        """Remove every object whose key begins with the prefix (which ends in `/`); repeatable.

        Raises `MediaUnavailable`; then some may be left.
        """

    async def check(self) -> None:
        """Raise `MediaUnavailable` unless objects can be written right now."""


class Presigner(Protocol):
    """Links to objects that are not public."""

    @property
    def expires_seconds(self) -> int:
        """How long a link works."""

    def link(self, key: str, *, method: Literal["GET", "HEAD"] = "GET") -> str:
        """Where that method finds the object until the link expires, whether or not there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What a file really is, whatever its maker said."""

    type: str
    size: int
    sha256: str
    width: int
    height: int
    seconds: float | None = None
    thumbnail: bytes | None = None
    """A small WebP."""

    def as_media(self, key: str) -> Media:
        return Media(
            key=key,
            type=self.type,
            size=self.size,
            sha256=self.sha256,
            width=self.width,
            height=self.height,
            seconds=self.seconds,
        )


class UnreadableMedia(Exception):
    """The bytes are not an image or video of a type that we store."""


class Inspector(Protocol):
    async def inspect(self, content: bytes | Path) -> Inspection:
        """Look at untrusted bytes; raises `UnreadableMedia`."""
