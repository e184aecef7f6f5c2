"""Plain figures as SVG text, for readers whose browser runs no script. Colours are the page's own, by theme."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from issl_engine.report.columns import Column
from issl_engine.report.run_folder import ArmRuns, Run

WIDTH = 720
NAMES = 170
"""Room for names on the left, in pixels as all sizes here."""
ROW = 28
CURVE_HEIGHT = 220
MOST_POINTS = 400
"""Of a curve; of more, every so-manieth is drawn."""
NUM_HUES = 8


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Values from ``low`` to ``high`` lie between two pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return round(self.start + share * (self.end - self.start), 1)


def score_figure(run: Run, column: Column) -> str:
    """A dot for each mean, a bar for its 95 % interval."""
    scores = [(index, row, score) for index, row in enumerate(run.rows) if (score := row.score(column)) is not None]
    values = [value for _, _, score in scores for value in (score.mean, *(score.ends or ()))]
    x = Axis(low=min(values), high=max(values), start=NAMES + 10, end=WIDTH - 150)
    parts = []
    for line, (index, row, score) in enumerate(scores):
        y = ROW * line + ROW // 2
        low, high = score.ends or (score.mean, score.mean)
        parts += [
            text(NAMES, y + 4, row.name, anchor="end"),
            f'<path d="M{x(low)} {y}H{x(high)}" style="stroke:{hue(index, row)};stroke-width:4;opacity:.4"/>',
            f'<circle cx="{x(score.mean)}" cy="{y}" r="5" style="fill:{hue(index, row)}"/>',
            text(max(x(score.mean), x(high)) + 10, y + 4, score.text(column.digits)),
        ]
    return svg(parts, ROW * len(scores), column.title)


def curve_figure(run: Run, key: str, title: str) -> str | None:
    """A logged value over epochs, one line per seed; None if no arm has it."""
    curves = [
        (index, arm, [(line["epoch"], line[key]) for line in seed.metrics if line.get(key) is not None])
        for index, arm in enumerate(run.arms)
        for seed in arm.seeds
    ]
    curves = [(index, arm, points) for index, arm, points in curves if points]
    if not curves:
        return None
    epochs = [epoch for _, _, points in curves for epoch, _ in points]
    values = [value for _, _, points in curves for _, value in points]
    x = Axis(low=min(epochs), high=max(epochs), start=70, end=WIDTH - NAMES)
    y = Axis(low=min(values), high=max(values), start=CURVE_HEIGHT - 30, end=15)
    parts = [
        text(62, y(y.high) + 4, f"{y.high:.4g}", anchor="end"),
        text(62, y(y.low) + 4, f"{y.low:.4g}", anchor="end"),
        text(x(x.low), CURVE_HEIGHT - 8, f"epoch {x.low:.3g}"),
        text(x(x.high), CURVE_HEIGHT - 8, f"{x.high:.3g}", anchor="end"),
    ]
    for index, arm, points in curves:
        every = -(-len(points) // MOST_POINTS)
        line = " ".join(f"{x(epoch)},{y(value)}" for epoch, value in points[::every])
        parts.append(f'<polyline points="{line}" style="fill:none;stroke:{hue(index, arm)};stroke-width:1.5"/>')
    for place, (index, arm) in enumerate({arm.name: (index, arm) for index, arm, _ in curves}.values()):
        top = 18 + 18 * place
        parts.append(f'<circle cx="{WIDTH - NAMES + 14}" cy="{top - 4}" r="5" style="fill:{hue(index, arm)}"/>')
        parts.append(text(WIDTH - NAMES + 26, top, arm.name))
    return svg(parts, max(CURVE_HEIGHT, 18 * len(run.arms) + 18), title)


def hue(index: int, row: ArmRuns) -> str:
    """A row's colour, the same in all figures."""
    return "var(--control)" if row.objective is None else f"var(--hue-{index % NUM_HUES})"


def text(x: float, y: float, words: str, *, anchor: str = "start") -> str:
    """Words at a place."""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'


def svg(parts: Sequence[str], height: float, title: str) -> str:
    """A figure of these parts, as wide as all are."""
    return (
        f'<svg class="plain" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )
