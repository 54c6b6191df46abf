"""Who may call: users at the gateway, the queue and the scheduler at the worker."""

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from typing import Final

from shared.domain.errors import AuthUnavailable
from shared.ports.auth import Authenticator, PushVerifier
from shared.ports.clock import Clock
from shared.ports.store import Store
from shared.settings import BadSettings, Settings
from shared.wiring.extras import needs_extra
from shared.wiring.secret import worker_secret

FIREBASE_EMULATOR: Final = "FIREBASE_AUTH_EMULATOR_HOST"
"""Firebase's own variable: its emulator signs nothing, so that with it anybody can be anyone."""
_ABOUT: Final = {
    "audiences": "MEDIAFORGE_PUSH_AUDIENCE",
    "service_accounts": "MEDIAFORGE_PUSH_SERVICE_ACCOUNT",
}


@asynccontextmanager
async def open_authenticator(settings: Settings, store: Store, clock: Clock) -> AsyncIterator[Authenticator]:
    """API keys, and beside them what `MEDIAFORGE_AUTH` names."""
    from shared.adapters.auth.tokens import ApiKeys

    async with AsyncExitStack() as stack:
        try:
            others = await stack.enter_async_context(_tokens(settings, clock))
        except AuthUnavailable as error:
            raise BadSettings(f"MEDIAFORGE_FIREBASE_PROJECT: {error.message}") from error
        yield ApiKeys(store, others=others)


def _tokens(settings: Settings, clock: Clock) -> AbstractAsyncContextManager[Authenticator]:
    from shared.adapters.auth.tokens import DevTokens, NoTokens

    match settings.auth:
        case "dev":
            return nullcontext(DevTokens())
        case "keys":
            return nullcontext(NoTokens())
        case "firebase":
            emulated = bool(os.environ.get(FIREBASE_EMULATOR))
            if emulated and settings.environment != "local":
                raise BadSettings(
                    f"{FIREBASE_EMULATOR} lets anybody be anyone: only with MEDIAFORGE_ENVIRONMENT=local"
                )
            with needs_extra("MEDIAFORGE_AUTH", "tokens"):
                from shared.adapters.auth.firebase import FirebaseTokens
            project = settings.firebase_project or settings.store_url.partition("firestore://")[2]
            return FirebaseTokens.open(project.partition("/")[0], clock=clock, emulator=emulated)


@asynccontextmanager
async def open_verifier(settings: Settings, clock: Clock) -> AsyncIterator[PushVerifier]:
    """Tokens that Google signs where service accounts are named, else the secret of this machine."""
    if not settings.push_service_accounts:
        if settings.environment != "local" and settings.queue != "embedded://":
            raise BadSettings(
                "MEDIAFORGE_PUSH_SERVICE_ACCOUNT: name the service account whose tokens pushes will show"
            )
        from shared.adapters.auth.shared_secret import SharedSecret

        yield SharedSecret(worker_secret(settings))
        return
    if settings.environment != "local" and not (settings.push_audiences or settings.worker_url):
        raise BadSettings(
            "MEDIAFORGE_PUSH_AUDIENCE: say what the tokens of pushes are made out for (or set "
            "MEDIAFORGE_WORKER_URL to the worker's address)"
        )
    with needs_extra("MEDIAFORGE_PUSH_SERVICE_ACCOUNT", "tokens"):
        from shared.adapters.auth.oidc import PushTokens
    async with AsyncExitStack() as stack:
        opening = PushTokens.open(
            settings.push_audiences or [settings.push_url],
            settings.push_service_accounts,
            clock=clock,
            behind_iam=settings.push_behind_iam,
        )
        try:
            verifier = await stack.enter_async_context(opening)
        except AuthUnavailable as error:
            variable = _ABOUT.get(error.param or "", "MEDIAFORGE_PUSH_SERVICE_ACCOUNT")
            raise BadSettings(f"{variable}: {error.message}") from error
        yield verifier
