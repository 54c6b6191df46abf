"""`mediaforge backup` and `mediaforge restore`: the SQLite store together with its local media."""

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Annotated, Final

import typer

from services.cli.failing import CannotLook, one_line_errors
from services.serving import listener_on
from shared.settings import Settings, load_settings
from shared.wiring.stores import sqlite_path

STORE: Final = "mediaforge.db"
MEDIA: Final = "media"
LOG_SUFFIXES: Final = ("-wal", "-shm")
"""SQLite would replay the log of another store over a restored one."""


def backup(folder: Annotated[Path, typer.Argument(help="A new folder for the copy.")]) -> None:
    """Copy the SQLite store and the local media while everything runs; the copy is consistent."""
    from shared.adapters.sql.sqlite import back_up

    with one_line_errors():
        settings = load_settings()
        source, media = _store_of(settings), _media_of(settings)
        if not source.exists():
            raise CannotLook(f"there is no SQLite store at {source}")
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise CannotLook(f"cannot make {folder}: {error.strerror}") from error
        try:
            # Media twice: what vanishes before the store is copied was deleted before, and says so there;
            # what was made meanwhile comes with the second look.
            _copy_missing(media, folder / MEDIA)
            back_up(source, folder / STORE)
            _copy_missing(media, folder / MEDIA)
        except (OSError, sqlite3.Error) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise CannotLook(f"cannot make the copy: {error}") from error
        typer.echo(f"saved {folder / STORE} and its media")


def restore(folder: Annotated[Path, typer.Argument(help="What `mediaforge backup` made.")]) -> None:
    """Put a backup in the place of the store, which is kept beside it. Nothing may run meanwhile."""
    with one_line_errors():
        settings = load_settings()
        store, media = _store_of(settings), _media_of(settings)
        if not (folder / STORE).is_file():
            raise CannotLook(f"there is no {STORE} in {folder}")
        for port in (settings.gateway_port, settings.worker_port):
            listener_on(settings.host, port).close()  # refuses while somebody listens there
        try:
            store.parent.mkdir(parents=True, exist_ok=True)
            incoming = store.with_name(f".{store.name}.incoming")
            shutil.copyfile(folder / STORE, incoming)
            _copy_missing(folder / MEDIA, media)
            for suffix in ("", *LOG_SUFFIXES):
                part = store.with_name(store.name + suffix)
                if part.exists():
                    part.replace(store.with_name(f"{store.name}.before-restore{suffix}"))
            incoming.replace(store)
        except OSError as error:
            raise CannotLook(f"cannot restore: {error}") from error
        typer.echo(f"restored {store}; run `mediaforge audit`, then start")


def _store_of(settings: Settings) -> Path:
    path = sqlite_path(settings)
    if path is None:
        raise CannotLook("MEDIAFORGE_STORE is not SQLite; use its own tools for backups")
    return path


def _media_of(settings: Settings) -> Path:
    if not settings.media_url.startswith("file:///"):
        raise CannotLook("MEDIAFORGE_MEDIA is not a folder; use its own tools for backups")
    return Path(settings.media_url.removeprefix("file://"))


def _copy_missing(source: Path, target: Path) -> None:
    """Copy what is not there yet; media never change. What is deleted meanwhile is left out."""
    for folder, names, files in os.walk(source):
        names[:] = [name for name in names if not name.startswith(".")]
        place = target / Path(folder).relative_to(source)
        place.mkdir(parents=True, exist_ok=True)
        for name in files:
            copy = place / name
            if name.startswith(".") or copy.exists():
                continue
            partial = place / f".{name}.partial"
            try:
                shutil.copyfile(Path(folder) / name, partial)
            except FileNotFoundError:
                partial.unlink(missing_ok=True)
                continue
            partial.replace(copy)
