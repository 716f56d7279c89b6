"""In-register transpose of squares of 64 bytes a side: 16 × 16 float32 or 8 × 8 float64."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from lossd_server.backends.numba.simd.memory import address
from lossd_server.backends.numba.simd.vector import ELEMENTS, I32

SIDE_BYTES = 64


@intrinsic
def transpose_square(typing: Any, at: Any, pitch: Any, to: Any, to_pitch: Any, like: Any) -> Any:
    """Row i at `at + i·pitch` becomes column i of the rows at `to + j·to_pitch`, pitches in bytes.

    In stage s, rows s apart exchange the halves whose index has bit s the wrong way: log₂ n stages of n shuffles.
    """

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        side = SIDE_BYTES // (like.bitwidth // 8)
        kind = ir.VectorType(ELEMENTS[like.name], side)
        source, source_pitch, target, target_pitch, _ = args
        rows = []
        for _ in range(side):
            rows.append(builder.load(address(builder, source, kind), align=1))
            source = builder.add(source, source_pitch)
        apart = side // 2
        while apart:
            low = [j if not j & apart else side + j - apart for j in range(side)]
            high = [j + apart if not j & apart else side + j for j in range(side)]
            masks = [ir.Constant(ir.VectorType(I32, side), mask) for mask in (low, high)]
            for i in range(side):
                if not i & apart:
                    a, b = rows[i], rows[i + apart]
                    rows[i], rows[i + apart] = (builder.shuffle_vector(a, b, mask) for mask in masks)
            apart //= 2
        for row in rows:
            builder.store(row, address(builder, target, kind), align=1)
            target = builder.add(target, target_pitch)
        return context.get_dummy_value()

    return types.void(at, pitch, to, to_pitch, like), build
