"""What every use case is given: the ports, the catalogue and the numbers."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.domain.catalogue import Catalogue
from shared.domain.policy import Policy
from shared.ports.clock import Clock, Noise
from shared.ports.generator import Generator
from shared.ports.media import Inspector, MediaStore
from shared.ports.queue import Queue
from shared.ports.store import Store


@dataclass(frozen=True, kw_only=True)
class App:
    """What the gateway and the worker have in common."""

    store: Store
    queue: Queue
    catalogue: Catalogue
    policy: Policy
    clock: Clock
    noise: Noise
    signup_tokens: int = 0
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process has been asked to end: nothing new is bought, and nobody is kept waiting."""


@dataclass(frozen=True, kw_only=True)
class WorkerApp(App):
    """The worker also makes things."""

    media: MediaStore
    inspector: Inspector
    generators: Mapping[str, Generator]
    stop_grace_seconds: float = 4
    """How long a step that is under way may still take then."""


def chance(app: App) -> float:
    """Uniform in [0, 1)."""
    return int.from_bytes(app.noise(6), "big") / (1 << 48)
