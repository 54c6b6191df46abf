"""The secret between the queue and the worker of one machine."""

import os
import secrets

from shared.settings import BadSettings, Settings


def worker_secret(settings: Settings) -> str:
    """What the queue and the scheduler show to the worker; made once and kept where only its owner reads."""
    given = settings.worker_secret.get_secret_value()
    if given:
        return given
    path = settings.home / "worker-secret"
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".worker-secret-{secrets.token_hex(8)}")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
        try:
            os.link(temporary, path)  # whoever comes first makes it
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
        secret = path.read_text().strip()
    except OSError as error:
        raise BadSettings(
            f"MEDIAFORGE_HOME: cannot keep the worker's secret in {path}: {error.strerror}"
        ) from error
    if not secret:
        raise BadSettings(f"{path} is empty; remove it and start again")
    return secret
