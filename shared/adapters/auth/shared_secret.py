"""Who pushes to the worker of one machine: whoever has the secret that was made at start."""

import hmac

from shared.domain.errors import Unauthenticated


class SharedSecret:
    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    async def verify(self, token: str) -> None:
        if not hmac.compare_digest(token.encode(), self._secret):
            raise Unauthenticated("only the queue and the scheduler may call the worker")
