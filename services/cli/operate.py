"""What operators do: tokens, audit, sweep, API keys. All but `sweep` work on the store itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final

import httpx
import typer
from rich.console import Console
from rich.table import Table

from services.cli.failing import EXIT_FAILED, CannotLook, one_line_errors, run
from shared.domain.ids import AccountId, UserId, is_account_id
from shared.domain.keys import SCOPES, ApiKey
from shared.settings import load_settings
from shared.usecases import accounts
from shared.usecases import audit as auditing
from shared.usecases import keys as api_keys
from shared.usecases.app import App
from shared.wiring import open_operations
from shared.wiring.secret import worker_secret

out = Console(highlight=False)
keys = typer.Typer(no_args_is_help=True)

SHOWN_DIGITS: Final = 12
"""Of a key's digest: enough to name it, useless to call with."""


@asynccontextmanager
async def _operations() -> AsyncIterator[App]:
    async with open_operations(load_settings()) as app:
        yield app


def grant(
    account: Annotated[str, typer.Argument(help="A user's id, or a team account's.")],
    tokens: Annotated[int, typer.Argument(help="How many; negative takes them away.")],
    note: Annotated[str | None, typer.Option(help="Why; stands in the ledger.")] = None,
) -> None:
    """Give tokens to an account."""

    async def work() -> None:
        async with _operations() as app:
            entry, _ = await accounts.grant(app, AccountId(account), tokens, note=note)
            balance = (await accounts.get_account(app, entry.account_id)).balance
            out.print(f"{entry.id}: {entry.tokens:+} tokens; {account} has {balance}")

    run(work())


def audit() -> None:
    """Check every account and job. Exit code 0: the books balance; 1: they do not; 2: could not look."""

    async def work() -> auditing.AuditReport:
        async with _operations() as app:
            return await auditing.audit(app)

    report = run(work())
    for finding in report.findings:
        out.print(f"{finding.subject}: {finding.problem}", markup=False, soft_wrap=True)
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(report.statuses.items()))
    verdict = "the books balance" if report.is_clean else f"{len(report.findings)} findings"
    out.print(f"{verdict}: {report.accounts} accounts, {report.jobs} jobs ({statuses or 'none'})")
    raise typer.Exit(0 if report.is_clean else EXIT_FAILED)


def sweep() -> None:
    """Have the worker look after every job that is due, once."""
    with one_line_errors():
        settings = load_settings()
        headers = {"Authorization": f"Bearer {worker_secret(settings)}"}
        try:
            answer = httpx.post(
                f"{settings.push_url}/sweep",
                params={"seconds": 0},
                headers=headers,
                timeout=60,
                trust_env=False,
            )
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise CannotLook(f"the worker at {settings.push_url} did not sweep: {error}") from error
        out.print(f"{answer.json()['jobs']} jobs looked after")


@keys.command("create")
def create_key(
    user: Annotated[str, typer.Argument(help="Who calls with it.")],
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="With the scope admin as well.")] = False,
) -> None:
    """Make a key; it is shown once and stored as a hash."""

    async def work() -> None:
        if not is_account_id(user):
            raise CannotLook(f"{user} cannot be a user's id")
        async with _operations() as app:
            _, secret = await api_keys.create_key(
                app, user=UserId(user), name=name, scopes=SCOPES if admin else frozenset({"user"})
            )
            print(secret)  # noqa: T201 - bare, for scripts

    run(work())


@keys.command("list")
def list_keys() -> None:
    """All keys, newest first."""

    async def work() -> list[ApiKey]:
        async with _operations() as app:
            return list(await app.store.api_keys())

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("key", "user", "scopes", "name", "created", "revoked"):
        table.add_column(name, no_wrap=True)
    for key in run(work()):
        table.add_row(
            key.digest[:SHOWN_DIGITS],
            key.user_id,
            " ".join(sorted(key.scopes)),
            key.name,
            f"{key.created_at:%Y-%m-%d %H:%M}",
            f"{key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else "",
        )
    out.print(table)


@keys.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(help="As `keys list` shows it, or the whole digest.")],
) -> None:
    """The key opens nothing from now on."""

    async def work() -> None:
        async with _operations() as app:
            matching = [known for known in await app.store.api_keys() if known.digest.startswith(key)]
            if len(matching) != 1 or len(key) < SHOWN_DIGITS:
                raise CannotLook(
                    f"{len(matching)} keys begin with {key}; say at least {SHOWN_DIGITS} digits of one"
                )
            revoked = await api_keys.revoke_key(app, matching[0].digest)
            out.print(f"revoked {revoked.digest[:SHOWN_DIGITS]} of {revoked.user_id}")

    run(work())
