"""Who may call: users at the gateway, the queue and the scheduler at the worker."""

from shared.ports.auth import Authenticator
from shared.ports.store import Store
from shared.settings import Settings


def authenticator_of(settings: Settings, store: Store) -> Authenticator:
    from shared.adapters.auth.tokens import ApiKeys, DevTokens, NoTokens

    return ApiKeys(store, others=DevTokens() if settings.auth == "dev" else NoTokens())
