"""No queue: every hint is lost, and the sweep of a running worker makes up for it."""

from collections.abc import Sequence

from shared.domain.errors import QueueUnavailable
from shared.ports.queue import Hint


class NoQueue:
    delays = False

    async def publish(self, hints: Sequence[Hint]) -> None:
        if hints:
            raise QueueUnavailable("this process sends nothing to the worker")

    async def check(self) -> None:
        raise QueueUnavailable("this process sends nothing to the worker")
