"""Simulates 1,000 servers and 10,000 clients, and how calls are dealt to them: lossd's policy beside others.

    PYTHONPATH=client:server:benchmarks:tools python benchmarks/simulate_balancing.py

Prints p99 and the utilisation of the busiest server, and draws docs/pictures/balancing-*.svg. Four minutes of a
core, on as many as there are; needs simpy and matplotlib. What servers report is lossd's own code, and what clients
make of it gRPC's algorithm.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor

import matplotlib.pyplot as plt
from style import BLUE, GREEN, GREY, ORANGE, VERMILLION, save

from balancing.calls import LargeCalls
from balancing.flows import SmallCalls
from balancing.scenario import EVENT_S, POLICIES, SCENARIOS, Scenario, Seen

KINDS: dict[str, type[SmallCalls | LargeCalls]] = {"small": SmallCalls, "large": LargeCalls}
TITLES = {
    "small": "Small calls, 13 µs of a server each",
    "large": "Calls of 16 MB, 8 ms of a server each",
}
COLOURS = dict(zip(POLICIES, (BLUE, GREEN, VERMILLION, ORANGE, GREY), strict=True))

Run = tuple[str, Scenario, str]


def outcome(run: Run) -> Seen:
    kind, scenario, policy = run
    return KINDS[kind](scenario, policy).run()


def shown(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def table(found: dict[Run, Seen], kind: str) -> str:
    lines = [
        f"| {TITLES[kind]}: p99, greatest utilisation | {' | '.join(POLICIES)} |",
        "|---|" + "---|" * len(POLICIES),
    ]
    for scenario in SCENARIOS:
        cells = []
        for policy in POLICIES:
            seen = found[kind, scenario, policy]
            cells.append(f"{shown(seen.p99_s)}, {seen.greatest:.2f}")
        lines.append(f"| {scenario.name}, load {scenario.load:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def picture(found: dict[Run, Seen], kind: str) -> None:
    figure, panels = plt.subplots(
        1, len(SCENARIOS), figsize=(3.1 * len(SCENARIOS), 2.9), sharey=True, layout="constrained"
    )
    for axes, scenario in zip(panels, SCENARIOS, strict=True):
        # The last ones first and thicker, so that lines which are alike are all seen.
        for place, policy in reversed(list(enumerate(POLICIES))):
            seen, width = found[kind, scenario, policy], 1.2 + 0.9 * place
            axes.plot(seen.at_s + 0.5, seen.p99_over_time_s * 1e3, color=COLOURS[policy], label=policy, linewidth=width)
        if scenario.slow or scenario.gone:
            axes.axvline(EVENT_S, color=GREY, linestyle=":", linewidth=1)
        axes.set(yscale="log", xlabel="s", title=f"{scenario.name}, load {scenario.load:g}")
    panels[0].set_ylabel("p99, ms, of calls begun in a second")
    panels[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), reverse=True)
    figure.suptitle(TITLES[kind], fontsize=10)
    save(figure, f"balancing-{kind}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=tuple(KINDS), help="one kind of calls")
    kinds = [one for one in KINDS if parser.parse_args().only in (None, one)]
    # The longest first.
    runs = [(kind, scenario, policy) for kind in reversed(kinds) for policy in POLICIES for scenario in SCENARIOS]
    with ProcessPoolExecutor() as pool:
        found = dict(zip(runs, pool.map(outcome, runs), strict=True))
    for kind in kinds:
        print(table(found, kind), end="\n\n", flush=True)
        picture(found, kind)


if __name__ == "__main__":
    main()
