"""The curve of accuracy over training, as SVG text: a line an arm, mean over seeds, bars of 95 % intervals."""

from issl_engine.report.over_training import column_over_training, mean_curve
from issl_engine.report.run_folder import Run
from issl_engine.report.svg_figures import CURVE_HEIGHT, NAMES, WIDTH, Axis, hue, svg, text


def over_training_figure(run: Run) -> tuple[str, str] | None:
    """(Figure, caption); None where no checkpoint of the way was probed."""
    column = column_over_training(run)
    if column is None:
        return None
    curves = [(index, row, mean_curve(row, column)) for index, row in enumerate(run.arms)]
    curves = [(index, row, points) for index, row, points in curves if points]
    ends = [end for _, _, points in curves for _, score in points for end in (score.ends or (score.mean,))]
    epochs = [epoch for _, _, points in curves for epoch, _ in points]
    x = Axis(low=min(epochs), high=max(epochs), start=70, end=WIDTH - NAMES)
    y = Axis(low=min(ends), high=max(ends), start=CURVE_HEIGHT - 30, end=15)
    parts = [
        text(62, y(y.high) + 4, f"{y.high:.4g}", anchor="end"),
        text(62, y(y.low) + 4, f"{y.low:.4g}", anchor="end"),
        text(x(x.low), CURVE_HEIGHT - 8, f"epoch {x.low:.3g}"),
        text(x(x.high), CURVE_HEIGHT - 8, f"{x.high:.3g}", anchor="end"),
    ]
    for place, (index, row, points) in enumerate(curves):
        colour, top = hue(index, row), 18 + 18 * place
        line = " ".join(f"{x(epoch)},{y(score.mean)}" for epoch, score in points)
        parts.append(f'<polyline points="{line}" style="fill:none;stroke:{colour};stroke-width:1.5"/>')
        for epoch, score in points:
            if score.ends is not None:
                low, high = score.ends
                parts.append(
                    f'<path d="M{x(epoch)} {y(low)}V{y(high)}" style="stroke:{colour};stroke-width:3;opacity:.3"/>'
                )
            parts.append(f'<circle cx="{x(epoch)}" cy="{y(score.mean)}" r="3.5" style="fill:{colour}"/>')
        parts.append(f'<circle cx="{WIDTH - NAMES + 14}" cy="{top - 4}" r="5" style="fill:{colour}"/>')
        parts.append(text(WIDTH - NAMES + 26, top, row.name))
    untrained = " Epoch 0 is the untrained encoder." if min(epochs) == 0 else ""
    what = "of the probe fitted anew on each checkpoint, mean over seeds (bars: 95 % intervals)."
    caption = f"{column.title} {what}{untrained}"
    return svg(parts, max(CURVE_HEIGHT, 18 * len(curves) + 18), column.title), caption
