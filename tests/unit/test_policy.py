"""The engine's waits: bounded, growing, and never all at once."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.policy import Policy

POLICY = Policy()
chances = st.floats(0, 1, exclude_max=True)


@given(attempts=st.integers(1, 10**6), chance=chances)
def test_a_backoff_is_between_half_of_the_first_and_the_most(attempts: int, chance: float) -> None:
    backoff = POLICY.backoff(attempts, chance)
    assert POLICY.backoff_first / 2 <= backoff <= POLICY.backoff_most
    whole = min(POLICY.backoff_most, POLICY.backoff_first * 2 ** min(attempts - 1, 30))
    assert whole / 2 <= backoff <= whole


@given(attempts=st.integers(1, 30), chance=chances)
def test_a_backoff_never_shrinks_with_more_attempts(attempts: int, chance: float) -> None:
    assert POLICY.backoff(attempts, chance) <= POLICY.backoff(attempts + 1, chance)


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(1, 1), (2, 2), (3, 4), (4, 8), (9, 256), (10, 300), (99, 300)]
)
def test_a_backoff_doubles_up_to_five_minutes(attempts: int, seconds: int) -> None:
    assert POLICY.backoff(attempts, 0.0) == timedelta(seconds=seconds / 2)
    assert POLICY.backoff(attempts, 1 - 2**-53) <= timedelta(seconds=seconds)


@given(sweeps=st.integers(0, 10**6))
def test_a_sweep_pushes_at_least_thirty_seconds_and_at_most_ten_minutes(sweeps: int) -> None:
    push = POLICY.sweep_push(sweeps)
    assert timedelta(seconds=30) <= push <= timedelta(minutes=10)
    assert POLICY.sweep_push(sweeps + 1) in (push * 2, timedelta(minutes=10))
