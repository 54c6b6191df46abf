"""From a body to a priced order; a quote and a submit go the same way."""

import msgspec

from services.api_gateway.schemas import ImageBody, VideoBody
from shared.domain.errors import InvalidRequest
from shared.domain.orders import Order, image_order, video_order
from shared.wiring import Gateway

_SEED_BYTES = 4


def drawn_seed(gateway: Gateway) -> int:
    """For a body that names none."""
    return int.from_bytes(gateway.app.noise(_SEED_BYTES), "big") >> 1


def order_of(gateway: Gateway, body: ImageBody | VideoBody, seed: int) -> Order:
    """Pure. Raises `InvalidRequest` for what the catalogue or the settings do not allow."""
    _require_within_limits(gateway, body)
    catalogue = gateway.app.catalogue
    seed = body.seed if body.seed is not None else seed
    if isinstance(body, VideoBody):
        return video_order(
            catalogue,
            prompt=body.prompt,
            seed=seed,
            seconds=body.seconds,
            aspect_ratio=body.aspect_ratio,
            image=body.image,
            model=body.model,
        )
    return image_order(
        catalogue,
        prompt=body.prompt,
        seed=seed,
        negative_prompt=body.negative_prompt,
        size=body.size,
        aspect_ratio=body.aspect_ratio,
        count=body.count,
        style=body.style,
        brand_id=body.brand_id,
        model=body.model,
    )


def _require_within_limits(gateway: Gateway, body: ImageBody | VideoBody) -> None:
    settings = gateway.settings
    most = settings.max_prompt_characters
    for param in ("prompt", "negative_prompt"):
        if len(getattr(body, param, None) or "") > most:
            raise InvalidRequest(f"{param} may have {most} characters at most", param=param)
    if body.metadata and len(msgspec.json.encode(body.metadata)) > settings.max_metadata_bytes:
        raise InvalidRequest(
            f"metadata may have {settings.max_metadata_bytes} bytes of JSON at most", param="metadata"
        )
