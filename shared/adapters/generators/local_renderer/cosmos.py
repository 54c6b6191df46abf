"""Space, and shapes that stand for nothing: what needs no ground to stand on."""

import math

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from shared.adapters.generators.local_renderer.brush import (
    curve,
    faded,
    glow,
    gradient,
    grained,
    noise,
    shape,
    tint,
    within,
)
from shared.adapters.generators.local_renderer.palette import WHITE, Colour, along, mix, rgb
from shared.adapters.generators.local_renderer.scene import Backdrop, Element, Layer, Stage, layer


def nebula(stage: Stage) -> list[Element]:
    """Clouds of glowing gas in two colours along a slanted band."""
    random_, palette = stage.random, stage.palette
    size = (stage.wide // 2 + 8, stage.height // 2 + 8)
    hues = random_.sample([rgb(t) for t in ("ff5f8f", "4fc3ff", "b06bff", "ffb36b", "41e0c0", "ff7a5c")], 3)
    slope, middle, breadth = random_.uniform(-0.5, 0.5), random_.uniform(0.4, 0.6), random_.uniform(0.3, 0.45)
    small_band = Image.new("L", (48, 48))
    small_band.putdata(
        [
            round(255 * math.exp(-(((y / 47 - middle - slope * (x / 47 - 0.5)) / breadth) ** 2)))
            for y in range(48)
            for x in range(48)
        ]
    )
    band = small_band.resize(size, Image.Resampling.BICUBIC)
    clouds: list[Element] = []
    for index, hue in enumerate(hues):
        # The absolute value of noise folds it into filaments.
        gas = noise(random_, size, (4, 4), 6).point(curve(lambda grey: 1 - abs(grey - 0.5) * 7))
        lumps = noise(random_, size, (2, 2), 4).point(curve(lambda grey: (grey - 0.34) * 2.6))
        mask = within(within(gas, lumps), band)
        core = faded(mask.filter(ImageFilter.GaussianBlur(stage.unit * 1.5)), 0.7)
        mask = ImageChops.lighter(mask, core).resize(
            (stage.wide + 16, stage.height + 16), Image.Resampling.BICUBIC
        )
        image = tint(mask, mix(hue, palette.light, 0.12 * index), 0.72)
        clouds.append(
            layer(
                stage,
                image,
                left=-stage.margin - 8,
                top=-8,
                near=0.08 + 0.1 * index,
                sway=(0, stage.height * 0.006),
                turn=random_.random(),
            )
        )
    return clouds


def planet(
    stage: Stage, x: float, y: float, radius: float, *, near: float = 0.4, ringed: bool = False
) -> Layer:
    """A banded planet, lit from one side; places are shares of the frame."""
    random_, palette = stage.random, stage.palette
    wide = max(12, round(radius * 2))
    box = (wide, wide)
    tones = random_.sample([rgb(t) for t in ("f4a26b", "d8637a", "6f7fe0", "58b7b0", "e9c9a0", "9a6ad0")], 2)
    ramp = [
        mix(tones[0], WHITE, 0.35),
        tones[0],
        mix(tones[0], tones[1], 0.5),
        tones[1],
        mix(tones[1], (0, 0, 0), 0.35),
    ]
    bands = noise(random_, box, (1, 9), 3)
    streaks = noise(random_, box, (3, 24), 3).point(lambda level: level * 0.35)
    bands = ImageChops.add(bands, streaks, 1, -45)
    colours = [along(ramp, (level / 255 - 0.2) / 0.6) for level in range(256)]
    surface = Image.merge(
        "RGB", [bands.point([colour[channel] for colour in colours]) for channel in range(3)]
    )
    angle = random_.uniform(-35, 35)
    surface = surface.rotate(angle, Image.Resampling.BICUBIC, fillcolor=ramp[2])
    # The shadow is what a larger soft disc of light, off to the upper left, does not reach.
    lit = glow(round(wide * 2.4), 1, 0.75)
    left, top = round(wide * 0.98), round(wide * 0.9)
    shadow = ImageChops.invert(lit.crop((left, top, left + wide, top + wide)))
    surface.paste(
        mix(palette.near, (0, 0, 0), 0.3), (0, 0, *box), shadow.point(curve(lambda dark: (dark - 0.3) * 2.1))
    )
    mask = shape(box, lambda pen, a, d: pen.ellipse((1, 1, wide * a - 1, wide * d - 1), fill=255), (4, 4))
    reach = round(wide * (2.3 if ringed else 1.35))
    image = Image.new("RGBA", (reach, reach), (*mix(tones[0], palette.light, 0.3), 0))
    corner = (reach - wide) // 2
    image.putalpha(
        glow(round(wide * 1.35), 0.35, 1.6)
        .crop((-((reach - round(wide * 1.35)) // 2),) * 2 + ((reach + round(wide * 1.35)) // 2,) * 2)
        .resize((reach, reach))
    )
    image.alpha_composite(_disc(surface, mask, (reach, reach), corner))
    if ringed:
        _put_ring(image, wide, ramp[0], angle)
    return layer(stage, image, left=x * stage.width - reach / 2, top=y * stage.height - reach / 2, near=near)


def _disc(surface: Image.Image, mask: Image.Image, size: tuple[int, int], corner: int) -> Image.Image:
    disc = Image.new("RGBA", size)
    disc.paste(surface, (corner, corner), mask)
    return disc


def _put_ring(image: Image.Image, wide: int, colour: Colour, angle: float) -> None:
    """Rings around the planet: their far half is hidden behind it."""
    size = image.width
    middle = size / 2
    rings = Image.new("L", (size * 2, size * 2))
    pen = ImageDraw.Draw(rings)
    for share, level in ((1.09, 150), (1.0, 60), (0.96, 190), (0.84, 40), (0.82, 120), (0.7, 0)):
        across, down = wide * share, wide * share * 0.24
        pen.ellipse(
            [(middle - across) * 2, (middle - down) * 2, (middle + across) * 2, (middle + down) * 2],
            fill=level,
        )
    hidden = ImageDraw.Draw(rings)
    hidden.pieslice(
        [(middle - wide / 2) * 2, (middle - wide / 2) * 2, (middle + wide / 2) * 2, (middle + wide / 2) * 2],
        180,
        360,
        fill=0,
    )
    mask = rings.rotate(angle * 0.6 - 12, Image.Resampling.BICUBIC).reduce(2)
    image.alpha_composite(tint(mask, mix(colour, WHITE, 0.3)))


def constellation(stage: Stage) -> Layer:
    """A few bright stars joined by thin lines."""
    random_ = stage.random
    count = random_.randint(5, 8)
    x, y = random_.uniform(0.1, 0.5), random_.uniform(0.12, 0.4)
    points = []
    for _ in range(count):
        points.append((x * stage.width, y * stage.height))
        x, y = x + random_.uniform(0.04, 0.1), min(0.62, max(0.06, y + random_.uniform(-0.12, 0.12)))
    mask = shape(
        stage.size(),
        lambda pen, a, d: pen.line([(px * a, py * d) for px, py in points], fill=90, width=2),
        (2, 2),
    )
    image = tint(mask, stage.palette.light)
    for px, py in points:
        size = round(stage.unit * random_.uniform(2, 3.6)) + 3
        star = tint(glow(size, 1, 2.6), WHITE)
        image.alpha_composite(star, (max(0, round(px - size / 2)), max(0, round(py - size / 2))))
    return layer(stage, image, left=0, top=0, near=0.12)


def silk(stage: Stage) -> list[Element]:
    """Ribbons of light: hundreds of fine lines between two curves."""
    random_, palette = stage.random, stage.palette
    image = gradient(
        stage.size(),
        (
            mix(palette.sky[0], palette.near, 0.5),
            palette.sky[0],
            palette.sky[1],
            mix(palette.sky[1], palette.near, 0.4),
        ),
    )
    elements: list[Element] = [Backdrop(grained(image, 3))]
    for _ in range(2):
        size = round(max(stage.width, stage.height) * random_.uniform(0.7, 1.1))
        mask = glow(size, 0.4, 1.6)
        colour = mix(random_.choice(palette.sky[2:]), palette.accent, random_.random() * 0.4)
        elements.append(
            layer(
                stage,
                tint(mask, colour),
                left=random_.uniform(-0.3, 0.6) * stage.width,
                top=random_.uniform(-0.4, 0.4) * stage.height,
                near=0.05,
            )
        )
    hues = [palette.accent, *palette.sky[2:], palette.light]
    for index in range(4):
        first, second = random_.choice(hues), random_.choice(hues)
        elements.append(_ribbon(stage, index, first, second))
    return elements


def _ribbon(stage: Stage, index: int, first: Colour, second: Colour) -> Layer:
    random_ = stage.random
    level = random_.uniform(0.25, 0.75)

    def waves(reach: float) -> list[tuple[float, float, float]]:
        return [(random_.uniform(0.35, 0.9) * k, random_.random(), reach / k**1.2) for k in (1, 2, 3)]

    here, there = waves(0.2), waves(0.3)
    lines, steps = 110, 72
    size = (stage.wide + 40, stage.height)

    def height(parts: list[tuple[float, float, float]], x: float) -> float:
        return level + sum(reach * math.sin((x * pace + turn) * math.tau) for pace, turn, reach in parts)

    upper = [height(here, s / steps) * size[1] for s in range(steps + 1)]
    lower = [height(there, s / steps) * size[1] for s in range(steps + 1)]
    # Lines that overlap add up, which is what makes it look like cloth.
    mask = Image.new("L", (size[0] * 2, size[1] * 2))
    web = Image.new("L", mask.size)
    pen, fine = ImageDraw.Draw(mask), ImageDraw.Draw(web)
    for number in range(lines - 1):
        t, after = number / lines, (number + 1) / lines
        one = [(s / steps * size[0] * 2, (upper[s] * (1 - t) + lower[s] * t) * 2) for s in range(steps + 1)]
        two = [
            (s / steps * size[0] * 2, (upper[s] * (1 - after) + lower[s] * after) * 2)
            for s in range(steps + 1)
        ]
        pen.polygon([*one, *reversed(two)], fill=round(30 + 190 * math.sin(t * math.pi / 2) ** 3))
        fine.line(one, fill=round(60 + 150 * t), width=1)
    mask = ImageChops.add(faded(mask.reduce(2), 0.6), faded(web.reduce(2), 0.7))
    across = Image.linear_gradient("L").rotate(90).resize(size)
    image = Image.composite(Image.new("RGB", size, first), Image.new("RGB", size, second), across)
    image.putalpha(mask)
    return layer(
        stage,
        image,
        left=-stage.margin - 20,
        top=0,
        near=0.2 + 0.25 * index,
        sway=(14, stage.height * 0.02),
        pace=0.1 + 0.03 * index,
        turn=0.25 * index,
    )
