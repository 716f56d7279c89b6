"""Following channel: to servers whose addresses change. Its methods are those of a channel that the client uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc

from lossd.connection.aio_dealt_channel import joined
from lossd.connection.aio_library import Closed, close_soon, library, state_of, when_over
from lossd.connection.followed import Followed
from lossd.rpc.server_directory import ServerDirectory
from lossd.rpc.target import Target


def open_channel(target: Target, max_response_bytes: int) -> Any:
    """To all that the target stands for; InvalidArgument where a file of its credentials cannot be read."""
    if not target.follows:
        return joined(target.open_channels(library, max_response_bytes))
    return FollowingChannel(target, max_response_bytes)


class FollowingChannel:
    def __init__(self, target: Target, max_response_bytes: int) -> None:
        def opened(servers: Sequence[str]) -> Any:
            return joined(target.of(servers).open_channels(library, max_response_bytes))

        target.credentials.channel_credentials()  # refused now, not with the first call
        directory = ServerDirectory(target.address, target.found.get(target.address))
        self._followed = Followed(directory.servers, opened, close_soon, Closed)

    def unary_unary(self, path: str) -> Callable[..., Any]:
        followed = self._followed

        async def answer(*arguments: Any, **options: Any) -> Any:
            generation = followed.begin()
            try:
                return await generation.method("unary_unary", path)(*arguments, **options)
            finally:
                followed.end(generation)

        return answer

    def stream_stream(self, path: str) -> Callable[..., Any]:
        followed = self._followed

        def begin(*arguments: Any, **options: Any) -> Any:
            generation = followed.begin()
            try:
                call = generation.method("stream_stream", path)(*arguments, **options)
            except BaseException:
                followed.end(generation)
                raise
            when_over(call, lambda: followed.end(generation))
            return call

        return begin

    def get_state(self) -> grpc.ChannelConnectivity:
        newest = self._followed.newest
        return grpc.ChannelConnectivity.IDLE if newest is None else state_of(newest)

    async def close(self) -> None:
        for channel in self._followed.close():
            await channel.close()
