"""Time and chance: the two inputs that tests and the simulator take into their own hands."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """The present instant, aware, in UTC; may jump either way between machines."""

    async def sleep(self, seconds: float) -> None:
        """Return once that much time has passed; at once for zero or less."""


Noise = Callable[[int], bytes]
"""That many random bytes, fit for secrets."""
