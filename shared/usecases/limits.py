"""How much of a model this process may use at a time; whoever finds it full is told when to come back.

The limits are of one worker process: they keep a provider's quota from being found by running into it,
and one model from filling the worker. Whoever comes while there is room is let in. Whoever is not is told
an instant to come back at, spread over time as the model frees itself, so that a thousand parked jobs do
not all wake at once. They come back to whichever worker the queue chooses.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from shared.domain.catalogue import Model
from shared.domain.ids import JobId
from shared.ports.clock import Clock

MINUTE: Final = timedelta(minutes=1)
FIRST_GUESS: Final = timedelta(seconds=10)
"""How long a model is taken to be busy with a job until one has been seen."""
SHORTEST_WAIT: Final = timedelta(seconds=1)
PATIENCE: Final = timedelta(seconds=15)
"""How late a parked job may come back; then another worker took it, and counts its operation."""
LONGEST_WAIT: Final = timedelta(seconds=60)
"""Another worker may have room long before this one, and a guess so far ahead is a poor one."""


class ModelFull(Exception):
    """No room for this job now."""

    def __init__(self, until: datetime) -> None:
        super().__init__(until)
        self.until = until


class ModelLimits:
    """The gates of all models; one that the catalogue does not limit is always open."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._gates: dict[str, _Gate] = {}

    def is_full(self, name: str, model: Model, job: JobId) -> bool:
        now = self._clock.now()
        return self._gate(name, model).opens_for(job, now) > now

    @contextmanager
    def using(self, name: str, model: Model, job: JobId, *, resumes: bool = False) -> Iterator[None]:
        """Count as one who uses the model; raises `ModelFull` at once if there is no room.

        Who `resumes` an operation uses the model anyway, and is never sent away.
        """
        gate, began = self._gate(name, model), self._clock.now()
        gate.enter(job, began, resumes=resumes)
        try:
            yield
        finally:
            gate.leave(self._clock.now() - began)

    def goes_on(self, name: str, model: Model, job: JobId, until: datetime) -> None:
        """The job's operation runs while it is parked: count it until somebody has looked at it again."""
        self._gate(name, model).operations[job] = until + PATIENCE

    def _gate(self, name: str, model: Model) -> "_Gate":
        gate = self._gates.get(name)
        if gate is None:
            gate = self._gates[name] = _Gate(model.max_at_once, model.max_per_minute)
        return gate


@dataclass(slots=True)
class _Gate:
    at_once: int | None
    per_minute: int | None
    inside: int = 0
    began: deque[datetime] = field(default_factory=deque)
    """When those of the last minute entered."""
    promised: dict[JobId, datetime] = field(default_factory=dict)
    operations: dict[JobId, datetime] = field(default_factory=dict)
    """Of parked jobs, and until when each is taken to run."""
    usual_stay: timedelta = FIRST_GUESS

    def enter(self, job: JobId, now: datetime, *, resumes: bool) -> None:
        opens = now if resumes else self.opens_for(job, now)
        if opens > now:
            self.promised[job] = opens
            raise ModelFull(opens)
        self.promised.pop(job, None)
        self.operations.pop(job, None)
        self.inside += 1
        if self.per_minute is not None and not resumes:
            self.began.append(now)

    def leave(self, stay: timedelta) -> None:
        self.inside -= 1
        self.usual_stay += (stay - self.usual_stay) / 5

    def opens_for(self, job: JobId, now: datetime) -> datetime:
        """Now, if there is room; else when to come back: behind those who were told to, but within a minute.

        Nothing is kept free for those who are expected: most of them come back to another worker, and a
        place kept for each of them here would keep everybody out.
        """
        self._forget(now)
        if not self._is_full:
            return now
        ahead = sorted(at for other, at in self.promised.items() if other != job)
        opens = now + SHORTEST_WAIT
        if self.per_minute is not None:
            places = [*self.began, *ahead]
            if len(places) >= self.per_minute:
                opens = max(opens, places[-self.per_minute] + MINUTE)
        if self.at_once is not None:
            behind = max(self._busy + len(ahead) - self.at_once, 0)
            opens = max(opens, now + self.usual_stay * (behind // self.at_once + 1))
        if opens - now > LONGEST_WAIT:
            # Not all of them at the end of the minute.
            opens = now + LONGEST_WAIT / 2 + (opens - now) % (LONGEST_WAIT / 2)
        return opens

    @property
    def _busy(self) -> int:
        return self.inside + len(self.operations)

    @property
    def _is_full(self) -> bool:
        is_crowded = self.at_once is not None and self._busy >= self.at_once
        return is_crowded or (self.per_minute is not None and len(self.began) >= self.per_minute)

    def _forget(self, now: datetime) -> None:
        while self.began and self.began[0] <= now - MINUTE:
            self.began.popleft()
        for job in [job for job, at in self.promised.items() if at <= now]:
            del self.promised[job]
        for job in [job for job, at in self.operations.items() if at <= now]:
            del self.operations[job]
