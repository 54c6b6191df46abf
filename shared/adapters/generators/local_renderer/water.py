"""Still water: what stands above it, upside down, stirred and darkened, with glints of light."""

import math
import random
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from PIL import Image, ImageDraw

from shared.adapters.generators.local_renderer.brush import curve
from shared.adapters.generators.local_renderer.palette import Colour, mix
from shared.adapters.generators.local_renderer.scene import Moment, Stage

STRIPS: Final = 84


@dataclass(frozen=True, slots=True)
class Glint:
    x: float
    y: int
    length: float
    turn: float


@dataclass(slots=True)
class Water:
    """Mirrors what has been painted above its surface: it comes after the land, before the foreground."""

    surface: int
    """In pixels from the top."""
    depth: int
    body: Image.Image
    """The water's own colour, in RGBA: clear in the distance, deep in front."""
    glints: list[Glint]
    light: Colour
    roughness: float

    @classmethod
    def below(cls, stage: Stage, horizon: float, *, sun: float | None, roughness: float = 1.0) -> "Water":
        surface = min(stage.height - 2, round(stage.height * horizon))
        depth = stage.height - surface
        palette = stage.palette
        deep = mix(palette.near, palette.sky[1], 0.45)
        size = (stage.width, depth)
        body = Image.new("RGBA", size, (*deep, 255))
        body.putalpha(
            Image.linear_gradient("L").resize(size).point(curve(lambda down: 0.16 + 0.62 * down**0.9))
        )
        return cls(surface, depth, body, _glints(stage.random, size, surface, sun), palette.light, roughness)

    def paint(self, canvas: Image.Image, moment: Moment) -> None:
        width = canvas.width
        squash = min(self.surface, round(self.depth * 1.7))
        mirror = canvas.crop((0, self.surface - squash, width, self.surface))
        mirror = mirror.resize((width, self.depth), Image.Resampling.BOX).transpose(
            Image.Transpose.FLIP_TOP_BOTTOM
        )
        canvas.paste(mirror, (0, self.surface))
        edges = [round(self.depth * (strip / STRIPS) ** 1.6) for strip in range(STRIPS + 1)]
        for strip, (upper, lower) in enumerate(pairwise(edges)):
            if lower <= upper:
                continue
            share = strip / STRIPS
            stir = self.roughness * width * (0.0008 + 0.006 * share)
            phase = strip * 0.93 + moment.seconds * 1.7
            shift = round(stir * (math.sin(phase) + 0.6 * math.sin(phase * 0.43 + moment.seconds * 0.9)))
            canvas.paste(mirror.crop((0, upper, width, lower)), (shift, self.surface + upper))
        canvas.paste(self.body, (0, self.surface), self.body)
        pen = ImageDraw.Draw(canvas, "RGBA")
        for glint in self.glints:
            shine = math.sin((moment.seconds * 0.35 + glint.turn) * math.tau)
            if shine > 0:
                half = glint.length * (0.4 + 0.6 * shine)
                thick = 1 if glint.length < width / 40 else 2
                pen.line(
                    (glint.x - half, glint.y, glint.x + half, glint.y),
                    fill=(*self.light, round(150 * shine)),
                    width=thick,
                )


def _glints(random_: random.Random, size: tuple[int, int], surface: int, sun: float | None) -> list[Glint]:
    """Short bright lines: a road of them under the sun, a few elsewhere."""
    width, depth = size
    glints = []
    for index in range(190 if sun is not None else 70):
        share = random_.random() ** 1.4
        if sun is not None and index % 5:
            x = (sun + random_.gauss(0, 0.025 + 0.05 * share)) * width
        else:
            x = random_.random() * width
        length = width * (0.004 + 0.022 * share) * random_.uniform(0.4, 1.2)
        glints.append(Glint(x, surface + 1 + int(share * (depth - 2)), length, random_.random()))
    return glints
