"""A batch as the kernels see it: one descriptor of int64 words a job, and a list of (job, tile) work items.

The packer writes what the kernels read, so both take the numbers from here. Offsets are in bytes, from the start of
the staging buffer (operands) or of the results (what kernels write); −1 = absent. `_BITS` words hold a float64.
"""

from __future__ import annotations

import triton.language as tl

from lossd.v1 import tensor_pb2 as pb

WORDS = tl.constexpr(48)  # words of a descriptor

MODE = tl.constexpr(0)
ROWS = tl.constexpr(1)  # rows; elements in the elementwise family
CLASSES = tl.constexpr(2)
INNER = tl.constexpr(3)
INPUT = tl.constexpr(4)
INPUT_DTYPE = tl.constexpr(5)
TARGET = tl.constexpr(6)
TARGET_DTYPE = tl.constexpr(7)
LOSSES = tl.constexpr(8)
INPUT_GRADIENT = tl.constexpr(9)
INPUT_GRADIENT_DTYPE = tl.constexpr(10)
TARGET_GRADIENT = tl.constexpr(11)
TARGET_GRADIENT_DTYPE = tl.constexpr(12)
SCALE_BITS = tl.constexpr(13)
KEEP_BITS = tl.constexpr(14)  # 1 − ε
SMOOTH_BITS = tl.constexpr(15)  # ε / C
IGNORE_INDEX = tl.constexpr(16)
CLASS_WEIGHT = tl.constexpr(17)  # of the compute dtype
ROW_WEIGHT = tl.constexpr(18)  # float64
ROW_UPSTREAM = tl.constexpr(19)  # float64
RUN_SUMS = tl.constexpr(20)
CHUNK = tl.constexpr(21)  # elements of a chunk
RUNS = tl.constexpr(22)  # runs of a chunk
WEIGHT = tl.constexpr(23)  # views: VIEW_WORDS each
POS_WEIGHT = tl.constexpr(30)
UPSTREAM = tl.constexpr(37)

# A broadcast view of up to three dimensions (…, middle, last): element i lies at
# i//(middle·last)·s0 + i//last%middle·s1 + i%last·s2.
VIEW_OFFSET = tl.constexpr(0)
VIEW_DTYPE = tl.constexpr(1)
VIEW_MIDDLE = tl.constexpr(2)
VIEW_LAST = tl.constexpr(3)
VIEW_S0 = tl.constexpr(4)
VIEW_S1 = tl.constexpr(5)
VIEW_S2 = tl.constexpr(6)

# MODE
INDEX = tl.constexpr(0)
DISTRIBUTION = tl.constexpr(1)
ENTROPY = tl.constexpr(2)
PROBABILITIES = tl.constexpr(3)
COUNTS = tl.constexpr(4)
BCE = tl.constexpr(5)
BCE_WITH_LOGITS = tl.constexpr(6)

# Element types that kernels load and store; the packer converts any other to the compute dtype.
FLOAT16 = tl.constexpr(pb.DATA_TYPE_FLOAT16)
BFLOAT16 = tl.constexpr(pb.DATA_TYPE_BFLOAT16)
FLOAT32 = tl.constexpr(pb.DATA_TYPE_FLOAT32)
FLOAT64 = tl.constexpr(pb.DATA_TYPE_FLOAT64)

# What a work item's two fault words hold when it found none: larger than any index.
NO_FAULT = tl.constexpr(2**63 - 1)
