"""Warm-up: one small job for each kernel variant that most requests need.

Rows in registers have a variant for each combination of formula, options and dtypes: those of cross-entropy with class
indices are compiled before the first request, the others by the first that needs them (seconds, once: Triton keeps
what it compiled on disk).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends.triton.variant_choice import GENERAL_TILES, MOST_CLASSES, REGISTER_TILES
from lossd_server.jobs.job import Formula, Job, Launch, Layout
from lossd_server.tensors.array import STORAGE, Array

NAMES: dict[int, str] = {
    pb.DATA_TYPE_FLOAT32: "float32",
    pb.DATA_TYPE_BFLOAT16: "bfloat16",
    pb.DATA_TYPE_FLOAT16: "float16",
    pb.DATA_TYPE_FLOAT64: "float64",
}
KERNELS = {Formula.CROSS_ENTROPY_DISTRIBUTION: "softmax_general", Formula.KL_ROWS: "distributions"}


def warmup_launches() -> Iterator[tuple[str, Launch]]:
    """Title and launch of each."""
    for dtype in (pb.DATA_TYPE_FLOAT32, pb.DATA_TYPE_BFLOAT16, pb.DATA_TYPE_FLOAT16):
        for classes in [*(shape.most_classes for shape in REGISTER_TILES), MOST_CLASSES + 8]:
            yield _job_launch(Formula.CROSS_ENTROPY_INDEX, classes, dtype)
    for dtype in (pb.DATA_TYPE_FLOAT32, pb.DATA_TYPE_FLOAT64):
        for formula, kernel in KERNELS.items():
            # One number of classes for each shape; 4 more than the last bound but one for the open-ended shape.
            for classes in [4, *(shape.most_classes + 4 for shape in GENERAL_TILES[kernel][:-1])]:
                yield _job_launch(formula, classes, dtype, inner=2, weight_gradient=formula is not Formula.KL_ROWS)
        yield _job_launch(Formula.BCE_WITH_LOGITS, 4, dtype)


def _job_launch(formula: Formula, classes: int, dtype: int, inner: int = 1, **options: Any) -> tuple[str, Launch]:
    ones = Array(np.ones(classes * inner, STORAGE[dtype]), dtype, (1, classes, inner))
    index = formula is Formula.CROSS_ENTROPY_INDEX
    job = Job(
        rpc="",
        formula=formula,
        layout=Layout(1, classes, inner),
        compute=np.dtype(np.float64 if dtype == pb.DATA_TYPE_FLOAT64 else np.float32),
        input=ones,
        target=Array(np.zeros(inner, np.int64), pb.DATA_TYPE_INT64, (1, inner)) if index else ones,
        input_gradient=True,
        **options,
    )
    return f"{formula.name.lower()}, {classes} classes, {NAMES[dtype]}", Launch(job, 1.0)
