"""How long the property tests look for trouble: the same histories in CI, new ones elsewhere."""

import os

from hypothesis import HealthCheck, settings

FACTOR = float(os.environ.get("MEDIAFORGE_PROPERTY_FACTOR", "1"))
"""Set it to 10 or more to go hunting."""
IN_CI = bool(os.environ.get("CI"))


def budget(*, examples: int, steps: int = 1) -> settings:
    return settings(
        settings(database=None) if IN_CI else settings(),
        max_examples=max(1, round(examples * FACTOR)),
        stateful_step_count=steps,
        deadline=None,
        derandomize=IN_CI,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
