"""The layout of a job's descriptor and of a work item: what the host writes and the kernels read, in int64 words.

A work item is ITEM words: job; tile (of rows, elements, classes, or row · blocks + block); then, for the kernels whose
tile is in registers, the byte offset of its first entry and (rows or entries there) << 32 | classes, so that they ask
for it before they have read the descriptor.

Offsets are in bytes, from the start of the staging buffer (operands) or of the results (what kernels write);
−1 = absent. `_BITS` words hold a float64.
"""

from __future__ import annotations

import triton.language as tl

from lossd.v1 import tensor_pb2 as pb
from lossd_server.jobs.job import Formula, Kind

WORDS = tl.constexpr(64)  # words of a descriptor
ITEM = tl.constexpr(4)  # words of a work item
SUMS_PER_BLOCK = tl.constexpr(8)  # numbers that a block of a long row leaves

FORMULA = tl.constexpr(0)
ROWS = tl.constexpr(1)  # rows; elements in the elementwise family
CLASSES = tl.constexpr(2)
INNER = tl.constexpr(3)
INPUT = tl.constexpr(4)
INPUT_DTYPE = tl.constexpr(5)
INPUT_KIND = tl.constexpr(6)
TARGET = tl.constexpr(7)
TARGET_DTYPE = tl.constexpr(8)
TARGET_KIND = tl.constexpr(9)
LOSSES = tl.constexpr(10)  # float64 a row; nothing for activations
VALUES = tl.constexpr(11)  # one an element
VALUES_DTYPE = tl.constexpr(12)
INPUT_GRADIENT = tl.constexpr(13)
INPUT_GRADIENT_DTYPE = tl.constexpr(14)
TARGET_GRADIENT = tl.constexpr(15)
TARGET_GRADIENT_DTYPE = tl.constexpr(16)
WEIGHT_GRADIENT = tl.constexpr(17)  # float64 a class
STATES = tl.constexpr(18)  # m and ln d of each row, float64, for the weight's gradient
SCALE_BITS = tl.constexpr(19)
KEEP_BITS = tl.constexpr(20)  # 1 − ε
SMOOTH_BITS = tl.constexpr(21)  # ε / C
Z_LOSS_BITS = tl.constexpr(22)
SOFTCAP_BITS = tl.constexpr(23)
IGNORE_INDEX = tl.constexpr(24)
CLASS_WEIGHT = tl.constexpr(25)  # of the kernel's compute dtype
ROW_WEIGHT = tl.constexpr(26)  # float64
ROW_UPSTREAM = tl.constexpr(27)  # float64
RUN_SUMS = tl.constexpr(28)
CHUNK = tl.constexpr(29)  # elements of a chunk
RUNS = tl.constexpr(30)  # runs of a chunk
LSE = tl.constexpr(31)  # float64
ENTROPY = tl.constexpr(32)  # float64
ARGMAX = tl.constexpr(33)  # int64
CORRECT = tl.constexpr(34)  # uint8
WEIGHT = tl.constexpr(35)  # views: 7 words each
POS_WEIGHT = tl.constexpr(42)
UPSTREAM = tl.constexpr(49)
BLOCK_SUMS = tl.constexpr(56)  # SUMS_PER_BLOCK float32 for each block of a long row
ROW_BLOCKS = tl.constexpr(57)  # blocks of a row
PITCH = tl.constexpr(58)  # entries from one item of dimension 0 to the next, in the input and whatever lies like it
WEIGHT_START = tl.constexpr(59)  # float64 a class: what the class weights' gradient begins with

# A broadcast view of up to three dimensions (…, middle, last): element i lies at
# i//(middle·last)·s0 + i//last%middle·s1 + i%last·s2.
VIEW_OFFSET = tl.constexpr(0)
VIEW_DTYPE = tl.constexpr(1)
VIEW_MIDDLE = tl.constexpr(2)
VIEW_LAST = tl.constexpr(3)
VIEW_S0 = tl.constexpr(4)
VIEW_S1 = tl.constexpr(5)
VIEW_S2 = tl.constexpr(6)

# FORMULA
CROSS_ENTROPY_INDEX = tl.constexpr(Formula.CROSS_ENTROPY_INDEX.value)
CROSS_ENTROPY_DISTRIBUTION = tl.constexpr(Formula.CROSS_ENTROPY_DISTRIBUTION.value)
CROSS_ENTROPY_KINDS_INDEX = tl.constexpr(Formula.CROSS_ENTROPY_KINDS_INDEX.value)
CROSS_ENTROPY_KINDS_DISTRIBUTION = tl.constexpr(Formula.CROSS_ENTROPY_KINDS_DISTRIBUTION.value)
ENTROPY_LOGITS = tl.constexpr(Formula.ENTROPY_LOGITS.value)
ENTROPY_PROBABILITIES = tl.constexpr(Formula.ENTROPY_PROBABILITIES.value)
ENTROPY_COUNTS = tl.constexpr(Formula.ENTROPY_COUNTS.value)
NLL = tl.constexpr(Formula.NLL.value)
KL_ROWS = tl.constexpr(Formula.KL_ROWS.value)
SOFTMAX = tl.constexpr(Formula.SOFTMAX.value)
LOG_SOFTMAX = tl.constexpr(Formula.LOG_SOFTMAX.value)
BCE = tl.constexpr(Formula.BCE.value)
BCE_WITH_LOGITS = tl.constexpr(Formula.BCE_WITH_LOGITS.value)
KL = tl.constexpr(Formula.KL.value)
SELF_INFORMATION = tl.constexpr(Formula.SELF_INFORMATION.value)
SIGMOID = tl.constexpr(Formula.SIGMOID.value)
LOG_SIGMOID = tl.constexpr(Formula.LOG_SIGMOID.value)

# INPUT_KIND, TARGET_KIND
LOGITS = tl.constexpr(Kind.LOGITS.value)
LOG_PROBABILITIES = tl.constexpr(Kind.LOG_PROBABILITIES.value)
PROBABILITIES = tl.constexpr(Kind.PROBABILITIES.value)
COUNTS = tl.constexpr(Kind.COUNTS.value)

# Element types that kernels load and store; the packer converts any other to the compute dtype.
FLOAT8_E4M3FN = tl.constexpr(pb.DATA_TYPE_FLOAT8_E4M3FN)
FLOAT8_E5M2 = tl.constexpr(pb.DATA_TYPE_FLOAT8_E5M2)
FLOAT16 = tl.constexpr(pb.DATA_TYPE_FLOAT16)
BFLOAT16 = tl.constexpr(pb.DATA_TYPE_BFLOAT16)
FLOAT32 = tl.constexpr(pb.DATA_TYPE_FLOAT32)
FLOAT64 = tl.constexpr(pb.DATA_TYPE_FLOAT64)

# A work item's fault words, each the first offending index of one kind of fault. Rows: a class out of range, a
# negative count, an empty row; elements: an input, a target that is no probability.
FAULTS = tl.constexpr(3)
NO_FAULT = tl.constexpr(2**63 - 1)  # larger than any index
