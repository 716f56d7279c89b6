"""Jobs of every loss, for every dtype that its input may have, with each kind of target and weight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lossd.v1 import loss_pb2 as loss
from lossd.v1 import service_pb2 as service
from lossd.v1 import tensor_pb2 as pb
from lossd_server.jobs.job import Job
from lossd_server.losses.operands import dtype_name
from lossd_server.tensors.array import FLOATS, INTEGERS, STORAGE
from tests.losses.checked import check
from tests.losses.requests import rpc

F16, F32, I32, I64, BOOL = (
    pb.DATA_TYPE_FLOAT16,
    pb.DATA_TYPE_FLOAT32,
    pb.DATA_TYPE_INT32,
    pb.DATA_TYPE_INT64,
    pb.DATA_TYPE_BOOL,
)
COUNTS, LOGITS = loss.KIND_COUNTS, loss.KIND_LOGITS
INPUT = [loss.GRADIENT_INPUT]
ONE: dict[int, Any] = {
    pb.DATA_TYPE_FLOAT8_E4M3FN: 0x38,
    pb.DATA_TYPE_FLOAT8_E5M2: 0x3C,
    F16: 0x3C00,
    pb.DATA_TYPE_BFLOAT16: 0x3F80,
}


def ones(dtype: int, *shape: int) -> pb.Tensor:
    """Good for logits, probabilities, counts and bools alike."""
    return pb.Tensor(dtype=dtype, shape=shape, data=np.full(shape, ONE.get(dtype, 1), STORAGE[dtype]).tobytes())  # type: ignore[arg-type]


def requests(rows: int, classes: int) -> Iterator[tuple[str, Any]]:
    """(name, request), each of `rows` items of `classes` entries."""
    shape = rows, classes
    for dtype in sorted(FLOATS):
        x, name = ones(dtype, *shape), dtype_name(dtype)
        graded: dict[str, Any] = {"input": x, "gradients": INPUT}
        labels = [ones(label, rows) for label in (I32, I64)]
        for target in labels:
            yield (
                f"cross_entropy {dtype_name(target.dtype)} {name}",
                service.CrossEntropyRequest(**graded, target=target),
            )
            yield f"nll {dtype_name(target.dtype)} {name}", service.NLLRequest(**graded, target=target)
        weights: dict[str, Any] = {"weight": ones(F16, classes), "row_weight": ones(F32, rows)}
        yield f"cross_entropy weighted {name}", service.CrossEntropyRequest(**graded, target=labels[1], **weights)
        yield f"cross_entropy distribution {name}", service.CrossEntropyRequest(**graded, target=x)
        counted = service.CrossEntropyRequest(**graded, target=ones(I32, *shape), target_kind=COUNTS)
        yield f"cross_entropy counts {name}", counted
        yield f"cross_entropy of counts {name}", service.CrossEntropyRequest(input=x, kind=COUNTS, target=labels[1])
        yield (
            f"cross_entropy of counts, distribution {name}",
            service.CrossEntropyRequest(input=x, kind=COUNTS, target=x),
        )
        for kind in (LOGITS, loss.KIND_PROBABILITIES, COUNTS):
            yield f"entropy {kind} {name}", service.EntropyRequest(**graded, kind=kind)
        for target in (ones(BOOL, *shape), x):
            yield f"bce {dtype_name(target.dtype)} {name}", service.BCERequest(**graded, target=target)
            weighted = service.BCEWithLogitsRequest(**graded, target=target, pos_weight=ones(F16, classes))
            yield f"bce_with_logits {dtype_name(target.dtype)} {name}", weighted
        yield f"kl_divergence {name}", service.KLDivergenceRequest(**graded, target=x)
        counted_kl = service.KLDivergenceRequest(**graded, kind=LOGITS, target=ones(I32, *shape), target_kind=COUNTS)
        yield f"kl_divergence counts {name}", counted_kl
        yield f"self_information {name}", service.SelfInformationRequest(**graded)
        for function in loss.ActivationFunction.values()[1:]:
            yield f"activation {function} {name}", service.ActivationRequest(input=x, function=function)
    for dtype in sorted(INTEGERS):
        x, name = ones(dtype, *shape), dtype_name(dtype)
        yield f"entropy counts {name}", service.EntropyRequest(input=x, kind=COUNTS)
        both = service.KLDivergenceRequest(input=x, kind=COUNTS, target=x, target_kind=COUNTS)
        yield f"kl_divergence counts {name}", both
        yield f"cross_entropy counts {name}", service.CrossEntropyRequest(input=x, kind=COUNTS, target=ones(I64, rows))


def jobs(rows: int, classes: int) -> Iterator[tuple[str, Job]]:
    """The same, checked."""
    for name, request in requests(rows, classes):
        yield name, check(rpc(request), request)
