"""Everything above the horizon: the sky itself, stars, sun and moon, clouds, northern lights."""

import math
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from shared.adapters.generators.local_renderer.brush import (
    curve,
    glow,
    gradient,
    grained,
    noise,
    shape,
    tint,
    within,
)
from shared.adapters.generators.local_renderer.palette import WHITE, Colour, mix
from shared.adapters.generators.local_renderer.scene import Backdrop, Element, Layer, Moment, Stage, layer

STAR_AREA_PIXELS: Final = 2_600


def sky(stage: Stage, horizon: float) -> list[Element]:
    """A gradient down to the horizon (a share of the height), with stars if it is dark."""
    depth = max(2, round(stage.height * horizon))
    image = Image.new("RGB", stage.size(), stage.palette.haze)
    image.paste(gradient((stage.width, depth), stage.palette.sky))
    veil = noise(stage.random, stage.size(), (2, 5), 3).point(curve(lambda level: (level - 0.45) * 0.5))
    image.paste(mix(stage.palette.haze, stage.palette.accent, 0.25), (0, 0, *image.size), veil)
    elements: list[Element] = [Backdrop(image)]
    if stage.palette.dark:
        _scatter_stars(stage, image, depth)
        elements.append(Twinkle.over(stage, depth))
    # Grain that stands still costs a film next to nothing and hides the steps of the gradient.
    elements[0] = Backdrop(grained(image, 3))
    return elements


def _scatter_stars(stage: Stage, image: Image.Image, depth: int) -> None:
    random_ = stage.random
    pen = ImageDraw.Draw(image, "RGBA")
    for _ in range(stage.width * depth // STAR_AREA_PIXELS):
        x, y = random_.random() * stage.width, random_.random() ** 1.3 * depth
        alpha = round(40 + 200 * random_.random() ** 4 * (1 - 0.6 * y / depth))
        pen.point((x, y), fill=(*mix(WHITE, stage.palette.light, random_.random()), alpha))
    for _ in range(max(6, stage.width * depth // 60_000)):
        x, y = random_.random() * stage.width, random_.random() ** 1.3 * depth * 0.9
        size = round(stage.unit * random_.uniform(0.5, 1.3)) + 3
        image.paste(WHITE, (round(x) - size // 2, round(y) - size // 2), glow(size, 0.9, 3.2))


@dataclass(slots=True)
class Twinkle:
    """A few stars that come and go."""

    places: list[tuple[int, int, float]]
    sprites: list[Image.Image]

    @classmethod
    def over(cls, stage: Stage, depth: int) -> "Twinkle":
        random_ = stage.random
        size = round(stage.unit) + 4
        places = [
            (round(random_.random() * stage.width), round(random_.random() * depth * 0.8), random_.random())
            for _ in range(28)
        ]
        return cls(places, [tint(glow(size, level / 7, 3), WHITE) for level in range(8)])

    def paint(self, canvas: Image.Image, moment: Moment) -> None:
        for x, y, turn in self.places:
            level = 0.5 + 0.5 * math.sin((moment.seconds * (0.3 + turn * 0.4) + turn) * math.tau)
            sprite = self.sprites[round(level * 7)]
            canvas.paste(sprite, (x - sprite.width // 2, y - sprite.height // 2), sprite)


def disc(
    stage: Stage, x: float, y: float, radius: float, *, moon: bool = False, rise: float = 0
) -> list[Element]:
    """The sun or the moon with its glow; places are shares of the frame, the radius is in pixels."""
    light, palette = stage.palette.light, stage.palette
    wide = max(8, round(radius * 2))
    halo_size = round(wide * (3.6 if moon else 4.4))
    halo = tint(glow(halo_size, 0.6 if moon else 0.75, 2.0), mix(light, palette.haze, 0.25))
    body = shape(
        (wide, wide), lambda pen, a, d: pen.ellipse((2, 2, wide * a - 2, wide * d - 2), fill=255), (4, 4)
    )
    face = gradient((wide, wide), (light, light if moon else mix(light, palette.accent, 0.35)))
    if moon:
        craters = noise(stage.random, (wide, wide), (4, 4), 3).point(curve(lambda level: (level - 0.5) * 0.9))
        face.paste(mix(light, palette.sky[1], 0.3), (0, 0, wide, wide), craters)
    face.putalpha(body)
    left, top = x * stage.width, y * stage.height
    drift = (0.0, -rise * stage.height)
    return [
        layer(stage, image, left=left - image.width / 2, top=top - image.height / 2, near=0.02, drift=drift)
        for image in (halo, face)
    ]


def clouds(stage: Stage, horizon: float, count: int, thickness: float = 0.8) -> list[Element]:
    """Long soft banks, brighter towards the light, that drift with the wind."""
    random_ = stage.random
    wind = random_.choice((-1, 1)) * stage.width * random_.uniform(0.008, 0.016)
    banks: list[Element] = []
    for index in range(count):
        wide = round(stage.width * random_.uniform(0.45, 0.95))
        high = max(4, round(wide * random_.uniform(0.12, 0.22)))
        small = (max(8, wide // 2), max(4, high // 2))
        fluff = noise(random_, small, (5, 3), 4).point(curve(lambda level: (level - 0.42) * 3.2))
        rim = glow(256, 1, 0.9).resize(small)
        mask = within(fluff, rim).resize((wide, high), Image.Resampling.BICUBIC)
        altitude = (index + random_.random()) / count
        colour = mix(
            stage.palette.sky[min(2, len(stage.palette.sky) - 1)], stage.palette.light, 0.25 + 0.55 * altitude
        )
        banks.append(
            layer(
                stage,
                tint(mask, colour, thickness * (0.5 if stage.palette.dark else 0.85)),
                left=random_.uniform(-0.35, 0.85) * stage.width,
                top=(0.06 + 0.72 * altitude) * horizon * stage.height,
                near=0.06 + 0.1 * altitude,
                drift=(wind * (0.6 + altitude), 0),
            )
        )
    return banks


def aurora(stage: Stage, horizon: float) -> list[Element]:
    """Curtains of light that sway over each other."""
    random_ = stage.random
    colours: list[Colour] = [(90, 255, 190), (70, 220, 240), (170, 120, 255), (120, 255, 150)]
    curtains: list[Element] = []
    for index in range(3):
        wide, high = stage.wide // 2 + 40, max(8, round(stage.height * horizon * 0.55))
        # Drawn small and enlarged: light has no sharp edges.
        small_high = max(8, high // 2)
        rays = noise(random_, (wide, 1), (14, 1), 4).resize((wide, small_high))
        fall = (
            Image.linear_gradient("L")
            .resize((wide, small_high))
            .point(curve(lambda down: down**2.2 * (1 if down < 0.9 else (1 - down) * 10)))
        )
        rays = within(rays.point(curve(lambda level: 0.35 + (level - 0.35) * 1.9)), fall)
        curtain = Image.new("L", (wide, small_high * 2))
        waves = [(random_.uniform(0.6, 2.8) / k, random_.random(), 0.24 / k) for k in (1, 2, 3)]
        for x in range(0, wide, 2):
            bend = sum(
                math.sin((x / wide * pace * k + turn) * math.tau) * size
                for k, (pace, turn, size) in enumerate(waves, 1)
            )
            curtain.paste(rays.crop((x, 0, x + 2, small_high)), (x, round(small_high * (0.5 + bend))))
        curtain = curtain.filter(ImageFilter.GaussianBlur(max(1.0, wide / 400)))
        big = curtain.resize((stage.wide + 80, small_high * 4), Image.Resampling.BICUBIC)
        hue = gradient(
            big.size, (mix(colours[(index + 2) % 4], (200, 80, 255), 0.5), colours[index], colours[index])
        )
        hue.putalpha(big)
        curtains.append(
            layer(
                stage,
                hue,
                left=-stage.margin - 40,
                top=stage.height * horizon * (-0.25 + 0.16 * index),
                near=0.04 + 0.03 * index,
                sway=(30, stage.height * 0.012),
                pace=0.09 + 0.03 * index,
                turn=random_.random() / 4,
            )
        )
    return curtains


def light_shafts(stage: Stage, x: float, y: float) -> Layer:
    """Rays that fall between trees from a light at these shares of the frame."""
    random_ = stage.random
    wide, high = max(16, stage.wide // 4), max(16, stage.height // 4)
    mask = Image.new("L", (wide, high))
    source = ((x * stage.width + stage.margin) / 4, y * high)
    for _ in range(9):
        aim, spread = random_.uniform(-0.4, 1.4) * wide, random_.uniform(0.02, 0.07) * wide
        ray = Image.new("L", (wide, high))
        ImageDraw.Draw(ray).polygon(
            [source, (aim - spread, high), (aim + spread, high)], fill=random_.randint(30, 90)
        )
        mask = ImageChops.add(mask, ray)
    fade = Image.linear_gradient("L").resize((wide, high)).point(curve(lambda down: (1 - down) ** 0.8 * 0.75))
    mask = within(mask.filter(ImageFilter.GaussianBlur(max(1.0, wide / 70))), fade)
    big = mask.resize((stage.wide, stage.height), Image.Resampling.BICUBIC)
    return layer(stage, tint(big, stage.palette.light, 0.8), top=0, near=0.15)
