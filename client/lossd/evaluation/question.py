"""An evaluation's request: the loss, its arrays and options, and checks of their shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lossd.command_error import CommandError
from lossd.contract import IGNORE_INDEX
from lossd.evaluation.readers.source import Source
from lossd.request.build import METHODS, option_names

# Each loss and the options it takes.
LOSSES: Mapping[str, frozenset[str]] = {
    method: frozenset(option_names(method))
    for method in ("cross_entropy", "bce", "bce_with_logits", "kl_divergence", "nll", "entropy", "self_information")
}
UNITS = {None: "nats", 2.0: "bits"}
_NORMALISED = ("logits", "counts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """sources: by role, "input", "target", "weight", "pos_weight" or "row_weight". options: of the client's method,
    without reduction. worst: how many rows of greatest loss to list. plot: whether something is drawn. per_class:
    whether there is a table by class. row_sums: whether sums of the rows are kept, to compare runs by.
    """

    method: str
    sources: Mapping[str, Source]
    reduction: str = "mean"
    options: Mapping[str, Any] = field(default_factory=dict)
    worst: int = 0
    plot: bool = False
    per_class: bool = False
    row_sums: bool = False

    @property
    def input(self) -> Source:
        return self.sources["input"]

    @property
    def operands(self) -> tuple[str, ...]:
        """The roles of the method's positional tensors."""
        return METHODS[self.method].tensors

    @property
    def unit(self) -> str:
        base = self.options.get("base")
        return UNITS.get(base) or f"base {base:g}"

    @property
    def class_axis(self) -> int | None:
        """The class dimension; None for an elementwise loss."""
        if self.method in ("bce", "bce_with_logits", "self_information"):
            return None
        kinds = self.options.get("kind"), self.options.get("target_kind")
        if self.method == "kl_divergence":
            # It has a loss for each element, but kinds that are normalised need whole rows.
            return None if not any(kind in _NORMALISED for kind in kinds) else self._axis(None)
        return self._axis(self.options.get("dim"))

    @property
    def distribution_axis(self) -> int | None:
        """The dimension along which a distribution lies; None where each element is for itself."""
        if self.method in ("bce", "bce_with_logits", "self_information"):
            return None
        return self._axis(self.options.get("dim"))

    def _axis(self, dim: int | None) -> int:
        rank = len(self.input.shape)
        if dim is None:
            return 1 if rank > 1 else 0
        return dim % rank if rank else 0

    @property
    def elementwise(self) -> bool:
        """Whether there is a loss for each element rather than for each row."""
        return self.class_axis is None or self.method == "kl_divergence"

    @property
    def loss_shape(self) -> tuple[int, ...]:
        shape, axis = self.input.shape, self.class_axis
        return shape if self.elementwise or axis is None else shape[:axis] + shape[axis + 1 :]

    @property
    def indices(self) -> bool:
        """Whether the target is class indices."""
        if self.method == "nll":
            return True
        if self.method != "cross_entropy":
            return False
        kind = self.options.get("target_kind")
        return kind == "indices" or (kind is None and self.sources["target"].dtype.kind in "iu")

    @property
    def classes(self) -> int:
        """The number of classes; of binary losses, 2."""
        return 2 if self.class_axis is None else self.input.shape[self.class_axis]

    @property
    def needs_each_row(self) -> bool:
        """Whether something asks for the loss of each row."""
        return self.reduction == "none" or self.worst > 0 or self.plot or self.per_class or self.row_sums

    @property
    def ignore_index(self) -> int:
        given = self.options.get("ignore_index")
        return IGNORE_INDEX if given is None else given

    @property
    def outputs(self) -> tuple[str, ...]:
        """The auxiliary outputs to ask for: only cross-entropy of logits has some."""
        if self.method != "cross_entropy" or self.options.get("kind") not in (None, "logits"):
            return ()
        return ("lse", "entropy", "argmax", "correct") if self.indices else ("entropy", "argmax")

    def sliced(self, role: str) -> bool:
        """Whether `role` has an item for each item of the input, rather than one value for all."""
        shape, whole = self.sources[role].shape, self.input.shape
        if not whole or self.class_axis == 0:
            return False
        if role in ("input", "target", "row_weight"):
            return True
        return self.elementwise and len(shape) == len(whole) and shape[0] == whole[0] and shape[0] != 1

    def check(self) -> None:
        """Raises CommandError where the files' shapes do not fit each other. Blocks alone would not show that."""
        for role, source in self.sources.items():
            if role != "input" and self.sliced(role) and source.items != self.input.items:
                raise CommandError(
                    f"{source.place.text} has {source.items} rows (shape {_shape(source)}), {self.input.place.text} "
                    f"has {self.input.items} (shape {_shape(self.input)}): {role} and input need the same number"
                )
            if role != "input" and self.sliced(role):
                _check_pairs(role, source, self.input)
        if "target" in self.sources:
            self._check_target(self.sources["target"])
        if self.per_class and not self.indices and not self.elementwise:
            raise CommandError(
                f"{self.sources['target'].place.text} holds distributions: --per-class needs class indices"
            )
        if self.elementwise:
            for role in ("weight", "pos_weight"):
                if role in self.sources:
                    self._check_broadcast(role, self.sources[role])

    def _check_target(self, target: Source) -> None:
        expected = self.loss_shape if self.indices else self.input.shape
        if target.shape == expected or (self.indices and expected == () and target.shape == (1,)):
            return
        meaning = "a class index for each row" if self.indices else "a value for each element of the input"
        hint = ""
        if self.method == "nll" or (self.method == "cross_entropy" and target.shape == self.loss_shape):
            hint = f"; class indices must be integers, but these are {target.dtype.name}" if not self.indices else ""
        raise CommandError(
            f"{target.place.text} has shape {_shape(target)}, but {list(expected)} is expected ({meaning}) with "
            f"{self.input.place.text} of shape {_shape(self.input)}{hint}"
        )

    def _check_broadcast(self, role: str, source: Source) -> None:
        try:
            fits = np.broadcast_shapes(source.shape, self.input.shape) == self.input.shape
        except ValueError:
            fits = False
        if not fits:
            raise CommandError(
                f"{source.place.text} has shape {_shape(source)}: {role} must broadcast to "
                f"{self.input.place.text}'s {_shape(self.input)}"
            )


def _check_pairs(role: str, source: Source, input: Source) -> None:
    """Raises CommandError where rows of one file would be taken with those of another."""
    if len(source.files) != len(input.files):
        return
    ours, theirs = ([one.place.path.resolve() for one in several.files] for several in (source, input))
    if ours != theirs and sorted(ours) == sorted(theirs):
        raise CommandError(
            f"the files of --{_flag(role)} are those of --input in another order; give both in one order"
        )
    for one, other in zip(source.files, input.files, strict=True):
        if one.items != other.items:
            raise CommandError(
                f"{one.place.name} has {one.items} rows, but {other.place.name} has {other.items}: the files of "
                f"--{_flag(role)} and --input go together in this order"
            )


def _flag(role: str) -> str:
    return role.replace("_", "-")


def _shape(source: Source) -> list[int]:
    return list(source.shape)
