"""Window of `map`: from items to calls, and from answers in any order to results in the items' order. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, get_args

from lossd.errors import Error, InvalidArgument
from lossd.options import Errors
from lossd.request.build import METHODS, Call, build
from lossd.request.conversion_cost import are_quick
from lossd.request.option_values import did_you_mean, integer_option, unknown_value
from lossd.streaming.exchange import Evaluation

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
        self._entries: deque[Evaluation | Exception] = deque()
        self._bytes = 0
        self.exhausted = False

    @staticmethod
    def is_quick(item: Any) -> bool:
        """Whether `call` of it copies and converts next to nothing."""
        if isinstance(item, Mapping):
            return are_quick((), item)
        return are_quick(item if type(item) is tuple else (item,), {})

    def call(self, item: Any) -> Call | None:
        """The call of an item: a tuple of its tensors, a dict of tensors and options, or its only tensor.

        None where it is none: its place among the results then raises, or yields, why.
        """
        try:
            if type(item) is tuple:
                return build(self._method, *item, **self._options)
            if isinstance(item, Mapping):
                self._check_names(item)
                options = {**self._options, **item}
                tensors = [options.pop(name, None) for name in self._tensors]
                return build(self._method, *tensors, **options)
            return build(self._method, item, **self._options)
        except (Error, TypeError) as error:
            self._entries.append(error)
            return None

    def _check_names(self, item: Mapping[str, Any]) -> None:
        """Raises TypeError where a tensor is missing and something else is there in its place."""
        missing = [name for name in self._tensors if name not in item and name not in self._options]
        if missing:
            there = ", ".join(map(repr, item)) or "nothing"
            hint = next((near for name in item if (near := did_you_mean(name, missing))), "")
            raise TypeError(f"an item of {self._method} has no {missing[0]!r}, it has {there}{hint}")

    def add(self, evaluation: Evaluation) -> None:
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

    @property
    def is_ready(self) -> bool:
        """Whether the first item's result is there."""
        if not self._entries:
            return False
        first = self._entries[0]
        return isinstance(first, Exception) or first.outcome is not None

    def pop(self) -> Any:
        """The first item's result: its Error is raised, or returned where errors are yielded."""
        first = self._entries.popleft()
        outcome: Any = first
        if isinstance(first, Evaluation):
            self._bytes -= first.nbytes
            outcome = first.outcome
        if not isinstance(outcome, Exception):
            return outcome.loss if self._activation else outcome
        if self._yield and isinstance(outcome, Error):
            return outcome
        raise outcome
