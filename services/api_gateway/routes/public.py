"""What everybody may see: the feed, the catalogue, and media by their unguessable names."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from services.api_gateway.dependencies import After, Limit, Parts
from services.api_gateway.render import catalogue_body, feed_body, json_response, page_body
from services.api_gateway.schemas import FeedPage
from shared.domain.errors import NotFound
from shared.ports.media import TYPES, Presigner, is_media_key

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
async def media(request: Request, gateway: Parts, key: str) -> Response:
    """A file of this machine, whole or in ranges; or the way to where it is."""
    if gateway.presigner is not None:
        return _signed_link(gateway.presigner, key, "HEAD" if request.method == "HEAD" else "GET")
    path = gateway.local_media.find(key) if gateway.local_media else None
    if path is None:
        raise NotFound("there is no such media")
    try:
        stat = path.stat()
    except FileNotFoundError as error:  # erased just now
        raise NotFound("there is no such media") from error
    return _MediaFile(path, stat_result=stat, media_type=TYPES[path.suffix[1:]], headers=_MEDIA_HEADERS)


def _signed_link(presigner: Presigner, key: str, method: Literal["GET", "HEAD"]) -> Response:
    """Documents hold an address of ours, which works for ever; what it leads to works for a while."""
    if not is_media_key(key):
        raise NotFound("there is no such media")
    keep = presigner.expires_seconds // 2
    link = presigner.link(key, method=method)
    return RedirectResponse(link, 307, {"Cache-Control": f"private, max-age={keep}"})


class _MediaFile(FileResponse):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def checked(message: Message) -> None:
            """A range that cannot be served is an error as any other."""
            if message["type"] == "http.response.start" and message["status"] >= 400:
                kept = {
                    name: value for name, value in Headers(raw=message["headers"]).items() if "range" in name
                }
                raise HTTPException(message["status"], "there is no such part of the file", kept)
            await send(message)

        await super().__call__(scope, receive, checked)
