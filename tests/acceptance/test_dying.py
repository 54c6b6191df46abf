"""Processes that die or are asked to: nothing is lost, nothing is bought twice."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.acceptance.machine import QUICK_CATALOGUE, Machine, a_machine, everything_ended, wait_a_moment


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Machine]:
    """A machine with short leases and small media."""
    catalogue = tmp_path / "catalogue.toml"
    catalogue.write_text(QUICK_CATALOGUE)
    with a_machine(
        tmp_path / "quick",
        MEDIAFORGE_CATALOGUE=str(catalogue),
        MEDIAFORGE_LEASE_SECONDS="5",
        MEDIAFORGE_LEASE_MARGIN_SECONDS="3",
        MEDIAFORGE_PUBLISH_GRACE_SECONDS="1",
        MEDIAFORGE_MAX_ATTEMPTS="10",
        MEDIAFORGE_LOCAL_LATENCY_SECONDS="0.5",
        MEDIAFORGE_SIGNUP_TOKENS="1000",
    ) as machine:
        yield machine


def test_kill_9_of_everything_five_times_in_a_row_loses_nothing(quick: Machine) -> None:
    submitted: list[str] = []
    for round_ in range(5):
        quick.start()
        with quick.client() as client:
            for number in range(10):
                kind = "video" if number % 3 == 0 else "image"
                answer = client.post(
                    "/v1/generate",
                    json={"kind": kind, "prompt": f"a fox {round_} {number}"},
                    headers={"Idempotency-Key": f"{round_}/{number}"},
                )
                assert answer.status_code == 202
                submitted.append(answer.json()["id"])
        quick.kill()
    quick.start()
    with quick.client() as client:
        jobs = everything_ended(client, 50, within_seconds=90)
        balance = client.get("/v1/balance").json()
        shown = [client.get(media["url"]).is_success for job in jobs for media in job["media"]]
    audit = quick.command("audit")

    assert sorted(job["id"] for job in jobs) == sorted(submitted)
    assert audit.returncode == 0, audit.stdout
    assert balance == {
        "account": "ada",
        "balance": 1000 - sum(job["billing"]["charged"] for job in jobs),
        "held": 0,
    }
    assert all(shown)
    assert max(Counter(quick.started_operations("video")).values()) == 1
    unfit = [job["error"] for job in jobs if job["status"] != "draft"]
    assert all(error["code"] == "outcome_unknown" for error in unfit)
    assert quick.stop() == 0


def test_a_worker_that_dies_is_started_again_and_its_jobs_go_on(quick: Machine) -> None:
    quick.more["MEDIAFORGE_LOCAL_LATENCY_SECONDS"] = "3"
    quick.start()
    with quick.client() as client:
        job = client.post("/v1/generate", json={"kind": "video", "prompt": "a fox"}).json()
        while not quick.started_operations("video"):
            wait_a_moment()
        # The reference is saved right after the operation has begun.
        while client.get(f"/v1/jobs/{job['id']}").json()["progress"] == 0:
            wait_a_moment()
        os.kill(_worker_pid(quick), signal.SIGKILL)
        [ended] = everything_ended(client, 1, within_seconds=60)

    assert ended["status"] == "draft"
    assert len(quick.started_operations("video")) == 1
    assert "service.died" in quick.log.read_text()


def test_sigterm_parks_what_is_under_way_and_exits_with_0_within_8_seconds(quick: Machine) -> None:
    quick.more["MEDIAFORGE_LOCAL_LATENCY_SECONDS"] = "5"
    quick.start()
    with quick.client() as client:
        for kind in ("image", "video"):
            client.post("/v1/generate", json={"kind": kind, "prompt": "a fox"})
        while len(quick.started_operations("image") + quick.started_operations("video")) < 2:
            wait_a_moment()
    before = time.monotonic()
    code = quick.stop()
    seconds = time.monotonic() - before

    quick.start()
    with quick.client() as client:
        jobs = everything_ended(client, 2, within_seconds=60)

    assert code == 0
    assert seconds < 8
    assert [(job["status"], job["attempts"]) for job in jobs] == [("draft", 0), ("draft", 0)]
    assert len(quick.started_operations("video")) == 1


def test_a_gateway_that_ends_tells_those_who_wait_where_their_job_is(quick: Machine) -> None:
    """A 500 would make them submit, and pay, again."""
    quick.more["MEDIAFORGE_LOCAL_LATENCY_SECONDS"] = "30"
    quick.start()
    with ThreadPoolExecutor(1) as thread, quick.client() as client:
        waiting = thread.submit(
            client.post,
            "/v1/generate",
            json={"kind": "image", "prompt": "a fox"},
            headers={"Prefer": "wait=60"},
        )
        while not quick.started_operations("image"):
            wait_a_moment()
        assert quick.stop() == 0
        answer = waiting.result()

    assert answer.status_code == 202
    assert answer.json()["status"] in ("queued", "processing")
    assert answer.headers["location"].endswith(answer.json()["id"])


def test_a_restore_after_a_crash_is_not_undone_by_the_log_of_the_store_that_crashed(quick: Machine) -> None:
    quick.start()
    with quick.client() as client:
        client.post("/v1/generate", json={"kind": "image", "prompt": "kept"})
        everything_ended(client, 1, within_seconds=30)
        assert quick.command("backup", str(quick.home / "copy")).returncode == 0
        for number in range(20):
            client.post("/v1/generate", json={"kind": "image", "prompt": f"gore {number}"})
    quick.kill()
    assert (quick.home / "state" / "mediaforge.db-wal").stat().st_size > 0
    restored = quick.command("restore", str(quick.home / "copy"))
    audit = quick.command("audit")

    assert restored.returncode == 0, restored.stderr
    assert audit.returncode == 0
    assert "1 jobs (1 draft)" in audit.stdout


def _worker_pid(machine: Machine) -> int:
    """The process of this machine that serves the worker's port."""
    wanted = f"MEDIAFORGE_WORKER_PORT={machine.worker_port}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            if b"services.worker" in command and wanted in (folder / "environ").read_bytes():
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError("the worker's process was not found")
