"""Scratch: how a thread's working memory is laid out for row tiles, as offsets in bytes.

What a job does not need is never touched. Lane tiles and runs of elements have layouts of their own.
"""

from __future__ import annotations

from lossd_server.backends.numba.layout.blocks import PITCH, STAGE
from lossd_server.backends.numba.layout.row_tiles import TILE
from lossd_server.backends.numba.simd.vector import BYTES

# Tiles: TILE rows, PITCH apart.
INPUT = 0  # then its gradient
MIXED = TILE * PITCH  # the target, or the target mix v
TARGET_OUT = 2 * TILE * PITCH  # the target's gradient
SLOPES = 3 * TILE * PITCH  # of a softcap; other gradients
UPSTREAM = 4 * TILE * PITCH  # upstream gradients
SINGLE = 5 * TILE * PITCH  # losses of single entries
# Rows.
WEIGHTS = 6 * TILE * PITCH  # class weights
EXPONENTIALS = WEIGHTS + PITCH
OUT_TAIL = EXPONENTIALS + PITCH  # a vector: the tail of a gradient that is written where it is wanted
STAGED = OUT_TAIL + BYTES  # a stage, for tails in their own dtype
STATES = STAGED + STAGE  # see `row_state`
