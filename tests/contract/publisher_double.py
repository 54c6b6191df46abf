"""A Pub/Sub server for what the emulator never does: failing, being slow, and knowing permissions."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.iam.v1.iam_policy_pb2 import (  # type: ignore[import-untyped]
    TestIamPermissionsRequest,
    TestIamPermissionsResponse,
)
from google.pubsub_v1 import PublishRequest, PublishResponse


class PublisherDouble:
    def __init__(self) -> None:
        self.requests: list[PublishRequest] = []
        """As they came, also those that failed."""
        self.fails: list[grpc.StatusCode] = []
        """What the next requests are answered with, one each."""
        self.gate: asyncio.Event | None = None
        """If set, publishing is not answered before it."""
        self.granted: dict[str, list[str]] = {}

    @classmethod
    @asynccontextmanager
    async def serving(cls, at: str = "127.0.0.1:0") -> AsyncIterator[tuple["PublisherDouble", str]]:
        """The double, and the `host:port` of it."""
        double, server = cls(), grpc.aio.server()
        publisher = {
            "Publish": grpc.unary_unary_rpc_method_handler(
                double._publish,
                request_deserializer=PublishRequest.deserialize,
                response_serializer=PublishResponse.serialize,
            )
        }
        iam = {
            "TestIamPermissions": grpc.unary_unary_rpc_method_handler(
                double._test_iam_permissions,
                request_deserializer=TestIamPermissionsRequest.FromString,
                response_serializer=TestIamPermissionsResponse.SerializeToString,
            )
        }
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", publisher),
                grpc.method_handlers_generic_handler("google.iam.v1.IAMPolicy", iam),
            )
        )
        port = server.add_insecure_port(at)
        await server.start()
        try:
            yield double, f"127.0.0.1:{port}"
        finally:
            await server.stop(None)

    async def _publish(self, request: PublishRequest, context: Any) -> PublishResponse:
        self.requests.append(request)
        if self.fails:
            await context.abort(self.fails.pop(0), "as the test\nwants it")
        if self.gate is not None:
            await self.gate.wait()
        return PublishResponse(message_ids=[str(n) for n in range(len(request.messages))])

    async def _test_iam_permissions(self, request: Any, context: Any) -> Any:
        if self.fails:
            await context.abort(self.fails.pop(0), "as the test\nwants it")
        granted = set(self.granted.get(request.resource, ())) & set(request.permissions)
        return TestIamPermissionsResponse(permissions=sorted(granted))
