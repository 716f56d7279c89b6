"""Shared-memory session: a call whose tensors and gradients lie in regions, and whose message says where."""

from __future__ import annotations

from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from lossd import wire
from lossd.errors import Error, NotServed, Overloaded, TooLarge, Unavailable
from lossd.request import gradient_outputs, tensors
from lossd.request.build import Call
from lossd.request.tensors import Operand
from lossd.shared_memory import socket_protocol
from lossd.v1 import loss_pb2, service_pb2, tensor_pb2

if TYPE_CHECKING:
    from lossd.shared_memory.arena import Arena, Loan

# Tensors below this go in the message: a reference saves nothing.
LEAST_BYTES = 1 << 14
_PLACEMENTS = service_pb2.CrossEntropyRequest.PLACEMENTS_FIELD_NUMBER
# What means that a region is not there, or cannot be: the call may go another way.
_NO_ROOM = (Overloaded, TooLarge, Unavailable, NotServed, MemoryError)


class SharedMemorySession:
    """The regions of one connection, opened when they are first wanted. Thread-safe.

    balanced: the connection reaches several servers in turn, so memory of one is unknown to the next.
    """

    def __init__(self, balanced: bool) -> None:
        self._balanced = balanced
        self._lock = Lock()
        self._instance_id: str | None = None
        # With the server whose instance_id that is: one of the two is None.
        self._opened: tuple[Arena | None, str | None] = None, None
        # What the last server whose socket was not reached had said of itself.
        self._unreached: service_pb2.GetServerInfoResponse | None = None
        self._may_pass = False

    def open(self, server: service_pb2.GetServerInfoResponse) -> tuple[Arena | None, str | None]:
        """The regions shared with that server, or why there are none."""
        with self._lock:
            if self._instance_id != server.instance_id:
                self._opened = self._connect(server)
                self._instance_id = None if self._may_pass else server.instance_id
            return self._opened

    @property
    def may_pass(self) -> bool:
        """Whether there may be regions the next time: the server lacks room now, or has ended since it was asked.

        A socket that is not reached although its server says so again is out of reach.
        """
        return self._may_pass

    def _connect(self, server: service_pb2.GetServerInfoResponse) -> tuple[Arena | None, str | None]:
        self._may_pass = False
        if self._balanced:
            return None, "the address stands for several servers in turn"
        if not server.limits.max_shared_memory_bytes:
            return None, "the server offers no shared memory"
        if not server.shared_memory_socket:
            self._may_pass = True
            return None, "the server could not open its socket for it yet"
        from lossd.shared_memory.arena import Arena

        try:
            regions = Arena.connect(server.shared_memory_socket, server.instance_id)
        except Overloaded as error:
            self._may_pass = True
            return None, str(error)
        if regions is None:
            last, self._unreached = self._unreached, server
            # The same answer seen once more says nothing new: two calls may have shared it.
            said_again = last is not None and last is not server and last.instance_id == server.instance_id
            self._may_pass = not said_again
            return None, f"the server's socket {server.shared_memory_socket} is not reached from here"
        return regions, None

    @property
    def regions(self) -> Arena | None:
        """Those that are open."""
        return self._opened[0]

    def holds(self, call: Call) -> bool:
        """Whether an array of the call lies in a region here."""
        regions = self.regions
        return regions is not None and any(regions.find(one.values) is not None for one in call.operands.values())

    def lose(self, known: Arena | None = None) -> None:
        """After a server that knows the regions no more: the next `open` connects anew.

        known: those that it did not know; nothing is done where others have taken their place since.
        """
        with self._lock:
            if known is not None and self._opened[0] is not known:
                return
            (regions, _), self._opened, self._instance_id = self._opened, (None, None), None
        if regions is not None:
            regions.close()


class SharedCall:
    """A call whose large tensors lie in `regions`: those that do not are copied there. Raises as Regions.lend."""

    def __init__(self, call: Call, regions: Arena) -> None:
        self.original = call
        self.regions = regions
        self._loans: list[Loan] = []
        # Loans of gradients: their arrays, which the caller gets, hold them.
        self._given: list[Loan] = []
        try:
            self.call = self._placed(call, regions)
        except BaseException:
            self.discard()
            raise

    def _placed(self, call: Call, regions: Arena) -> Call:
        operands = {name: self._shared(operand, regions) for name, operand in call.operands.items()}
        out, said = dict(call.out), list[bytes]()
        for name in call.asked.gradients:
            dtype, shape = gradient_outputs.expected(name, call.operands)
            size = int(np.prod(shape, dtype=np.int64)) * tensors.item_bytes(dtype)
            if size < LEAST_BYTES:
                continue
            given = out.get(name)
            # What is computed in place, or failed, could not be sent again: that lands beside its tensor.
            at = None if given is None or given.in_place else regions.find(given.memory)
            if at is None:
                loan = regions.lend(size)
                (self._given if given is None else self._loans).append(loan)
                at = loan.token, loan.offset
                landed = loan.array((size,), np.uint8)
                if given is None:
                    operand = call.operands.get(name)
                    torch = operand is not None and operand.torch
                    given = gradient_outputs.GradientOutput(tensors.adopt(dtype, shape, landed, torch=torch), landed)
                out[name] = replace(given, landed=landed)
            else:
                assert given is not None
                out[name] = replace(given, landed=given.memory)
            said.append(wire.message_field(_PLACEMENTS, _placement(name, at, size)))
        return replace(call, operands=operands, out=out, placements=b"".join(said))

    def _shared(self, operand: Operand, regions: Arena) -> Operand:
        values = operand.values
        if values.nbytes < LEAST_BYTES:
            return operand
        at = regions.find(values) if values.dtype == operand.layout else None
        if at is None:
            loan = regions.lend(operand.nbytes)
            self._loans.append(loan)
            at = loan.token, loan.offset
            lent: np.ndarray[Any, Any] = loan.array(values.shape, operand.layout)
            np.copyto(lent, values)
            values = lent
        return operand._replace(values=values, at=at)

    def discard(self) -> None:
        """For a call whose end was not heard: the server may still write, so the memory is not lent again."""
        for loan in self._loans + self._given:
            loan.discard()
        self._loans, self._given = [], []

    def release(self, refused: bool = False) -> None:
        """For a call that ended: memory that holds no gradient is free again; refused: that of gradients too."""
        for loan in self._loans + (self._given if refused else []):
            loan.release()
        self._loans, self._given = [], []


def _placement(name: str, at: tuple[bytes, int], size: int) -> bytes:
    where = tensor_pb2.SharedMemory(token=at[0], offset=at[1], length=size)
    gradient = loss_pb2.Gradient.Value(f"GRADIENT_{name.upper()}")
    return loss_pb2.Placement(gradient=gradient, shared_memory=where).SerializeToString()


def is_lost(error: BaseException) -> bool:
    """Whether the server does not know a region: it is another process than the one it was registered with."""
    return isinstance(error, Error) and error.reason in (socket_protocol.UNKNOWN_REGION, "SHARED_MEMORY_LOST")


def may_go_otherwise(error: BaseException) -> bool:
    """Whether shared memory had no room, rather than the call something wrong."""
    return isinstance(error, _NO_ROOM)
