"""What everybody may fetch: the catalogue, and media by their unguessable names."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from shared.domain.ids import ClaimToken, JobId
from shared.domain.outcomes import BILLING
from shared.ports.media import media_key
from tests.services.conftest import Site, drafted, error_of, odd

JOB = JobId("job_00000000000000000000000001")
TOKEN = ClaimToken("0123456789abcdef" * 2)
TEXT = b"0123456789"


async def stored(site: Site, type_: str = "image/png") -> str:
    """The path of an object that holds ten known bytes."""
    key = media_key(JOB, TOKEN, 0, type_)
    await site.disk.save(key, TEXT, type_=type_)
    return f"/media/{key}"


async def test_the_catalogue_tells_what_can_be_asked_for_and_not_how_we_run_it(
    nobody: httpx.AsyncClient,
) -> None:
    answer = await nobody.get("/v1/catalogue")
    catalogue = answer.json()
    assert answer.status_code == 200
    assert catalogue["kinds"] == {
        "image": {"models": ["local-image"], "deadline_seconds": 600},
        "video": {"models": ["local-video"], "deadline_seconds": 3600},
    }
    model = catalogue["models"]["local-image"]
    assert (model["tokens"], model["per"], model["max_count"]) == (1, "image", 4)
    assert model["sizes"]["16:9"] == "1344x768"
    assert "generator" not in model
    assert catalogue["styles"]["oil"] == {"label": "Oil painting"}


async def test_the_billing_table_is_the_one_that_settlement_uses(nobody: httpx.AsyncClient) -> None:
    table = (await nobody.get("/v1/catalogue")).json()["billing"]
    assert {row["ending"]: row["billed"] for row in table} == {
        ending: rule.billed for ending, rule in BILLING.items()
    }
    assert all(row["how_it_ended"] and row["text"] for row in table)


async def test_every_model_and_size_of_the_catalogue_can_be_quoted(
    ada: httpx.AsyncClient, nobody: httpx.AsyncClient
) -> None:
    catalogue = (await nobody.get("/v1/catalogue")).json()
    for kind, rules in catalogue["kinds"].items():
        for name in rules["models"]:
            model = catalogue["models"][name]
            for ratio in model["sizes"]:
                body = {"kind": kind, "prompt": "x", "model": name, "aspect_ratio": ratio}
                answer = await ada.post("/v1/quote", json=body)
                assert (answer.status_code, answer.json()["cost"]) == (200, model["tokens"])


# Media.


@pytest.mark.parametrize(
    ("type_", "served"),
    [
        ("image/png", "image/png"),
        ("image/jpeg", "image/jpeg"),
        ("image/webp", "image/webp"),
        ("video/mp4", "video/mp4"),
    ],
)
async def test_media_are_served_whole_with_their_type_and_for_ever(
    site: Site, nobody: httpx.AsyncClient, type_: str, served: str
) -> None:
    answer = await nobody.get(await stored(site, type_))
    assert (answer.status_code, answer.content) == (200, TEXT)
    assert answer.headers["Content-Type"] == served
    assert answer.headers["Content-Length"] == "10"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert "immutable" in answer.headers["Cache-Control"]
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_head_tells_the_size_without_the_bytes(site: Site, nobody: httpx.AsyncClient) -> None:
    answer = await nobody.head(await stored(site))
    assert (answer.status_code, answer.content, answer.headers["Content-Length"]) == (200, b"", "10")


@pytest.mark.parametrize(
    ("range_", "part", "content_range"),
    [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=4-", b"456789", "bytes 4-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=9-100", b"9", "bytes 9-9/10"),
        ("bytes=0-0", b"0", "bytes 0-0/10"),
    ],
)
async def test_a_part_of_a_film_can_be_fetched(
    site: Site, nobody: httpx.AsyncClient, range_: str, part: bytes, content_range: str
) -> None:
    answer = await nobody.get(await stored(site, "video/mp4"), headers={"Range": range_})
    assert (answer.status_code, answer.content) == (206, part)
    assert answer.headers["Content-Range"] == content_range
    assert answer.headers["Content-Type"] == "video/mp4"


@pytest.mark.parametrize("range_", ["bytes=10-", "bytes=100-200", "bytes=10-12"])
async def test_a_part_beyond_the_end_is_refused_with_the_true_size(
    site: Site, nobody: httpx.AsyncClient, range_: str
) -> None:
    answer = await nobody.get(await stored(site), headers={"Range": range_})
    error_of(answer, 416, "bad_request")
    assert answer.headers["Content-Range"] == "bytes */10"


@pytest.mark.parametrize(
    "range_",
    [
        b"bytes=",
        b"bytes=a-b",
        b"bytes=5-2",
        b"lines=0-3",
        b"0-3",
        b"bytes=--1",
        b"\xff",
        b"bytes=1" + b"0" * 5_000,
    ],
)
async def test_a_range_that_makes_no_sense_is_never_an_error_of_ours(
    site: Site, nobody: httpx.AsyncClient, range_: bytes
) -> None:
    answer = await nobody.get(await stored(site), headers=odd("Range", range_))
    if answer.status_code >= 400:
        assert answer.status_code in (400, 416)
        error_of(answer, answer.status_code, "bad_request")
    else:
        assert answer.content == TEXT


async def test_a_picture_of_a_job_is_what_its_record_says(
    site: Site, ada: httpx.AsyncClient, nobody: httpx.AsyncClient
) -> None:
    job = await drafted(site, ada)
    [media] = job["media"]
    answer = await nobody.get(media["url"])
    assert answer.headers["Content-Type"] == media["type"]
    assert (len(answer.content), sha256(answer.content).hexdigest()) == (media["size"], media["sha256"])


TRICKS = [
    "/media/",
    "/media/%2e%2e",
    "/media/../secret.txt",
    "/media/%2e%2e/secret.txt",
    "/media/..%2fsecret.txt",
    "/media/%2e%2e%2fsecret.txt",
    "/media/..%5csecret.txt",
    "/media/%252e%252e/secret.txt",
    "/media//etc/passwd",
    "/media/%2fetc%2fpasswd",
    "/media/{home}/secret.txt",
    "/media/{job}/../../secret.txt",
    "/media/{job}/%2e%2e/%2e%2e/secret.txt",
    "/media/{job}/{token}",
    "/media/{job}/{token}/",
    "/media/{job}/{token}/0.png/",
    "/media/{job}/{token}/0.png%00",
    "/media/%00{job}/{token}/0.png",
    "/media/{job}/{token}/0.html",
    "/media/{job}/{token}/0.PNG",
    "/media/{job}/{token}/%ef%bc%90.png",
    "/media/{job}/{token}/.5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e",
    "/media/{job}/{token}/link.png",
    "/media/{job}/{token}/7.png",
    "/media/./{job}/{token}/0.mp4",
    "/media/{upper}/{token}/0.png",
    "/media/%ff%fe",
    "/media/" + "x" * 5_000,
]


@pytest.mark.parametrize("trick", TRICKS)
async def test_only_media_are_served_whatever_the_path_says(
    site: Site, nobody: httpx.AsyncClient, tmp_path: Path, trick: str
) -> None:
    await stored(site)
    folder = tmp_path / "media" / JOB / TOKEN
    (tmp_path / "secret.txt").write_bytes(b"secret")
    (folder / ".5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e").write_bytes(b"half a pict")
    (folder / "0.html").write_bytes(b"<script>")
    (folder / "link.png").symlink_to(tmp_path / "secret.txt")
    (folder / "7.png").mkdir()

    path = trick.format(home=tmp_path, job=JOB, token=TOKEN, upper=JOB.upper())
    answer = await nobody.get(httpx.URL("http://gateway").copy_with(raw_path=path.encode()))
    error_of(answer, 404, "not_found")


async def test_a_file_that_vanishes_while_it_is_asked_for_is_not_found(
    site: Site, nobody: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The erasure may come between looking for the file and opening it."""
    path = await stored(site)
    find = site.disk.find

    def found_and_erased(key: str) -> Path | None:
        file = find(key)
        assert file is not None
        file.unlink()
        return file

    monkeypatch.setattr(site.disk, "find", found_and_erased)
    error_of(await nobody.get(path), 404, "not_found")


async def test_without_media_of_its_own_the_gateway_serves_none(site: Site) -> None:
    nobody = await site.caller(None, gateway=replace(site.gateway, local_media=None))
    error_of(await nobody.get(await stored(site)), 404, "not_found")


async def test_the_openapi_page_is_served(nobody: httpx.AsyncClient) -> None:
    answer = await nobody.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.json()["info"]["title"] == "MediaForge"
