"""Replay of a vector through `lossd.Client`, as far as Python's words can ask for it."""

from __future__ import annotations

import inspect
from typing import Any

import lossd
from tests.conformance.replay import Answer, Refused, Vector, array

PREFIXES = {
    "reduction": "REDUCTION_",
    "kind": "KIND_",
    "target_kind": "KIND_",
    "empty_mean": "EMPTY_MEAN_",
    "gradients": "GRADIENT_",
    "outputs": "OUTPUT_",
}


class Inexpressible(Exception):
    """Only a message can say this: an enum's unknown number, a tensor without its elements."""


def through(client: lossd.Client, vector: Vector) -> Answer | Refused:
    """Raises Inexpressible."""
    method, tensors, options = _call(vector)
    try:
        result = getattr(client, method)(*tensors, **options)
    except lossd.Error as error:
        assert isinstance(error, lossd.InvalidArgument)
        return Refused("INVALID_ARGUMENT", error.reason, error.field)
    if not isinstance(result, lossd.Result):  # an activation's values
        return Answer({"loss": result}, {}, None)
    found = {"loss": result.loss} | {f"{name}Gradient": value for name, value in result.grads.items()}
    summary = result.summary
    sums = {"lossSum": summary.loss_sum, "weightSum": summary.weight_sum, "count": summary.count}
    return Answer(found, dict(result.outputs), None if vector.loss == "activation" else sums)


def _call(vector: Vector) -> tuple[str, list[Any], dict[str, Any]]:
    """The method, and what it is called with."""
    request = vector.request()
    method, tensors = vector.loss, list[Any]()
    options: dict[str, Any] = {}
    for field, value in request.ListFields():
        if field.name in ("input", "target"):
            tensors.append(_array(value))
        elif field.name == "function":
            method = _word(field, value, "ACTIVATION_FUNCTION_")
        elif field.name == "gradients":
            options["grad"] = tuple(_word(field, one, "GRADIENT_") for one in value)
        elif field.name == "placements":
            raise Inexpressible(field.name)
        elif field.message_type is not None:
            options[field.name] = _array(value)
        elif field.enum_type is not None:
            prefix = PREFIXES[field.name]
            many = field.name == "outputs"
            options[field.name] = (
                tuple(_word(field, one, prefix) for one in value) if many else _word(field, value, prefix)
            )
        else:
            options[field.name] = value
    _require_words(method, tensors, options)
    return method, tensors, options


def _require_words(method: str, tensors: list[Any], options: dict[str, Any]) -> None:
    """A signature has tensors that are required, options that it knows, and gradients once each."""
    parameters = inspect.signature(getattr(lossd.Client, method)).parameters
    if unknown := options.keys() - parameters.keys():
        raise Inexpressible(f"{method} has no {', '.join(sorted(unknown))}")
    if missing := [name for name in ("input", "target")[len(tensors) :] if name in parameters]:
        raise Inexpressible(f"no {', '.join(missing)}")
    for name in ("grad", "outputs"):
        if len(set(options.get(name, ()))) < len(options.get(name, ())):
            raise Inexpressible(f"{name} twice")


def _word(field: Any, number: int, prefix: str) -> str:
    value = field.enum_type.values_by_number.get(number)
    if value is None or not number:
        raise Inexpressible(f"{field.name} {number}")
    return str(value.name.removeprefix(prefix).lower())


def _array(tensor: Any) -> Any:
    if min(tensor.shape, default=0) < 0:
        raise Inexpressible(f"shape {list(tensor.shape)}")
    try:
        return array(tensor)
    except (ValueError, TypeError, AttributeError) as error:
        raise Inexpressible(str(error)) from error
