"""The Interactions API as it is on the wire: what an interaction that makes a video looks like."""

import base64
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

from shared.adapters.generators.google.omni_video import OmniVideo
from tests.providers.films import a_real_film
from tests.providers.pictures import is_refused
from tests.providers.server import Call, FakeProvider, Reply

ID: Final = "v1_ChdPU0F4YWFtNkFwS2kxZThQ"
KEY: Final = "key-of-tests"


def open_omni(provider: FakeProvider, scratch: Path, **more: Any) -> AbstractAsyncContextManager[OmniVideo]:
    return OmniVideo.open(**{"api_key": KEY, "scratch": scratch, "base_url": provider.url, **more})


def interaction(status: Any = "in_progress", **more: Any) -> Reply:
    return Reply.json({"id": ID, "status": status, "object": "interaction"} | more)


def said(*content: Any) -> Reply:
    """An interaction that has ended with these pieces of content."""
    return interaction(
        "completed",
        steps=[
            {"type": "user_input", "content": [{"type": "text", "text": "a dog"}]},
            {"type": "model_output", "content": list(content)},
        ],
    )


def video_at(uri: str) -> Reply:
    return said({"type": "video", "uri": uri, "mime_type": "video/mp4"})


def video_inside(content: bytes) -> Reply:
    inside = base64.b64encode(content).decode()
    return said({"type": "video", "data": inside, "mime_type": "video/mp4"})


def failed(*errors: tuple[str, str]) -> Reply:
    return interaction("failed", errors=[{"code": code, "message": message} for code, message in errors])


def own_error(status: int, code: str, message: str = "it says why") -> Reply:
    """As this API words it; it also answers in the words of all of Google's."""
    return Reply.json({"error": {"code": code, "message": message}}, status=status)


class AModel:
    """Films whatever its policy lets it; when first asked, it has not begun."""

    def __init__(self) -> None:
        self._asked: dict[str, int] = {}
        self._cancelled: set[str] = set()

    def __call__(self, call: Call) -> Reply:
        if call.path == "/v1/interactions":
            if is_refused(str(call.json["input"])):
                return own_error(400, "prohibited_content", "The prompt was blocked by our policies.")
            id_ = f"{ID}{len(self._asked)}"
            self._asked[id_] = 0
            return interaction(id=id_)
        id_ = call.path.split("/")[3]
        if id_ not in self._asked:
            return own_error(404, "not_found")
        if call.path.endswith("/cancel"):
            self._cancelled.add(id_)
        if id_ in self._cancelled:
            return interaction("cancelled", id=id_)
        self._asked[id_] += 1
        return interaction("queued", id=id_) if self._asked[id_] == 1 else video_inside(a_real_film())
