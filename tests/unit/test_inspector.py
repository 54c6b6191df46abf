"""Looking at untrusted bytes: the right facts, a small thumbnail, or `UnreadableMedia`, and nothing else."""

import hashlib
import io
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import av
import pytest
from PIL import Image

from shared.adapters.media.inspector import MAX_PIXELS, THUMBNAIL_PIXELS, PillowInspector
from shared.ports.media import UnreadableMedia


@pytest.fixture
def inspector() -> Iterator[PillowInspector]:
    inspector = PillowInspector()
    yield inspector
    inspector.close()


def picture(
    format_: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (64, 48), **options: Any
) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, format_, **options)
    return out.getvalue()


def film(size: tuple[int, int] = (64, 48), frames: int = 10, codec: str = "mpeg4") -> bytes:
    """Ten frames a second."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            image = Image.new("RGB", size, (number * 20, 99, 9))
            shown = av.VideoFrame.from_image(image)  # type: ignore[no-untyped-call]
            container.mux(stream.encode(shown))
        container.mux(stream.encode(None))
    return out.getvalue()


def sound() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44_100)
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        frame.sample_rate = 44_100
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


def png_that_says(width: int, height: int) -> bytes:
    """A header and next to nothing behind it."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")


PICTURES: Final = {
    "png": (picture("PNG"), "image/png"),
    "png with a palette": (picture("PNG", "P"), "image/png"),
    "png that can be seen through": (picture("PNG", "RGBA"), "image/png"),
    "png of 16 bits": (picture("PNG", "I;16"), "image/png"),
    "png in black and white": (picture("PNG", "1"), "image/png"),
    "jpeg": (picture("JPEG"), "image/jpeg"),
    "progressive jpeg": (picture("JPEG", progressive=True), "image/jpeg"),
    "jpeg in grey": (picture("JPEG", "L"), "image/jpeg"),
    "jpeg for print": (picture("JPEG", "CMYK"), "image/jpeg"),
    "webp": (picture("WEBP"), "image/webp"),
    "webp without loss": (picture("WEBP", "RGBA", lossless=True), "image/webp"),
}


@pytest.mark.parametrize(("content", "type_"), PICTURES.values(), ids=PICTURES.keys())
async def test_a_picture_is_what_it_is_whatever_its_maker_said(
    inspector: PillowInspector, tmp_path: Path, content: bytes, type_: str
) -> None:
    (tmp_path / "picture.txt").write_bytes(content)
    for seen in (await inspector.inspect(content), await inspector.inspect(tmp_path / "picture.txt")):
        assert (seen.type, seen.width, seen.height, seen.seconds) == (type_, 64, 48, None)
        assert (seen.size, seen.sha256) == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
async def test_a_film_has_a_length_and_a_picture_of_itself(
    inspector: PillowInspector, tmp_path: Path, codec: str
) -> None:
    content = film(codec=codec)
    (tmp_path / "film").write_bytes(content)
    for seen in (await inspector.inspect(content), await inspector.inspect(tmp_path / "film")):
        assert (seen.type, seen.width, seen.height, seen.seconds) == ("video/mp4", 64, 48, 1.0)
        assert (seen.size, seen.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert seen.thumbnail is not None


@pytest.mark.parametrize(
    ("size", "shrunk"),
    [((1024, 1024), (480, 480)), ((1344, 768), (480, 274)), ((100, 2000), (24, 480)), ((64, 48), (64, 48))],
)
async def test_a_thumbnail_is_a_small_webp_of_the_same_shape(
    inspector: PillowInspector, size: tuple[int, int], shrunk: tuple[int, int]
) -> None:
    thumbnail = (await inspector.inspect(picture(size=size))).thumbnail
    assert thumbnail is not None
    seen = await inspector.inspect(thumbnail)
    assert (seen.type, seen.width, seen.height) == ("image/webp", *shrunk)
    assert max(seen.width, seen.height) <= THUMBNAIL_PIXELS


async def test_the_thumbnail_of_a_film_is_its_first_picture(inspector: PillowInspector) -> None:
    thumbnail = (await inspector.inspect(film(size=(640, 360)))).thumbnail
    assert thumbnail is not None
    with Image.open(io.BytesIO(thumbnail)) as image:
        assert image.size == (480, 270)
        pixel = image.convert("RGB").getpixel((10, 10))
        assert isinstance(pixel, tuple)
        assert pixel[0] < 20 < pixel[1]


async def test_a_picture_that_can_be_seen_through_has_a_thumbnail_that_can(
    inspector: PillowInspector,
) -> None:
    thumbnail = (await inspector.inspect(picture("PNG", "RGBA"))).thumbnail
    assert thumbnail is not None
    with Image.open(io.BytesIO(thumbnail)) as image:
        assert image.mode == "RGBA"


UNREADABLE: Final = {
    "nothing": b"",
    "one byte": b"\x89",
    "text": b"a picture of a fox",
    "a page": b"<!doctype html><script>alert(1)</script>",
    "an SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "a GIF": picture("GIF"),
    "a BMP": picture("BMP"),
    "a TIFF": picture("TIFF"),
    "an icon": picture("ICO"),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n",
    "a PNG that is cut off": picture("PNG", size=(300, 300))[:-60],
    "a PNG's first bytes": b"\x89PNG\r\n\x1a\n a picture",
    "a JPEG that is cut off": picture("JPEG", size=(300, 300))[:400],
    "a WebP that is cut off": picture("WEBP", size=(300, 300), lossless=True)[:30],
    "a film that is cut off": film()[:500],
    "a film's first bytes": b"\x00\x00\x00\x20ftypisom",
    "a film without its index": film().split(b"moov")[0],
    "a film of nothing": b"\x00\x00\x00\x08ftyp" + bytes(1000),
    "a film in another codec than it says": film(codec="libx264").replace(b"avc1", b"xxxx"),
    "sound without pictures": sound(),
    "a PNG that says it is a little too large": png_that_says(8_000, 7_000),
    "a PNG that says it is far too large": png_that_says(10_000, 10_000),
    "a PNG that says it is absurdly large": png_that_says(65_000, 65_000),
    "a PNG that says it is larger than numbers go": png_that_says(2**31 - 1, 2**31 - 1),
    "a PNG without width": png_that_says(0, 10),
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_what_is_no_whole_picture_or_film_is_unreadable(
    inspector: PillowInspector, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UnreadableMedia):
        await inspector.inspect(content)
    with pytest.raises(UnreadableMedia):
        await inspector.inspect(tmp_path / "file")


async def test_a_file_that_is_not_there_is_unreadable(inspector: PillowInspector, tmp_path: Path) -> None:
    with pytest.raises(UnreadableMedia):
        await inspector.inspect(tmp_path / "missing.png")


def test_the_largest_picture_of_any_model_is_far_from_the_limit() -> None:
    assert MAX_PIXELS > 4 * 4096 * 2048


@pytest.mark.parametrize("seed", range(4))
async def test_damaged_files_are_readable_or_not_and_never_anything_else(
    inspector: PillowInspector, seed: int
) -> None:
    """Decoders raise all kinds of errors; each of them would look like a bug of ours."""
    rng = random.Random(seed)  # noqa: S311 - to be able to repeat it
    wholes = [content for content, _ in PICTURES.values()] + [film()] * 6
    unreadable = 0
    for _ in range(300):
        damaged = bytearray(rng.choice(wholes))
        for _ in range(rng.choice([1, 2, 5, 30])):
            damaged[rng.randrange(len(damaged))] = rng.choice([0, 255, rng.randrange(256)])
        if rng.random() < 0.3:
            del damaged[rng.randrange(len(damaged)) :]
        try:
            await inspector.inspect(bytes(damaged))
        except UnreadableMedia:
            unreadable += 1
    assert 0 < unreadable < 300
