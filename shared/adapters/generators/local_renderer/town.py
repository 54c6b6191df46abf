"""A city at its hour of lights."""

from typing import Final

from PIL import Image, ImageDraw

from shared.adapters.generators.local_renderer.brush import gradient
from shared.adapters.generators.local_renderer.palette import Colour, mix
from shared.adapters.generators.local_renderer.scene import Element, Stage, layer

ROWS: Final = 4
WINDOW_LIGHTS: Final[tuple[Colour, ...]] = (
    (255, 214, 140),
    (255, 190, 110),
    (255, 240, 205),
    (190, 225, 255),
)


def skyline(stage: Stage, horizon: float) -> list[Element]:
    """Rows of towers that stand on the horizon, the nearer the darker."""
    return [_row(stage, horizon, index) for index in range(ROWS)]


def _row(stage: Stage, horizon: float, index: int) -> Element:
    random_, palette, unit = stage.random, stage.palette, stage.unit
    nearness = (index + 0.4) / ROWS
    base = round(stage.height * horizon)
    wall = mix(palette.depth(nearness), palette.haze, 0.3 * (1 - nearness))
    image = gradient((stage.wide, base), (wall, wall, mix(wall, palette.haze, 0.45 * (1.15 - nearness))))
    mask = Image.new("L", image.size)
    pen, paint = ImageDraw.Draw(mask), ImageDraw.Draw(image, "RGBA")
    tallest = base * (0.78 - 0.12 * index)
    x = -random_.random() * unit * 5
    while x < stage.wide:
        wide = max(2.0, unit * random_.uniform(4.0, 9.5) * (0.75 + 0.3 * nearness))
        # Downtown is in the middle.
        centre = 1 - abs((x + wide / 2) / stage.wide - 0.5) * 1.1
        high = tallest * (0.16 + 0.84 * random_.random() ** 1.9 * centre)
        box = (round(x), round(base - high), round(x + wide), base)
        _tower(pen, random_.randrange(6), box, unit)
        if index > 0 and random_.random() < 0.9:
            _windows(stage, paint, box, nearness)
        x += wide * random_.uniform(0.72, 1.12)
    image.putalpha(mask)
    return layer(stage, image, top=0, near=0.1 + 0.45 * nearness)


def _tower(pen: ImageDraw.ImageDraw, roof: int, box: tuple[int, int, int, int], unit: float) -> None:
    left, top, right, bottom = box
    wide, middle = right - left, (left + right) / 2
    pen.rectangle((left, top, right - 1, bottom), fill=255)
    if roof == 0:  # stepped, with a mast
        pen.rectangle((left + wide * 0.2, top - wide * 0.25, right - wide * 0.2, top), fill=255)
        pen.rectangle((left + wide * 0.36, top - wide * 0.45, right - wide * 0.36, top), fill=255)
        pen.line((middle, top - wide * 1.1, middle, top), fill=255, width=max(1, round(unit * 0.25)))
    elif roof == 1:  # a slanted top
        pen.polygon([(left, top), (right - 1, top - wide * 0.45), (right - 1, top)], fill=255)
    elif roof == 2:  # a spire
        pen.polygon(
            [(left + wide * 0.15, top), (middle, top - wide * 0.9), (right - wide * 0.15, top)], fill=255
        )
    elif roof == 3:  # plant rooms
        pen.rectangle((left + wide * 0.15, top - wide * 0.12, left + wide * 0.5, top), fill=255)


def _windows(
    stage: Stage, paint: ImageDraw.ImageDraw, box: tuple[int, int, int, int], nearness: float
) -> None:
    random_ = stage.random
    left, top, right, bottom = box
    pane = max(1, round(stage.unit * (0.28 + 0.26 * nearness)))
    gap = pane + max(1, round(pane * 0.8))
    light = random_.choice(WINDOW_LIGHTS if random_.random() < 0.8 else (stage.palette.accent,))
    share = random_.uniform(0.12, 0.5) * (1.15 if stage.palette.dark else 0.8)
    columns = range(left + gap // 2 + 1, right - pane - gap // 2, gap)
    for y in range(top + gap, bottom - gap, round(gap * 1.35)):
        lit_floor = random_.random() < 0.06
        for x in columns:
            if lit_floor or random_.random() < share:
                alpha = round((70 + 150 * nearness) * random_.uniform(0.55, 1))
                paint.rectangle((x, y, x + pane - 1, y + round(pane * 1.3) - 1), fill=(*light, alpha))
