"""The generators that the catalogue names."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final

import structlog

from shared.adapters.clock import system_noise
from shared.domain.catalogue import Catalogue
from shared.ports.clock import Clock
from shared.ports.generator import Generator
from shared.settings import BadSettings, Settings
from shared.wiring.extras import needs_extra

_log = structlog.get_logger(__name__)

CALL_MARGIN_SECONDS: Final = 5
"""How much earlier than the engine a client gives up, so that it is the client that says what happened.

Of its slowest model, that is; a quicker one's call is ended by the engine."""

SCRATCH: Final = "scratch"
"""In home: where films lie until they are stored."""


@asynccontextmanager
async def open_generators(
    settings: Settings, catalogue: Catalogue, clock: Clock
) -> AsyncIterator[Mapping[str, Generator]]:
    """By their names in the catalogue; only those that a model of it wants.

    A client has the patience of the slowest of its models; the engine ends the calls of the others in time.
    """
    longest: dict[str, int] = {}
    for model in catalogue.models.values():
        seconds = model.start_timeout_seconds
        longest[model.generator] = max(longest.get(model.generator, seconds), seconds)
    offered = {
        catalogue.models[name].generator for rules in catalogue.kinds.values() for name in rules.models
    }
    async with AsyncExitStack() as stack:
        opened: dict[str, Generator] = {}
        for name, seconds in longest.items():
            if name not in _OPENERS:
                raise BadSettings(
                    f"MEDIAFORGE_CATALOGUE: there is no generator {name}, but {', '.join(_OPENERS)}"
                )
            try:
                opened[name] = await stack.enter_async_context(_OPENERS[name](settings, clock, seconds))
            except BadSettings as error:
                if name in offered:
                    raise
                # Opened only for operations from the time when its models were offered.
                _log.warning("generator.not_opened", generator=name, error=str(error))
        yield opened


def _call_seconds(start_seconds: int) -> int:
    return max(1, start_seconds - CALL_MARGIN_SECONDS)


def _local(settings: Settings, clock: Clock, _: int) -> AbstractAsyncContextManager[Generator]:
    from shared.adapters.generators.local_renderer import LocalRenderer

    return LocalRenderer(
        settings.home,
        clock=clock,
        noise=system_noise,
        latency_seconds=settings.local_latency_seconds,
        failure_rate=settings.local_failure_rate,
        operations_file=settings.local_operations,
    )


def _gemini(settings: Settings, _: Clock, start_seconds: int) -> AbstractAsyncContextManager[Generator]:
    with needs_extra("MEDIAFORGE_CATALOGUE", "gemini"):
        from shared.adapters.generators.google.gemini_image import TIMEOUT_SECONDS, GeminiImages
    timeout = min(TIMEOUT_SECONDS, _call_seconds(start_seconds))
    key = settings.gemini_api_key.get_secret_value()
    if key or not settings.vertex_project:
        url = settings.gemini_url or None
        opening = GeminiImages.open(api_key=key, base_url=url, timeout_seconds=timeout)
        return _translated("MEDIAFORGE_GEMINI_API_KEY", opening)
    return _translated(
        "MEDIAFORGE_VERTEX_PROJECT",
        GeminiImages.open(
            project=settings.vertex_project,
            location=settings.vertex_location,
            base_url=settings.vertex_url or None,
            timeout_seconds=timeout,
        ),
    )


def _veo(settings: Settings, _: Clock, start_seconds: int) -> AbstractAsyncContextManager[Generator]:
    with needs_extra("MEDIAFORGE_CATALOGUE", "gemini"):
        from shared.adapters.generators.google.veo import Veo
        from shared.adapters.generators.google.videos import START_SECONDS
    opening = Veo.open(
        project=settings.vertex_project,
        location=settings.vertex_location,
        scratch=settings.home / SCRATCH,
        output_gcs_uri=settings.vertex_output or None,
        base_url=settings.vertex_url or None,
        start_seconds=min(START_SECONDS, _call_seconds(start_seconds)),
    )
    return _translated("MEDIAFORGE_VERTEX_PROJECT", opening)


def _omni(settings: Settings, _: Clock, start_seconds: int) -> AbstractAsyncContextManager[Generator]:
    with needs_extra("MEDIAFORGE_CATALOGUE", "gemini"):
        from shared.adapters.generators.google.omni_video import OmniVideo
        from shared.adapters.generators.google.videos import START_SECONDS
    opening = OmniVideo.open(
        api_key=settings.gemini_api_key.get_secret_value(),
        scratch=settings.home / SCRATCH,
        base_url=settings.gemini_url or None,
        start_seconds=min(START_SECONDS, _call_seconds(start_seconds)),
    )
    return _translated("MEDIAFORGE_GEMINI_API_KEY", opening)


def _openai(settings: Settings, _: Clock, start_seconds: int) -> AbstractAsyncContextManager[Generator]:
    with needs_extra("MEDIAFORGE_CATALOGUE", "openai"):
        from shared.adapters.generators.openai.images import TIMEOUT_SECONDS, OpenAIImages
    opening = OpenAIImages.open(
        api_key=settings.openai_api_key.get_secret_value(),
        base_url=settings.openai_url or None,
        timeout_seconds=min(TIMEOUT_SECONDS, _call_seconds(start_seconds)),
    )
    return _translated("MEDIAFORGE_OPENAI_API_KEY", opening)


@asynccontextmanager
async def _translated(
    variable: str, opening: AbstractAsyncContextManager[Generator]
) -> AsyncIterator[Generator]:
    """What cannot be opened is one line about the setting that it depends on."""
    from shared.adapters.generators.remote.http import CannotOpen

    async with AsyncExitStack() as stack:
        try:
            generator = await stack.enter_async_context(opening)
        except CannotOpen as error:
            raise BadSettings(f"{variable}: {error}") from error
        yield generator


_OPENERS: Final[Mapping[str, Callable[[Settings, Clock, int], AbstractAsyncContextManager[Generator]]]] = {
    "local": _local,
    "gemini": _gemini,
    "veo": _veo,
    "omni": _omni,
    "openai": _openai,
}
"""By their names in the catalogue; the number is how many seconds a start may take."""
