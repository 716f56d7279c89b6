"""The evaluation loop: sends the input block by block over one stream and adds up the results.

Reading, sending and computing overlap.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

import lossd
from lossd.accumulator import Accumulator
from lossd.command_error import CommandError
from lossd.evaluation import blocks
from lossd.evaluation.each_row import EachRow
from lossd.evaluation.measures import Binary, Predictions, perplexity
from lossd.evaluation.number_form import NumberForm
from lossd.evaluation.plausibility import expected_forms, implausible_loss, implausible_numbers
from lossd.evaluation.question import Question
from lossd.evaluation.reports.report import LossReport, Share
from lossd.evaluation.several.servers import BlockServer, Servers, strange_servers
from lossd.results import Result, Summary
from lossd.version import __version__

Arrays = dict[str, npt.NDArray[Any]]
Range = tuple[int, int]
Answer = tuple[Range, Arrays, Result]
REACH_S = 5.0


def run_evaluation(client: lossd.Client, question: Question, advance: Callable[[int], None]) -> LossReport:
    """advance: called after every block with its number of items. Raises lossd.Error and CommandError."""
    # A server that cannot be reached is reported soon, not after the time that a block may take.
    info = client.info(timeout=REACH_S)
    evaluation = _Evaluation(client, question)
    ranges = blocks.ranges(question, info.limits.max_message_bytes)
    evaluation.add_all(_answers(client, evaluation, ranges), advance)
    return evaluation.report({"lossd": __version__, "server": info.version, "device": info.device})


def run_on_several(
    client: lossd.Client, servers: Servers, question: Question, advance: Callable[[int], None], patience_s: float
) -> LossReport:
    """The same by several servers. client: reaches any of them. patience_s: how long none may be there, in seconds."""
    evaluation = _Evaluation(client, question)
    ranges = blocks.ranges(question, servers.max_message_bytes)
    answers = servers.answers(question, evaluation.options, ranges, evaluation.read, patience_s)
    with closing(answers):
        evaluation.add_all(answers, advance)
    first = servers.first
    return evaluation.report({"lossd": __version__, "server": first.version, "device": first.device}, servers.all)


def _answers(client: lossd.Client, evaluation: _Evaluation, ranges: Iterator[Range]) -> Iterator[Answer]:
    """By one server, over one stream."""
    # Blocks that were read and not answered yet; map limits their number.
    ahead: deque[tuple[Range, Arrays]] = deque()

    def asked() -> Iterator[dict[str, Any]]:
        for block in ranges:
            arrays = evaluation.read(block)
            ahead.append((block, arrays))
            yield arrays

    for result in client.map(evaluation.question.method, asked(), **evaluation.options):
        yield *ahead.popleft(), result


class _Evaluation:
    """The sums so far. Each row's loss is requested only if something needs it."""

    def __init__(self, client: lossd.Client, question: Question) -> None:
        self._client = client
        self.question = question
        self._each = question.needs_each_row
        self._sum = Accumulator("sum")
        self._first_nan: int | list[int] | None = None
        self._nan_because = ""
        self._numbers = {role: NumberForm(question.distribution_axis) for role in expected_forms(question)}
        base = question.options.get("base")
        self._predictions = (
            Predictions(1.0 / math.log(base) if base else 1.0, indices=question.indices) if question.outputs else None
        )
        thresholds = {"bce": 0.5, "bce_with_logits": 0.0}
        self._binary = Binary(thresholds[question.method]) if question.method in thresholds else None
        self._rows = EachRow(question, thresholds.get(question.method))

    @property
    def options(self) -> dict[str, Any]:
        """The options of every block."""
        return self._options("none" if self._each else "sum")

    def _options(self, reduction: str) -> dict[str, Any]:
        outputs = {"outputs": self.question.outputs} if self.question.outputs else {}
        return {**self.question.options, **outputs, "reduction": reduction}

    def add_all(self, answers: Iterator[Answer], advance: Callable[[int], None]) -> None:
        """answers: in the file's order. Raises lossd.Error and CommandError."""
        end = 0
        try:
            for block, arrays, result in answers:
                end = block[1]
                self.add(block, arrays, result)
                advance(block[1] - block[0])
        except lossd.InvalidArgument as error:
            raise CommandError(_of_the_file(error, self.question, end)) from None

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
            self._rows.add(block[0], arrays, kept, result)

    def read(self, block: Range) -> Arrays:
        question = self.question
        return {
            role: one.read(*block) if question.sliced(role) else one.whole() for role, one in question.sources.items()
        }

    def _losses_of(self, arrays: Arrays) -> npt.NDArray[Any]:
        """Each loss of a block of which only the sum was requested."""
        (result,) = self._client.map(self.question.method, [arrays], **self._options("none"))
        losses: npt.NDArray[Any] = result.loss
        return losses

    def _kept(self, arrays: Arrays) -> npt.NDArray[np.bool_]:
        """Which rows of a block are kept; a single True where no row can be ignored."""
        if not self.question.indices:
            return np.ones((), bool)
        kept: npt.NDArray[np.bool_] = np.asarray(arrays["target"] != self.question.ignore_index)
        return kept.reshape(()) if not self.question.loss_shape else kept

    def _probabilities(self, arrays: Arrays) -> npt.NDArray[Any] | None:
        """Probabilities of the positive class, for the calibration curve."""
        if not self.question.plot:
            return None
        if self.question.method == "bce":
            return arrays["input"]
        probabilities: npt.NDArray[Any] = self._client.sigmoid(arrays["input"])
        return probabilities

    def _find_nan(self, losses: npt.NDArray[Any], arrays: Arrays, block: Range) -> None:
        at = np.argwhere(np.isnan(losses))
        if len(at):
            index = [int(one) for one in at[0]]
            holders = [role for role, array in arrays.items() if self._holds_nan(role, array, index)]
            if index and self.question.sliced("input"):
                index[0] += block[0]
            self._first_nan = index[0] if len(index) == 1 else index
            self._nan_because = ", ".join(self._nan_in(role, index) for role in holders)

    def _nan_in(self, role: str, index: list[int]) -> str:
        """index: of the loss, among all."""
        source = self.question.sources[role]
        if not source.shards or not self.question.sliced(role):
            return f"{source.place.text} has NaN there"
        shard, item = source.located(index[0])
        return f"{shard.place.text} has NaN in its row {item}"

    def _holds_nan(self, role: str, array: npt.NDArray[Any], index: list[int]) -> bool:
        """Whether a tensor has NaN in the item of a loss, or anywhere where it has no items."""
        part = array[index[0]] if index and self.question.sliced(role) else array
        return part.dtype.kind not in "iub" and bool(np.isnan(part).any())

    def report(self, versions: dict[str, str], servers: Sequence[BlockServer] = ()) -> LossReport:
        question, summary = self.question, self._sum.summary
        measures = self._measures(summary)
        predictors = [one for one in (self._predictions, self._binary) if one is not None]
        return LossReport(
            question=question,
            loss=self._loss(summary),
            summary=summary,
            losses=prod(question.loss_shape),
            measures=measures,
            worst=self._rows.worst(),
            classes=self._rows.classes(),
            row_sums=self._rows.row_sums(),
            first_nan=self._first_nan,
            sample=self._rows.sample(),
            reliability=predictors[0].reliability() if predictors else None,
            versions=versions,
            warnings=(*self._warnings(summary), *strange_servers(servers)),
            servers=tuple(
                Share(one.address, one.version, one.device, one.blocks, one.items, one.lost) for one in servers
            ),
        )

    def _warnings(self, summary: Summary) -> Iterator[str]:
        question, nan = self.question, ""
        if self._first_nan is not None:
            noun = "element" if question.elementwise else "row"
            nan = f"the loss of {noun} {self._first_nan} is NaN" + (self._nan_because and f": {self._nan_because}")
        found = [*implausible_numbers(question, self._numbers)]
        # Numbers of another kind explain what the loss is.
        yield from found or implausible_loss(question, summary, nan)
        if self._rows.has_soft_targets:
            yield "--per-class needs targets that are all 0 or 1; there is no table by class"

    def _loss(self, summary: Summary) -> float | npt.NDArray[Any]:
        reduction = self.question.reduction
        if reduction == "none":
            return self._rows.losses()
        if reduction == "sum":
            return summary.loss_sum
        shape = self.question.input.shape
        denominator = summary.weight_sum if reduction == "mean" else float(shape[0] if shape else 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.divide(summary.loss_sum, denominator))

    def _measures(self, summary: Summary) -> dict[str, Any]:
        question = self.question
        measures: dict[str, Any] = {}
        # Perplexity is defined for a plain mean of −log p, without class weights or smoothing.
        if question.indices and "weight" not in question.sources and not question.options.get("label_smoothing"):
            measures["perplexity"] = perplexity(summary, question.options.get("base"))
        for one in (self._predictions, self._binary):
            if one is not None:
                measures |= one.measures()
        return measures


def _of_the_file(error: lossd.InvalidArgument, question: Question, start: int) -> str:
    """The server's message about a block, with the value's index in its file, and the file's name."""
    sentence, where = str(error), error.metadata.get("index", "")
    source = question.sources.get(error.field)
    inside = re.match(r"\w+\[(\d+)", where)
    if inside and question.sliced(error.field or "input"):
        source, item = (source or question.input).located(int(inside[1]) + start)
        sentence = sentence.replace(where, where[: inside.start(1)] + str(item) + where[inside.end(1) :])
    return f"{source.place.text}: {sentence}" if source else sentence
