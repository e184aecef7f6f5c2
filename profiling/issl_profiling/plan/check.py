"""The model against CPU ranks: 1, 2 and 4 of them train the recipe for a few steps, and what the same counts and
formulas predict is put beside what was measured.

Step time: a lone rank of one thread gives the seconds of a step as a + b x images, from two batches; gloo's latency and
bandwidth are those between two ranks. Four ranks are then predicted, with cores shared: W ranks on c cores take W / c
times as long. Bytes sent, activations and the optimiser's memory are counts and must agree exactly or nearly so.
"""

import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.table import Table

from issl_engine.mistakes import Mistake
from issl_engine.recipe.schema import Recipe
from issl_engine.run.dataset import load_dataset
from issl_profiling.plan.counts import Counts, count
from issl_profiling.plan.cpu_rank import Found, Order
from issl_profiling.plan.gloo_links import GlooLinks, contention
from issl_profiling.plan.messages import Sizes, messages
from issl_profiling.plan.prediction import ZERO_STAGES
from issl_profiling.plan.rank_memory import optimizer_bytes

WORLD_SIZES = (1, 2, 4)
SMALLER = 4
"""The lone rank's second batch is this many times smaller: what each of four ranks has."""
TIMEOUT_S = 600
POLL_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One figure; ``ranks`` of them took part."""

    what: str
    ranks: int
    unit: str
    predicted: float
    measured: float

    @property
    def ratio(self) -> float:
        return self.predicted / self.measured if self.measured else float("nan") if self.predicted else 1.0


def check_arm(recipe_name: str, overrides: tuple[str, ...], arm: str, recipe: Recipe, *, steps: int) -> list[Compared]:
    """Raises Mistake where the batch cannot be shared by four ranks, and where a rank fails, with its last line."""
    batch, passes = recipe.training.global_batch_size, recipe.training.accumulation_steps
    parts = max(WORLD_SIZES) * passes
    if batch % parts or batch // SMALLER % passes or batch < 2 * parts:
        raise Mistake(
            f"--check shares training.global_batch_size ({batch}) among {max(WORLD_SIZES)} ranks and {passes} "
            f"accumulation steps; make it a multiple of {parts} and at least {2 * parts}"
        )
    order = Order(
        recipe=recipe_name,
        overrides=list(overrides),
        arm=arm,
        steps=steps,
        batches=[batch],
        zero_stages=list(ZERO_STAGES),
    )
    alone = run_ranks(1, order_with(order, [batch, batch // SMALLER]))
    several = {ranks: run_ranks(ranks, order) for ranks in WORLD_SIZES[1:]}
    classes = load_dataset(recipe).num_classes
    counts = count(recipe)
    compared = [*_step_times(recipe, counts, alone, several, classes), activations(counts, batch // passes, 1, alone)]
    for ranks, found in several.items():
        compared.append(activations(counts, batch // passes, ranks, found))
        compared += memory_and_traffic(recipe, counts, ranks, classes, found)
    return compared


def memory_and_traffic(recipe: Recipe, counts: Counts, ranks: int, classes: int, found: Found) -> list[Compared]:
    """Bytes brought into each kind of collective, and of the optimiser, at each ZeRO stage."""
    compared = []
    for stage, sent, optimizer in zip(ZERO_STAGES, found.sent_bytes, found.optimizer_bytes, strict=True):
        predicted: dict[str, float] = {}
        for message in messages(_sizes(recipe, counts, ranks, stage, classes)):
            predicted[message.kind] = predicted.get(message.kind, 0) + message.total_bytes
        for kind in sorted(predicted | sent):
            compared.append(
                Compared(
                    what=f"{kind}, ZeRO {stage}", ranks=ranks, unit="bytes", predicted=predicted.get(kind, 0),
                    measured=sent.get(kind, 0),
                )
            )  # fmt: skip
        kept = optimizer_bytes(recipe, counts.trained_parameters, ranks=ranks, zero_stage=stage)
        compared.append(
            Compared(what=f"optimiser, ZeRO {stage}", ranks=ranks, unit="bytes", predicted=kept, measured=optimizer)
        )
    return compared


def order_with(order: Order, batches: list[int]) -> Order:
    """The order for other batches."""
    return Order(**(asdict(order) | {"batches": batches}))


def _sizes(recipe: Recipe, counts: Counts, ranks: int, stage: int, classes: int) -> Sizes:
    images = recipe.training.global_batch_size // ranks // recipe.training.accumulation_steps
    return Sizes(
        recipe=recipe, counts=counts, images_per_rank=images, ranks=ranks, num_classes=classes, zero_stage=stage,
        nccl=False,
    )  # fmt: skip


def _step_times(
    recipe: Recipe, counts: Counts, alone: Found, several: dict[int, Found], classes: int
) -> list[Compared]:  # fmt: skip
    batch = recipe.training.global_batch_size
    whole, part = alone.step_seconds
    per_image = max(0.0, (whole - part) / (batch - batch // SMALLER))
    fixed = max(0.0, whole - per_image * batch)
    links = several[2].links
    assert links is not None
    stage = ZERO_STAGES[0]
    return [
        Compared(
            what="step", ranks=ranks, unit="ms", measured=1000 * found.step_seconds[0],
            predicted=1000 * _step_seconds(fixed, per_image, links, _sizes(recipe, counts, ranks, stage, classes)),
        )
        for ranks, found in {1: alone, **several}.items()
    ]  # fmt: skip


def _step_seconds(fixed: float, per_image: float, links: GlooLinks, sizes: Sizes) -> float:
    """Work and messages of one rank, while the others share its cores."""
    images = sizes.images_per_rank * sizes.recipe.training.accumulation_steps
    exchanged = sum(links.seconds(message, sizes.ranks) for message in messages(sizes))
    # Two ranks' messages were measured with two ranks at work, so that only more than two wait for cores.
    return (fixed + per_image * images) * contention(sizes.ranks) + exchanged * max(
        1.0, contention(sizes.ranks) / contention(2)
    )


def activations(counts: Counts, batch: int, ranks: int, found: Found) -> Compared:
    """What a forward pass of one rank keeps, of ``batch`` images over all."""
    per_image = counts.encoder_saved_bytes_per_image + counts.objective_saved_bytes_per_image
    return Compared(
        what="activations", ranks=ranks, unit="bytes", predicted=batch / ranks * per_image, measured=found.saved_bytes
    )


def run_ranks(ranks: int, order: Order) -> Found:
    """Starts so many processes on this machine and waits for them. Raises Mistake when one fails."""
    with tempfile.TemporaryDirectory() as folder:
        order_file, found_file = Path(folder) / "order.json", Path(folder) / "found.json"
        order_file.write_text(json.dumps(asdict(order)), encoding="utf-8")
        port = _free_port()
        processes: list[tuple[subprocess.Popen[bytes], TextIO]] = []
        for rank in range(ranks):
            who = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_PORT": port}
            environment = os.environ | {key: str(value) for key, value in who.items()} | {
                "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1",
            }  # fmt: skip
            command = [sys.executable, "-m", "issl_profiling.plan.cpu_rank", str(order_file), str(found_file)]
            log = (Path(folder) / f"rank{rank}.log").open("w+", encoding="utf-8")
            processes.append((subprocess.Popen(command, env=environment, stdout=log, stderr=log), log))
        try:
            _wait(processes)
        finally:
            for process, said in processes:
                process.kill()
                process.wait()
                said.close()
        return Found.from_json(json.loads(found_file.read_text(encoding="utf-8")))


def _wait(processes: list[tuple[subprocess.Popen[bytes], TextIO]]) -> None:
    """Until all are done. The first to fail is named: the others then fail for want of it."""
    waiting, started = dict(enumerate(processes)), time.monotonic()
    while waiting:
        if time.monotonic() - started > TIMEOUT_S:
            raise Mistake(f"--check: rank {min(waiting)} was not done after {TIMEOUT_S} s; take fewer --steps")
        for rank, (process, log) in list(waiting.items()):
            status = process.poll()
            if status is None:
                continue
            if status != 0:
                log.seek(0)
                lines = [line for line in log.read().splitlines() if line.strip()]
                raise Mistake(f"--check: rank {rank} failed: {lines[-1] if lines else 'it said nothing'}")
            del waiting[rank]
        time.sleep(POLL_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def render_check(arm: str, compared: list[Compared]) -> str:
    """The table."""
    table = Table(title=f"{arm}: predicted and measured on CPU ranks of one thread", title_justify="left")
    table.add_column("")
    for heading in ("ranks", "predicted", "measured", "unit", "predicted / measured"):
        table.add_column(heading, justify="right")
    for one in compared:
        table.add_row(
            one.what, str(one.ranks), f"{one.predicted:,.4g}" if one.unit == "ms" else f"{one.predicted:,.0f}",
            f"{one.measured:,.4g}" if one.unit == "ms" else f"{one.measured:,.0f}", one.unit, f"{one.ratio:.3f}",
        )  # fmt: skip
    console = Console(file=io.StringIO(), width=100)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip()
