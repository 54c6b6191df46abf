"""What Google's two ways to make a video share: the frame, the buying, and words that tell a refusal."""

import math
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from google.genai import errors

from shared.adapters.generators.google.errors import Call, google_call
from shared.domain.requests import VideoRequest
from shared.ports.generator import (
    Busy,
    ContentRejected,
    Down,
    GenerationFailed,
    Order,
    OutcomeUnknown,
    RequestRefused,
)

START_SECONDS: Final = 60
ASK_SECONDS: Final = 45
LARGEST_ANSWER_BYTES: Final = 96 * 2**20
"""A video inside an answer is held in memory, several times over while it is read."""
LARGEST_VIDEO_BYTES: Final = 512 * 2**20
VIDEO: Final = "video/mp4"

# Google has no code of its own for a refused prompt: it is INVALID_ARGUMENT, and these words.
_POLICY: Final = re.compile(
    r"polic(y|ies)|usage guidelines|responsible ai|safety|support codes?\b|prohibited|sensitive|inappropriate"
    r"|harmful|blocked",
    re.IGNORECASE,
)


def video_request(order: Order) -> VideoRequest:
    if not isinstance(order.request, VideoRequest):
        raise RequestRefused("this model makes videos only")
    return order.request


def aspect_ratio(request: VideoRequest) -> str:
    """`16:9`, as users asked for it or as the size says it."""
    if request.aspect_ratio:
        return request.aspect_ratio
    common = math.gcd(request.width, request.height)
    return f"{request.width // common}:{request.height // common}"


def resolution(request: VideoRequest) -> str:
    """`720p`: the shorter side, whichever way the picture stands."""
    shorter = min(request.width, request.height)
    return "4k" if shorter == 2160 else f"{shorter}p"


def is_about_policy(words: str) -> bool:
    return _POLICY.search(words) is not None


@asynccontextmanager
async def buying(*, timeout_seconds: float) -> AsyncIterator[None]:
    """Around the one paid call of a video.

    Stricter than for a cheap image about an answer with a server error: whether the service had put the
    operation on its list before it failed cannot be seen from outside, and a video that goes on unseen
    costs dollars. Only a 503 in Google's own words (UNAVAILABLE: the service did not get to it) took nothing.
    """
    try:
        async with google_call(Call.PAID, timeout_seconds=timeout_seconds):
            yield
    except (Busy, Down) as error:
        if _may_have_been_taken(error.__cause__):
            raise OutcomeUnknown(error.message) from error
        raise
    except RequestRefused as error:
        if is_about_policy(f"{error.message} {_said(error.__cause__).get('code')}"):
            raise ContentRejected(error.message, stage="prompt") from error
        raise


@asynccontextmanager
async def asking(*, timeout_seconds: float) -> AsyncIterator[None]:
    """Around a question about an operation: only Google can say that there is none."""
    try:
        async with google_call(Call.FREE, timeout_seconds=timeout_seconds):
            yield
    except GenerationFailed as error:
        if isinstance(error.__cause__, errors.APIError) and not _said(error.__cause__):
            raise Down("something else answered for the provider") from error
        raise


def _may_have_been_taken(cause: BaseException | None) -> bool:
    if not isinstance(cause, errors.APIError) or cause.code < 500:
        return False
    return cause.code != 503 or not _said(cause)


def _said(cause: BaseException | None) -> Mapping[str, Any]:
    """What Google itself said with an error status; nothing if a proxy answered."""
    body = cause.details if isinstance(cause, errors.APIError) else None
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}
