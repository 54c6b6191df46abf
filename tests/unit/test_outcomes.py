"""How jobs end, and the billing table that users are told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.job import JobError, Kind, Media, Status
from shared.domain.outcomes import (
    BILLING,
    Billed,
    Done,
    End,
    Ending,
    billed_tokens,
    cancelled,
    delivered,
    failed,
)
from tests.support import a_job

PICTURE = Media(key="k", type="image/png", size=1, sha256="0")
BROKE = JobError(code="provider_failed", message="it broke")


@given(
    cost=st.integers(0, 10**9),
    ending=st.sampled_from(list(Ending)),
    items=st.tuples(st.integers(1, 10**4), st.integers(1, 10**4)),
)
def test_what_is_billed_is_between_nothing_and_the_cost(
    cost: int, ending: Ending, items: tuple[int, int]
) -> None:
    end = End(ending=ending, status=Status.DRAFT, delivered=min(items), requested=max(items))
    assert 0 <= billed_tokens(cost, end) <= cost


@given(cost=st.integers(0, 10**6), requested=st.integers(1, 100))
def test_a_share_grows_with_what_was_delivered_and_all_of_it_is_the_cost(cost: int, requested: int) -> None:
    shares = [
        billed_tokens(
            cost, End(ending=Ending.PARTLY_DELIVERED, status=Status.DRAFT, delivered=n, requested=requested)
        )
        for n in range(requested + 1)
    ]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, cost)


@pytest.mark.parametrize(
    ("cost", "count", "requested", "billed"),
    [(4, 3, 4, 3), (4, 1, 4, 1), (10, 1, 3, 3), (10, 2, 3, 6), (1, 1, 2, 0)],
)
def test_a_share_is_rounded_down_in_the_users_favour(
    cost: int, count: int, requested: int, billed: int
) -> None:
    end = End(ending=Ending.PARTLY_DELIVERED, status=Status.DRAFT, delivered=count, requested=requested)
    assert billed_tokens(cost, end) == billed


def test_the_billing_table_says_what_users_were_promised() -> None:
    assert set(BILLING) == set(Ending)
    assert {ending: rule.billed for ending, rule in BILLING.items()} == {
        Ending.DELIVERED: Billed.COST,
        Ending.PARTLY_DELIVERED: Billed.SHARE,
        Ending.FAILED: Billed.NOTHING,
        Ending.CANCELLED: Billed.NOTHING,
        Ending.DELIVERED_AFTER_CANCEL: Billed.COST,
    }
    assert {(rule.ended, rule.text) for rule in BILLING.values()} == {
        ("draft, published, ready", "the quoted cost"),
        ("some of the requested images withheld or failed", "the share that was delivered"),
        ("content policy, invalid request, provider failure, deadline, unknown outcome", "nothing"),
        ("cancelled before anything was bought", "nothing"),
        ("cancel came too late, the result arrived", "the quoted cost, and the result is theirs"),
    }


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (Kind.IMAGE, Status.DRAFT),
        (Kind.VIDEO, Status.DRAFT),
        (Kind.BRAND, Status.READY),
        (Kind.BATCH, Status.READY),
        (Kind.ERASURE, Status.READY),
    ],
)
def test_what_was_delivered_is_a_draft_or_ready(kind: str, status: Status) -> None:
    end = delivered(a_job(1, kind=kind), Done(media=(PICTURE,), thumbnail=PICTURE))
    assert (end.status, end.ending, end.media, end.thumbnail) == (
        status,
        Ending.DELIVERED,
        (PICTURE,),
        PICTURE,
    )


@pytest.mark.parametrize(
    ("is_cancelling", "count", "ending"),
    [
        (False, 2, Ending.DELIVERED),
        (True, 2, Ending.DELIVERED_AFTER_CANCEL),
        (False, 1, Ending.PARTLY_DELIVERED),
        (True, 1, Ending.PARTLY_DELIVERED),
    ],
)
def test_an_ending_tells_a_part_and_a_late_cancel_apart(
    is_cancelling: bool, count: int, ending: Ending
) -> None:
    end = delivered(a_job(1, cancel_requested=is_cancelling), Done(delivered=count, requested=2))
    assert end.ending is ending
    assert (end.delivered, end.requested, end.error) == (count, 2, None)


@pytest.mark.parametrize(("count", "requested"), [(0, 1), (3, 2)])
def test_nothing_and_more_than_all_are_no_deliveries(count: int, requested: int) -> None:
    with pytest.raises(AssertionError):
        delivered(a_job(1), Done(delivered=count, requested=requested))


def test_a_job_that_fails_after_its_owner_asked_to_cancel_is_cancelled() -> None:
    assert failed(a_job(1), BROKE) == End(ending=Ending.FAILED, status=Status.FAILED, error=BROKE)
    assert failed(a_job(1, cancel_requested=True), BROKE) == cancelled()
    assert cancelled() == End(ending=Ending.CANCELLED, status=Status.CANCELLED)
