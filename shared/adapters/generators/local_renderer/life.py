"""Whatever moves by itself: birds, and small things in the air."""

import math
import random
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageDraw

from shared.adapters.generators.local_renderer.brush import glow, shape, tint
from shared.adapters.generators.local_renderer.palette import WHITE, Colour, mix
from shared.adapters.generators.local_renderer.scene import Moment, Stage

WING_POSES: Final = 8


@dataclass(frozen=True, slots=True)
class Mote:
    x: float
    y: float
    kind: int
    speed: float
    turn: float


@dataclass(slots=True)
class Motes:
    """Snow, rain, petals or fireflies: sprites that fall, wander, and enter again on the other side."""

    motes: list[Mote]
    sprites: list[Image.Image]
    fall: float
    """Pixels per second at speed 1; negative rises."""
    blow: float
    wander: float
    blink: bool = False

    def paint(self, canvas: Image.Image, moment: Moment) -> None:
        for mote in self.motes:
            turn = mote.turn + moment.seconds * 0.25 * mote.speed
            if self.blink and math.sin(turn * 2 * math.tau) < -0.35:
                continue
            sprite = self.sprites[mote.kind]
            reach_x, reach_y = canvas.width + 2 * sprite.width, canvas.height + 2 * sprite.height
            x = (
                mote.x * reach_x
                + moment.seconds * self.blow * mote.speed
                + math.sin(turn * math.tau) * self.wander
            )
            y = mote.y * reach_y + moment.seconds * self.fall * mote.speed
            canvas.paste(
                sprite, (round(x % reach_x) - sprite.width, round(y % reach_y) - sprite.height), sprite
            )


def _motes(random_: random.Random, count: int, kinds: int) -> list[Mote]:
    return [
        Mote(
            random_.random(),
            random_.random(),
            kind := int(kinds * random_.random() ** 1.8),
            0.6 + 0.5 * kind,
            random_.random(),
        )
        for _ in range(count)
    ]


def snow(stage: Stage) -> Motes:
    sizes = [0.5, 0.8, 1.2, 2.2]
    sprites = [
        tint(glow(round(stage.unit * size) + 2, 0.95, 1.1), WHITE, 0.95 - 0.12 * i)
        for i, size in enumerate(sizes)
    ]
    return Motes(
        _motes(stage.random, 230, 4), sprites, stage.height * 0.05, stage.width * 0.012, stage.unit * 1.5
    )


def rain(stage: Stage) -> Motes:
    sprites = []
    for size in (3.0, 5.0, 8.0):
        high = max(4, round(stage.unit * size))
        wide = max(2, high // 5)
        streak = Image.new("L", (wide * 4, high * 4))
        ImageDraw.Draw(streak).line((wide * 3.4, 0, 0, high * 4), fill=120, width=4)
        sprites.append(tint(streak.reduce(4), mix(stage.palette.light, stage.palette.haze, 0.4)))
    return Motes(_motes(stage.random, 260, 3), sprites, stage.height * 0.9, -stage.width * 0.09, 0)


def fireflies(stage: Stage, colour: Colour | None = None) -> Motes:
    sprites = [
        tint(glow(round(stage.unit * size) + 3, 1, 1.7), colour or (255, 226, 130))
        for size in (1.4, 2.2, 3.4)
    ]
    motes = [
        Mote(mote.x, 0.45 + 0.5 * mote.y, mote.kind, mote.speed, mote.turn)
        for mote in _motes(stage.random, 46, 3)
    ]
    return Motes(motes, sprites, -stage.height * 0.012, stage.width * 0.01, stage.unit * 3, blink=True)


def petals(stage: Stage, colour: Colour) -> Motes:
    sprites = []
    for size in (1.3, 1.9, 2.8):
        side = max(4, round(stage.unit * size))
        for lean in (20, 75, 140):
            leaf = Image.new("L", (side * 4, side * 4))
            ImageDraw.Draw(leaf).ellipse((side * 0.3, side * 1.2, side * 3.7, side * 2.8), fill=230)
            mask = leaf.rotate(lean, Image.Resampling.BILINEAR).reduce(4)
            sprites.append(tint(mask, mix(colour, WHITE, 0.25 + 0.1 * (lean > 70))))
    motes = [
        Mote(m.x, m.y, m.kind, 0.7 + 0.15 * m.kind, m.turn) for m in _motes(stage.random, 70, len(sprites))
    ]
    return Motes(motes, sprites, stage.height * 0.055, stage.width * 0.035, stage.unit * 4)


@dataclass(slots=True)
class Birds:
    """A flock that crosses the sky, wings beating."""

    places: list[tuple[float, float, float]]
    poses: list[Image.Image]
    speed: float

    @classmethod
    def over(cls, stage: Stage, horizon: float) -> "Birds":
        random_ = stage.random
        size = max(9, round(stage.unit * 3.2))
        poses = [
            tint(_bird(size, math.sin(pose / WING_POSES * math.tau)), stage.palette.depth(0.85))
            for pose in range(WING_POSES)
        ]
        lead_x, lead_y = (
            random_.uniform(0.25, 0.7) * stage.width,
            random_.uniform(0.3, 0.55) * horizon * stage.height,
        )
        places = []
        for index in range(random_.randint(5, 8)):
            side = 1 if index % 2 else -1
            row = (index + 1) // 2
            x = lead_x - row * size * random_.uniform(1.1, 1.5)
            places.append((x, lead_y + side * row * size * random_.uniform(0.3, 0.6), random_.random()))
        return cls(places, poses, stage.width * 0.03)

    def paint(self, canvas: Image.Image, moment: Moment) -> None:
        for x, y, turn in self.places:
            pose = int((moment.seconds * 1.4 + turn) * WING_POSES) % WING_POSES
            sprite = self.poses[pose]
            bob = math.sin((moment.seconds * 1.4 + turn) * math.tau) * sprite.height * 0.06
            canvas.paste(sprite, (round(x + moment.seconds * self.speed), round(y + bob)), sprite)


def _bird(size: int, lift: float) -> Image.Image:
    """Two bowed wings; `lift` is -1 with the wings down, 1 with them up."""
    tip = 0.45 - 0.3 * lift

    def draw(pen: ImageDraw.ImageDraw, across: float, down: float) -> None:
        upper, lower = [], []
        for step in range(17):
            x = step / 16
            away = abs(x - 0.5) * 2
            y = 0.5 + (tip - 0.5) * away**1.5 - 0.16 * math.sin(away * math.pi) * (0.6 + 0.4 * lift)
            thick = 0.085 * (1 - away) ** 0.7 + 0.008
            upper.append((x * size * across, (y - thick * 0.5) * size * down))
            lower.append((x * size * across, (y + thick) * size * down))
        pen.polygon([*upper, *reversed(lower)], fill=255)

    return shape((size, size), draw, (4, 4))
