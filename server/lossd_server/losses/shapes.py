"""Shapes, by PyTorch's rules: rows and their class dimension, elements, class indices, broadcasting."""

from __future__ import annotations

from math import prod

from lossd.contract import class_axis
from lossd_server.errors import InvalidRequest
from lossd_server.jobs.job import Layout
from lossd_server.tensors.array import Array, View

# Rows of an input without a single class: nothing was sent that would pay for their losses.
MAX_ROWS_WITHOUT_CLASSES = 65536


def rows(shape: tuple[int, ...], dim: int | None = None) -> tuple[Layout, tuple[int, ...]]:
    """Where the rows of an input (C), (N, C) or (N, C, d1 … dk) lie, and their own shape (), (N) or (N, d1 … dk).

    dim: the class dimension, negative from the end; None is 1, or 0 for a 1-D input.
    """
    rank = len(shape)
    if rank == 0:
        raise InvalidRequest(
            "input has shape [], but a class dimension is needed: at least [C]",
            reason="INVALID_SHAPE",
            field="input",
            metadata={"shape": []},
        )
    if dim is not None and not -rank <= dim < rank:
        raise InvalidRequest(
            f"dim = {dim} is outside [{-rank}, {rank - 1}] for input of shape {list(shape)}",
            reason="OPTION_OUT_OF_RANGE",
            field="dim",
            metadata={"value": dim, "lower": -rank, "upper": rank - 1, "shape": list(shape)},
        )
    axis = class_axis(rank, dim)
    layout = Layout(prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :]))
    if layout.classes == 0 and layout.rows > MAX_ROWS_WITHOUT_CLASSES:
        raise InvalidRequest(
            f"input of shape {list(shape)} has {layout.rows} rows of no class, at most {MAX_ROWS_WITHOUT_CLASSES} are "
            "taken",
            reason="INVALID_SHAPE",
            field="input",
            metadata={"shape": list(shape), "value": layout.rows, "bound": MAX_ROWS_WITHOUT_CLASSES},
        )
    return layout, shape[:axis] + shape[axis + 1 :]


def row_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The rows' own shape, for the class dimension that `rows` takes by itself."""
    return shape[:1] + shape[2:] if len(shape) > 1 else ()


def elements(shape: tuple[int, ...]) -> Layout:
    """Items along dimension 0, each of the elements of the others; a scalar is one item of one element."""
    return Layout(shape[0], prod(shape[1:]), 1) if shape else Layout(1, 1, 1)


def require(shape: tuple[int, ...], expected: tuple[int, ...], field: str, because: str) -> None:
    """Refuses `field` unless it is of the `expected` shape. because: "one weight for each of 10 classes"."""
    if shape != expected:
        raise mismatch(shape, expected, field, because)


def mismatch(shape: tuple[int, ...], expected: tuple[int, ...], field: str, because: str) -> InvalidRequest:
    """What `require` raises: for where the reason would cost more than the comparison."""
    return InvalidRequest(
        f"{field} has shape {list(shape)}, but must have shape {list(expected)}: {because}",
        reason="SHAPE_MISMATCH",
        field=field,
        metadata={"shape": list(shape), "expected": list(expected), "because": because},
    )


def broadcast(operand: Array, shape: tuple[int, ...], field: str) -> View:
    """The operand, as it was sent, seen as of the input's shape; it never widens the input."""
    missing = len(shape) - len(operand.shape)
    padded = (1,) * missing + operand.shape
    if missing < 0 or any(own not in (1, whole) for own, whole in zip(padded, shape, strict=True)):
        raise InvalidRequest(
            f"{field} of shape {list(operand.shape)} does not broadcast to the input's shape {list(shape)}",
            reason="SHAPE_MISMATCH",
            field=field,
            metadata={"shape": list(operand.shape), "expected": list(shape)},
        )
    strides = [0] * len(shape)
    stride = 1
    for axis in range(len(shape) - 1, -1, -1):
        if padded[axis] != 1:
            strides[axis] = stride
            stride *= padded[axis]
    return View(operand.values, operand.dtype, shape, tuple(strides))
