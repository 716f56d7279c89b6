"""Draws the plots of docs/losses, by `make curves`: each loss and its gradient over one number, computed by lossd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from style import COLOURS, GREY, save

import lossd

F64 = npt.NDArray[np.float64]
# Label → (loss, gradient) over the horizontal axis; no gradient: None.
Curves = dict[str, tuple[F64, F64 | None]]

CLASSES = 10
SIGMOIDS = np.linspace(-6, 6, 121)
INSIDE = np.linspace(0.005, 0.995, 199)


def cross_entropy(client: lossd.Client) -> Curves:
    """One logit over nine zeros, its class true."""
    x = np.zeros((SIGMOIDS.size, CLASSES))
    x[:, 0] = SIGMOIDS * 2
    y = np.zeros(len(x), np.int64)

    def curve(**options: Any) -> tuple[F64, F64]:
        found = client.cross_entropy(x, y, reduction="none", grad=True, **options)
        return found.loss, found.grad[:, 0]

    return {
        "plain": curve(),
        "label_smoothing=0.1": curve(label_smoothing=0.1),
        "softcap=5": curve(softcap=5.0),
        "z_loss=0.01": curve(z_loss=0.01),
    }


def bce(client: lossd.Client) -> Curves:
    return {f"t = {t:g}": _pair(client.bce, INSIDE, t) for t in (0.0, 0.5, 1.0)}


def bce_with_logits(client: lossd.Client) -> Curves:
    found = {f"t = {t:g}": _pair(client.bce_with_logits, SIGMOIDS, t) for t in (0.0, 0.5, 1.0)}
    weighted = _pair(client.bce_with_logits, SIGMOIDS, 1.0, pos_weight=np.array(3.0))
    return {**found, "t = 1, pos_weight = 3": weighted}


def _pair(loss: Callable[..., Any], x: F64, t: float, **options: Any) -> tuple[F64, F64]:
    found = loss(x, np.full_like(x, t), reduction="none", grad=True, **options)
    return found.loss, found.grad


def entropy(client: lossd.Client) -> Curves:
    """Two classes, the first one's probability on the axis; the gradient is that of its logit."""
    logits = np.stack([np.log(INSIDE) - np.log1p(-INSIDE), np.zeros_like(INSIDE)], axis=1)
    found = client.entropy(logits, kind="logits", base=2, reduction="none", grad=True)
    return {"of two classes": (found.loss, found.grad[:, 0])}


def kl_divergence(client: lossd.Client) -> Curves:
    """From two classes to two, q on the axis; the gradient is that of q's first logit."""
    logits = np.stack([np.log(INSIDE) - np.log1p(-INSIDE), np.zeros_like(INSIDE)], axis=1)

    def curve(p: float) -> tuple[F64, F64]:
        target = np.broadcast_to([p, 1 - p], logits.shape)
        found = client.kl_divergence(logits, target, kind="logits", reduction="none", grad=True)
        return found.loss.sum(axis=1), found.grad[:, 0]

    return {f"p = {p:g}": curve(p) for p in (0.1, 0.5, 0.9)}


def nll(client: lossd.Client) -> Curves:
    """Two classes given as log-probabilities, the true one's probability on the axis."""
    u = np.stack([np.log(INSIDE), np.log1p(-INSIDE)], axis=1)
    y = np.zeros(len(u), np.int64)

    def curve(weight: float) -> tuple[F64, F64]:
        found = client.nll(u, y, weight=np.array([weight, 1.0]), reduction="none", grad=True)
        return found.loss, found.grad[:, 0]

    return {f"class weight {weight:g}": curve(weight) for weight in (1.0, 2.0)}


def self_information(client: lossd.Client) -> Curves:
    return {
        name: (found.loss, found.grad)
        for name, base in (("bits: base=2", 2.0), ("nats", None))
        for found in [client.self_information(INSIDE, base=base, grad=True)]
    }


def activations(client: lossd.Client) -> Curves:
    """softmax and log-softmax of one logit over three zeros."""
    x = np.stack([SIGMOIDS, *[np.zeros_like(SIGMOIDS)] * 3], axis=1)
    return {
        "softmax": (np.asarray(client.softmax(x))[:, 0], None),
        "sigmoid": (np.asarray(client.sigmoid(SIGMOIDS)), None),
        "log_softmax": (np.asarray(client.log_softmax(x))[:, 0], None),
        "log_sigmoid": (np.asarray(client.log_sigmoid(SIGMOIDS)), None),
    }


@dataclass(frozen=True)
class Picture:
    """x, label: the horizontal axis. by: the variable of the gradient. bounds: the limits of the gradient's axis."""

    curves: Callable[[lossd.Client], Curves]
    x: F64
    label: str
    by: str
    bounds: tuple[float, float]
    unit: str = "nats"


PICTURES: dict[str, Picture] = {
    "cross_entropy": Picture(cross_entropy, SIGMOIDS * 2, "true logit, over nine zeros", "the true logit", (-1.1, 0.3)),
    "bce": Picture(bce, INSIDE, "p", "p", (-20, 20)),
    "bce_with_logits": Picture(bce_with_logits, SIGMOIDS, "logit x", "x", (-3.2, 1.2)),
    "entropy": Picture(entropy, INSIDE, "p of the first of two classes", "its logit", (-0.4, 0.4), "bits"),
    "kl_divergence": Picture(kl_divergence, INSIDE, "q of the first of two classes", "its logit", (-1, 1)),
    "nll": Picture(nll, INSIDE, "probability of the true class", "its log-probability", (-2.5, 0.2)),
    "self_information": Picture(self_information, INSIDE, "p", "p", (-20, 1), "bits or nats"),
}


def draw(name: str, picture: Picture, curves: Curves) -> None:
    """The loss on the left, its gradient on the right."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.7))
    widths = (2.2, *[1.4] * len(COLOURS))  # the first is wider, so that it is seen where others cover it
    for colour, width, (title, (loss, gradient)) in zip(COLOURS, widths, curves.items(), strict=False):
        left.plot(picture.x, loss, color=colour, linewidth=width, label=title)
        if gradient is not None:
            right.plot(picture.x, gradient, color=colour, linewidth=width)
    left.set_title(f"loss ({picture.unit})")
    left.set_ylim(bottom=0)
    right.set_title(f"gradient by {picture.by}")
    right.set_ylim(*picture.bounds)
    right.axhline(0, color=GREY, linewidth=0.8)
    for panel in (left, right):
        panel.set_xlabel(picture.label)
    if len(curves) > 1:
        left.legend()
    figure.tight_layout()
    save(figure, name)


def draw_activations(curves: Curves) -> None:
    """Two panels: the functions between 0 and 1, and their logarithms."""
    figure, panels = plt.subplots(1, 2, figsize=(7.2, 2.7))
    for index, (title, (value, _)) in enumerate(curves.items()):
        panels[index // 2].plot(SIGMOIDS, value, color=COLOURS[index], label=title)
    for panel in panels:
        panel.set_xlabel("x; for softmax over three zeros")
        panel.legend()
    figure.tight_layout()
    save(figure, "activations")


def main() -> None:
    """Draws the plot of every page."""
    with lossd.Client("embedded") as client:
        for name, picture in PICTURES.items():
            draw(name, picture, picture.curves(client))
        draw_activations(activations(client))


if __name__ == "__main__":
    main()
