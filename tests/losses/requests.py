"""Good requests of every loss, of 8 rows of 16 classes; `fields` take the place of their own."""

from __future__ import annotations

from typing import Any

from lossd.v1 import service_pb2 as service
from lossd.v1 import tensor_pb2 as pb
from tests.losses.messages import zeros

F32, F64, I64, I32, BOOL = (
    pb.DATA_TYPE_FLOAT32,
    pb.DATA_TYPE_FLOAT64,
    pb.DATA_TYPE_INT64,
    pb.DATA_TYPE_INT32,
    pb.DATA_TYPE_BOOL,
)


def rpc(request: Any) -> str:
    """The RPC that takes the request."""
    return str(request.DESCRIPTOR.name.removesuffix("Request"))


def cross_entropy(**fields: Any) -> Any:
    return service.CrossEntropyRequest(**{"input": zeros(8, 16), "target": zeros(8, dtype=I64), **fields})


def distribution(**fields: Any) -> Any:
    """Cross-entropy with one."""
    return cross_entropy(**{"target": zeros(8, 16), **fields})


def entropy(**fields: Any) -> Any:
    return service.EntropyRequest(**{"input": zeros(8, 16), **fields})


def bce(**fields: Any) -> Any:
    return service.BCERequest(**{"input": zeros(8, 16), "target": zeros(8, 16), **fields})


def bce_with_logits(**fields: Any) -> Any:
    return service.BCEWithLogitsRequest(**{"input": zeros(8, 16), "target": zeros(8, 16), **fields})


def kl_divergence(**fields: Any) -> Any:
    return service.KLDivergenceRequest(**{"input": zeros(8, 16), "target": zeros(8, 16), **fields})


def nll(**fields: Any) -> Any:
    return service.NLLRequest(**{"input": zeros(8, 16), "target": zeros(8, dtype=I64), **fields})


def self_information(**fields: Any) -> Any:
    return service.SelfInformationRequest(**{"input": zeros(8, 16), **fields})


def activation(**fields: Any) -> Any:
    return service.ActivationRequest(**{"input": zeros(8, 16), **fields})
