from dataclasses import replace
from pathlib import Path

import av
import pytest
from PIL import Image, ImageChops, ImageStat

from shared.adapters.generators.local_renderer.film import FRAMES_PER_SECOND, Interrupted, encode
from shared.domain.requests import VideoRequest

BOAT = VideoRequest(prompt="a sailing boat at sunset", width=128, height=96, seconds=1, seed=3)


def shot(request: VideoRequest, path: Path) -> list[Image.Image]:
    encode(request, path)
    with av.open(str(path)) as file:
        return [frame.to_image() for frame in file.decode(video=0)]  # type: ignore[no-untyped-call]


def difference(one: Image.Image, other: Image.Image) -> float:
    return max(ImageStat.Stat(ImageChops.difference(one, other)).mean)


@pytest.mark.parametrize("seconds", [1, 2])
def test_a_film_has_the_asked_size_and_length(seconds: int, tmp_path: Path) -> None:
    encode(replace(BOAT, seconds=seconds), tmp_path / "film.mp4")
    with av.open(str(tmp_path / "film.mp4")) as file:
        stream = file.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert (stream.width, stream.height, stream.codec_context.pix_fmt) == (128, 96, "yuv420p")
        assert stream.average_rate == FRAMES_PER_SECOND
        assert file.duration is not None
        assert abs(file.duration / 1_000_000 - seconds) <= 1 / FRAMES_PER_SECOND


def test_a_browser_can_play_it_while_it_loads(tmp_path: Path) -> None:
    encode(BOAT, tmp_path / "film.mp4")
    content = (tmp_path / "film.mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_odd_sides_lose_a_pixel(tmp_path: Path) -> None:
    frames = shot(replace(BOAT, width=101, height=67), tmp_path / "film.mp4")
    assert frames[0].size == (100, 66)


def test_the_same_request_gives_the_same_film(tmp_path: Path) -> None:
    encode(BOAT, tmp_path / "one.mp4")
    encode(BOAT, tmp_path / "two.mp4")
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


@pytest.mark.parametrize("prompt", ["a fox", "the sea", "a forest", "flowers", "a galaxy", "abstract silk"])
def test_things_move(prompt: str, tmp_path: Path) -> None:
    frames = shot(replace(BOAT, prompt=prompt), tmp_path / "film.mp4")
    assert len(frames) == FRAMES_PER_SECOND
    assert difference(frames[0], frames[-1]) > 1


def test_prompt_and_seed_change_the_film(tmp_path: Path) -> None:
    [first, *_] = shot(BOAT, tmp_path / "film.mp4")
    [other_prompt, *_] = shot(replace(BOAT, prompt="a city at night"), tmp_path / "film.mp4")
    [other_seed, *_] = shot(replace(BOAT, seed=4), tmp_path / "film.mp4")
    assert difference(first, other_prompt) > 10
    assert difference(first, other_seed) > 5


def test_a_film_nobody_wants_any_more_is_broken_off(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        encode(BOAT, tmp_path / "film.mp4", wanted=lambda: False)
