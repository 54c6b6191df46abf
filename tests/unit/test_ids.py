"""Ids sort, cannot be guessed, and are recognised."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.ids import (
    AccountId,
    JobId,
    debit_entry_id,
    erasure_id,
    is_account_id,
    is_job_id,
    keyed_entry_id,
    new_claim_token,
    new_job_id,
    settlement_entry_id,
    signup_entry_id,
    sortable_id,
)
from shared.ports.media import EXTENSIONS, is_media_key, media_key
from tests.support import NOON

NOISE = bytes(range(16))


@given(
    earlier=st.integers(0, 10**12),
    later=st.integers(0, 10**12),
    noise=st.tuples(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16)),
)
def test_ids_sort_by_the_millisecond_in_which_they_were_made(
    earlier: int, later: int, noise: tuple[bytes, bytes]
) -> None:
    first = new_job_id(NOON + timedelta(milliseconds=earlier), noise[0])
    second = new_job_id(NOON + timedelta(milliseconds=later), noise[1])
    if earlier != later:
        assert (first < second) == (earlier < later)


def test_ids_of_one_instant_differ_by_their_noise() -> None:
    assert new_job_id(NOON, NOISE) != new_job_id(NOON, NOISE[::-1])
    assert new_job_id(NOON, NOISE) == new_job_id(NOON, NOISE)


def test_an_id_begins_with_what_it_names() -> None:
    assert sortable_id("team", NOON, NOISE).startswith("team_")
    assert len(sortable_id("team", NOON, NOISE)) == len("team_") + 26


@given(st.binary(min_size=16, max_size=40))
def test_a_claim_token_holds_all_its_128_bits(noise: bytes) -> None:
    assert bytes.fromhex(new_claim_token(noise)) == noise[:16]


@given(st.binary(min_size=16, max_size=16))
def test_what_is_made_as_a_job_id_is_recognised(noise: bytes) -> None:
    job = new_job_id(NOON, noise)
    assert is_job_id(job)
    assert is_job_id(erasure_id(job))


ZEROS = "0" * 26
ARABIC = "\N{ARABIC-INDIC DIGIT ZERO}" * 26
NO_JOB_IDS = [
    "",
    "job_",
    "job_1",
    f"job_{ZEROS[1:]}",
    f"job_{ZEROS}0",
    f"job_{'I' * 26}",
    f"job_{'a' * 26}",
    ZEROS,
]
NO_JOB_IDS += [
    f"JOB_{ZEROS}",
    f"job_{ZEROS}\n",
    f"job_{ZEROS}:",
    f"job_{ARABIC}",
    f" job_{ZEROS}",
    f"job_{ZEROS}:A",
]


@pytest.mark.parametrize("text", NO_JOB_IDS)
def test_what_is_not_a_job_id_is_told_apart(text: str) -> None:
    assert not is_job_id(text)


@pytest.mark.parametrize("text", ["ada", "A", "0", "ada@example.com", "a.b-c_d", "x" * 128])
def test_account_ids_are_names_that_fit_into_every_store_and_url(text: str) -> None:
    assert is_account_id(text)


@pytest.mark.parametrize(
    "text", ["", "_ada", ".", "..", "a/b", "a b", "a\n", "ä", "x" * 129, "a:b", "a%2Fb", "-a"]
)
def test_what_could_mean_something_else_is_no_account_id(text: str) -> None:
    assert not is_account_id(text)


def test_the_entries_of_a_job_and_an_account_have_names_of_their_own() -> None:
    job, account = JobId("job_1"), AccountId("ada")
    names = {
        signup_entry_id(account),
        settlement_entry_id(job),
        debit_entry_id(job),
        keyed_entry_id(account, "k"),
    }
    assert names >= {"ada:signup", "job_1:settle", "job_1:debit"}
    assert len(names) == 4


def test_an_idempotency_key_stands_for_another_entry_in_another_account() -> None:
    ada, bob = AccountId("ada"), AccountId("bob")
    assert keyed_entry_id(ada, "k") == keyed_entry_id(ada, "k")
    assert len({keyed_entry_id(ada, "k"), keyed_entry_id(ada, "K"), keyed_entry_id(bob, "k")}) == 3


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=255))
def test_an_idempotency_key_may_be_anything_and_its_entry_id_is_plain(key: str) -> None:
    assert keyed_entry_id(AccountId("ada"), key).removeprefix("key_").isalnum()


@pytest.mark.parametrize("type_", EXTENSIONS)
def test_media_keys_are_recognised(type_: str) -> None:
    assert is_media_key(media_key(new_job_id(NOON, NOISE), new_claim_token(NOISE), 3, type_))


@pytest.mark.parametrize("key", ["", "../x", "job_1/a/0.png", f"job_{'0' * 26}/{'0' * 32}/0.exe"])
def test_what_is_not_a_media_key_is_told_apart(key: str) -> None:
    assert not is_media_key(key)
