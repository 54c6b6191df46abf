"""A meadow seen from among its flowers."""

import math
import random
from typing import Final

from PIL import Image, ImageDraw, ImageFilter

from shared.adapters.generators.local_renderer.brush import glow, shape, tint
from shared.adapters.generators.local_renderer.palette import WHITE, Colour, mix, rgb
from shared.adapters.generators.local_renderer.scene import Element, Stage, layer

MEADOW_GREEN: Final = rgb("4d8a4a")
BLOOM_COLOURS: Final = tuple(
    rgb(text) for text in ("ef5a6f", "f7a23b", "f4d35e", "b97ad8", "fff4ec", "f28fb0", "6f8fe0", "e8483f")
)


def flower(random_: random.Random, height: int, colour: Colour, stem: Colour) -> Image.Image:
    """One flower on its stem, in RGBA, rooted in the middle of its lower edge."""
    wide = max(10, round(height * 0.62))
    size = (wide, height)
    head_x, head_y, radius = (
        wide / 2 + random_.uniform(-0.08, 0.08) * wide,
        wide * 0.42,
        wide * random_.uniform(0.27, 0.36),
    )
    bend = random_.uniform(-0.12, 0.12) * wide

    def draw_stem(pen: ImageDraw.ImageDraw, across: float, down: float) -> None:
        points = []
        for step in range(13):
            t = step / 12
            points.append(
                (
                    (head_x + (wide / 2 - head_x) * t + bend * math.sin(t * math.pi)) * across,
                    (head_y + (height - head_y) * t) * down,
                )
            )
        pen.line(points, fill=255, width=max(2, round(wide * 0.035 * across)), joint="curve")
        for side in (-1, 1):
            y = height * random_.uniform(0.58, 0.82)
            tip = (wide / 2 + side * wide * 0.34, y - height * 0.14)
            leaf = [
                (wide / 2, y),
                (wide / 2 + side * wide * 0.14, y - height * 0.1),
                tip,
                (wide / 2 + side * wide * 0.2, y - height * 0.03),
            ]
            pen.polygon([(x * across, v * down) for x, v in leaf], fill=255)

    image = tint(shape(size, draw_stem, (3, 3)), stem)
    petals = random_.choice((5, 6, 8, 12))
    turn = random_.random()
    tilt = random_.uniform(0.72, 1.0)
    for ring, (share, shade) in enumerate(
        ((1.0, mix(colour, stem, 0.22)), (0.86, colour), (0.6, mix(colour, WHITE, 0.28)))
    ):

        def draw_ring(
            pen: ImageDraw.ImageDraw, across: float, down: float, ring: int = ring, share: float = share
        ) -> None:
            for index in range(petals):
                angle = (index / petals + turn + ring * 0.5 / petals) * math.tau
                outline = []
                for step in range(17):
                    t = step / 16 * math.tau
                    along_ = radius * share * (0.5 + 0.5 * math.cos(t))
                    side = (
                        radius * share * math.sin(t) * (2.0 / petals + 0.06) * (0.55 + 0.45 * along_ / radius)
                    )
                    x = along_ * math.cos(angle) - side * math.sin(angle)
                    y = along_ * math.sin(angle) + side * math.cos(angle)
                    outline.append(((head_x + x) * across, (head_y + y * tilt) * down))
                pen.polygon(outline, fill=255)

        mask = shape(size, draw_ring, (3, 3))
        image.paste(shade, (0, 0, *size), mask)
        alpha = image.getchannel("A")
        alpha.paste(255, (0, 0, *size), mask)
        image.putalpha(alpha)
    heart = radius * 0.24

    def draw_heart(pen: ImageDraw.ImageDraw, across: float, down: float) -> None:
        pen.ellipse(
            (
                (head_x - heart) * across,
                (head_y - heart * tilt) * down,
                (head_x + heart) * across,
                (head_y + heart * tilt) * down,
            ),
            fill=255,
        )

    image.paste(
        mix(rgb("5a3418"), rgb("f2b134"), random_.choice((0.1, 0.9))),
        (0, 0, *size),
        shape(size, draw_heart, (3, 3)),
    )
    return image


def meadow(stage: Stage) -> list[Element]:
    """Three rows of flowers, each swaying by itself, and two out of focus right before us."""
    random_, palette = stage.random, stage.palette
    colours = [*random_.sample(BLOOM_COLOURS, 3), palette.accent]
    rows: list[Element] = []
    for nearness, count, share, foot in ((0.2, 46, 0.16, 0.9), (0.5, 24, 0.3, 1.02), (0.85, 11, 0.52, 1.12)):
        stem = mix(
            mix(palette.depth(0.5 + 0.3 * nearness), MEADOW_GREEN, 0.6),
            palette.haze,
            0.35 * (0.85 - nearness),
        )
        tallest = stage.unit * 100 * share
        kinds = [
            flower(
                random_,
                max(12, round(tallest * random_.uniform(0.6, 1.0))),
                mix(colour, palette.haze, 0.35 * (0.85 - nearness)),
                stem,
            )
            for colour in colours * 2
        ]
        rows.append(_grass(stage, stage.height * foot - tallest * 0.5, nearness, stem, tallest * 0.3))
        for index in range(count):
            kind = random_.choice(kinds)
            x = (
                (index + random_.random()) / count * (stage.wide + tallest * 0.4)
                - stage.margin
                - tallest * 0.4
            )
            rows.append(
                layer(
                    stage,
                    kind,
                    left=x,
                    top=stage.height * foot - kind.height + random_.uniform(-0.05, 0.12) * tallest,
                    near=0.3 + 0.7 * nearness,
                    sway=(tallest * 0.015, 0),
                    pace=random_.uniform(0.2, 0.35),
                    turn=random_.random(),
                )
            )
    for left, colour in ((-0.1, colours[0]), (0.84, colours[1])):
        kind = flower(random_, max(12, round(stage.unit * 66)), colour, mix(palette.near, MEADOW_GREEN, 0.5))
        soft = kind.filter(ImageFilter.GaussianBlur(stage.unit * 0.9))
        x = stage.width * (left + random_.uniform(-0.04, 0.04))
        top = stage.height - kind.height * 0.72
        rows.append(layer(stage, soft, left=x, top=top, near=1, sway=(stage.unit, 0), turn=random_.random()))
    return rows


def _grass(stage: Stage, top: float, nearness: float, colour: Colour, tall: float) -> Element:
    random_ = stage.random
    upper = max(0, min(stage.height - 4, round(top - tall)))
    size = (stage.wide, stage.height - upper)

    def draw(pen: ImageDraw.ImageDraw, across: float, down: float) -> None:
        soil = min(tall * 1.1, size[1])
        pen.rectangle((0, soil * down, size[0] * across, size[1] * down), fill=255)
        for _ in range(round(size[0] / max(1.0, tall * 0.045))):
            x, high = random_.random() * size[0], tall * random_.uniform(0.4, 1.1)
            lean, half = random_.uniform(-0.35, 0.35) * high, tall * 0.018 + 0.4
            foot = tall * 1.15
            blade = [
                (x - half, foot),
                (x + lean * 0.4 - half * 0.6, foot - high * 0.6),
                (x + lean, foot - high),
                (x + lean * 0.4 + half * 0.6, foot - high * 0.6),
                (x + half, foot),
            ]
            pen.polygon([(a * across, b * down) for a, b in blade], fill=255)

    image = tint(shape(size, draw, (2, 2)), mix(colour, stage.palette.near, 0.25))
    return layer(stage, image, top=upper, near=0.25 + 0.7 * nearness)


def bokeh(stage: Stage) -> list[Element]:
    """Discs of unfocused light."""
    random_ = stage.random
    lights: list[Element] = []
    for _ in range(14):
        size = round(stage.unit * random_.uniform(4, 13))
        mask = glow(size, random_.uniform(0.12, 0.3), 0.35)
        colour = mix(stage.palette.light, stage.palette.accent, random_.random() * 0.5)
        lights.append(
            layer(
                stage,
                tint(mask, colour),
                left=random_.random() * stage.width,
                top=random_.random() * stage.height * 0.7,
                near=random_.random() * 0.3,
                sway=(0, stage.unit),
                turn=random_.random(),
            )
        )
    return lights
