"""Images and videos: buy from a generator, follow its operation, keep what it made."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from shared.domain.catalogue import Model, cost_tokens
from shared.domain.job import Job, JobError, Purchase
from shared.domain.outcomes import Cancelled, Failed, Outcome, Park, Retry
from shared.domain.requests import ImageRequest, VideoRequest
from shared.ports.generator import (
    Busy,
    ContentRejected,
    GenerationFailed,
    Generator,
    GeneratorError,
    Made,
    Order,
    OutcomeUnknown,
    RequestRefused,
    Retired,
    Running,
    TookNothing,
)
from shared.usecases.app import WorkerApp
from shared.usecases.handlers.keeping import keep
from shared.usecases.limits import ModelFull, ModelLimits
from shared.usecases.settle import UNKNOWN
from shared.usecases.turn import LeaseLost, Turn

CANCEL_SECONDS: Final = 5
POLL_TIMEOUT_SECONDS: Final = 120
"""The last poll brings the result, which may be a large file."""
DEFAULT_BUSY: Final = timedelta(seconds=15)
"""How long to wait for a full provider that does not say how long it will be full."""
LONGEST_BUSY: Final = timedelta(minutes=2)
"""A provider's word for how long is not taken for more: it would cost the job its deadline."""
AVOIDED_FOR: Final = timedelta(minutes=5)
"""How long a model that took too long to say no is asked last."""

_log = structlog.get_logger(__name__)


class Generation:
    """The handler of one kind; `read` gives the typed view of its jobs' requests."""

    def __init__(
        self, app: WorkerApp, read: Callable[[Mapping[str, Any]], ImageRequest | VideoRequest]
    ) -> None:
        self._app = app
        self._read = read
        self._limits = ModelLimits(app.clock)
        self._avoided: dict[str, datetime] = {}
        """Models that left a step no time to ask the next one, and until when."""

    def intent_at_claim(self, job: Job, now: datetime) -> Purchase | None:
        """What is cheap enough to buy again is intended by the claim itself: one write instead of two."""
        for name, model in self._models_for(job)[:1]:
            if model.repeatable and not self._limits.is_full(name, model, job.id):
                return _purchase(name, model, now)
        return None

    def longest_call(self, job: Job) -> timedelta:
        """Of what must not be bought twice; a repeatable call may lose its lease, renewals keep it going."""
        if job.purchase is not None and job.purchase.reference is not None:
            return timedelta()
        dear = (model.start_timeout_seconds for _, model in self._models_for(job) if not model.repeatable)
        return timedelta(seconds=max(dear, default=0))

    async def abandon(self, job: Job) -> None:
        if job.purchase is not None and job.purchase.reference is not None:
            generator, order = self._ordered(job, job.purchase)
            await generator.cancel(order, job.purchase.reference)

    async def step(self, turn: Turn) -> Outcome:
        try:
            purchase = turn.job.purchase
            if purchase is not None and purchase.reference is not None:
                return await self._resume(turn, purchase, purchase.reference)
            return await self._buy(turn)
        except GeneratorError as error:
            return _ended_by(error)

    async def _buy(self, turn: Turn) -> Outcome:
        """Try the chosen model, then those to fall back on, as long as each certainly took nothing."""
        refusal: TookNothing | None = None
        refused: list[str] = []
        for name, model in self._models_for(turn.job):
            now = self._app.clock.now()
            longest = timedelta(seconds=model.start_timeout_seconds)
            if turn.is_stopping:
                return Park(now)
            if refusal and now + longest > turn.ends_at:
                # The next step must not spend its time on them once more.
                self._avoided |= dict.fromkeys(refused, now + AVOIDED_FOR)
                return Park(now)
            try:
                with self._limits.using(name, model, turn.job.id):
                    bought = await self._buy_from(name, model, turn)
            except ModelFull as full:
                if turn.job.purchase is not None:
                    await turn.took_nothing()
                if refusal is None:
                    return Park(full.until)
                bought = Busy(f"{name} is full", retry_after=full.until - now)
            if not isinstance(bought, TookNothing):
                if isinstance(bought, Park):
                    self._limits.goes_on(name, model, turn.job.id, bought.until)
                return bought
            refusal = max(refusal or bought, bought, key=_hope)
            refused.append(name)
        return self._nobody_took_it(refusal)

    async def _buy_from(self, name: str, model: Model, turn: Turn) -> Outcome | TookNothing:
        """What became of the job with this model, or why it certainly took nothing."""
        purchase = _purchase(name, model, self._app.clock.now())
        if turn.job.purchase is None or turn.job.purchase.model != name:
            if turn.job.cancel_requested:
                return Cancelled()
            await turn.intend(purchase)
            if turn.job.cancel_requested:
                await turn.took_nothing()
                return Cancelled()
        try:
            taken = await self._start(turn.job, purchase, model.start_timeout_seconds)
        except TookNothing as error:
            _log.info("generator.took_nothing", job_id=turn.job.id, model=name, error=error.message)
            await turn.took_nothing()
            return error
        except OutcomeUnknown as error:
            _log.warning("generator.outcome_unknown", job_id=turn.job.id, model=name, error=error.message)
            return Retry(UNKNOWN) if model.repeatable else Failed(UNKNOWN)
        if isinstance(taken, Made):
            return await keep(self._app, turn, taken)
        await self._save_reference(turn, purchase, taken.reference)
        return await self._follow(turn, purchase, taken.reference)

    async def _start(self, job: Job, purchase: Purchase, timeout_seconds: int) -> Running | Made:
        generator, order = self._ordered(job, purchase)
        try:
            async with asyncio.timeout(timeout_seconds):
                return await generator.start(order)
        except TimeoutError as error:
            raise OutcomeUnknown(f"{purchase.model} did not answer in {timeout_seconds} s") from error

    async def _save_reference(self, turn: Turn, purchase: Purchase, reference: str) -> None:
        try:
            await turn.save_reference(reference)
        except LeaseLost:
            # Nobody will ever ask for its result.
            generator, order = self._ordered(turn.job, purchase)
            try:
                async with asyncio.timeout(CANCEL_SECONDS):
                    await generator.cancel(order, reference)
            except (GeneratorError, TimeoutError) as error:
                _log.warning("generator.not_cancelled", job_id=turn.job.id, error=str(error))
            raise

    def _nobody_took_it(self, refusal: TookNothing | None) -> Outcome:
        match refusal:
            case Busy():
                return self._park_for(refusal)
            case Retired() | None:
                return Failed(JobError(code="model_retired", message="the model is no longer available"))
            case _:
                return Retry(JobError(code="provider_failed", message=refusal.message, retryable=True))

    def _park_for(self, refusal: Exception) -> Park:
        after = refusal.retry_after if isinstance(refusal, Busy) else None
        return Park(self._app.clock.now() + min(after or DEFAULT_BUSY, LONGEST_BUSY))

    async def _resume(self, turn: Turn, purchase: Purchase, reference: str) -> Outcome:
        """Go on with an operation, which counts as a use of its model."""
        name, model = purchase.model, self._app.catalogue.models.get(purchase.model)
        if model is None:
            return await self._follow(turn, purchase, reference)
        with self._limits.using(name, model, turn.job.id, resumes=True):
            outcome = await self._follow(turn, purchase, reference)
        if isinstance(outcome, Park):
            self._limits.goes_on(name, model, turn.job.id, outcome.until)
        return outcome

    async def _follow(self, turn: Turn, purchase: Purchase, reference: str) -> Outcome:
        """Poll the operation for about a minute, telling its progress, then park."""
        generator, order = self._ordered(turn.job, purchase)
        until = self._app.clock.now() + self._app.policy.inline_poll
        while True:
            now = self._app.clock.now()
            if now + timedelta(seconds=POLL_TIMEOUT_SECONDS) > turn.ends_at:
                return Park(now)
            try:
                async with asyncio.timeout(POLL_TIMEOUT_SECONDS):
                    state = await generator.poll(order, reference)
            except (TookNothing, TimeoutError) as error:
                return self._park_for(error)
            if isinstance(state, Made):
                return await keep(self._app, turn, state)
            await turn.report(state.progress)
            now = self._app.clock.now()
            if turn.is_stopping:
                return Park(now)
            if now >= until:
                return Park(now + state.poll_after)
            await turn.pause(state.poll_after.total_seconds())

    def _models_for(self, job: Job) -> list[tuple[str, Model]]:
        """Who can be asked for it: the chosen model, then those to fall back on that could make it too.

        Nobody gets a cheaper model for the price of a dearer one. Those to be avoided come last, the one
        that was avoided first before the others.
        """
        catalogue, names = self._app.catalogue, self._app.catalogue.fallbacks(job.kind, job.model or "")
        known = [(name, catalogue.models[name]) for name in names if name in catalogue.models]
        able = [
            (name, model)
            for name, model in known
            if model.generator in self._app.generators and (name == job.model or _stands_in(model, job))
        ]
        now = self._app.clock.now()
        return sorted(able, key=lambda one: max(self._avoided.get(one[0], now), now))

    def _ordered(self, job: Job, purchase: Purchase) -> tuple[Generator, Order]:
        """The generator that was asked, and what for; the catalogue may have changed since."""
        model = self._app.catalogue.models.get(purchase.model)
        generator = self._app.generators.get(purchase.generator or (model.generator if model else ""))
        if generator is None:
            raise Retired(f"{purchase.model} is no longer available")
        # The size was resolved for the model that was asked for first.
        request = job.request if model is None or purchase.model == job.model else model.framed(job.request)
        name = purchase.provider_model or purchase.model
        return generator, Order(job_id=job.id, model=name, request=self._read(request))


def _stands_in(model: Model, job: Job) -> bool:
    """Whether the model could make what was ordered from another one, and is worth what it costs."""
    count, seconds = job.request.get("count", 1), job.request.get("seconds", 1)
    return model.can_make(job.request) and cost_tokens(model, count=count, seconds=seconds) >= job.cost


def _purchase(name: str, model: Model, now: datetime) -> Purchase:
    return Purchase(
        model=name,
        repeatable=model.repeatable,
        intended_at=now,
        generator=model.generator,
        provider_model=model.provider_model or name,
    )


def _hope(refusal: TookNothing) -> int:
    """Which of several refusals says most about what waiting may bring."""
    return 2 if isinstance(refusal, Busy) else 0 if isinstance(refusal, Retired) else 1


def _ended_by(error: GeneratorError) -> Outcome:
    """What a provider's verdict means for the job."""
    match error:
        case ContentRejected():
            return Failed(JobError(code="content_rejected", message=error.message, stage=error.stage))
        case RequestRefused():
            return Failed(JobError(code="invalid_request", message=error.message))
        case GenerationFailed(retryable=True):
            return Retry(JobError(code="provider_failed", message=error.message, retryable=True))
        case Retired():
            return Failed(JobError(code="model_retired", message=error.message))
        case _:
            return Failed(JobError(code="provider_failed", message=error.message, retryable=True))
