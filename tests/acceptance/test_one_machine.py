"""MediaForge as its users run it: real processes, real HTTP, real files."""

import io
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import av
import httpx
import pytest
from PIL import Image

from tests.acceptance.machine import Machine, a_machine


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with a_machine(tmp_path_factory.mktemp("machine")) as machine:
        machine.start()
        yield machine
        assert machine.stop() == 0


@pytest.mark.parametrize(("wanted", "size"), [({}, (1024, 1024)), ({"aspect_ratio": "16:9"}, (1344, 768))])
def test_a_prompt_becomes_a_picture_that_opens(
    running: Machine, wanted: dict[str, str], size: tuple[int, int]
) -> None:
    with running.client() as client:
        answer = client.post(
            "/v1/generate", json={"kind": "image", "prompt": "a fox", **wanted}, headers={"Prefer": "wait=60"}
        )
        job = answer.json()
        [media] = job["media"]
        picture = Image.open(io.BytesIO(client.get(media["url"]).content))
        thumbnail = Image.open(io.BytesIO(client.get(job["thumbnail_url"]).content))

    assert (answer.status_code, job["status"]) == (200, "draft")
    assert picture.size == (media["width"], media["height"]) == size
    assert max(thumbnail.size) <= 480


def test_a_prompt_becomes_a_video_with_a_thumbnail(running: Machine) -> None:
    with running.client() as client:
        body = {"kind": "video", "prompt": "waves", "seconds": 4, "aspect_ratio": "16:9"}
        job = client.post("/v1/generate", json=body, headers={"Prefer": "wait=60"}).json()
        [media] = job["media"]
        film = client.get(media["url"])
        part = client.get(media["url"], headers={"Range": "bytes=0-99"})
        thumbnail = client.get(job["thumbnail_url"])

    with av.open(io.BytesIO(film.content), mode="r") as container:
        stream = container.streams.video[0]
        frames = len(list(container.decode(stream)))
        assert (stream.width, stream.height, stream.codec_context.name) == (1280, 720, "h264")
    assert frames == pytest.approx(4 * 24, abs=1)
    assert film.headers["content-type"] == "video/mp4"
    assert (part.status_code, part.content) == (206, film.content[:100])
    assert thumbnail.headers["content-type"] == "image/webp"
    assert job["billing"] == {"cost": 10, "charged": 10, "refunded": 0, "state": "charged"}


def test_the_command_saves_what_it_made_and_shows_the_bill(running: Machine) -> None:
    made = running.command(
        "generate", "a red fox", "--count", "2", "--out", "pictures", "--token", "dev-cleo"
    )
    refused = running.command("generate", "gore", "--token", "dev-cleo")

    assert made.returncode == 0, made.stderr
    assert len(list((running.home / "pictures").glob("a-red-fox-*.png"))) == 2
    assert "cost 2, charged 2, refunded 0; 98 tokens left in cleo" in made.stdout
    assert refused.returncode == 1
    assert "content_rejected" in refused.stdout
    assert "cost 1, charged 0, refunded 1; 98 tokens left in cleo" in refused.stdout


def test_operators_grant_audit_sweep_and_make_keys_while_it_runs(running: Machine) -> None:
    granted = running.command("grant", "dora", "25", "--note", "welcome")
    secret = running.command("keys", "create", "dora", "--name", "ci").stdout.strip()
    headers = {"Authorization": f"Bearer {secret}"}
    balance = httpx.get(f"{running.url}/v1/balance", headers=headers, trust_env=False)
    digest = running.command("keys", "list").stdout.splitlines()[1].split()[0]
    revoked = running.command("keys", "revoke", digest)
    refused = httpx.get(f"{running.url}/v1/balance", headers=headers, trust_env=False)

    assert "dora has 125" in granted.stdout
    assert balance.json() == {"account": "dora", "balance": 125, "held": 0}
    assert revoked.returncode == 0, revoked.stderr
    assert refused.status_code == 401
    assert running.command("sweep").returncode == 0
    assert running.command("audit").returncode == 0


def test_a_backup_made_while_it_runs_is_a_whole_machine_of_its_own(running: Machine, tmp_path: Path) -> None:
    with running.client("edda") as client:
        job = client.post(
            "/v1/generate", json={"kind": "image", "prompt": "a fox"}, headers={"Prefer": "wait=60"}
        ).json()
    made = running.command("backup", str(tmp_path / "copy"))
    assert made.returncode == 0, made.stderr

    with a_machine(tmp_path / "other") as other:
        assert other.command("restore", str(tmp_path / "copy")).returncode == 0
        assert other.command("audit").returncode == 0
        other.start()
        refused = other.command("restore", str(tmp_path / "copy"))
        with other.client("edda") as client:
            again = client.get(f"/v1/jobs/{job['id']}").json()
            assert client.get(again["media"][0]["url"]).is_success
    assert refused.returncode == 2
    assert "cannot listen on" in refused.stderr


def test_commands_on_the_books_never_make_a_store(tmp_path: Path) -> None:
    with a_machine(tmp_path / "nowhere") as nowhere:
        for command in (["audit"], ["grant", "ada", "5"], ["keys", "create", "ada"]):
            ended = nowhere.command(*command)
            assert ended.returncode == 2
            assert "there is no store at" in ended.stderr
        assert not (nowhere.home / "state").exists()


def test_the_audit_finds_a_balance_that_somebody_changed_by_hand(running: Machine, tmp_path: Path) -> None:
    running.command("backup", str(tmp_path / "copy"))
    with a_machine(tmp_path / "other") as other:
        (tmp_path / "copy").rename(other.home / "state")
        with sqlite3.connect(other.home / "state" / "mediaforge.db") as database:
            one_more = "json_set(body, '$.balance', json_extract(body, '$.balance') + 1)"
            database.execute(f"UPDATE accounts SET body = {one_more} WHERE id = 'ada'")  # noqa: S608
        database.close()
        found = other.command("audit")
        (other.home / "state" / "mediaforge.db").write_bytes(b"not a database at all" * 100)
        could_not = other.command("audit")

    assert found.returncode == 1
    assert found.stdout.startswith("ada: the balance is")
    assert could_not.returncode == 2
    assert len(could_not.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("MEDIAFORGE_STORE", "sqlite:////proc/nowhere/x.db", "MEDIAFORGE_STORE"),
        ("MEDIAFORGE_STORE", "redis://localhost", "MEDIAFORGE_STORE must be"),
        ("MEDIAFORGE_STORE", "memory://", "memory:// lives in one process"),
        ("MEDIAFORGE_MEDIA", "file:///proc/nowhere", "MEDIAFORGE_MEDIA"),
        ("MEDIAFORGE_CATALOGUE", "/nowhere.toml", "MEDIAFORGE_CATALOGUE"),
        ("MEDIAFORGE_GATEWAY_PORT", "99999", "MEDIAFORGE_GATEWAY_PORT"),
        ("MEDIAFORGE_GATEWAY_PROT", "8080", "did you mean MEDIAFORGE_GATEWAY_PORT?"),
        ("MEDIAFORGE_ENVIRONMENT", "production", "MEDIAFORGE_AUTH=dev"),
    ],
)
def test_a_start_that_cannot_work_says_why_in_one_line_and_exits_with_2(
    tmp_path: Path, variable: str, value: str, says: str
) -> None:
    with a_machine(tmp_path / "machine", **{variable: value}) as machine:
        ended = machine.command("up")

    assert ended.returncode == 2
    assert says in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_a_port_in_use_is_said_in_one_line(running: Machine, tmp_path: Path) -> None:
    with a_machine(tmp_path / "second") as second:
        second.gateway_port = running.gateway_port
        ended = second.command("up")

    assert ended.returncode == 2
    assert ended.stderr.strip() == (
        f"mediaforge: cannot listen on 127.0.0.1:{running.gateway_port}: Address already in use"
    )


def test_a_locked_store_answers_503_and_loses_nothing(running: Machine) -> None:
    with (
        running.client("finn") as client,
        sqlite3.connect(running.home / "state" / "mediaforge.db", isolation_level=None) as database,
    ):
        client.get("/v1/balance")
        database.execute("BEGIN IMMEDIATE")
        refused = client.post("/v1/generate", json={"kind": "image", "prompt": "a fox"})
        database.execute("ROLLBACK")
        balance = client.get("/v1/balance").json()
    database.close()

    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert json.loads(refused.content)["error"]["code"] == "unavailable"
    assert balance == {"account": "finn", "balance": 100, "held": 0}
