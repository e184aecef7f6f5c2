"""What plan prints: what was counted, a column for each number of GPUs, what pays, what was assumed."""

import io
from dataclasses import asdict, fields
from typing import Any

from rich.console import Console
from rich.table import Table

from issl_profiling.plan.arm_plan import ArmPlan, Line
from issl_profiling.plan.assumptions import Assumptions
from issl_profiling.plan.hardware import Gpu

WIDTH = 110
LEGEND = (
    "Scaling compares with one GPU that has as many images; energy is at the GPUs' rated power throughout. The loader "
    "is taken to keep up."
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
        f"{(counts.encoder_flops_per_image + counts.objective_flops_per_image) / 1e9:.3g} GFLOP per image, "
        f"{counts.encoder_saved_bytes_per_image / 2**20:.3g} MiB of activations per image in fp32"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("GPUs")
    for line in plan.lines:
        table.add_column(str(line.prediction.gpus), justify="right", no_wrap=True)
    cells = [_cells(line) for line in plan.lines]
    for quantity in cells[0] if cells else ():
        table.add_row(quantity, *(of_line[quantity] for of_line in cells))
    console.print(table)
    for sentence in (*_what_pays(plan), *plan.left_out, *([plan.note] if plan.note else [])):
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _cells(line: Line) -> dict[str, str]:
    """Quantity with its unit → value."""
    one = line.prediction
    cells = {
        "images per GPU and step": str(one.images_per_gpu),
        "ZeRO stage": str(one.zero_stage),
        "exchange of the loss": one.exchange or "sums",
        "memory, GB per GPU": f"{one.memory.total / 1e9:.1f}{'' if one.fits else ' (more than it has)'}",
        "  largest of heads and loss, GB": f"{one.memory.logits / 1e9:.2g}",
        "forward and backward, ms": f"{1000 * one.compute_seconds:.3g}",
        "  bound by": one.bound,
        "optimiser, ms": f"{1000 * one.optimizer_seconds:.3g}",
        "exchange of gradients, ms": f"{1000 * one.gradient_seconds:.3g}",
        "exchange of the loss, ms": f"{1000 * one.objective_seconds:.3g}",
        "exchange of batch-norm, ms": f"{1000 * one.batch_norm_seconds:.3g}",
        "sent by a GPU, MB per step": f"{one.bytes_sent / 1e6:.4g}",
        "step, ms": f"{1000 * one.step_seconds:.3g}",
        "scaling, over one GPU": f"{one.efficiency:.0%}",
        "images/s": f"{one.images_per_second:,.0f}",
    }
    totals = {"days": line.days, "GPU hours": line.gpu_hours, "energy of the GPUs, kWh": line.kwh, "cost": line.cost}
    return cells | {name: f"{value:,.3g}" for name, value in totals.items() if value is not None}


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
