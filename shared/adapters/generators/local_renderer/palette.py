"""Colours: how to mix them, and the moods that a picture can be in."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

Colour = tuple[int, int, int]

WHITE: Final[Colour] = (255, 255, 255)
BLACK: Final[Colour] = (0, 0, 0)


def rgb(text: str) -> Colour:
    return int(text[0:2], 16), int(text[2:4], 16), int(text[4:6], 16)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`first` at 0, `second` at 1; mixed by light, so that the middle is not muddy."""
    share = min(1.0, max(0.0, share))
    red, green, blue = (
        round((a**2 * (1 - share) + b**2 * share) ** 0.5) for a, b in zip(first, second, strict=True)
    )
    return red, green, blue


def along(stops: Sequence[Colour], share: float) -> Colour:
    """The colour at `share` (0 to 1) of a ramp through evenly spaced stops."""
    place = min(1.0, max(0.0, share)) * (len(stops) - 1)
    index = min(int(place), len(stops) - 2)
    part = place - index
    return mix(stops[index], stops[index + 1], part * part * (3 - 2 * part))


def brightness(colour: Colour) -> float:
    """0 to 255, as the eye weighs the three."""
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue


@dataclass(frozen=True, slots=True)
class Palette:
    sky: tuple[Colour, ...]
    """From the zenith down to the horizon."""
    light: Colour
    """The sun, the moon, and whatever they touch."""
    far: Colour
    near: Colour
    accent: Colour
    dark: bool = False
    """Stars show."""

    @property
    def haze(self) -> Colour:
        return self.sky[-1]

    def depth(self, nearness: float) -> Colour:
        """The colour of land: hazy in the distance at 0, right in front of us at 1."""
        return mix(self.far, self.near, nearness)

    def tinted(self, ink: Colour, share: float) -> "Palette":
        return replace(
            self,
            sky=tuple(mix(stop, ink, share) for stop in self.sky),
            light=mix(self.light, ink, share / 3),
            far=mix(self.far, ink, share),
            near=mix(self.near, ink, share / 2),
            accent=mix(self.accent, ink, share / 3),
        )


def _palette(sky: str, light: str, land: str, accent: str, *, dark: bool = False) -> Palette:
    far, near = land.split()
    return Palette(
        tuple(rgb(stop) for stop in sky.split()), rgb(light), rgb(far), rgb(near), rgb(accent), dark
    )


PALETTES: Final = {
    "dawn": _palette("33417a 76699f d48ba3 f6bfa0 ffe6c8", "fff4da", "c795a8 2a2444", "f2765f"),
    "rose": _palette("4a3a78 8c5f94 d98fa5 f5bfb5 fde3d0", "fff1e2", "b985a0 33203f", "e8506b"),
    "sunset": _palette("1d1b4c 5b2a70 b23c63 ee7d57 fbc96f", "ffe7a8", "a2476f 190f2c", "ff9a3d"),
    "ember": _palette("2a1438 6d1f49 c13a44 f2723f ffc15e", "ffeab5", "a53a45 1c0c1f", "ffd166"),
    "golden": _palette("3e4f83 8b82a6 d9aa8e f8cd8c ffe9b8", "fff6d8", "c19478 2b2233", "f28f3b"),
    "day": _palette("2f7fc1 69b3e2 a9d8ee d6eef2 f8f5e4", "fffbe6", "93bfcf 1f4a4c", "ffb84d"),
    "spring": _palette("3f8fbf 7cc3d8 b9e3da e2f2d8 fbf6dc", "fffbe0", "9cc9b0 235240", "ff7a8a"),
    "teal": _palette("0c2b3d 17506a 3a8590 8fc2ae f3dfb0", "fff0c4", "4f8f94 0a2029", "f4a259"),
    "dusk": _palette("141c45 2f3570 615794 a57fa6 e8b0a6", "ffe9d2", "6a5e98 121230", "ffb27a"),
    "night": _palette("050a20 0c1a3f 18305f 2c5080 5583a6", "f4f1dc", "305380 060b1c", "ffcf7a", dark=True),
    "violet": _palette("0a0724 1d1247 3d2270 70408f b873a5", "fbe8e4", "583b86 0b0720", "ff9ac1", dark=True),
    "polar": _palette("020d1a 04202f 08394a 0f5660 2f8580", "e9fff4", "155461 020b12", "7dffc8", dark=True),
    "cosmos": _palette("04030f 0a0722 150d38 24144d 3a2060", "ffe9d6", "3a2668 05040f", "ff8fb1", dark=True),
    "neon": _palette("0b0524 23094d 5a1180 b81f8f ff5f8f", "ffd3f0", "4f1a86 08031c", "3df5ff", dark=True),
    "storm": _palette("2b3442 4b5a69 75858f a2afb1 cfd5cf", "f0f3ea", "7d8d95 1b2229", "e0b15e"),
    "frost": _palette("4f7cab 86acd0 b7d1e4 dde8ee fbf1ea", "fffaf0", "a9c2d8 3b587c", "f08a7a"),
    "desert": _palette("2f6f8f 7fa9ab d5c6a0 f3cf97 fbe3bd", "fff3d3", "dba274 8a4a34", "ff7f50"),
    "jade": _palette("0d3b3e 1f6660 5b9b80 a8c996 edf0c4", "fcffdc", "64a088 0a2622", "ffc15e"),
}
