"""A scene is a stack of elements painted from the back to the front, at any moment of its short life.

A picture is the moment 0. A film is many moments, with the camera gliding sideways: what is near moves
further than what is far, so everything is drawn wider than the frame by a margin on each side.
"""

import math
import random
from dataclasses import dataclass, field
from typing import Final, Protocol

from PIL import Image

from shared.adapters.generators.local_renderer.brush import Size
from shared.adapters.generators.local_renderer.palette import Palette

FOCUSES: Final = (0.36, 0.5, 0.5, 0.64)


@dataclass(frozen=True, slots=True)
class Moment:
    seconds: float = 0
    pan: float = 0
    """Where the camera is, from -1 (left) to 1."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What every element needs to know to be drawn."""

    width: int
    height: int
    palette: Palette
    random: random.Random
    margin: int = 0
    """How far the nearest things may move to either side, in pixels."""
    focus: float = 0.5
    """Where whoever the picture is about stands, as a share of the width."""
    phases: int = 1
    """Sub-pixel positions a moving layer is prepared at: slow motion would stutter on whole pixels."""
    shifted: dict[tuple[int, int], Image.Image] = field(default_factory=dict)
    """What has been prepared, shared by layers with the same drawing."""

    @property
    def unit(self) -> float:
        """The measure of things: a hundredth of the shorter side, but not tiny on long strips."""
        return max(min(self.width, self.height), max(self.width, self.height) * 0.45) / 100

    @property
    def wide(self) -> int:
        return self.width + 2 * self.margin

    def size(self) -> Size:
        return self.width, self.height


class Element(Protocol):
    def paint(self, canvas: Image.Image, moment: Moment) -> None: ...


@dataclass(slots=True)
class Backdrop:
    """Fills the frame and stays where it is."""

    image: Image.Image

    def paint(self, canvas: Image.Image, moment: Moment) -> None:
        canvas.paste(self.image)


@dataclass(slots=True)
class Layer:
    """A drawing with transparency that the camera passes, and that may drift or sway by itself."""

    image: Image.Image
    """In RGBA."""
    left: float
    top: float
    reach: float = 0
    """How many pixels it moves at either end of the pan: more when nearer."""
    drift: tuple[float, float] = (0, 0)
    """Pixels per second."""
    sway: tuple[float, float] = (0, 0)
    """Pixels to either side, and downwards, in a slow swing."""
    pace: float = 0.2
    """Swings per second."""
    turn: float = 0
    """Where in its swing it starts, in turns."""
    phases: int = 1
    shifted: dict[tuple[int, int], Image.Image] = field(default_factory=dict)

    def paint(self, canvas: Image.Image, moment: Moment) -> None:
        swing = math.sin((moment.seconds * self.pace + self.turn) * math.tau)
        x = self.left - moment.pan * self.reach + moment.seconds * self.drift[0] + swing * self.sway[0]
        y = self.top + moment.seconds * self.drift[1] + swing * self.sway[1]
        steps = round(x * self.phases)
        image = self._at(steps % self.phases)
        canvas.paste(image, (steps // self.phases, round(y)), image)

    def _at(self, phase: int) -> Image.Image:
        """The drawing moved right by a part of a pixel."""
        if phase == 0:
            return self.image
        key = id(self.image), phase
        if key not in self.shifted:
            move = (1, 0, -phase / self.phases, 0, 1, 0)
            self.shifted[key] = self.image.transform(
                self.image.size, Image.Transform.AFFINE, move, Image.Resampling.BILINEAR
            )
        return self.shifted[key]


def layer(
    stage: Stage,
    image: Image.Image,
    *,
    top: float,
    near: float,
    left: float | None = None,
    drift: tuple[float, float] = (0, 0),
    sway: tuple[float, float] = (0, 0),
    pace: float = 0.2,
    turn: float = 0,
) -> Layer:
    """A layer `near` the camera (0 to 1); without `left`, one that spans the stage with its margins."""
    return Layer(
        image,
        left=-stage.margin if left is None else left,
        top=top,
        reach=stage.margin * near,
        drift=drift,
        sway=sway,
        pace=pace,
        turn=turn,
        phases=stage.phases,
        shifted=stage.shifted,
    )
