"""Reading the catalogue file."""

import tomllib
from importlib import resources
from pathlib import Path

import msgspec

from shared.domain.catalogue import Catalogue


class BadCatalogue(ValueError):
    """The operator's file cannot be used; the message says where."""


def load_catalogue(path: Path | None) -> Catalogue:
    """The operator's file, or the one that ships with MediaForge."""
    try:
        text = path.read_text() if path else resources.files("shared").joinpath("catalogue.toml").read_text()
        catalogue = msgspec.convert(tomllib.loads(text), Catalogue)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BadCatalogue(f"{path}: {error}") from error
    if problems := catalogue.problems():
        raise BadCatalogue(f"{path}: {problems[0]}")
    return catalogue
