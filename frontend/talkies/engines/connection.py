"""The connection to a tritonserver, which may be given up for another while requests wait on it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from tritonclient.grpc import MAX_GRPC_MESSAGE_SIZE
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from talkies.errors import Unavailable

_CHANNEL = [
    ("grpc.max_send_message_length", MAX_GRPC_MESSAGE_SIZE),
    ("grpc.max_receive_message_length", MAX_GRPC_MESSAGE_SIZE),
    # gRPC would wait up to two minutes between tries to reach a tritonserver that was away for long.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Another connection is then another one, and not the same beneath.
    ("grpc.use_local_subchannel_pool", 1),
]
_PROBE = 2.0
"""Seconds for tritonserver to say that it is ready."""


class Connection:
    """One gRPC channel at a time."""

    def __init__(self, url: str) -> None:
        """`url` is host:port."""
        self._url = url
        self._client = self._open()

    def _open(self) -> InferenceServerClient:
        return InferenceServerClient(self._url, channel_args=_CHANNEL)

    async def close(self) -> None:
        await self._client.close()

    async def is_ready(self) -> bool:
        try:
            with self.client() as client:
                return await _is_ready(client)
        except Unavailable:
            return False

    async def renew(self, *, force: bool) -> bool:
        """Take another channel if tritonserver answers on that, or anyway if `force`; whether it was done.

        What waits on the old one fails with Unavailable. A server whose address has vanished, as a killed container's
        does, never closes its connections: without this they would be waited for until a request's time is over.
        """
        fresh = self._open()
        if not (force or await _is_ready(fresh)):
            await fresh.close()
            return False
        old, self._client = self._client, fresh
        await old.close()
        return True

    @contextlib.contextmanager
    def client(self) -> Iterator[InferenceServerClient]:
        """For one call. Raises Unavailable when the channel is given up meanwhile, which gRPC takes for a
        cancellation."""
        client = self._client
        try:
            yield client
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if client is self._client or (task and task.cancelling()):
                raise
            raise Unavailable("tritonserver has gone; try again.") from None


async def _is_ready(client: InferenceServerClient) -> bool:
    try:
        return bool(await client.is_server_ready(client_timeout=_PROBE))
    except InferenceServerException:
        return False
