"""The engine's numbers, in one place."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    publish_grace: timedelta = timedelta(seconds=10)
    """How long after a submit the sweep starts to doubt that the message arrived."""
    lease: timedelta = timedelta(seconds=45)
    """A claim's length; longer where a model's start call may take longer."""
    lease_margin: timedelta = timedelta(seconds=15)
    """How much a lease outlives the start call, so that we never cause an unknown outcome ourselves."""
    max_attempts: int = 5
    backoff_first: timedelta = timedelta(seconds=1)
    backoff_most: timedelta = timedelta(minutes=5)
    sweep_first: timedelta = timedelta(seconds=30)
    """The sweep's first push of `wake_at`; it doubles while nobody claims."""
    sweep_most: timedelta = timedelta(minutes=10)
    unknown_kind_park: timedelta = timedelta(seconds=60)
    early_tolerance: timedelta = timedelta(seconds=1)
    """Clocks differ: a message this much before `not_before` is still honoured."""
    inline_poll: timedelta = timedelta(seconds=60)
    """How long a step polls a running operation before it parks."""
    step_budget: timedelta = timedelta(seconds=480)
    """A step begins nothing that may end later than this; a push delivery does not wait much longer."""

    def backoff(self, attempts: int, chance: float) -> timedelta:
        """Exponential in `attempts` (from 1), between half and all of it: `chance` is uniform in [0, 1)."""
        whole = min(self.backoff_most, self.backoff_first * (1 << min(attempts - 1, 20)))
        return whole * (0.5 + chance / 2)

    def sweep_push(self, sweeps: int) -> timedelta:
        return min(self.sweep_most, self.sweep_first * (1 << min(sweeps, 20)))
