"""Request fields as they were sent: what every check reads, however their bytes came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from lossd.contract import MAX_RANK
from lossd.v1 import tensor_pb2 as pb
from lossd_server.errors import InvalidRequest

TENSOR = pb.Tensor.DESCRIPTOR
NOTHING: dict[tuple[str, ...], memoryview] = {}

# The fields that are set, by name: tensors as Sent, all else as the generated class gives it.
Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SharedMemoryRef:
    """Where a tensor lies in shared memory, as its sender says: `length` bytes from `offset` in the region `token`."""

    token: bytes
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class WireTensor:
    """A Tensor message as it was sent: of MAX_RANK dimensions at most, nothing else of it checked.

    `dtype` may be no `lossd.v1.DataType`, a dimension negative, `data` of any length. `storage` is "data",
    "streamed", "shared_memory" (its `place`), or "" where nothing is said. A stream that checks an evaluation before
    its first block makes "streamed" tensors "hollow": elements of their shape are to come.
    """

    dtype: int
    shape: tuple[int, ...]
    storage: str
    data: bytes | memoryview = b""
    place: SharedMemoryRef | None = None


def fields_of(
    message: Message, views: Mapping[tuple[str, ...], memoryview] = NOTHING, path: tuple[str, ...] = ()
) -> Fields:
    """The fields of `message` that are set; elements that were cut out of it (`lossd.wire.cut`) are in `views`.

    path: where in the message that `views` is of this one lies. Raises InvalidRequest for too many dimensions.
    """
    return {
        field.name: sent(field.name, value, views.get((*path, field.name))) if field.message_type is TENSOR else value
        for field, value in message.ListFields()
    }


def sent(name: str, tensor: pb.Tensor, view: memoryview | None = None) -> WireTensor:
    """The Tensor of field `name`; `view` holds its elements where they were cut out of it."""
    require_rank(name, len(tensor.shape))
    dtype, shape = tensor.dtype, tuple(tensor.shape)
    if view is not None:
        return WireTensor(dtype, shape, "data", view)
    storage = tensor.WhichOneof("storage")
    if storage == "data":
        return WireTensor(dtype, shape, storage, tensor.data)
    if storage == "shared_memory":
        there = tensor.shared_memory
        return WireTensor(dtype, shape, storage, place=SharedMemoryRef(there.token, there.offset, there.length))
    return WireTensor(dtype, shape, storage or "")


def require_rank(name: str, rank: int) -> None:
    """Raises InvalidRequest for too many dimensions: before a million of them become Python numbers."""
    if rank > MAX_RANK:
        raise InvalidRequest(
            f"{name} has {rank} dimensions, at most {MAX_RANK} are taken",
            reason="RANK_TOO_LARGE",
            field=name,
            metadata={"rank": rank, "bound": MAX_RANK},
        )
