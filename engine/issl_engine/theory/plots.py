"""Plots of experiments: means over seeds with 95 % intervals, and what the theory says drawn in."""

import io
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from issl_engine.report.plots import INK, PALETTE
from issl_engine.theory.experiments.base import Point
from issl_engine.theory.experiments.coarseness import CoarsenessConfig
from issl_engine.theory.labelings import least_mean_error, least_worst_error
from issl_engine.theory.results import summaries
from issl_engine.theory.schema import TheoryRecipe

IDEAL = "ETF"
"""Series that begin so are made by hand: drawn thin and dashed."""
MARKERS = "osD^vPX*"


def draw_plot(recipe: TheoryRecipe, points: list[Point]) -> tuple[str, bytes]:
    """(SVG text, PNG bytes)."""
    name = recipe.experiment.name
    if name == "dimension":
        figure = _dimension(recipe, points)
    elif name == "heads":
        figure = _heads(recipe, points)
    elif name == "coarseness":
        figure = _coarseness(recipe, points)
    else:
        assert name == "ceiling", name
        figure = _ceiling(points)
    figure.suptitle(f"{recipe.name}: {_over_seeds(recipe)}", fontsize=9, color=INK)
    svg, png = io.StringIO(), io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "issl-engine", "font.family": "sans-serif"}):
        figure.savefig(svg, format="svg", metadata={"Date": None})
        figure.savefig(png, format="png", dpi=160)
    return svg.getvalue(), png.getvalue()


def _over_seeds(recipe: TheoryRecipe) -> str:
    count = len(recipe.seeds)
    return f"mean and 95 % interval over {count} seeds" if count > 1 else "one seed, so no interval"


def _dimension(recipe: TheoryRecipe, points: list[Point]) -> Figure:
    classes = recipe.world.num_finest
    floors = {"worst_error": least_worst_error, "mean_error": least_mean_error}
    titles = {"worst_error": "worst invariant task", "mean_error": "mean over invariant tasks"}
    figure, panels = _figure(2)
    for axes, (metric, floor) in zip(panels, floors.items(), strict=True):
        _lines(axes, points, metric)
        dims = list(range(1, int(max(point.x for point in points)) + 1))
        axes.step(
            dims, [100 * floor(classes, dim) for dim in dims], where="post", color=INK, lw=1.0, ls=":",
            label="floor (theory)",
        )  # fmt: skip
        _break(axes, classes)
        axes.set_title(titles[metric], fontsize=9, color=INK)
        axes.set_xlabel("width d of the representation")
        axes.set_ylabel("error of the linear probe, % of test images")
        axes.set_ylim(bottom=-1)
    panels[0].legend(frameon=False, fontsize=7)
    return figure


def _heads(recipe: TheoryRecipe, points: list[Point]) -> Figure:
    figure, panels = _figure(2)
    for axes, probe in zip(panels, ("linear", "mlp"), strict=True):
        _lines(axes, points, f"worst_error_{probe}")
        _break(axes, recipe.world.num_finest)
        axes.set_title(f"{'linear' if probe == 'linear' else 'MLP'} probe", fontsize=9, color=INK)
        axes.set_xlabel("width d of the representation")
        axes.set_ylabel("error on the worst invariant task, % of test images")
        axes.set_ylim(-1, 51)
    panels[1].legend(frameon=False, fontsize=7)
    return figure


def _coarseness(recipe: TheoryRecipe, points: list[Point]) -> Figure:
    experiment = recipe.experiment
    assert isinstance(experiment, CoarsenessConfig)
    figure, panels = _figure(1)
    axes = panels[0]
    levels = {f"keeps {' + '.join(keep)}": index for index, keep in enumerate(experiment.keeps)}
    for series in dict.fromkeys(point.series for point in points):
        level = series.split(", ", 1)[1].split(":")[0]
        _line(axes, points, series, "accuracy", colour=PALETTE[levels[level]], marker=MARKERS[levels[level]])
    axes.axhline(experiment.accuracy, color=INK, lw=0.8, ls=":")
    axes.set_xscale("log", base=2)
    axes.set_xticks(experiment.labelled_images, [str(count) for count in experiment.labelled_images])
    axes.set_xlabel("labelled images of the task")
    axes.set_ylabel("accuracy of the logistic probe, % of test images")
    axes.legend(frameon=False, fontsize=7, loc="lower right")
    return figure


def _ceiling(points: list[Point]) -> Figure:
    figure, panels = _figure(2)
    names = list(dict.fromkeys(point.series for point in points))
    found = {(series, metric): summary for (series, _, metric), summary in summaries(points).items()}
    titles = {"worst_error": "worst invariant task", "mean_error": "mean over invariant tasks"}
    for axes, (metric, title) in zip(panels, titles.items(), strict=True):
        for place, name in enumerate(reversed(names)):
            summary = found[name, metric]
            colour = PALETTE[names.index(name) % len(PALETTE)]
            axes.barh(
                place, summary.mean, height=0.6, color=colour, alpha=0.85, xerr=summary.half_width,
                error_kw={"ecolor": INK, "capsize": 3, "lw": 1.2},
            )  # fmt: skip
            end = summary.mean + (summary.half_width or 0.0)
            axes.annotate(
                str(summary), (max(end, 0), place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7
            )
        axes.set_yticks(range(len(names)), [*reversed(names)] if axes is panels[0] else [""] * len(names))
        axes.set_title(title, fontsize=9, color=INK)
        axes.set_xlabel("error of the linear probe, % of test images")
        axes.margins(x=0.25)
        axes.set_xlim(left=0)
    return figure


def _lines(axes: Axes, points: list[Point], metric: str) -> None:
    for index, series in enumerate(dict.fromkeys(point.series for point in points)):
        colour, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
        _line(axes, points, series, metric, colour=colour, marker=marker)


def _line(axes: Axes, points: list[Point], series: str, metric: str, *, colour: str, marker: str) -> None:
    """Means joined by a line, the 95 % interval as a band."""
    found = {x: value for (name, x, kind), value in summaries(points).items() if (name, kind) == (series, metric)}
    x = list(found)
    mean = [value.mean for value in found.values()]
    half = [value.half_width or 0.0 for value in found.values()]
    ideal = series.startswith(IDEAL)
    axes.plot(
        x, mean, color=colour, marker=None if ideal else marker, ms=4, lw=1.0 if ideal else 1.6,
        ls="--" if ideal else "-", label=series,
    )  # fmt: skip
    axes.fill_between(x, *_band(mean, half), color=colour, alpha=0.15, lw=0)


def _band(mean: Sequence[float], half: Sequence[float]) -> tuple[list[float], list[float]]:
    """Ends of the intervals, within 0 to 100 %."""
    return (
        [max(0.0, m - h) for m, h in zip(mean, half, strict=True)],
        [min(100.0, m + h) for m, h in zip(mean, half, strict=True)],
    )


def _break(axes: Axes, num_classes: int) -> None:
    """Where the theory has linear probes solve every invariant task."""
    axes.axvline(num_classes - 1, color=INK, lw=0.9, ls="--")
    axes.annotate(
        f"d = C − 1 = {num_classes - 1}", (num_classes - 1, 0.98), xycoords=("data", "axes fraction"), xytext=(3, 0),
        textcoords="offset points", ha="left", va="top", fontsize=7, color=INK,
    )  # fmt: skip


def _figure(panels: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(8.4 if panels > 1 else 6.4, 3.6), layout="constrained")
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
