"""Looking at media with Pillow and PyAV: what it really is, how large, and a thumbnail."""

import asyncio
import hashlib
import io
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import av
from PIL import Image

from shared.ports.media import Inspection, UnreadableMedia

THUMBNAIL_PIXELS: Final = 480
"""The longer side."""
MAX_PIXELS: Final = 50_000_000
"""More than any model makes; decoding takes four bytes each."""

_IMAGE_TYPES: Final = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_SNIFFED_BYTES: Final = 12
_CHUNK_BYTES: Final = 1 << 20


class PillowInspector:
    """Decodes on threads of its own, as many as there are cores to use."""

    def __init__(self, threads: int = 2) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="inspector")

    async def inspect(self, content: bytes | Path) -> Inspection:
        return await asyncio.get_running_loop().run_in_executor(self._threads, _inspect, content)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)


def _inspect(content: bytes | Path) -> Inspection:
    try:
        with _opened(content) as file:
            start = file.read(_SNIFFED_BYTES)
            file.seek(0)
            size, sha256 = _measure(file)
            look = _look_at_film if start[4:8] == b"ftyp" else _look_at_picture
            return look(file, size, sha256)
    except UnreadableMedia:
        raise
    except Exception as error:  # decoders raise all kinds of errors about damaged files
        raise UnreadableMedia(f"{type(error).__name__}: {error}") from error


_Look = Callable[[IO[bytes], int, str], Inspection]


def _look_at_picture(file: IO[bytes], size: int, sha256: str) -> Inspection:
    with Image.open(file, formats=list(_IMAGE_TYPES)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise UnreadableMedia(f"{image.width}x{image.height} is more than {MAX_PIXELS} pixels")
        type_ = _IMAGE_TYPES[image.format or ""]
        width, height = image.size
        return Inspection(
            type=type_, size=size, sha256=sha256, width=width, height=height, thumbnail=_thumbnail(image)
        )


def _look_at_film(file: IO[bytes], size: int, sha256: str) -> Inspection:
    with av.open(file, mode="r", format="mp4") as container:
        if not container.streams.video:
            raise UnreadableMedia("the file has no video in it")
        stream = container.streams.video[0]
        if stream.width * stream.height > MAX_PIXELS:
            raise UnreadableMedia(f"{stream.width}x{stream.height} is more than {MAX_PIXELS} pixels")
        frame = next(container.decode(stream), None)
        if frame is None:
            raise UnreadableMedia("the video has no frames")
        return Inspection(
            type="video/mp4",
            size=size,
            sha256=sha256,
            width=frame.width,
            height=frame.height,
            seconds=round(container.duration / av.time_base, 3) if container.duration else None,
            thumbnail=_thumbnail(frame.to_image()),  # type: ignore[no-untyped-call]
        )


def _thumbnail(image: Image.Image) -> bytes:
    small = image.convert("RGB") if image.mode not in ("RGB", "RGBA") else image.copy()
    small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    out = io.BytesIO()
    small.save(out, "WEBP", quality=80, method=3)
    return out.getvalue()


def _measure(file: IO[bytes]) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while part := file.read(_CHUNK_BYTES):
        digest.update(part)
        size += len(part)
    file.seek(0)
    return size, digest.hexdigest()


@contextmanager
def _opened(content: bytes | Path) -> Iterator[IO[bytes]]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        if isinstance(content, bytes):
            yield io.BytesIO(content)
        else:
            with content.open("rb") as file:
                yield file
