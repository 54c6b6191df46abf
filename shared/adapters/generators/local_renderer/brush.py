"""Drawing tools: gradients, soft noise, glows, and shapes without jagged edges."""

import hashlib
import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from PIL import Image, ImageChops, ImageDraw

from shared.adapters.generators.local_renderer.palette import Colour, along

Point = tuple[float, float]
Size = tuple[int, int]

GRAIN_TILE: Final = 512
_RIM: Final = 0.5**0.5  # what Pillow's radial gradient has reached at the middle of its sides


def chance(*parts: object) -> random.Random:
    """Random numbers that are the same for the same parts, in every process."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return random.Random(digest)  # noqa: S311 - it draws pictures and keeps no secrets


def gradient(size: Size, stops: Sequence[Colour]) -> Image.Image:
    """A smooth ramp from the top to the bottom."""
    height = size[1]
    column = Image.new("RGB", (1, height))
    column.putdata([along(stops, y / max(1, height - 1)) for y in range(height)])
    return column.resize(size, Image.Resampling.NEAREST)


def curve(alpha: Callable[[float], float]) -> list[int]:
    """A lookup table for `Image.point` from a function of 0 to 1."""
    return [round(255 * min(1.0, max(0.0, alpha(level / 255)))) for level in range(256)]


def noise(random_: random.Random, size: Size, cells: tuple[int, int], octaves: int = 4) -> Image.Image:
    """Clouds of grey: random cells enlarged smoothly, finer and fainter ones upon them."""
    cloud = Image.new("L", size, 128)
    across, down = cells
    for octave in range(octaves):
        grid = (max(2, across << octave) + 3, max(2, down << octave) + 3)
        layer = Image.frombytes("L", grid, random_.randbytes(grid[0] * grid[1]))
        layer = layer.resize(size, Image.Resampling.BICUBIC, box=(1, 1, grid[0] - 1, grid[1] - 1))
        cloud = layer if octave == 0 else Image.blend(cloud, layer, 0.5 ** (octave + 0.4))
    return cloud


@lru_cache(maxsize=16)
def _disc_table(softness: float) -> tuple[int, ...]:
    return tuple(curve(lambda level: max(0.0, 1 - level / _RIM) ** softness))


def glow(diameter: int, strength: float = 1.0, softness: float = 2.2) -> Image.Image:
    """A mask that fades from its middle to nothing at its edge."""
    table = [round(level * strength) for level in _disc_table(softness)]
    disc = Image.radial_gradient("L").point(table)
    return disc.resize((max(1, diameter), max(1, diameter)), Image.Resampling.BICUBIC)


def shape(
    size: Size, draw: Callable[[ImageDraw.ImageDraw, float, float], None], fine: Size = (2, 2)
) -> Image.Image:
    """A mask drawn `fine` times larger and shrunk again; `draw` is told both factors."""
    large = Image.new("L", (size[0] * fine[0], size[1] * fine[1]))
    draw(ImageDraw.Draw(large), float(fine[0]), float(fine[1]))
    return large.reduce(fine)


def polygon(size: Size, points: Sequence[Point], fine: Size = (2, 2)) -> Image.Image:
    def fill(pen: ImageDraw.ImageDraw, across: float, down: float) -> None:
        pen.polygon([(x * across, y * down) for x, y in points], fill=255)

    return shape(size, fill, fine)


def tint(mask: Image.Image, colour: Colour, strength: float = 1.0) -> Image.Image:
    """The mask filled with one colour."""
    filled = Image.new("RGBA", mask.size, (*colour, 0))
    filled.putalpha(mask if strength >= 1 else faded(mask, strength))
    return filled


def faded(mask: Image.Image, strength: float) -> Image.Image:
    return mask.point([round(level * strength) for level in range(256)])


def within(mask: Image.Image, other: Image.Image) -> Image.Image:
    """What both masks show."""
    return ImageChops.multiply(mask, other)


@lru_cache(maxsize=4)
def _grain_tile(strength: int) -> Image.Image:
    specks = chance("grain").randbytes(GRAIN_TILE * GRAIN_TILE)
    table = bytes(128 + round((level - 127.5) / 127.5 * strength) for level in range(256))
    return Image.frombytes("L", (GRAIN_TILE, GRAIN_TILE), specks.translate(table))


def grained(image: Image.Image, strength: int) -> Image.Image:
    """Faint film grain, which also hides the steps of a smooth gradient."""
    grain = Image.new("L", image.size)
    tile = _grain_tile(strength)
    for top in range(0, image.height, GRAIN_TILE):
        for left in range(0, image.width, GRAIN_TILE):
            grain.paste(tile, (left, top))
    return ImageChops.add(image, Image.merge("RGB", (grain, grain, grain)), 1, -128)


@lru_cache(maxsize=4)
def _vignette(size: Size, strength: float) -> Image.Image:
    shade = Image.radial_gradient("L").point(curve(lambda edge: 1 - strength * max(0.0, edge - 0.3) ** 2))
    shade = shade.resize(size, Image.Resampling.BICUBIC, box=(8, 8, 248, 248))
    return Image.merge("RGB", (shade, shade, shade))


def vignetted(image: Image.Image, strength: float = 0.55) -> Image.Image:
    return ImageChops.multiply(image, _vignette(image.size, strength))
