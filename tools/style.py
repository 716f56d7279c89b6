"""How the pictures of docs/ look: small SVGs on white, in Okabe and Ito's colours, that every eye tells apart."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")  # no display is needed

import matplotlib.pyplot as plt

PICTURES = Path(__file__).resolve().parent.parent / "docs/pictures"
VERMILLION, BLUE, GREEN, PURPLE, ORANGE, GREY = "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#666666"
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE)

plt.rcParams.update(
    {
        "font.family": "sans-serif",
        "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.titlesize": 9.5,
        "grid.color": "#e6e6e6",
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "lines.linewidth": 1.5,
        "lines.markersize": 3.2,
        "svg.fonttype": "none",  # text stays text: smaller, and it can be searched
        "svg.hashsalt": "lossd",  # the same picture gives the same file
    }
)


def save(figure: Any, name: str) -> None:
    """docs/pictures/`name`.svg, without a date, with two decimals: a third of what matplotlib writes goes."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    text = StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight", facecolor="white", metadata={"Date": None})
    plt.close(figure)
    rounded = re.sub(r"(\.\d\d)\d+", r"\1", text.getvalue())
    lines = (line.strip() for line in rounded.splitlines())
    (PICTURES / f"{name}.svg").write_text("\n".join(line for line in lines if line) + "\n", encoding="utf-8")
