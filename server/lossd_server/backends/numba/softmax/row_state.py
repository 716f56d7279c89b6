"""Row state: what is kept of a row while it is read. A thread's scratch ends with the states of a tile's rows.

It is a record at an address and no row of an array: numba counts references to arrays, in atomic steps, which was a
third of the time of a row of ten probabilities.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.extending import intrinsic

from lossd_server.backends.numba.layout.row_tiles import TILE
from lossd_server.backends.numba.layout.scratch import STATES
from lossd_server.backends.numba.simd.memory import zero_bytes
from lossd_server.jobs.jit import device_function

ROW_STATE = np.dtype(
    [
        ("target", np.int64),  # the target's class
        ("first", np.int64),  # index of the first greatest logit
        ("kept", np.int64),  # 0 where the row is ignored
        ("maximum", np.float64),  # the greatest logit so far
        ("ref", np.float64),  # what exponents are relative to: the same, 0 while that is −∞
        ("unit", np.float64),  # what the exponentials as they are kept have for 1: see `ExpScale`
        ("below", np.float64),  # Σ exp(x − ref) over x < ref
        ("ties", np.float64),  # number of x = ref
        ("gaps", np.float64),  # Σ (ref − x)·exp(x − ref)
        ("mass", np.float64),  # Σ v, or Σ of counts
        ("rest_mass", np.float64),  # Σ v, the first maximum left out; NaN: mass less its own is exact enough
        ("weighted", np.float64),  # Σ v·(ref − x)
        ("picked", np.float64),  # the target's logit
        ("share", np.float64),  # (1 − ε)·w[y]
        ("rest", np.float64),  # Σ exp(x − max), the first maximum left out
        ("log_rest", np.float64),  # ln(1 + rest)
        ("z_mass", np.float64),  # 2κ·lse, the share of z_loss in what p is multiplied by
        ("factor", np.float64),  # what the row's gradient is multiplied by: scale · row weight · upstream
        ("own", np.float64),  # the upstream gradient, or s·t, of the first maximum
        ("others", np.float64),  # Σ of it over all other classes
        ("loss", np.float64),  # Σ of losses between distributions
        ("upstream_mass", np.float64),  # Σ s·t of those
        ("upstream_loss", np.float64),  # Σ s·loss of those
    ]
)
ROW_STATE_BYTES = ROW_STATE.itemsize
ROW_STATE_RECORD = numba.from_dtype(ROW_STATE)

SCRATCH_BYTES = STATES + 2 * TILE * ROW_STATE_BYTES  # of a tile's rows, and of its targets' rows


@intrinsic
def state_at(typing: Any, at: Any) -> Any:
    """The state that lies at an address."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(ROW_STATE_RECORD))

    return ROW_STATE_RECORD(at), build


@device_function
def row_state(scratch: int, r: int) -> Any:
    """The state of the tile's row r; from r = TILE on, of its targets."""
    return state_at(scratch + STATES + r * ROW_STATE_BYTES)


@device_function
def empty_state(scratch: int, r: int) -> Any:
    """The same, with nothing read yet."""
    at = scratch + STATES + r * ROW_STATE_BYTES
    zero_bytes(at, ROW_STATE_BYTES)
    state = state_at(at)
    state.kept = 1
    state.maximum = -np.inf
    return state
