"""Submit: one debit and one job, whatever is repeated, and nothing when it is refused."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.domain.changes import Create, Put, account_key, job_key
from shared.domain.errors import (
    Forbidden,
    IdempotencyConflict,
    InsufficientTokens,
    InvalidRequest,
    MaxCostExceeded,
    MediaForgeError,
    NotFound,
    QueueUnavailable,
    StoreUnavailable,
    WrongState,
)
from shared.domain.ids import AccountId, RequestId, keyed_entry_id
from shared.domain.job import Job, Kind, Status
from shared.domain.ledger import Entry, Reason
from shared.domain.orders import image_order
from shared.ports.queue import Hint
from shared.ports.store import JobFilter
from shared.usecases.accounts import create_team, grant
from shared.usecases.fingerprint import fingerprint
from shared.usecases.publication import delete
from shared.usecases.submit import Submission, afford, retry, submit
from tests.support import ADA, BOB, NOON, UnsteadyStore, World, down, make_world

TEAM = AccountId("team_1")


async def entries(world: World, account: str = ADA) -> Sequence[Entry]:
    return (await world.store.entries(AccountId(account), limit=100)).data


async def count(world: World) -> int:
    return (await world.store.count(JobFilter())).jobs


async def submitted(world: World, *, key: str | None = None, prompt: str = "a fox") -> tuple[Job, bool]:
    order = image_order(world.app.catalogue, prompt=prompt, seed=7)
    submission = Submission(order=lambda: order, user_id=ADA, request_hash=prompt, idempotency_key=key)
    answer = await submit(world.app, submission)
    return answer.job, answer.is_replay


async def test_a_submit_debits_the_account_queues_the_job_and_hints_at_it() -> None:
    world = make_world()
    job = await world.submit(count=3, metadata={"ref": 1}, request_id=RequestId("req_1"))

    assert await world.job(job) == job
    assert (job.status, job.cost, job.user_id, job.account_id) == (Status.QUEUED, 3, ADA, AccountId(ADA))
    assert (job.metadata, job.request_id, job.model) == ({"ref": 1}, "req_1", "local-image")
    assert (job.created_at, job.wake_at) == (NOON, NOON + world.app.policy.publish_grace)
    assert job.deadline_at == NOON + timedelta(minutes=10)
    assert await world.balance() == 97
    assert {(e.reason, e.tokens, e.job_id) for e in await entries(world)} == {
        (Reason.SIGNUP, 100, None),
        (Reason.DEBIT, -3, job.id),
    }
    assert job.debit_id in {e.id for e in await entries(world)}
    assert world.queue.hints == [Hint(job_id=job.id, kind=Kind.IMAGE, request_id=RequestId("req_1"))]


async def test_the_second_submit_of_a_user_debits_the_account_that_stands() -> None:
    world = make_world()
    first, second = await world.submit(), await world.submit()
    assert first.id != second.id
    assert await world.balance() == 98
    assert len(await entries(world)) == 3


async def test_the_same_key_and_body_give_the_same_job_once_debited() -> None:
    world = make_world()
    first, replays = await submitted(world, key="k")
    second, is_replay = await submitted(world, key="k")
    assert (replays, is_replay) == (False, True)
    assert second == first
    assert await world.balance() == 99
    assert len(world.queue.hints) == 1


async def test_a_replay_shows_the_job_as_it_stands_now() -> None:
    world = make_world()
    job, _ = await submitted(world, key="k")
    await world.deliver(job)
    assert (await submitted(world, key="k"))[0].status is Status.DRAFT


async def test_a_submit_without_a_key_is_never_a_repetition() -> None:
    world = make_world()
    assert (await submitted(world))[0].id != (await submitted(world))[0].id


async def test_the_same_key_for_another_body_is_a_conflict() -> None:
    world = make_world()
    await submitted(world, key="k")
    with pytest.raises(IdempotencyConflict):
        await submitted(world, key="k", prompt="a hound")
    assert await world.balance() == 99
    assert await count(world) == 1


async def test_the_same_key_of_two_members_of_a_team_is_a_conflict() -> None:
    world = make_world()
    await create_team(world.app, name="T", members=frozenset({ADA, BOB}), account_id=TEAM)
    await grant(world.app, TEAM, 10, note=None)
    await world.submit(key="k", account_id=TEAM)
    with pytest.raises(IdempotencyConflict):
        await world.submit(key="k", account_id=TEAM, user=BOB)
    assert len(await entries(world, TEAM)) == 2


async def test_the_same_key_in_two_accounts_makes_two_jobs() -> None:
    world = make_world()
    assert (await world.submit(key="k")).id != (await world.submit(key="k", user=BOB)).id


async def test_a_key_whose_job_was_deleted_finds_nothing_and_debits_nothing() -> None:
    world = make_world()
    job, _ = await submitted(world, key="k")
    await world.deliver(job)
    await delete(world.app, job.id, ADA)
    with pytest.raises(NotFound):
        await submitted(world, key="k")
    assert (await world.balance(), await count(world)) == (99, 2), "the job and its erasure"


async def test_a_key_that_was_used_for_a_grant_is_a_conflict() -> None:
    world = make_world()
    await grant(world.app, AccountId(ADA), 5, note=None, idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        await submitted(world, key="k")


async def test_a_key_that_stands_for_no_job_is_a_conflict_even_for_the_same_body() -> None:
    world = make_world()
    entry = Entry(
        id=keyed_entry_id(AccountId(ADA), "k"),
        account_id=AccountId(ADA),
        tokens=5,
        reason=Reason.GRANT,
        created_at=NOON,
        request_hash=fingerprint(ADA, "a fox"),
    )
    await world.store.change([], lambda _: [Create(entry)])
    with pytest.raises(IdempotencyConflict):
        await submitted(world, key="k")


REFUSALS: dict[str, tuple[dict[str, object], type[MediaForgeError]]] = {
    "too dear for the account": ({"kind": Kind.VIDEO}, InsufficientTokens),
    "dearer than allowed": ({"count": 3, "max_cost": 2}, MaxCostExceeded),
    "somebody else's account": ({"account_id": AccountId("bob")}, Forbidden),
    "an account that does not exist": ({"account_id": AccountId("nobody")}, Forbidden),
}


@pytest.mark.parametrize("what", REFUSALS)
async def test_a_refused_submit_writes_nothing(what: str) -> None:
    world = make_world(signup_tokens=5)
    await world.submit(user=BOB)
    world.queue.hints.clear()
    asked, error = REFUSALS[what]
    with pytest.raises(error):
        await world.submit(key="k", **asked)  # type: ignore[arg-type]
    assert await count(world) == 1
    assert await entries(world) == []
    assert world.queue.hints == []
    assert (await world.submit(key="k")).cost == 1, "the key was not used up"


async def test_a_cost_that_is_just_allowed_and_just_paid_is_accepted() -> None:
    world = make_world(signup_tokens=3)
    assert (await world.submit(count=3, max_cost=3)).cost == 3
    assert await world.balance() == 0
    with pytest.raises(InsufficientTokens) as caught:
        await world.submit()
    assert (caught.value.needed_tokens, caught.value.available_tokens) == (1, 0)


async def test_a_member_pays_from_the_teams_account() -> None:
    world = make_world()
    await create_team(world.app, name="T", members=frozenset({ADA}), account_id=TEAM)
    await grant(world.app, TEAM, 10, note=None)
    job = await world.submit(account_id=TEAM, count=4)
    assert job.account_id == TEAM
    assert (await world.store.load([account_key(TEAM)])).need(account_key(TEAM)).balance == 6
    assert await entries(world) == [], "her own account was not opened for it"


async def test_a_lost_hint_does_not_fail_the_submit() -> None:
    world = make_world()
    world.queue.fails = QueueUnavailable("the queue is down")
    job = await world.submit()
    assert world.queue.hints == []
    assert await world.store.due(NOON + world.app.policy.publish_grace, limit=5) == [job]


async def test_a_submit_that_the_store_did_not_take_can_be_repeated() -> None:
    store = UnsteadyStore()
    world = make_world(store=store)
    store.interludes = [down]
    with pytest.raises(StoreUnavailable):
        await submitted(world, key="k")
    assert (await submitted(world, key="k"))[1] is False
    assert await world.balance() == 99


async def test_a_commit_of_unknown_result_is_recognised_as_ones_own() -> None:
    store = UnsteadyStore()
    store.decides_again = True
    world = make_world(store=store)
    job, is_replay = await submitted(world, key="k")
    assert is_replay is False
    assert [hint.job_id for hint in world.queue.hints] == [job.id]
    assert (await world.balance(), await count(world)) == (99, 1)


# --- retry


async def test_a_retry_is_a_new_job_with_the_same_request_newly_debited() -> None:
    world = make_world()
    job = await world.deliver(await world.submit(count=2, metadata={"a": 1}))
    again = await retry(world.app, job.id, user=ADA, request_hash="r", request_id=RequestId("req_2"))
    assert not again.is_replay
    assert again.job.id != job.id
    assert (again.job.request, again.job.metadata, again.job.cost) == (job.request, job.metadata, 2)
    assert (again.job.status, again.job.request_id) == (Status.QUEUED, "req_2")
    assert await world.balance() == 96


async def test_a_retry_with_the_same_key_is_the_same_job() -> None:
    world = make_world()
    job = await world.deliver(await world.submit())
    first, second = [
        await retry(world.app, job.id, user=ADA, request_hash="r", idempotency_key="k") for _ in range(2)
    ]
    assert second.is_replay
    assert first.job == second.job
    assert await world.balance() == 98


async def test_only_ones_own_finished_jobs_can_be_retried() -> None:
    world = make_world()
    job = await world.submit()
    with pytest.raises(WrongState):
        await retry(world.app, job.id, user=ADA, request_hash="r")
    await world.deliver(job)
    with pytest.raises(NotFound):
        await retry(world.app, job.id, user=BOB, request_hash="r")
    assert await count(world) == 1


async def test_what_nothing_makes_any_more_cannot_be_retried() -> None:
    world = make_world()
    job = await world.deliver(await world.submit())
    key = job_key(job.id)
    await world.store.change([key], lambda _: [Put(replace(job, model="retired"))])
    with pytest.raises(InvalidRequest):
        await retry(world.app, job.id, user=ADA, request_hash="r")


# --- quotes


async def test_a_quote_writes_nothing_even_for_a_user_who_never_came_before() -> None:
    world = make_world(signup_tokens=5)
    account, affordable = await afford(world.app, ADA, None, 5)
    assert (account.balance, affordable) == (5, True)
    assert await entries(world) == []
    assert (await world.store.load([account_key(AccountId(ADA))])).find(account_key(AccountId(ADA))) is None
    assert (await afford(world.app, ADA, None, 6))[1] is False


async def test_a_quote_is_for_an_account_that_one_may_spend_from() -> None:
    world = make_world()
    await world.submit(user=BOB)
    assert (await afford(world.app, BOB, AccountId(BOB), 1))[0].balance == 99
    for account in (AccountId(BOB), AccountId("nobody")):
        with pytest.raises(Forbidden):
            await afford(world.app, ADA, account, 1)
