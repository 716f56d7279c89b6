"""Makes digits.npz and digits.json: the predictions of a plain model for real data, and what their losses are.

    PYTHONPATH=. python examples/make_digits.py     # needs scikit-learn and mpmath; the demo needs neither

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

digits.json holds for each loss its mean and the Euclidean norm of the mean's gradient by the input: what the tests'
oracle (tests/oracle) says of the float32 numbers as stored, computed with 60 digits and written with 50.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from demo import EVALUATIONS
from tests.oracle import REFERENCES
from tests.oracle.exact import mp

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


def reference(method: str, *tensors: npt.NDArray[Any]) -> dict[str, str]:
    """The mean loss and the norm of its gradient by the input, from the oracle of the tests."""
    exact = REFERENCES[method](*tensors)
    norm = mp.sqrt(mp.fsum(slope * slope for slope in exact.grads["input"].reshape(-1)))
    return {"loss": mp.nstr(exact.loss[()], 50), "gradient_norm": mp.nstr(norm, 50)}


def main() -> None:
    mp.dps = 60
    arrays = predictions()
    references = {method: reference(method, *(arrays[name] for name in names)) for method, names in EVALUATIONS.items()}
    np.savez_compressed(HERE / "digits.npz", **arrays)  # type: ignore[arg-type]  # numpy 2 also has allow_pickle: bool
    (HERE / "digits.json").write_text(json.dumps(references, indent=2) + "\n")
    print(json.dumps(references, indent=2))


if __name__ == "__main__":
    main()
