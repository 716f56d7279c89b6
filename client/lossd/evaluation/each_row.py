"""What is kept of each row's loss, where anything asks: all of them, a sample, the worst, sums by class and row."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.evaluation.comparing.row_sums import SumsOfRows, SumsOfRowsSoFar
from lossd.evaluation.per_class import PerClass
from lossd.evaluation.question import Question
from lossd.evaluation.worst import Sample, Worst
from lossd.results import Result

Arrays = Mapping[str, npt.NDArray[Any]]


class EachRow:
    """Collects the losses of rows, block by block. threshold: above which a binary loss's input predicts 1."""

    def __init__(self, question: Question, threshold: float | None) -> None:
        self._question = question
        self._threshold = threshold
        self._item_losses = prod(question.loss_shape[1:])
        self._losses: list[npt.NDArray[Any]] = []
        self._worst = Worst(question.worst)
        self._sample = Sample()
        self._classes = PerClass(question.classes) if question.per_class else None
        items = question.loss_shape[0] if question.loss_shape else 1
        self._row_sums = SumsOfRowsSoFar(items, self._item_losses) if question.row_sums else None

    def add(self, start: int, arrays: Arrays, kept: npt.NDArray[np.bool_], result: Result) -> None:
        """start: the block's first item. kept: which losses count, of a shape that broadcasts to theirs."""
        question, losses = self._question, result.loss
        if question.reduction == "none":
            self._losses.append(losses)
        chosen = np.flatnonzero(np.broadcast_to(kept, losses.shape))
        index, values = chosen + start * self._item_losses, losses.ravel()[chosen]
        if question.plot:
            self._sample.add(values)
        if self._row_sums is not None:
            self._row_sums.add(index, values, arrays.get("target"))
        if self._classes is not None:
            self._classes.add(arrays["target"].ravel()[chosen], values, self._right(arrays, result, chosen))
        if question.worst:
            self._worst.add({"index": index, "loss": values, **self._beside(arrays, result, chosen)})

    def _right(self, arrays: Arrays, result: Result, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_] | None:
        """Whether what was predicted is right; None if nobody knows."""
        if "correct" in result.outputs:
            return result.outputs["correct"].ravel()[chosen].astype(bool)
        if self._threshold is None:
            return None
        right: npt.NDArray[np.bool_] = (arrays["input"] > self._threshold) == (arrays["target"] == 1)
        return right.ravel()[chosen]

    def _beside(self, arrays: Arrays, result: Result, chosen: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
        """What is listed beside one of the worst losses."""
        columns = {}
        if self._question.indices or (self._question.elementwise and "target" in arrays):
            columns["target"] = arrays["target"].ravel()[chosen]
        if "argmax" in result.outputs:
            columns["predicted"] = result.outputs["argmax"].ravel()[chosen]
        elif self._question.elementwise:
            columns["input"] = arrays["input"].ravel()[chosen]
        return columns

    def losses(self) -> npt.NDArray[Any]:
        """All of them, with reduction none, in their own shape."""
        return np.concatenate(self._losses) if self._question.loss_shape else self._losses[0]

    def worst(self) -> list[dict[str, Any]]:
        return [self._placed(row) for row in self._worst.rows(self._question.loss_shape)]

    def _placed(self, row: dict[str, Any]) -> dict[str, Any]:
        """One of the worst rows; of several files, with the file's name and the row's place in it."""
        if not self._question.input.shards:
            return row
        index = row["index"]
        shard, item = self._question.input.located(index if isinstance(index, int) else index[0])
        return {**row, "file": shard.place.name, "row": item}

    def sample(self) -> npt.NDArray[np.float32] | None:
        return self._sample.values() if self._question.plot else None

    def classes(self) -> list[dict[str, Any]]:
        return self._classes.rows() if self._classes is not None else []

    @property
    def has_soft_targets(self) -> bool:
        """Whether a table by class was asked for, and targets are of none."""
        return self._classes is not None and not self._classes.hard

    def row_sums(self) -> SumsOfRows | None:
        return self._row_sums.sums() if self._row_sums is not None else None
