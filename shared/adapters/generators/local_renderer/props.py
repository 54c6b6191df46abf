"""Things that people made, and a whale: flat shapes in RGBA, lit from behind like the animals."""

from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from shared.adapters.generators.local_renderer.brush import gradient
from shared.adapters.generators.local_renderer.creatures import outline
from shared.adapters.generators.local_renderer.palette import Palette, mix, rgb

# Every part is a colour (or the palette's own: `near`, `light`, `accent`) and a path in a box of 100 by 100.
PROPS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "boat": (
        ("3d2a2e", "M 49 6 L 51 6 L 51 84 L 49 84 Z"),
        ("fff3e0", "M 52.5 8 C 74 30 84 54 84 76 C 74 72 62 72 52.5 75 Z"),
        ("accent", "M 47.5 16 C 40 36 30 58 20 74 C 30 71 40 72 47.5 75 Z"),
        ("5a2d2a", "M 12 82 C 30 86 70 86 92 80 C 88 92 82 99 76 100 L 28 100 C 20 98 14 90 12 82 Z"),
        ("fff3e0", "M 12 82 C 30 86 70 86 92 80 L 91 83.5 C 70 89 30 89 13 85.5 Z"),
    ),
    "balloon": (
        (
            "accent",
            "M 50 2 C 78 2 92 22 88 42 C 84 60 66 70 58 80 L 42 80 C 34 70 16 60 12 42 C 8 22 22 2 50 2 Z",
        ),
        (
            "fff3e0",
            "M 50 2 C 66 2 74 22 72 42 C 70 60 60 70 55 80 L 45 80 C 40 70 30 60 28 42 C 26 22 34 2 50 2 Z",
        ),
        (
            "accent",
            "M 50 2 C 56 2 60 22 59 42 C 58 60 54 70 52 80 L 48 80 C 46 70 42 60 41 42 C 40 22 44 2 50 2 Z",
        ),
        ("3d2a2e", "M 43 80 L 44 80 L 46 90 L 45 90 Z"),
        ("3d2a2e", "M 57 80 L 56 80 L 54 90 L 55 90 Z"),
        ("6b3f2b", "M 43.5 89 L 56.5 89 L 55 100 L 45 100 Z"),
    ),
    "lighthouse": (
        ("f6efe6", "M 42 26 L 58 26 L 64 100 L 36 100 Z"),
        ("accent", "M 41.2 36 L 58.8 36 L 60 51 L 40 51 Z"),
        ("accent", "M 38.9 66 L 61.1 66 L 62.4 82 L 37.6 82 Z"),
        ("2b2733", "M 38 23 L 62 23 L 62 27 L 38 27 Z"),
        ("ffe9a8", "M 44 12 L 56 12 L 56 23 L 44 23 Z"),
        ("2b2733", "M 41 12 C 44 4 48 3 50 0 C 52 3 56 4 59 12 Z"),
        ("2b2733", "M 47 90 C 47 85 53 85 53 90 L 53 100 L 47 100 Z"),
    ),
    "cabin": (
        ("4a3029", "M 66 20 L 76 20 L 76 44 L 66 44 Z"),
        ("7a4b36", "M 18 52 L 82 52 L 82 100 L 18 100 Z"),
        ("6a3f2e", "M 18 62 L 82 62 L 82 64 L 18 64 Z"),
        ("6a3f2e", "M 18 76 L 82 76 L 82 78 L 18 78 Z"),
        ("6a3f2e", "M 18 89 L 82 89 L 82 91 L 18 91 Z"),
        ("7a4b36", "M 50 22 L 80 54 L 20 54 Z"),
        ("2f2029", "M 50 12 L 94 56 L 88 60 L 50 23 L 12 60 L 6 56 Z"),
        ("ffd98a", "M 27 66 L 43 66 L 43 82 L 27 82 Z"),
        ("7a4b36", "M 34.3 66 L 35.7 66 L 35.7 82 L 34.3 82 Z"),
        ("7a4b36", "M 27 73.3 L 43 73.3 L 43 74.7 L 27 74.7 Z"),
        ("3a2420", "M 56 66 L 71 66 L 71 100 L 56 100 Z"),
        ("ffd98a", "M 45 40 C 45 34 55 34 55 40 L 55 46 L 45 46 Z"),
    ),
    "whale": (
        (
            "2f4560",
            (
                "M 50 34 C 44 22 28 12 4 14 C 6 30 22 42 40 44 C 44 60 42 80 34 100 L 66 100 C 58 80 56 60"
                " 60 44 C 78 42 94 30 96 14 C 72 12 56 22 50 34 Z"
            ),
        ),
        (
            "4a6482",
            (
                "M 50 40 C 46 30 30 18 10 18 C 24 20 40 30 46 44 C 49 60 49 80 48 100 L 52 100"
                " C 51 80 51 60 54 44 C 60 30 76 20 90 18 C 70 18 54 30 50 40 Z"
            ),
        ),
    ),
}


def prop(name: str, height: int, palette: Palette) -> Image.Image:
    """The thing, as wide as it is high, standing on its lower edge."""
    size = max(12, height)
    shade = 0.4 if palette.dark else 0.14
    own = {"accent": palette.accent, "light": palette.light, "near": palette.near}
    drawing = Image.new("RGB", (size, size), palette.near)
    whole = Image.new("L", (size, size))
    for colour, path in PROPS[name]:
        mask = _filled(path, size)
        tone = mix(own[colour] if colour in own else rgb(colour), palette.near, shade)
        if colour in {"ffd98a", "ffe9a8"}:  # a lamp burns behind it
            tone = rgb(colour)
        drawing.paste(gradient((size, size), (tone, mix(tone, palette.near, 0.22))), (0, 0), mask)
        whole = ImageChops.lighter(whole, mask)
    step = max(1, size // 110)
    inner = ImageChops.offset(whole, -step, step).filter(ImageFilter.GaussianBlur(step * 0.7))
    rim = ImageChops.subtract(whole, inner).point(lambda level: level * 0.6)
    drawing.paste(palette.light, (0, 0, size, size), rim)
    drawing.putalpha(whole)
    return drawing


def _filled(path: str, size: int) -> Image.Image:
    large = Image.new("L", (size * 4, size * 4))
    scale = size * 4 / 100
    points: Sequence[tuple[float, float]] = [(x * scale, y * scale) for x, y in outline(path)]
    ImageDraw.Draw(large).polygon(points, fill=255)
    return large.reduce(4)
