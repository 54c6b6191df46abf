"""`mediaforge`: run it, use it, look after it."""

import typer

from services.cli import backup, generate, operate, running

app = typer.Typer(
    help="The backend for apps that sell generated images and video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("up")(running.up)
app.command("generate")(generate.generate)
app.command("jobs")(generate.jobs)
app.command("grant")(operate.grant)
app.command("audit")(operate.audit)
app.command("sweep")(operate.sweep)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.add_typer(operate.keys, name="keys", help="API keys: create, list, revoke.")


def main() -> None:
    app()
