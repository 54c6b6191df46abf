"""Videos brought to a temporary file: decoded or downloaded, bounded, and removed if it does not end well."""

import asyncio
import base64
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpx2

from shared.adapters.generators.google.errors import Call, google_call
from shared.adapters.generators.remote.http import CannotOpen, open_http
from shared.ports.generator import Busy, Down, GenerationFailed, GeneratorError

PREFIX: Final = "fetched_"
FORGOTTEN_AFTER: Final = timedelta(days=1)
"""What a killed process left behind is removed after that time."""
CHUNK_BYTES: Final = 2**20
LONGEST_PAUSE_SECONDS: Final = 20
FETCH_SECONDS: Final = 50
"""Together with asking about the operation less than a poll may take."""
REDIRECTS: Final = 3

Headers = Callable[[httpx2.URL], Mapping[str, str] | None]
"""What to send to an address; None if nothing may be fetched from there."""


class Fetched:
    """A folder of temporary files; each belongs to whoever receives its path."""

    def __init__(self, folder: Path, http: httpx2.AsyncClient, *, largest_bytes: int, seconds: float) -> None:
        self._folder = folder
        self._http = http
        self._largest_bytes = largest_bytes
        self._seconds = seconds

    @classmethod
    @asynccontextmanager
    async def open(
        cls, folder: Path, *, largest_bytes: int, seconds: float = FETCH_SECONDS
    ) -> AsyncIterator["Fetched"]:
        """Raises `CannotOpen` where nothing can be written."""
        try:
            await asyncio.to_thread(_prepare, folder)
        except OSError as error:
            raise CannotOpen(f"cannot write to {folder}: {error.strerror or error}") from error
        pause_seconds = min(LONGEST_PAUSE_SECONDS, seconds)
        async with open_http(timeout_seconds=pause_seconds, largest_answer_bytes=largest_bytes) as http:
            yield cls(folder, http, largest_bytes=largest_bytes, seconds=seconds)

    async def decoded(self, text: str) -> Path:
        """Of base64, by and by, so that the bytes are never in memory as a whole."""
        async with self._file() as (descriptor, path):
            self._check_size(len(text) // 4 * 3)
            try:
                await _ended(lambda: _decode(text, descriptor))
            except ValueError as error:
                raise GenerationFailed("the provider's video cannot be read", retryable=False) from error
            return path

    async def written(self, content: bytes) -> Path:
        async with self._file() as (descriptor, path):
            self._check_size(len(content))
            await _ended(lambda: _write(content, descriptor))
            return path

    async def downloaded(self, url: str, headers: Headers) -> Path:
        """Follow a few redirects, each to an allowed place only; `Down` and `Busy` mean: ask again later."""
        async with google_call(Call.FREE, timeout_seconds=self._seconds), self._file() as (descriptor, path):
            try:
                await self._download(httpx2.URL(url), headers, descriptor)
            except httpx2.InvalidURL as error:
                raise GenerationFailed("the provider's video has no address", retryable=False) from error
            return path

    async def _download(self, url: httpx2.URL, headers: Headers, descriptor: int) -> None:
        for _ in range(1 + REDIRECTS):
            allowed = headers(url)
            if allowed is None:
                raise GenerationFailed(
                    "the provider's video is in a place that is not its own", retryable=False
                )
            async with self._http.stream("GET", url, headers=allowed) as answer:
                if answer.next_request is not None:
                    url = answer.next_request.url
                    continue
                if answer.status_code != httpx2.codes.OK:
                    raise _refused(answer.status_code)
                self._check_size(int(answer.headers.get("content-length", 0)))
                async for chunk in answer.aiter_raw(CHUNK_BYTES):
                    await _ended(lambda chunk=chunk: _write(chunk, descriptor))  # type: ignore[misc]
                return
        raise GenerationFailed("the provider's video is sent from place to place", retryable=False)

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._largest_bytes:
            raise GenerationFailed("the video is too large", retryable=False)

    @asynccontextmanager
    async def _file(self) -> AsyncIterator[tuple[int, Path]]:
        """A new file, removed again unless all goes well."""
        try:
            # Without waiting: a cancellation must not come between the file and the promise to remove it.
            descriptor, name = tempfile.mkstemp(dir=self._folder, prefix=PREFIX, suffix=".mp4")
        except OSError as error:
            raise _no_room(error) from error
        path = Path(name)
        try:
            yield descriptor, path
        except BaseException:
            _remove(path)
            raise
        finally:
            os.close(descriptor)


def _prepare(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    before = time.time() - FORGOTTEN_AFTER.total_seconds()
    for path in folder.glob(f"{PREFIX}*"):
        # Another process may be removing the same file.
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < before:
                path.unlink()
    with tempfile.NamedTemporaryFile(dir=folder, prefix=PREFIX):
        pass


def _remove(path: Path) -> None:
    """At once, in no thread: nothing may come between a cancellation and this."""
    path.unlink(missing_ok=True)


def _decode(text: str, descriptor: int) -> None:
    """Four characters are three bytes, so a slice of a multiple of four ends where bytes end."""
    size = CHUNK_BYTES * 4
    for start in range(0, len(text), size):
        _write(base64.b64decode(text[start : start + size], validate=True), descriptor)


def _write(content: bytes, descriptor: int) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


async def _ended(work: Callable[[], None]) -> None:
    """Run it in a thread; a cancellation waits for the thread, which writes to a file about to be removed."""
    # No task: those are cancelled when the loop ends, while the thread still has the descriptor.
    future = asyncio.get_running_loop().run_in_executor(None, work)
    is_cancelled = False
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled:
        raise asyncio.CancelledError from future.exception()
    try:
        future.result()
    except OSError as error:
        raise _no_room(error) from error


def _refused(status: int) -> GeneratorError:
    """The operation has ended well and is paid for: whatever may pass is worth asking again."""
    match status:
        case 404 | 410:
            return GenerationFailed("the provider does not keep the video any more", retryable=False)
        case 429:
            return Busy("the provider's quota is used up")
        case _:
            return Down(f"the video cannot be fetched now ({status})")


def _no_room(error: OSError) -> Down:
    return Down(f"the video cannot be kept here: {error.strerror or error}")
