"""Makes digits.npz and digits.json: the predictions of a plain model for real data, and what their losses are.

    python examples/make_digits.py            # needs scikit-learn and mpmath; the demo needs neither

The data are scikit-learn's 1,797 handwritten digits of 8×8 pixels (UCI, "Optical Recognition of Handwritten Digits").
The model is a logistic regression. Every prediction is out of fold: made by a model that never saw that image, so the
losses are those of unseen data.

digits.npz holds, for N = 1797 images and C = 10 digits:
    logits               float32 (N, C)   of the model with ten classes
    probabilities        float32 (N, C)   their softmax
    labels               int64 (N,)       the digit that was written
    eight_logits         float32 (N,)     of a second model that answers: is it an eight?
    eight_probabilities  float32 (N,)     their sigmoid
    is_eight             float32 (N,)     1 where labels is 8, else 0

digits.json holds for each loss its mean and the Euclidean norm of the mean's gradient by the input: closed forms on the
float32 numbers as stored, computed with 60 digits and written with 50.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).parent
Arrays = dict[str, npt.NDArray[Any]]


def predictions() -> Arrays:
    """The arrays of digits.npz."""
    images, labels = load_digits(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    folds = StratifiedKFold(n_splits=10, shuffle=True, random_state=0)
    logits = cross_val_predict(model, images, labels, cv=folds, method="decision_function").astype(np.float32)
    eight = cross_val_predict(model, images, labels == 8, cv=folds, method="decision_function").astype(np.float32)
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return {
        "logits": logits,
        "probabilities": (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32),
        "labels": labels.astype(np.int64),
        "eight_logits": eight,
        "eight_probabilities": (1 / (1 + np.exp(-eight.astype(np.float64)))).astype(np.float32),
        "is_eight": (labels == 8).astype(np.float32),
    }


def exact(values: npt.NDArray[Any]) -> Any:
    """The array as mpmath numbers of the same value, in nested lists."""
    return [exact(row) for row in values] if values.ndim > 1 else [mpmath.mpf(float(value)) for value in values]


def written(losses: list[Any], gradient: list[Any]) -> dict[str, str]:
    """Mean of the losses and norm of the mean's gradient, given the gradient of each loss by itself."""
    norm = mpmath.sqrt(mpmath.fsum(g * g for g in gradient)) / len(losses)
    return {"loss": mpmath.nstr(mpmath.fsum(losses) / len(losses), 50), "gradient_norm": mpmath.nstr(norm, 50)}


def cross_entropy(logits: list[list[Any]], labels: list[int]) -> dict[str, str]:
    """ln Σ exp x − x[y], gradient softmax(x) − onehot(y). 60 digits make the plain form exact enough."""
    losses, gradient = [], []
    for row, label in zip(logits, labels, strict=True):
        exponentials = [mpmath.exp(x) for x in row]
        total = mpmath.fsum(exponentials)
        losses.append(mpmath.log(total) - row[label])
        gradient += [e / total - (c == label) for c, e in enumerate(exponentials)]
    return written(losses, gradient)


def entropy(probabilities: list[list[Any]]) -> dict[str, str]:
    """−Σ p ln p, gradient −(ln p + 1)."""
    losses = [-mpmath.fsum(p * mpmath.log(p) for p in row) for row in probabilities]
    return written(losses, [-(mpmath.log(p) + 1) for row in probabilities for p in row])


def bce(probabilities: list[Any], targets: list[Any]) -> dict[str, str]:
    """−[t·max(ln p, −100) + (1−t)·max(ln(1−p), −100)], gradient (p − t) / max(p(1−p), 1e-12)."""
    losses, gradient = [], []
    for p, t in zip(probabilities, targets, strict=True):
        log_p = max(mpmath.log(p), mpmath.mpf(-100)) if p > 0 else mpmath.mpf(-100)
        log_q = max(mpmath.log(1 - p), mpmath.mpf(-100)) if p < 1 else mpmath.mpf(-100)
        losses.append(-(t * log_p + (1 - t) * log_q))
        gradient.append((p - t) / max(p * (1 - p), mpmath.mpf(10) ** -12))
    return written(losses, gradient)


def bce_with_logits(logits: list[Any], targets: list[Any]) -> dict[str, str]:
    """t·ln(1 + exp(−x)) + (1−t)·ln(1 + exp x), gradient 1 / (1 + exp(−x)) − t."""
    pairs = list(zip(logits, targets, strict=True))
    losses = [t * mpmath.log1p(mpmath.exp(-x)) + (1 - t) * mpmath.log1p(mpmath.exp(x)) for x, t in pairs]
    return written(losses, [1 / (1 + mpmath.exp(-x)) - t for x, t in pairs])


def main() -> None:
    mpmath.mp.dps = 60
    arrays = predictions()
    numbers = {name: exact(values) for name, values in arrays.items() if name != "labels"}
    reference = {
        "cross_entropy": cross_entropy(numbers["logits"], arrays["labels"].tolist()),
        "bce": bce(numbers["eight_probabilities"], numbers["is_eight"]),
        "bce_with_logits": bce_with_logits(numbers["eight_logits"], numbers["is_eight"]),
        "entropy": entropy(numbers["probabilities"]),
    }
    np.savez_compressed(HERE / "digits.npz", **arrays)  # type: ignore[arg-type]  # numpy 2 also has allow_pickle: bool
    (HERE / "digits.json").write_text(json.dumps(reference, indent=2) + "\n")
    print(json.dumps(reference, indent=2))


if __name__ == "__main__":
    main()
