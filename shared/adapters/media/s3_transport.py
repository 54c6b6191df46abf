"""How bytes reach S3: read from the disk as they are sent, and never waited for without a bound."""

import asyncio
import hashlib
import io
import os
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, Final

from aiobotocore.config import AioConfig  # type: ignore[import-untyped]
from aiobotocore.httpsession import AIOHTTPSession  # type: ignore[import-untyped]
from botocore.exceptions import HTTPClientError, ReadTimeoutError  # type: ignore[import-untyped]

MAX_CONNECTIONS: Final = 64
"""Of one process."""
MAX_TRANSFERS: Final = 48
"""Objects and parts on their way at once; what is left of the connections is for short requests."""

_CHUNK_BYTES: Final = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long the service is waited for, and how often it is asked."""

    connect_seconds: float = 5
    answer_seconds: float = 20
    """For an answer once everything is sent."""
    bytes_per_second: int = 128 * 1024
    """What a connection carries at the slowest, be it a laptop's at home."""
    attempts: int = 4
    """Of every single request; with growing pauses between, after what may pass."""
    check_seconds: float = 15
    save_seconds: float = 90
    """For a whole object, beside what its bytes take."""
    delete_seconds: float = 120
    abort_seconds: float = 3
    """How much later a cancellation may be obeyed, to leave no parts behind."""

    def for_sending(self, size: int, *, connections: int = 1) -> float:
        return size / self.bytes_per_second / connections


class Window(io.RawIOBase):
    """Some bytes of an open file, read when they are sent; others may read the file at the same time."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        super().__init__()
        self._file = file
        self._start = start
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: max(0, self._size - self._at)]
        if not len(view):
            return 0
        read = os.preadv(self._file.fileno(), [view], self._start + self._at)
        if read == 0:
            raise OSError("the file became shorter while it was stored")
        self._at += read
        return read


Body = io.BytesIO | Window


def md5_of(content: Body) -> str:
    """As `Content-MD5` wants it, to be compared with what arrives. Leaves the content at its start."""
    digest = hashlib.md5(usedforsecurity=False)
    content.seek(0)
    while chunk := content.read(_CHUNK_BYTES) or b"":
        digest.update(chunk)
    content.seek(0)
    return b64encode(digest.digest()).decode()


class _PatientSession(AIOHTTPSession):  # type: ignore[misc]
    """Bounds every attempt as a whole: aiohttp has no timeout of its own for a peer that stops reading."""

    def __init__(self, patience: Patience, **options: Any) -> None:
        super().__init__(**options)
        self._patience = patience
        self._is_closed = False

    async def __aexit__(self, *error: object) -> None:
        self._is_closed = True
        await super().__aexit__(*error)

    async def send(self, request: Any) -> Any:
        if self._is_closed:  # it would open new connections, which nobody closes
            raise HTTPClientError(request=request, error="the media store is closed")
        # aiohttp would wait for ever for a "100 Continue", which not every proxy on the way passes on.
        request.headers.pop("Expect", None)
        patience = self._patience
        size = int(request.headers.get("Content-Length", 0))
        seconds = patience.connect_seconds + patience.answer_seconds + patience.for_sending(size)
        try:
            async with asyncio.timeout(seconds):
                return await super().send(request)
        except TimeoutError as error:
            raise ReadTimeoutError(endpoint_url=request.url, error=error) from error


def client_config(patience: Patience, *, path_style: bool) -> AioConfig:
    session: Callable[..., AIOHTTPSession] = partial(_PatientSession, patience)
    return AioConfig(
        http_session_cls=session,
        signature_version="s3v4",
        connect_timeout=patience.connect_seconds,
        read_timeout=patience.answer_seconds,
        max_pool_connections=MAX_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": patience.attempts},
        # A host per bucket is what AWS wants; the others all know the bucket as a folder.
        s3={"addressing_style": "path" if path_style else "auto"},
        # Others than AWS do not know the checksums that boto now adds by itself.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
