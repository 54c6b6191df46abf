"""Figures for operators."""

from typing import Any

from shared.domain.job import VISIBLE_KINDS, Status
from shared.ports.store import JobFilter
from shared.usecases.app import App


async def stats(app: App) -> dict[str, Any]:
    """Jobs and tokens by kind and status, the share that succeeded, and how late the sweep is."""
    kinds: dict[str, dict[str, dict[str, int]]] = {}
    succeeded = ended = 0
    for kind in sorted(VISIBLE_KINDS & app.catalogue.kinds.keys()):
        kinds[kind] = {}
        for status in Status:
            tally = await app.store.count(JobFilter(kinds=frozenset({kind}), statuses=frozenset({status})))
            if tally.jobs:
                kinds[kind][status] = {"jobs": tally.jobs, "tokens": tally.tokens}
            if status in _SUCCEEDED:
                succeeded += tally.jobs
            if status in _SUCCEEDED | {Status.FAILED}:
                ended += tally.jobs
    wake_at = await app.store.next_wake()
    late = max((app.clock.now() - wake_at).total_seconds(), 0.0) if wake_at is not None else 0.0
    return {
        "kinds": kinds,
        "success_rate": round(succeeded / ended, 4) if ended else None,
        "sweep_lag_seconds": round(late, 3),
    }


_SUCCEEDED = frozenset({Status.DRAFT, Status.PUBLISHED, Status.READY, Status.PARTIAL})
