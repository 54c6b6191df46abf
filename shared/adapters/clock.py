"""The real clock and real chance."""

import asyncio
import os
from datetime import UTC, datetime

from shared.ports.clock import Noise


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0))


system_noise: Noise = os.urandom
