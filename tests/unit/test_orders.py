"""From what is asked to what is made and what it costs."""

from dataclasses import replace
from typing import Any

import pytest

from shared.catalogue import load_catalogue
from shared.domain.catalogue import Catalogue, KindRules, Model, Per
from shared.domain.errors import InvalidRequest
from shared.domain.job import Kind
from shared.domain.orders import Order, image_order, repeated, video_order
from shared.domain.requests import ImageRequest, VideoRequest, image_request, video_request
from tests.support import a_job

CATALOGUE = load_catalogue(None)
STYLE = next(iter(CATALOGUE.styles))


def test_an_image_order_resolves_every_default() -> None:
    order = image_order(CATALOGUE, prompt="a fox", seed=7)
    assert order == Order(
        kind=Kind.IMAGE,
        model="local-image",
        request={
            "prompt": "a fox",
            "count": 1,
            "aspect_ratio": "1:1",
            "size": "1024x1024",
            "width": 1024,
            "height": 1024,
            "seed": 7,
        },
        cost=1,
    )


def test_an_image_order_keeps_everything_that_was_asked_for() -> None:
    order = image_order(
        CATALOGUE,
        prompt="a fox",
        seed=7,
        negative_prompt="a hound",
        aspect_ratio="16:9",
        count=3,
        style=STYLE,
        model="local-image",
    )
    assert order.cost == 3
    assert image_request(order.request) == ImageRequest(
        prompt="a fox",
        width=1344,
        height=768,
        aspect_ratio="16:9",
        seed=7,
        count=3,
        negative_prompt="a hound",
        style=STYLE,
        style_prompt=CATALOGUE.styles[STYLE].prompt,
    )


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"count": 5}, "count"),
        ({"brand_id": "job_1"}, "brand_id"),
        ({"style": "cubism"}, "style"),
        ({"size": "1x1"}, "size"),
        ({"model": "local-video"}, "model"),
    ],
)
def test_an_image_that_cannot_be_made_is_refused(asked: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        image_order(CATALOGUE, prompt="a fox", seed=7, **asked)
    assert caught.value.param == param


def test_a_video_order_resolves_every_default() -> None:
    order = video_order(CATALOGUE, prompt="a fox", seed=7)
    assert (order.kind, order.model, order.cost) == (Kind.VIDEO, "local-video", 10)
    assert video_request(order.request) == VideoRequest(
        prompt="a fox", width=1280, height=720, aspect_ratio="16:9", seconds=2, seed=7
    )
    assert video_order(CATALOGUE, prompt="a fox", seed=7, seconds=8).request["seconds"] == 8


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"seconds": 3}, "seconds"),
        ({"image": "job_1/0"}, "image"),
        ({"aspect_ratio": "3:2"}, "aspect_ratio"),
        ({"model": "veo"}, "model"),
    ],
)
def test_a_video_that_cannot_be_made_is_refused(asked: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        video_order(CATALOGUE, prompt="a fox", seed=7, **asked)
    assert caught.value.param == param


def a_video_catalogue(**fields: Any) -> Catalogue:
    model = Model(generator="g", tokens=2, per=Per.SECOND, start_timeout_seconds=1, sizes={"1:1": "8x8"})
    rules = KindRules(deadline_seconds=60, models=("m",))
    return Catalogue(kinds={Kind.VIDEO: rules}, models={"m": replace(model, **fields)})


def test_a_video_charged_per_second_costs_its_length() -> None:
    order = video_order(a_video_catalogue(seconds=(4, 8)), prompt="a fox", seed=7, seconds=8)
    assert order.cost == 16


def test_a_model_without_lengths_wants_to_be_told_one() -> None:
    assert video_order(a_video_catalogue(), prompt="a fox", seed=7, seconds=5).cost == 10
    with pytest.raises(InvalidRequest) as caught:
        video_order(a_video_catalogue(), prompt="a fox", seed=7)
    assert caught.value.param == "seconds"


def test_a_repetition_is_the_same_request_at_todays_price() -> None:
    order = image_order(CATALOGUE, prompt="a fox", seed=7, count=3)
    again = repeated(CATALOGUE, a_job(1, model=order.model, request=order.request, cost=99))
    assert again == order
    film = video_order(a_video_catalogue(seconds=(4,)), prompt="a fox", seed=7)
    job = a_job(1, kind=Kind.VIDEO, model="m", request=film.request)
    assert repeated(a_video_catalogue(seconds=(4,), tokens=5), job).cost == 20


@pytest.mark.parametrize("model", [None, "retired"])
def test_what_no_model_makes_cannot_be_repeated(model: str | None) -> None:
    with pytest.raises(InvalidRequest):
        repeated(CATALOGUE, a_job(1, model=model))
