"""Veo on Vertex AI as it is on the wire: what operations look like, and credentials that are no one's."""

import base64
import threading
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import google.auth.credentials
import google.auth.exceptions

from shared.adapters.generators.google.veo import Veo
from tests.providers.films import a_real_film
from tests.providers.gemini import error
from tests.providers.pictures import is_refused
from tests.providers.server import Call, FakeProvider, Reply

MODEL_PATH: Final = "/v1beta1/projects/p/locations/us-central1/publishers/google/models/video-model"
NAME: Final = f"{MODEL_PATH.removeprefix('/v1beta1/')}/operations/6e4b-1"


class Credentials(google.auth.credentials.Credentials):
    """Tokens are numbered; without one at first, as those of a machine."""

    def __init__(self, *, broken: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.refreshed_by: list[int] = []
        """The threads that fetched a token."""
        self._broken = broken

    def refresh(self, request: object) -> None:
        self.refreshed_by.append(threading.get_ident())
        if self._broken:
            raise google.auth.exceptions.RefreshError("the account was deleted")  # type: ignore[no-untyped-call]
        self.token = f"token-{len(self.refreshed_by)}"
        self.expiry = datetime.utcnow() + timedelta(hours=1)  # noqa: DTZ003  # as google.auth has it


def open_veo(provider: FakeProvider, scratch: Path, **more: Any) -> AbstractAsyncContextManager[Veo]:
    settings = {
        "project": "p",
        "location": "us-central1",
        "scratch": scratch,
        "credentials": Credentials(),
        "base_url": provider.url,
        "storage_url": provider.url,
    }
    return Veo.open(**{**settings, **more})


def taken(name: Any = NAME) -> Reply:
    """The answer to a start."""
    return Reply.json({"name": name})


def running(metadata: Any = None) -> Reply:
    """Nothing says that it is not done."""
    return Reply.json({"name": NAME, "metadata": {} if metadata is None else metadata})


def ended(response: Any) -> Reply:
    return Reply.json({"name": NAME, "done": True, "response": response})


def with_video(content: bytes) -> Reply:
    inside = base64.b64encode(content).decode()
    return ended(
        {"raiMediaFilteredCount": 0, "videos": [{"bytesBase64Encoded": inside, "mimeType": "video/mp4"}]}
    )


def in_storage(uri: str = "gs://films/job 1/sample_0.mp4") -> Reply:
    return ended({"videos": [{"gcsUri": uri, "mimeType": "video/mp4"}]})


def failed(code: Any, message: str) -> Reply:
    return Reply.json({"name": NAME, "done": True, "error": {"code": code, "message": message}})


def filtered(*reasons: str) -> Reply:
    told = {"raiMediaFilteredReasons": list(reasons)} if reasons else {}
    return ended({"raiMediaFilteredCount": 1, **told})


def film(content: bytes) -> Reply:
    """An object of a bucket."""
    return Reply.text(content, type_="video/mp4")


class AModel:
    """Films whatever its policy lets it; when first asked, it is still at work."""

    def __init__(self) -> None:
        self._asked: dict[str, int] = {}

    def __call__(self, call: Call) -> Reply:
        if call.path.endswith(":predictLongRunning"):
            [instance] = call.json["instances"]
            if is_refused(instance["prompt"]):
                return error(400, "INVALID_ARGUMENT", "The prompt violates our usage guidelines.")
            name = f"{call.path.removeprefix('/v1beta1/').partition(':')[0]}/operations/{len(self._asked)}"
            self._asked[name] = 0
            return taken(name)
        name = call.json["operationName"]
        if name not in self._asked:
            return error(404, "NOT_FOUND", "Operation not found")
        self._asked[name] += 1
        return running() if self._asked[name] == 1 else with_video(a_real_film())
