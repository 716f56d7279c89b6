"""Tables of eight numbers, in a register: looked up for a whole vector by one instruction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from lossd_server.backends.numba.simd.operations import halves
from lossd_server.backends.numba.simd.vector import I32
from lossd_server.jobs.jit import target_has


def entry_of_eight(builder: Any, index: Any, entries: list[int]) -> Any:
    """Entry `index` mod 8 of a table of integers of the index's width, for a vector of indices."""
    look_up = by_permutation if target_has("avx2") else by_selection
    return look_up(builder, index, entries)


def by_permutation(builder: Any, index: Any, entries: list[int]) -> Any:
    """By an instruction that permutes lanes: 8 entries of 32 bits fit half a register of AVX-512 and one of AVX2, 8 of
    64 bits one of AVX-512.
    """
    wide = target_has("avx512f")
    single = index.type.element == I32
    lanes = (16 if single else 8) if wide else 8
    if single or wide:
        names = {
            (True, True): "avx512.permvar.sf.512",
            (True, False): "avx2.permps",
            (False, True): "avx512.permvar.df.512",
        }
        scalar = ir.FloatType() if single else ir.DoubleType()
        kind, whole = ir.VectorType(scalar, lanes), ir.VectorType(index.type.element, lanes)
        table = builder.bitcast(ir.Constant(whole, (entries * 2)[:lanes]), kind)
        function = ir.FunctionType(kind, [kind, whole])
        permute = cgutils.get_or_insert_function(builder.module, function, "llvm.x86." + names[single, wide])
        return part_by_part(
            builder, index, lanes, lambda part: builder.bitcast(builder.call(permute, [table, part]), whole)
        )
    # AVX2 permutes words of 32 bits only: the low and the high ones apart, then joined.
    words = ir.VectorType(I32, 8)
    function = ir.FunctionType(words, [words, words])
    permute = cgutils.get_or_insert_function(builder.module, function, "llvm.x86.avx2.permd")
    low, high = (ir.Constant(words, [entry >> at & 0xFFFFFFFF for entry in entries]) for at in (0, 32))

    def look_up(part: Any) -> Any:
        at = builder.bitcast(part, words)
        found = [builder.bitcast(builder.call(permute, [table, at]), part.type) for table in (low, high)]
        mask = ir.Constant(part.type, [0xFFFFFFFF] * 4)
        return builder.or_(builder.and_(found[0], mask), builder.shl(found[1], ir.Constant(part.type, [32] * 4)))

    return part_by_part(builder, index, 4, look_up)


def by_selection(builder: Any, index: Any, entries: list[int]) -> Any:
    """The same by seven choices, for other processors."""
    kind = index.type
    low = builder.and_(index, ir.Constant(kind, [7] * kind.count))
    value = ir.Constant(kind, [entries[0]] * kind.count)
    for j, entry in enumerate(entries[1:], 1):
        here = builder.icmp_unsigned("==", low, ir.Constant(kind, [j] * kind.count))
        value = builder.select(here, ir.Constant(kind, [entry] * kind.count), value)
    return value


def part_by_part(builder: Any, value: Any, lanes: int, apply: Callable[[Any], Any]) -> Any:
    """apply(part) of every `lanes` lanes, joined again."""
    if value.type.count == lanes:
        return apply(value)
    low, high = (part_by_part(builder, half, lanes, apply) for half in halves(builder, value))
    both = ir.Constant(ir.VectorType(I32, 2 * low.type.count), list(range(2 * low.type.count)))
    return builder.shuffle_vector(low, high, both)
