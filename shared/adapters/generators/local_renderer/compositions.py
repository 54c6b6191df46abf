"""How a picture is put together: one function per composition, from the back to the front."""

from collections.abc import Callable
from typing import Final

from shared.adapters.generators.local_renderer import blooms, cosmos, land, life, skies, town
from shared.adapters.generators.local_renderer.creatures import CREATURES
from shared.adapters.generators.local_renderer.palette import PALETTES, mix
from shared.adapters.generators.local_renderer.reading import Reading
from shared.adapters.generators.local_renderer.scene import Element, Stage
from shared.adapters.generators.local_renderer.subjects import knoll, lone_tree, subject
from shared.adapters.generators.local_renderer.water import Water


def compose(stage: Stage, reading: Reading) -> list[Element]:
    elements = COMPOSITIONS[reading.composition](stage, reading)
    if reading.composition in {"peaks", "sea", "dunes", "hills"} and (
        "birds" in reading.sights or (not stage.palette.dark and stage.random.random() < 0.6)
    ):
        elements.append(life.Birds.over(stage, 0.6))
    if reading.subject:
        elements += subject(stage, reading.subject, snowy="snow" in reading.sights)
    return elements + _air(stage, reading)


def _air(stage: Stage, reading: Reading) -> list[Element]:
    """Weather and whatever else floats before everything."""
    air: list[Element] = []
    if "snow" in reading.sights:
        air.append(life.snow(stage))
    if "rain" in reading.sights:
        air.append(life.rain(stage))
    if "petals" in reading.sights or reading.composition == "meadow":
        air.append(life.petals(stage, mix(stage.palette.accent, (255, 190, 205), 0.5)))
    if "fireflies" in reading.sights or (reading.composition == "forest" and stage.palette.dark):
        air.append(life.fireflies(stage))
    return air


def _light(
    stage: Stage, reading: Reading, x: float, y: float, radius: float, *, rise: float = 0.006
) -> list[Element]:
    moon = ("moon" in reading.sights or stage.palette.dark) and "sun" not in reading.sights
    return skies.disc(stage, x, y, radius, moon=moon, rise=rise)


def _heavens(stage: Stage, reading: Reading, horizon: float, clouds: int) -> list[Element]:
    """The sky; a frame that is mostly sky needs something in it."""
    elements = skies.sky(stage, horizon)
    lit = "aurora" in reading.sights or stage.palette is PALETTES["polar"]
    if lit:
        elements += skies.aurora(stage, horizon)
    else:
        elements += skies.clouds(stage, horizon, clouds + 3 * ("clouds" in reading.sights))
    return elements


def _peaks(stage: Stage, reading: Reading) -> list[Element]:
    random_ = stage.random
    horizon = random_.uniform(0.64, 0.7)
    sun = random_.uniform(0.22, 0.78)
    elements = _heavens(stage, reading, horizon, 4)
    elements[1:1] = _light(
        stage, reading, sun, horizon - random_.uniform(0.3, 0.42), stage.unit * random_.uniform(6, 9)
    )
    ranges = land.misty_ranges(stage, horizon - 0.05, 4, random_.uniform(0.36, 0.46), sharp=True)
    for index, range_ in enumerate(ranges):
        elements.append(range_)
        if index in {1, 2}:
            elements.append(land.mist(stage, horizon - 0.08 + 0.05 * index, 0.2 + 0.1 * index, 0.35))
    elements.append(Water.below(stage, horizon + 0.09, sun=sun, roughness=0.6))
    tall = stage.unit * 26
    elements.append(land.wood(stage, 0.93, 0.95, nearness=0.97, tallest=tall, density=0.55))
    return elements


def _sea(stage: Stage, reading: Reading) -> list[Element]:
    random_ = stage.random
    horizon = random_.uniform(0.54, 0.62)
    sun = random_.uniform(0.25, 0.75)
    elements = _heavens(stage, reading, horizon, 6)
    elements[1:1] = _light(
        stage,
        reading,
        sun,
        horizon - random_.uniform(0.02, 0.14),
        stage.unit * random_.uniform(9, 14),
        rise=-0.006,
    )
    elements += land.misty_ranges(stage, horizon - 0.005, 2, 0.12, sharp=random_.random() < 0.5)
    elements.append(Water.below(stage, horizon, sun=sun, roughness=1.5))
    return elements


def _forest(stage: Stage, reading: Reading) -> list[Element]:
    random_ = stage.random
    elements = skies.sky(stage, 0.75)
    sun = random_.uniform(0.3, 0.7), random_.uniform(0.24, 0.36)
    elements += _light(stage, reading, *sun, stage.unit * random_.uniform(8, 12), rise=0.003)
    elements += land.misty_ranges(stage, 0.5, 1, 0.25, sharp=False)
    for index, (top, tall) in enumerate(((0.56, 13), (0.64, 20), (0.74, 30))):
        elements.append(
            land.wood(
                stage,
                top,
                0.2 + 0.2 * index,
                nearness=0.24 + 0.22 * index,
                tallest=stage.unit * tall,
                density=1.2 - 0.2 * index,
            )
        )
        elements.append(land.mist(stage, top + 0.14, 0.25 + 0.2 * index, 0.6))
    elements.append(skies.light_shafts(stage, *sun))
    elements.append(land.wood(stage, 0.9, 1, nearness=0.96, tallest=stage.unit * 58, density=0.42))
    return elements


def _city(stage: Stage, reading: Reading) -> list[Element]:
    random_ = stage.random
    horizon = random_.uniform(0.7, 0.76)
    sun = random_.uniform(0.3, 0.7)
    elements = _heavens(stage, reading, horizon, 4)
    elements[1:1] = _light(
        stage, reading, sun, horizon - random_.uniform(0.3, 0.42), stage.unit * random_.uniform(11, 16)
    )
    elements += town.skyline(stage, horizon)
    elements.append(Water.below(stage, horizon, sun=sun, roughness=1.2))
    return elements


def _dunes(stage: Stage, reading: Reading) -> list[Element]:
    random_ = stage.random
    horizon = 0.56
    elements = _heavens(stage, reading, horizon + 0.06, 3)
    elements[1:1] = _light(
        stage,
        reading,
        random_.uniform(0.2, 0.8),
        random_.uniform(0.2, 0.36),
        stage.unit * random_.uniform(6, 10),
    )
    elements += land.misty_ranges(stage, horizon, 1, 0.1, sharp=True)
    for index in range(5):
        nearness = (index + 0.5) / 5
        elements.append(land.dune(stage, horizon - 0.02 + 0.085 * index, 0.16 + 0.05 * index, nearness))
    return elements


def _meadow(stage: Stage, reading: Reading) -> list[Element]:
    random_ = stage.random
    elements = _heavens(stage, reading, 0.7, 4)
    elements[1:1] = _light(
        stage,
        reading,
        random_.uniform(0.2, 0.8),
        random_.uniform(0.25, 0.4),
        stage.unit * random_.uniform(8, 11),
    )
    elements += land.misty_ranges(stage, 0.62, 3, 0.2, sharp=False)
    return elements + blooms.bokeh(stage) + blooms.meadow(stage)


def _space(stage: Stage, reading: Reading) -> list[Element]:
    random_ = stage.random
    elements = skies.sky(stage, 1.25)
    elements += cosmos.nebula(stage)
    side = random_.choice((0.24, 0.76))
    elements.append(
        cosmos.planet(
            stage,
            side,
            random_.uniform(0.34, 0.6),
            stage.unit * random_.uniform(17, 26),
            ringed=random_.random() < 0.6,
        )
    )
    if random_.random() < 0.8:
        elements.append(
            cosmos.planet(
                stage,
                1 - side + random_.uniform(-0.1, 0.1),
                random_.uniform(0.2, 0.75),
                stage.unit * random_.uniform(4, 8),
                near=0.25,
            )
        )
    if random_.random() < 0.5:
        elements.append(cosmos.constellation(stage))
    return elements


def _flow(stage: Stage, reading: Reading) -> list[Element]:
    return [*cosmos.silk(stage), life.fireflies(stage, stage.palette.light)]


def _hills(stage: Stage, reading: Reading) -> list[Element]:
    random_ = stage.random
    horizon = random_.uniform(0.66, 0.72)
    # An animal sits right before it: see `subject`.
    sun = stage.focus if reading.subject in CREATURES else random_.uniform(0.25, 0.75)
    elements = _heavens(stage, reading, horizon, 4)
    elements[1:1] = _light(stage, reading, sun, 0.44, stage.unit * random_.uniform(24, 29), rise=0.004)
    elements += land.misty_ranges(stage, horizon, 3, 0.2, sharp=random_.random() < 0.4)
    elements.append(land.mist(stage, horizon + 0.1, 0.4, 0.5))
    elements.append(land.wood(stage, 0.8, 0.6, nearness=0.72, tallest=stage.unit * 12, density=0.8))
    if reading.subject is None:
        elements.append(lone_tree(stage, random_.choice((0.3, 0.68))))
        elements.append(knoll(stage, 0.9))
    return elements


COMPOSITIONS: Final[dict[str, Callable[[Stage, Reading], list[Element]]]] = {
    "peaks": _peaks,
    "sea": _sea,
    "forest": _forest,
    "city": _city,
    "dunes": _dunes,
    "meadow": _meadow,
    "space": _space,
    "flow": _flow,
    "hills": _hills,
}
