"""`mediaforge generate` and `mediaforge jobs`: what a user of the API does, from a terminal."""

import re
import time
import uuid
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from services.cli.client import GatewayClient
from services.cli.failing import EXIT_FAILED, CannotLook, one_line_errors
from shared.settings import load_settings

POLL_SECONDS: Final = 0.25
PIPED_WIDTH: Final = 200
_UNFINISHED: Final = ("queued", "processing")

Url = Annotated[
    str, typer.Option(envvar="MEDIAFORGE_URL", help="The gateway's address; by default the local one.")
]
Token = Annotated[str, typer.Option(envvar="MEDIAFORGE_TOKEN", help="An API key, or a dev token locally.")]

out = Console()
if not out.is_terminal:
    out = Console(width=PIPED_WIDTH)


def generate(
    prompt: Annotated[str, typer.Argument(help="What to make.")],
    video: Annotated[bool, typer.Option("--video", help="A video instead of an image.")] = False,
    count: Annotated[int | None, typer.Option(help="How many images.")] = None,
    seconds: Annotated[int | None, typer.Option(help="A video's length.")] = None,
    size: Annotated[str | None, typer.Option(help="As in the catalogue: 1024x1024.")] = None,
    aspect_ratio: Annotated[str | None, typer.Option(help="Instead of --size: 16:9.")] = None,
    style: Annotated[str | None, typer.Option(help="As in the catalogue: watercolor.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed makes the same thing.")] = None,
    model: Annotated[str | None, typer.Option(help="As in the catalogue.")] = None,
    account: Annotated[str | None, typer.Option(help="Who pays.")] = None,
    save_to: Annotated[Path, typer.Option("--out", help="The folder for the files.")] = Path(),
    url: Url = "",
    token: Token = "dev-ada",
) -> None:
    """Make something and save it here; shows what it cost. Exit code 1 if the job did not succeed."""
    asked = {
        "kind": "video" if video else "image",
        "prompt": prompt,
        "count": count,
        "seconds": seconds,
        "size": size,
        "aspect_ratio": aspect_ratio,
        "style": style,
        "seed": seed,
        "model": model,
        "account": account,
    }
    body = {name: value for name, value in asked.items() if value is not None}
    with one_line_errors(), GatewayClient.open(url or load_settings().gateway_url, token) as client:
        job = _followed(client, client.submit(body, key=str(uuid.uuid4())))
        if job["status"] not in ("draft", "ready", "partial"):
            _show_end(client, job)
            raise typer.Exit(EXIT_FAILED)
        for path in _saved(client, job, save_to):
            out.print(f"saved {path}", highlight=False, soft_wrap=True)
        _show_end(client, job)


def jobs(
    kind: Annotated[str | None, typer.Option(help="One or several, with commas between.")] = None,
    status: Annotated[str | None, typer.Option(help="One or several, with commas between.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    url: Url = "",
    token: Token = "dev-ada",
) -> None:
    """My jobs, newest first."""
    with one_line_errors(), GatewayClient.open(url or load_settings().gateway_url, token) as client:
        listed = client.jobs(kind=kind, status=status, limit=limit)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("job", "kind", "status", "progress", "billed", "created"):
        table.add_column(name, no_wrap=True, min_width=30 if name == "job" else None)
    table.add_column("prompt", no_wrap=True, overflow="ellipsis")
    for job in listed:
        table.add_row(
            job["id"],
            job["kind"],
            job["status"],
            f"{job['progress']} %",
            f"{job['billing']['charged']} of {job['billing']['cost']}",
            job["created_at"][:19].replace("T", " "),
            _plain(job["prompt"] or ""),
        )
    out.print(table)


def _followed(client: GatewayClient, job: dict[str, Any]) -> dict[str, Any]:
    """The job once it has ended, with its progress shown meanwhile."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        console=out,
        transient=not out.is_terminal,
    )
    out.print(f"{job['id']}  {job['billing']['cost']} tokens held", highlight=False)
    try:
        with bar:
            task = bar.add_task(job["status"], total=100)
            while job["status"] in _UNFINISHED:
                time.sleep(POLL_SECONDS)
                job = client.job_in_the_end(job["id"])
                bar.update(task, description=job["status"], completed=job["progress"])
    except KeyboardInterrupt:
        out.print(f"{job['id']} goes on; see it with `mediaforge jobs`", highlight=False)
        raise typer.Exit(EXIT_FAILED) from None
    return job


def _saved(client: GatewayClient, job: dict[str, Any], folder: Path) -> list[Path]:
    words = re.sub(r"[^a-z0-9]+", "-", (job["prompt"] or job["kind"]).lower()).strip("-")[:40] or job["kind"]
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, media in enumerate(job["media"], 1):
            suffix = media["url"].rpartition(".")[2]
            path = folder / f"{words}-{job['id'][-6:].lower()}-{number}.{suffix}"
            partial = path.with_name(f".{path.name}.partial")
            try:
                with partial.open("wb") as file:
                    for part in client.download(media["url"]):
                        file.write(part)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
            paths.append(path)
    except OSError as error:
        raise CannotLook(f"cannot save to {folder}: {error.strerror}") from error
    return paths


def _show_end(client: GatewayClient, job: dict[str, Any]) -> None:
    billing, left = job["billing"], client.balance()
    if job["error"] is not None:
        out.print(
            f"{job['status']}: {job['error']['message']} ({job['error']['code']})",
            highlight=False,
            markup=False,
        )
    bill = f"cost {billing['cost']}, charged {billing['charged']}, refunded {billing['refunded']}"
    out.print(
        f"bill: {bill}; {left['balance']} tokens left in {left['account']}", highlight=False, markup=False
    )


def _plain(text: str) -> str:
    """User text for a terminal: no control characters, no markup."""
    return "".join(char if char.isprintable() else " " for char in text).replace("[", r"\[")
