"""The evaluation loop: sends the input block by block over one stream and adds up the results.

Reading, sending and computing overlap.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

import lossd
from lossd.accumulator import Accumulator
from lossd.command_error import CommandError
from lossd.evaluation import blocks
from lossd.evaluation.measures import Binary, Predictions, perplexity
from lossd.evaluation.number_form import NumberForm
from lossd.evaluation.plausibility import expected_forms, implausible_loss, implausible_numbers
from lossd.evaluation.question import Question
from lossd.evaluation.report import LossReport
from lossd.evaluation.worst import Sample, Worst
from lossd.results import Result, Summary
from lossd.version import __version__

Arrays = dict[str, npt.NDArray[Any]]
Range = tuple[int, int]
REACH_S = 5.0


def run_evaluation(client: lossd.Client, question: Question, advance: Callable[[int], None]) -> LossReport:
    """advance: called after every block with its number of items. Raises lossd.Error and CommandError."""
    # A server that cannot be reached is reported soon, not after the time that a block may take.
    info = client.info(timeout=REACH_S)
    evaluation = _Evaluation(client, question)
    # Blocks that were read and not answered yet; map limits their number.
    ahead: deque[tuple[Range, Arrays]] = deque()

    def asked() -> Iterator[dict[str, Any]]:
        for block in blocks.ranges(question, info.limits.max_message_bytes):
            arrays = evaluation.read(block)
            ahead.append((block, arrays))
            yield arrays

    results = client.map(question.method, asked(), **evaluation.options)
    try:
        for result in results:
            block, arrays = ahead.popleft()
            evaluation.add(block, arrays, result)
            advance(block[1] - block[0])
    except lossd.InvalidArgument as error:
        raise CommandError(_of_the_file(error, question, ahead[0][0][0])) from None
    versions = {"lossd": __version__, "server": info.version, "device": info.device}
    return evaluation.report(versions)


class _Evaluation:
    """The sums so far. Each row's loss is requested only if something needs it."""

    def __init__(self, client: lossd.Client, question: Question) -> None:
        self._client = client
        self._question = question
        self._each = question.reduction == "none" or question.worst > 0 or question.plot
        self._sum = Accumulator("sum")
        self._losses: list[npt.NDArray[Any]] = []
        self._worst = Worst(question.worst)
        self._sample = Sample()
        self._first_nan: int | list[int] | None = None
        self._nan_because = ""
        self._numbers = {role: NumberForm(question.distribution_axis) for role in expected_forms(question)}
        self._item_losses = prod(question.loss_shape[1:])
        base = question.options.get("base")
        self._predictions = (
            Predictions(1.0 / math.log(base) if base else 1.0, indices=question.indices) if question.outputs else None
        )
        thresholds = {"bce": 0.5, "bce_with_logits": 0.0}
        self._binary = Binary(thresholds[question.method]) if question.method in thresholds else None

    @property
    def options(self) -> dict[str, Any]:
        """The options of every block."""
        return self._options("none" if self._each else "sum")

    def _options(self, reduction: str) -> dict[str, Any]:
        outputs = {"outputs": self._question.outputs} if self._question.outputs else {}
        return {**self._question.options, **outputs, "reduction": reduction}

    def add(self, block: Range, arrays: Arrays, result: Result) -> None:
        self._sum += result
        if math.isnan(result.summary.loss_sum) and self._first_nan is None:
            self._find_nan(result.loss if self._each else self._losses_of(arrays), arrays, block)
        for role, numbers in self._numbers.items():
            numbers.add(arrays[role])
        kept = self._kept(arrays)
        if self._predictions is not None:
            self._predictions.add(arrays["input"], result, np.ones(result.outputs["argmax"].shape, bool) & kept)
        if self._binary is not None:
            self._binary.add(arrays["input"], arrays["target"], self._probabilities(arrays))
        if self._each:
            self._keep(result, arrays, kept, block)

    def read(self, block: Range) -> Arrays:
        question = self._question
        return {
            role: one.read(*block) if question.sliced(role) else one.whole() for role, one in question.sources.items()
        }

    def _losses_of(self, arrays: Arrays) -> npt.NDArray[Any]:
        """Each loss of a block of which only the sum was requested."""
        (result,) = self._client.map(self._question.method, [arrays], **self._options("none"))
        losses: npt.NDArray[Any] = result.loss
        return losses

    def _kept(self, arrays: Arrays) -> npt.NDArray[np.bool_]:
        """Which rows of a block are kept; a single True where no row can be ignored."""
        if not self._question.indices:
            return np.ones((), bool)
        kept: npt.NDArray[np.bool_] = np.asarray(arrays["target"] != self._question.ignore_index)
        return kept.reshape(()) if not self._question.loss_shape else kept

    def _probabilities(self, arrays: Arrays) -> npt.NDArray[Any] | None:
        """Probabilities of the positive class, for the calibration curve."""
        if not self._question.plot:
            return None
        if self._question.method == "bce":
            return arrays["input"]
        probabilities: npt.NDArray[Any] = self._client.sigmoid(arrays["input"])
        return probabilities

    def _keep(self, result: Result, arrays: Arrays, kept: npt.NDArray[np.bool_], block: Range) -> None:
        losses = result.loss
        if self._question.reduction == "none":
            self._losses.append(losses)
        chosen = np.flatnonzero(np.broadcast_to(kept, losses.shape))
        if self._question.plot:
            self._sample.add(losses.ravel()[chosen])
        if self._question.worst:
            columns = {"index": chosen + block[0] * self._item_losses, "loss": losses.ravel()[chosen]}
            if self._question.indices or (self._question.elementwise and "target" in arrays):
                columns["target"] = arrays["target"].ravel()[chosen]
            if "argmax" in result.outputs:
                columns["predicted"] = result.outputs["argmax"].ravel()[chosen]
            elif self._question.elementwise:
                columns["input"] = arrays["input"].ravel()[chosen]
            self._worst.add(columns)

    def _find_nan(self, losses: npt.NDArray[Any], arrays: Arrays, block: Range) -> None:
        at = np.argwhere(np.isnan(losses))
        if len(at):
            index = [int(one) for one in at[0]]
            holders = [role for role, array in arrays.items() if self._holds_nan(role, array, index)]
            if index and self._question.sliced("input"):
                index[0] += block[0]
            self._first_nan = index[0] if len(index) == 1 else index
            self._nan_because = ", ".join(f"{self._question.sources[role].place.text} has NaN" for role in holders)

    def _holds_nan(self, role: str, array: npt.NDArray[Any], index: list[int]) -> bool:
        """Whether a tensor has NaN in the item of a loss, or anywhere where it has no items."""
        part = array[index[0]] if index and self._question.sliced(role) else array
        return part.dtype.kind not in "iub" and bool(np.isnan(part).any())

    def report(self, versions: dict[str, str]) -> LossReport:
        question, summary = self._question, self._sum.summary
        measures = self._measures(summary)
        predictors = [one for one in (self._predictions, self._binary) if one is not None]
        return LossReport(
            question=question,
            loss=self._loss(summary),
            summary=summary,
            losses=prod(question.loss_shape),
            measures=measures,
            worst=self._worst.rows(question.loss_shape),
            first_nan=self._first_nan,
            sample=self._sample.values() if question.plot else None,
            reliability=predictors[0].reliability() if predictors else None,
            versions=versions,
            warnings=tuple(self._warnings(summary)),
        )

    def _warnings(self, summary: Summary) -> Iterator[str]:
        question, nan = self._question, ""
        if self._first_nan is not None:
            noun = "element" if question.elementwise else "row"
            nan = f"the loss of {noun} {self._first_nan} is NaN" + (
                self._nan_because and f": {self._nan_because} there"
            )
        found = [*implausible_numbers(question, self._numbers)]
        # Numbers of another kind explain what the loss is.
        yield from found or implausible_loss(question, summary, nan)

    def _loss(self, summary: Summary) -> float | npt.NDArray[Any]:
        reduction = self._question.reduction
        if reduction == "none":
            return np.concatenate(self._losses) if self._question.loss_shape else self._losses[0]
        if reduction == "sum":
            return summary.loss_sum
        shape = self._question.input.shape
        denominator = summary.weight_sum if reduction == "mean" else float(shape[0] if shape else 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.divide(summary.loss_sum, denominator))

    def _measures(self, summary: Summary) -> dict[str, Any]:
        question = self._question
        measures: dict[str, Any] = {}
        # Perplexity is defined for a plain mean of −log p, without class weights or smoothing.
        if question.indices and "weight" not in question.sources and not question.options.get("label_smoothing"):
            measures["perplexity"] = perplexity(summary, question.options.get("base"))
        for one in (self._predictions, self._binary):
            if one is not None:
                measures |= one.measures()
        return measures


def _of_the_file(error: lossd.InvalidArgument, question: Question, start: int) -> str:
    """The server's message about a block, with the value's index in the whole file, and the file's name."""
    sentence, where = str(error), error.metadata.get("index", "")
    inside = re.match(r"\w+\[(\d+)", where)
    if inside and start and question.sliced(error.field or "input"):
        moved = where[: inside.start(1)] + str(int(inside[1]) + start) + where[inside.end(1) :]
        sentence = sentence.replace(where, moved)
    source = question.sources.get(error.field)
    return f"{source.place.text}: {sentence}" if source else sentence
