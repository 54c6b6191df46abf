"""The generators that the catalogue names."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from shared.adapters.clock import system_noise
from shared.domain.catalogue import Catalogue
from shared.ports.clock import Clock
from shared.ports.generator import Generator
from shared.settings import BadSettings, Settings


@asynccontextmanager
async def open_generators(
    settings: Settings, catalogue: Catalogue, clock: Clock
) -> AsyncIterator[Mapping[str, Generator]]:
    """The generators that the catalogue names, by their names there."""
    async with AsyncExitStack() as stack:
        generators: dict[str, Generator] = {}
        for name in {model.generator for model in catalogue.models.values()}:
            if name != "local":
                raise BadSettings(f"MEDIAFORGE_CATALOGUE: there is no generator {name}")
            from shared.adapters.generators.local_renderer import LocalRenderer

            renderer = LocalRenderer(
                settings.home,
                clock=clock,
                noise=system_noise,
                latency_seconds=settings.local_latency_seconds,
                failure_rate=settings.local_failure_rate,
                operations_file=settings.local_operations,
            )
            generators[name] = await stack.enter_async_context(renderer)
        yield generators
