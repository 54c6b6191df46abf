"""Which handler advances jobs of which kind."""

from shared.domain.job import Kind
from shared.domain.requests import image_request, video_request
from shared.usecases.app import WorkerApp
from shared.usecases.handlers.base import Handler
from shared.usecases.handlers.erasure import Erasure
from shared.usecases.handlers.generation import Generation


def all_handlers(app: WorkerApp) -> dict[str, Handler]:
    return {
        Kind.IMAGE: Generation(app, image_request),
        Kind.VIDEO: Generation(app, video_request),
        Kind.ERASURE: Erasure(app),
    }
