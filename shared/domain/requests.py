"""What can be asked for: typed views of a job's `request`, every default resolved."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    prompt: str
    width: int
    height: int
    aspect_ratio: str = ""
    """As users know it, `16:9`; the size is what the chosen model makes of it."""
    seed: int
    count: int = 1
    negative_prompt: str | None = None
    style: str | None = None
    """The style's name in the catalogue."""
    style_prompt: str | None = None
    """The words that the style adds to the prompt, as they were at submit."""
    brand_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoRequest:
    prompt: str
    width: int
    height: int
    aspect_ratio: str = ""
    seconds: int
    seed: int
    image: str | None = None
    """The media id of the first frame."""


def image_request(request: Mapping[str, Any]) -> ImageRequest:
    return msgspec.convert(request, ImageRequest)


def video_request(request: Mapping[str, Any]) -> VideoRequest:
    return msgspec.convert(request, VideoRequest)
