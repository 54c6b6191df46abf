"""Settings: sensible without any, and one clear line about each that is wrong."""

import os
from pathlib import Path

import pytest

from shared.settings import BadSettings, Settings, load_settings, port_to_listen_on


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("MEDIAFORGE_") or name == "PORT"]:
        monkeypatch.delenv(name)


def test_without_any_everything_runs_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.environment == "local"
    assert settings.store_url == "sqlite:///.mediaforge/mediaforge.db"
    assert settings.media_url == f"file://{tmp_path}/.mediaforge/media"
    assert settings.queue == "embedded://"
    assert settings.gateway_url == "http://127.0.0.1:8080"
    assert settings.media_base_url == "http://127.0.0.1:8080/media"
    assert settings.push_url == "http://127.0.0.1:8081"
    assert settings.tokens_at_signup == 100
    assert settings.logs_as_json is False
    assert settings.max_body_bytes == 10_000_000


def test_every_setting_is_an_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIAFORGE_HOME", "/srv/forge")
    monkeypatch.setenv("MEDIAFORGE_GATEWAY_PORT", "9000")
    monkeypatch.setenv("MEDIAFORGE_SIGNUP_TOKENS", "0")
    monkeypatch.setenv("MEDIAFORGE_LOCAL_FAILURE_RATE", "0.5")
    monkeypatch.setenv("MEDIAFORGE_PUBLIC_URL", "https://forge.example/")
    settings = load_settings()
    assert settings.store_url == "sqlite:////srv/forge/mediaforge.db"
    assert (settings.gateway_port, settings.tokens_at_signup, settings.local_failure_rate) == (9000, 0, 0.5)
    assert settings.gateway_url == "https://forge.example"
    assert settings.media_base_url == "https://forge.example/media"


def test_media_may_have_an_address_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIAFORGE_MEDIA_PUBLIC_URL", "https://cdn.example/")
    assert load_settings().media_base_url == "https://cdn.example"


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 - not bound here
def test_who_listens_everywhere_is_reached_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("MEDIAFORGE_HOST", host)
    assert load_settings().push_url == "http://127.0.0.1:8081"


def test_production_gives_no_tokens_away_and_logs_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIAFORGE_ENVIRONMENT", "production")
    monkeypatch.setenv("MEDIAFORGE_AUTH", "keys")
    settings = load_settings()
    assert settings.tokens_at_signup == 0
    assert settings.logs_as_json is True
    monkeypatch.setenv("MEDIAFORGE_LOG_FORMAT", "console")
    assert load_settings().logs_as_json is False


def test_dev_tokens_are_refused_outside_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIAFORGE_ENVIRONMENT", "production")
    with pytest.raises(BadSettings, match=r"MEDIAFORGE_AUTH=dev .* only with MEDIAFORGE_ENVIRONMENT=local"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("MEDIAFORGE_STROE", "; did you mean MEDIAFORGE_STORE?"),
        ("MEDIAFORGE_GATEWAY_PROT", "; did you mean MEDIAFORGE_GATEWAY_PORT?"),
        ("MEDIAFORGE_XYZZY", ""),
        ("MEDIAFORGE_", ""),
    ],
)
def test_an_unknown_setting_is_named_with_the_one_that_was_probably_meant(
    monkeypatch: pytest.MonkeyPatch, name: str, suggestion: str
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(BadSettings) as refused:
        load_settings()
    assert str(refused.value) == f"{name} is not a setting{suggestion}"


@pytest.mark.parametrize(
    "name", ["MEDIAFORGE_URL", "MEDIAFORGE_TOKEN", "MEDIAFORGEX", "HOME_MEDIAFORGE_STORE"]
)
def test_variables_of_others_are_let_be(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MEDIAFORGE_GATEWAY_PORT", "eighty"),
        ("MEDIAFORGE_GATEWAY_PORT", ""),
        ("MEDIAFORGE_GATEWAY_PORT", "0"),
        ("MEDIAFORGE_WORKER_PORT", "65536"),
        ("MEDIAFORGE_ENVIRONMENT", "staging"),
        ("MEDIAFORGE_AUTH", "firebase?"),
        ("MEDIAFORGE_SIGNUP_TOKENS", "-2"),
        ("MEDIAFORGE_SIGNUP_TOKENS", "1.5"),
        ("MEDIAFORGE_LEASE_SECONDS", "4"),
        ("MEDIAFORGE_LOCAL_FAILURE_RATE", "2"),
        ("MEDIAFORGE_LOCAL_FAILURE_RATE", "nan"),
        ("MEDIAFORGE_LOCAL_LATENCY_SECONDS", "-1"),
        ("MEDIAFORGE_LOCAL_LATENCY_SECONDS", "inf"),
        ("MEDIAFORGE_MAX_BODY_BYTES", "10MB"),
        ("MEDIAFORGE_LOG_LEVEL", "loud"),
        ("MEDIAFORGE_MAX_ATTEMPTS", "0"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable_and_what_it_is(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings) as refused:
        load_settings()
    message = str(refused.value)
    assert message.startswith(f"{name}: ")
    assert message.endswith(f"(it is {value!r})")
    assert "\n" not in message


def test_a_secret_is_printed_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIAFORGE_WORKER_SECRET", "xyzzy")
    settings = load_settings()
    assert settings.worker_secret.get_secret_value() == "xyzzy"
    assert "xyzzy" not in f"{settings!r} {settings} {settings.model_dump()}"
    with pytest.raises(BadSettings) as refused:
        load_settings(worker_secret=["xyzzy"])
    assert "xyzzy" not in str(refused.value)


def test_settings_do_not_change_under_way() -> None:
    settings = Settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.host = "example.org"  # type: ignore[misc]


def test_the_port_that_cloud_run_says_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    assert port_to_listen_on(8080) == 8080
    monkeypatch.setenv("PORT", "")
    assert port_to_listen_on(8080) == 8080
    monkeypatch.setenv("PORT", "9999")
    assert port_to_listen_on(8080) == 9999


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "80.0", " 80", "8" * 5_000])
def test_a_port_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("PORT", port)
    with pytest.raises(BadSettings, match=r"^PORT must be a port's number"):
        port_to_listen_on(8080)


@pytest.mark.parametrize("url", ["http://", "http://worker:b", "http://a b", "https://:8081", "http://[::1"])
def test_an_address_without_a_host_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("MEDIAFORGE_WORKER_URL", url)
    with pytest.raises(BadSettings, match=r"^MEDIAFORGE_WORKER_URL: must name a host"):
        load_settings()


@pytest.mark.parametrize("secret", ["xyzzy-\u00e4", "xyzzy\nx", "xyz zy", "xyzzy-\udcff"])
def test_a_secret_that_fits_no_header_is_refused_and_not_told(
    monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("MEDIAFORGE_WORKER_SECRET", secret)
    with pytest.raises(BadSettings, match=r"^MEDIAFORGE_WORKER_SECRET: must be ASCII") as refused:
        load_settings()
    assert "xyz" not in str(refused.value)
