"""Draws one picture: a pure function of what was asked for."""

import io
from typing import Final

from PIL import Image

from shared.adapters.generators.local_renderer.brush import chance, grained, vignetted
from shared.adapters.generators.local_renderer.compositions import compose
from shared.adapters.generators.local_renderer.finish import TECHNIQUES, technique_for
from shared.adapters.generators.local_renderer.palette import PALETTES
from shared.adapters.generators.local_renderer.reading import read
from shared.adapters.generators.local_renderer.scene import FOCUSES, Moment, Stage
from shared.domain.requests import ImageRequest

# Grain hardly compresses: higher levels take five times as long and save a tenth.
PNG_COMPRESSION: Final = 1
GRAIN: Final = 3
UNGRAINED: Final = {"pixel", "poster"}


def draw(request: ImageRequest, variation: int = 0) -> Image.Image:
    """The picture for `seed + variation`, in RGB."""
    seed = request.seed + variation
    wishes = (request.prompt, request.negative_prompt, request.style, request.style_prompt, request.brand_id)
    reading = read(request.prompt, request.negative_prompt or "")
    random_ = chance("picture", seed, *wishes)
    # Neighbouring seeds, as in one order of several pictures, take different palettes.
    start = chance("palette", request.prompt).randrange(len(reading.palettes))
    palette = PALETTES[reading.palettes[(start + seed) % len(reading.palettes)]]
    if request.brand_id:
        ink = chance("brand", request.brand_id)
        palette = palette.tinted((ink.randrange(256), ink.randrange(256), ink.randrange(256)), 0.18)
    stage = Stage(request.width, request.height, palette, random_, focus=random_.choice(FOCUSES))

    canvas = Image.new("RGB", stage.size())
    for element in compose(stage, reading):
        element.paint(canvas, Moment())
    technique = technique_for(request.style, request.style_prompt)
    if technique:
        canvas = TECHNIQUES[technique](canvas, palette, stage.unit)
    if technique not in UNGRAINED:
        canvas = grained(canvas, GRAIN)
    return canvas if technique in {"watercolour", "sketch", "pixel", "poster"} else vignetted(canvas)


def draw_png(request: ImageRequest, variation: int = 0) -> bytes:
    file = io.BytesIO()
    draw(request, variation).save(file, "PNG", compress_level=PNG_COMPRESSION)
    return file.getvalue()
