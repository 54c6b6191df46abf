"""How a job may move, exhaustively, and what each move leaves behind."""

from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.errors import BrokenInvariant, IllegalMove, WrongState
from shared.domain.ids import ClaimToken
from shared.domain.job import FINISHED, UNFINISHED, Job, JobError, Kind, Lease, Purchase, Status
from shared.domain.lifecycle import (
    NEXT,
    Verdict,
    cancel_wanted,
    check,
    claimed,
    concluded,
    deleted,
    ended,
    intended,
    moved,
    parked,
    published,
    referenced,
    refused,
    renewed,
    retried,
    swept,
    unpublished,
    verdict,
)
from shared.domain.outcomes import Cancelled, Done, End, Ending, Failed, Outcome, Park, Retry
from shared.domain.policy import Policy
from tests.support import NOON, a_job

POLICY = Policy()
MINUTE = timedelta(minutes=1)
TOKEN = ClaimToken("a" * 32)
OTHER = ClaimToken("b" * 32)
BROKE = JobError(code="provider_failed", message="it broke", retryable=True)

# Written down a second time on purpose: this table is the promise, the code must agree.
LEGAL = {
    "queued": "queued processing failed cancelled",
    "processing": "queued processing draft ready partial failed cancelled",
    "draft": "draft published",
    "published": "published draft",
    "ready": "ready",
    "partial": "partial",
    "failed": "failed",
    "cancelled": "cancelled",
}


def standing(status: Status, **fields: Any) -> Job:
    if status in FINISHED:
        fields = {"wake_at": None, "finished_at": NOON} | fields
    return a_job(1, status=status, **fields)


def held(until: timedelta = MINUTE, **fields: Any) -> Job:
    """A job on which a worker is."""
    lease = Lease(token=TOKEN, until=NOON + until)
    return standing(Status.PROCESSING, **{"lease": lease, "fence": 1, "started_at": NOON} | fields)


def a_purchase(**fields: Any) -> Purchase:
    return replace(Purchase(model="m", repeatable=False, intended_at=NOON), **fields)


@pytest.mark.parametrize(("before", "after"), list(product(Status, Status)))
def test_a_job_moves_where_the_table_lets_it_and_nowhere_else(before: Status, after: Status) -> None:
    job = standing(before)
    fields = (
        {"wake_at": None, "finished_at": NOON}
        if after in FINISHED
        else {"wake_at": NOON, "finished_at": None}
    )
    if str(after) in LEGAL[str(before)].split():
        assert moved(job, after, **fields).status is after
    else:
        with pytest.raises(IllegalMove, match=f"from {before} to {after}"):
            moved(job, after, **fields)


def test_the_table_names_every_status_and_no_end_leads_back_to_work() -> None:
    assert set(NEXT) == set(Status)
    assert all(not NEXT[status] & UNFINISHED for status in FINISHED)


UNSOUND: dict[str, Job] = {
    "unfinished and never looked at again": standing(Status.QUEUED, wake_at=None),
    "unfinished and looked at too late": standing(Status.QUEUED, wake_at=NOON + timedelta(days=1)),
    "unfinished with an end": standing(Status.PROCESSING, finished_at=NOON),
    "finished and looked at again": standing(Status.DRAFT, wake_at=NOON),
    "finished and still held": standing(Status.FAILED, lease=Lease(token=TOKEN, until=NOON)),
    "finished at no time": standing(Status.READY, finished_at=None),
    "refunded more than it cost": standing(Status.FAILED, refunded=2),
    "refunded less than nothing": standing(Status.FAILED, refunded=-1),
    "more than done": standing(Status.QUEUED, progress=101),
    "less than begun": standing(Status.QUEUED, progress=-1),
}


@pytest.mark.parametrize("what", UNSOUND)
def test_an_unsound_job_is_refused(what: str) -> None:
    with pytest.raises(BrokenInvariant):
        check(UNSOUND[what])
    with pytest.raises(BrokenInvariant):
        moved(UNSOUND[what], UNSOUND[what].status)


@pytest.mark.parametrize("status", Status)
def test_a_sound_job_is_sound(status: Status) -> None:
    check(standing(status))


# --- what a worker that comes to a job may do

DEAR, CHEAP = a_purchase(), a_purchase(repeatable=True)
RUNNING = a_purchase(reference="op")
GONE = timedelta(0)
SOON, LATER = NOON + POLICY.early_tolerance, NOON + MINUTE
QUEUED, PROCESSING = Status.QUEUED, Status.PROCESSING
CANCELLING: dict[str, Any] = {"cancel_requested": True}
VERDICTS: dict[str, tuple[Job, Verdict]] = {
    **{f"a {status} job": (standing(status), Verdict.FINISHED) for status in sorted(FINISHED)},
    "a new job": (standing(QUEUED), Verdict.FREE),
    "a held job": (held(), Verdict.HELD),
    "a held job that is to be cancelled": (held(**CANCELLING), Verdict.HELD),
    "a lease that ends now": (held(GONE), Verdict.FREE),
    "a lease that ends a moment later": (held(timedelta(microseconds=1)), Verdict.HELD),
    "a deadline that is now": (standing(QUEUED, deadline_at=NOON, wake_at=NOON), Verdict.OVERDUE),
    "a deadline under a live lease": (held(deadline_at=NOON, wake_at=NOON), Verdict.OVERDUE),
    "a deadline while parked": (standing(QUEUED, deadline_at=NOON, not_before=LATER), Verdict.OVERDUE),
    "a parked job": (standing(QUEUED, not_before=LATER), Verdict.EARLY),
    "a parked job to be cancelled": (standing(QUEUED, not_before=LATER, **CANCELLING), Verdict.EARLY),
    "a parked job whose time is as good as come": (standing(QUEUED, not_before=SOON), Verdict.FREE),
    "a parked job whose time has come": (standing(QUEUED, not_before=NOON), Verdict.FREE),
    "an operation that runs": (standing(PROCESSING, purchase=RUNNING), Verdict.FREE),
    "a running one to be cancelled": (standing(PROCESSING, purchase=RUNNING, **CANCELLING), Verdict.FREE),
    "a dear intent without a reference": (held(GONE, purchase=DEAR), Verdict.UNKNOWN),
    "a dear intent to be cancelled": (held(GONE, purchase=DEAR, **CANCELLING), Verdict.UNKNOWN),
    "a dear intent after the last worker died": (held(GONE, purchase=DEAR, attempts=4), Verdict.UNKNOWN),
    "a cheap intent": (held(GONE, purchase=CHEAP), Verdict.FREE),
    "a cheap intent to be cancelled": (held(GONE, purchase=CHEAP, **CANCELLING), Verdict.CANCEL),
    "nothing bought, to be cancelled": (held(GONE, **CANCELLING), Verdict.CANCEL),
    "the last worker but one died": (held(GONE, attempts=3), Verdict.FREE),
    "the last worker died": (held(GONE, attempts=4), Verdict.EXHAUSTED),
    "the last one died over an operation": (held(GONE, attempts=4, purchase=RUNNING), Verdict.EXHAUSTED),
    "the last attempt waits to be claimed": (standing(QUEUED, attempts=4), Verdict.FREE),
}


@pytest.mark.parametrize("what", VERDICTS)
def test_a_worker_is_told_what_it_may_do(what: str) -> None:
    job, judged = VERDICTS[what]
    assert verdict(job, NOON, POLICY) is judged


# --- moves


def test_a_claim_raises_the_fence_and_holds_the_job_until_the_lease_ends() -> None:
    job = claimed(standing(Status.QUEUED, sweeps=3, not_before=NOON), TOKEN, now=NOON, lease=MINUTE)
    assert (job.status, job.fence, job.lease) == (
        Status.PROCESSING,
        1,
        Lease(token=TOKEN, until=NOON + MINUTE),
    )
    assert (job.wake_at, job.not_before, job.sweeps) == (NOON + MINUTE, None, 0)
    assert (job.started_at, job.attempts, job.purchase) == (NOON, 0, None)


def test_taking_over_an_expired_lease_counts_as_an_attempt() -> None:
    job = claimed(held(GONE), OTHER, now=NOON + MINUTE, lease=MINUTE)
    assert (job.attempts, job.fence, job.started_at) == (1, 2, NOON)
    assert job.is_held_under(OTHER)
    assert not job.is_held_under(TOKEN)


@pytest.mark.parametrize(
    ("before", "offered", "after"),
    [
        (None, None, None),
        (None, CHEAP, CHEAP),
        (CHEAP, None, CHEAP),
        (CHEAP, replace(CHEAP, model="other"), replace(CHEAP, model="other")),
        (RUNNING, CHEAP, RUNNING),
        (RUNNING, None, RUNNING),
    ],
)
def test_a_claim_saves_an_intent_but_never_over_a_reference(
    before: Purchase | None, offered: Purchase | None, after: Purchase | None
) -> None:
    job = standing(Status.PROCESSING, purchase=before)
    assert claimed(job, TOKEN, now=NOON, lease=MINUTE, purchase=offered).purchase == after


def test_a_renewal_moves_the_lease_and_progress_only_forward() -> None:
    job = renewed(held(progress=40), now=NOON + MINUTE, lease=MINUTE, progress=30)
    assert job.lease == Lease(token=TOKEN, until=NOON + 2 * MINUTE)
    assert (job.wake_at, job.progress, job.fence) == (NOON + 2 * MINUTE, 40, 1)
    assert renewed(job, now=NOON, lease=MINUTE, progress=100).progress == 99


def test_an_intent_then_a_reference_then_a_refusal() -> None:
    bought = intended(held(progress=5), a_purchase(), now=NOON, lease=2 * MINUTE)
    assert (bought.purchase, bought.is_bought, bought.wake_at, bought.progress) == (
        a_purchase(),
        True,
        NOON + 2 * MINUTE,
        5,
    )
    running = referenced(bought, "op", now=NOON + MINUTE, lease=MINUTE)
    assert running.purchase == RUNNING
    assert running.lease == Lease(token=TOKEN, until=NOON + 2 * MINUTE)
    assert not refused(bought).is_bought


def test_a_parked_job_is_let_go_and_its_reference_kept() -> None:
    until = NOON + MINUTE
    job = parked(held(purchase=RUNNING, attempts=2, progress=30), until)
    assert (job.status, job.lease, job.wake_at, job.not_before) == (Status.PROCESSING, None, until, until)
    assert (job.purchase, job.attempts, job.progress) == (RUNNING, 2, 30)
    assert parked(held(), until).status is Status.QUEUED


def test_a_retried_job_forgets_what_was_bought_unless_it_resumes() -> None:
    at = NOON + MINUTE
    again = retried(held(purchase=RUNNING, attempts=2, progress=30), at)
    assert (again.status, again.lease, again.wake_at, again.not_before) == (Status.QUEUED, None, at, at)
    assert (again.attempts, again.purchase, again.progress) == (3, None, 0)
    resumed = retried(held(purchase=RUNNING, progress=30), at, resumes=True)
    assert (resumed.attempts, resumed.purchase, resumed.progress) == (1, RUNNING, 30)


def test_each_sweep_pushes_a_job_twice_as_far_up_to_ten_minutes() -> None:
    job, pushes = standing(Status.QUEUED, deadline_at=NOON + timedelta(days=1)), []
    for _ in range(7):
        job = swept(job, now=NOON, policy=POLICY)
        assert job.wake_at is not None
        pushes.append((job.wake_at - NOON).total_seconds())
    assert pushes == [30, 60, 120, 240, 480, 600, 600]
    assert (job.sweeps, job.status) == (7, Status.QUEUED)


@given(st.integers(0, 10**6))
def test_nobody_looks_later_than_the_deadline(seconds: int) -> None:
    deadline = NOON + timedelta(seconds=seconds)
    later = NOON + timedelta(days=30)
    job = held(deadline_at=deadline, wake_at=NOON)
    for after in (
        claimed(job, OTHER, now=NOON, lease=timedelta(days=30)),
        renewed(job, now=NOON, lease=timedelta(days=30), progress=1),
        intended(job, a_purchase(), now=NOON, lease=timedelta(days=30)),
        parked(job, later),
        retried(job, later),
        swept(job, now=later, policy=POLICY),
    ):
        assert after.wake_at == deadline


# --- cancel, publish, delete


def test_a_cancel_ends_a_job_at_once_when_nothing_is_bought_and_nobody_is_on_it() -> None:
    for job in (standing(Status.QUEUED), held(GONE), standing(Status.QUEUED, not_before=NOON + MINUTE)):
        end = cancel_wanted(job, NOON)
        assert isinstance(end, End)
        assert (end.status, end.ending) == (Status.CANCELLED, Ending.CANCELLED)


def test_a_cancel_is_noted_while_somebody_is_on_the_job_or_something_is_bought() -> None:
    for job in (held(), held(GONE, purchase=CHEAP), standing(Status.PROCESSING, purchase=RUNNING)):
        assert cancel_wanted(job, NOON) == replace(job, cancel_requested=True)


@pytest.mark.parametrize("status", sorted(FINISHED))
def test_what_has_ended_cannot_be_cancelled(status: Status) -> None:
    with pytest.raises(WrongState, match=f"already {status}"):
        cancel_wanted(standing(status), NOON)


def test_publishing_and_unpublishing_can_be_repeated() -> None:
    shown = published(standing(Status.DRAFT), NOON)
    assert (shown.status, shown.published_at) == (Status.PUBLISHED, NOON)
    assert published(shown, NOON + MINUTE) == shown
    assert unpublished(shown) == standing(Status.DRAFT)
    assert unpublished(unpublished(shown)) == standing(Status.DRAFT)


@pytest.mark.parametrize("kind", [Kind.IMAGE, Kind.VIDEO, Kind.BRAND, Kind.BATCH, Kind.ERASURE])
@pytest.mark.parametrize("status", Status)
def test_only_finished_images_and_videos_can_be_in_the_feed(kind: str, status: Status) -> None:
    job = standing(status, kind=kind)
    if kind in (Kind.IMAGE, Kind.VIDEO) and status in (Status.DRAFT, Status.PUBLISHED):
        assert published(job, NOON).status is Status.PUBLISHED
        assert unpublished(job).status is Status.DRAFT
    else:
        for move in (lambda job: published(job, NOON), unpublished):
            with pytest.raises(WrongState):
                move(job)


@pytest.mark.parametrize("status", Status)
def test_only_a_finished_job_can_be_deleted_and_it_leaves_the_feed(status: Status) -> None:
    job = standing(status, published_at=NOON if status is Status.PUBLISHED else None)
    if status in FINISHED:
        gone = deleted(job, NOON + MINUTE)
        assert (gone.deleted_at, gone.published_at, gone.is_visible) == (NOON + MINUTE, None, False)
    else:
        with pytest.raises(WrongState):
            deleted(job, NOON)


# --- ends


def test_an_end_lets_the_job_go_and_fences_out_whoever_is_still_on_it() -> None:
    end = End(ending=Ending.FAILED, status=Status.FAILED, error=BROKE)
    job = ended(held(progress=40, not_before=NOON), end, now=NOON + MINUTE, refunded=1)
    assert (job.status, job.error, job.refunded, job.progress) == (Status.FAILED, BROKE, 1, 40)
    assert (job.wake_at, job.not_before, job.lease, job.fence) == (None, None, None, 2)
    assert job.finished_at == NOON + MINUTE
    assert not job.is_held_under(TOKEN)
    assert ended(standing(Status.QUEUED), end, now=NOON, refunded=1).fence == 0


def test_what_was_delivered_is_done_to_the_last_percent() -> None:
    end = End(ending=Ending.DELIVERED, status=Status.DRAFT, delivered=1)
    assert ended(held(progress=40), end, now=NOON, refunded=0).progress == 100


PARK, RETRY = Park(NOON + MINUTE), Retry(BROKE)
CONCLUSIONS: dict[str, tuple[Outcome, dict[str, Any], Status, str | None]] = {
    "done": (Done(), {}, Status.DRAFT, None),
    "done after a cancel": (Done(), CANCELLING, Status.DRAFT, None),
    "failed": (Failed(BROKE), {}, Status.FAILED, "provider_failed"),
    "failed after a cancel": (Failed(BROKE), CANCELLING, Status.CANCELLED, None),
    "cancelled": (Cancelled(), CANCELLING, Status.CANCELLED, None),
    "parked": (PARK, {}, Status.QUEUED, None),
    "parked once bought": (PARK, {"purchase": RUNNING}, Status.PROCESSING, None),
    "parked after a cancel, nothing bought": (PARK, CANCELLING, Status.CANCELLED, None),
    "parked after a cancel, bought": (PARK, CANCELLING | {"purchase": RUNNING}, Status.PROCESSING, None),
    "retry": (RETRY, {}, Status.QUEUED, None),
    "retry after a cancel": (RETRY, CANCELLING, Status.CANCELLED, None),
    "retry, one more is left": (RETRY, {"attempts": 3}, Status.QUEUED, None),
    "retry after the last attempt": (RETRY, {"attempts": 4}, Status.FAILED, "provider_failed"),
}


@pytest.mark.parametrize("what", CONCLUSIONS)
def test_an_outcome_leads_to_another_step_or_to_the_end(what: str) -> None:
    outcome, fields, status, error = CONCLUSIONS[what]
    after = concluded(held(**fields), outcome, now=NOON, chance=0.5, policy=POLICY)
    assert after.status is status
    assert (after.error.code if after.error else None) == error
    assert isinstance(after, End) == (status in FINISHED)


@given(attempts=st.integers(0, 3), chance=st.floats(0, 1, exclude_max=True), after=st.integers(0, 1000))
def test_a_retry_waits_for_its_backoff_and_for_what_the_outcome_asks(
    attempts: int, chance: float, after: int
) -> None:
    job = held(attempts=attempts, deadline_at=NOON + timedelta(days=1))
    outcome = Retry(BROKE, timedelta(seconds=after), resumes=True)
    again = concluded(job, outcome, now=NOON, chance=chance, policy=POLICY)
    assert isinstance(again, Job)
    assert again.wake_at is not None
    backoff = POLICY.backoff(attempts + 1, chance)
    assert again.wake_at - NOON == max(backoff, timedelta(seconds=after))
    assert again.not_before == again.wake_at


def test_a_prompt_is_text_or_nothing() -> None:
    assert a_job(1).prompt == "a fox"
    assert a_job(1, request={"prompt": 3}).prompt is None
    assert a_job(1, request={}).prompt is None
    assert a_job(1, kind=Kind.ERASURE).is_internal


@pytest.mark.parametrize("attempts", [4, 5, 1000])
def test_only_its_deadline_ends_a_job_that_owes_something(attempts: int) -> None:
    """An erasure that gave up after five dead workers would leave the objects for ever."""
    lease = Lease(token=ClaimToken("t"), until=NOON)
    owed = a_job(kind=Kind.ERASURE, cost=0, attempts=attempts, lease=lease, status=Status.PROCESSING)
    error = JobError(code="provider_failed", message="no")

    again = concluded(owed, Retry(error), now=NOON, chance=0, policy=Policy())

    assert verdict(owed, NOON, Policy()) is Verdict.FREE
    assert isinstance(again, Job)
    assert verdict(owed, owed.deadline_at, Policy()) is Verdict.OVERDUE
