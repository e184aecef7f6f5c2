"""The report's figures, as SVG text. An arm has one colour in all of them."""

import io
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from issl_engine.report.columns import Column
from issl_engine.report.run_folder import ArmRuns, Run
from issl_engine.report.statistics import Summary

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#8C6D31")
"""Okabe and Ito's colours, which colour-blind readers tell apart, darkened where white paper needs it."""
INK = "#333333"
CONTROL_STYLES = ("--", ":")


def colours(run: Run) -> dict[str, str]:
    """Arm → colour."""
    return {arm.name: PALETTE[index % len(PALETTE)] for index, arm in enumerate(run.arms)}


def comparison(run: Run, column: Column) -> str:
    """Bars of the arms' means with 95 % intervals, a dot a seed, controls as lines."""
    figure, axes = _figure(height=0.55 * len(run.arms) + 1.5)
    palette = colours(run)
    arms = [(arm, summary) for arm in run.arms if (summary := arm.score(column)) is not None]
    for position, (arm, summary) in enumerate(reversed(arms)):
        axes.barh(
            position, summary.mean, height=0.6, color=palette[arm.name], alpha=0.85, xerr=_error(summary),
            error_kw={"ecolor": INK, "capsize": 3, "lw": 1.2},
        )  # fmt: skip
        dots = [result.value for result in arm.results(column)]
        if len(dots) > 1:
            axes.plot(dots, [position] * len(dots), "o", ms=4, mfc="white", mec=INK, mew=0.8)
        axes.annotate(
            str(summary), (0, position), xytext=(6, 0), textcoords="offset points", va="center", color="white",
            fontweight="bold",
        )  # fmt: skip
    for control, style in zip(run.controls, CONTROL_STYLES, strict=False):
        level = control.score(column)
        if level is not None:
            axes.axvline(level.mean, color=INK, ls=style, lw=1.2, label=f"{control.name} {level.mean:.1f}")
    axes.set_yticks(range(len(arms)), [arm.name for arm, _ in reversed(arms)])
    axes.set_xlabel(column.title)
    axes.set_xlim(left=0)
    if run.controls:
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.22), ncols=2, fontsize=8)
    return _svg(figure)


def _error(summary: Summary) -> list[list[float]] | None:
    """What bars need: [[below], [above]] the mean."""
    if summary.ends is None:
        return None
    low, high = summary.ends
    return [[max(0, summary.mean - low)], [max(0, high - summary.mean)]]


def curves(run: Run, key: str, title: str) -> str | None:
    """One panel an arm of a logged value over epochs, with its value at collapse; None if no arm has it."""
    arms = [arm for arm in run.arms if any(key in record for seed in arm.seeds for record in seed.metrics)]
    if not arms:
        return None
    columns = min(4, len(arms))
    lines = -(-len(arms) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.1 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes, arm in zip(panels, arms, strict=False):
        _tidy(axes)
        _curve(axes, arm, key, colours(run)[arm.name])
        axes.set_title(arm.name, fontsize=9, color=INK)
    for axes in panels[len(arms) :]:
        axes.set_axis_off()
    figure.supxlabel("epoch", fontsize=9, color=INK)
    figure.supylabel(title, fontsize=9, color=INK)
    return _svg(figure)


def _curve(axes: Axes, arm: ArmRuns, key: str, colour: str) -> None:
    for seed in arm.seeds:
        points = [(record["epoch"], record[key]) for record in seed.metrics if key in record]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, lw=1.2, alpha=0.9 if len(arm.seeds) == 1 else 0.6)
    collapse = arm.seeds[0].last("collapse_loss") if key == "loss" else None
    if collapse is not None:
        axes.axhline(collapse, color=INK, ls="--", lw=0.8)
        axes.annotate(
            "collapse", (1, collapse), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7
        )


def online_curves(run: Run) -> str | None:
    """Online-probe accuracy of all arms in one panel; None if none was logged."""
    figure, axes = _figure(height=3.0)
    drawn = False
    for arm in run.arms:
        for index, seed in enumerate(arm.seeds):
            points = [(r["epoch"], r["online_top1"]) for r in seed.metrics if "online_top1" in r]
            if points:
                drawn = True
                x, y = zip(*points, strict=True)
                label = arm.name if index == 0 else None
                axes.plot(x, _smooth(y), color=colours(run)[arm.name], lw=1.4, label=label, alpha=0.9)
    if not drawn:
        return None
    axes.set_xlabel("epoch")
    axes.set_ylabel("online probe, top-1 % of augmented\ntraining crops (running mean of 5)")
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def throughput(run: Run) -> str:
    """Images a second of pretraining, and the share of time spent waiting for data."""
    figure, axes = _figure(height=0.4 * len(run.arms) + 0.9)
    for position, arm in enumerate(reversed(run.arms)):
        waits = [r["data_fraction"] for seed in arm.seeds for r in seed.metrics]
        median = arm.images_per_second
        if median is None:
            continue
        axes.barh(position, median, height=0.55, color=colours(run)[arm.name], alpha=0.85)
        text = f"{median:.0f} images/s, data {sum(waits) / len(waits):.0%}"
        axes.annotate(text, (median, position), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(run.arms)), [arm.name for arm in reversed(run.arms)])
    axes.set_xlabel("images a second while pretraining (median of logged intervals)")
    axes.margins(x=0.35)
    return _svg(figure)


def _smooth(values: Sequence[float], window: int = 5) -> list[float]:
    return [sum(values[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(values))]


def _figure(*, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, max(height, 1.6)), layout="constrained")
    axes = figure.subplots()
    _tidy(axes)
    return figure, axes


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")
    axes.tick_params(colors=INK, labelsize=8)
    axes.grid(axis="both", color="#e6e6e6", lw=0.6)
    axes.set_axisbelow(True)


def _svg(figure: Figure) -> str:
    """The <svg> element alone; text stays text, and equal data gives equal bytes."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "issl-engine", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
