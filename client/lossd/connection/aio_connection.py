"""A connection to one server process: calls and their repetition, what is known of the server, shared memory."""

from __future__ import annotations

from lossd.concurrency.tasks import sleep
from lossd.connection.aio_channel import Channel
from lossd.errors import Error
from lossd.rpc import protocol
from lossd.rpc.retry import Retry
from lossd.rpc.target import Target
from lossd.shared_memory.session import SharedMemorySession
from lossd.v1 import service_pb2


class Connection(Channel):
    """A channel with the memory that is shared through it."""

    def __init__(self, target: Target, max_response_bytes: int, lifetime: protocol.Lifetime) -> None:
        super().__init__(target, max_response_bytes, lifetime)
        self.sharing = SharedMemorySession(target.round_robin)

    async def answer(self, rpc: str, body: bytes, retry: Retry) -> bytes:
        """As `attempt`, as often as it may be repeated."""
        while True:
            try:
                return await self.attempt(rpc, body, retry.remaining_s())
            except Error as error:
                wait_s = retry.wait_s(error)
            await sleep(wait_s)

    async def ask(self, retry: Retry) -> service_pb2.GetServerInfoResponse:
        """What the server says of itself now."""
        return service_pb2.GetServerInfoResponse.FromString(await self.answer("GetServerInfo", b"", retry))

    async def known(self, retry: Retry) -> service_pb2.GetServerInfoResponse:
        """What the server said of itself; it is asked once."""
        server = self.server
        if server is None:
            server = self.server = await self.ask(retry)
        return server

    def forget(self) -> None:
        """The server is not the one it was: what is known of it is asked again."""
        self.server = None
        self.sharing.lose()

    async def close(self) -> None:
        """Ends its calls and its shared memory. A second time does nothing."""
        await super().close()
        self.sharing.lose()

    def abandon(self) -> None:
        """Lets go of both at once, without waiting for any call."""
        super().abandon()
        self.sharing.lose()
