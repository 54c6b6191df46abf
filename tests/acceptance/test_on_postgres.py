"""The same machine with its store on a PostgreSQL server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.machine import QUICK_CATALOGUE, Machine, a_machine, everything_ended
from tests.contract.postgres_server import a_postgres_server

pytestmark = pytest.mark.external


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    catalogue = tmp_path / "catalogue.toml"
    catalogue.write_text(QUICK_CATALOGUE)
    with a_postgres_server() as server:
        settings = {
            "MEDIAFORGE_STORE": server.new_database("mediaforge"),
            "MEDIAFORGE_CATALOGUE": str(catalogue),
            "MEDIAFORGE_LEASE_SECONDS": "5",
            "MEDIAFORGE_LEASE_MARGIN_SECONDS": "2",
            "MEDIAFORGE_PUBLISH_GRACE_SECONDS": "1",
        }
        with a_machine(tmp_path / "machine", **settings) as machine:
            yield machine


def test_jobs_survive_kill_9_of_everything_and_the_books_balance(machine: Machine) -> None:
    machine.start()
    with machine.client() as client:
        done = client.post(
            "/v1/generate", json={"kind": "image", "prompt": "a fox"}, headers={"Prefer": "wait=30"}
        ).json()
        for kind, prompt in (("image", "a hare"), ("image", "gore"), ("video", "waves")):
            assert client.post("/v1/generate", json={"kind": kind, "prompt": prompt}).status_code == 202
    machine.kill()
    machine.start()
    with machine.client() as client:
        jobs = everything_ended(client, 4, within_seconds=60)
        balance = client.get("/v1/balance").json()["balance"]
    audit, backup = machine.command("audit"), machine.command("backup", "copy")

    assert done["status"] == "draft"
    assert sorted(job["status"] for job in jobs) in (
        ["draft", "draft", "draft", "failed"],
        ["draft", "draft", "failed", "failed"],  # the film was being bought when everything died
    )
    assert balance == 100 - sum(job["billing"]["charged"] for job in jobs)
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert backup.returncode == 2
    assert "postgresql" not in backup.stderr
    assert machine.stop() == 0
