"""Time and peak memory over size, a picture per operation."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from issl_engine.report.palette import INK, PALETTE
from issl_profiling.kernels.kernels_csv import Row
from issl_profiling.kernels.operations import size_number

MARKERS = "osD^vPX*"


def draw(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Writes ``folder/<operation>.png``: a line of panels for each device, dtype and pass. Returns the files.

    Of a size measured more than once, the last counts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for op in dict.fromkeys(row.op for row in rows):
        mine = [row for row in rows if row.op == op]
        groups: dict[tuple[str, str, str], list[Row]] = {}
        for row in mine:
            groups.setdefault((row.device, row.dtype, row.pass_), []).append(row)
        figure = Figure(figsize=(10, 0.6 + 3.2 * len(groups)), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(len(groups), 2, squeeze=False)
        for (time_axes, memory_axes), ((device, dtype, name), group) in zip(panels, groups.items(), strict=True):
            _draw_times(time_axes, group)
            _draw_memory(memory_axes, group)
            time_axes.set_title(f"{name}, {dtype}, {device}", fontsize=9, color=INK, loc="left")
        figure.suptitle(op, color=INK)
        path = folder / f"{op}.png"
        figure.savefig(path, dpi=120)
        written.append(path)
    return written


def _draw_times(axes: Axes, rows: Sequence[Row]) -> None:
    for index, (provider, mine) in enumerate(_by_provider(rows).items()):
        _line(axes, index, provider, [(size_number(row.size), row.median_ms) for row in mine])
    floors = sorted({size_number(row.size): row.floor_ms for row in rows if row.floor_ms is not None}.items())
    if floors:
        sizes, milliseconds = zip(*floors, strict=True)
        axes.plot(sizes, milliseconds, color=INK, ls="--", lw=1, marker="_", label="floor")
    _finish(axes, rows, "median, ms")


def _draw_memory(axes: Axes, rows: Sequence[Row]) -> None:
    """A provider that allocated nothing has no place on a logarithmic axis."""
    for index, (provider, mine) in enumerate(_by_provider(rows).items()):
        _line(axes, index, provider, [(size_number(row.size), row.peak_mib) for row in mine if row.peak_mib])
    _finish(axes, rows, "peak beyond the inputs, MiB")


def _by_provider(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Provider → its last row of each case, in the order of size."""
    last: dict[str, dict[str, Row]] = {}
    for row in rows:
        last.setdefault(row.provider, {})[row.case] = row
    return {
        provider: sorted(mine.values(), key=lambda row: (size_number(row.size), row.case))
        for provider, mine in last.items()
    }


def _line(axes: Axes, index: int, label: str, points: Sequence[tuple[int, float]]) -> None:
    if not points:
        return
    sizes, values = zip(*points, strict=True)
    axes.plot(
        sizes, values, color=PALETTE[index % len(PALETTE)], marker=MARKERS[index % len(MARKERS)], ms=4, lw=1.3,
        label=label,
    )  # fmt: skip


def _finish(axes: Axes, rows: Sequence[Row], title: str) -> None:
    letters = "·".join(part.partition("=")[0] for part in rows[0].size.split())
    names: dict[int, str] = {}
    for case, size in dict.fromkeys((row.case, size_number(row.size)) for row in rows):
        names[size] = f"{names[size]}\n{case}" if size in names else case
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(list(names), list(names.values()), fontsize=7)
    axes.set_xticks([], minor=True)
    axes.set_xlabel(f"size ({letters})", fontsize=8)
    axes.set_ylabel(title, fontsize=8)
    axes.yaxis.set_major_formatter(LogFormatter())
    axes.yaxis.set_minor_formatter(LogFormatter())
    axes.tick_params(axis="y", which="both", labelsize=7)
    axes.grid(color="#e6e6e6", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(frameon=False, fontsize=7)
