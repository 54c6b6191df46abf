"""What can be asked for: models, sizes, prices, and what an operator's file may get wrong."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.catalogue import load_catalogue
from shared.domain.catalogue import (
    Catalogue,
    KindRules,
    Model,
    Per,
    cost_tokens,
    resolve_size,
    width_and_height,
)
from shared.domain.errors import InvalidRequest
from shared.domain.job import Kind


def a_model(**fields: Any) -> Model:
    model = Model(
        generator="local",
        tokens=3,
        per=Per.IMAGE,
        start_timeout_seconds=30,
        sizes={"1:1": "64x64", "2:1": "64x32"},
    )
    return replace(model, **fields)


def a_catalogue(**fields: Any) -> Catalogue:
    kinds = {
        Kind.IMAGE: KindRules(deadline_seconds=60, models=("first", "second")),
        Kind.BRAND: KindRules(deadline_seconds=60),
        Kind.ERASURE: KindRules(deadline_seconds=60),
    }
    catalogue = Catalogue(kinds=kinds, models={"first": a_model(), "second": a_model(), "odd": a_model()})
    return replace(catalogue, **fields)


def test_the_first_model_of_a_kind_is_taken_unless_one_is_named() -> None:
    assert a_catalogue().model_for(Kind.IMAGE, None)[0] == "first"
    assert a_catalogue().model_for(Kind.IMAGE, "second")[0] == "second"


@pytest.mark.parametrize(
    ("kind", "model", "param"),
    [
        (Kind.IMAGE, "odd", "model"),
        (Kind.IMAGE, "", "model"),
        (Kind.BRAND, None, "kind"),
        ("hologram", None, "kind"),
    ],
)
def test_a_model_that_the_kind_does_not_have_is_refused(kind: str, model: str | None, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        a_catalogue().model_for(kind, model)
    assert caught.value.param == param


def test_fallbacks_begin_with_the_chosen_model_and_name_each_once() -> None:
    assert a_catalogue().fallbacks(Kind.IMAGE, "second") == ("second", "first")
    assert a_catalogue().fallbacks(Kind.IMAGE, "retired") == ("retired", "first", "second")
    assert a_catalogue().fallbacks("hologram", "x") == ("x",)


def test_a_model_is_paid_per_image_per_second_or_per_job() -> None:
    assert cost_tokens(a_model(), count=4, seconds=8) == 12
    assert cost_tokens(a_model(per=Per.SECOND), count=4, seconds=8) == 24
    assert cost_tokens(a_model(per=Per.JOB), count=4, seconds=8) == 3


def test_size_and_ratio_are_found_from_whichever_was_asked_for() -> None:
    assert resolve_size(a_model(), size=None, aspect_ratio=None) == ("1:1", "64x64")
    assert resolve_size(a_model(), size="64x32", aspect_ratio=None) == ("2:1", "64x32")
    assert resolve_size(a_model(), size=None, aspect_ratio="2:1") == ("2:1", "64x32")


@pytest.mark.parametrize(
    ("size", "ratio", "param"),
    [
        ("64x64", "1:1", "aspect_ratio"),
        ("65x64", None, "size"),
        (None, "9:16", "aspect_ratio"),
        ("", None, "size"),
    ],
)
def test_a_size_that_the_model_does_not_make_is_refused(
    size: str | None, ratio: str | None, param: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolve_size(a_model(), size=size, aspect_ratio=ratio)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("request_", "fits"),
    [
        ({}, True),
        ({"count": 2, "aspect_ratio": "2:1", "seconds": 8}, True),
        ({"count": 3}, False),
        ({"aspect_ratio": "9:16"}, False),
        ({"seconds": 5}, False),
    ],
)
def test_a_model_says_whether_it_could_make_what_another_was_asked_for(
    request_: dict[str, Any], fits: bool
) -> None:
    assert a_model(max_count=2, seconds=(4, 8)).can_make(request_) is fits


def test_a_request_is_framed_by_the_model_that_makes_it() -> None:
    asked = {"prompt": "a fox", "aspect_ratio": "2:1", "size": "2000x1000", "width": 2000, "height": 1000}
    framed = a_model().framed(asked)
    assert framed == asked | {"size": "64x32", "width": 64, "height": 32}
    assert a_model().framed({"width": 5}) == {"width": 5}


@given(st.integers(1, 8192), st.integers(1, 8192))
def test_a_size_is_its_width_and_height(width: int, height: int) -> None:
    assert width_and_height(f"{width}x{height}") == (width, height)


def test_a_catalogue_that_works_has_no_problems() -> None:
    assert a_catalogue().problems() == []
    assert load_catalogue(None).problems() == []


def test_the_catalogue_of_real_models_works_and_has_the_same_styles() -> None:
    real = load_catalogue(Path(__file__).parents[2] / "infra" / "catalogue.toml")
    assert real.styles == load_catalogue(None).styles
    for kind in (Kind.IMAGE, Kind.VIDEO):
        assert real.model_for(kind, None)[1].can_make({})


RULES = a_catalogue().kinds
PROBLEMS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown model": (
        {"kinds": {**RULES, Kind.VIDEO: KindRules(deadline_seconds=1, models=("missing",))}},
        "kinds.video.models names missing",
    ),
    "no rules for erasures": ({"kinds": {Kind.IMAGE: RULES[Kind.IMAGE]}}, "kinds.erasure is missing"),
    "no time": (
        {"kinds": {**RULES, Kind.BRAND: KindRules(deadline_seconds=0)}},
        "kinds.brand.deadline_seconds",
    ),
    "a negative price": ({"models": {**a_catalogue().models, "m": a_model(tokens=-1)}}, "models.m.tokens"),
    "no time to start": (
        {"models": {**a_catalogue().models, "m": a_model(start_timeout_seconds=0)}},
        "models.m.start_timeout_seconds",
    ),
    "no images": (
        {"models": {**a_catalogue().models, "m": a_model(max_count=0)}},
        "models.m.max_count",
    ),
    "no length": (
        {"models": {**a_catalogue().models, "m": a_model(seconds=(4, 0))}},
        "models.m.seconds must be positive",
    ),
    "no sizes": ({"models": {**a_catalogue().models, "m": a_model(sizes={})}}, "models.m.sizes is empty"),
    "nobody at once": (
        {"models": {**a_catalogue().models, "m": a_model(max_at_once=0)}},
        "models.m.max_at_once and .max_per_minute must be positive",
    ),
    "no seconds to charge for": (
        {"models": {**a_catalogue().models, "m": a_model(per=Per.SECOND)}},
        "models.m is charged per second",
    ),
}


@pytest.mark.parametrize("what", PROBLEMS)
def test_what_cannot_work_is_said_in_one_line(what: str) -> None:
    fields, said = PROBLEMS[what]
    [problem] = a_catalogue(**fields).problems()
    assert said in problem


@pytest.mark.parametrize(
    "size", ["", "64", "64x", "x64", "64x64x64", "0x64", "8193x64", "-1x64", "64X64", "6.4x64"]
)
def test_a_size_that_is_none_is_a_problem(size: str) -> None:
    catalogue = a_catalogue(models={**a_catalogue().models, "m": a_model(sizes={"1:1": size})})
    [problem] = catalogue.problems()
    assert "is not WIDTHxHEIGHT" in problem
