from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat

from shared.adapters.generators.local_renderer.compositions import COMPOSITIONS
from shared.adapters.generators.local_renderer.creatures import CREATURES
from shared.adapters.generators.local_renderer.finish import TECHNIQUE_WORDS, TECHNIQUES, technique_for
from shared.adapters.generators.local_renderer.palette import PALETTES
from shared.adapters.generators.local_renderer.picture import draw, draw_png
from shared.adapters.generators.local_renderer.props import PROPS
from shared.adapters.generators.local_renderer.reading import (
    HOURS,
    PLACES,
    SUBJECTS,
    USUAL_PALETTES,
    read,
)
from shared.domain.requests import ImageRequest

FOX = ImageRequest(prompt="a fox", width=128, height=96, seed=7)


def difference(one: Image.Image, other: Image.Image) -> float:
    """How far two pictures are apart on average, 0 to 255."""
    return max(ImageStat.Stat(ImageChops.difference(one, other)).mean)


def test_the_same_request_gives_the_same_bytes() -> None:
    assert draw_png(FOX) == draw_png(FOX)


def test_a_variation_is_the_picture_of_a_later_seed() -> None:
    assert draw_png(FOX, 2) == draw_png(replace(FOX, seed=9))


CHANGES: list[Callable[[ImageRequest], ImageRequest]] = [
    lambda request: replace(request, prompt="a sailing boat"),
    lambda request: replace(request, prompt="a fox at night"),
    lambda request: replace(request, seed=8),
    lambda request: replace(request, negative_prompt="birds, sunset"),
    lambda request: replace(request, style="watercolor"),
    lambda request: replace(request, style="house-style", style_prompt="in black and white"),
    lambda request: replace(request, brand_id="job_01"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_asked_for_shows(change: Callable[[ImageRequest], ImageRequest]) -> None:
    assert difference(draw(FOX), draw(change(FOX))) > 5


@pytest.mark.parametrize(("width", "height"), [(16, 16), (64, 64), (65, 333), (400, 64), (97, 130)])
@pytest.mark.parametrize("prompt", ["a fox", "a lighthouse by the sea", "flowers", "saturn", "Ein Traum", ""])
def test_any_size_can_be_drawn(prompt: str, width: int, height: int) -> None:
    picture = draw(ImageRequest(prompt=prompt, width=width, height=height, seed=1))
    assert (picture.mode, picture.size) == ("RGB", (width, height))


@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_every_style_changes_the_picture_and_keeps_its_size(name: str) -> None:
    styled = draw(replace(FOX, style=name))
    assert styled.size == (128, 96)
    assert difference(styled, draw(replace(FOX, style=next(s for s in TECHNIQUES if s != name)))) > 3


@pytest.mark.parametrize("subject", sorted(SUBJECTS))
def test_every_subject_can_be_drawn(subject: str) -> None:
    assert read(subject).subject == subject
    assert draw(replace(FOX, prompt=subject)).size == (128, 96)


@pytest.mark.parametrize(
    ("prompt", "composition", "subject"),
    [
        ("a fox", "hills", "fox"),
        ("Two FOXES in the woods", "forest", "fox"),
        ("a ship on the sea", "sea", "boat"),
        ("Tokyo, cyberpunk, at night", "city", None),
        ("galaxy", "space", None),
    ],
)
def test_a_prompt_is_read_by_its_words(prompt: str, composition: str, subject: str | None) -> None:
    reading = read(prompt)
    assert (reading.composition, reading.subject) == (composition, subject)


def test_the_hour_comes_before_the_colours_of_the_place() -> None:
    assert read("a desert at night").palettes == ("night", "violet")


def test_what_the_negative_prompt_names_stays_out() -> None:
    assert read("a fox in the snow", "fox").subject is None
    assert "birds" not in read("hills with birds", "birds").sights
    assert all(
        read(f"idea {n}", "city, mountains, sea").composition not in {"city", "peaks", "sea"}
        for n in range(40)
    )


def test_prompts_without_known_words_spread_over_the_compositions() -> None:
    assert {read(f"idea number {n}").composition for n in range(120)} == set(COMPOSITIONS)


def test_neighbouring_seeds_take_different_palettes() -> None:
    assert difference(draw(FOX), draw(FOX, 1)) > 10


def test_without_a_style_nothing_is_done_to_the_picture() -> None:
    assert technique_for(None, None) is None


def test_an_unknown_style_always_gets_the_same_technique() -> None:
    assert technique_for("acme", None) == technique_for("acme", None) in TECHNIQUES


def test_all_tables_name_what_exists() -> None:
    def names(*tables: dict[str, Any]) -> set[str]:
        return {name for table in tables for key in table for name in key.split()}

    assert names(HOURS, PLACES) | {p for ps in USUAL_PALETTES.values() for p in ps.split()} <= set(PALETTES)
    assert set(USUAL_PALETTES) == set(COMPOSITIONS)
    assert set(TECHNIQUE_WORDS) == set(TECHNIQUES)
    assert set(SUBJECTS) == set(CREATURES) | set(PROPS)
