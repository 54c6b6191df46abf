"""Documents that can be checked say what is true."""

import re
from pathlib import Path

from services.cli.main import app as command
from shared.domain.outcomes import BILLING
from shared.settings import settings_page

ROOT = Path(__file__).parents[2]


def test_the_page_of_settings_is_what_the_code_says() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == settings_page()


def test_the_readme_shows_the_billing_table_of_the_code() -> None:
    readme = (ROOT / "README.md").read_text()

    for rule in BILLING.values():
        assert f"| {rule.ended} | {rule.text} |" in readme


def test_the_readme_names_every_command() -> None:
    named = set(re.findall(r"`mediaforge ([a-z]+)", (ROOT / "README.md").read_text()))
    commands = {found.name for found in command.registered_commands}
    groups = {group.name for group in command.registered_groups}

    assert named == commands | groups


def test_links_between_documents_lead_somewhere() -> None:
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"
