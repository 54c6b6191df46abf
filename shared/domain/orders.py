"""From what a user asks for to what will be made and what it costs. Pure: a quote and a submit agree."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.domain.catalogue import Catalogue, Model, cost_tokens, resolve_size, width_and_height
from shared.domain.errors import InvalidRequest
from shared.domain.job import Job, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A priced order; `request` is complete, so that the same request makes the same thing again."""

    kind: str
    model: str
    request: Mapping[str, Any]
    cost: int


def image_order(
    catalogue: Catalogue,
    *,
    prompt: str,
    seed: int,
    negative_prompt: str | None = None,
    size: str | None = None,
    aspect_ratio: str | None = None,
    count: int = 1,
    style: str | None = None,
    brand_id: str | None = None,
    model: str | None = None,
) -> Order:
    name, rules = catalogue.model_for(Kind.IMAGE, model)
    if count > rules.max_count:
        raise InvalidRequest(f"{name} makes at most {rules.max_count} images at once", param="count")
    if brand_id is not None:
        raise InvalidRequest("there is no such brand", param="brand_id")
    request = {"prompt": prompt, "negative_prompt": negative_prompt, "count": count, "style": style}
    if style is not None:
        if style not in catalogue.styles:
            raise InvalidRequest(f"style must be one of {', '.join(catalogue.styles)}", param="style")
        request["style_prompt"] = catalogue.styles[style].prompt
    request |= _frame(rules, size, aspect_ratio) | {"seed": seed}
    return Order(kind=Kind.IMAGE, model=name, request=_given(request), cost=cost_tokens(rules, count=count))


def video_order(
    catalogue: Catalogue,
    *,
    prompt: str,
    seed: int,
    seconds: int | None = None,
    aspect_ratio: str | None = None,
    image: str | None = None,
    model: str | None = None,
) -> Order:
    name, rules = catalogue.model_for(Kind.VIDEO, model)
    if image is not None:
        raise InvalidRequest("there is no such upload", param="image")
    if seconds is None and rules.seconds:
        seconds = rules.seconds[0]
    if seconds is None or (rules.seconds and seconds not in rules.seconds):
        raise InvalidRequest(f"seconds must be one of {', '.join(map(str, rules.seconds))}", param="seconds")
    request = {"prompt": prompt, "seconds": seconds, **_frame(rules, None, aspect_ratio), "seed": seed}
    return Order(
        kind=Kind.VIDEO, model=name, request=_given(request), cost=cost_tokens(rules, seconds=seconds)
    )


def repeated(catalogue: Catalogue, job: Job) -> Order:
    """The same request once more, at today's price."""
    if job.model is None:
        raise InvalidRequest(f"jobs of kind {job.kind} cannot be retried")
    name, rules = catalogue.model_for(job.kind, job.model)
    count, seconds = job.request.get("count", 1), job.request.get("seconds", 1)
    cost = cost_tokens(rules, count=count, seconds=seconds)
    return Order(kind=job.kind, model=name, request=job.request, cost=cost)


def _frame(rules: Model, size: str | None, aspect_ratio: str | None) -> dict[str, Any]:
    ratio, size = resolve_size(rules, size=size, aspect_ratio=aspect_ratio)
    width, height = width_and_height(size)
    return {"aspect_ratio": ratio, "size": size, "width": width, "height": height}


def _given(request: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in request.items() if value is not None}
