"""Error curves: a column for each quantity, a line of panels for each dtype, a colour for each library."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MultipleLocator
from style import BLUE, GREEN, GREY, PURPLE, VERMILLION, save

from exactness.measure import DTYPES, Measured
from exactness.truth import QUANTITIES

# Colour, width, style; drawn in this order. The usual ones often lie on each other, so each leaves the last one seen.
LINES: dict[str, tuple[str, float, Any]] = {
    "PyTorch": (BLUE, 4.0, "-"),
    "SciPy": (GREEN, 2.2, "-"),
    "JAX": (PURPLE, 2.2, (0, (2, 2))),
    "lossd": (VERMILLION, 2.0, "-"),
}
# Half a unit in the last place, and the bottom of a panel: what is exact lies there.
HALF_ULP = {"float32": 2.0**-24, "float64": 2.0**-53}
BOTTOM = {"float32": 1e-9, "float64": 1e-18}
TOP = 10.0


def draw(name: str, measured: Measured, quantities: tuple[str, ...], label: str, log_base: int = 0) -> None:
    """docs/pictures/`name`.svg. label: of the horizontal axis, which is logarithmic where log_base is given."""
    size = 2.55 * len(quantities) + 0.6, 4.4
    figure, panels = plt.subplots(len(DTYPES), len(quantities), figsize=size, sharex=True, sharey="row", squeeze=False)
    for line, dtype in zip(panels, DTYPES, strict=True):
        for panel, quantity in zip(line, quantities, strict=True):
            _panel(panel, measured, quantity, dtype)
            if log_base:
                panel.set_xscale("log", base=log_base)
                panel.xaxis.set_major_locator(LogLocator(log_base, numticks=6))
                panel.minorticks_off()
            else:
                panel.xaxis.set_major_locator(MultipleLocator(20))
        line[0].set_ylabel(f"{dtype}\nrelative error")
    for panel, quantity in zip(panels[0], quantities, strict=True):
        panel.set_title(QUANTITIES[quantity])
    for panel in panels[-1]:
        panel.set_xlabel(label)
    _legend(figure, panels)
    save(figure, name)


def _panel(panel: Axes, measured: Measured, quantity: str, dtype: str) -> None:
    panel.set_yscale("log")
    panel.set_ylim(BOTTOM[dtype], TOP)
    panel.yaxis.set_major_locator(LogLocator(numticks=6))
    panel.minorticks_off()
    panel.axhline(HALF_ULP[dtype], color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    panel.axhline(1, color=GREY, linewidth=0.8, linestyle=":")
    for library, (colour, width, style) in LINES.items():
        errors = measured.errors.get((quantity, library, dtype))
        if errors:
            shown = [min(max(error, BOTTOM[dtype]), TOP) for error in errors]
            panel.plot(measured.at, shown, color=colour, linewidth=width, linestyle=style, label=library)


def _legend(figure: Any, panels: Any) -> None:
    """One for all panels, with what the two grey lines say."""
    found: dict[str, Any] = {}
    for panel in panels.flat:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    found["half a unit in the last place"] = Line2D([], [], color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    found["100 %: no digit is right"] = Line2D([], [], color=GREY, linewidth=0.8, linestyle=":")
    figure.legend(found.values(), found.keys(), loc="lower center", bbox_to_anchor=(0.5, 0.97), ncols=len(found))
    figure.tight_layout()
