"""What the tests of every video provider need: an order for a film, and what became of it."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import certifi
import pytest

from shared.adapters.generators.local_renderer.film import encode
from shared.domain.ids import JobId
from shared.domain.requests import VideoRequest
from shared.ports.generator import Artifact, InputImage, Made, Order, Running

FILM = b"\0\0\0 ftypisom" + bytes(range(256)) * 20


def a_film(*images: InputImage, width: int = 1280, height: int = 720, aspect_ratio: str = "16:9") -> Order:
    request = VideoRequest(
        prompt="a dog in the rain",
        width=width,
        height=height,
        aspect_ratio=aspect_ratio,
        seconds=8,
        seed=7,
    )
    return Order(
        job_id=JobId("job_00000000000000000000000001"), model="video-model", request=request, images=images
    )


def contents(state: Running | Made) -> bytes:
    """Of the one file that was made, which is taken away as a receiver does."""
    assert isinstance(state, Made)
    [item] = state.items
    assert isinstance(item, Artifact)
    assert item.type == "video/mp4"
    assert isinstance(item.content, Path)
    content = item.content.read_bytes()
    item.content.unlink()
    return content


@cache
def a_real_film(width: int = 64, height: int = 48, seconds: int = 1) -> bytes:
    """One that a player plays."""
    request = VideoRequest(prompt="waves", width=width, height=height, seconds=seconds, seed=7)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        encode(request, path)
        return path.read_bytes()


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def put_there(path: Path, *, age_seconds: float) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    os.utime(path, (time.time() - age_seconds,) * 2)


@contextmanager
def few_certificates(folder: Path) -> Iterator[None]:
    """Every client reads all the world's certificates when it is made; one is enough for plain HTTP."""
    end = "-----END CERTIFICATE-----\n"
    first = Path(certifi.where()).read_text().partition(end)[0].partition("-----BEGIN")
    (folder / "one.pem").write_text(f"{first[1]}{first[2]}{end}")
    with pytest.MonkeyPatch.context() as env:
        env.setenv("SSL_CERT_FILE", str(folder / "one.pem"))
        yield
