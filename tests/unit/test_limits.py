"""Limits per model: how many at once, how many a minute, and when those who find no room come back."""

import random
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from heapq import heappop, heappush

import pytest

from shared.catalogue import load_catalogue
from shared.domain.catalogue import Model
from shared.domain.ids import JobId
from shared.usecases.limits import FIRST_GUESS, LONGEST_WAIT, MINUTE, ModelFull, ModelLimits
from tests.support import NOON, ManualClock

MODEL = load_catalogue(None).models["local-image"]
SECOND = timedelta(seconds=1)


def job(number: int) -> JobId:
    return JobId(f"job_{number:026d}")


class Gate:
    """One model's limits, and the jobs that are inside."""

    def __init__(self, *, at_once: int | None = None, per_minute: int | None = None) -> None:
        self.clock = ManualClock()
        self.model: Model = replace(MODEL, max_at_once=at_once, max_per_minute=per_minute)
        self._limits = ModelLimits(self.clock)
        self._inside: dict[int, ExitStack] = {}

    def enter(self, number: int) -> datetime | None:
        """Nothing, or when to come back."""
        stack = ExitStack()
        try:
            stack.enter_context(self._limits.using("m", self.model, job(number)))
        except ModelFull as full:
            return full.until
        self._inside[number] = stack
        return None

    def leave(self, number: int) -> None:
        self._inside.pop(number).close()

    def is_full_for(self, number: int) -> bool:
        return self._limits.is_full("m", self.model, job(number))


def test_a_model_without_limits_is_always_open() -> None:
    gate = Gate()
    assert [gate.enter(number) for number in range(100)] == [None] * 100
    assert not gate.is_full_for(100)


def test_no_more_than_the_limit_are_inside_at_once_and_whoever_leaves_makes_room() -> None:
    gate = Gate(at_once=2)
    assert [gate.enter(1), gate.enter(2)] == [None, None]
    assert gate.is_full_for(3)
    gate.leave(1)
    assert not gate.is_full_for(3)
    assert gate.enter(3) is None


def test_who_fails_inside_makes_room_too() -> None:
    gate = Gate(at_once=1)
    limits = ModelLimits(gate.clock)
    with pytest.raises(ValueError, match="broken"), limits.using("m", gate.model, job(1)):
        raise ValueError("broken")
    assert not limits.is_full("m", gate.model, job(2))


def test_those_who_wait_come_back_one_after_the_other_as_the_model_frees_itself() -> None:
    gate = Gate(at_once=2)
    gate.enter(1), gate.enter(2)
    back = [gate.enter(number) for number in range(3, 8)]
    assert back == [NOON + FIRST_GUESS * turn for turn in (1, 1, 2, 2, 3)]


def test_how_long_to_wait_is_learnt_from_how_long_others_stayed() -> None:
    gate = Gate(at_once=1)
    for number in range(40):
        assert gate.enter(number) is None
        gate.clock.advance(seconds=60)
        gate.leave(number)
    assert gate.enter(100) is None
    back = gate.enter(101)
    assert back is not None
    assert abs(back - gate.clock.now() - MINUTE) < SECOND


def test_no_more_than_the_limit_begin_in_any_minute() -> None:
    gate = Gate(per_minute=2)
    assert gate.enter(1) is None
    gate.clock.advance(seconds=40)
    assert gate.enter(2) is None
    assert gate.enter(3) == NOON + MINUTE
    assert gate.enter(4) == NOON + timedelta(seconds=100)
    assert gate.enter(5) == NOON + timedelta(seconds=40 + 50)
    gate.clock.advance(seconds=20)
    assert gate.enter(3) is None


def test_who_asks_again_before_the_time_is_let_in_as_soon_as_there_is_room() -> None:
    gate = Gate(at_once=1)
    gate.enter(1)
    assert gate.enter(2) == NOON + FIRST_GUESS
    assert gate.enter(2) == NOON + FIRST_GUESS
    gate.leave(1)
    assert gate.enter(2) is None


def test_no_place_is_kept_for_those_who_went_to_another_worker() -> None:
    gate = Gate(at_once=1)
    gate.enter(1)
    for number in range(2, 500):
        gate.enter(number)
    gate.leave(1)
    assert gate.enter(500) is None


def test_nobody_is_sent_away_for_more_than_a_minute_and_those_who_wait_long_come_back_spread_out() -> None:
    gate = Gate(at_once=1)
    gate.enter(1)
    waits = [back - NOON for number in range(2, 500) if (back := gate.enter(number)) is not None]
    assert max(waits) <= LONGEST_WAIT
    late = [wait for wait in waits if wait >= LONGEST_WAIT / 2]
    assert len({wait // SECOND for wait in late}) >= 3


def test_several_workers_together_serve_what_they_have_room_for() -> None:
    """Each parked job comes back to any of them; at half of what they could do, all are done in time."""
    workers, stay, chance = [Gate(at_once=4) for _ in range(4)], 10 * SECOND, random.Random(1)  # noqa: S311
    leaves: list[tuple[datetime, int, Gate]] = []
    comes = [(NOON, number) for number in range(480)]
    done = 0
    while comes:
        now, number = heappop(comes)
        while leaves and leaves[0][0] <= now:
            at, other, gate = heappop(leaves)
            gate.clock.advance(seconds=(at - gate.clock.now()).total_seconds())
            gate.leave(other)
        gate = chance.choice(workers)
        gate.clock.advance(seconds=(now - gate.clock.now()).total_seconds())
        back = gate.enter(number)
        if back is None:
            heappush(leaves, (now + stay, number, gate))
            done += 1
        elif back < NOON + 10 * MINUTE:
            heappush(comes, (back + chance.random() * 2 * SECOND, number))
    assert done == 480


def test_nobody_is_sent_away_for_less_than_a_second() -> None:
    gate = Gate(per_minute=1)
    gate.enter(1)
    gate.clock.advance(seconds=59.9)
    assert gate.enter(2) == gate.clock.now() + SECOND


def test_both_limits_hold_at_the_same_time() -> None:
    gate = Gate(at_once=1, per_minute=2)
    assert gate.enter(1) is None
    assert gate.enter(2) == NOON + FIRST_GUESS, "the crowd, not the minute, keeps it out"
    gate.leave(1)
    assert gate.enter(2) is None
    gate.leave(2)
    assert gate.enter(3) == NOON + MINUTE
