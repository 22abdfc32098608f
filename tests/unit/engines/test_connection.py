"""What becomes of a call whose channel is given up; over real channels to a port where nobody answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from talkies.engines.connection import Connection
from talkies.engines.triton import Keys, Triton
from talkies.errors import Unavailable


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of somebody who takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


async def waiting(triton: Triton) -> asyncio.Task[dict[str, object]]:
    call: asyncio.Task[dict[str, object]] = asyncio.create_task(triton.index())  # type: ignore[arg-type]
    await asyncio.sleep(0.2)
    assert not call.done()
    return call


async def test_a_call_on_a_channel_that_is_given_up_may_be_tried_again(silent: str) -> None:
    triton = Triton(silent, Keys())
    call = await waiting(triton)
    assert await triton.reconnect(force=True)
    with pytest.raises(Unavailable) as caught:
        await asyncio.wait_for(call, 5)
    assert caught.value.again
    await triton.close()


async def test_a_call_that_its_caller_gives_up_is_cancelled(silent: str) -> None:
    triton = Triton(silent, Keys())
    call = await waiting(triton)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(call, 5)
    await triton.close()


async def test_a_channel_stays_while_no_other_is_better(silent: str) -> None:
    connection = Connection(silent)
    with connection.client() as before:
        assert not await connection.renew(force=False)
        with connection.client() as after:
            assert after is before
    await connection.close()
