"""Styles: what a technique does to a finished drawing."""

from collections.abc import Callable
from typing import Final

from PIL import Image, ImageChops, ImageEnhance, ImageFilter, ImageOps

from shared.adapters.generators.local_renderer.brush import chance, curve, gradient, noise
from shared.adapters.generators.local_renderer.palette import Palette, mix
from shared.adapters.generators.local_renderer.reading import words_of

# The words by which a style is known, in its name or in the words it adds to the prompt.
TECHNIQUE_WORDS: Final = {
    "watercolour": "watercolor watercolour aquarelle wash gouache",
    "oil": "oil painting painterly impressionist impasto brush canvas",
    "noir": "noir monochrome black grayscale greyscale film-noir bw",
    "sketch": "sketch pencil drawing charcoal ink line lineart engraving etching",
    "vintage": "vintage retro sepia polaroid analog analogue nostalgic",
    "pixel": "pixel pixelart bit voxel arcade",
    "poster": "poster flat minimal minimalist minimalism vector graphic screenprint comic pop illustration",
    "pastel": "pastel soft dreamy anime ghibli kawaii chalk",
    "cinematic": "cinematic photo photograph photographic photorealistic realistic movie dramatic hdr",
    "neon": "neon cyberpunk synthwave vaporwave glow",
}


def technique_for(style: str | None, style_prompt: str | None) -> str | None:
    """The technique that a style asks for by name, else one that its hash picks; none without a style."""
    if style is None and style_prompt is None:
        return None
    for text in (style, style_prompt):
        words = words_of((text or "").replace("-", " ").replace("_", " "))
        for technique, cues in TECHNIQUE_WORDS.items():
            if words & set(cues.split()):
                return technique
    return chance("style", style, style_prompt).choice(list(TECHNIQUES))


def _watercolour(image: Image.Image, palette: Palette, unit: float) -> Image.Image:
    random_ = chance("paper")
    washed = image.filter(ImageFilter.GaussianBlur(unit * 0.22)).filter(ImageFilter.MedianFilter(3))
    washed = Image.blend(washed, Image.new("RGB", image.size, (255, 250, 240)), 0.26)
    # Pigment gathers at the edges of a wash.
    edges = ImageOps.invert(washed.convert("L").filter(ImageFilter.FIND_EDGES)).point(
        curve(lambda level: 0.72 + 0.28 * level**4)
    )
    washed = ImageChops.multiply(washed, Image.merge("RGB", (edges,) * 3))
    blots = noise(random_, image.size, (6, 6), 6).point(curve(lambda level: 0.8 + 0.4 * level))
    paper = noise(random_, image.size, (image.width // 5 + 2, image.height // 5 + 2), 1).point(
        curve(lambda level: 0.94 + 0.08 * level)
    )
    washed = ImageChops.multiply(
        ImageChops.multiply(washed, Image.merge("RGB", (blots,) * 3)), Image.merge("RGB", (paper,) * 3)
    )
    border = Image.new("L", image.size)
    inset = round(unit * 5)
    border.paste(255, (inset, inset, image.width - inset, image.height - inset))
    ragged = noise(random_, image.size, (14, 14), 4).point(curve(lambda level: (level - 0.5) * 0.9 + 0.5))
    soft = border.filter(ImageFilter.GaussianBlur(unit * 2.2))
    mask = ImageChops.add(soft, ragged, 1, -128).point(curve(lambda level: (level - 0.42) * 9))
    return Image.composite(washed, Image.new("RGB", image.size, (250, 246, 238)), mask)


def _oil(image: Image.Image, palette: Palette, unit: float) -> Image.Image:
    small = image.resize((max(8, image.width // 2), max(8, image.height // 2)), Image.Resampling.BOX)
    dabs = small.filter(ImageFilter.ModeFilter(5)).resize(image.size, Image.Resampling.BICUBIC)
    relief = noise(chance("canvas"), image.size, (image.width // 10 + 2, image.height // 26 + 2), 2).filter(
        ImageFilter.EMBOSS
    )
    relief = relief.point(curve(lambda level: 0.5 + (level - 0.5) * 0.45))
    rough = ImageChops.add(dabs, Image.merge("RGB", (relief,) * 3), 1, -128)
    return ImageEnhance.Color(rough).enhance(1.25)


def _noir(image: Image.Image, palette: Palette, unit: float) -> Image.Image:
    grey = ImageOps.autocontrast(image.convert("L"), cutoff=1).point(
        curve(lambda level: level * level * (3 - 2 * level))
    )
    return ImageOps.colorize(grey, (8, 8, 12), (246, 243, 236), mid=(104, 104, 110))


def _sketch(image: Image.Image, palette: Palette, unit: float) -> Image.Image:
    grey = ImageOps.autocontrast(image.convert("L"))
    blurred = ImageOps.invert(grey).filter(ImageFilter.GaussianBlur(max(2.0, unit * 0.8)))
    # Darker than its surroundings: that is where a pencil draws.
    outline = ImageChops.subtract(ImageOps.invert(blurred), grey).point(curve(lambda level: 1 - 2.6 * level))
    strokes = noise(chance("strokes"), image.size, (image.width // 3 + 2, image.height // 60 + 2), 1)
    hatching = ImageChops.add(grey, strokes.point(lambda level: level * 0.14), 1, -18)
    drawn = ImageChops.multiply(outline, hatching.point(curve(lambda level: 0.5 + 0.62 * level)))
    return ImageOps.colorize(drawn, (44, 38, 46), (250, 246, 236))


def _vintage(image: Image.Image, palette: Palette, unit: float) -> Image.Image:
    faded_ = ImageEnhance.Color(image).enhance(0.55)
    warm = ImageChops.multiply(faded_, Image.new("RGB", image.size, (255, 236, 205)))
    return ImageChops.screen(warm, Image.new("RGB", image.size, (48, 34, 40)))


def _pixel(image: Image.Image, palette: Palette, unit: float) -> Image.Image:
    block = max(2, round(unit * 0.85))
    small = image.resize((max(8, image.width // block), max(8, image.height // block)), Image.Resampling.BOX)
    few = (
        ImageEnhance.Color(small)
        .enhance(1.25)
        .quantize(28, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    )
    return few.convert("RGB").resize(image.size, Image.Resampling.NEAREST)


def _poster(image: Image.Image, palette: Palette, unit: float) -> Image.Image:
    half = (max(8, image.width // 2), max(8, image.height // 2))
    smooth = image.resize(half, Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(unit * 0.12))
    inks = smooth.quantize(13, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).filter(
        ImageFilter.ModeFilter(5)
    )
    return ImageEnhance.Color(inks.convert("RGB").resize(image.size, Image.Resampling.BICUBIC)).enhance(1.3)


def _pastel(image: Image.Image, palette: Palette, unit: float) -> Image.Image:
    bloom = image.filter(ImageFilter.GaussianBlur(unit * 2))
    light = ImageChops.screen(image, bloom.point(lambda level: level * 0.45))
    lifted = Image.blend(light, Image.new("RGB", image.size, mix(palette.light, (255, 225, 235), 0.5)), 0.2)
    return ImageEnhance.Color(lifted).enhance(1.15)


def _cinematic(image: Image.Image, palette: Palette, unit: float) -> Image.Image:
    """Teal shadows, amber lights, and bars."""
    grade = gradient((1, 256), ((255, 226, 186), (140, 132, 126), (8, 30, 44))).transpose(
        Image.Transpose.FLIP_TOP_BOTTOM
    )
    ramp = [grade.getpixel((0, level)) for level in range(256)]
    grey = image.convert("L")
    toned = Image.merge("RGB", [grey.point([colour[channel] for colour in ramp]) for channel in range(3)])  # type: ignore[index]
    graded = ImageEnhance.Contrast(Image.blend(image, toned, 0.42)).enhance(1.12)
    bar = round(image.height * 0.07)
    graded.paste((4, 4, 6), (0, 0, image.width, bar))
    graded.paste((4, 4, 6), (0, image.height - bar, image.width, image.height))
    return graded


def _neon(image: Image.Image, palette: Palette, unit: float) -> Image.Image:
    edges = (
        image.convert("L")
        .filter(ImageFilter.GaussianBlur(max(0.8, unit * 0.12)))
        .filter(ImageFilter.FIND_EDGES)
    )
    edges = ImageOps.expand(ImageOps.crop(edges, 2), 2)  # the frame itself is no edge
    lines = edges.point(curve(lambda level: level * 7))
    glowing = ImageChops.add(
        lines.filter(ImageFilter.GaussianBlur(unit * 0.7)).point(lambda level: min(255, level * 1.6)), lines
    )
    hue = gradient(image.size, ((60, 240, 255), (190, 90, 255), (255, 60, 160)))
    dark = ImageChops.multiply(image, gradient(image.size, ((96, 60, 190), (150, 70, 190), (90, 50, 140))))
    return ImageChops.screen(dark, ImageChops.multiply(hue, Image.merge("RGB", (glowing,) * 3)))


TECHNIQUES: Final[dict[str, Callable[[Image.Image, Palette, float], Image.Image]]] = {
    "watercolour": _watercolour,
    "oil": _oil,
    "noir": _noir,
    "sketch": _sketch,
    "vintage": _vintage,
    "pixel": _pixel,
    "poster": _poster,
    "pastel": _pastel,
    "cinematic": _cinematic,
    "neon": _neon,
}
