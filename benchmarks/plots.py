"""What is drawn, by matplotlib: bars of ratios to the reference loop, with the spread over the rounds."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import contenders

COLOURS = {
    "asyncio": "#9aa0a6",
    "uvloop": "#5f6368",
    "rloop": "#c2a878",
    "talyn": "#8fb3a3",
    "blazio": "#7f9fc7",
    contenders.OURS: "#d1495b",
    contenders.EPOLL: "#e8a0a8",
    "aiofastnet uvloop": "#b39ddb",
    "aiofastnet uringloop": "#d7b5d8",
    "C epoll": "#d9d9d9",
    "C io_uring": "#bdbdbd",
}
#: Those that are too dark for black figures.
DARK = ("uvloop", contenders.OURS)
#: A bar or a line that is longer ends at the edge.
RATIO_MAX = 3.2
BAR_INCHES = 0.16
WIDTH_INCHES = 9.0


def svg(results: Sequence[Mapping[str, Any]], title: str) -> str:
    """One group of bars for each case that was compared with the reference; empty where matplotlib is not installed."""
    try:
        from matplotlib import rcParams
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return ""
    rcParams["svg.fonttype"] = "none"  # text stays text
    groups = [(result["case"], compared) for result in results if (compared := _compared(result))]
    if not groups:
        return ""
    bars = sum(len(rows) + 1 for _, rows in groups)
    figure = Figure(figsize=(WIDTH_INCHES, 1.2 + bars * BAR_INCHES), layout="constrained")
    axes = figure.add_subplot()
    at, ticks, named = 0.0, [], set()
    for case, rows in groups:
        ticks.append((at + (len(rows) - 1) / 2, case))
        for name, ratio in rows:
            median = ratio["median"]
            error = [[median - ratio["low"]], [ratio["high"] - median]]
            label = None if name in named else name
            axes.barh(at, median, 0.9, xerr=error, color=COLOURS.get(name), label=label, error_kw={"lw": 0.7})
            axes.text(0.02, at, f"{median:.2f}", va="center", fontsize=6, color="white" if name in DARK else "black")
            named.add(name)
            at += 1
        at += 1
    axes.axvline(1, color="black", lw=0.7)
    axes.set_yticks([position for position, _ in ticks], [case for _, case in ticks], fontsize=8)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlim(0, min(RATIO_MAX, axes.get_xlim()[1]))
    axes.set_xlabel(f"rate, {contenders.REFERENCE} = 1 (median of rounds, line from lowest to highest)", fontsize=8)
    axes.set_title(title, fontsize=10)
    figure.legend(loc="outside lower center", ncols=len(named), fontsize=7, frameon=False)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def _compared(result: Mapping[str, Any]) -> list[tuple[str, Mapping[str, float]]]:
    rows = result["contenders"].items()
    return [(name, row["against_reference"]) for name, row in rows if row.get("against_reference")]
