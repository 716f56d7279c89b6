"""Sizes, offsets and indices have 64 bits wherever a kernel reads one; where they have fewer, a bound is before it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from lossd.v1 import tensor_pb2 as pb
from lossd_server.backends.numba.batch_table import OUTPUTS, PIECE, RECORD
from lossd_server.backends.triton import batch, work_list
from lossd_server.backends.triton.batch import DeviceBatch
from lossd_server.backends.triton.kernel_variants import SOFTMAX_TILES
from lossd_server.backends.triton.variant_choice import MOST_CLASSES_INT32, VariantKey, _variant_of, choose_variant
from lossd_server.backends.triton.work_list import TileRange
from lossd_server.jobs.job import Formula, Launch
from tests.server.messages import job

BACKENDS = Path(batch.__file__).parents[1]
INT32 = re.compile(r"\b(?:tl|np)\.u?int(?:8|16|32)\b")
# Narrow integers in kernels and in what describes a batch to them: how often in which file, and what they are.
NARROW = {
    "triton/kernels/softmax_epilogue.py": (2, "classes of a row below MOST_CLASSES_INT32; a truth value"),
    "triton/kernels/softmax_split_rows.py": (2, "classes of a row below MOST_CLASSES_INT32"),
    "triton/kernels/softmax_in_registers.py": (1, "classes of a row in registers"),
    "triton/kernels/work_item.py": (4, "classes and rows of one tile; bytes"),
    "triton/kernels/register_tile.py": (1, "classes of a row below MOST_CLASSES_INT32"),
    "triton/kernels/row_access.py": (1, "a truth value that is stored"),
    "triton/kernels/arithmetic.py": (2, "the bits of a float"),
    "triton/kernels/typed_memory.py": (9, "the bits of a float"),
}


def test_the_tables_of_kernels_have_int64() -> None:
    """Every number of a record and of a piece but the floats; and the indices that come back."""
    kinds = {str(RECORD[name].base) for name in RECORD.names or ()} | {str(PIECE[name]) for name in PIECE.names or ()}

    assert kinds == {"int64", "float64"}
    assert OUTPUTS["argmax"] is np.int64
    assert DeviceBatch([Launch(job(), 1.0)])._table.dtype == np.int64


def test_narrow_integers_of_kernels_are_known() -> None:
    """Each has a bound, or is no size at all."""
    found = {}
    for path in sorted(BACKENDS.rglob("*.py")):
        name = path.relative_to(BACKENDS).as_posix()
        code = re.sub(r'"""[\s\S]*?"""|#.*', "", path.read_text(encoding="utf-8"))
        count = len(INT32.findall(code))
        if count and name.startswith("triton/kernels/"):
            found[name] = count

    assert found == {name: count for name, (count, _) in NARROW.items()}


@pytest.mark.parametrize("dtype", [pb.DATA_TYPE_BFLOAT16, pb.DATA_TYPE_FLOAT32])
@pytest.mark.parametrize("formula", [Formula.CROSS_ENTROPY_INDEX, Formula.ENTROPY_LOGITS, Formula.SOFTMAX])
def test_rows_whose_classes_need_more_than_int32(formula: Formula, dtype: int) -> None:
    """They are computed by kernels of int64, and so are rows whose padding, or last block, would reach beyond it."""

    def kernel(classes: int) -> str:
        return _variant_of(
            VariantKey(formula, classes, "float32", dtype, dtype, False, False, True, formula is not Formula.SOFTMAX)
        ).kernel

    variant = _variant_of(VariantKey(formula, MOST_CLASSES_INT32, "float32", dtype, dtype, False, False, True, False))
    last_block = -(-MOST_CLASSES_INT32 // variant.block) * variant.block
    assert kernel(MOST_CLASSES_INT32) in SOFTMAX_TILES
    assert last_block + variant.vector < 2**31
    assert {kernel(classes) for classes in (MOST_CLASSES_INT32 + 1, 2**31 - 1, 2**31, 2**40)} == {"softmax_general"}


def test_a_batch_of_more_work_items_than_int32_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused as one that does not fit memory, before anything is allocated for it."""
    many = TileRange(0, 0, batch.MOST_ITEMS + 1)
    variant = work_list.plan_launches([job()], [choose_variant(job())])[0][0]
    monkeypatch.setattr(batch, "plan_launches", lambda jobs, variants: [(variant, [many])])

    with pytest.raises(MemoryError, match="more than a launch can have"):
        DeviceBatch([Launch(job(), 1.0)])
    assert batch.MOST_ITEMS * batch.ITEM < 2**31
