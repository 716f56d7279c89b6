"""Rules that client and server share beside the messages themselves: each once, for both sides. Pure.

dtypes are `lossd.v1.DataType` values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, TypeVar, cast

from lossd.v1 import tensor_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.descriptor import EnumDescriptor

DataTypeT = TypeVar("DataTypeT", bound=int)

# Class indices that are left out of a loss, where a request does not say which (PyTorch's default).
IGNORE_INDEX = -100
# Dimensions of a tensor.
MAX_RANK = 8
# The kernel maps the pages of 64 KiB around one that is read, writable too: 12 times as fast as one by one.
FAULT_AROUND = 1 << 16

# Kernels read them where they lie.
FLOATS = frozenset(
    {
        pb.DATA_TYPE_FLOAT8_E4M3FN,
        pb.DATA_TYPE_FLOAT8_E5M2,
        pb.DATA_TYPE_FLOAT16,
        pb.DATA_TYPE_BFLOAT16,
        pb.DATA_TYPE_FLOAT32,
        pb.DATA_TYPE_FLOAT64,
    }
)
# What the numbers of a tensor may mean, by request and option, in the users' words.
_OF_INPUT = ("logits", "log_probabilities", "probabilities", "counts")
KINDS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("EntropyRequest", "kind"): ("logits", "probabilities", "counts"),
    ("CrossEntropyRequest", "kind"): _OF_INPUT,
    ("CrossEntropyRequest", "target_kind"): ("indices", "probabilities", "counts"),
    ("KLDivergenceRequest", "kind"): _OF_INPUT,
    ("KLDivergenceRequest", "target_kind"): _OF_INPUT,
}
_ELEMENTWISE_WEIGHTS = frozenset({"weight", "pos_weight"})


@cache
def value_names(enum: EnumDescriptor) -> dict[int, str]:
    """{2: "log_probabilities", …} for Kind: what people call an enum's values, without the prefix that the wire has.

    The value 0, which says nothing, is left out.
    """
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    return {value.number: value.name.removeprefix(prefix).lower() for value in enum.values if value.number}


def gradient_dtype(dtype: DataTypeT) -> DataTypeT:
    """A gradient has its tensor's dtype, but float32 where that has 8 bits, or is no float and has no gradient."""
    return dtype if dtype >= pb.DATA_TYPE_FLOAT16 else cast("DataTypeT", pb.DATA_TYPE_FLOAT32)


def class_axis(rank: int, dim: int | None = None) -> int:
    """The dimension along which a row lies, of an input of `rank` ≥ 1: 1, or 0 for a 1-D input; or `dim`."""
    if dim is None:
        return 1 if rank > 1 else 0
    return dim % rank


def copied_bytes(tensors: Iterable[tuple[str, int, int]], target_counts: bool) -> int:
    """Bytes that tensors in shared memory cost the server: those it copies before it trusts them, or widens later.

    tensors: (field, dtype, bytes in shared memory, 0 where it lies elsewhere) of every tensor of the request.
    """
    tensors = list(tensors)
    double = any(dtype == pb.DATA_TYPE_FLOAT64 for _, dtype, _ in tensors)
    return sum(size for name, dtype, size in tensors if not _used_in_place(name, dtype, double, target_counts))


def _used_in_place(name: str, dtype: int, double: bool, target_counts: bool) -> bool:
    """Whether kernels read the tensor where it lies. double: whether they compute in float64."""
    if name == "input" or (name == "target" and not target_counts):
        return dtype in FLOATS
    # Weights are widened, unless they are of the dtype computed in.
    return dtype == pb.DATA_TYPE_FLOAT64 or (
        dtype == pb.DATA_TYPE_FLOAT32 and name in _ELEMENTWISE_WEIGHTS and not double
    )
