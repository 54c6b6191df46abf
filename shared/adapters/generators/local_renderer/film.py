"""Films a scene: the camera glides past its layers while water, clouds and whatever lives in it move."""

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
from av.video.reformatter import Colorspace
from PIL import Image

from shared.adapters.generators.local_renderer.brush import chance, vignetted
from shared.adapters.generators.local_renderer.compositions import compose
from shared.adapters.generators.local_renderer.palette import PALETTES
from shared.adapters.generators.local_renderer.reading import read
from shared.adapters.generators.local_renderer.scene import FOCUSES, Backdrop, Moment, Stage
from shared.domain.requests import VideoRequest

FRAMES_PER_SECOND: Final = 24
MARGIN: Final = 0.07  # how far the foreground may move to either side, as a share of the width
_BT709: Final = 1  # as numbered by H.264: without it players guess the colours from the size
_LIMITED_RANGE: Final = 1


class Interrupted(Exception):
    """The film was not wanted any more."""


def film_size(request: VideoRequest) -> tuple[int, int]:
    """The asked size, an odd side one pixel shorter: the colour planes of yuv420p have half the size."""
    return max(2, request.width // 2 * 2), max(2, request.height // 2 * 2)


def frames(request: VideoRequest) -> Iterator[Image.Image]:
    """Every frame in turn, always painted on the same canvas."""
    width, height = film_size(request)
    reading = read(request.prompt)
    start = chance("palette", request.prompt).randrange(len(reading.palettes))
    palette = PALETTES[reading.palettes[(start + request.seed) % len(reading.palettes)]]
    random_ = chance("film", request.seed, request.prompt, request.image)
    direction = random_.choice((-1, 1))
    stage = Stage(
        width,
        height,
        palette,
        random_,
        margin=max(2, round(width * MARGIN)),
        focus=random_.choice(FOCUSES),
        phases=2,
    )
    elements = compose(stage, reading)
    # Only what stands still gets its dark corners once and for all: they would cost a fifth of every frame.
    for element in elements:
        if isinstance(element, Backdrop):
            element.image = vignetted(element.image)

    count = request.seconds * FRAMES_PER_SECOND
    canvas = Image.new("RGB", (width, height))
    for index in range(count):
        glide = -math.cos(index / max(1, count - 1) * math.pi)
        moment = Moment(seconds=index / FRAMES_PER_SECOND, pan=direction * glide * 0.9)
        for element in elements:
            element.paint(canvas, moment)
        yield canvas


def encode(request: VideoRequest, path: Path, *, wanted: Callable[[], bool] = lambda: True) -> None:
    """Write the film to `path` as an MP4 that every browser plays; the same request gives the same film.

    Raises Interrupted soon after `wanted` has become false.
    """
    width, height = film_size(request)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as file:
        stream = file.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "superfast", "crf": "23"}
        context = stream.codec_context
        context.thread_count = 1  # several films may be encoded at once
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
        for index, image in enumerate(frames(request)):
            if not wanted():
                raise Interrupted
            frame = av.VideoFrame.from_image(image)  # type: ignore[no-untyped-call]
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
            frame.pts, frame.time_base = index, Fraction(1, FRAMES_PER_SECOND)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
