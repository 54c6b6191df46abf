"""What everybody may see: the feed, the catalogue, and media by their unguessable names."""

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse

from services.api_gateway.dependencies import After, Limit, Parts
from services.api_gateway.render import catalogue_body, feed_body, json_response, page_body
from services.api_gateway.schemas import FeedPage
from shared.domain.errors import NotFound
from shared.ports.media import TYPES

router = APIRouter(tags=["public"])

_MEDIA_HEADERS = {
    # A name never means other bytes.
    "Cache-Control": "public, max-age=31536000, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
}


@router.get("/v1/feed", responses={200: {"model": FeedPage}}, summary="Published, newest first")
async def feed(gateway: Parts, limit: Limit = 20, after: After = None) -> Response:
    page = await gateway.app.store.feed(limit=limit, after=after)
    return json_response(page_body(page, lambda job: feed_body(gateway, job)))


@router.get("/v1/catalogue", summary="Kinds, models, styles, sizes, prices, and what is billed when")
async def catalogue(gateway: Parts) -> Response:
    return json_response(catalogue_body(gateway.app.catalogue))


@router.api_route(
    "/media/{key:path}", methods=["GET", "HEAD"], response_class=FileResponse, include_in_schema=False
)
async def media(gateway: Parts, key: str) -> Response:
    """A file of this machine, whole or in ranges."""
    path = gateway.local_media.find(key) if gateway.local_media else None
    if path is None:
        raise NotFound("there is no such media")
    return FileResponse(path, media_type=TYPES[path.suffix[1:]], headers=_MEDIA_HEADERS)
