"""The ground: hills, mountains, dunes and woods, layer upon layer into the haze."""

import math
import random
from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageDraw

from shared.adapters.generators.local_renderer.brush import (
    Point,
    curve,
    gradient,
    noise,
    polygon,
    shape,
    tint,
    within,
)
from shared.adapters.generators.local_renderer.palette import Colour, mix
from shared.adapters.generators.local_renderer.scene import Element, Layer, Stage, layer

RIDGE_POINTS: Final = 256


def rolling(random_: random.Random, waves: float = 2.0) -> list[float]:
    """A gentle line between 0 and 1."""
    parts = [(waves * 1.9**k, random_.random(), 0.55**k) for k in range(4)]
    total = sum(size for _, _, size in parts)
    return [
        0.5
        + sum(size * math.sin((x / RIDGE_POINTS * pace + turn) * math.tau) for pace, turn, size in parts)
        / total
        / 2
        for x in range(RIDGE_POINTS + 1)
    ]


def jagged(random_: random.Random, roughness: float = 0.5) -> list[float]:
    """A mountain ridge between 0 and 1, by displacing midpoints."""
    line = [0.0] * (RIDGE_POINTS + 1)
    for x in range(0, RIDGE_POINTS + 1, RIDGE_POINTS // 4):
        line[x] = random_.random()
    step, reach = RIDGE_POINTS // 4, 0.5
    while step > 1:
        for x in range(step // 2, RIDGE_POINTS, step):
            line[x] = (line[x - step // 2] + line[x + step // 2]) / 2 + random_.uniform(-reach, reach) * 0.6
        step, reach = step // 2, reach * roughness
    low, high = min(line), max(line)
    return [(y - low) / (high - low) for y in line]


def height_at(ridge: Sequence[float], share: float) -> float:
    return ridge[min(RIDGE_POINTS, max(0, round(share * RIDGE_POINTS)))]


def ground(
    stage: Stage,
    ridge: Sequence[float],
    *,
    top: float,
    rise: float,
    near: float,
    colours: Sequence[Colour],
    trees: Sequence[tuple[float, float]] = (),
) -> Layer:
    """Land below a ridge; `top` is its highest possible place and `rise` its relief, shares of the height.

    Each tree is a share of the width and a height in pixels.
    """
    tallest = max((height for _, height in trees), default=0)
    upper = max(0, round(stage.height * top - tallest - 2))
    size = (stage.wide, max(4, stage.height - upper))

    def level(share: float) -> float:
        return stage.height * (top + rise * (1 - height_at(ridge, share))) - upper

    line: list[Point] = [
        (stage.wide * x / RIDGE_POINTS, stage.height * (top + rise * (1 - y)) - upper)
        for x, y in enumerate(ridge)
    ]

    def draw(pen: ImageDraw.ImageDraw, across: float, down: float) -> None:
        points = [*line, (size[0], size[1] + 9), (0, size[1] + 9)]
        pen.polygon([(x * across, y * down) for x, y in points], fill=255)
        for place, height in trees:
            tree = conifer(stage.random, place * size[0], level(place) + height * 0.06, height)
            pen.polygon([(x * across, y * down) for x, y in tree], fill=255)

    mask = shape(size, draw, (2, 3) if trees else (1, 4))
    image = gradient(size, colours)
    image.putalpha(mask)
    return layer(stage, image, top=upper, near=near)


def conifer(random_: random.Random, x: float, base: float, height: float) -> list[Point]:
    tiers = random_.randint(6, 9)
    spread = height * random_.uniform(0.15, 0.21)
    right: list[Point] = [(x, base - height)]
    left: list[Point] = []
    for tier in range(1, tiers + 1):
        share = tier / tiers
        y = base - height * (1 - 0.9 * share)
        for side, points in ((1, right), (-1, left)):
            reach = spread * share**0.85 * random_.uniform(0.82, 1.12)
            points.append((x + side * reach, y))
            points.append((x + side * reach * 0.5, y - height * 0.022))
    trunk = max(0.6, height * 0.018)
    return [
        *right,
        (x + trunk, base - height * 0.1),
        (x + trunk, base),
        (x - trunk, base),
        (x - trunk, base - height * 0.1),
        *reversed(left),
    ]


def misty_ranges(stage: Stage, horizon: float, count: int, relief: float, *, sharp: bool) -> list[Element]:
    """Ranges behind each other, each paler at its foot, where the mist lies."""
    ranges: list[Element] = []
    for index in range(count):
        nearness = (index + 0.25) / (count + 0.6)
        crest = stage.palette.depth(nearness)
        foot = mix(crest, stage.palette.haze, 0.62 * (1 - nearness))
        ridge = jagged(stage.random, 0.52) if sharp else rolling(stage.random, 1 + index * 0.8)
        high = relief * (1 - 0.55 * index / count)
        top = horizon - high * 0.8 + 0.25 * (1 - horizon) * index
        ranges.append(
            ground(
                stage,
                ridge,
                top=top,
                rise=high,
                near=0.1 + 0.5 * nearness,
                colours=(crest, mix(crest, foot, 0.75), foot),
            )
        )
    return ranges


def wood(stage: Stage, top: float, near: float, *, nearness: float, tallest: float, density: float) -> Layer:
    """A row of conifers on a gentle slope."""
    random_ = stage.random
    crest = stage.palette.depth(nearness)
    foot = mix(crest, stage.palette.haze, 0.6 * (1 - nearness) ** 1.2)
    count = max(3, round(stage.wide / (tallest * 0.26) * density))
    trees = [
        ((index + random_.uniform(0.1, 0.9)) / count, tallest * random_.uniform(0.45, 1.0))
        for index in range(count)
    ]
    return ground(
        stage,
        rolling(random_, 1.3),
        top=top,
        rise=0.1,
        near=near,
        colours=(crest, mix(crest, foot, 0.5), foot),
        trees=trees,
    )


def mist(stage: Stage, level: float, near: float, strength: float = 0.5) -> Layer:
    """A bank of fog that lies at a level (a share of the height) and drifts."""
    random_ = stage.random
    wide, high = stage.wide + stage.width // 5, max(6, round(stage.height * 0.3))
    small = (max(8, wide // 3), max(4, high // 3))
    puffs = noise(random_, small, (4, 2), 3).point(curve(lambda grey: (grey - 0.25) * 1.4))
    band = Image.linear_gradient("L").resize(small).point(curve(lambda down: math.sin(down * math.pi) ** 1.5))
    mask = within(puffs, band).resize((wide, high), Image.Resampling.BICUBIC)
    return layer(
        stage,
        tint(mask, mix(stage.palette.haze, stage.palette.light, 0.25), strength),
        left=-stage.margin - stage.width / 10,
        top=stage.height * level - high / 2,
        near=near,
        sway=(stage.width / 14, 0),
        pace=0.05,
        turn=random_.random(),
    )


def dune(stage: Stage, top: float, rise: float, nearness: float) -> Layer:
    """A dune whose crest parts the lit side from the shade."""
    random_ = stage.random
    palette = stage.palette
    upper = max(0, round(stage.height * top))
    size = (stage.wide, max(4, stage.height - upper))
    peak = random_.uniform(0.2, 0.8)
    lean = random_.uniform(0.5, 0.9)
    wave = [(random_.uniform(1.5, 3.5), random_.random())]

    def crest(x: float) -> float:
        """How far below the top, 0 to 1."""
        away = abs(x - peak) / lean
        ripple = sum(
            0.03 * math.sin((x * pace + turn) * math.tau) * min(1.0, away * 3) for pace, turn in wave
        )
        return float(min(1.0, away**1.25 * 0.9 + ripple))

    line = [(size[0] * x / 128, stage.height * rise * crest(x / 128)) for x in range(129)]
    mask = polygon(size, [*line, (size[0], size[1] + 9), (0, size[1] + 9)], (1, 4))
    sand = mix(palette.far, palette.accent, 0.25)
    lit = mix(mix(sand, palette.haze, 0.55), sand, nearness)
    image = gradient(
        size,
        (mix(lit, palette.light, 0.55), mix(lit, palette.light, 0.15), lit, mix(lit, palette.near, 0.35)),
    )
    # The shaded flank: along the crest to the right edge, and back up an S to the peak.
    start = stage.height * rise * crest(peak)
    flank: list[Point] = [(peak * size[0], start), *((x, y) for x, y in line if x > peak * size[0])]
    flank.append((size[0], size[1]))
    bulge = random_.uniform(0.06, 0.1)
    for step in range(40, 0, -1):
        t = step / 40
        sway = bulge * math.sin(t * math.tau * 1.1) * (1 - t * 0.4)
        flank.append((size[0] * (peak + 0.16 * t + sway), start + (size[1] - start) * t * 0.9))
    shade = within(polygon(size, flank), mask)
    dark = mix(mix(palette.far, palette.near, 0.25 + 0.5 * nearness), palette.haze, 0.4 * (1 - nearness))
    image.paste(gradient(size, (dark, mix(dark, lit, 0.3), mix(dark, palette.near, 0.4))), (0, 0), shade)
    image.putalpha(mask)
    return layer(stage, image, top=upper, near=0.15 + 0.7 * nearness)
