"""The sweep: look after every job whose `wake_at` has passed, so that no lost message loses a job."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import structlog

from shared.domain.changes import Put, Records, Write, job_key
from shared.domain.errors import StoreUnavailable
from shared.domain.job import Job
from shared.domain.lifecycle import swept
from shared.usecases.app import WorkerApp
from shared.usecases.submit import publish
from shared.usecases.work import Work

BATCH: Final = 100
LONGEST_NAP: Final = timedelta(seconds=2)
"""A job can become due earlier than the earliest that was seen: look again this often."""
SHORTEST_NAP: Final = timedelta(seconds=0.2)
"""Jobs that become due one by one are looked at together."""

_log = structlog.get_logger(__name__)


async def sweep(app: WorkerApp, work: Work) -> int:
    """Publish again what is due, settle what is past its deadline; returns how many jobs that were.

    Any number of sweeps may run at once: each job's `wake_at` moves forward once, and only the sweep
    that moved it publishes it.
    """
    done = 0
    while True:
        jobs = await app.store.due(app.clock.now(), limit=BATCH)
        looks = await asyncio.gather(*(_look(app, work, job) for job in jobs), return_exceptions=True)
        await publish(app, [look for look in looks if isinstance(look, Job)])
        done += len(jobs)
        if _report_failures(jobs, looks) or len(jobs) < BATCH:
            break
    if done:
        _log.info("sweep.done", jobs=done)
    return done


async def sweep_for(app: WorkerApp, work: Work, seconds: float) -> int:
    """Sweep, sleep until the next job is due, sweep again; returns early when none will be due in time."""
    end = app.clock.now() + timedelta(seconds=seconds)
    done = 0
    while not app.stopping.is_set():  # what this process just parked is for another one to take up
        began = app.clock.now()
        done += await sweep(app, work)
        wake_at = await app.store.next_wake()
        if wake_at is None or wake_at > end:
            break
        now = app.clock.now()
        # What was due before the sweep and still is cannot be looked at: it must not set the pace.
        nap = LONGEST_NAP if wake_at <= began else min(max(wake_at - now, SHORTEST_NAP), LONGEST_NAP)
        if now + nap > end:
            break
        await app.clock.sleep(nap.total_seconds())
    return done


def _report_failures(jobs: Sequence[Job], looks: Sequence[Job | BaseException | None]) -> bool:
    """One job that cannot be looked at must not keep the others from being swept."""
    failed = False
    for job, look in zip(jobs, looks, strict=True):
        if isinstance(look, BaseException):
            if isinstance(look, StoreUnavailable) or not isinstance(look, Exception):
                raise look
            _log.error("sweep.job_failed", job_id=job.id, exc_info=look)
            failed = True
    return failed


async def _look(app: WorkerApp, work: Work, seen: Job) -> Job | None:
    """Settle the job if it is overdue; else push its `wake_at` and return it, if this look was the one."""
    if seen.deadline_at <= app.clock.now():
        await work.end_if_forced(seen)
        return None
    key, now = job_key(seen.id), app.clock.now()
    won = False  # After a commit of unknown result it stays so: the next sweep publishes the job.

    def decide(records: Records) -> Sequence[Write]:
        nonlocal won
        won = False
        job = records.find(key)
        if job is None or job.is_finished or job.wake_at != seen.wake_at:
            return []
        won = True
        return [Put(swept(job, now=now, policy=app.policy))]

    after = (await app.store.change([key], decide)).find(key)
    return after if won else None
