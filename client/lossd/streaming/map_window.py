"""Window of `map`: from items to calls, and from answers in any order to results in the items' order. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, get_args

from lossd.errors import Error, InvalidArgument
from lossd.fast_path.request_template import recall
from lossd.options import Errors
from lossd.request.build import METHODS, Call, build
from lossd.request.conversion_cost import are_quick
from lossd.request.option_values import did_you_mean, integer_option, unknown_value
from lossd.streaming.evaluation import SmallEvaluation

# Bytes of their tensors, one item excepted: memory is bounded whatever an item weighs.
WINDOW_BYTES = 64 << 20


class MapWindow:
    """Items that were read and whose results were not yet given, in order."""

    def __init__(self, method: str, options: Mapping[str, Any], most: int, errors: str) -> None:
        if errors not in get_args(Errors):
            raise unknown_value("errors", errors, get_args(Errors))
        self._most = integer_option("window", most)
        if self._most < 1:
            sentence = f"window = {most} is less than 1"
            raise InvalidArgument(sentence, field="window", reason="OPTION_OUT_OF_RANGE", metadata={"value": str(most)})
        self._method = method
        self._tensors = METHODS[method].tensors if method in METHODS else ()
        if not self._tensors:
            build(method)  # says which methods there are
        self._activation = METHODS[method].rpc == "Activation"
        self._options = options
        self._yield = errors == "yield"
        self._entries: deque[SmallEvaluation | Exception] = deque()
        self._bytes = 0
        self.exhausted = False

    @staticmethod
    def is_quick(item: Any) -> bool:
        """Whether `call` of it copies and converts next to nothing."""
        if isinstance(item, Mapping):
            return are_quick((), item)
        return are_quick(item if type(item) is tuple else (item,), {})

    def repeated(self, item: Any, most_bytes: int, start_s: float) -> SmallEvaluation | None:
        """The evaluation of an item like one before, its numbers taken; None for `call` to say.

        most_bytes: what a message may have, either way; 0 where none is to be sent whole.
        """
        try:
            found = recall(self._method, *self._arguments(item), most_bytes) if most_bytes else None
        except (Error, TypeError):
            return None
        return None if found is None else SmallEvaluation(*found, start_s)

    def call(self, item: Any) -> Call | None:
        """The call of an item: a tuple of its tensors, a dict of tensors and options, or its only tensor.

        None where it is none: its place among the results then raises, or yields, why.
        """
        try:
            operands, options = self._arguments(item)
            return build(self._method, *operands, **options)
        except (Error, TypeError) as error:
            self._entries.append(error)
            return None

    def _arguments(self, item: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Tensors and options. Raises TypeError."""
        if type(item) is tuple:
            return item, self._options
        if isinstance(item, Mapping):
            self._check_names(item)
            options = {**self._options, **item}
            return tuple([options.pop(name, None) for name in self._tensors]), options
        return (item,), self._options

    def _check_names(self, item: Mapping[str, Any]) -> None:
        """Raises TypeError where a tensor is missing and something else is there in its place."""
        missing = [name for name in self._tensors if name not in item and name not in self._options]
        if missing:
            there = ", ".join(map(repr, item)) or "nothing"
            hint = next((near for name in item if (near := did_you_mean(name, missing))), "")
            raise TypeError(f"an item of {self._method} has no {missing[0]!r}, it has {there}{hint}")

    def add(self, evaluation: SmallEvaluation) -> None:
        self._entries.append(evaluation)
        self._bytes += evaluation.nbytes

    def fail(self, error: Error) -> None:
        """The item that was read last cannot be sent."""
        self._entries.append(error)

    @property
    def wants(self) -> bool:
        """Whether another item may be read."""
        return not self.exhausted and len(self._entries) < self._most and self._bytes < WINDOW_BYTES

    @property
    def is_empty(self) -> bool:
        return not self._entries

    def ready(self) -> list[Any]:
        """The results of the first items, as far as they are there, which leave the window.

        A failed one is its Error where errors are yielded. Else it is raised, once those before it have left.
        """
        found: list[Any] = []
        entries = self._entries
        while entries:
            first = entries[0]
            outcome: Any = first if isinstance(first, Exception) else first.outcome
            if outcome is None:
                break
            failed = isinstance(outcome, Exception)
            if failed and not (self._yield and isinstance(outcome, Error)):
                if found:
                    break
                raise outcome
            entries.popleft()
            if not isinstance(first, Exception):
                self._bytes -= first.nbytes
            found.append(outcome.loss if self._activation and not failed else outcome)
        return found
