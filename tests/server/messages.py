"""Requests that are right, of a size that a test chooses."""

from __future__ import annotations

from lossd.v1 import service_pb2 as service
from lossd.v1 import tensor_pb2 as tensor
from lossd_server.jobs.job import Job
from tests.losses.checked import check


def cross_entropy(rows: int = 4, classes: int = 8, ignore_index: int | None = None) -> service.CrossEntropyRequest:
    """Logits and targets of zeros."""
    return service.CrossEntropyRequest(
        input=tensor.Tensor(dtype=tensor.DATA_TYPE_FLOAT32, shape=[rows, classes], data=bytes(4 * rows * classes)),
        target=tensor.Tensor(dtype=tensor.DATA_TYPE_INT64, shape=[rows], data=bytes(8 * rows)),
        ignore_index=ignore_index,
    )


def bce(elements: int = 16) -> service.BCERequest:
    """Probabilities and targets of zeros."""
    zeros = tensor.Tensor(dtype=tensor.DATA_TYPE_FLOAT32, shape=[elements], data=bytes(4 * elements))
    return service.BCERequest(input=zeros, target=zeros)


def job(rows: int = 4, classes: int = 8, ignore_index: int | None = None) -> Job:
    return check("CrossEntropy", cross_entropy(rows, classes, ignore_index))
