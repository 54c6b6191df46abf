"""What can be asked for and what it costs: the shape and the rules; the figures come from a file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, assert_never

from shared.domain.errors import InvalidRequest
from shared.domain.job import Kind

LONGEST_START_SECONDS: Final = 420
"""A start must fit into a step, and a step into a push delivery."""


class Per(StrEnum):
    IMAGE = "image"
    SECOND = "second"
    JOB = "job"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    generator: str
    tokens: int
    per: Per
    start_timeout_seconds: int
    label: str = ""
    provider_model: str = ""
    """The provider's own name of it; ours, if left out."""
    repeatable: bool = False
    max_count: int = 1
    sizes: Mapping[str, str] = field(default_factory=dict)
    """Aspect ratio to `WIDTHxHEIGHT`, the first is the default."""
    seconds: tuple[int, ...] = ()
    """Lengths that can be asked for, the first is the default."""
    max_at_once: int | None = None
    """Jobs that one worker process may have at the model at a time; more are parked."""
    max_per_minute: int | None = None
    """Jobs that one worker process may bring to the model in any minute; more are parked."""
    retires_on: str | None = None

    def can_make(self, request: Mapping[str, Any]) -> bool:
        """Whether a request that was resolved for another model could be made by this one."""
        return (
            request.get("count", 1) <= self.max_count
            and request.get("aspect_ratio", next(iter(self.sizes))) in self.sizes
            and (not self.seconds or request.get("seconds", self.seconds[0]) in self.seconds)
        )

    def framed(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The request in the size that this model makes of its aspect ratio."""
        size = self.sizes.get(request.get("aspect_ratio", ""))
        if size is None:
            return request
        width, height = width_and_height(size)
        return {**request, "size": size, "width": width, "height": height}

    def problems(self) -> Iterator[str]:
        if self.tokens < 0:
            yield ".tokens must not be negative"
        if not 1 <= self.start_timeout_seconds <= LONGEST_START_SECONDS:
            yield f".start_timeout_seconds must be 1 to {LONGEST_START_SECONDS}"
        if self.max_count < 1:
            yield ".max_count must be positive"
        if not self.sizes:
            yield ".sizes is empty"
        for size in self.sizes.values():
            if not _is_size(size):
                yield f".sizes: {size} is not WIDTHxHEIGHT"
        if any(limit is not None and limit < 1 for limit in (self.max_at_once, self.max_per_minute)):
            yield ".max_at_once and .max_per_minute must be positive"
        if any(seconds < 1 for seconds in self.seconds):
            yield ".seconds must be positive"
        if self.per is Per.SECOND and not self.seconds:
            yield " is charged per second and lists no seconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class KindRules:
    deadline_seconds: int
    models: tuple[str, ...] = ()

    @property
    def deadline(self) -> timedelta:
        return timedelta(seconds=self.deadline_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    label: str
    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    kinds: Mapping[str, KindRules]
    models: Mapping[str, Model]
    styles: Mapping[str, Style] = field(default_factory=dict)

    def model_for(self, kind: str, name: str | None) -> tuple[str, Model]:
        """The named model of a kind, or the kind's first; `InvalidRequest` if the kind has no such model."""
        rules = self.kinds.get(kind)
        if rules is None or not rules.models:
            raise InvalidRequest(f"nothing here makes jobs of kind {kind}", param="kind")
        if name is None:
            name = rules.models[0]
        if name not in rules.models:
            raise InvalidRequest(f"model must be one of {', '.join(rules.models)}", param="model")
        return name, self.models[name]

    def fallbacks(self, kind: str, first: str) -> tuple[str, ...]:
        """The models to try for a job, the chosen one first."""
        rules = self.kinds.get(kind)
        return (first, *(name for name in (rules.models if rules else ()) if name != first))

    def problems(self) -> list[str]:
        """What an operator's file says that cannot work, one line each."""
        found = [
            f"kinds.{kind}.models names {name}, which is not under [models]"
            for kind, rules in self.kinds.items()
            for name in rules.models
            if name not in self.models
        ]
        found += [f"kinds.{kind} is missing" for kind in (Kind.ERASURE,) if kind not in self.kinds]
        for kind, rules in self.kinds.items():
            if rules.deadline_seconds <= 0:
                found.append(f"kinds.{kind}.deadline_seconds must be positive")
        for name, model in self.models.items():
            found += [f"models.{name}{problem}" for problem in model.problems()]
        return found


def cost_tokens(model: Model, *, count: int = 1, seconds: int = 1) -> int:
    """The price of a job, in whole tokens."""
    match model.per:
        case Per.IMAGE:
            return model.tokens * count
        case Per.SECOND:
            return model.tokens * seconds
        case Per.JOB:
            return model.tokens
        case _:
            assert_never(model.per)


def resolve_size(model: Model, *, size: str | None, aspect_ratio: str | None) -> tuple[str, str]:
    """Aspect ratio and size, from whichever of the two was asked for."""
    if size is not None and aspect_ratio is not None:
        raise InvalidRequest("ask for size or aspect_ratio, not for both", param="aspect_ratio")
    if size is not None:
        for ratio, known in model.sizes.items():
            if known == size:
                return ratio, size
        raise InvalidRequest(f"size must be one of {', '.join(model.sizes.values())}", param="size")
    ratio = aspect_ratio or next(iter(model.sizes))
    if ratio not in model.sizes:
        raise InvalidRequest(f"aspect_ratio must be one of {', '.join(model.sizes)}", param="aspect_ratio")
    return ratio, model.sizes[ratio]


def width_and_height(size: str) -> tuple[int, int]:
    width, height = size.split("x")
    return int(width), int(height)


def _is_size(size: str) -> bool:
    parts = size.split("x")
    return len(parts) == 2 and all(part.isdecimal() and 0 < int(part) <= 8192 for part in parts)
