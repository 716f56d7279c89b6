"""A whole server, and a client of generated classes that shares memory with it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from lossd.shared_memory.arena import Arena
from lossd.v1 import loss_pb2 as loss
from lossd.v1 import service_pb2 as service
from lossd.v1 import tensor_pb2 as pb
from lossd.v1.service_pb2_grpc import LossServiceStub
from lossd_server.backends import Backend
from lossd_server.config.settings import Settings
from lossd_server.embedded import EmbeddedServer
from tests.losses.messages import WIRE
from tests.waiting import until

Array = npt.NDArray[Any]


class Host:
    """A server, its generated stub, and regions shared with it."""

    def __init__(self, server: EmbeddedServer, channel: grpc.Channel) -> None:
        self.stub: Any = LossServiceStub(channel)
        self.address = server.address
        self.info = self.stub.GetServerInfo(service.GetServerInfoRequest())
        regions = Arena.connect(self.info.shared_memory_socket, self.info.instance_id)
        assert regions is not None
        self.regions = regions
        self._kept: list[Array] = []

    def share(self, values: npt.ArrayLike, dtype: str = "float32") -> tuple[Array, Any]:
        """An array in a region, and the Tensor that names it."""
        given = np.asarray(values, dtype)
        array = self.regions.empty(given.shape, dtype)
        array[...] = given
        self._kept.append(array)  # for as long as the message may be sent
        return array, self.tensor(array)

    def place(self, array: Array) -> Any:
        found = self.regions.find(array)
        assert found is not None
        return pb.SharedMemory(token=found[0], offset=found[1], length=array.nbytes)

    def tensor(self, array: Array) -> Any:
        return pb.Tensor(dtype=WIRE[array.dtype.name], shape=array.shape, shared_memory=self.place(array))

    def placement(self, array: Array, gradient: int = loss.GRADIENT_INPUT) -> Any:
        return loss.Placement(gradient=gradient, shared_memory=self.place(array))  # type: ignore[arg-type]

    def inflight(self) -> tuple[int, int]:
        found = self.stub.GetServerInfo(service.GetServerInfoRequest()).statistics
        return found.inflight_bytes, found.inflight_requests

    def given_back(self) -> None:
        """Waits until the server holds nothing."""
        self.until(lambda: self.inflight() == (0, 0), "the server holds nothing")

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Asks the server things until something holds that it does in a later turn."""

        def after_a_turn() -> bool:
            gc.collect()
            self.inflight()
            return holds()

        until(after_a_turn, what)


@contextmanager
def hosted(backend: Backend, **settings: Any) -> Iterator[Host]:
    with EmbeddedServer(Settings(**settings), backend) as server, grpc.insecure_channel(server.address) as channel:
        host = Host(server, channel)
        try:
            yield host
        finally:
            host.regions.close()


def code(call: Callable[[Any], Any], request: Any) -> grpc.StatusCode:
    """The status that the call ends with."""
    try:
        call(request)
    except grpc.RpcError as error:
        status: Any = error
        found: grpc.StatusCode = status.code()
        return found
    return grpc.StatusCode.OK
