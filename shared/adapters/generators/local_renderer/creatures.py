"""Animals that sit and look at us, drawn from curves: each is a right half, mirrored, and a tail.

The unit is about a hundredth of the animal's height; y grows downwards, the feet stand at y = 76.
"""

from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from shared.adapters.generators.local_renderer.brush import Point, gradient, tint
from shared.adapters.generators.local_renderer.palette import Colour, Palette, brightness, mix, rgb

GROUND: Final = 76
_LEFT, _TOP, _RIGHT = -46, -62, 66
_CURVE_STEPS: Final = 14

BODY: Final = "M 0 8 C 11 11 15 19 16 30 C 18 40 28 50 28 63 C 28 72 22 76 13 76 L 0 76"
CHEST: Final = "M 0 14 C 11 17 15 24 13 33 C 11 43 5 48 0 55"
LEG: Final = "M 1.2 46 C 8 48 10 58 9.8 70 C 10 76 10 76 5.5 76 C 1 76 1 76 1.2 70 Z"
PAW: Final = "M 1.2 64 C 4 62 7 62 10 64 L 9.9 70 C 10 76 10 76 5.5 76 C 1 76 1 76 1.2 70 Z"
HAUNCH: Final = "M 13 76 C 9 66 14 54 23 52 C 27 57 28 60 28 64 C 28 72 22 76 13 76 Z"

POINTED_HEAD: Final = (
    "M 0 -13 C 3 -14 6 -15 8 -17 C 10 -25 14 -33 19 -38 C 22 -29 22.5 -20 21 -10"
    " C 22 -5 26 0 30 5 C 23 8 15 13 9.5 18 C 6 22 3 24 0 24"
)
ROUND_HEAD: Final = "M 0 -15 C 14 -16 25 -9 25 3 C 25 14 15 21 0 21"
CAT_HEAD: Final = (
    "M 0 -13 C 3 -14 7 -14 9 -15 C 12 -21 16 -27 21 -31 C 24 -23 25 -14 24 -6"
    " C 27 0 27 6 24 11 C 19 18 10 21 0 21"
)
POINTED_CHEEK: Final = "M 30 5 C 23 8 15 13 9.5 18 C 6 22 3 24 0 24 C 1 17 2.5 11 6 7 C 12 2 21 2 30 5 Z"
MUZZLE: Final = "M 0 6 C 6 6 11 9 11 14 C 11 19 6 21 0 21"
BLAZE: Final = "M 0 -15 C 3 -14 4 -8 4 0 C 5 5 11 8 11 14 C 11 19 6 21 0 21"
POINTED_EAR: Final = (
    "M 11.5 -17 C 13 -24 15.5 -29 18.4 -32.5 C 20 -26 20 -20 19 -13 C 17 -15.5 14 -17 11.5 -17 Z"
)
CAT_EAR: Final = (
    "M 12.5 -15 C 14.5 -19.5 17 -23.5 20 -26 C 21.7 -20 22 -15 21.5 -10 C 19 -13 16 -14.5 12.5 -15 Z"
)
FLOPPY_EAR: Final = (
    "M 13 -14 C 22 -18 30 -10 31 2 C 32 11 29 17 25 17 C 20 16 20 6 18 -1 C 16 -6 14 -9 13 -14 Z"
)
LONG_EAR: Final = "M 4 -11 C 2 -30 5 -52 12 -56 C 19 -52 19 -28 15 -9 C 11 -12 8 -12 4 -11 Z"
LONG_EAR_INSIDE: Final = "M 8 -14 C 7 -30 9 -45 12 -49 C 15.5 -44 15 -28 12.5 -13 Z"
BEAR_EAR: Final = "M 12 -12 C 12 -20 18 -24 23 -21 C 28 -18 28 -10 23 -5 Z"
BEAR_EAR_INSIDE: Final = "M 16 -11 C 16 -16 19 -18.5 22 -17 C 25 -15 25 -10 22 -7 Z"

BUSHY_TAIL: Final = (
    "M 16 75 C 34 80 56 70 59 50 C 61 36 55 25 45 17 C 47 28 45 36 39 43 C 31 51 22 58 16 75 Z",
    "M 45 17 C 55 25 61 36 59 48 C 55 43 51 46 49 40 C 46 43 44 39 42 39 C 46 33 46.5 27 45 17 Z",
)
THIN_TAIL: Final = (
    (
        "M 16 66 C 34 72 45 68 45 56 C 45 46 39 40 42 29 C 44 20 54 20 54 28 C 53 25 49 25 48.5 30"
        " C 47 39 52 46 52 57 C 52 76 34 80 16 76 Z"
    ),
    "M 42 29 C 44 20 54 20 54 28 C 53 25 49 25 48.5 30 C 48.2 32 48 34 49 36 L 41 36 C 41 34 41 31 42 29 Z",
)
SHORT_TAIL: Final = ("M 18 68 C 32 72 42 66 44 53 C 47 57 50 71 38 76 C 32 78 26 76 18 76 Z", "")
PUFF_TAIL: Final = ("M 24 75 C 22 64 32 58 38 63 C 44 68 40 78 30 77 Z", "")
NO_TAIL: Final = ("", "")


@dataclass(frozen=True, slots=True)
class Creature:
    fur: str
    pale: str
    """Chest, cheeks, the tip of the tail."""
    deep: str
    """Inside the ears, and the paws."""
    head: str
    face: str
    ear: str
    tail: tuple[str, str]
    flap: str = ""
    """An ear beside the head rather than part of it."""
    eye: tuple[float, float] = (10.5, 0.5)
    nose: tuple[float, float, float] = (22.0, 3.1, 2.5)
    """Height on the face, half its width and half its height."""
    paws: bool = True


CREATURES: Final = {
    "fox": Creature("e8702a", "fff1de", "3a1f1c", POINTED_HEAD, POINTED_CHEEK, POINTED_EAR, BUSHY_TAIL),
    "wolf": Creature("7d8797", "eef1f4", "2c313c", POINTED_HEAD, POINTED_CHEEK, POINTED_EAR, BUSHY_TAIL),
    "cat": Creature(
        "4b4458", "e9dfe6", "e59a9f", CAT_HEAD, MUZZLE, CAT_EAR, THIN_TAIL, nose=(9.5, 2.3, 1.7), paws=False
    ),
    "dog": Creature(
        "c98a4b",
        "fff4e2",
        "7a4a26",
        ROUND_HEAD,
        BLAZE,
        "",
        SHORT_TAIL,
        flap=FLOPPY_EAR,
        nose=(9, 3.6, 2.6),
        paws=False,
    ),
    "rabbit": Creature(
        "cfc3b8",
        "fffaf3",
        "eab0ac",
        ROUND_HEAD,
        MUZZLE,
        LONG_EAR_INSIDE,
        PUFF_TAIL,
        LONG_EAR,
        nose=(9, 2.2, 1.6),
        paws=False,
    ),
    "bear": Creature(
        "7a5238",
        "e0bf98",
        "3d281d",
        ROUND_HEAD,
        MUZZLE,
        BEAR_EAR_INSIDE,
        NO_TAIL,
        BEAR_EAR,
        nose=(9.5, 3.8, 2.7),
    ),
    "panda": Creature(
        "f3efe8", "fffdf8", "27242c", ROUND_HEAD, MUZZLE, "", NO_TAIL, BEAR_EAR, nose=(9.5, 3, 2.2)
    ),
}


def outline(path: str) -> list[Point]:
    """The points along a path of M, L, C and Z, in absolute coordinates as in SVG."""
    points: list[Point] = []
    words = iter(path.split())
    for word in words:
        if word in "ML":
            points.append((float(next(words)), float(next(words))))
        elif word == "C":
            start = points[-1]
            one, two, end = ((float(next(words)), float(next(words))) for _ in range(3))
            for step in range(1, _CURVE_STEPS + 1):
                t = step / _CURVE_STEPS
                weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
                corners = (start, one, two, end)
                points.append(
                    (
                        sum(w * p[0] for w, p in zip(weights, corners, strict=True)),
                        sum(w * p[1] for w, p in zip(weights, corners, strict=True)),
                    )
                )
    return points


def mirrored(path: str) -> list[Point]:
    half = outline(path)
    return half + [(-x, y) for x, y in reversed(half)]


def both(path: str) -> list[list[Point]]:
    """The path on the right, and its twin on the left."""
    right = outline(path)
    return [right, [(-x, y) for x, y in right]] if right else []


class _Sheet:
    """A drawing surface in the animal's own units, four times finer than the result."""

    def __init__(self, height: int) -> None:
        self.scale = 4 * height / (GROUND - _TOP)
        self.size = (round((_RIGHT - _LEFT) * self.scale / 4) * 4, height * 4)

    def mask(self, *outlines: list[Point]) -> Image.Image:
        large = Image.new("L", self.size)
        pen = ImageDraw.Draw(large)
        for points in outlines:
            if points:
                pen.polygon(
                    [((x - _LEFT) * self.scale, (y - _TOP) * self.scale) for x, y in points], fill=255
                )
        return large.reduce(4)

    def oval(self, x: float, y: float, wide: float, high: float) -> Image.Image:
        large = Image.new("L", self.size)
        pen = ImageDraw.Draw(large)
        for side in (x, -x):
            box = [(side - wide - _LEFT, y - high - _TOP), (side + wide - _LEFT, y + high - _TOP)]
            pen.ellipse([(a * self.scale, b * self.scale) for a, b in box], fill=255)
        return large.reduce(4)


def creature(name: str, height: int, palette: Palette) -> tuple[Image.Image, float]:
    """The animal in RGBA, feet at the bottom edge, and how far its middle is from its left edge."""
    kind = CREATURES[name]
    sheet = _Sheet(max(16, height))
    shade = 0.42 if palette.dark else 0.16
    fur, pale, deep = (mix(rgb(text), palette.near, shade) for text in (kind.fur, kind.pale, kind.deep))
    dark = mix((24, 16, 22), palette.near, 0.3)

    body, chest = sheet.mask(mirrored(BODY)), sheet.mask(mirrored(CHEST))
    flaps = sheet.mask(*both(kind.flap))
    tail, tip = (sheet.mask(outline(path)) for path in kind.tail)
    head = sheet.mask(mirrored(kind.head))
    whole = ImageChops.lighter(ImageChops.lighter(body, tail), ImageChops.lighter(head, flaps))

    drawing = Image.new("RGB", whole.size, fur)

    def part(mask: Image.Image, top: Colour, bottom: Colour | None = None) -> None:
        drawing.paste(gradient(mask.size, (top, bottom or top)), (0, 0), mask)

    panda = name == "panda"
    part(tail, fur, mix(fur, dark, 0.35))
    part(tip, pale)
    part(body, deep if panda else fur, mix(deep if panda else fur, dark, 0.28))
    thigh = deep if panda else fur
    part(sheet.mask(*both(HAUNCH)), mix(thigh, pale, 0.06), mix(thigh, dark, 0.2))
    part(sheet.mask(*both(LEG)), deep if panda else mix(fur, pale, 0.12), fur if not panda else deep)
    part(chest, pale, mix(pale, fur, 0.35))
    if kind.paws:
        part(sheet.mask(*both(PAW)), deep)
    _shadow_under_head(drawing, head, body, dark)
    part(flaps, deep if name in {"dog", "panda"} else mix(fur, dark, 0.08))
    part(head, mix(fur, pale, 0.1), fur)
    if name == "dog":
        part(flaps, mix(fur, deep, 0.75))
    part(sheet.mask(*both(kind.ear)), deep)
    face = both(kind.face) if kind.face == POINTED_CHEEK else [mirrored(kind.face)]
    part(sheet.mask(*face), pale)
    if panda:
        part(sheet.oval(10.5, 0.5, 6, 7), deep)
    _eyes_and_nose(drawing, sheet, kind, dark)
    _rim_light(drawing, whole, palette)
    drawing.putalpha(whole)
    return drawing, -_LEFT * sheet.scale / 4


def _shadow_under_head(drawing: Image.Image, head: Image.Image, body: Image.Image, dark: Colour) -> None:
    drop = ImageChops.offset(head, 0, max(1, head.height // 28)).filter(
        ImageFilter.GaussianBlur(head.height / 60)
    )
    drawing.paste(
        tint(drop, dark).convert("RGB"), (0, 0), ImageChops.multiply(drop, body).point(lambda v: v * 0.45)
    )


def _eyes_and_nose(drawing: Image.Image, sheet: _Sheet, kind: Creature, dark: Colour) -> None:
    x, y = kind.eye
    drawing.paste(dark, (0, 0, *drawing.size), sheet.oval(x, y, 2.5, 3.1))
    drawing.paste((255, 250, 240), (0, 0, *drawing.size), sheet.oval(x, y - 1.2, 0.85, 0.85))
    height, wide, high = kind.nose
    drawing.paste(dark, (0, 0, *drawing.size), sheet.oval(0, height, wide, high))


def _rim_light(drawing: Image.Image, whole: Image.Image, palette: Palette) -> None:
    """The light behind the animal catches the edge of its fur."""
    step = max(1, whole.height // 90)
    inner = ImageChops.offset(whole, -step, step).filter(ImageFilter.GaussianBlur(step * 0.7))
    strength = 0.75 if brightness(palette.light) > 200 else 0.5
    rim = ImageChops.subtract(whole, inner).point(lambda level: level * strength)
    drawing.paste(palette.light, (0, 0, *drawing.size), rim)
