"""Plausibility: warnings where a file's numbers do not look like what the loss takes, or the loss cannot be right.

The loss is what PyTorch's would be: a warning changes neither the number nor the exit status.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from lossd.contract import KINDS
from lossd.evaluation.number_form import NumberForm
from lossd.evaluation.question import Question
from lossd.request.build import METHODS
from lossd.results import Summary

# What each method's tensors hold where no option says otherwise. Counts are checked by the server, as are bce's.
_DEFAULTS: Mapping[str, Mapping[str, str]] = {
    "cross_entropy": {"input": "logits", "target": "probabilities"},
    "bce_with_logits": {"input": "logits", "target": "probabilities"},
    "kl_divergence": {"input": "log_probabilities", "target": "probabilities"},
    "nll": {"input": "log_probabilities"},
    "entropy": {"input": "probabilities"},
    "self_information": {"input": "probabilities"},
}
# Other forms that are right, too: softmax takes any numbers, and counts are divided by their sum. Logits that all lie
# between 0 and 1 in rows that sum to 1 are an accident that does not happen.
_TAKEN = {
    "logits": {"logits", "log_probabilities", "counts", "unnormalised"},
    "log_probabilities": {"log_probabilities"},
    "probabilities": {"probabilities"},
    "counts": {"logits", "log_probabilities", "probabilities", "counts", "unnormalised"},
}
_WORDS = {name: name.replace("log_prob", "log-prob") for name in _TAKEN}
_OPTIONS = {"input": "kind", "target": "target_kind"}
# What to do where no option helps: by the form that the numbers have.
_FIRST = {
    "logits": "apply softmax to it first",
    "log_probabilities": "apply exp to it first",
    "counts": "divide it by its sums first",
    "unnormalised": "divide it by its sums first",
}


def expected_forms(question: Question) -> dict[str, str]:
    """By role, the kind of numbers that the loss takes there; without what is not checked."""
    found = {}
    for role, default in _DEFAULTS.get(question.method, {}).items():
        if role == "target" and question.indices:
            continue
        found[role] = question.options.get(_OPTIONS[role]) or default
    return found


def implausible_numbers(question: Question, numbers: Mapping[str, NumberForm]) -> Iterator[str]:
    """A sentence for each file whose numbers look like something else. numbers: by role."""
    for role, wanted in expected_forms(question).items():
        seen = numbers[role]
        if seen.form is None or seen.form in _TAKEN[wanted]:
            continue
        what = _WORDS[wanted] if role == "input" else f"a target of {_WORDS[wanted]}"
        place = question.sources[role].place.text
        yield f"{place} {_described(seen)}, but {question.method} takes {what}: {_advice(question, role, seen)}"


def implausible_loss(question: Question, summary: Summary, nan: str) -> Iterator[str]:
    """Sentences on a loss that is NaN, or negative where that cannot be. nan: where the first NaN is, or ""."""
    if not summary.count:
        losses = math.prod(question.loss_shape)
        why = "every row is ignored" if losses else f"{question.input.place.text} has no rows"
        if question.reduction == "mean":
            yield f"{why}, and the mean of no losses is NaN"
    elif nan:
        yield nan
    elif question.reduction == "mean" and summary.weight_sum == 0:
        yield "the weights of all rows add up to 0, and a mean needs weights above 0"
    # Rounding may take a loss of 0 a little below it.
    elif summary.loss_sum < -1e-6 * summary.count:
        wanted = _WORDS.get(expected_forms(question).get("input", ""), "such numbers")
        yield f"the loss is negative, which {question.method} of {wanted} is not: look at the numbers in the files"


def _described(seen: NumberForm) -> str:
    reach = f"numbers from {seen.least:.4g} to {seen.greatest:.4g}"
    if seen.form == "unnormalised":
        if math.isinf(seen.least_sum):
            return f"has {reach}"
        return f"has rows that sum to {seen.least_sum:.4g} to {seen.greatest_sum:.4g}"
    return f"looks like {_WORDS[str(seen.form)]} ({reach})"


def _advice(question: Question, role: str, seen: NumberForm) -> str:
    method, form, option = question.method, str(seen.form), _OPTIONS[role]
    if method == "nll":
        other = {"logits": "", "unnormalised": ", or cross_entropy --kind counts for what a sum divides"}
        return f"use cross_entropy{other.get(form, f' --kind {form}')}"
    if method == "bce_with_logits":
        return "use bce" if role == "input" else "its numbers must be from 0 to 1"
    kinds = KINDS.get((f"{METHODS[method].rpc}Request", option), ())
    flag = f"--{option.replace('_', '-')}"
    if form in kinds:
        return f"give {flag} {form}"
    if form == "log_probabilities" and "logits" in kinds:
        return f"give {flag} logits, since their softmax is the probabilities"
    if form == "unnormalised" and "counts" in kinds:
        logits = f"give {flag} logits if they are logits, or " if "logits" in kinds else "give "
        return f"{logits}{flag} counts to divide each row by its sum"
    return _FIRST[form]
