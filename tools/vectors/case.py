"""Cases: a request with the oracle's answer, or with the error that it is refused with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from vectors.values import Array


@dataclass(frozen=True)
class Case:
    """One right request. method, tensors, options: as the oracle has them.

    each: entries are compared one by one to 1e-6, as semantics has it for confident rows and for offsets.
    """

    name: str
    method: str
    tensors: tuple[Array, ...]
    options: dict[str, Any] = field(default_factory=dict)
    each: bool = False


@dataclass(frozen=True)
class Refusal:
    """One wrong request. value: whether a value of a tensor is what is wrong: a stream refuses it in a block."""

    name: str
    rpc: str
    request: Message
    reason: str
    field: str
    code: str = "INVALID_ARGUMENT"
    value: bool = False
