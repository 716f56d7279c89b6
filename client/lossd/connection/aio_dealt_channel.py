"""Dealt channel: several channels as one. Its methods are those of a channel that the client uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from lossd.connection.aio_library import state_of, when_over
from lossd.connection.dealing import Dealer


def joined(channels: list[Any]) -> Any:
    return channels[0] if len(channels) == 1 else DealtChannel(channels)


class DealtChannel:
    def __init__(self, channels: list[Any]) -> None:
        self._channels = channels
        self._dealer = Dealer(len(channels), lambda one: state_of(channels[one]))

    def unary_unary(self, path: str) -> Callable[..., Any]:
        methods, dealer = [channel.unary_unary(path) for channel in self._channels], self._dealer

        async def answer(*arguments: Any, **options: Any) -> Any:
            chosen = dealer.begin()
            try:
                return await methods[chosen](*arguments, **options)
            finally:
                dealer.end(chosen)

        return answer

    def stream_stream(self, path: str) -> Callable[..., Any]:
        methods, dealer = [channel.stream_stream(path) for channel in self._channels], self._dealer

        def begin(*arguments: Any, **options: Any) -> Any:
            chosen = dealer.begin()
            try:
                call = methods[chosen](*arguments, **options)
            except BaseException:
                dealer.end(chosen)
                raise
            when_over(call, lambda: dealer.end(chosen))
            return call

        return begin

    def get_state(self) -> grpc.ChannelConnectivity:
        return self._dealer.state

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()
