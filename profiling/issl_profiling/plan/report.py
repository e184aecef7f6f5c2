"""What plan prints: what was counted, a line for each number of GPUs, what pays, what was assumed."""

import io
from dataclasses import asdict, fields
from typing import Any

from rich.console import Console
from rich.table import Table

from issl_profiling.plan.assumptions import Assumptions
from issl_profiling.plan.hardware import Gpu
from issl_profiling.plan.plan import ArmPlan, Line

WIDTH = 150
LEGEND = (
    "batch: images a GPU; GB a GPU (!: more than it has), logits of them in GB; compute, gradients, loss, norms (their "
    "exchange) and step in ms; scaling: over one GPU with the same batch; kWh at the GPUs' rated power."
)
MODEL = "A model, not a measurement: data-sheet figures, counted work, and these assumptions:"


def record(plan: ArmPlan) -> dict[str, Any]:
    """For JSON."""
    lines = [
        asdict(line) | {"step_seconds": line.prediction.step_seconds, "memory_total": line.prediction.memory.total}
        for line in plan.lines
    ]
    return {
        "arm": plan.arm, "counts": asdict(plan.counts), "lines": lines, "left_out": plan.left_out, "note": plan.note
    }  # fmt: skip


def assumptions_text(gpu: Gpu, assumed: Assumptions) -> str:
    """One paragraph."""
    values = ", ".join(f"{field.name} {getattr(assumed, field.name):g}" for field in fields(assumed))
    return f"{LEGEND}\n{MODEL} {values}. {gpu.name}. Weights, gradients, losses and their exchange are fp32."


def render(plan: ArmPlan) -> str:
    """The table of one arm and the sentences below it."""
    counts = plan.counts
    console = Console(file=io.StringIO(), width=WIDTH)
    title = (
        f"{plan.arm}: {counts.trained_parameters / 1e6:.1f} M weights trained, "
        f"{(counts.encoder_flops_per_image + counts.objective_flops_per_image) / 1e9:.3g} GFLOP an image, "
        f"{counts.encoder_saved_bytes_per_image / 2**20:.3g} MiB of activations an image in fp32"
    )
    table = Table(title=title, title_justify="left")
    headings = ("GPUs", "batch", "ZeRO", "loss by", "GB", "logits", "compute", "bound by", "gradients", "loss", "norms",
                "MB sent", "step", "scaling", "images/s", "days", "GPU h", "kWh")  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    with_cost = any(line.cost is not None for line in plan.lines)
    if with_cost:
        table.add_column("cost", justify="right")
    for line in plan.lines:
        table.add_row(*_cells(line), *([f"{line.cost:.0f}"] if line.cost is not None else []))
    console.print(table)
    for sentence in (*_what_pays(plan), *plan.left_out, *([plan.note] if plan.note else [])):
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _cells(line: Line) -> list[str]:
    one = line.prediction
    totals = [line.days, line.gpu_hours, line.kwh]
    return [
        str(one.gpus), str(one.images_per_gpu), str(one.zero_stage), one.exchange or "-",
        f"{one.memory.total / 1e9:.1f}{'' if one.fits else ' !'}", f"{one.memory.logits / 1e9:.2g}",
        f"{1000 * one.compute_seconds:.3g}", one.bound,
        f"{1000 * one.gradient_seconds:.3g}", f"{1000 * one.objective_seconds:.3g}",
        f"{1000 * one.batch_norm_seconds:.3g}", f"{one.bytes_sent / 1e6:.3g}", f"{1000 * one.step_seconds:.3g}",
        f"{one.efficiency:.0%}", f"{one.images_per_second:.0f}",
        *("-" if value is None else f"{value:.3g}" for value in totals),
    ]  # fmt: skip


def _what_pays(plan: ArmPlan) -> list[str]:
    """Which ZeRO stage and which exchange at which size; nothing where there is no choice."""
    found = []
    for heading, key in (("ZeRO stage", "zero_stage"), ("exchange", "exchange")):
        sizes: dict[str, list[str]] = {}
        for line in plan.lines:
            sizes.setdefault(str(getattr(line.prediction, key)), []).append(str(line.prediction.gpus))
        if sizes and "" not in sizes:
            choices = "; ".join(f"{choice} on {', '.join(gpus)} GPUs" for choice, gpus in sizes.items())
            found.append(f"{heading} that pays: {choices}")
    return found
