"""One small job for each kernel variant, for the warm-up."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lossd.v1 import tensor_pb2 as pb
from lossd_server.array import Array
from lossd_server.backends.triton.configuration import SHAPES
from lossd_server.job import Formula, Job, Launch, Layout

# A formula stands for its kernel, since a kernel holds all of its family's.
RPCS = {
    Formula.CROSS_ENTROPY_DISTRIBUTION: "CrossEntropy",
    Formula.KL_ROWS: "KLDivergence",
    Formula.BCE_WITH_LOGITS: "BCEWithLogits",
}
KERNELS = {Formula.CROSS_ENTROPY_DISTRIBUTION: "softmax", Formula.KL_ROWS: "kinds"}


def rehearsals() -> Iterator[tuple[str, Launch]]:
    """Title and launch of each."""
    for dtype, compute in ((pb.DATA_TYPE_FLOAT32, np.float32), (pb.DATA_TYPE_FLOAT64, np.float64)):
        for formula in RPCS:
            # One number of classes for each shape; 4 more than the last bound but one for the open-ended shape.
            shapes = SHAPES[KERNELS[formula]] if formula in KERNELS else ()
            for classes in [4, *(largest + 4 for largest, *_ in shapes[:-1])]:
                ones = Array(np.ones(classes, compute), dtype, (1, classes))
                job = Job(
                    rpc=RPCS[formula],
                    formula=formula,
                    layout=Layout(1, classes, 1),
                    compute=np.dtype(compute),
                    input=ones,
                    target=ones,
                    input_gradient=True,
                    weight_gradient=formula is Formula.CROSS_ENTROPY_DISTRIBUTION,
                )
                title = f"{formula.name.lower()}, {classes} classes, {np.dtype(compute).name}"
                yield title, Launch(job, 1.0)
