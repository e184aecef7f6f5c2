"""Parts of the plots of experiments: means over seeds with 95 % intervals, and the theory's break."""

import io
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from issl_engine.report.palette import INK, PALETTE
from issl_engine.theory.points import Point, series_of, summaries

BY_HAND = "ETF"
"""Series whose names begin so are made by hand, and are drawn thin and dashed."""
MARKERS = "osD^vPX*"


def render(figure: Figure) -> tuple[str, bytes]:
    """(SVG text, PNG bytes); in the SVG text stays text, and equal data gives equal bytes."""
    svg, png = io.StringIO(), io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "issl-engine", "font.family": "sans-serif"}):
        figure.savefig(svg, format="svg", metadata={"Date": None})
        figure.savefig(png, format="png", dpi=160)
    return svg.getvalue(), png.getvalue()


def draw_lines(axes: Axes, points: list[Point], metric: str) -> None:
    """Draws a line per series of this metric."""
    for index, series in enumerate(series_of(points)):
        colour, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
        draw_line(axes, points, series, metric, colour=colour, marker=marker)


def draw_line(axes: Axes, points: list[Point], series: str, metric: str, *, colour: str, marker: str) -> None:
    """Draws the means, joined by a line, and the 95 % interval as a band."""
    found = {x: value for (name, x, kind), value in summaries(points).items() if (name, kind) == (series, metric)}
    x = list(found)
    mean = [value.mean for value in found.values()]
    half = [value.half_width or 0.0 for value in found.values()]
    ideal = series.startswith(BY_HAND)
    axes.plot(
        x, mean, color=colour, marker=None if ideal else marker, ms=4, lw=1.0 if ideal else 1.6,
        ls="--" if ideal else "-", label=series,
    )  # fmt: skip
    axes.fill_between(x, *_band(mean, half), color=colour, alpha=0.15, lw=0)


def _band(mean: Sequence[float], half: Sequence[float]) -> tuple[list[float], list[float]]:
    """The ends of the intervals, kept within 0 to 100 %."""
    return (
        [max(0.0, m - h) for m, h in zip(mean, half, strict=True)],
        [min(100.0, m + h) for m, h in zip(mean, half, strict=True)],
    )


def draw_break(axes: Axes, num_classes: int) -> None:
    """Marks the width from which on linear probes solve every invariant task, by the theory."""
    axes.axvline(num_classes - 1, color=INK, lw=0.9, ls="--")
    axes.annotate(
        f"d = C − 1 = {num_classes - 1}", (num_classes - 1, 0.98), xycoords=("data", "axes fraction"), xytext=(3, 0),
        textcoords="offset points", ha="left", va="top", fontsize=7, color=INK,
    )  # fmt: skip


def panels_of(panels: int) -> tuple[Figure, list[Axes]]:
    """A figure with this number of panels, side by side."""
    figure = Figure(figsize=(8.4, 3.6) if panels > 1 else (6.4, 4.6), layout="constrained")
    found = list(figure.subplots(1, panels, squeeze=False).flatten())
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("#999999")
        axes.tick_params(colors=INK, labelsize=8)
        axes.grid(axis="both", color="#e6e6e6", lw=0.6)
        axes.set_axisbelow(True)
        axes.xaxis.label.set_size(8)
        axes.yaxis.label.set_size(8)
    return figure, found
