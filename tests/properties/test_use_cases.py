"""Random histories of users, workers, sweeps and accidents, against an account kept by hand."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.domain.errors import (
    Forbidden,
    IdempotencyConflict,
    InsufficientTokens,
    NotFound,
    StoreUnavailable,
    WrongState,
)
from shared.domain.ids import AccountId, JobId, RequestId, UserId
from shared.domain.job import Job
from shared.domain.ledger import Entry
from shared.domain.orders import image_order, video_order
from shared.domain.policy import Policy
from shared.ports.queue import Hint
from shared.usecases.accounts import create_team, grant
from shared.usecases.app import App
from shared.usecases.audit import audit
from shared.usecases.fingerprint import fingerprint
from shared.usecases.publication import delete, publish, unpublish
from shared.usecases.settle import cancel
from shared.usecases.submit import Submission, Submitted, retry, submit
from shared.usecases.sweep import sweep
from tests.properties.budgets import budget
from tests.properties.faults import (
    CATALOGUE,
    ENDS,
    Answer,
    Crash,
    Process,
    Says,
    Surprise,
    Trouble,
    Universe,
    What,
)
from tests.properties.model import (
    DEADLINES,
    FINISHED,
    Books,
    Gift,
    Snapshot,
    Sold,
    Wish,
    check,
    check_erased,
    check_swept,
    look,
)
from tests.support import ADA, BOB

EVE: Final = UserId("eve")
TEAM: Final = AccountId("team")
MEMBERS: Final = {
    AccountId("ada"): {ADA},
    AccountId("bob"): {BOB},
    AccountId("eve"): {EVE},
    TEAM: {ADA, BOB},
}

users = st.sampled_from([ADA, ADA, ADA, ADA, BOB, EVE])
likely = st.sampled_from([True, True, False])
recent = st.integers(0, 5)
"""Which of many: 0 is the latest."""
trouble = st.builds(
    Trouble, what=st.sampled_from(What), at=st.integers(1, 10), calls=st.sampled_from([1, 1, 5])
)
troubles = st.one_of(st.just(()), st.just(()), st.tuples(trouble), st.tuples(trouble, trouble))
answers = st.lists(
    st.builds(
        Answer,
        says=st.sampled_from([*[Says.RUNNING] * 8, *Says]),
        polls=st.sampled_from([0, 1, 3, 30]),
        ends=st.sampled_from(ENDS),
    ),
    min_size=1,
    max_size=2,
)
wares = st.one_of(
    st.tuples(st.just("image"), st.sampled_from(["sketch", "studio"]), st.integers(1, 4)),
    st.tuples(st.just("video"), st.sampled_from(["film", "cinema"]), st.just(1)),
)

T = TypeVar("T")
Judge = Callable[[Any, BaseException | None], None]


class UseCases(RuleBasedStateMachine):
    """The real use cases over memory adapters; every process of theirs may be struck at any call."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.runner.get_loop().set_exception_handler(lambda *_: None)  # the dead complain to nobody
        self.universe = Universe()
        self.books = Books()
        self.at_work: list[tuple[Process, JobId | None, Judge]] = []
        self.is_sound = False

    # What users do

    @initialize(attempts=st.sampled_from([2, 2, 3]))
    def begin(self, attempts: int) -> None:
        self.universe.policy = Policy(max_attempts=attempts)
        app = Process(self.universe).app
        self._wait_for(create_team(app, name="us", members=frozenset({ADA, BOB}), account_id=TEAM))

    @rule(
        user=users,
        account=st.sampled_from([None, None, None, None, None, None, TEAM, AccountId("ada")]),
        ware=wares,
        key=st.sampled_from([None, None, None, None, "k1", "k2"]),
        prompt=st.sampled_from(["a fox", "a fox", "a fox", "a hen"]),
        times=st.sampled_from([1, 1, 2, 3]),
        troubles=troubles,
    )
    def submit(
        self,
        user: UserId,
        account: AccountId | None,
        ware: tuple[str, str, int],
        key: str | None,
        prompt: str,
        times: int,
        troubles: Sequence[Trouble],
    ) -> None:
        """One order, or several of the same; all of them have the troubles."""
        kind, model, count = ware
        order = (
            image_order(CATALOGUE, prompt=prompt, seed=7, model=model, count=count)
            if kind == "image"
            else video_order(CATALOGUE, prompt=prompt, seed=7, model=model)
        )
        for _ in range(times):
            wish = self._wish(user, account or AccountId(user), ware, key, body=f"{ware} {prompt}")
            submission = Submission(
                order=lambda: order,
                user_id=user,
                account_id=account,
                idempotency_key=key,
                request_hash=fingerprint(wish.body),
                request_id=RequestId(wish.request_id),
            )
            process = Process(self.universe, troubles)
            self._launch(process, submit(process.app, submission), self._judge_submit(wish))
        self._go_on()

    @precondition(lambda self: self.books.sold)
    @rule(
        pick=recent,
        apt=likely,
        stranger=st.sampled_from([None, None, None, EVE]),
        key=st.sampled_from([None, None, None, "k1"]),
        troubles=troubles,
    )
    def retry(
        self, pick: int, apt: bool, stranger: UserId | None, key: str | None, troubles: Sequence[Trouble]
    ) -> None:
        job_id, sold = self._pick(pick, "retry" if apt else None)
        first, user = sold.wish, stranger or sold.wish.user
        wish = self._wish(
            user, first.account, (first.kind, first.model, first.count), key, body=f"retry {job_id}"
        )
        self._run(
            Process(self.universe, troubles),
            lambda app: retry(
                app,
                job_id,
                user=user,
                request_hash=fingerprint(wish.body),
                idempotency_key=key,
                request_id=RequestId(wish.request_id),
            ),
            self._judge_submit(wish, of=sold),
        )

    @precondition(lambda self: self.books.sold)
    @rule(
        what=st.sampled_from(["cancel", "cancel", "publish", "unpublish", "delete"]),
        pick=recent,
        apt=likely,
        stranger=st.sampled_from([None, None, None, None, BOB, EVE]),
        troubles=troubles,
    )
    def ask(
        self, what: str, pick: int, apt: bool, stranger: UserId | None, troubles: Sequence[Trouble]
    ) -> None:
        """An owner, or somebody else, asks for a change of a job."""
        self._ask(what, pick, apt, stranger, troubles)

    @precondition(lambda self: any(_is_apt(sold, "publish") for sold in self.books.sold.values()))
    @rule(what=st.sampled_from(["publish", "unpublish", "delete"]), pick=recent, troubles=troubles)
    def show_or_hide(self, what: str, pick: int, troubles: Sequence[Trouble]) -> None:
        """As `ask`, wherever there is something to show."""
        self._ask(what, pick, True, None, troubles)

    def _ask(
        self, what: str, pick: int, apt: bool, stranger: UserId | None, troubles: Sequence[Trouble]
    ) -> None:
        job_id, sold = self._pick(pick, what if apt else None)
        user = stranger or sold.wish.user
        if user == sold.wish.user:
            sold.cancel_asked |= what == "cancel"
            sold.publish_asked |= what == "publish"
            sold.delete_asked |= what == "delete"
        ended_before = sold.end is not None
        asked: dict[str, Callable[[App, JobId, UserId], Coroutine[Any, Any, Job | None]]] = {
            "cancel": cancel,
            "publish": publish,
            "unpublish": unpublish,
            "delete": delete,
        }
        self._run(
            Process(self.universe, troubles),
            lambda app: asked[what](app, job_id, user),
            self._judge_ask(what, sold, user, ended_before=ended_before),
        )

    @rule(
        account=st.sampled_from(sorted(MEMBERS)),
        tokens=st.sampled_from([-20, -1, 5, 40]),
        key=st.sampled_from([None, "g1"]),
        troubles=troubles,
    )
    def grant(self, account: AccountId, tokens: int, key: str | None, troubles: Sequence[Trouble]) -> None:
        gift = self.books.gift(account, tokens, key)
        self._run(
            Process(self.universe, troubles),
            lambda app: grant(app, account, tokens, note=gift.note, idempotency_key=key),
            self._judge_grant(gift),
        )

    # What the machinery does

    @precondition(lambda self: self.universe.queue.hints)
    @rule(
        pick=recent,
        stays=st.booleans(),
        troubles=troubles,
        answers=answers,
        skew=st.sampled_from([0, 0, -3, 3]),
    )
    def deliver(
        self, pick: int, stays: bool, troubles: Sequence[Trouble], answers: Sequence[Answer], skew: int
    ) -> None:
        """A hint reaches a worker; it may stay in the queue to be delivered again."""
        hint = self._take_hint(pick, stays=stays)
        self._launch_worker(Process(self.universe, troubles, answers=answers, skew_seconds=skew), hint)
        self._go_on()

    @precondition(lambda self: self.universe.queue.hints)
    @rule(pick=recent, troubles=st.tuples(troubles, troubles), answers=st.tuples(answers, answers))
    def deliver_to_two(
        self, pick: int, troubles: Sequence[Sequence[Trouble]], answers: Sequence[Sequence[Answer]]
    ) -> None:
        hint = self._take_hint(pick, stays=False)
        for trouble, answer in zip(troubles, answers, strict=True):
            self._launch_worker(Process(self.universe, trouble, answers=answer), hint)
        self._go_on()

    @precondition(lambda self: self.universe.queue.hints)
    @rule(
        pick=recent,
        freeze=st.sampled_from([What.FREEZE_BEFORE, What.FREEZE_BEFORE, What.FREEZE_AFTER]),
        at=st.integers(1, 10),
        answers=st.tuples(answers, answers),
        troubles=troubles,
        goes_on=st.booleans(),
    )
    def overtake(
        self,
        pick: int,
        freeze: What,
        at: int,
        answers: Sequence[Sequence[Answer]],
        troubles: Sequence[Trouble],
        goes_on: bool,
    ) -> None:
        """A worker stands still until its lease has run out and another one has come; then it may go on."""
        hint = self._take_hint(pick, stays=False)
        first = Process(self.universe, [Trouble(freeze, at)], answers=answers[0])
        self._launch_worker(first, hint)
        self._go_on()
        self.universe.clock.advance(seconds=130)
        self._launch_worker(Process(self.universe, troubles, answers=answers[1]), hint)
        self._go_on()
        if goes_on:
            first.release()
            self._go_on()

    @rule(seconds=st.sampled_from([0, 1, 16, 46, 130]), troubles=troubles, answers=answers)
    def work_off(self, seconds: float, troubles: Sequence[Trouble], answers: Sequence[Answer]) -> None:
        """Time passes, a sweep follows, and every hint reaches a worker, the latest one a troubled one."""
        self.universe.clock.advance(seconds=seconds)
        self._sweep(Process(self.universe))
        hints, self.universe.queue.hints = self.universe.queue.hints, []
        for hint in reversed(hints):
            self._launch_worker(Process(self.universe, troubles, answers=answers), hint)
            troubles = ()
        self._go_on()

    @precondition(lambda self: self.universe.queue.hints)
    @rule(pick=recent)
    def lose(self, pick: int) -> None:
        self._take_hint(pick, stays=False)

    @rule(troubles=troubles)
    def sweep(self, troubles: Sequence[Trouble]) -> None:
        self._sweep(Process(self.universe, troubles))

    @rule(seconds=st.sampled_from([0.3, 1, 5, 20, 61, 130, 700, 4000]))
    def wait(self, seconds: float) -> None:
        self.universe.clock.advance(seconds=seconds)
        self._go_on()

    @precondition(lambda self: any(process.is_waiting for process, *_ in self.at_work))
    @rule(pick=recent)
    def release(self, pick: int) -> None:
        waiting = [process for process, *_ in self.at_work if process.is_waiting]
        waiting[-1 - pick % len(waiting)].release()
        self._go_on()

    @precondition(lambda self: self.at_work)
    @rule(pick=recent, politely=st.booleans())
    def stop(self, pick: int, politely: bool) -> None:
        process, *_ = self.at_work[-1 - pick % len(self.at_work)]
        if politely:
            process.stop()
        else:
            process.kill()
        self._go_on()

    @rule(port=st.sampled_from(["store", "queue", "media", "provider"]), rules=st.integers(1, 6))
    def break_down(self, port: str, rules: int) -> None:
        """A part does not answer anybody for a while."""
        self.universe.down[port] = rules
        self.books.media_was_down |= port == "media"

    # What must be true

    @invariant()
    def the_promises_hold(self) -> None:
        self.is_sound = False
        for process, job_id, _ in self.at_work:
            self._note_troubles(process, job_id)
        check(self.books, self._look(), self.universe.provider)
        assert not self.universe.violations, self.universe.violations
        assert not self.universe.provider.violations, self.universe.provider.violations
        self.is_sound = True

    def teardown(self) -> None:
        try:
            if self.is_sound:
                self._settle_everything()
        finally:
            for process, *_ in self.at_work:
                process.kill()
            self._wait_for(asyncio.sleep(0))
            self.runner.close()

    def _settle_everything(self) -> None:
        """With nothing in its way, everything ends and the books are clean."""
        self.universe.down.clear()
        self.universe.provider.healed = True
        hinted = {hint.job_id for hint in self.universe.queue.hints}
        served = [its for job, its in self.books.sold.items() if job in hinted and self._is_fresh(its)]
        clean = Process(self.universe)
        for _ in range(500):
            for process, *_ in self.at_work:
                process.release()
            hints, self.universe.queue.hints = self.universe.queue.hints, []
            for hint in hints:
                self._launch_worker(Process(self.universe), hint)
            self._sweep(clean)
            self.the_promises_hold()
            wake_at = self._wait_for(self.universe.store.next_wake())
            if wake_at is None and not self.at_work:
                break
            self.universe.clock.advance(seconds=5)
            if not self.at_work and wake_at is not None and wake_at > self.universe.clock.now():
                self.universe.clock.advance(seconds=(wake_at - self.universe.clock.now()).total_seconds())
        seen = self._look()
        assert not self.at_work, "a worker never came to an end"
        assert all(job.status in FINISHED for job in seen.jobs.values()), "a job never ended"
        check_erased(self.books, seen)
        assert all(sold.end is not None and sold.end[0] == "draft" for sold in served), "something got lost"
        report = self._wait_for(audit(clean.app))
        assert report.is_clean, report.findings

    def _is_fresh(self, sold: Sold) -> bool:
        """Whether nothing keeps the job from being made: it waits, untouched, for its first worker."""
        is_due = sold.bought_at + DEADLINES[sold.wish.kind] <= self.universe.clock.now()
        return not (sold.cancel_asked or sold.was_worked_on or is_due or sold.end)

    # How it is done

    def _wish(
        self, user: UserId, account: AccountId, ware: tuple[str, str, int], key: str | None, body: str
    ) -> Wish:
        wish = Wish(len(self.books.wishes), user, account, *ware, key, body)
        self.books.wishes.append(wish)
        return wish

    def _pick(self, pick: int, what: str | None) -> tuple[JobId, Sold]:
        """A job, if there is one then a job of which `what` can be asked; a cancel rather comes amid work."""
        sold = list(self.books.sold.items())
        apt = [(job, its) for job, its in sold if what is None or _is_apt(its, what)] or sold
        if what == "cancel":
            in_work = {job for _, job, _ in self.at_work}
            apt = [(job, its) for job, its in apt if job in in_work] or apt
        return apt[-1 - pick % len(apt)]

    def _sweep(self, process: Process) -> None:
        self._run(process, lambda _: sweep(process.app, process.work), self._judge_sweep(process))

    def _take_hint(self, pick: int, *, stays: bool) -> Hint:
        hints = self.universe.queue.hints
        hint = hints[-1 - pick % len(hints)]
        if not stays:
            hints.remove(hint)
        return hint

    def _launch_worker(self, process: Process, hint: Hint) -> None:
        def judge(result: Any, error: BaseException | None) -> None:
            if error is not None:
                assert isinstance(error, StoreUnavailable | Crash | Surprise), repr(error)
                self.universe.queue.hints.append(hint)

        if hint.job_id in self.books.sold:
            self.books.sold[hint.job_id].was_worked_on = True
        self._launch(process, process.work.process(hint.job_id), judge, hint.job_id)

    def _run(self, process: Process, action: Callable[[App], Coroutine[Any, Any, Any]], judge: Judge) -> None:
        self._launch(process, action(process.app), judge)
        self._go_on()

    def _launch(
        self, process: Process, work: Coroutine[Any, Any, Any], judge: Judge, job_id: JobId | None = None
    ) -> None:
        process.task = self.runner.get_loop().create_task(work)
        self.at_work.append((process, job_id, judge))

    def _go_on(self) -> None:
        """Let every process run until it waits for something that this machine must give; hear the rest."""
        self.is_sound = False
        self._wait_for(self._quiet())
        self.universe.down = {port: rules - 1 for port, rules in self.universe.down.items() if rules > 1}
        done = [entry for entry in self.at_work if entry[0].task is None or entry[0].task.done()]
        self.at_work = [entry for entry in self.at_work if entry not in done]
        self.books.catch_up(self._look())
        for process, job_id, judge in done:
            self._note_troubles(process, job_id)
            assert process.task is not None
            error = Crash() if process.task.cancelled() else process.task.exception()
            judge(process.task.result() if error is None else None, error)

    async def _quiet(self) -> None:
        idle = 0
        while idle < 12:
            before = self.universe.activity
            await asyncio.sleep(0)
            idle = idle + 1 if self.universe.activity == before else 0

    def _note_troubles(self, process: Process, job_id: JobId | None) -> None:
        """A job's erasure counts as work on the job."""
        sold = self.books.sold.get(JobId(job_id.split(":")[0])) if job_id is not None else None
        if sold is not None:
            sold.was_stopped |= process.was_troubled or process.app.stopping.is_set()
            sold.may_have_left |= process.has_failed

    def _look(self) -> Snapshot:
        return self._wait_for(look(self.universe, (ADA, BOB, EVE)))

    def _wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.get_loop().run_until_complete(work)

    # What may be answered

    def _judge_submit(self, wish: Wish, of: Sold | None = None) -> Judge:
        of_unfinished = of is not None and of.end is None

        def judge(submitted: Submitted | None, error: BaseException | None) -> None:
            if isinstance(error, StoreUnavailable | Crash):
                return
            key_owner = self.books.keyed.get((wish.account, wish.key)) if wish.key else None
            if submitted is not None:
                owner = key_owner or wish
                assert submitted.job.id == owner.job
                assert submitted.job.cost == wish.cost == owner.cost
                assert submitted.is_replay == (owner is not wish)
                assert (owner.user, owner.body) == (wish.user, wish.body)
                return
            assert wish.job is None, f"{wish} was sold and answered with {error!r}"
            wish.denied = True
            if isinstance(error, WrongState):
                assert of_unfinished
                return
            self._judge_refusal(wish, error, key_owner, of)

        return judge

    def _judge_refusal(
        self, wish: Wish, error: BaseException | None, key_owner: Wish | None, of: Sold | None
    ) -> None:
        match error:
            case InsufficientTokens():
                assert error.needed_tokens == wish.cost > error.available_tokens >= 0
            case Forbidden():
                assert wish.user not in MEMBERS[wish.account]
            case IdempotencyConflict():
                assert key_owner is not None
                assert (key_owner.user, key_owner.body) != (wish.user, wish.body)
            case NotFound():
                is_gone = bool(key_owner and key_owner.job and self.books.sold[key_owner.job].delete_asked)
                assert is_gone or (of is not None and (of.delete_asked or of.wish.user != wish.user))
            case _:
                raise AssertionError(repr(error))

    def _judge_ask(self, what: str, sold: Sold, user: UserId, *, ended_before: bool) -> Judge:
        is_theirs = user == sold.wish.user

        def judge(job: Job | None, error: BaseException | None) -> None:
            match error:
                case StoreUnavailable() | Crash():
                    pass
                case NotFound():
                    assert not is_theirs or (sold.delete_asked and what != "delete")
                case WrongState():
                    assert is_theirs
                    assert not (what == "delete" and ended_before)
                    assert not (
                        what.endswith("publish") and ended_before and sold.end and sold.end[0] == "draft"
                    )
                case None:
                    assert is_theirs
                    self._judge_done(what, sold, job, ended_before=ended_before)
                case _:
                    raise AssertionError(repr(error))

        return judge

    def _judge_done(self, what: str, sold: Sold, job: Job | None, *, ended_before: bool) -> None:
        match what:
            case "cancel":
                assert job is not None
                assert not ended_before
                assert job.status == "cancelled" or (job.cancel_requested and job.status not in FINISHED)
                if job.status == "cancelled":
                    sold.cancelled = True
                else:
                    sold.cancel_noted = True
                    sold.over_at = sold.over_at or self.universe.provider.tick()
            case "delete":
                sold.deleted = True
            case _:
                assert job is not None
                assert job.status == ("published" if what == "publish" else "draft")

    def _judge_grant(self, gift: Gift) -> Judge:
        def judge(result: tuple[Entry, bool] | None, error: BaseException | None) -> None:
            if isinstance(error, StoreUnavailable | Crash):
                return
            if result is not None:
                assert (result[0].account_id, result[0].tokens) == (gift.account, gift.tokens)
                assert result[0].note == gift.note
                return
            match error:
                case InsufficientTokens():
                    assert error.needed_tokens == -gift.tokens > error.available_tokens
                    gift.denied = gift.key is None
                case IdempotencyConflict():
                    rivals = [
                        other for other in self.books.gifts if other.key == gift.key and other is not gift
                    ]
                    assert any(other.account == gift.account for other in rivals)
                case _:
                    raise AssertionError(repr(error))

        return judge

    def _judge_sweep(self, process: Process) -> Judge:
        began_at = self.universe.clock.now()

        def judge(_: int | None, error: BaseException | None) -> None:
            assert error is None or isinstance(error, StoreUnavailable | Crash), repr(error)
            if error is None and not process.was_troubled:
                check_swept(self._look(), began_at)

        return judge


def _is_apt(sold: Sold, what: str) -> bool:
    match what:
        case "cancel":
            return sold.end is None
        case "publish" | "unpublish":
            return sold.end is not None and sold.end[0] == "draft" and not sold.delete_asked
        case _:
            return sold.end is not None


TestUseCases = UseCases.TestCase
TestUseCases.settings = budget(examples=250, steps=50)
