"""The histories would find these mistakes: each is planted, and the machine must fail."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from shared.domain import lifecycle
from shared.domain.changes import Put, Records, Write, job_key
from shared.domain.ids import AccountId, ClaimToken, EntryId
from shared.domain.job import Job, Status
from shared.domain.ledger import Account
from shared.domain.lifecycle import Verdict
from shared.domain.outcomes import End, Outcome
from shared.domain.settlement import settled
from shared.ports.media import MediaStore
from shared.usecases import settle, submit, work
from shared.usecases.turn import Turn
from tests.properties import faults
from tests.properties.test_use_cases import UseCases

Plant = Callable[[pytest.MonkeyPatch], None]


def a_refund_that_leaves_the_balance_alone(patch: pytest.MonkeyPatch) -> None:
    def half_settled(*args: Any, **named: Any) -> Sequence[Write]:
        writes = settled(*args, **named)
        return [
            write for write in writes if not (isinstance(write, Put) and isinstance(write.record, Account))
        ]

    patch.setattr(settle, "settled", half_settled)


def a_turn_that_writes_without_its_claim(patch: pytest.MonkeyPatch) -> None:
    async def write(self: Turn, move: Callable[[Job, datetime], Job]) -> None:
        key, now = job_key(self.job.id), self.app.clock.now()

        def decide(records: Records) -> Sequence[Write]:
            standing = records.find(key)
            return [Put(move(standing, now))] if standing and standing.lease else []

        self.job = (await self.app.store.change([key], decide)).find(key) or self.job

    patch.setattr(Turn, "_write", write)


def a_parked_job_that_nobody_wakes(patch: pytest.MonkeyPatch) -> None:
    def parked(job: Job, until: datetime) -> Job:
        return replace(job, status=Status.QUEUED, lease=None, wake_at=None, not_before=until)

    patch.setattr(lifecycle, "parked", parked)


def an_intent_that_is_not_saved(patch: pytest.MonkeyPatch) -> None:
    async def intend(self: Turn, purchase: Any) -> None:
        self.job = replace(self.job, purchase=purchase)

    async def save_reference(self: Turn, reference: str) -> None:
        purchase = replace(self.job.purchase, reference=reference) if self.job.purchase else None
        await self._write(lambda job, _: replace(job, purchase=purchase))

    patch.setattr(Turn, "intend", intend)
    patch.setattr(Turn, "save_reference", save_reference)


def a_retry_that_forgets_what_was_bought(patch: pytest.MonkeyPatch) -> None:
    retried = lifecycle.retried
    patch.setattr(lifecycle, "retried", lambda job, at, *, resumes: retried(job, at, resumes=False))


def an_outcome_recorded_by_a_worker_that_lost_its_claim(patch: pytest.MonkeyPatch) -> None:
    class AnyClaim(str):
        __slots__ = ()

        def __eq__(self, _: object) -> bool:
            return True

        __hash__ = str.__hash__

    class Careless(work.Work):
        async def _conclude(self, turn: Turn, outcome: Outcome) -> None:
            turn.token = ClaimToken(AnyClaim(turn.token))
            await super()._conclude(turn, outcome)

    patch.setattr(faults, "Work", Careless)


def media_removed_after_they_are_shown(patch: pytest.MonkeyPatch) -> None:
    async def drop(self: work.Work, turn: Turn, _: Job | None) -> None:
        media: MediaStore = turn.app.media
        with contextlib.suppress(Exception):
            await media.delete_prefix(f"{turn.job.id}/{turn.token}/")

    patch.setattr(work.Work, "_drop_unused", drop)


def a_deadline_that_nobody_keeps(patch: pytest.MonkeyPatch) -> None:
    original = settle.forced_end

    def forced_end(job: Job, judged: Verdict) -> End | None:
        return None if judged is Verdict.OVERDUE else original(job, judged)

    patch.setattr(work, "forced_end", forced_end)
    patch.setattr(settle, "forced_end", forced_end)


def an_idempotency_key_that_is_used_anew(patch: pytest.MonkeyPatch) -> None:
    made: list[EntryId] = []

    def keyed_entry_id(account: AccountId, key: str) -> EntryId:
        made.append(EntryId(f"{account}/{key}/{len(made)}"))
        return made[-1]

    patch.setattr(submit, "keyed_entry_id", keyed_entry_id)


MISTAKES: Sequence[Plant] = (
    a_refund_that_leaves_the_balance_alone,
    a_turn_that_writes_without_its_claim,
    a_parked_job_that_nobody_wakes,
    an_intent_that_is_not_saved,
    a_retry_that_forgets_what_was_bought,
    an_outcome_recorded_by_a_worker_that_lost_its_claim,
    media_removed_after_they_are_shown,
    a_deadline_that_nobody_keeps,
    an_idempotency_key_that_is_used_anew,
)


@pytest.mark.parametrize("plant", MISTAKES, ids=lambda plant: plant.__name__)
def test_the_histories_find(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            UseCases,
            settings=settings(
                max_examples=1500,
                stateful_step_count=50,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
